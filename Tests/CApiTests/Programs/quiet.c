/* The library is a guest: no thread of its own, no descriptor left behind, no signal changed. `quiet begin` does the
 * least a program can do with the service, `quiet nothing` not even that; the test compares how long they take. */
#include "check.h"

#include <dirent.h>

static int entries(const char *path)
{
    DIR *directory = opendir(path);
    int number = 0;
    if (directory == NULL) return -1;
    while (readdir(directory) != NULL) number++;
    closedir(directory);
    return number;
}

static void use(SaCkptHandleT handle)
{
    SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=quiet", attributes(SA_CKPT_WR_ACTIVE_REPLICA, 4, 64));
    MUST(SA_AIS_OK, create_section(checkpoint, "s", "1", 1));
    HOLDS(holds(checkpoint, "s", "1", 1));
    EXPECT(SA_AIS_OK, saCkptCheckpointSynchronize(checkpoint, PATIENCE));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "nothing") == 0) return 0;
    if (count > 1 && strcmp(arguments[1], "begin") == 0) {
        SaCkptHandleT handle = start(NULL, 2);
        made(handle, "safCkpt=begin", attributes(SA_CKPT_WR_ALL_REPLICAS, 1, 64));
        return 0;
    }
    struct sigaction before[NSIG], after;
    sigset_t mask, maskAfter;
    for (int i = 1; i < NSIG; i++) sigaction(i, NULL, &before[i]);
    sigprocmask(SIG_BLOCK, NULL, &mask);
    HOLDS(entries("/proc/self/task") == 3);
    int descriptors = entries("/proc/self/fd");

    /* What the connection to the service needs stays with the process; handles leave nothing. */
    SaCkptHandleT handle = start(NULL, 2);
    use(handle);
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    int connected = entries("/proc/self/fd");
    HOLDS(connected - descriptors <= 8);
    for (int i = 0; i < 100; i++) {
        handle = start(NULL, 2);
        use(handle);
        HOLDS(entries("/proc/self/task") == 3); /* ".", ".." and main */
        EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    }
    HOLDS(entries("/proc/self/fd") == connected);

    for (int i = 1; i < NSIG; i++) {
        if (sigaction(i, NULL, &after) != 0) continue;
        HOLDS(before[i].sa_handler == after.sa_handler);
    }
    sigprocmask(SIG_BLOCK, NULL, &maskAfter);
    for (int i = 1; i < NSIG; i++) HOLDS(sigismember(&mask, i) == sigismember(&maskAfter, i));
    return check_end();
}
