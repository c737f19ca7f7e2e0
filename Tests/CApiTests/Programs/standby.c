/* Following a checkpoint, and knowing where its replicas are. */
#include "check.h"

/* What a standby keeps: the sections as the events tell them. */
enum { MOST = 600 };
struct copy {
    struct {
        char id[17];
        unsigned char data[4096];
        SaSizeT size;
        int used;
    } sections[MOST];
    SaUint64T change;
    int snapshots, updates, ends, deleted, expired;
    SaCkptCheckpointHandleT of;
};

static int find(struct copy *copy, const SaCkptSectionIdT *id, int make)
{
    int place = -1;
    for (int i = 0; i < MOST; i++) {
        if (copy->sections[i].used && strlen(copy->sections[i].id) == id->idLen
            && memcmp(copy->sections[i].id, id->id, id->idLen) == 0)
            return i;
        if (!copy->sections[i].used && place < 0) place = i;
    }
    if (!make || !HOLDS(place >= 0)) return -1;
    memset(&copy->sections[place], 0, sizeof copy->sections[place]);
    memcpy(copy->sections[place].id, id->id, id->idLen);
    copy->sections[place].used = 1;
    return place;
}

static void on_event(SaCkptCheckpointHandleT checkpoint, const SafCkptEventT *event, void *cookie)
{
    struct copy *copy = cookie;
    HOLDS(checkpoint == copy->of);
    if (event->kind == SAF_CKPT_UPDATES_END) {
        copy->ends++;
        return;
    }
    if (event->kind == SAF_CKPT_SNAPSHOT) {
        memset(copy->sections, 0, sizeof copy->sections);
        copy->snapshots++;
    } else {
        HOLDS(event->kind == SAF_CKPT_UPDATE && copy->snapshots > 0);
        HOLDS(event->changeNumber == copy->change + 1);
        HOLDS(event->numberOfChanges > 0 && event->time > 0);
        copy->updates++;
    }
    copy->change = event->changeNumber;
    for (SaUint32T i = 0; i < event->numberOfChanges; i++) {
        const SafCkptChangeT *change = &event->changes[i];
        int create = change->kind == SAF_CKPT_SECTION_CREATED;
        if (event->kind == SAF_CKPT_SNAPSHOT) HOLDS(create);
        int place = find(copy, &change->sectionId, create);
        if (!HOLDS(place >= 0)) continue;
        switch (change->kind) {
        case SAF_CKPT_SECTION_WRITTEN:
            if (!HOLDS(change->dataOffset + change->dataSize <= 4096)) break;
            if (change->dataSize)
                memcpy(copy->sections[place].data + change->dataOffset, change->data, change->dataSize);
            if (change->dataSize && copy->sections[place].size < change->dataOffset + change->dataSize)
                copy->sections[place].size = change->dataOffset + change->dataSize;
            break;
        case SAF_CKPT_SECTION_CREATED:
        case SAF_CKPT_SECTION_OVERWRITTEN:
            if (!HOLDS(change->dataSize <= 4096)) break;
            memset(copy->sections[place].data, 0, 4096);
            if (change->dataSize) memcpy(copy->sections[place].data, change->data, change->dataSize);
            copy->sections[place].size = change->dataSize;
            break;
        case SAF_CKPT_SECTION_DELETED:
            copy->deleted++;
            copy->sections[place].used = 0;
            break;
        case SAF_CKPT_SECTION_EXPIRED:
            copy->expired++;
            copy->sections[place].used = 0;
            break;
        case SAF_CKPT_SECTION_EXPIRATION_SET:
            break;
        default:
            HOLDS(0);
        }
    }
}

/* Whether the copy is what the checkpoint holds. */
static int equal(struct copy *copy, SaCkptCheckpointHandleT checkpoint)
{
    SafCkptSectionT *sections = NULL;
    SaUint32T count = 0, used = 0;
    SaUint64T change = 0;
    MUST(SA_AIS_OK, safCkptSectionsGet(checkpoint, &sections, &count, &change));
    int same = change == copy->change;
    for (SaUint32T i = 0; i < count && same; i++) {
        int place = find(copy, &sections[i].descriptor.sectionId, 0);
        same = place >= 0 && copy->sections[place].size == sections[i].descriptor.sectionSize
            && (sections[i].descriptor.sectionSize == 0
                || memcmp(copy->sections[place].data, sections[i].data, copy->sections[place].size) == 0);
    }
    for (int i = 0; i < MOST; i++) used += copy->sections[i].used != 0;
    safCkptSectionsFree(sections);
    return same && used == count;
}

static struct copy first, second;

