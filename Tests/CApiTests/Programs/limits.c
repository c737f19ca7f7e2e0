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

/* Memory for what the library is to hand out is not to be had: said so, and nothing else is lost. */
static void noMemory(void)
{
    enum { SIZE = 40 << 20 }; /* malloc() never keeps so much for later */
    char *data = calloc(1, SIZE), some[8];
    if (!HOLDS(data != NULL)) return;
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=memory", attributes(SA_CKPT_WR_ALL_REPLICAS, 2, SIZE));
    EXPECT(SA_AIS_OK, create_section(checkpoint, "big", data, SIZE));
    free(data);
    SaCkptIOVectorElementT element = piece("big", some, sizeof some, 0);
    EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, &element, 1, NULL)); /* it is mapped now */

    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    HOLDS(statm != NULL && fscanf(statm, "%lu", &pages) == 1);
    if (statm) fclose(statm);
    struct rlimit limit, tight;
    HOLDS(getrlimit(RLIMIT_AS, &limit) == 0);
    tight = limit;
    tight.rlim_cur = pages * (unsigned long)sysconf(_SC_PAGESIZE) + (8 << 20);
    HOLDS(setrlimit(RLIMIT_AS, &tight) == 0);
    SaUint32T index = 77;
    element = piece("big", NULL, 0, 0);
    EXPECT(SA_AIS_ERR_NO_MEMORY, saCkptCheckpointRead(checkpoint, &element, 1, &index));
    HOLDS(element.dataBuffer == NULL && index == 77);
    element = piece("big", some, sizeof some, 0);
    EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
    EXPECT(SA_AIS_OK, overwrite(checkpoint, "big", "small", 5));
    HOLDS(holds(checkpoint, "big", "small", 5));
    HOLDS(setrlimit(RLIMIT_AS, &limit) == 0);
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
