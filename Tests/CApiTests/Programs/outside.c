/* On a node that is no member of its cluster: a handle of B.02 is told, one of B.01 only has to wait. */
#include "check.h"

static int opens;
static SaAisErrorT open_error;

static void on_open(SaInvocationT invocation, SaCkptCheckpointHandleT checkpoint, SaAisErrorT error)
{
    (void)invocation;
    (void)checkpoint;
    open_error = error;
    opens++;
}

int main(void)
{
    SaCkptCallbacksT callbacks = {on_open, NULL};
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ALL_REPLICAS, 1, 64);
    SaNameT name = name_of("safCkpt=outside");
    SaCkptCheckpointHandleT checkpoint = 0;
    SaCkptHandleT older = start(&callbacks, 1), handle = 0;
    SaTimeT brief = 500 * SA_TIME_ONE_MILLISECOND;
    SaAisErrorT error = saCkptCheckpointOpen(older, &name, &creation, ALL_FLAGS, brief, &checkpoint);
    HOLDS(error == SA_AIS_ERR_TRY_AGAIN || error == SA_AIS_ERR_TIMEOUT);
    EXPECT(SA_AIS_OK, saCkptFinalize(older));

    SaVersionT version = version_of('B', 2, 2);
    error = saCkptInitialize(&handle, &callbacks, &version);
    if (error == SA_AIS_ERR_UNAVAILABLE) return check_end();
    MUST(SA_AIS_OK, error);
    EXPECT(SA_AIS_ERR_UNAVAILABLE, saCkptCheckpointOpen(handle, &name, &creation, ALL_FLAGS, PATIENCE, &checkpoint));
    EXPECT(SA_AIS_ERR_UNAVAILABLE, saCkptCheckpointUnlink(handle, &name));
    EXPECT(SA_AIS_ERR_UNAVAILABLE, safCkptCheckpointCheck(handle, &name));
    error = saCkptCheckpointOpenAsync(handle, 1, &name, &creation, ALL_FLAGS);
    if (error == SA_AIS_OK) {
        DISPATCH_UNTIL(handle, opens == 1);
        error = open_error;
    }
    EXPECT(SA_AIS_ERR_UNAVAILABLE, error);
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptFinalize(handle));
    return check_end();
}
