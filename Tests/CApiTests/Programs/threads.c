/* Many threads: dispatching one handle, blocking until it ends, reading and writing through one or several. */
#include "check.h"

enum { THREADS = 8, CALLS = 400 };

static SaCkptHandleT handle;
static int called[CALLS];
static int total;

static void on_open(SaInvocationT invocation, SaCkptCheckpointHandleT checkpoint, SaAisErrorT error)
{
    EXPECT(SA_AIS_OK, error);
    if (HOLDS(invocation < CALLS)) __atomic_add_fetch(&called[invocation], 1, __ATOMIC_RELAXED);
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
    __atomic_add_fetch(&total, 1, __ATOMIC_RELEASE);
}

static void *blocking(void *unused)
{
    (void)unused;
    /* A thread that gets a processor only after the end finds no handle. */
    SaAisErrorT error = saCkptDispatch(handle, SA_DISPATCH_BLOCKING);
    HOLDS(error == SA_AIS_OK || error == SA_AIS_ERR_BAD_HANDLE);
    return NULL;
}

/* Each callback runs once, in one of the threads that block; Finalize wakes all of them. */
static void dispatching(void)
{
    SaCkptCallbacksT callbacks = {on_open, NULL};
    handle = start(&callbacks, 2);
    SaCkptCheckpointHandleT kept = made(handle, "safCkpt=threads", attributes(SA_CKPT_WR_ACTIVE_REPLICA, 4, 64));
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) HOLDS(pthread_create(&threads[i], NULL, blocking, NULL) == 0);
    SaNameT name = name_of("safCkpt=threads");
    for (SaInvocationT i = 0; i < CALLS; i++) {
        SaAisErrorT error;
        do error = saCkptCheckpointOpenAsync(handle, i, &name, NULL, READ_WRITE);
        while (error == SA_AIS_ERR_TRY_AGAIN);
        EXPECT(SA_AIS_OK, error);
    }
    SaTimeT until = now_ns() + PATIENCE;
    while (__atomic_load_n(&total, __ATOMIC_ACQUIRE) < CALLS && now_ns() < until) poll(NULL, 0, 5);
    HOLDS(total == CALLS);
    for (int i = 0; i < CALLS; i++) HOLDS(called[i] == 1);
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(kept));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

/* Threads that block on a handle nothing happens with. */
static void waking(void)
{
    for (int round = 0; round < 50; round++) {
        handle = start(NULL, 2);
        pthread_t threads[3];
        for (int i = 0; i < 3; i++) HOLDS(pthread_create(&threads[i], NULL, blocking, NULL) == 0);
        /* Long enough for some to be inside. */
        poll(NULL, 0, 10);
        EXPECT(SA_AIS_OK, saCkptFinalize(handle));
        for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    }
}

static SaCkptCheckpointHandleT shared;
static int stop;

/* A section of its own: every read finds the last write. */
static void *own_section(void *argument)
{
    int number = (int)(intptr_t)argument;
    char id[16];
    snprintf(id, sizeof id, "t%d", number);
    MUST(SA_AIS_OK, create_section(shared, id, NULL, 0));
    for (uint64_t value = 1; value <= 1500; value++) {
        EXPECT(SA_AIS_OK, overwrite(shared, id, &value, sizeof value));
        uint64_t found = 0;
        SaCkptIOVectorElementT element = piece(id, &found, sizeof found, 0);
        EXPECT(SA_AIS_OK, saCkptCheckpointRead(shared, &element, 1, NULL));
        if (!HOLDS(found == value)) return NULL;
    }
    return NULL;
}

/* One section for all: a read finds one of the writes, whole. */
static void *common_section(void *argument)
{
    unsigned char data[4096], back[4096];
    memset(data, (int)(intptr_t)argument + 1, sizeof data);
    for (int i = 0; i < 300; i++) {
        EXPECT(SA_AIS_OK, write_section(shared, "common", data, sizeof data, 0));
        SaCkptIOVectorElementT element = piece("common", back, sizeof back, 0);
        EXPECT(SA_AIS_OK, saCkptCheckpointRead(shared, &element, 1, NULL));
        HOLDS(element.readSize == sizeof back && back[0] != 0 && memcmp(back, back + 1, sizeof back - 1) == 0);
    }
    return NULL;
}

/* Opens, walks and finalises handles of its own meanwhile. */
static void *coming_and_going(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        SaCkptHandleT own = start(NULL, 2);
        SaCkptCheckpointHandleT checkpoint = opened(own, "safCkpt=shared", READ_WRITE);
        SaCkptSectionIterationHandleT walk = 0;
        SaCkptSectionDescriptorT section;
        EXPECT(SA_AIS_OK, saCkptSectionIterationInitialize(checkpoint, SA_CKPT_SECTIONS_ANY, 0, &walk));
        while (saCkptSectionIterationNext(walk, &section) == SA_AIS_OK) continue;
        EXPECT(SA_AIS_OK, saCkptFinalize(own));
    }
    return NULL;
}

static void working(void)
{
    handle = start(NULL, 2);
    static const SaUint32T ways[] = {
        SA_CKPT_WR_ALL_REPLICAS, SA_CKPT_WR_ACTIVE_REPLICA | SA_CKPT_CHECKPOINT_COLLOCATED,
        SA_CKPT_WR_ACTIVE_REPLICA_WEAK | SA_CKPT_CHECKPOINT_COLLOCATED,
    };
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
        shared = made(handle, "safCkpt=shared", attributes(ways[way], 16, 4096));
        if (ways[way] & SA_CKPT_CHECKPOINT_COLLOCATED) MUST(SA_AIS_OK, saCkptActiveReplicaSet(shared));
        static const char zero[4096];
        MUST(SA_AIS_OK, create_section(shared, "common", zero, 0));
        pthread_t threads[THREADS], visitor;
        stop = 0;
        HOLDS(pthread_create(&visitor, NULL, coming_and_going, NULL) == 0);
        for (int i = 0; i < THREADS; i++)
            HOLDS(pthread_create(&threads[i], NULL, i % 2 ? own_section : common_section, (void *)(intptr_t)i) == 0);
        for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
        __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
        pthread_join(visitor, NULL);
        EXPECT(SA_AIS_OK, saCkptCheckpointClose(shared));
    }
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
}

/* A handle that is closed while others use it: they get what there is, or that there is no such handle. */
static void *until_closed(void *unused)
{
    (void)unused;
    SaAisErrorT error;
    uint64_t value = 0;
    do {
        value++;
        error = overwrite(shared, "s", &value, sizeof value);
    } while (error == SA_AIS_OK);
    EXPECT(SA_AIS_ERR_BAD_HANDLE, error);
    return NULL;
}

static void closing(void)
{
    for (int round = 0; round < 20; round++) {
        handle = start(NULL, 2);
        shared = made(handle, "safCkpt=closing", attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64));
        MUST(SA_AIS_OK, create_section(shared, "s", NULL, 0));
        pthread_t threads[3];
        for (int i = 0; i < 3; i++) HOLDS(pthread_create(&threads[i], NULL, until_closed, NULL) == 0);
        poll(NULL, 0, 5);
        EXPECT(SA_AIS_OK, round % 2 ? saCkptFinalize(handle) : saCkptCheckpointClose(shared));
        for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
        if (round % 2 == 0) EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    }
}

int main(void)
{
    dispatching();
    waking();
    working();
    closing();
    return check_end();
}
