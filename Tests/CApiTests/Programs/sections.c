/* Sections and their data: create, delete, expiration, iteration, write, overwrite, read. Every error each of them is
 * documented with, and the rules of its table. */
#include "check.h"

static SaCkptHandleT b1, b2;

static SaAisErrorT create_with(SaCkptCheckpointHandleT checkpoint, const char *text, SaTimeT expiration)
{
    SaCkptSectionIdT id = id_of(text);
    SaCkptSectionCreationAttributesT creation;
    creation.sectionId = &id;
    creation.expirationTime = expiration;
    return saCkptSectionCreate(checkpoint, &creation, NULL, 0);
}

static void creating(void)
{
    SaCkptCheckpointCreationAttributesT how = attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64);
    how.checkpointSize = 100;
    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=create", how);
    SaCkptCheckpointHandleT reader = opened(b2, "safCkpt=create", SA_CKPT_CHECKPOINT_READ);
    char data[128];
    memset(data, 'd', sizeof data);

    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptSectionCreate(checkpoint, NULL, data, 1));
    SaCkptSectionCreationAttributesT creation;
    creation.sectionId = NULL;
    creation.expirationTime = SA_TIME_END;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptSectionCreate(checkpoint, &creation, data, 1));
    SaCkptSectionIdT hollow = {3, NULL};
    creation.sectionId = &hollow;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptSectionCreate(checkpoint, &creation, data, 1));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, create_section(checkpoint, "12345678901234567", data, 1));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, create_section(checkpoint, "a", NULL, 1));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, create_section(checkpoint, "a", data, 65));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, create_section(checkpoint, "a", data, UINT64_MAX));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, create_with(checkpoint, "a", 1));
    EXPECT(SA_AIS_ERR_ACCESS, create_section(reader, "a", data, 1));

    EXPECT(SA_AIS_OK, create_section(checkpoint, "1234567890123456", data, 64));
    EXPECT(SA_AIS_ERR_EXIST, create_section(checkpoint, "1234567890123456", data, 1));
    EXPECT(SA_AIS_ERR_NO_SPACE, create_section(checkpoint, "a", data, 37));
    EXPECT(SA_AIS_OK, create_section(checkpoint, "a", data, 36));
    EXPECT(SA_AIS_OK, create_section(checkpoint, "b", NULL, 0));
    HOLDS(holds(reader, "b", "", 0));
    EXPECT(SA_AIS_OK, create_section(checkpoint, "c", data, 0));
    EXPECT(SA_AIS_ERR_EXIST, create_section(checkpoint, "c", data, 0));
    EXPECT(SA_AIS_ERR_NO_SPACE, create_section(checkpoint, "d", NULL, 0));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(reader));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

