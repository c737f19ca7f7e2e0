/* What every function says when the service is not as it should be. `everywhere killed PID`, `everywhere stopped PID`:
 * the service is ended, or stands still; `everywhere locked`: says "open", waits until this node is no member, and says
 * "done". Each function has a thread and a handle of its own, for each of them waits for some seconds. */
#include "check.h"

enum { SECTIONS = 300, PAGE = 256 };

/* A handle, and what a function may need of it. */
struct arena {
    SaCkptHandleT handle;
    SaCkptCheckpointHandleT checkpoint, untouched;
    SaCkptSectionIterationHandleT walk;
    SaNameT name, other;
    int opens, synchronisations;
    SaAisErrorT error;
};

/* The callbacks have no cookie. */
static __thread struct arena *mine;

static void on_open(SaInvocationT invocation, SaCkptCheckpointHandleT checkpoint, SaAisErrorT error)
{
    (void)invocation;
    (void)checkpoint;
    mine->error = CAME_BACK(saCkptCheckpointOpenAsync, error);
    mine->opens++;
}

static void on_synchronise(SaInvocationT invocation, SaAisErrorT error)
{
    (void)invocation;
    mine->error = CAME_BACK(saCkptCheckpointSynchronizeAsync, error);
    mine->synchronisations++;
}

static void on_track(SaCkptCheckpointHandleT checkpoint, SaCkptIOVectorElementT *vector, SaUint32T count)
{
    (void)checkpoint;
    (void)vector;
    (void)count;
}

static void on_event(SaCkptCheckpointHandleT checkpoint, const SafCkptEventT *event, void *cookie)
{
    (void)checkpoint;
    (void)event;
    (void)cookie;
}

static void on_replicas(
    SaCkptCheckpointHandleT checkpoint, SaUint64T epoch, const SafCkptReplicaT *replicas, SaUint32T count, void *cookie)
{
    (void)checkpoint;
    (void)epoch;
    (void)replicas;
    (void)count;
    (void)cookie;
}

#define FUNCTION(name) static SaAisErrorT name(struct arena *at)

