/* What the programs share: expectations that say where they were not met, and the usual ways to begin. */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "safCkpt.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int check_failures;

/* ---- Which function returned what ----------------------------------------------------------------------------- */

/* Every code that a function returns is noted. A program without failures tells them at its end, a line each, in the
 * file that CHECK_SEEN names: ErrorTableTests compares that with what the headers say. */
#define CHECK_FUNCTIONS(X)                                                                                             \
    X(saCkptInitialize) X(saCkptSelectionObjectGet) X(saCkptDispatch) X(saCkptFinalize) X(saCkptCheckpointOpen)        \
    X(saCkptCheckpointOpenAsync) X(saCkptCheckpointClose) X(saCkptCheckpointUnlink)                                    \
    X(saCkptCheckpointRetentionDurationSet) X(saCkptActiveReplicaSet) X(saCkptCheckpointStatusGet)                     \
    X(saCkptSectionCreate) X(saCkptSectionIdFree) X(saCkptSectionDelete) X(saCkptSectionExpirationTimeSet)             \
    X(saCkptSectionIterationInitialize) X(saCkptSectionIterationNext) X(saCkptSectionIterationFinalize)                \
    X(saCkptCheckpointWrite) X(saCkptSectionOverwrite) X(saCkptCheckpointRead) X(saCkptIOVectorElementDataFree)        \
    X(saCkptCheckpointSynchronize) X(saCkptCheckpointSynchronizeAsync) X(saCkptInitialize_2) X(saCkptTrack)            \
    X(saCkptTrackStop) X(saCkptCheckpointTrack) X(saCkptCheckpointTrackStop) X(safCkptUpdate) X(safCkptUpdatesStart)   \
    X(safCkptUpdatesStop) X(safCkptReplicaChangesStart) X(safCkptReplicaChangesStop) X(safCkptSectionsGet)             \
    X(safCkptCheckpointCheck) X(safCkptSectionCheck) X(safCkptSectionOverwriteDifferential)

enum {
#define X(function) CHECK_##function,
    CHECK_FUNCTIONS(X)
#undef X
    CHECK_COUNT
};

static const char *const check_names[] = {
#define X(function) #function,
    CHECK_FUNCTIONS(X)
#undef X
};

static uint64_t check_codes[CHECK_COUNT];

static inline SaAisErrorT check_saw(int function, SaAisErrorT code)
{
    __atomic_or_fetch(&check_codes[function], (uint64_t)1 << (code & 63), __ATOMIC_RELAXED);
    return code;
}

static inline void check_tell(void)
{
    const char *path = getenv("CHECK_SEEN");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    for (int function = 0; function < CHECK_COUNT; function++)
        for (int code = 0; code < 64; code++)
            if (check_codes[function] >> code & 1) fprintf(file, "%s %d\n", check_names[function], code);
    fclose(file);
}

#define saCkptInitialize(...) check_saw(CHECK_saCkptInitialize, (saCkptInitialize)(__VA_ARGS__))
#define saCkptSelectionObjectGet(...) check_saw(CHECK_saCkptSelectionObjectGet, (saCkptSelectionObjectGet)(__VA_ARGS__))
#define saCkptDispatch(...) check_saw(CHECK_saCkptDispatch, (saCkptDispatch)(__VA_ARGS__))
#define saCkptFinalize(...) check_saw(CHECK_saCkptFinalize, (saCkptFinalize)(__VA_ARGS__))
#define saCkptCheckpointOpen(...) check_saw(CHECK_saCkptCheckpointOpen, (saCkptCheckpointOpen)(__VA_ARGS__))
#define saCkptCheckpointOpenAsync(...)                                                                                 \
    check_saw(CHECK_saCkptCheckpointOpenAsync, (saCkptCheckpointOpenAsync)(__VA_ARGS__))
#define saCkptCheckpointClose(...) check_saw(CHECK_saCkptCheckpointClose, (saCkptCheckpointClose)(__VA_ARGS__))
#define saCkptCheckpointUnlink(...) check_saw(CHECK_saCkptCheckpointUnlink, (saCkptCheckpointUnlink)(__VA_ARGS__))
#define saCkptCheckpointRetentionDurationSet(...)                                                                      \
    check_saw(CHECK_saCkptCheckpointRetentionDurationSet, (saCkptCheckpointRetentionDurationSet)(__VA_ARGS__))
