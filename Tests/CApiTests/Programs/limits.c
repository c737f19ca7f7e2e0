/* A process at its limits: no descriptors, many handles, many opens. */
#include "check.h"

#include <sys/resource.h>

static void noDescriptors(void)
{
    struct rlimit limit, none;
    HOLDS(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = limit;
    none.rlim_cur = 3;
    HOLDS(setrlimit(RLIMIT_NOFILE, &none) == 0);
    SaCkptHandleT handle = 55;
    SaVersionT version = version_of('B', 2, 2);
    EXPECT(SA_AIS_ERR_NO_RESOURCES, saCkptInitialize(&handle, NULL, &version));
    HOLDS(handle == 55);
    HOLDS(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    version = version_of('B', 2, 2);
    MUST(SA_AIS_OK, saCkptInitialize(&handle, NULL, &version));
    SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=limits", attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64));

    /* What is open goes on without new ones, too. */
    HOLDS(setrlimit(RLIMIT_NOFILE, &none) == 0);
    EXPECT(SA_AIS_OK, create_section(checkpoint, "s", "1", 1));
    HOLDS(holds(checkpoint, "s", "1", 1));
    HOLDS(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
}

static void many(void)
{
    enum { COUNT = 3000 };
    static SaCkptCheckpointHandleT checkpoints[COUNT];
    SaCkptHandleT handle = start(NULL, 2);
    for (int i = 0; i < COUNT; i++)
        checkpoints[i] = made(handle, "safCkpt=many", attributes(SA_CKPT_WR_ALL_REPLICAS, 1, 64));
    for (int i = 0; i < COUNT; i += 100) EXPECT(SA_AIS_OK, overwrite(checkpoints[i], "", &i, sizeof i));
    int last = COUNT - 100;
    HOLDS(holds(checkpoints[COUNT - 1], "", &last, sizeof last));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    for (int i = 0; i < COUNT; i += 100) EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptCheckpointClose(checkpoints[i]));
}

/* Leaves this process so many bytes of memory beside what it has; 0: no limit. */
static void leave(unsigned long bytes)
{
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    HOLDS(statm != NULL && fscanf(statm, "%lu", &pages) == 1);
    if (statm) fclose(statm);
    struct rlimit limit;
    HOLDS(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = bytes == 0 ? limit.rlim_max : pages * (unsigned long)sysconf(_SC_PAGESIZE) + bytes;
    HOLDS(setrlimit(RLIMIT_AS, &limit) == 0);
}

/* Several at once, and all: from the replica, and from the service. */
static void noMemoryForMany(SaCkptHandleT handle, char *data, unsigned long size)
{
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ALL_REPLICAS, 4, size);
    SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=memory of many", creation);
    EXPECT(SA_AIS_OK, create_section(checkpoint, "a", data, size));
    EXPECT(SA_AIS_OK, create_section(checkpoint, "b", "small", 5));
    char some[8];
    SaCkptIOVectorElementT elements[2] = {piece("a", some, sizeof some, 0), piece("b", some, sizeof some, 0)};
    SaUint32T index = 77, count = 77;
    SafCkptSectionT *sections = NULL;
    SaUint64T change = 77;
    SafCkptChangeT changes[2] = {0};
    for (int i = 0; i < 2; i++) {
        changes[i].kind = SAF_CKPT_SECTION_OVERWRITTEN;
        changes[i].sectionId = id_of(i == 0 ? "a" : "b");
        changes[i].data = data;
        changes[i].dataSize = size / 2;
    }
    EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, elements, 2, NULL)); /* it is mapped now */
    for (int room = 8; room <= 56; room += 16) {
        leave((unsigned long)room << 20);
        elements[0] = piece("b", NULL, 0, 0);
        elements[1] = piece("a", NULL, 0, 0);
        if (room < 40) {
            EXPECT(SA_AIS_ERR_NO_MEMORY, saCkptCheckpointRead(checkpoint, elements, 2, &index));
            HOLDS(elements[0].dataBuffer == NULL && elements[1].dataBuffer == NULL && index == 77);
        }
        /* The answer lies in memory of its own, and is copied to what is handed out: twice the size. */
        EXPECT(SA_AIS_ERR_NO_MEMORY, safCkptSectionsGet(checkpoint, &sections, &count, &change));
        HOLDS(sections == NULL && count == 77 && change == 77);
        if (room < 40) EXPECT(SA_AIS_ERR_NO_MEMORY, safCkptUpdate(checkpoint, changes, 2, &index, NULL));
        if (room < 40) EXPECT(SA_AIS_ERR_NO_MEMORY, overwrite(checkpoint, "a", data, size));
        HOLDS(index == 77 && holds(checkpoint, "b", "small", 5));
    }
    leave(0);
    EXPECT(SA_AIS_OK, safCkptSectionsGet(checkpoint, &sections, &count, &change));
    HOLDS(count == 2 && sections[0].descriptor.sectionSize == size && memcmp(sections[0].data, data, size) == 0);
    HOLDS(sections[1].descriptor.sectionSize == 5 && memcmp(sections[1].data, "small", 5) == 0);
    safCkptSectionsFree(sections);
    EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, elements, 2, NULL));
    HOLDS(elements[1].readSize == size && memcmp(elements[1].dataBuffer, data, size) == 0);
    for (int i = 0; i < 2; i++) free(elements[i].dataBuffer);
    EXPECT(SA_AIS_OK, safCkptUpdate(checkpoint, changes, 2, NULL, NULL));
}

