/* Asynchronous calls and dispatching: one callback each, when and where it was asked for. */
#include "check.h"

#include <fcntl.h>
#include <sys/select.h>

enum { MOST = 64 };
static struct {
    SaInvocationT invocation;
    SaCkptCheckpointHandleT checkpoint;
    SaAisErrorT error;
} calls[MOST];
static int opens, synchronisations;
static pthread_t where;

static void on_open(SaInvocationT invocation, SaCkptCheckpointHandleT checkpoint, SaAisErrorT error)
{
    HOLDS(pthread_equal(pthread_self(), where));
    CAME_BACK(saCkptCheckpointOpenAsync, error);
    if (opens >= MOST) return;
    calls[opens].invocation = invocation;
    calls[opens].checkpoint = checkpoint;
    calls[opens].error = error;
    opens++;
}

static SaInvocationT synchronised;
static SaAisErrorT synchronise_error;

static void on_synchronise(SaInvocationT invocation, SaAisErrorT error)
{
    synchronised = invocation;
    synchronise_error = CAME_BACK(saCkptCheckpointSynchronizeAsync, error);
    synchronisations++;
}

static const SaCkptCallbacksT both = {on_open, on_synchronise};

static SaAisErrorT open_async(
    SaCkptHandleT handle, SaInvocationT invocation, const char *text,
    const SaCkptCheckpointCreationAttributesT *creation, SaUint32T flags)
{
    SaNameT name = name_of(text);
    return saCkptCheckpointOpenAsync(handle, invocation, &name, creation, flags);
}

static void arguments(void)
{
    static const SaCkptCallbacksT neither = {NULL, NULL};
    SaCkptCheckpointCreationAttributesT good = attributes(SA_CKPT_WR_ACTIVE_REPLICA, 4, 64), bad = good;
    SaCkptHandleT none = start(NULL, 2), empty = start(&neither, 2);
    EXPECT(SA_AIS_ERR_INIT, open_async(none, 1, "safCkpt=async", &good, ALL_FLAGS));
    EXPECT(SA_AIS_ERR_INIT, open_async(empty, 1, "safCkpt=async", &good, ALL_FLAGS));
    SaCkptCheckpointHandleT checkpoint = made(none, "safCkpt=async", good);
    EXPECT(SA_AIS_ERR_INIT, saCkptCheckpointSynchronizeAsync(checkpoint, 1));
    EXPECT(SA_AIS_OK, saCkptFinalize(none));
    EXPECT(SA_AIS_OK, saCkptFinalize(empty));

    SaCkptHandleT handle = start(&both, 2);
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointOpenAsync(handle, 1, NULL, &good, ALL_FLAGS));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, open_async(handle, 1, "safCkpt=async", NULL, ALL_FLAGS));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, open_async(handle, 1, "safCkpt=async", &good, READ_WRITE));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, open_async(handle, 1, "async", &good, ALL_FLAGS));
    EXPECT(SA_AIS_ERR_BAD_FLAGS, open_async(handle, 1, "safCkpt=async", NULL, 0));
    EXPECT(SA_AIS_ERR_BAD_FLAGS, open_async(handle, 1, "safCkpt=async", &good, ALL_FLAGS | 8));
    bad.creationFlags = 3;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, open_async(handle, 1, "safCkpt=async", &bad, ALL_FLAGS));
    bad = good;
    bad.checkpointSize += 1;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, open_async(handle, 1, "safCkpt=async", &bad, ALL_FLAGS));
    /* What was refused is not told a second time. */
    EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ALL));
    HOLDS(!readable(fd_of(handle), 50));
    HOLDS(opens == 0);
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
}