/* Ids are bytes, compared with their length. */
static void identity(void)
{
    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=identity", attributes(SA_CKPT_WR_ALL_REPLICAS, 8, 64));
    static SaUint8T bytes[] = {'a', 0, 'b'};
    SaCkptSectionIdT id = {1, bytes};
    SaCkptSectionCreationAttributesT creation;
    creation.sectionId = &id;
    creation.expirationTime = SA_TIME_END;
    for (SaUint16T length = 1; length <= 3; length++) {
        id.idLen = length;
        EXPECT(SA_AIS_OK, saCkptSectionCreate(checkpoint, &creation, &length, sizeof length));
    }
    for (SaUint16T length = 1; length <= 3; length++) {
        SaUint16T found = 0;
        SaCkptIOVectorElementT element;
        memset(&element, 0, sizeof element);
        element.sectionId.idLen = length;
        element.sectionId.id = bytes;
        element.dataBuffer = &found;
        element.dataSize = sizeof found;
        EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
        HOLDS(found == length);
    }
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

static void generating(void)
{
    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=generate", attributes(SA_CKPT_WR_ALL_REPLICAS, 100, 64));
    SaCkptSectionIdT ids[100];
    for (int i = 0; i < 100; i++) {
        SaCkptSectionIdT generated = SA_CKPT_GENERATED_SECTION_ID;
        SaCkptSectionCreationAttributesT creation;
        creation.sectionId = &generated;
        creation.expirationTime = SA_TIME_END;
        MUST(SA_AIS_OK, saCkptSectionCreate(checkpoint, &creation, &i, sizeof i));
        HOLDS(generated.idLen > 0 && generated.idLen <= 16 && generated.id != NULL);
        ids[i] = generated;
    }
    for (int i = 0; i < 100; i++) {
        int found = -1;
        SaCkptIOVectorElementT element;
        memset(&element, 0, sizeof element);
        element.sectionId = ids[i];
        element.dataBuffer = &found;
        element.dataSize = sizeof found;
        EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
        HOLDS(found == i);
        if (i % 2) free(ids[i].id);
        else EXPECT(SA_AIS_OK, saCkptSectionIdFree(checkpoint, ids[i].id));
    }
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptSectionIdFree(checkpoint, NULL));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

/* maxSections 1: one section, from the beginning, and it can not be made, deleted or given an end. */
static void defaultSection(void)
{
    SaCkptCheckpointHandleT checkpoint = made(b1, "default", attributes(SA_CKPT_WR_ALL_REPLICAS, 1, 64));
    SaCkptSectionIdT id = SA_CKPT_DEFAULT_SECTION_ID;
    SaCkptSectionCreationAttributesT creation;
    creation.sectionId = &id;
    creation.expirationTime = SA_TIME_END;
    EXPECT(SA_AIS_ERR_EXIST, saCkptSectionCreate(checkpoint, &creation, "x", 1));
    EXPECT(SA_AIS_ERR_EXIST, create_section(checkpoint, "other", "x", 1));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptSectionDelete(checkpoint, &id));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptSectionExpirationTimeSet(checkpoint, &id, SA_TIME_END));
    HOLDS(holds(checkpoint, "", "", 0));
    EXPECT(SA_AIS_OK, write_section(checkpoint, "", "data", 4, 2));
    HOLDS(holds(checkpoint, "", "\0\0data", 6));
    EXPECT(SA_AIS_OK, saCkptSectionOverwrite(checkpoint, &id, "all", 3));
    HOLDS(holds(checkpoint, "", "all", 3));
    EXPECT(SA_AIS_OK, saCkptSectionOverwrite(checkpoint, &id, NULL, 0));
    HOLDS(holds(checkpoint, "", "", 0));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));

    /* Where there may be several, there is none of that name. */
    checkpoint = made(b1, "default", attributes(SA_CKPT_WR_ALL_REPLICAS, 2, 64));
    EXPECT(SA_AIS_ERR_NOT_EXIST, write_section(checkpoint, "", "x", 1, 0));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

static void deleting(void)
{
    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=delete", attributes(SA_CKPT_WR_ALL_REPLICAS, 2, 64));
    SaCkptCheckpointHandleT reader = opened(b2, "safCkpt=delete", SA_CKPT_CHECKPOINT_READ);
    SaCkptSectionIdT id = id_of("s"), none = id_of("none");
    MUST(SA_AIS_OK, create_section(checkpoint, "s", "1", 1));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptSectionDelete(checkpoint, NULL));
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptSectionDelete(checkpoint, &none));
    EXPECT(SA_AIS_ERR_ACCESS, saCkptSectionDelete(reader, &id));
    EXPECT(SA_AIS_OK, saCkptSectionDelete(checkpoint, &id));
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptSectionDelete(checkpoint, &id));
    /* Its place is free. */
    EXPECT(SA_AIS_OK, create_section(checkpoint, "s", "2", 1));
    EXPECT(SA_AIS_OK, create_section(checkpoint, "t", "3", 1));
    HOLDS(holds(reader, "s", "2", 1));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(reader));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

