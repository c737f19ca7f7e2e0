/* Checkpoints as a whole: open, close, unlink, retention, active replica, status, synchronise. Every error each of them
 * is documented with, and the rules of its table. */
#include "check.h"

static SaCkptHandleT free_names, b2;

static SaAisErrorT open_with(
    SaCkptHandleT handle, const char *text, const SaCkptCheckpointCreationAttributesT *creation, SaUint32T flags,
    SaTimeT timeout)
{
    SaNameT name = name_of(text);
    SaCkptCheckpointHandleT checkpoint = 0;
    SaAisErrorT error = saCkptCheckpointOpen(handle, &name, creation, flags, timeout, &checkpoint);
    if (error == SA_AIS_OK) EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
    return error;
}

static void openArguments(void)
{
    SaNameT name = name_of("safCkpt=open");
    SaCkptCheckpointHandleT checkpoint = 0;
    SaCkptCheckpointCreationAttributesT good = attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64), bad;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointOpen(b2, NULL, &good, ALL_FLAGS, PATIENCE, &checkpoint));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointOpen(b2, &name, &good, ALL_FLAGS, PATIENCE, NULL));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, open_with(b2, "safCkpt=open", NULL, ALL_FLAGS, PATIENCE));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, open_with(b2, "safCkpt=open", &good, READ_WRITE, PATIENCE));

    /* No flag, and those that do not exist. */
    EXPECT(SA_AIS_ERR_BAD_FLAGS, open_with(b2, "safCkpt=open", NULL, 0, PATIENCE));
    EXPECT(SA_AIS_ERR_BAD_FLAGS, open_with(b2, "safCkpt=open", NULL, 8, PATIENCE));
    EXPECT(SA_AIS_ERR_BAD_FLAGS, open_with(b2, "safCkpt=open", NULL, 0x80000001, PATIENCE));
    EXPECT(SA_AIS_ERR_BAD_FLAGS, open_with(b2, "safCkpt=open", &good, ALL_FLAGS | 16, PATIENCE));

    /* Exactly one of the three ways to update. */
    static const SaUint32T flags[] = {0, 8, 3, 5, 6, 7, 1 | 2 | 8, 0x41, 0x80000001};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        bad = good;
        bad.creationFlags = flags[i];
        if (!EXPECT(SA_AIS_ERR_INVALID_PARAM, open_with(b2, "safCkpt=open", &bad, ALL_FLAGS, PATIENCE)))
            printf("creationFlags %#x\n", flags[i]);
    }
    static const SaUint32T legal[] = {1, 2, 4, 1 | 8, 2 | 8, 4 | 8};
    for (size_t i = 0; i < sizeof legal / sizeof *legal; i++) {
        bad = good;
        bad.creationFlags = legal[i];
        EXPECT(SA_AIS_OK, open_with(b2, "safCkpt=legal", &bad, ALL_FLAGS, PATIENCE));
    }

    bad = good;
    bad.checkpointSize = 4 * 64 + 1;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, open_with(b2, "safCkpt=open", &bad, ALL_FLAGS, PATIENCE));
    bad = good;
    bad.retentionDuration = -1;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, open_with(b2, "safCkpt=open", &bad, ALL_FLAGS, PATIENCE));

    /* Products beyond 64 bits are no way around a limit, and nothing breaks. */
    bad = good;
    bad.maxSections = UINT32_MAX;
    bad.maxSectionSize = UINT64_MAX;
    bad.maxSectionIdSize = UINT64_MAX;
    bad.checkpointSize = 4096;
    EXPECT(SA_AIS_OK, open_with(b2, "safCkpt=huge", &bad, ALL_FLAGS, PATIENCE));
}

static void openNames(void)
{
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ALL_REPLICAS, 1, 64);
    SaCkptCheckpointHandleT checkpoint = 0;
    SaNameT name;
    memset(&name, 0, sizeof name);
    memset(name.value, 'x', sizeof name.value);
    memcpy(name.value, "safCkpt=", 8);

    static const SaUint16T bad[] = {0, 257, 0x7FFF, 0xFFFF};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        name.length = bad[i];
        EXPECT(SA_AIS_ERR_INVALID_PARAM,
            saCkptCheckpointOpen(free_names, &name, &creation, ALL_FLAGS, PATIENCE, &checkpoint));
        EXPECT(SA_AIS_ERR_INVALID_PARAM,
            saCkptCheckpointOpen(b2, &name, &creation, ALL_FLAGS, PATIENCE, &checkpoint));
        EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointUnlink(free_names, &name));
    }
    static const SaUint16T good[] = {9, 255, 256};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        name.length = good[i];
        EXPECT(SA_AIS_OK, saCkptCheckpointOpen(b2, &name, &creation, ALL_FLAGS, PATIENCE, &checkpoint));
        EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
    }

    /* B.01: any bytes; B.02: its own kind of name only. */
    static const char *const others[] = {"a", "safLock=x", "SAFCKPT=x", "safCkpt", "saf Ckpt=x"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        EXPECT(SA_AIS_OK, open_with(free_names, others[i], &creation, ALL_FLAGS, PATIENCE));
        EXPECT(SA_AIS_ERR_INVALID_PARAM, open_with(b2, others[i], &creation, ALL_FLAGS, PATIENCE));
        SaNameT other = name_of(others[i]);
        EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointUnlink(b2, &other));
        EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptCheckpointCheck(b2, &other));
    }
    memcpy(name.value, "a\0b", 3);
    name.length = 3;
    EXPECT(SA_AIS_OK, saCkptCheckpointOpen(free_names, &name, &creation, ALL_FLAGS, PATIENCE, &checkpoint));
    name.length = 2;
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptCheckpointUnlink(free_names, &name));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

