/* The RAM file system is full: NO_SPACE for what needs more, and nothing that was there is lost. */
#include "check.h"

enum { SECTIONS = 64, SIZE = 60000 };
static char data[SIZE], names[SECTIONS][8];

static int opens;
static SaAisErrorT open_error;

static void on_open(SaInvocationT invocation, SaCkptCheckpointHandleT checkpoint, SaAisErrorT error)
{
    (void)invocation;
    (void)checkpoint;
    open_error = CAME_BACK(saCkptCheckpointOpenAsync, error);
    opens++;
}

int main(void)
{
    SaCkptCallbacksT callbacks = {on_open, NULL};
    SaCkptHandleT handle = start(&callbacks, 2);
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ALL_REPLICAS, SECTIONS, SIZE);
    SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=full", creation);
    EXPECT(SA_AIS_OK, create_section(checkpoint, "small", "here", 4));
    memset(data, 'd', sizeof data);
    int count = 0;
    SaAisErrorT error = SA_AIS_OK;
    while (error == SA_AIS_OK && count < SECTIONS - 1) {
        snprintf(names[count], sizeof names[count], "s%d", count);
        error = create_section(checkpoint, names[count], data, SIZE);
        if (error == SA_AIS_OK) count++;
    }
    EXPECT(SA_AIS_ERR_NO_SPACE, error);
    if (!HOLDS(count > 2 && count < SECTIONS - 1)) return check_end();

    SaCkptSectionIdT id = id_of(names[count]);
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptSectionCheck(checkpoint, &id));
    EXPECT(SA_AIS_ERR_NO_SPACE, overwrite(checkpoint, "small", data, SIZE));
    EXPECT(SA_AIS_ERR_NO_SPACE, write_section(checkpoint, "small", data, SIZE - 4, 4));
    HOLDS(holds(checkpoint, "small", "here", 4));
    /* Nor is there room for more checkpoints, once the last of it is gone. */
    SaNameT name;
    for (int i = 0; i < 2000 && error != SA_AIS_OK; i++) {
        char text[32];
        snprintf(text, sizeof text, "safCkpt=more %d", i);
        name = name_of(text);
        SaCkptCheckpointHandleT more = 0;
        error = saCkptCheckpointOpen(handle, &name, &creation, ALL_FLAGS, PATIENCE, &more);
        if (error != SA_AIS_OK) break;
        error = SA_AIS_ERR_NO_SPACE;
    }
    EXPECT(SA_AIS_ERR_NO_SPACE, error);
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptCheckpointCheck(handle, &name));
    EXPECT(SA_AIS_OK, saCkptCheckpointOpenAsync(handle, 1, &name, &creation, ALL_FLAGS));
    DISPATCH_UNTIL(handle, opens == 1);
    EXPECT(SA_AIS_ERR_NO_SPACE, open_error);
    for (int i = 0; i < count; i++) HOLDS(holds(checkpoint, names[i], data, SIZE));
    EXPECT(SA_AIS_OK, overwrite(checkpoint, "small", "HERE", 4));

    /* Room that is given back is room. */
    id = id_of(names[0]);
    EXPECT(SA_AIS_OK, saCkptSectionDelete(checkpoint, &id));
    EXPECT(SA_AIS_OK, create_section(checkpoint, "again", data, SIZE));
    HOLDS(holds(checkpoint, "small", "HERE", 4) && holds(checkpoint, "again", data, SIZE));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    return check_end();
}
