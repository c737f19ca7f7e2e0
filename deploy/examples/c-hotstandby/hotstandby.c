/*
 * hotstandby.c - a ticket office that survives kill -9
 *
 *     cc -o hotstandby hotstandby.c $(pkg-config --cflags --libs saf-ckpt)
 *
 * Start it twice. One process sells tickets and writes each sale into a checkpoint; the other follows, and sells on
 * from the very next ticket when the first one dies. README.md walks through it.
 */
#include <safCkpt.h>

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- The office: what it knows, the same in the process that sells and in the one that stands by ---- */

struct totals {
    uint64_t sold;
    uint64_t takings;
};

static struct totals totals;
static char lastBuyer[32];

/* The sections it is kept in. */
static SaUint8T totalsName[] = "totals", buyerName[] = "last buyer";
static SaCkptSectionIdT totalsId = {sizeof totalsName - 1, totalsName};
static SaCkptSectionIdT buyerId = {sizeof buyerName - 1, buyerName};

static SaCkptHandleT service;
static SaCkptCheckpointHandleT checkpoint;

/* ---- Errors: what can be tried again is, and nothing else is survived. ---- */

static void check(SaAisErrorT error, const char *what)
{
    if (error == SA_AIS_OK) return;
    fprintf(stderr, "%s: error %d\n", what, (int)error);
    exit(1);
}

static int again(SaAisErrorT error)
{
    if (error != SA_AIS_ERR_TRY_AGAIN) return 0;
    poll(NULL, 0, 10);
    return 1;
}

/* ---- Beginning ---- */

/* Opens the checkpoint; whoever comes first makes it, with its two sections. */
static void openOffice(void)
{
    SaVersionT version = {'B', 2, 2};
    check(saCkptInitialize(&service, NULL, &version), "saCkptInitialize");

    SaNameT name;
    saAisNameLend("safCkpt=ticket-office", &name);
    SaCkptCheckpointCreationAttributesT attributes = {
        .creationFlags = SA_CKPT_WR_ALL_REPLICAS, /* a sale counts when every replica has it */
        .checkpointSize = 2 * sizeof lastBuyer,
        .retentionDuration = SA_TIME_ONE_HOUR, /* it is there for this long when nobody is */
        .maxSections = 2,
        .maxSectionSize = sizeof lastBuyer,
        .maxSectionIdSize = 16,
    };
    SaAisErrorT error;
    do error = saCkptCheckpointOpen(service, &name, &attributes,
           SA_CKPT_CHECKPOINT_CREATE | SA_CKPT_CHECKPOINT_READ | SA_CKPT_CHECKPOINT_WRITE, 10 * SA_TIME_ONE_SECOND,
           &checkpoint);
    while (again(error));
    check(error, "saCkptCheckpointOpen");

    struct { SaCkptSectionIdT *id; const void *data; SaSizeT size; } sections[] = {
        {&totalsId, &totals, sizeof totals}, {&buyerId, "", 0}};
    for (int i = 0; i < 2; i++) {
        SaCkptSectionCreationAttributesT section = {sections[i].id, SA_TIME_END};
        do error = saCkptSectionCreate(checkpoint, &section, sections[i].data, sections[i].size);
        while (again(error));
        if (error != SA_AIS_ERR_EXIST) check(error, "saCkptSectionCreate");
    }
}

/* ---- Standing by ---- */

/* A section is like this now. A snapshot tells of sections that were created, an update of what we write below. */
static void learn(const SafCkptChangeT *change)
{
    if (change->kind != SAF_CKPT_SECTION_CREATED && change->kind != SAF_CKPT_SECTION_WRITTEN) return;
    int isTotals = change->sectionId.idLen == totalsId.idLen;
    char *part = isTotals ? (char *)&totals : lastBuyer;
    SaSizeT room = isTotals ? sizeof totals : sizeof lastBuyer;
    if (change->dataSize == 0 || change->dataSize > room || change->dataOffset > room - change->dataSize) return;
    memcpy(part + change->dataOffset, change->data, change->dataSize);
}

