/* Initialize, SelectionObjectGet, Dispatch, Finalize: arguments, versions, handles and what dies with them. */
#include "check.h"

static void arguments(void)
{
    SaCkptHandleT handle = 0;
    SaVersionT version = version_of('B', 1, 1);
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptInitialize(NULL, NULL, &version));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptInitialize(&handle, NULL, NULL));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptInitialize(NULL, NULL, NULL));

    handle = start(NULL, 1);
    SaSelectionObjectT object = 0, again = 0;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptSelectionObjectGet(handle, NULL));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptSelectionObjectGet(handle + 1, NULL));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSelectionObjectGet(handle + 1, &object));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSelectionObjectGet(0, &object));
    EXPECT(SA_AIS_OK, saCkptSelectionObjectGet(handle, &object));
    EXPECT(SA_AIS_OK, saCkptSelectionObjectGet(handle, &again));
    HOLDS(object == again);
    HOLDS(!readable((int)object, 0));

    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptDispatch(handle, (SaDispatchFlagsT)0));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptDispatch(handle, (SaDispatchFlagsT)4));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptDispatch(handle + 1, SA_DISPATCH_ALL));
    EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ONE));
    EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ALL));

    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptFinalize(handle + 1));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptFinalize(handle));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSelectionObjectGet(handle, &object));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptDispatch(handle, SA_DISPATCH_ALL));
}

/* What is asked for, and what is to come back. */
static void versions(void)
{
    static const struct {
        SaUint8T release, major, minor;
        SaAisErrorT error;
        SaUint8T replyRelease, replyMajor;
    } table[] = {
        {'B', 1, 1, SA_AIS_OK, 'B', 2},
        {'B', 1, 0, SA_AIS_OK, 'B', 2},
        {'B', 1, 255, SA_AIS_OK, 'B', 2},
        {'B', 2, 0, SA_AIS_OK, 'B', 2},
        {'B', 2, 2, SA_AIS_OK, 'B', 2},
        {'B', 2, 255, SA_AIS_OK, 'B', 2},
        {'B', 0, 1, SA_AIS_ERR_VERSION, 'B', 2},
        {'B', 3, 1, SA_AIS_ERR_VERSION, 'B', 2},
        {'A', 1, 1, SA_AIS_ERR_VERSION, 'B', 2},
        {'C', 1, 1, SA_AIS_ERR_VERSION, 'B', 2},
        {0, 0, 0, SA_AIS_ERR_VERSION, 'B', 2},
    };
    for (size_t row = 0; row < sizeof table / sizeof *table; row++) {
        SaCkptHandleT handle = 77;
        SaVersionT version = version_of(table[row].release, table[row].major, table[row].minor);
        SaAisErrorT error = saCkptInitialize(&handle, NULL, &version);
        if (!HOLDS(error == table[row].error) || !HOLDS(version.releaseCode == table[row].replyRelease)
            || !HOLDS(version.majorVersion == table[row].replyMajor))
            printf("in row %zu: %d, %c.%d.%d\n", row, (int)error, version.releaseCode, version.majorVersion,
                version.minorVersion);
        if (error == SA_AIS_OK) {
            HOLDS(version.minorVersion == 2);
            EXPECT(SA_AIS_OK, saCkptFinalize(handle));
        } else {
            HOLDS(handle == 77);
        }
    }

    SaCkptHandleT handle = 0;
    SaCkptCallbacksT_2 callbacks = {NULL, NULL, NULL};
    SaVersionT version = version_of('B', 2, 3);
    EXPECT(SA_AIS_OK, saCkptInitialize_2(&handle, &callbacks, &version));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    version = version_of('B', 1, 1);
    EXPECT(SA_AIS_ERR_VERSION, saCkptInitialize_2(&handle, &callbacks, &version));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptInitialize_2(NULL, &callbacks, &version));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptInitialize_2(&handle, &callbacks, NULL));
}

/* Each handle stands for itself: its own descriptor, its own checkpoints. */
static void severalHandles(void)
{
    enum { COUNT = 50 };
    SaCkptHandleT handles[COUNT];
    SaCkptCheckpointHandleT checkpoints[COUNT];
    int fds[COUNT];
    for (int i = 0; i < COUNT; i++) {
        handles[i] = start(NULL, i % 2 ? 1 : 2);
        fds[i] = fd_of(handles[i]);
        checkpoints[i] = made(handles[i], "safCkpt=several", attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64));
        for (int j = 0; j < i; j++)
            HOLDS(handles[i] != handles[j] && fds[i] != fds[j] && checkpoints[i] != checkpoints[j]);
    }
    EXPECT(SA_AIS_OK, create_section(checkpoints[0], "s", "one", 3));
    for (int i = 0; i < COUNT; i += 2) EXPECT(SA_AIS_OK, saCkptFinalize(handles[i]));
    for (int i = 0; i < COUNT; i++) {
        SaCkptCheckpointDescriptorT status;
        EXPECT(i % 2 ? SA_AIS_OK : SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointStatusGet(checkpoints[i], &status));
        if (i % 2) HOLDS(holds(checkpoints[i], "s", "one", 3));
    }
    for (int i = 1; i < COUNT; i += 2) EXPECT(SA_AIS_OK, saCkptFinalize(handles[i]));
    /* The last close deleted it: the retention duration was 0. */
    SaCkptHandleT handle = start(NULL, 2);
    SaNameT name = name_of("safCkpt=several");
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptCheckpointUnlink(handle, &name));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
}

