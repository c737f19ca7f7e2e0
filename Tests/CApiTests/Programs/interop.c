/* What programs in circulation do, and have found to work elsewhere. */
#include "check.h"

int main(void)
{
    /* Written for B.01.01: free-form names, a timeout of 0 or 10 ns, minor versions of all kinds. */
    SaCkptHandleT handle = 0;
    SaVersionT version = version_of('B', 1, 1);
    MUST(SA_AIS_OK, saCkptInitialize(&handle, NULL, &version));
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ALL_REPLICAS, 5, 1000);
    creation.retentionDuration = SA_TIME_END;
    SaNameT name;
    memset(&name, 0, sizeof name);
    name.length = 9;
    memcpy(name.value, "some name\0garbage behind the name", 33);
    SaCkptCheckpointHandleT checkpoint = 0, again = 0;
    MUST(SA_AIS_OK, saCkptCheckpointOpen(handle, &name, &creation, ALL_FLAGS, 0, &checkpoint));

    /* They open what exists with the attributes and CREATE, every time they start. What stands behind the name's length
     * is not part of it. */
    memset(name.value + 9, 0xEE, sizeof name.value - 9);
    EXPECT(SA_AIS_OK, saCkptCheckpointOpen(handle, &name, &creation, ALL_FLAGS, 10, &again));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(again));
    creation.retentionDuration = 0;
    EXPECT(SA_AIS_OK, saCkptCheckpointOpen(handle, &name, &creation, ALL_FLAGS, 0, &again));

    /* They create sections lazily, and take EXIST for success. */
    EXPECT(SA_AIS_OK, create_section(checkpoint, "lazy", "initial", 7));
    EXPECT(SA_AIS_ERR_EXIST, create_section(again, "lazy", "initial", 7));
    EXPECT(SA_AIS_OK, write_section(again, "lazy", "data", 4, 0));

    /* Ids are often text with its NUL counted, and the bytes are not kept by the caller. */
    char *brief = malloc(6);
    memcpy(brief, "nul\0x", 6);
    SaCkptSectionIdT id = {4, (SaUint8T *)brief};
    SaCkptSectionCreationAttributesT section = {&id, SA_TIME_END};
    EXPECT(SA_AIS_OK, saCkptSectionCreate(checkpoint, &section, "1", 1));
    memset(brief, 'z', 6);
    free(brief);
    char kept[] = "nul";
    id.id = (SaUint8T *)kept;
    EXPECT(SA_AIS_OK, saCkptSectionOverwrite(checkpoint, &id, "2", 1));

    /* They look at readSize and memoryUsed, and free() what the library made. */
    SaCkptIOVectorElementT element = piece("lazy", NULL, 0, 0);
    EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
    HOLDS(element.readSize == 7 && memcmp(element.dataBuffer, "dataial", 7) == 0);
    free(element.dataBuffer);
    SaCkptCheckpointDescriptorT status;
    EXPECT(SA_AIS_OK, saCkptCheckpointStatusGet(checkpoint, &status));
    HOLDS(status.memoryUsed == 8 && status.numberOfSections == 2);

    /* They read pieces that are longer than what is there, up to maxSectionSize. */
    char buffer[1000];
    element = piece("lazy", buffer, sizeof buffer, 0);
    EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
    HOLDS(element.readSize == 7);

    /* The upper half of a size that was passed as 32 bits is theirs to mind; an iovec array may be on the stack, with
     * readSize uninitialised. */
    SaCkptIOVectorElementT writes[3];
    memset(writes, 0xEE, sizeof writes);
    for (int i = 0; i < 3; i++) {
        writes[i].sectionId = id_of("lazy");
        writes[i].dataBuffer = buffer + i;
        writes[i].dataSize = 1;
        writes[i].dataOffset = (SaOffsetT)i;
    }
    SaUint32T index = 0;
    EXPECT(SA_AIS_OK, saCkptCheckpointWrite(checkpoint, writes, 3, &index));

    /* Both versions in one process, on one checkpoint. */
    SaCkptHandleT younger = start(NULL, 2);
    EXPECT(SA_AIS_ERR_INVALID_PARAM,
        saCkptCheckpointOpen(younger, &name, NULL, READ_WRITE, PATIENCE, &again));
    SaCkptCheckpointHandleT common = made(younger, "safCkpt=common", attributes(SA_CKPT_WR_ALL_REPLICAS, 1, 64));
    SaCkptCheckpointHandleT older = opened(handle, "safCkpt=common", READ_WRITE);
    EXPECT(SA_AIS_OK, overwrite(common, "", "both", 4));
    HOLDS(holds(older, "", "both", 4));
    EXPECT(SA_AIS_OK, saCkptFinalize(younger));

    /* Many end without closing anything. */
    EXPECT(SA_AIS_OK, saCkptCheckpointUnlink(handle, &name));
    return check_end();
}