#define saCkptActiveReplicaSet(...) check_saw(CHECK_saCkptActiveReplicaSet, (saCkptActiveReplicaSet)(__VA_ARGS__))
#define saCkptCheckpointStatusGet(...)                                                                                 \
    check_saw(CHECK_saCkptCheckpointStatusGet, (saCkptCheckpointStatusGet)(__VA_ARGS__))
#define saCkptSectionCreate(...) check_saw(CHECK_saCkptSectionCreate, (saCkptSectionCreate)(__VA_ARGS__))
#define saCkptSectionIdFree(...) check_saw(CHECK_saCkptSectionIdFree, (saCkptSectionIdFree)(__VA_ARGS__))
#define saCkptSectionDelete(...) check_saw(CHECK_saCkptSectionDelete, (saCkptSectionDelete)(__VA_ARGS__))
#define saCkptSectionExpirationTimeSet(...)                                                                            \
    check_saw(CHECK_saCkptSectionExpirationTimeSet, (saCkptSectionExpirationTimeSet)(__VA_ARGS__))
#define saCkptSectionIterationInitialize(...)                                                                          \
    check_saw(CHECK_saCkptSectionIterationInitialize, (saCkptSectionIterationInitialize)(__VA_ARGS__))
#define saCkptSectionIterationNext(...)                                                                                \
    check_saw(CHECK_saCkptSectionIterationNext, (saCkptSectionIterationNext)(__VA_ARGS__))
#define saCkptSectionIterationFinalize(...)                                                                            \
    check_saw(CHECK_saCkptSectionIterationFinalize, (saCkptSectionIterationFinalize)(__VA_ARGS__))
#define saCkptCheckpointWrite(...) check_saw(CHECK_saCkptCheckpointWrite, (saCkptCheckpointWrite)(__VA_ARGS__))
#define saCkptSectionOverwrite(...) check_saw(CHECK_saCkptSectionOverwrite, (saCkptSectionOverwrite)(__VA_ARGS__))
#define saCkptCheckpointRead(...) check_saw(CHECK_saCkptCheckpointRead, (saCkptCheckpointRead)(__VA_ARGS__))
#define saCkptIOVectorElementDataFree(...)                                                                             \
    check_saw(CHECK_saCkptIOVectorElementDataFree, (saCkptIOVectorElementDataFree)(__VA_ARGS__))
#define saCkptCheckpointSynchronize(...)                                                                               \
    check_saw(CHECK_saCkptCheckpointSynchronize, (saCkptCheckpointSynchronize)(__VA_ARGS__))
#define saCkptCheckpointSynchronizeAsync(...)                                                                          \
    check_saw(CHECK_saCkptCheckpointSynchronizeAsync, (saCkptCheckpointSynchronizeAsync)(__VA_ARGS__))
#define saCkptInitialize_2(...) check_saw(CHECK_saCkptInitialize_2, (saCkptInitialize_2)(__VA_ARGS__))
#define saCkptTrack(...) check_saw(CHECK_saCkptTrack, (saCkptTrack)(__VA_ARGS__))
#define saCkptTrackStop(...) check_saw(CHECK_saCkptTrackStop, (saCkptTrackStop)(__VA_ARGS__))
#define saCkptCheckpointTrack(...) check_saw(CHECK_saCkptCheckpointTrack, (saCkptCheckpointTrack)(__VA_ARGS__))
#define saCkptCheckpointTrackStop(...)                                                                                 \
    check_saw(CHECK_saCkptCheckpointTrackStop, (saCkptCheckpointTrackStop)(__VA_ARGS__))
#define safCkptUpdate(...) check_saw(CHECK_safCkptUpdate, (safCkptUpdate)(__VA_ARGS__))
#define safCkptUpdatesStart(...) check_saw(CHECK_safCkptUpdatesStart, (safCkptUpdatesStart)(__VA_ARGS__))
#define safCkptUpdatesStop(...) check_saw(CHECK_safCkptUpdatesStop, (safCkptUpdatesStop)(__VA_ARGS__))
#define safCkptReplicaChangesStart(...)                                                                                \
    check_saw(CHECK_safCkptReplicaChangesStart, (safCkptReplicaChangesStart)(__VA_ARGS__))