static void expiring(void)
{
    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=expire", attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64));
    SaCkptCheckpointHandleT reader = opened(b2, "safCkpt=expire", SA_CKPT_CHECKPOINT_READ);
    SaCkptSectionIdT id = id_of("s"), none = id_of("none"), brief = id_of("brief");
    MUST(SA_AIS_OK, create_section(checkpoint, "s", "1", 1));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptSectionExpirationTimeSet(checkpoint, NULL, SA_TIME_END));
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptSectionExpirationTimeSet(checkpoint, &none, SA_TIME_END));
    EXPECT(SA_AIS_ERR_ACCESS, saCkptSectionExpirationTimeSet(reader, &id, SA_TIME_END));

    /* Absolute, also while it is open; afterwards there is none, at once. */
    SaTimeT end = wall_ns() + 300 * SA_TIME_ONE_MILLISECOND;
    MUST(SA_AIS_OK, create_with(checkpoint, "brief", end));
    EXPECT(SA_AIS_OK, overwrite(checkpoint, "brief", "x", 1));
    while (wall_ns() <= end + SA_TIME_ONE_MILLISECOND) poll(NULL, 0, 10);
    EXPECT(SA_AIS_ERR_NOT_EXIST, write_section(checkpoint, "brief", "y", 1, 0));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptSectionCheck(reader, &brief));
    char buffer[4];
    SaCkptIOVectorElementT element = piece("brief", buffer, 4, 0);
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptCheckpointRead(reader, &element, 1, NULL));
    EXPECT(SA_AIS_OK, create_section(checkpoint, "brief", "z", 1));
    HOLDS(holds(reader, "brief", "z", 1));

    /* It can be put off, and taken back. */
    EXPECT(SA_AIS_OK, saCkptSectionExpirationTimeSet(checkpoint, &brief, wall_ns() + SA_TIME_ONE_HOUR));
    EXPECT(SA_AIS_OK, saCkptSectionExpirationTimeSet(checkpoint, &brief, SA_TIME_END));
    HOLDS(holds(reader, "brief", "z", 1));
    EXPECT(SA_AIS_OK, saCkptSectionExpirationTimeSet(checkpoint, &brief, 1));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptSectionCheck(reader, &brief));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(reader));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

/* How many sections a walk finds. */
static int found(SaCkptCheckpointHandleT checkpoint, SaCkptSectionsChosenT chosen, SaTimeT time)
{
    SaCkptSectionIterationHandleT walk = 0;
    SaCkptSectionDescriptorT section;
    MUST(SA_AIS_OK, saCkptSectionIterationInitialize(checkpoint, chosen, time, &walk));
    int count = 0;
    SaAisErrorT error;
    while ((error = saCkptSectionIterationNext(walk, &section)) == SA_AIS_OK) count++;
    EXPECT(SA_AIS_ERR_NO_SECTIONS, error);
    EXPECT(SA_AIS_ERR_NO_SECTIONS, saCkptSectionIterationNext(walk, &section));
    EXPECT(SA_AIS_OK, saCkptSectionIterationFinalize(walk));
    return count;
}

