/* The node is locked by the administrator while the program runs, and unlocked when it has said "left". */
#include "check.h"

static SaAisErrorT status(SaCkptCheckpointHandleT checkpoint)
{
    SaCkptCheckpointDescriptorT descriptor;
    return saCkptCheckpointStatusGet(checkpoint, &descriptor);
}

static SaAisErrorT read_some(SaCkptCheckpointHandleT checkpoint)
{
    char buffer[8];
    SaCkptIOVectorElementT element = piece("", buffer, sizeof buffer, 0);
    return saCkptCheckpointRead(checkpoint, &element, 1, NULL);
}

int main(void)
{
    SaCkptHandleT older = start(NULL, 1), told = start(NULL, 2), silent = start(NULL, 2);
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ALL_REPLICAS, 1, 64);
    SaCkptCheckpointHandleT first = made(older, "safCkpt=locked", creation);
    SaCkptCheckpointHandleT second = opened(told, "safCkpt=locked", READ_WRITE);
    SaCkptCheckpointHandleT third = opened(silent, "safCkpt=locked", READ_WRITE);
    SaCkptSectionIterationHandleT iteration = 0;
    EXPECT(SA_AIS_OK, overwrite(first, "", "before", 6));
    EXPECT(SA_AIS_OK, read_some(second));
    EXPECT(SA_AIS_OK, read_some(third));
    printf("open\n");
    fflush(stdout);

    SaTimeT until = now_ns() + PATIENCE;
    while (read_some(second) == SA_AIS_OK && now_ns() < until) poll(NULL, 0, 5);
    SaCkptSectionIdT id = id_of("");
    SaNameT name = name_of("safCkpt=locked");
    SaCkptCheckpointHandleT other = 0;
    EXPECT(SA_AIS_ERR_UNAVAILABLE, read_some(second));
    EXPECT(SA_AIS_ERR_UNAVAILABLE, overwrite(second, "", "while", 5));
    EXPECT(SA_AIS_ERR_UNAVAILABLE, status(second));
    EXPECT(SA_AIS_ERR_UNAVAILABLE, saCkptCheckpointRetentionDurationSet(second, 0));
    EXPECT(SA_AIS_ERR_UNAVAILABLE, saCkptSectionDelete(second, &id));
    EXPECT(SA_AIS_ERR_UNAVAILABLE, saCkptSectionIterationInitialize(second, SA_CKPT_SECTIONS_ANY, 0, &iteration));
    EXPECT(SA_AIS_ERR_UNAVAILABLE, saCkptCheckpointOpen(told, &name, NULL, READ_WRITE, PATIENCE, &other));
    EXPECT(SA_AIS_ERR_UNAVAILABLE, saCkptCheckpointUnlink(told, &name));
    EXPECT(SA_AIS_ERR_UNAVAILABLE, saCkptDispatch(told, SA_DISPATCH_ALL));
    /* B.01 knows nothing of it. */
    EXPECT(SA_AIS_OK, read_some(first));
    EXPECT(SA_AIS_OK, overwrite(first, "", "meanwhile", 9));
    EXPECT(SA_AIS_OK, status(first));
    printf("left\n");
    fflush(stdout);

    SaCkptHandleT fresh = 0;
    SaAisErrorT error = SA_AIS_ERR_UNAVAILABLE;
    for (until = now_ns() + PATIENCE; error == SA_AIS_ERR_UNAVAILABLE && now_ns() < until; poll(NULL, 0, 5)) {
        if (fresh) EXPECT(SA_AIS_OK, saCkptFinalize(fresh));
        fresh = start(NULL, 2);
        error = saCkptCheckpointOpen(fresh, &name, NULL, READ_WRITE, PATIENCE, &other);
    }
    MUST(SA_AIS_OK, error);
    HOLDS(holds(other, "", "meanwhile", 9));
    /* Whoever was there before begins anew, whether it has heard of the lock or not. */
    EXPECT(SA_AIS_ERR_UNAVAILABLE, read_some(second));
    EXPECT(SA_AIS_ERR_UNAVAILABLE, read_some(third));
    EXPECT(SA_AIS_ERR_UNAVAILABLE, overwrite(third, "", "after", 5));
    EXPECT(SA_AIS_ERR_UNAVAILABLE, saCkptCheckpointOpen(silent, &name, NULL, READ_WRITE, PATIENCE, &other));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(third));
    EXPECT(SA_AIS_OK, saCkptFinalize(told));
    EXPECT(SA_AIS_OK, saCkptFinalize(silent));
    EXPECT(SA_AIS_OK, read_some(first));
    EXPECT(SA_AIS_OK, saCkptFinalize(older));
    EXPECT(SA_AIS_OK, saCkptFinalize(fresh));
    return check_end();
}
