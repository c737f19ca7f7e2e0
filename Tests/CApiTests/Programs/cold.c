/* A persistent checkpoint and a plain one, before (`cold write`) and after (`cold read`) a start from nothing. */
#include "check.h"

int main(int count, char **arguments)
{
    SaCkptHandleT handle = start(NULL, 2);
    SaNameT kept = name_of("safCkpt=kept"), lost = name_of("safCkpt=lost");
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ALL_REPLICAS, 300, 4096);
    creation.retentionDuration = SA_TIME_END;
    unsigned char data[4096];
    if (count > 1 && strcmp(arguments[1], "write") == 0) {
        made(handle, "safCkpt=lost", creation);
        creation.creationFlags |= SAF_CKPT_PERSISTENT;
        SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=kept", creation);
        for (int i = 0; i < 200; i++) {
            char id[16];
            snprintf(id, sizeof id, "s%d", i);
            memset(data, i, sizeof data);
            EXPECT(SA_AIS_OK, create_section(checkpoint, id, data, (SaSizeT)(i * 20)));
        }
        SaCkptSectionIdT id = id_of("s7");
        EXPECT(SA_AIS_OK, saCkptSectionDelete(checkpoint, &id));
        EXPECT(SA_AIS_OK, write_section(checkpoint, "s8", "late", 4, 2));
        return check_end();
    }
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptCheckpointCheck(handle, &lost));
    MUST(SA_AIS_OK, safCkptCheckpointCheck(handle, &kept));
    SaCkptCheckpointHandleT checkpoint = opened(handle, "safCkpt=kept", READ_WRITE);
    for (int i = 0; i < 200; i++) {
        char id[16];
        snprintf(id, sizeof id, "s%d", i);
        memset(data, i, sizeof data);
        if (i == 8) memcpy(data + 2, "late", 4);
        SaCkptSectionIdT section = id_of(id);
        if (i == 7) EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptSectionCheck(checkpoint, &section));
        else HOLDS(holds(checkpoint, id, data, (SaSizeT)(i * 20)));
    }
    EXPECT(SA_AIS_OK, saCkptCheckpointUnlink(handle, &kept));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    return check_end();
}