static void iterating(void)
{
    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=iterate", attributes(SA_CKPT_WR_ALL_REPLICAS, 3000, 64));
    SaCkptSectionIterationHandleT walk = 0;
    SaCkptSectionDescriptorT section;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptSectionIterationInitialize(checkpoint, (SaCkptSectionsChosenT)0, 0, &walk));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptSectionIterationInitialize(checkpoint, (SaCkptSectionsChosenT)6, 0, &walk));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptSectionIterationInitialize(checkpoint, SA_CKPT_SECTIONS_ANY, 0, NULL));
    HOLDS(found(checkpoint, SA_CKPT_SECTIONS_ANY, 0) == 0);

    SaTimeT hour = wall_ns() + SA_TIME_ONE_HOUR;
    MUST(SA_AIS_OK, create_with(checkpoint, "early", hour));
    MUST(SA_AIS_OK, create_with(checkpoint, "late", 2 * hour));
    MUST(SA_AIS_OK, create_section(checkpoint, "ever", "123", 3));
    HOLDS(found(checkpoint, SA_CKPT_SECTIONS_ANY, 0) == 3);
    HOLDS(found(checkpoint, SA_CKPT_SECTIONS_FOREVER, 0) == 1);
    HOLDS(found(checkpoint, SA_CKPT_SECTIONS_LEQ_EXPIRATION_TIME, hour) == 1);
    HOLDS(found(checkpoint, SA_CKPT_SECTIONS_LEQ_EXPIRATION_TIME, hour - 1) == 0);
    HOLDS(found(checkpoint, SA_CKPT_SECTIONS_LEQ_EXPIRATION_TIME, 2 * hour) == 2);
    HOLDS(found(checkpoint, SA_CKPT_SECTIONS_GEQ_EXPIRATION_TIME, hour + 1) >= 1);
    HOLDS(found(checkpoint, SA_CKPT_SECTIONS_GEQ_EXPIRATION_TIME, hour) >= 2);
    HOLDS(found(checkpoint, SA_CKPT_SECTIONS_CORRUPTED, 0) == 0);

    MUST(SA_AIS_OK, saCkptSectionIterationInitialize(checkpoint, SA_CKPT_SECTIONS_FOREVER, 0, &walk));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptSectionIterationNext(walk, NULL));
    EXPECT(SA_AIS_OK, saCkptSectionIterationNext(walk, &section));
    HOLDS(section.sectionId.idLen == 4 && memcmp(section.sectionId.id, "ever", 4) == 0);
    HOLDS(section.sectionSize == 3 && section.expirationTime == SA_TIME_END);
    HOLDS(section.sectionState == SA_CKPT_SECTION_VALID);
    HOLDS(section.lastUpdate > wall_ns() - SA_TIME_ONE_MINUTE && section.lastUpdate <= wall_ns());
    EXPECT(SA_AIS_OK, saCkptSectionIterationFinalize(walk));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSectionIterationFinalize(walk));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, saCkptSectionIterationNext(walk, &section));

    /* What is there from the beginning to the end of a walk is found once, whatever comes and goes meanwhile. */
    enum { COUNT = 2500 };
    static int seen[COUNT];
    char id[16];
    for (int i = 0; i < COUNT; i++) {
        snprintf(id, sizeof id, "n%d", i);
        MUST(SA_AIS_OK, create_section(checkpoint, id, NULL, 0));
    }
    MUST(SA_AIS_OK, saCkptSectionIterationInitialize(checkpoint, SA_CKPT_SECTIONS_ANY, 0, &walk));
    int step = 0;
    while (saCkptSectionIterationNext(walk, &section) == SA_AIS_OK) {
        char text[17] = {0};
        memcpy(text, section.sectionId.id, section.sectionId.idLen);
        int number = -1;
        if (sscanf(text, "n%d", &number) == 1 && number >= 0 && number < COUNT) seen[number]++;
        if (step < 200) {
            /* Odd ones go, new ones come. */
            snprintf(id, sizeof id, "n%d", 2 * step + 1);
            SaCkptSectionIdT gone = id_of(id);
            EXPECT(SA_AIS_OK, saCkptSectionDelete(checkpoint, &gone));
            snprintf(id, sizeof id, "m%d", step);
            EXPECT(SA_AIS_OK, create_section(checkpoint, id, NULL, 0));
            step++;
        }
    }
    for (int i = 0; i < COUNT; i++) {
        int stayed = i % 2 == 0 || i >= 400;
        if (!HOLDS(stayed ? seen[i] == 1 : seen[i] <= 1)) printf("section %d was found %d times\n", i, seen[i]);
    }
    EXPECT(SA_AIS_OK, saCkptSectionIterationFinalize(walk));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

static void writing(void)
{
    SaCkptCheckpointCreationAttributesT how = attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64);
    how.checkpointSize = 120;
    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=write", how);
    SaCkptCheckpointHandleT reader = opened(b2, "safCkpt=write", SA_CKPT_CHECKPOINT_READ);
    char data[128];
    memset(data, 'd', sizeof data);
    MUST(SA_AIS_OK, create_section(checkpoint, "a", "abc", 3));
    MUST(SA_AIS_OK, create_section(checkpoint, "b", "ABC", 3));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointWrite(checkpoint, NULL, 1, NULL));
    SaCkptIOVectorElementT pair[2] = {piece("a", data, 1, 0), piece("b", data, 1, 0)};
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointWrite(checkpoint, pair, 0, NULL));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, write_section(checkpoint, "a", NULL, 1, 0));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, write_section(checkpoint, "a", data, 65, 0));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, write_section(checkpoint, "a", data, 1, 64));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, write_section(checkpoint, "a", data, 2, UINT64_MAX));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, write_section(checkpoint, "a", data, UINT64_MAX, 2));
    EXPECT(SA_AIS_ERR_NOT_EXIST, write_section(checkpoint, "none", data, 1, 0));
    EXPECT(SA_AIS_ERR_ACCESS, write_section(reader, "a", data, 1, 0));
    HOLDS(holds(reader, "a", "abc", 3));

    /* All or nothing, and the first that fails is named. */
    SaUint32T index = 99;
    pair[0] = piece("a", data, 1, 0);
    pair[1] = piece("none", data, 1, 0);
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptCheckpointWrite(checkpoint, pair, 2, &index));
    HOLDS(index == 1);
    HOLDS(holds(reader, "a", "abc", 3));
    index = 99;
    pair[0] = piece("a", data, 65, 0);
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointWrite(checkpoint, pair, 2, &index));
    HOLDS(index == 0);
    index = 99;
    pair[0] = piece("a", data, 64, 0);
    pair[1] = piece("b", data, 60, 0);
    EXPECT(SA_AIS_ERR_NO_SPACE, saCkptCheckpointWrite(checkpoint, pair, 2, &index));
    HOLDS(index == 1);
    HOLDS(holds(reader, "a", "abc", 3) && holds(reader, "b", "ABC", 3));

    /* In their order, also twice to one section; a gap is zero. */
    index = 99;
    pair[0] = piece("a", (void *)"xy", 2, 2);
    pair[1] = piece("a", (void *)"z", 1, 3);
    EXPECT(SA_AIS_OK, saCkptCheckpointWrite(checkpoint, pair, 2, &index));
    HOLDS(index == 99);
    HOLDS(holds(reader, "a", "abxz", 4));
    EXPECT(SA_AIS_OK, write_section(checkpoint, "a", "q", 1, 6));
    HOLDS(holds(reader, "a", "abxz\0\0q", 7));
    EXPECT(SA_AIS_OK, write_section(checkpoint, "a", data, 0, 0));
    HOLDS(holds(reader, "a", "abxz\0\0q", 7));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(reader));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