static void existence(void)
{
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ACTIVE_REPLICA, 4, 64), other;
    SaNameT name = name_of("safCkpt=existence");
    EXPECT(SA_AIS_ERR_NOT_EXIST, open_with(b2, "safCkpt=existence", NULL, READ_WRITE, PATIENCE));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptCheckpointCheck(b2, &name));
    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=existence", creation);
    EXPECT(SA_AIS_OK, safCkptCheckpointCheck(b2, &name));
    EXPECT(SA_AIS_OK, open_with(b2, "safCkpt=existence", NULL, SA_CKPT_CHECKPOINT_READ, PATIENCE));
    EXPECT(SA_AIS_OK, open_with(b2, "safCkpt=existence", &creation, ALL_FLAGS, PATIENCE));

    /* Another attribute is another checkpoint, but for the retention duration. */
    other = creation;
    other.retentionDuration = 5;
    EXPECT(SA_AIS_OK, open_with(b2, "safCkpt=existence", &other, ALL_FLAGS, PATIENCE));
    other = creation;
    other.creationFlags = SA_CKPT_WR_ALL_REPLICAS;
    EXPECT(SA_AIS_ERR_EXIST, open_with(b2, "safCkpt=existence", &other, ALL_FLAGS, PATIENCE));
    other = creation;
    other.checkpointSize -= 1;
    EXPECT(SA_AIS_ERR_EXIST, open_with(b2, "safCkpt=existence", &other, ALL_FLAGS, PATIENCE));
    other = creation;
    other.maxSections += 1;
    EXPECT(SA_AIS_ERR_EXIST, open_with(b2, "safCkpt=existence", &other, ALL_FLAGS, PATIENCE));
    other = creation;
    other.maxSectionSize += 1;
    EXPECT(SA_AIS_ERR_EXIST, open_with(b2, "safCkpt=existence", &other, ALL_FLAGS, PATIENCE));
    other = creation;
    other.maxSectionIdSize += 1;
    EXPECT(SA_AIS_ERR_EXIST, open_with(b2, "safCkpt=existence", &other, ALL_FLAGS, PATIENCE));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptCheckpointCheck(b2, &name));
}

static void timeouts(void)
{
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ACTIVE_REPLICA, 4, 64);
    EXPECT(SA_AIS_ERR_INVALID_PARAM, open_with(b2, "safCkpt=time", &creation, ALL_FLAGS, -1));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, open_with(b2, "safCkpt=time", &creation, ALL_FLAGS, SA_TIME_UNKNOWN));
    EXPECT(SA_AIS_OK, open_with(b2, "safCkpt=time", &creation, ALL_FLAGS, SA_TIME_MAX));
    /* Programs of B.01 pass these, and expect to be served. */
    EXPECT(SA_AIS_OK, open_with(free_names, "time", &creation, ALL_FLAGS, 0));
    EXPECT(SA_AIS_OK, open_with(free_names, "time", &creation, ALL_FLAGS, 10));
    EXPECT(SA_AIS_OK, open_with(free_names, "time", &creation, ALL_FLAGS, -1));

    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=time", creation);
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointSynchronize(checkpoint, -1));
    EXPECT(SA_AIS_OK, saCkptCheckpointSynchronize(checkpoint, SA_TIME_MAX));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
    checkpoint = made(free_names, "time", creation);
    EXPECT(SA_AIS_OK, saCkptCheckpointSynchronize(checkpoint, 0));
    EXPECT(SA_AIS_OK, saCkptCheckpointSynchronize(checkpoint, 10));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