static void opening(void)
{
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ACTIVE_REPLICA, 4, 64);
    SaCkptHandleT handle = start(&both, 2);
    int fd = fd_of(handle);
    opens = 0;
    /* Any number is the caller's, 0 too; nothing is called before the dispatch. */
    static const SaInvocationT invocations[] = {0, 1, UINT64_MAX};
    for (int i = 0; i < 3; i++) {
        EXPECT(SA_AIS_OK, open_async(handle, invocations[i], "safCkpt=open", &creation, ALL_FLAGS));
        HOLDS(readable(fd, 30000));
        HOLDS(opens == i);
        EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ALL));
        HOLDS(opens == i + 1 && calls[i].invocation == invocations[i] && calls[i].error == SA_AIS_OK);
        HOLDS(!readable(fd, 0));
    }
    for (int i = 0; i < 3; i++) {
        SaCkptCheckpointDescriptorT status;
        EXPECT(SA_AIS_OK, saCkptCheckpointStatusGet(calls[i].checkpoint, &status));
    }

    /* Errors of the service come in the callback. */
    opens = 0;
    creation.maxSections = 3;
    creation.checkpointSize = 3 * 64;
    EXPECT(SA_AIS_OK, open_async(handle, 7, "safCkpt=absent", NULL, READ_WRITE));
    DISPATCH_UNTIL(handle, opens == 1);
    HOLDS(calls[0].invocation == 7 && calls[0].error == SA_AIS_ERR_NOT_EXIST);
    EXPECT(SA_AIS_OK, open_async(handle, 8, "safCkpt=open", &creation, ALL_FLAGS));
    DISPATCH_UNTIL(handle, opens == 2);
    HOLDS(calls[1].invocation == 8 && calls[1].error == SA_AIS_ERR_EXIST);

    /* select() sees what poll() sees. */
    opens = 0;
    EXPECT(SA_AIS_OK, open_async(handle, 9, "safCkpt=open", NULL, READ_WRITE));
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    struct timeval patience = {30, 0};
    HOLDS(select(fd + 1, &set, NULL, NULL, &patience) == 1);
    EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ALL));
    HOLDS(opens == 1);
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    HOLDS(fcntl(fd, F_GETFD) == -1 && errno == EBADF);
}

/* ONE means one, and the descriptor stays readable for the others. */
static void one(void)
{
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ACTIVE_REPLICA, 4, 64);
    SaCkptHandleT handle = start(&both, 2);
    opens = 0;
    for (int i = 0; i < 10; i++)
        EXPECT(SA_AIS_OK, open_async(handle, (SaInvocationT)i, "safCkpt=one", &creation, ALL_FLAGS));
    for (int i = 0; i < 10; i++) {
        HOLDS(readable(fd_of(handle), 30000));
        EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ONE));
        HOLDS(opens == i + 1);
    }
    HOLDS(!readable(fd_of(handle), 0));
    EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ONE));
    HOLDS(opens == 10);
    unsigned seen = 0;
    for (int i = 0; i < 10; i++) seen |= 1u << calls[i].invocation;
    HOLDS(seen == 0x3FF);
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
}

static void synchronising(void)
{
    SaCkptHandleT handle = start(&both, 2);
    SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=sync", attributes(SA_CKPT_WR_ACTIVE_REPLICA, 4, 64));
    synchronisations = 0;
    EXPECT(SA_AIS_OK, saCkptCheckpointSynchronizeAsync(checkpoint, 42));
    DISPATCH_UNTIL(handle, synchronisations == 1);
    HOLDS(synchronised == 42 && synchronise_error == SA_AIS_OK);

    /* Wrong from the beginning: here or in the callback, and then in only one of them. */
    struct {
        const char *name;
        SaUint32T creation, flags;
        SaAisErrorT error;
    } table[] = {
        {"safCkpt=all", SA_CKPT_WR_ALL_REPLICAS, ALL_FLAGS, SA_AIS_ERR_BAD_OPERATION},
        {"safCkpt=read", SA_CKPT_WR_ACTIVE_REPLICA, SA_CKPT_CHECKPOINT_READ | SA_CKPT_CHECKPOINT_CREATE,
            SA_AIS_ERR_ACCESS},
        {"safCkpt=none", SA_CKPT_WR_ACTIVE_REPLICA | SA_CKPT_CHECKPOINT_COLLOCATED, ALL_FLAGS, SA_AIS_ERR_NOT_EXIST},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        SaNameT name = name_of(table[i].name);
        SaCkptCheckpointCreationAttributesT creation = attributes(table[i].creation, 4, 64);
        SaCkptCheckpointHandleT other = 0;
        MUST(SA_AIS_OK, saCkptCheckpointOpen(handle, &name, &creation, table[i].flags, PATIENCE, &other));
        synchronisations = 0;
        SaAisErrorT error = saCkptCheckpointSynchronizeAsync(other, i);
        if (error == SA_AIS_OK) {
            DISPATCH_UNTIL(handle, synchronisations == 1);
            error = synchronise_error;
            HOLDS(synchronised == i);
        }
        EXPECT(table[i].error, error);
        EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ALL));
        HOLDS(synchronisations <= 1);
    }
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
}

