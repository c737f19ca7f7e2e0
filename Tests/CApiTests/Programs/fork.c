/* Processes that fork, with and without exec, while the library is in use. `fork exec` is what it execs. */
#include "check.h"

static int wait_for(pid_t pid)
{
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

/* A process of its own finds what was there, and leaves something else. */
static int change(const char *old, const char *young)
{
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointHandleT checkpoint = opened(handle, "safCkpt=fork", READ_WRITE);
    HOLDS(holds(checkpoint, "s", old, strlen(old)));
    EXPECT(SA_AIS_OK, overwrite(checkpoint, "s", young, strlen(young)));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    return check_end();
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "exec") == 0) return change("parent", "child");
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=fork", attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64));
    MUST(SA_AIS_OK, create_section(checkpoint, "s", "parent", 6));

    /* exec: another program, with handles of its own; ours are open as before. */
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", arguments[0], "exec", (char *)NULL);
        _exit(99);
    }
    HOLDS(wait_for(child) == 0);
    HOLDS(holds(checkpoint, "s", "child", 5));

    /* Without exec: the parent's handles are none of the child's. It may begin anew. */
    fflush(stdout);
    child = fork();
    if (child == 0) {
        check_failures = 0;
        SaCkptCheckpointDescriptorT status;
        SaSelectionObjectT object;
        EXPECT(SA_AIS_ERR_BAD_HANDLE, overwrite(checkpoint, "s", "x", 1));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointStatusGet(checkpoint, &status));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSelectionObjectGet(handle, &object));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointClose(checkpoint));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptFinalize(handle));
        int result = change("child", "grandchild");
        fflush(stdout);
        _exit(result);
    }
    HOLDS(wait_for(child) == 0);
    HOLDS(holds(checkpoint, "s", "grandchild", 10));
    EXPECT(SA_AIS_OK, overwrite(checkpoint, "s", "parent", 6));

    /* A child that only ends takes nothing with it. */
    for (int i = 0; i < 20; i++) {
        child = fork();
        if (child == 0) _exit(0);
        EXPECT(SA_AIS_OK, overwrite(checkpoint, "s", &i, sizeof i));
        HOLDS(wait_for(child) == 0);
        HOLDS(holds(checkpoint, "s", &i, sizeof i));
    }
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    return check_end();
}