static void following(void)
{
    SaCkptHandleT handle = start(NULL, 2), other = start(NULL, 1);
    SaCkptCheckpointHandleT writer = made(handle, "safCkpt=standby", attributes(SA_CKPT_WR_ACTIVE_REPLICA, 500, 4096));
    SaCkptCheckpointHandleT blind = opened(handle, "safCkpt=standby", SA_CKPT_CHECKPOINT_WRITE);
    MUST(SA_AIS_OK, create_section(writer, "a", "begin", 5));

    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptUpdatesStart(writer, NULL, &first));
    EXPECT(SA_AIS_ERR_ACCESS, safCkptUpdatesStart(blind, on_event, &first));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptUpdatesStart(handle, on_event, &first));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptUpdatesStop(writer));
    first.of = writer;
    second.of = opened(other, "safCkpt=standby", SA_CKPT_CHECKPOINT_READ);
    EXPECT(SA_AIS_OK, safCkptUpdatesStart(writer, on_event, &first));
    EXPECT(SA_AIS_ERR_EXIST, safCkptUpdatesStart(writer, on_event, &first));
    DISPATCH_UNTIL(handle, first.snapshots == 1);
    HOLDS(equal(&first, writer));

    /* Everything that happens, by whomever, is one update each. */
    EXPECT(SA_AIS_OK, write_section(blind, "a", "x", 1, 9));
    EXPECT(SA_AIS_OK, create_section(writer, "b", NULL, 0));
    EXPECT(SA_AIS_OK, overwrite(blind, "b", "over", 4));
    SaCkptSectionIdT b = id_of("b"), a = id_of("a");
    EXPECT(SA_AIS_OK, saCkptSectionExpirationTimeSet(writer, &b, wall_ns() + SA_TIME_ONE_HOUR));
    EXPECT(SA_AIS_OK, saCkptSectionDelete(writer, &a));
    DISPATCH_UNTIL(handle, first.updates == 5);
    HOLDS(first.snapshots == 1 && first.deleted == 1);
    HOLDS(equal(&first, writer));

    /* Who comes later begins with what is there then. */
    EXPECT(SA_AIS_OK, safCkptUpdatesStart(second.of, on_event, &second));
    DISPATCH_UNTIL(other, second.snapshots == 1);
    HOLDS(equal(&second, writer) && second.updates == 0);

    EXPECT(SA_AIS_OK, saCkptSectionExpirationTimeSet(writer, &b, wall_ns() + 50 * SA_TIME_ONE_MILLISECOND));
    DISPATCH_UNTIL(handle, first.expired == 1);
    DISPATCH_UNTIL(other, second.expired == 1);
    HOLDS(equal(&first, writer) && equal(&second, writer));

    /* A slow one catches up, with every update or with a snapshot, and has the same in the end. */
    unsigned state = 1;
    for (int i = 0; i < 6000; i++) {
        char id[16];
        unsigned char data[200];
        state = state * 1103515245u + 12345u;
        snprintf(id, sizeof id, "s%u", (state >> 16) % 400);
        memset(data, i, sizeof data);
        SaAisErrorT error = overwrite(blind, id, data, (state >> 8) % sizeof data);
        if (error == SA_AIS_ERR_NOT_EXIST) error = create_section(blind, id, data, (state >> 8) % sizeof data);
        EXPECT(SA_AIS_OK, error);
        if (i % 2) EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ONE));
    }
    SafCkptSectionT *sections = NULL;
    SaUint32T count = 0;
    SaUint64T last = 0;
    EXPECT(SA_AIS_OK, safCkptSectionsGet(writer, &sections, &count, &last));
    free(sections);
    DISPATCH_UNTIL(handle, first.change == last);
    DISPATCH_UNTIL(other, second.change == last);
    HOLDS(equal(&first, writer) && equal(&second, writer));

    /* Stopped: nothing more, and it can begin again. */
    EXPECT(SA_AIS_OK, safCkptUpdatesStop(writer));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptUpdatesStop(writer));
    int updates = first.updates, snapshots = first.snapshots;
    EXPECT(SA_AIS_OK, create_section(writer, "later", "1", 1));
    DISPATCH_UNTIL(other, second.change == last + 1);
    EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ALL));
    HOLDS(first.updates == updates && first.snapshots == snapshots);
    EXPECT(SA_AIS_OK, safCkptUpdatesStart(writer, on_event, &first));
    DISPATCH_UNTIL(handle, first.snapshots == snapshots + 1);
    HOLDS(equal(&first, writer));

    /* The close of one ends its own updates only. */
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(writer));
    EXPECT(SA_AIS_OK, create_section(blind, "last", "1", 1));
    DISPATCH_UNTIL(other, second.change == last + 2);
    EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ALL));
    HOLDS(first.snapshots == snapshots + 1);
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    EXPECT(SA_AIS_OK, saCkptFinalize(other));
}

static int tracked, tracked_of_other;
static SaCkptCheckpointHandleT tracker;

static void on_track(SaCkptCheckpointHandleT checkpoint, SaCkptIOVectorElementT *vector, SaUint32T count)
{
    if (checkpoint != tracker) {
        tracked_of_other++;
        return;
    }
    for (SaUint32T i = 0; i < count; i++) {
        HOLDS(vector[i].sectionId.idLen == 1 && vector[i].sectionId.id[0] == 's');
        HOLDS(vector[i].dataBuffer == NULL);
        SaAisErrorT error = saCkptCheckpointRead(checkpoint, &vector[i], 1, NULL);
        HOLDS(error == SA_AIS_OK || error == SA_AIS_ERR_NOT_EXIST);
        free(vector[i].dataBuffer);
        tracked++;
    }
}