/* Comes first with all there is, then with each sale: both sections of it in one event. */
static void onEvent(SaCkptCheckpointHandleT of, const SafCkptEventT *event, void *cookie)
{
    (void)of;
    (void)cookie;
    for (SaUint32T i = 0; i < event->numberOfChanges; i++) learn(&event->changes[i]);
}

/* Follows until the active process is gone: `active` is a connection to it, which its death closes. */
static void standBy(int active)
{
    SaSelectionObjectT updates;
    check(safCkptUpdatesStart(checkpoint, onEvent, NULL), "safCkptUpdatesStart");
    check(saCkptSelectionObjectGet(service, &updates), "saCkptSelectionObjectGet");
    printf("%d stands by\n", (int)getpid());
    struct pollfd wait[2] = {{(int)updates, POLLIN, 0}, {active, POLLIN, 0}};
    while (!(wait[1].revents & (POLLIN | POLLHUP))) {
        if (poll(wait, 2, -1) < 0 && errno != EINTR) check(SA_AIS_ERR_LIBRARY, "poll");
        check(saCkptDispatch(service, SA_DISPATCH_ALL), "saCkptDispatch");
    }
    check(safCkptUpdatesStop(checkpoint), "safCkptUpdatesStop");
    close(active);
}

/* ---- Being active ---- */

/* What was sold before: the end of the updates may not have been dispatched yet when the other one died. */
static void catchUp(void)
{
    SaCkptIOVectorElementT pieces[2] = {
        {.sectionId = totalsId, .dataBuffer = &totals, .dataSize = sizeof totals},
        {.sectionId = buyerId, .dataBuffer = lastBuyer, .dataSize = sizeof lastBuyer},
    };
    uint64_t known = totals.sold;
    SaAisErrorT error;
    do error = saCkptCheckpointRead(checkpoint, pieces, 2, NULL);
    while (again(error));
    check(error, "saCkptCheckpointRead");
    printf("%d is active, knew %" PRIu64 " of %" PRIu64 " tickets; the last went to \"%s\"\n", (int)getpid(), known,
        totals.sold, lastBuyer);
}

/* One ticket. When this returns it is sold, whoever dies now; before, it is not. */
static void sell(void)
{
    struct totals next = {totals.sold + 1, totals.takings + 12};
    char buyer[sizeof lastBuyer];
    memset(buyer, 0, sizeof buyer);
    snprintf(buyer, sizeof buyer, "customer %" PRIu64, next.sold);
    SaCkptIOVectorElementT pieces[2] = {
        {.sectionId = totalsId, .dataBuffer = &next, .dataSize = sizeof next},
        {.sectionId = buyerId, .dataBuffer = buyer, .dataSize = sizeof buyer},
    };
    SaAisErrorT error;
    do error = saCkptCheckpointWrite(checkpoint, pieces, 2, NULL);
    while (again(error));
    check(error, "saCkptCheckpointWrite");
    totals = next;
    memcpy(lastBuyer, buyer, sizeof buyer);
    printf("ticket %" PRIu64 "\n", totals.sold);
}

/* ---- Who is active ---- */

/*
 * Exactly one process of a machine can have this name, and the kernel takes it away with the process: it is active, and
 * the others are connected to it. (In a cluster this is the business of the availability manager, amfd.)
 */
static int takeName(int *connection)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *office = getenv("OFFICE");
    /* Sockets whose name begins with a zero byte are no files. */
    snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "hotstandby-%s", office ? office : "main");
    for (;;) {
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (listener < 0) check(SA_AIS_ERR_NO_RESOURCES, "socket");
        if (bind(listener, (struct sockaddr *)&address, sizeof address) == 0
            && listen(listener, 16) == 0)
            return 1;
        close(listener);
        *connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(*connection, (struct sockaddr *)&address, sizeof address) == 0) return 0;
        close(*connection); /* it died in between, or does not listen yet */
        poll(NULL, 0, 1);
    }
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    openOffice();
    int active = -1;
    while (!takeName(&active)) standBy(active);
    catchUp();
    for (;;) {
        sell();
        poll(NULL, 0, 100);
    }
}
