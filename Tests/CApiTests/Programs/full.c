/* The RAM file system is full: NO_SPACE for what needs more, and nothing that was there is lost. */
#include "check.h"

enum { SECTIONS = 64, SIZE = 60000 };
static char data[SIZE], names[SECTIONS][8];

int main(void)
{
    SaCkptHandleT handle = start(NULL, 2);
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