#define safCkptReplicaChangesStop(...)                                                                                 \
    check_saw(CHECK_safCkptReplicaChangesStop, (safCkptReplicaChangesStop)(__VA_ARGS__))
#define safCkptSectionsGet(...) check_saw(CHECK_safCkptSectionsGet, (safCkptSectionsGet)(__VA_ARGS__))
#define safCkptCheckpointCheck(...) check_saw(CHECK_safCkptCheckpointCheck, (safCkptCheckpointCheck)(__VA_ARGS__))
#define safCkptSectionCheck(...) check_saw(CHECK_safCkptSectionCheck, (safCkptSectionCheck)(__VA_ARGS__))
#define safCkptSectionOverwriteDifferential(...)                                                                       \
    check_saw(CHECK_safCkptSectionOverwriteDifferential, (safCkptSectionOverwriteDifferential)(__VA_ARGS__))
/* What comes in a callback counts as returned by the function that asked. */
#define CAME_BACK(function, code) check_saw(CHECK_##function, (code))

/* ---- Expectations --------------------------------------------------------------------------------------------- */

/* A call and the code it has to return. Goes on after a failure, so that one run tells all of them. */
#define EXPECT(code, call) check_code(__LINE__, #call, (call), code, #code)
/* As above, where the rest makes no sense without. */
#define MUST(code, call)                                                                                               \
    do {                                                                                                               \
        if (!EXPECT(code, call)) exit(1);                                                                              \
    } while (0)
#define HOLDS(condition) check_holds(__LINE__, #condition, (condition))

static inline int check_code(int line, const char *call, SaAisErrorT got, SaAisErrorT wanted, const char *name)
{
    if (got == wanted) return 1;
    __atomic_add_fetch(&check_failures, 1, __ATOMIC_RELAXED);
    printf("line %d: %s: returned %d instead of %s\n", line, call, (int)got, name);
    fflush(stdout);
    return 0;
}

static inline int check_holds(int line, const char *condition, int holds)
{
    if (holds) return 1;
    __atomic_add_fetch(&check_failures, 1, __ATOMIC_RELAXED);
    printf("line %d: does not hold: %s\n", line, condition);
    fflush(stdout);
    return 0;
}

/* The last line of main. */
static inline int check_end(void)
{
    if (check_failures) printf("%d expectations were not met\n", check_failures);
    else check_tell();
    return check_failures ? 1 : 0;
}

static inline SaTimeT now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (SaTimeT)time.tv_sec * SA_TIME_ONE_SECOND + time.tv_nsec;
}

static inline SaTimeT wall_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (SaTimeT)time.tv_sec * SA_TIME_ONE_SECOND + time.tv_nsec;
}

static inline SaNameT name_of(const char *text)
{
    SaNameT name;
    saAisNameLend(text, &name);
    return name;
}

static inline SaVersionT version_of(SaUint8T release, SaUint8T major, SaUint8T minor)
{
    SaVersionT version;
    version.releaseCode = release;
    version.majorVersion = major;
    version.minorVersion = minor;
    return version;
}

static inline SaCkptHandleT start(const SaCkptCallbacksT *callbacks, SaUint8T major)
{
    SaCkptHandleT handle = 0;
    SaVersionT version = version_of('B', major, 1);
    MUST(SA_AIS_OK, saCkptInitialize(&handle, callbacks, &version));
    return handle;
}

static inline SaCkptCheckpointCreationAttributesT attributes(SaUint32T flags, SaUint32T sections, SaSizeT size)
{
    SaCkptCheckpointCreationAttributesT attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.creationFlags = flags;
    attributes.checkpointSize = sections * size;
    attributes.maxSections = sections;
    attributes.maxSectionSize = size;
    attributes.maxSectionIdSize = 16;
    return attributes;
}

#define READ_WRITE (SA_CKPT_CHECKPOINT_READ | SA_CKPT_CHECKPOINT_WRITE)
#define ALL_FLAGS (READ_WRITE | SA_CKPT_CHECKPOINT_CREATE)
#define PATIENCE (30 * SA_TIME_ONE_SECOND)

