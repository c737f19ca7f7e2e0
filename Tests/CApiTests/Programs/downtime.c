/* What is closed while the service is away. `downtime hold PID` ends the service, closes a checkpoint and a handle, and
 * goes on living without a further call; `downtime look` sees that they are closed, and what is open is not. */
#include "check.h"

static int hold(pid_t service)
{
    SaCkptHandleT handle = start(NULL, 2), ended = start(NULL, 1);
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ALL_REPLICAS, 1, 64);
    SaCkptCheckpointHandleT closed = made(handle, "safCkpt=closed", creation);
    made(handle, "safCkpt=kept", creation);
    made(ended, "safCkpt=ended", creation);
    made(ended, "safCkpt=ended too", creation);
    if (!HOLDS(kill(service, SIGKILL) == 0)) return 1;
    EXPECT(SA_AIS_OK, saCkptFinalize(ended));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptFinalize(ended));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(closed));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointClose(closed));
    if (check_end()) return 1;
    printf("closed\n");
    fflush(stdout);
    for (;;) poll(NULL, 0, -1);
}

int main(int count, char **arguments)
{
    if (count > 2 && strcmp(arguments[1], "hold") == 0) return hold((pid_t)atoi(arguments[2]));
    SaCkptHandleT handle = start(NULL, 2);
    SaNameT kept = name_of("safCkpt=kept");
    static const char *const gone[] = {"safCkpt=closed", "safCkpt=ended", "safCkpt=ended too"};
    EXPECT(SA_AIS_OK, safCkptCheckpointCheck(handle, &kept));
    for (int i = 0; i < 3; i++) {
        SaNameT name = name_of(gone[i]);
        EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptCheckpointCheck(handle, &name));
    }
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    return check_end();
}
