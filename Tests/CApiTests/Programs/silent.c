/* A service that does not answer. `silent absent`: there is none. `silent stopped PID`: it is there, and stands
 * still. */
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

#define BRIEF (300 * SA_TIME_ONE_MILLISECOND)

/* Takes about as long as it was given, and not for ever. */
#define WITHIN(least, call)                                                                                            \
    do {                                                                                                               \
        SaTimeT began_ = now_ns();                                                                                     \
        call;                                                                                                          \
        SaTimeT took_ = now_ns() - began_;                                                                             \
        if (!HOLDS(took_ >= (least) && took_ < 25 * SA_TIME_ONE_SECOND))                                               \
            printf("%s took %lld ms\n", #call, (long long)(took_ / SA_TIME_ONE_MILLISECOND));                          \
    } while (0)

static int absent(void)
{
    SaCkptCallbacksT callbacks = {on_open, NULL};
    SaCkptHandleT handle = 0;
    SaVersionT version = version_of('B', 2, 2);
    SaAisErrorT error = saCkptInitialize(&handle, &callbacks, &version);
    if (error == SA_AIS_ERR_TRY_AGAIN) return check_end();
    EXPECT(SA_AIS_OK, error);
    SaNameT name = name_of("safCkpt=absent");
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ALL_REPLICAS, 1, 64);
    SaCkptCheckpointHandleT checkpoint = 0;
    /* Nothing can have happened. */
    WITHIN(0, EXPECT(SA_AIS_ERR_TRY_AGAIN,
        saCkptCheckpointOpen(handle, &name, &creation, ALL_FLAGS, BRIEF, &checkpoint)));
    HOLDS(checkpoint == 0);
    error = saCkptCheckpointOpenAsync(handle, 1, &name, &creation, ALL_FLAGS);
    HOLDS(error == SA_AIS_OK || error == SA_AIS_ERR_TRY_AGAIN);
    if (error == SA_AIS_OK) {
        DISPATCH_UNTIL(handle, opens == 1);
        HOLDS(open_error == SA_AIS_ERR_TRY_AGAIN || open_error == SA_AIS_ERR_TIMEOUT);
    }
    WITHIN(0, EXPECT(SA_AIS_OK, saCkptFinalize(handle)));
    return check_end();
}

static int stopped(pid_t service)
{
    SaCkptCallbacksT callbacks = {on_open, NULL};
    SaCkptHandleT handle = start(&callbacks, 2);
    SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=stopped", attributes(SA_CKPT_WR_ACTIVE_REPLICA, 4, 64));
    MUST(SA_AIS_OK, create_section(checkpoint, "s", "before", 6));
    SaNameT name = name_of("safCkpt=stopped");
    SaCkptCheckpointHandleT other = 0;
    if (!HOLDS(kill(service, SIGSTOP) == 0)) return 1;

    /* With a timeout; and one of 0 is no time at all. */
    WITHIN(BRIEF / 2, EXPECT(SA_AIS_ERR_TIMEOUT, saCkptCheckpointOpen(handle, &name, NULL, READ_WRITE, BRIEF, &other)));
    WITHIN(BRIEF / 2, EXPECT(SA_AIS_ERR_TIMEOUT, saCkptCheckpointSynchronize(checkpoint, BRIEF)));
    WITHIN(0, EXPECT(SA_AIS_ERR_TIMEOUT, saCkptCheckpointSynchronize(checkpoint, 0)));
    /* Without one the library's own is waited for. */
    WITHIN(SA_TIME_ONE_SECOND, EXPECT(SA_AIS_ERR_TIMEOUT, overwrite(checkpoint, "s", "while", 5)));
    /* An asynchronous call does not wait, and a dispatch neither. */
    EXPECT(SA_AIS_OK, saCkptCheckpointOpenAsync(handle, 1, &name, NULL, READ_WRITE));
    EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ALL));
    HOLDS(opens == 0);
    HOLDS(!readable(fd_of(handle), 0));

    HOLDS(kill(service, SIGCONT) == 0);
    DISPATCH_UNTIL(handle, opens == 1);
    EXPECT(SA_AIS_OK, open_error);
    /* What timed out may have been done, and nothing after it is lost or mixed up. */
    EXPECT(SA_AIS_OK, overwrite(checkpoint, "s", "after", 5));
    HOLDS(holds(checkpoint, "s", "after", 5));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    return check_end();
}

int main(int count, char **arguments)
{
    if (count > 2 && strcmp(arguments[1], "stopped") == 0) return stopped((pid_t)atoi(arguments[2]));
    return absent();
}