/* Memory for what the library is to hand out is not to be had: said so, and nothing else is lost. */
static void noMemory(void)
{
    enum { SIZE = 40 << 20 }; /* malloc() never keeps so much for later */
    char *data = calloc(1, SIZE), some[8];
    if (!HOLDS(data != NULL)) return;
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=memory", attributes(SA_CKPT_WR_ALL_REPLICAS, 2, SIZE));
    EXPECT(SA_AIS_OK, create_section(checkpoint, "big", data, SIZE));
    noMemoryForMany(handle, data, SIZE);
    free(data);
    SaCkptIOVectorElementT element = piece("big", some, sizeof some, 0);
    EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, &element, 1, NULL)); /* it is mapped now */

    leave(8 << 20);
    SaUint32T index = 77;
    element = piece("big", NULL, 0, 0);
    EXPECT(SA_AIS_ERR_NO_MEMORY, saCkptCheckpointRead(checkpoint, &element, 1, &index));
    HOLDS(element.dataBuffer == NULL && index == 77);
    element = piece("big", some, sizeof some, 0);
    EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
    EXPECT(SA_AIS_OK, overwrite(checkpoint, "big", "small", 5));
    HOLDS(holds(checkpoint, "big", "small", 5));
    leave(0);
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
}

/* What one answer can not hold is refused; in parts it can be had. */
static void tooMuch(void)
{
    enum { SIZE = 30 << 20 };
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=much", attributes(SA_CKPT_WR_ALL_REPLICAS, 2, SIZE));
    SaCkptCheckpointHandleT reader = opened(handle, "safCkpt=much", SA_CKPT_CHECKPOINT_READ);
    MUST(SA_AIS_OK, create_section(checkpoint, "a", NULL, 0));
    MUST(SA_AIS_OK, create_section(checkpoint, "b", NULL, 0));
    MUST(SA_AIS_OK, write_section(checkpoint, "a", "1", 1, SIZE - 1));
    MUST(SA_AIS_OK, write_section(checkpoint, "b", "1", 1, SIZE - 1));
    SafCkptSectionT *sections = NULL;
    SaUint32T count = 0;
    EXPECT(SA_AIS_ERR_NO_RESOURCES, safCkptSectionsGet(reader, &sections, &count, NULL));
    HOLDS(sections == NULL);
    SaCkptIOVectorElementT *many = calloc(65537, sizeof *many);
    char some[8];
    for (int i = 0; i < 65537; i++) many[i] = piece("a", some, sizeof some, 0);
    EXPECT(SA_AIS_ERR_NO_RESOURCES, saCkptCheckpointRead(reader, many, 65537, NULL));
    EXPECT(SA_AIS_OK, saCkptCheckpointRead(reader, many, 3, NULL));
    free(many);
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
}

int main(void)
{
    noDescriptors();
    tooMuch();
    noMemory();
    many();
    return check_end();
}
