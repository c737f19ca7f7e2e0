/* A section whose bytes are not what was written any more. `corrupted make` leaves one to be spoilt; `corrupted meet`
 * finds it so. */
#include "check.h"

static int make(void)
{
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ACTIVE_REPLICA_WEAK, 4, 65536);
    creation.retentionDuration = SA_TIME_END;
    SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=corrupted", creation);
    static char data[65536];
    memcpy(data, "these bytes are to be spoilt by the test", 40);
    MUST(SA_AIS_OK, create_section(checkpoint, "victim", data, 64));
    MUST(SA_AIS_OK, create_section(checkpoint, "other", "sound", 5));
    MUST(SA_AIS_OK, create_section(checkpoint, "noise", NULL, 0));
    /* The service's memory of recent changes goes round, so that the bytes stand in one place only. */
    for (int i = 0; i < 50; i++) {
        memset(data, i + 1, sizeof data);
        EXPECT(SA_AIS_OK, overwrite(checkpoint, "noise", data, i % 2 ? sizeof data : 900));
    }
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    return check_end();
}

static int walk(SaCkptCheckpointHandleT checkpoint, SaCkptSectionDescriptorT *section)
{
    SaCkptSectionIterationHandleT iteration = 0;
    MUST(SA_AIS_OK, saCkptSectionIterationInitialize(checkpoint, SA_CKPT_SECTIONS_CORRUPTED, 0, &iteration));
    int count = 0;
    SaCkptSectionDescriptorT found;
    while (saCkptSectionIterationNext(iteration, &found) == SA_AIS_OK) {
        *section = found;
        HOLDS(found.sectionId.idLen == 6 && memcmp(found.sectionId.id, "victim", 6) == 0);
        count++;
    }
    EXPECT(SA_AIS_OK, saCkptSectionIterationFinalize(iteration));
    return count;
}

static int meet(void)
{
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointHandleT checkpoint = opened(handle, "safCkpt=corrupted", READ_WRITE);
    char buffer[64];
    /* A write looks at what is there; whoever reads afterwards is told, too. */
    EXPECT(SA_AIS_ERR_LIBRARY, write_section(checkpoint, "victim", "x", 1, 0));
    SaCkptIOVectorElementT element = piece("victim", buffer, sizeof buffer, 0);
    EXPECT(SA_AIS_ERR_LIBRARY, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
    element = piece("victim", NULL, 0, 0);
    SaUint32T index = 9;
    EXPECT(SA_AIS_ERR_LIBRARY, saCkptCheckpointRead(checkpoint, &element, 1, &index));
    HOLDS(index == 0);
    SafCkptChangeT change;
    memset(&change, 0, sizeof change);
    change.kind = SAF_CKPT_SECTION_WRITTEN;
    change.sectionId = id_of("victim");
    change.data = "x";
    change.dataSize = 1;
    EXPECT(SA_AIS_ERR_LIBRARY, safCkptUpdate(checkpoint, &change, 1, NULL, NULL));
    HOLDS(holds(checkpoint, "other", "sound", 5));
    SaCkptSectionDescriptorT section;
    if (HOLDS(walk(checkpoint, &section) == 1)) HOLDS(section.sectionState == SA_CKPT_SECTION_CORRUPTED);

    /* Overwritten it is whole again. */
    EXPECT(SA_AIS_OK, overwrite(checkpoint, "victim", "repaired", 8));
    HOLDS(holds(checkpoint, "victim", "repaired", 8));
    HOLDS(walk(checkpoint, &section) == 0);
    EXPECT(SA_AIS_OK, saCkptCheckpointRetentionDurationSet(checkpoint, 0));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    return check_end();
}

int main(int count, char **arguments)
{
    return count > 1 && strcmp(arguments[1], "meet") == 0 ? meet() : make();
}