static inline SaCkptCheckpointHandleT made(
    SaCkptHandleT handle, const char *text, SaCkptCheckpointCreationAttributesT with)
{
    SaNameT name = name_of(text);
    SaCkptCheckpointHandleT checkpoint = 0;
    MUST(SA_AIS_OK, saCkptCheckpointOpen(handle, &name, &with, ALL_FLAGS, PATIENCE, &checkpoint));
    return checkpoint;
}

static inline SaCkptCheckpointHandleT opened(SaCkptHandleT handle, const char *text, SaUint32T flags)
{
    SaNameT name = name_of(text);
    SaCkptCheckpointHandleT checkpoint = 0;
    MUST(SA_AIS_OK, saCkptCheckpointOpen(handle, &name, NULL, flags, PATIENCE, &checkpoint));
    return checkpoint;
}

static inline SaCkptSectionIdT id_of(const char *text)
{
    SaCkptSectionIdT id;
    id.idLen = (SaUint16T)strlen(text);
    id.id = (SaUint8T *)(uintptr_t)text;
    return id;
}

static inline SaAisErrorT create_section(
    SaCkptCheckpointHandleT checkpoint, const char *text, const void *data, SaSizeT size)
{
    SaCkptSectionIdT id = id_of(text);
    SaCkptSectionCreationAttributesT creation;
    creation.sectionId = &id;
    creation.expirationTime = SA_TIME_END;
    return saCkptSectionCreate(checkpoint, &creation, data, size);
}

static inline SaCkptIOVectorElementT piece(const char *text, void *data, SaSizeT size, SaOffsetT offset)
{
    SaCkptIOVectorElementT element;
    memset(&element, 0, sizeof element);
    element.sectionId = id_of(text);
    element.dataBuffer = data;
    element.dataSize = size;
    element.dataOffset = offset;
    return element;
}

static inline SaAisErrorT write_section(
    SaCkptCheckpointHandleT checkpoint, const char *text, const void *data, SaSizeT size, SaOffsetT offset)
{
    SaCkptIOVectorElementT element = piece(text, (void *)(uintptr_t)data, size, offset);
    return saCkptCheckpointWrite(checkpoint, &element, 1, NULL);
}

static inline SaAisErrorT overwrite(
    SaCkptCheckpointHandleT checkpoint, const char *text, const void *data, SaSizeT size)
{
    SaCkptSectionIdT id = id_of(text);
    return saCkptSectionOverwrite(checkpoint, &id, data, size);
}

/* Whether a section holds exactly these bytes. */
static inline int holds(SaCkptCheckpointHandleT checkpoint, const char *text, const void *data, SaSizeT size)
{
    SaCkptIOVectorElementT element = piece(text, NULL, 0, 0);
    SaAisErrorT error = saCkptCheckpointRead(checkpoint, &element, 1, NULL);
    if (error != SA_AIS_OK) {
        printf("reading %s: %d\n", text, (int)error);
        return 0;
    }
    int equal = element.readSize == size && (size == 0 || memcmp(element.dataBuffer, data, size) == 0);
    if (!equal) printf("%s holds %llu bytes\n", text, (unsigned long long)element.readSize);
    free(element.dataBuffer);
    return equal;
}

static inline int fd_of(SaCkptHandleT handle)
{
    SaSelectionObjectT object = 0;
    MUST(SA_AIS_OK, saCkptSelectionObjectGet(handle, &object));
    return (int)object;
}

/* Waits until the descriptor is readable; 0 when the time is over. */
static inline int readable(int fd, int milliseconds)
{
    struct pollfd wait = {fd, POLLIN, 0};
    int ready;
    do ready = poll(&wait, 1, milliseconds);
    while (ready < 0 && errno == EINTR);
    return ready == 1 && (wait.revents & POLLIN) != 0;
}

/* Dispatches until `done` is set, for as long as is patient. */
#define DISPATCH_UNTIL(handle, done)                                                                                   \
    do {                                                                                                               \
        SaTimeT until_ = now_ns() + PATIENCE;                                                                          \
        while (!(done) && now_ns() < until_) {                                                                         \
            if (readable(fd_of(handle), 1000)) MUST(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ALL));               \
        }                                                                                                              \
        HOLDS(done);                                                                                                   \
    } while (0)

#endif