static void overwriting(void)
{
    SaCkptCheckpointCreationAttributesT how = attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64);
    how.checkpointSize = 100;
    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=overwrite", how);
    SaCkptCheckpointHandleT reader = opened(b2, "safCkpt=overwrite", SA_CKPT_CHECKPOINT_READ);
    char data[128];
    memset(data, 'd', sizeof data);
    MUST(SA_AIS_OK, create_section(checkpoint, "a", data, 64));
    MUST(SA_AIS_OK, create_section(checkpoint, "b", "ABC", 3));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptSectionOverwrite(checkpoint, NULL, data, 1));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, overwrite(checkpoint, "a", NULL, 1));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, overwrite(checkpoint, "a", data, 65));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, overwrite(checkpoint, "a", data, UINT64_MAX));
    EXPECT(SA_AIS_ERR_NOT_EXIST, overwrite(checkpoint, "none", data, 1));
    EXPECT(SA_AIS_ERR_ACCESS, overwrite(reader, "a", data, 1));
    EXPECT(SA_AIS_ERR_NO_SPACE, overwrite(checkpoint, "b", data, 37));
    HOLDS(holds(reader, "b", "ABC", 3));
    EXPECT(SA_AIS_OK, overwrite(checkpoint, "b", data, 36));
    EXPECT(SA_AIS_OK, overwrite(checkpoint, "a", "short", 5));
    HOLDS(holds(reader, "a", "short", 5));
    EXPECT(SA_AIS_OK, overwrite(checkpoint, "a", NULL, 0));
    HOLDS(holds(reader, "a", "", 0));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(reader));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