static void unlinking(void)
{
    SaNameT name = name_of("safCkpt=unlink");
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointUnlink(b2, NULL));
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptCheckpointUnlink(b2, &name));
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64);
    creation.retentionDuration = SA_TIME_END;
    SaCkptCheckpointHandleT old = made(b2, "safCkpt=unlink", creation);
    MUST(SA_AIS_OK, create_section(old, "s", "old", 3));
    EXPECT(SA_AIS_OK, saCkptCheckpointUnlink(b2, &name));
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptCheckpointUnlink(b2, &name));
    EXPECT(SA_AIS_ERR_NOT_EXIST, open_with(b2, "safCkpt=unlink", NULL, READ_WRITE, PATIENCE));
    EXPECT(SA_AIS_ERR_BAD_OPERATION, saCkptCheckpointRetentionDurationSet(old, 0));

    /* The name is free, for one with attributes of its own; who has the old one goes on with it. */
    creation.maxSections = 2;
    creation.checkpointSize = 128;
    SaCkptCheckpointHandleT young = made(b2, "safCkpt=unlink", creation);
    EXPECT(SA_AIS_ERR_NOT_EXIST, write_section(young, "s", "x", 1, 0));
    MUST(SA_AIS_OK, create_section(young, "s", "new", 3));
    EXPECT(SA_AIS_OK, overwrite(old, "s", "older", 5));
    HOLDS(holds(old, "s", "older", 5));
    HOLDS(holds(young, "s", "new", 3));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(old));
    HOLDS(holds(young, "s", "new", 3));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(young));
    young = opened(b2, "safCkpt=unlink", READ_WRITE);
    HOLDS(holds(young, "s", "new", 3));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(young));
    EXPECT(SA_AIS_OK, saCkptCheckpointUnlink(b2, &name));
    EXPECT(SA_AIS_ERR_NOT_EXIST, open_with(b2, "safCkpt=unlink", NULL, READ_WRITE, PATIENCE));
}

static void retention(void)
{
    SaNameT name = name_of("safCkpt=retention");
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ALL_REPLICAS, 1, 64);
    creation.retentionDuration = SA_TIME_END;
    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=retention", creation);
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointRetentionDurationSet(checkpoint, -1));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));

    /* However it was opened. */
    checkpoint = opened(b2, "safCkpt=retention", SA_CKPT_CHECKPOINT_READ);
    SaCkptCheckpointDescriptorT status;
    EXPECT(SA_AIS_OK, saCkptCheckpointRetentionDurationSet(checkpoint, SA_TIME_ONE_HOUR));
    EXPECT(SA_AIS_OK, saCkptCheckpointStatusGet(checkpoint, &status));
    HOLDS(status.checkpointCreationAttributes.retentionDuration == SA_TIME_ONE_HOUR);
    EXPECT(SA_AIS_OK, saCkptCheckpointRetentionDurationSet(checkpoint, 200 * SA_TIME_ONE_MILLISECOND));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
    /* An open meanwhile would stop its end, so only whether it is there is asked for. */
    SaTimeT until = now_ns() + PATIENCE;
    while (safCkptCheckpointCheck(b2, &name) == SA_AIS_OK && now_ns() < until) poll(NULL, 0, 20);
    EXPECT(SA_AIS_ERR_NOT_EXIST, open_with(b2, "safCkpt=retention", NULL, READ_WRITE, PATIENCE));

    checkpoint = made(b2, "safCkpt=retention", creation);
    EXPECT(SA_AIS_OK, saCkptCheckpointRetentionDurationSet(checkpoint, 0));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
    EXPECT(SA_AIS_ERR_NOT_EXIST, open_with(b2, "safCkpt=retention", NULL, READ_WRITE, PATIENCE));
}