/* Everything may be called from a callback. */
static SaCkptHandleT inner_handle;
static int inner_calls;

static void on_open_work(SaInvocationT invocation, SaCkptCheckpointHandleT checkpoint, SaAisErrorT error)
{
    EXPECT(SA_AIS_OK, error);
    SaNameT name = name_of("safCkpt=inner");
    if (invocation == 1) {
        EXPECT(SA_AIS_OK, create_section(checkpoint, "s", "inner", 5));
        HOLDS(holds(checkpoint, "s", "inner", 5));
        EXPECT(SA_AIS_OK, saCkptCheckpointOpenAsync(inner_handle, 2, &name, NULL, READ_WRITE));
        /* The one asked for just now may run inside this one. */
        SaTimeT until = now_ns() + PATIENCE;
        while (inner_calls == 0 && now_ns() < until) {
            readable(fd_of(inner_handle), 100);
            EXPECT(SA_AIS_OK, saCkptDispatch(inner_handle, SA_DISPATCH_ALL));
        }
        HOLDS(inner_calls == 1);
        EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
    } else if (invocation == 3) {
        EXPECT(SA_AIS_OK, saCkptFinalize(inner_handle));
        EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointClose(checkpoint));
    }
    inner_calls++;
}

static void inside(void)
{
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ACTIVE_REPLICA, 4, 64);
    SaCkptCallbacksT callbacks = {on_open_work, NULL};
    inner_handle = start(&callbacks, 2);
    memset(&callbacks, 0xFF, sizeof callbacks); /* copied: no matter what becomes of it */
    EXPECT(SA_AIS_OK, open_async(inner_handle, 1, "safCkpt=inner", &creation, ALL_FLAGS));
    DISPATCH_UNTIL(inner_handle, inner_calls == 2);
    EXPECT(SA_AIS_OK, open_async(inner_handle, 3, "safCkpt=inner", NULL, READ_WRITE));
    /* Finalised by its own callback: a blocking dispatch comes back. */
    EXPECT(SA_AIS_OK, saCkptDispatch(inner_handle, SA_DISPATCH_BLOCKING));
    HOLDS(inner_calls == 3);
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptDispatch(inner_handle, SA_DISPATCH_ALL));
}

/* What waits is dropped with the handle, and what had been opened is closed. */
static void finalising(void)
{
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ACTIVE_REPLICA, 4, 64);
    SaNameT name = name_of("safCkpt=dropped");
    opens = 0;
    for (int i = 0; i < 20; i++) {
        SaCkptHandleT handle = start(&both, 2);
        EXPECT(SA_AIS_OK, open_async(handle, 1, "safCkpt=dropped", &creation, ALL_FLAGS));
        if (i % 2) HOLDS(readable(fd_of(handle), 30000));
        EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    }
    HOLDS(opens == 0);
    SaCkptHandleT handle = start(NULL, 2);
    SaTimeT until = now_ns() + PATIENCE;
    while (safCkptCheckpointCheck(handle, &name) == SA_AIS_OK && now_ns() < until) poll(NULL, 0, 10);
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptCheckpointCheck(handle, &name));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
}

int main(void)
{
    where = pthread_self();
    arguments();
    opening();
    one();
    synchronising();
    inside();
    finalising();
    return check_end();
}