FUNCTION(open_) { return saCkptCheckpointOpen(at->handle, &at->name, NULL, READ_WRITE, SA_TIME_ONE_SECOND, &at->walk); }
FUNCTION(open_async)
{
    SaAisErrorT error = saCkptCheckpointOpenAsync(at->handle, 1, &at->name, NULL, READ_WRITE);
    if (error != SA_AIS_OK) return error;
    DISPATCH_UNTIL(at->handle, at->opens == 1);
    return at->error;
}
FUNCTION(unlink_) { return saCkptCheckpointUnlink(at->handle, &at->other); }
FUNCTION(retention) { return saCkptCheckpointRetentionDurationSet(at->checkpoint, 0); }
FUNCTION(active) { return saCkptActiveReplicaSet(at->checkpoint); }
FUNCTION(status)
{
    SaCkptCheckpointDescriptorT status;
    return saCkptCheckpointStatusGet(at->checkpoint, &status);
}
FUNCTION(create) { return create_section(at->checkpoint, "new", "1", 1); }
FUNCTION(delete_)
{
    SaCkptSectionIdT id = id_of("s1");
    return saCkptSectionDelete(at->checkpoint, &id);
}
FUNCTION(expire)
{
    SaCkptSectionIdT id = id_of("s1");
    return saCkptSectionExpirationTimeSet(at->checkpoint, &id, SA_TIME_END);
}
FUNCTION(iterate)
{
    SaCkptSectionIterationHandleT walk = 0;
    return saCkptSectionIterationInitialize(at->checkpoint, SA_CKPT_SECTIONS_ANY, 0, &walk);
}
FUNCTION(next)
{
    SaCkptSectionDescriptorT section;
    return saCkptSectionIterationNext(at->walk, &section);
}
FUNCTION(write_) { return write_section(at->checkpoint, "s1", "2", 1, 0); }
FUNCTION(overwrite_) { return overwrite(at->checkpoint, "s1", "2", 1); }
FUNCTION(read_)
{
    char buffer[8];
    SaCkptIOVectorElementT element = piece("s1", buffer, sizeof buffer, 0);
    return saCkptCheckpointRead(at->untouched, &element, 1, NULL);
}
FUNCTION(synchronise) { return saCkptCheckpointSynchronize(at->checkpoint, SA_TIME_ONE_SECOND); }
FUNCTION(synchronise_async)
{
    SaAisErrorT error = saCkptCheckpointSynchronizeAsync(at->checkpoint, 1);
    if (error != SA_AIS_OK) return error;
    DISPATCH_UNTIL(at->handle, at->synchronisations == 1);
    return at->error;
}
FUNCTION(update)
{
    SafCkptChangeT change;
    memset(&change, 0, sizeof change);
    change.kind = SAF_CKPT_SECTION_DELETED;
    change.sectionId = id_of("s2");
    return safCkptUpdate(at->checkpoint, &change, 1, NULL, NULL);
}
FUNCTION(get)
{
    SafCkptSectionT *sections = NULL;
    SaUint32T count = 0;
    return safCkptSectionsGet(at->checkpoint, &sections, &count, NULL);
}
FUNCTION(check) { return safCkptCheckpointCheck(at->handle, &at->name); }
FUNCTION(check_section)
{
    SaCkptSectionIdT id = id_of("s1");
    return safCkptSectionCheck(at->checkpoint, &id);
}
FUNCTION(difference)
{
    SaCkptSectionIdT id = id_of("s1");
    return safCkptSectionOverwriteDifferential(at->checkpoint, &id, "3", 1, NULL);
}
FUNCTION(select_)
{
    SaSelectionObjectT object;
    return saCkptSelectionObjectGet(at->handle, &object);
}
FUNCTION(dispatch) { return saCkptDispatch(at->handle, SA_DISPATCH_ALL); }
FUNCTION(track) { return saCkptTrack(at->handle); }
FUNCTION(track_stop) { return saCkptTrackStop(at->handle); }
FUNCTION(track_one) { return saCkptCheckpointTrack(at->checkpoint); }
FUNCTION(track_one_stop) { return saCkptCheckpointTrackStop(at->checkpoint); }
FUNCTION(follow) { return safCkptUpdatesStart(at->checkpoint, on_event, NULL); }
FUNCTION(follow_stop) { return safCkptUpdatesStop(at->checkpoint); }
FUNCTION(replicas) { return safCkptReplicaChangesStart(at->checkpoint, on_replicas, NULL); }
FUNCTION(replicas_stop) { return safCkptReplicaChangesStop(at->checkpoint); }

static const struct {
    const char *name;
    SaAisErrorT (*call)(struct arena *at);
} table[] = {
#define ROW(function) {#function, function}
    ROW(open_), ROW(open_async), ROW(unlink_), ROW(retention), ROW(active), ROW(status), ROW(create), ROW(delete_),
    ROW(expire), ROW(iterate), ROW(next), ROW(write_), ROW(overwrite_), ROW(read_), ROW(synchronise),
    ROW(synchronise_async), ROW(update), ROW(get), ROW(check), ROW(check_section), ROW(difference),
    /* From here on nobody is asked. */
    ROW(select_), ROW(dispatch), ROW(track), ROW(track_stop), ROW(track_one), ROW(track_one_stop), ROW(follow),
    ROW(follow_stop), ROW(replicas), ROW(replicas_stop),
};
enum { ALL = sizeof table / sizeof *table, ASKING = 21 };

static struct arena arenas[ALL];
static SaAisErrorT wanted;

