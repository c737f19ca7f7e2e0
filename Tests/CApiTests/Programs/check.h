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
