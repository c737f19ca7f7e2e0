/* `victim hold` opens a checkpoint without retention and waits to be killed; `victim gone` sees it disappear. */
#include "check.h"

int main(int count, char **arguments)
{
    SaCkptHandleT handle = start(NULL, 2);
    if (count > 1 && strcmp(arguments[1], "hold") == 0) {
        SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=victim", attributes(SA_CKPT_WR_ALL_REPLICAS, 1, 64));
        MUST(SA_AIS_OK, overwrite(checkpoint, "", "held", 4));
        printf("open\n");
        fflush(stdout);
        for (;;) poll(NULL, 0, -1);
    }
    SaNameT name = name_of("safCkpt=victim");
    SaTimeT until = now_ns() + PATIENCE;
    while (safCkptCheckpointCheck(handle, &name) == SA_AIS_OK && now_ns() < until) poll(NULL, 0, 10);
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptCheckpointCheck(handle, &name));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    return check_end();
}