/* A derived handle ends by its own close or its parent's. */
static void derivedHandles(void)
{
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointHandleT first = made(handle, "safCkpt=derived", attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64));
    SaCkptCheckpointHandleT second = opened(handle, "safCkpt=derived", READ_WRITE);
    MUST(SA_AIS_OK, create_section(first, "s", "1", 1));
    SaCkptSectionIterationHandleT walk = 0, other = 0;
    SaCkptSectionDescriptorT section;
    MUST(SA_AIS_OK, saCkptSectionIterationInitialize(first, SA_CKPT_SECTIONS_ANY, 0, &walk));
    MUST(SA_AIS_OK, saCkptSectionIterationInitialize(second, SA_CKPT_SECTIONS_ANY, 0, &other));

    /* Kinds of handles are not taken for each other. */
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointClose(handle));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointClose(walk));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptFinalize(first));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSectionIterationFinalize(first));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSectionIterationNext(handle, &section));

    EXPECT(SA_AIS_OK, saCkptCheckpointClose(first));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointClose(first));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSectionIterationNext(walk, &section));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSectionIterationFinalize(walk));
    EXPECT(SA_AIS_OK, saCkptSectionIterationNext(other, &section));

    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSectionIterationNext(other, &section));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSectionIterationFinalize(other));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, write_section(second, "s", "2", 1, 0));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointClose(second));
}

/* Every function says that a handle is none, whatever else is wrong or right. */
static void badHandles(void)
{
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=bad", attributes(SA_CKPT_WR_ACTIVE_REPLICA, 4, 64));
    MUST(SA_AIS_OK, create_section(checkpoint, "s", "1", 1));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));

    SaNameT name = name_of("safCkpt=bad");
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ACTIVE_REPLICA, 4, 64);
    SaCkptCheckpointHandleT opening = 0;
    SaCkptCheckpointDescriptorT status;
    SaCkptSectionIdT id = id_of("s");
    SaCkptSectionCreationAttributesT section;
    section.sectionId = &id;
    section.expirationTime = SA_TIME_END;
    SaCkptSectionIterationHandleT walk = 0;
    char buffer[8] = {0};
    SaCkptIOVectorElementT element = piece("s", buffer, 1, 0);
    static const SaUint64T none[] = {0, 1, 0x7FFFFFFF, UINT64_MAX};
    for (size_t i = 0; i < 5; i++) {
        SaCkptHandleT parent = i < 4 ? none[i] : handle;
        SaCkptCheckpointHandleT closed = i < 4 ? none[i] : checkpoint;
        EXPECT(SA_AIS_ERR_BAD_HANDLE,
            saCkptCheckpointOpen(parent, &name, &creation, ALL_FLAGS, PATIENCE, &opening));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointOpenAsync(parent, 1, &name, &creation, ALL_FLAGS));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointUnlink(parent, &name));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptCheckpointCheck(parent, &name));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptTrack(parent));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptTrackStop(parent));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointClose(closed));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointRetentionDurationSet(closed, 0));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptActiveReplicaSet(closed));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointStatusGet(closed, &status));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSectionCreate(closed, &section, buffer, 1));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSectionIdFree(closed, id.id));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSectionDelete(closed, &id));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSectionExpirationTimeSet(closed, &id, SA_TIME_END));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSectionIterationInitialize(closed, SA_CKPT_SECTIONS_ANY, 0, &walk));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointWrite(closed, &element, 1, NULL));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSectionOverwrite(closed, &id, buffer, 1));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointRead(closed, &element, 1, NULL));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptIOVectorElementDataFree(closed, buffer));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointSynchronize(closed, PATIENCE));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointSynchronizeAsync(closed, 1));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointTrack(closed));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointTrackStop(closed));
        SafCkptSectionT *sections = NULL;
        SaUint32T count = 0;
        SafCkptChangeT change;
        memset(&change, 0, sizeof change);
        change.kind = SAF_CKPT_SECTION_DELETED;
        change.sectionId = id;
        EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptSectionsGet(closed, &sections, &count, NULL));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptUpdate(closed, &change, 1, NULL, NULL));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptUpdatesStop(closed));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptReplicaChangesStop(closed));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptSectionCheck(closed, &id));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptSectionOverwriteDifferential(closed, &id, buffer, 1, NULL));
    }
}

/* A handle that was finalised is not given out again soon. */
static void reuse(void)
{
    SaCkptHandleT last = start(NULL, 2);
    EXPECT(SA_AIS_OK, saCkptFinalize(last));
    for (int i = 0; i < 1000; i++) {
        SaCkptHandleT handle = start(NULL, 2);
        HOLDS(handle != last);
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptFinalize(last));
        EXPECT(SA_AIS_OK, saCkptFinalize(handle));
        last = handle;
    }
}

int main(void)
{
    arguments();
    versions();
    severalHandles();
    derivedHandles();
    badHandles();
    reuse();
    return check_end();
}