static void reading(void)
{
    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=read", attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64));
    SaCkptCheckpointHandleT writer = opened(b2, "safCkpt=read", SA_CKPT_CHECKPOINT_WRITE);
    char buffer[128];
    MUST(SA_AIS_OK, create_section(checkpoint, "a", "0123456789", 10));
    MUST(SA_AIS_OK, create_section(checkpoint, "e", NULL, 0));
    SaCkptIOVectorElementT element = piece("a", buffer, 10, 0);
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointRead(checkpoint, NULL, 1, NULL));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointRead(checkpoint, &element, 0, NULL));
    EXPECT(SA_AIS_ERR_ACCESS, saCkptCheckpointRead(writer, &element, 1, NULL));
    element = piece("a", buffer, 65, 0);
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
    element = piece("a", buffer, 1, 11);
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
    element = piece("a", buffer, 1, UINT64_MAX);
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
    element = piece("none", buffer, 1, 0);
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
    SaUint32T index = 99;
    SaCkptIOVectorElementT pair[2] = {piece("a", buffer, 4, 0), piece("none", buffer, 4, 0)};
    EXPECT(SA_AIS_ERR_NOT_EXIST, saCkptCheckpointRead(checkpoint, pair, 2, &index));
    HOLDS(index == 1);

    /* Into the caller's memory: not a byte more than there is or than was asked for. */
    memset(buffer, '-', sizeof buffer);
    element = piece("a", buffer, 64, 4);
    EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, &element, 1, &index));
    HOLDS(element.readSize == 6 && memcmp(buffer, "456789-", 7) == 0 && index == 1);
    memset(buffer, '-', sizeof buffer);
    element = piece("a", buffer, 3, 4);
    EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
    HOLDS(element.readSize == 3 && memcmp(buffer, "456-", 4) == 0);
    element = piece("a", buffer, 8, 10);
    EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
    HOLDS(element.readSize == 0);
    element = piece("e", buffer, 8, 0);
    element.readSize = 7;
    EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
    HOLDS(element.readSize == 0);

    /* Into memory of the library, whatever dataSize says. */
    pair[0] = piece("a", NULL, 1, 2);
    pair[1] = piece("a", NULL, 1000, 0);
    EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, pair, 2, NULL));
    HOLDS(pair[0].readSize == 8 && memcmp(pair[0].dataBuffer, "23456789", 8) == 0);
    HOLDS(pair[1].readSize == 10 && memcmp(pair[1].dataBuffer, "0123456789", 10) == 0);
    EXPECT(SA_AIS_ERR_INVALID_PARAM, saCkptIOVectorElementDataFree(checkpoint, NULL));
    EXPECT(SA_AIS_OK, saCkptIOVectorElementDataFree(checkpoint, pair[0].dataBuffer));
    free(pair[1].dataBuffer);
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(writer));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

/* CREATE alone allows neither. */
static void noAccess(void)
{
    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=access", attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64));
    MUST(SA_AIS_OK, create_section(checkpoint, "s", "1", 1));
    SaNameT name = name_of("safCkpt=access");
    SaCkptCheckpointCreationAttributesT how = attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64);
    SaCkptCheckpointHandleT creator = 0;
    MUST(SA_AIS_OK, saCkptCheckpointOpen(b2, &name, &how, SA_CKPT_CHECKPOINT_CREATE, PATIENCE, &creator));
    char buffer[4];
    SaCkptIOVectorElementT element = piece("s", buffer, 4, 0);
    EXPECT(SA_AIS_ERR_ACCESS, saCkptCheckpointRead(creator, &element, 1, NULL));
    EXPECT(SA_AIS_ERR_ACCESS, write_section(creator, "s", "2", 1, 0));
    SaCkptCheckpointDescriptorT status;
    EXPECT(SA_AIS_OK, saCkptCheckpointStatusGet(creator, &status));
    HOLDS(found(creator, SA_CKPT_SECTIONS_ANY, 0) == 1);
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(creator));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

/* Sizes around pages, and beyond what one message between the processes takes. */
static void sizes(void)
{
    enum { MOST = 8 << 20 };
    unsigned char *data = malloc(MOST), *back = malloc(MOST);
    if (!HOLDS(data != NULL && back != NULL)) exit(1);
    for (size_t i = 0; i < MOST; i++) data[i] = (unsigned char)((i * 2654435761u) >> 13);
    SaCkptCheckpointHandleT checkpoint = made(b2, "safCkpt=sizes", attributes(SA_CKPT_WR_ALL_REPLICAS, 2, MOST));
    MUST(SA_AIS_OK, create_section(checkpoint, "s", NULL, 0));
    static const SaSizeT table[] = {1, 511, 512, 513, 4095, 4096, 4097, 65535, 65536, 1 << 20, MOST - 1, MOST};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        EXPECT(SA_AIS_OK, overwrite(checkpoint, "s", data, table[i]));
        SaCkptIOVectorElementT element = piece("s", back, MOST, 0);
        memset(back, 0, table[i]);
        EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
        HOLDS(element.readSize == table[i] && memcmp(data, back, table[i]) == 0);
    }
    free(data);
    free(back);
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
}

int main(void)
{
    b1 = start(NULL, 1);
    b2 = start(NULL, 2);
    creating();
    identity();
    generating();
    defaultSection();
    deleting();
    expiring();
    iterating();
    writing();
    overwriting();
    reading();
    noAccess();
    sizes();
    return check_end();
}