static void prepare(struct arena *at, int number)
{
    SaCkptCallbacksT_2 callbacks = {on_open, on_synchronise, on_track};
    SaVersionT version = version_of('B', 2, 3);
    MUST(SA_AIS_OK, saCkptInitialize_2(&at->handle, &callbacks, &version));
    char text[2][32];
    snprintf(text[0], sizeof text[0], "safCkpt=every %d", number);
    snprintf(text[1], sizeof text[1], "safCkpt=other %d", number);
    at->name = name_of(text[0]);
    at->other = name_of(text[1]);
    SaCkptCheckpointCreationAttributesT creation =
        attributes(SA_CKPT_WR_ACTIVE_REPLICA | SA_CKPT_CHECKPOINT_COLLOCATED, SECTIONS + 1, 64);
    at->checkpoint = made(at->handle, text[0], creation);
    MUST(SA_AIS_OK, saCkptActiveReplicaSet(at->checkpoint));
    made(at->handle, text[1], creation);
    at->untouched = opened(at->handle, text[0], READ_WRITE);
    for (int i = 0; i < SECTIONS; i++) {
        char id[16];
        snprintf(id, sizeof id, "s%d", i);
        MUST(SA_AIS_OK, create_section(at->checkpoint, id, "1", 1));
    }
    MUST(SA_AIS_OK, saCkptSectionIterationInitialize(at->checkpoint, SA_CKPT_SECTIONS_ANY, 0, &at->walk));
    SaCkptSectionDescriptorT section;
    for (int i = 0; i < PAGE; i++) MUST(SA_AIS_OK, saCkptSectionIterationNext(at->walk, &section));
}

static void *run(void *argument)
{
    size_t number = (size_t)argument;
    mine = &arenas[number];
    SaAisErrorT error = table[number].call(mine);
    if (!HOLDS(error == wanted)) printf("%s: %d instead of %d\n", table[number].name, (int)error, (int)wanted);
    return NULL;
}

static void run_all(size_t count, SaAisErrorT code)
{
    pthread_t threads[ALL];
    wanted = code;
    for (size_t i = 0; i < count; i++) HOLDS(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (size_t i = 0; i < count; i++) HOLDS(pthread_join(threads[i], NULL) == 0);
}

/* A killed process has closed what it had open when it is a zombie, or reaped. */
static int has_ended(pid_t process)
{
    char path[64], line[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)process);
    FILE *file = fopen(path, "r");
    if (file == NULL) return 1;
    if (fgets(line, sizeof line, file) == NULL) line[0] = 0;
    fclose(file);
    const char *name_end = strrchr(line, ')');
    return name_end == NULL || name_end[2] == 'Z' || name_end[2] == 'X';
}

int main(int count, char **arguments)
{
    if (count < 2) return 2;
    pid_t service = count > 2 ? (pid_t)atoi(arguments[2]) : 0;
    for (int i = 0; i < ALL; i++) prepare(&arenas[i], i);
    if (strcmp(arguments[1], "killed") == 0 && service > 0) {
        HOLDS(kill(service, SIGKILL) == 0);
        SaTimeT until = now_ns() + PATIENCE;
        while (!has_ended(service) && now_ns() < until) poll(NULL, 0, 5);
        for (int i = 0; i < ASKING; i++) {
            /* It has hung up, and that was heard: from here on nothing is sent. */
            HOLDS(readable(fd_of(arenas[i].handle), 30000));
            EXPECT(SA_AIS_OK, saCkptDispatch(arenas[i].handle, SA_DISPATCH_ALL));
        }
        run_all(ASKING, SA_AIS_ERR_TRY_AGAIN);
    } else if (strcmp(arguments[1], "stopped") == 0 && service > 0) {
        HOLDS(kill(service, SIGSTOP) == 0);
        run_all(ASKING, SA_AIS_ERR_TIMEOUT);
        HOLDS(kill(service, SIGCONT) == 0);
    } else if (strcmp(arguments[1], "locked") == 0) {
        printf("open\n");
        fflush(stdout);
        SaTimeT until = now_ns() + PATIENCE;
        /* Each handle has to hear of it. */
        for (int i = 0; i < ALL; i++)
            while (status(&arenas[i]) == SA_AIS_OK && now_ns() < until) poll(NULL, 0, 5);
        run_all(ALL, SA_AIS_ERR_UNAVAILABLE);
    } else {
        return 2;
    }
    for (int i = 0; i < ALL; i++) EXPECT(SA_AIS_OK, saCkptFinalize(arenas[i].handle));
    return check_end();
}