/* As OpenSAF has it. */
static void tracking(void)
{
    SaCkptCallbacksT_2 callbacks = {NULL, NULL, on_track};
    SaCkptHandleT handle = 0, plain = start(NULL, 2);
    SaVersionT version = version_of('B', 2, 3);
    MUST(SA_AIS_OK, saCkptInitialize_2(&handle, &callbacks, &version));
    tracker = made(handle, "safCkpt=track", attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64));
    SaCkptCheckpointHandleT writer = opened(plain, "safCkpt=track", READ_WRITE);
    SaCkptCheckpointHandleT blind = opened(handle, "safCkpt=track", SA_CKPT_CHECKPOINT_WRITE);
    EXPECT(SA_AIS_ERR_INIT, saCkptTrack(plain));
    EXPECT(SA_AIS_ERR_INIT, saCkptCheckpointTrack(writer));
    EXPECT(SA_AIS_ERR_ACCESS, saCkptCheckpointTrack(blind));
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptTrackStop(handle));
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptCheckpointTrackStop(tracker));

    EXPECT(SA_AIS_OK, saCkptCheckpointTrack(tracker));
    /* It hears of changes from here on, once it is known to the service. */
    SaCkptSectionIdT id = id_of("s");
    SaTimeT until = now_ns() + PATIENCE;
    EXPECT(SA_AIS_OK, create_section(writer, "s", "0", 1));
    while (tracked == 0 && now_ns() < until) {
        EXPECT(SA_AIS_OK, overwrite(writer, "s", "1", 1));
        if (readable(fd_of(handle), 20)) EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ALL));
    }
    HOLDS(tracked > 0);
    while (readable(fd_of(handle), 200)) EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ALL));
    tracked = 0;
    EXPECT(SA_AIS_OK, write_section(writer, "s", "22", 2, 0));
    EXPECT(SA_AIS_OK, saCkptSectionDelete(writer, &id));
    EXPECT(SA_AIS_OK, create_section(writer, "s", "3", 1));
    DISPATCH_UNTIL(handle, tracked == 3);
    EXPECT(SA_AIS_OK, saCkptCheckpointTrackStop(tracker));

    /* All of a handle, also those that are opened later. */
    EXPECT(SA_AIS_OK, saCkptTrack(handle));
    SaCkptCheckpointHandleT later = opened(handle, "safCkpt=track", SA_CKPT_CHECKPOINT_READ);
    tracked = tracked_of_other = 0;
    until = now_ns() + PATIENCE;
    while ((tracked == 0 || tracked_of_other == 0) && now_ns() < until) {
        EXPECT(SA_AIS_OK, overwrite(writer, "s", "4", 1));
        if (readable(fd_of(handle), 20)) EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ALL));
    }
    HOLDS(tracked > 0 && tracked_of_other > 0);
    EXPECT(SA_AIS_OK, saCkptTrackStop(handle));
    EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ALL));
    tracked = tracked_of_other = 0;
    EXPECT(SA_AIS_OK, overwrite(writer, "s", "5", 1));
    EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ALL));
    HOLDS(tracked == 0 && tracked_of_other == 0);
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(later));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    EXPECT(SA_AIS_OK, saCkptFinalize(plain));
}

static int told;
static SaUint32T replicas_told;
static int active_told;

static void on_replicas(
    SaCkptCheckpointHandleT checkpoint, SaUint64T epoch, const SafCkptReplicaT *replicas, SaUint32T count, void *cookie)
{
    HOLDS(checkpoint == *(SaCkptCheckpointHandleT *)cookie);
    (void)epoch;
    replicas_told = count;
    active_told = 0;
    for (SaUint32T i = 0; i < count; i++) {
        HOLDS(replicas[i].state == SAF_CKPT_REPLICA_CURRENT);
        active_told += replicas[i].isActive == SA_TRUE;
    }
    told++;
}

static void replicas(void)
{
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointHandleT checkpoint =
        made(handle, "safCkpt=replicas", attributes(SA_CKPT_WR_ACTIVE_REPLICA | SA_CKPT_CHECKPOINT_COLLOCATED, 4, 64));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptReplicaChangesStart(checkpoint, NULL, NULL));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptReplicaChangesStart(handle, on_replicas, NULL));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptReplicaChangesStop(checkpoint));
    EXPECT(SA_AIS_OK, safCkptReplicaChangesStart(checkpoint, on_replicas, &checkpoint));
    EXPECT(SA_AIS_ERR_EXIST, safCkptReplicaChangesStart(checkpoint, on_replicas, &checkpoint));
    DISPATCH_UNTIL(handle, told >= 1);
    HOLDS(replicas_told == 1 && active_told == 0);
    EXPECT(SA_AIS_OK, saCkptActiveReplicaSet(checkpoint));
    DISPATCH_UNTIL(handle, active_told == 1);
    EXPECT(SA_AIS_OK, safCkptReplicaChangesStop(checkpoint));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptReplicaChangesStop(checkpoint));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
}

int main(int count, char **arguments)
{
    (void)arguments;
    if (count > 1) return 2;
    following();
    tracking();
    replicas();
    return check_end();
}
