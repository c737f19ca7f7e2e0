/* `counted N`: the program of the README has counted so far. */
#include "check.h"

int main(int count, char **arguments)
{
    SaUint64T wanted = count > 1 ? strtoull(arguments[1], NULL, 10) : 0;
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointHandleT counter = opened(handle, "safCkpt=counter", SA_CKPT_CHECKPOINT_READ);
    HOLDS(holds(counter, "", &wanted, sizeof wanted));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    return check_end();
}