/* Collocated and asynchronous: nothing goes without an active replica. */
static void activeReplica(void)
{
    SaCkptCheckpointCreationAttributesT creation =
        attributes(SA_CKPT_WR_ACTIVE_REPLICA | SA_CKPT_CHECKPOINT_COLLOCATED, 4, 64);
    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=active", creation);
    SaCkptCheckpointDescriptorT status;
    SaCkptSectionIterationHandleT walk = 0;
    SaCkptSectionIdT id = id_of("s");
    char buffer[8];
    SaCkptIOVectorElementT element = piece("s", buffer, 8, 0);
    EXPECT(SA_AIS_ERR_NOT_EXIST, create_section(checkpoint, "s", "1", 1));
    EXPECT(SA_AIS_ERR_NOT_EXIST, write_section(checkpoint, "s", "1", 1, 0));
    EXPECT(SA_AIS_ERR_NOT_EXIST, overwrite(checkpoint, "s", "1", 1));
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptSectionDelete(checkpoint, &id));
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptSectionExpirationTimeSet(checkpoint, &id, SA_TIME_END));
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptCheckpointStatusGet(checkpoint, &status));
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptSectionIterationInitialize(checkpoint, SA_CKPT_SECTIONS_ANY, 0, &walk));
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptCheckpointSynchronize(checkpoint, PATIENCE));
    SafCkptSectionT *sections = NULL;
    SaUint32T count = 0;
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptSectionsGet(checkpoint, &sections, &count, NULL));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptSectionCheck(checkpoint, &id));

    SaCkptCheckpointHandleT reader = opened(b2, "safCkpt=active", SA_CKPT_CHECKPOINT_READ);
    EXPECT(SA_AIS_ERR_ACCESS, saCkptActiveReplicaSet(reader));
    EXPECT(SA_AIS_OK, saCkptActiveReplicaSet(checkpoint));
    EXPECT(SA_AIS_OK, saCkptActiveReplicaSet(checkpoint));
    EXPECT(SA_AIS_OK, create_section(checkpoint, "s", "1", 1));
    HOLDS(holds(reader, "s", "1", 1));
    EXPECT(SA_AIS_OK, saCkptCheckpointSynchronize(checkpoint, PATIENCE));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(reader));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));

    static const SaUint32T others[] = {1, 2, 4, 1 | 8};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        checkpoint = made(b2, "safCkpt=active", attributes(others[i], 4, 64));
        EXPECT(SA_AIS_ERR_BAD_OPERATION, saCkptActiveReplicaSet(checkpoint));
        EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
    }
}

static void status(void)
{
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ACTIVE_REPLICA_WEAK, 4, 64);
    creation.retentionDuration = 3 * SA_TIME_ONE_SECOND;
    creation.checkpointSize = 100;
    SaCkptCheckpointHandleT checkpoint = made(free_names, "status", creation);
    SaCkptCheckpointDescriptorT found;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointStatusGet(checkpoint, NULL));
    EXPECT(SA_AIS_OK, saCkptCheckpointStatusGet(checkpoint, &found));
    HOLDS(found.numberOfSections == 0 && found.memoryUsed == 0);
    MUST(SA_AIS_OK, create_section(checkpoint, "a", "123", 3));
    MUST(SA_AIS_OK, create_section(checkpoint, "b", NULL, 0));
    MUST(SA_AIS_OK, write_section(checkpoint, "b", "12345", 5, 10));
    memset(&found, 0xAA, sizeof found);
    SaCkptCheckpointHandleT other = opened(free_names, "status", SA_CKPT_CHECKPOINT_WRITE);
    EXPECT(SA_AIS_OK, saCkptCheckpointStatusGet(other, &found));
    HOLDS(found.numberOfSections == 2);
    HOLDS(found.memoryUsed == 18);
    const SaCkptCheckpointCreationAttributesT *is = &found.checkpointCreationAttributes;
    HOLDS(is->creationFlags == creation.creationFlags && is->checkpointSize == creation.checkpointSize);
    HOLDS(is->retentionDuration == creation.retentionDuration && is->maxSections == creation.maxSections);
    HOLDS(is->maxSectionSize == creation.maxSectionSize && is->maxSectionIdSize == creation.maxSectionIdSize);
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(other));
    EXPECT(SA_AIS_OK, saCkptCheckpointRetentionDurationSet(checkpoint, 0));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));

    /* The default section is there from the beginning. */
    checkpoint = made(free_names, "single", attributes(SA_CKPT_WR_ALL_REPLICAS, 1, 64));
    EXPECT(SA_AIS_OK, saCkptCheckpointStatusGet(checkpoint, &found));
    HOLDS(found.numberOfSections == 1 && found.memoryUsed == 0);
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

static void synchronising(void)
{
    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=sync", attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64));
    EXPECT(SA_AIS_ERR_BAD_OPERATION, saCkptCheckpointSynchronize(checkpoint, PATIENCE));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
    checkpoint = made(b2, "safCkpt=sync", attributes(SA_CKPT_WR_ACTIVE_REPLICA, 4, 64));
    SaCkptCheckpointHandleT reader = opened(b2, "safCkpt=sync", SA_CKPT_CHECKPOINT_READ);
    EXPECT(SA_AIS_ERR_ACCESS, saCkptCheckpointSynchronize(reader, PATIENCE));
    EXPECT(SA_AIS_OK, saCkptCheckpointSynchronize(checkpoint, PATIENCE));
    MUST(SA_AIS_OK, create_section(checkpoint, "s", "1", 1));
    EXPECT(SA_AIS_OK, saCkptCheckpointSynchronize(checkpoint, PATIENCE));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(reader));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

int main(void)
{
    free_names = start(NULL, 1);
    b2 = start(NULL, 2);
    openArguments();
    openNames();
    existence();
    timeouts();
    unlinking();
    retention();
    activeReplica();
    status();
    synchronising();
    return check_end();
}
