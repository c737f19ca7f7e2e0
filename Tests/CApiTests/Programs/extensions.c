/* Several sections in one call, whether something exists, overwriting where little changed, persistence. */
#include "check.h"

static SafCkptChangeT change(SafCkptChangeKindT kind, const char *id, const char *data, SaOffsetT offset)
{
    SafCkptChangeT change;
    memset(&change, 0, sizeof change);
    change.kind = kind;
    change.sectionId = id_of(id);
    change.data = data;
    change.dataSize = data ? strlen(data) : 0;
    change.dataOffset = offset;
    if (kind == SAF_CKPT_SECTION_CREATED) change.expirationTime = SA_TIME_END;
    return change;
}

static void updating(void)
{
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=update", attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64));
    SaCkptCheckpointHandleT reader = opened(handle, "safCkpt=update", SA_CKPT_CHECKPOINT_READ);
    SaUint32T index = 99;
    SaUint64T number = 0, next = 0;
    SafCkptChangeT changes[5] = {
        change(SAF_CKPT_SECTION_CREATED, "a", "first", 0), change(SAF_CKPT_SECTION_CREATED, "b", NULL, 0),
        change(SAF_CKPT_SECTION_WRITTEN, "a", "F", 0),     change(SAF_CKPT_SECTION_OVERWRITTEN, "b", "second", 0),
        change(SAF_CKPT_SECTION_CREATED, "c", "third", 0),
    };
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptUpdate(checkpoint, NULL, 1, &index, &number));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptUpdate(checkpoint, changes, 0, &index, &number));
    EXPECT(SA_AIS_ERR_ACCESS, safCkptUpdate(reader, changes, 5, &index, &number));
    HOLDS(number == 0);
    index = 99;
    EXPECT(SA_AIS_OK, safCkptUpdate(checkpoint, changes, 5, &index, &number));
    HOLDS(index == 99 && number > 0);
    HOLDS(holds(reader, "a", "First", 5) && holds(reader, "b", "second", 6) && holds(reader, "c", "third", 5));

    /* The last one can not be done: none is. */
    changes[0] = change(SAF_CKPT_SECTION_DELETED, "a", NULL, 0);
    changes[1] = change(SAF_CKPT_SECTION_OVERWRITTEN, "b", "B", 0);
    changes[2] = change(SAF_CKPT_SECTION_DELETED, "a", NULL, 0);
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptUpdate(checkpoint, changes, 3, &index, NULL));
    HOLDS(index == 2);
    HOLDS(holds(reader, "a", "First", 5) && holds(reader, "b", "second", 6));
    static const int kinds[] = {0, SAF_CKPT_SECTION_EXPIRED, 7, 8, 9, -1};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        changes[0].kind = (SafCkptChangeKindT)kinds[i];
        EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptUpdate(checkpoint, changes, 1, NULL, NULL));
    }
    /* Each as the function that does it alone. */
    changes[0] = change(SAF_CKPT_SECTION_OVERWRITTEN, "b", "B", 0);
    changes[1] = change(SAF_CKPT_SECTION_CREATED, "c", "", 0);
    EXPECT(SA_AIS_ERR_EXIST, safCkptUpdate(checkpoint, changes, 2, &index, NULL));
    HOLDS(index == 1 && holds(reader, "b", "second", 6));
    changes[0] = change(SAF_CKPT_SECTION_CREATED, "d", "", 0);
    changes[1] = change(SAF_CKPT_SECTION_CREATED, "e", "", 0);
    EXPECT(SA_AIS_ERR_NO_SPACE, safCkptUpdate(checkpoint, changes, 2, &index, NULL));
    HOLDS(index == 1);
    EXPECT(SA_AIS_ERR_INVALID_PARAM,
        safCkptUpdate(checkpoint, &(SafCkptChangeT){.kind = SAF_CKPT_SECTION_CREATED}, 1, NULL, NULL));
    SafCkptChangeT *many = calloc(65537, sizeof *many);
    for (int i = 0; i < 65537; i++) many[i] = change(SAF_CKPT_SECTION_WRITTEN, "b", "B", 0);
    EXPECT(SA_AIS_ERR_NO_RESOURCES, safCkptUpdate(checkpoint, many, 65537, NULL, NULL));
    free(many);
    /* Renamed, in one step. */
    changes[0] = change(SAF_CKPT_SECTION_DELETED, "a", NULL, 0);
    changes[1] = change(SAF_CKPT_SECTION_CREATED, "d", "First", 0);
    changes[2] = change(SAF_CKPT_SECTION_EXPIRATION_SET, "d", NULL, 0);
    changes[2].expirationTime = wall_ns() + SA_TIME_ONE_HOUR;
    EXPECT(SA_AIS_OK, safCkptUpdate(checkpoint, changes, 3, NULL, &next));
    HOLDS(next == number + 1);

    SafCkptSectionT *sections = (SafCkptSectionT *)1;
    SaUint32T count = 99;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptSectionsGet(reader, NULL, &count, &number));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptSectionsGet(reader, &sections, NULL, &number));
    SaCkptCheckpointHandleT writer = opened(handle, "safCkpt=update", SA_CKPT_CHECKPOINT_WRITE);
    EXPECT(SA_AIS_ERR_ACCESS, safCkptSectionsGet(writer, &sections, &count, &number));
    EXPECT(SA_AIS_OK, safCkptSectionsGet(reader, &sections, &count, &number));
    HOLDS(count == 3 && number == next);
    unsigned seen = 0;
    for (SaUint32T i = 0; i < count; i++) {
        const SaCkptSectionDescriptorT *is = &sections[i].descriptor;
        HOLDS(is->sectionId.idLen == 1 && is->sectionState == SA_CKPT_SECTION_VALID);
        HOLDS(is->lastUpdate > wall_ns() - SA_TIME_ONE_MINUTE);
        switch (is->sectionId.id[0]) {
        case 'b': seen |= is->sectionSize == 6 && memcmp(sections[i].data, "second", 6) == 0 ? 1 : 0; break;
        case 'c': seen |= is->sectionSize == 5 && memcmp(sections[i].data, "third", 5) == 0 ? 2 : 0; break;
        case 'd': seen |= is->expirationTime == changes[2].expirationTime ? 4 : 0; break;
        }
    }
    HOLDS(seen == 7);
    safCkptSectionsFree(sections);
    safCkptSectionsFree(NULL);

    SaCkptCheckpointHandleT empty = made(handle, "safCkpt=empty", attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64));
    sections = (SafCkptSectionT *)1;
    EXPECT(SA_AIS_OK, safCkptSectionsGet(empty, &sections, &count, NULL));
    HOLDS(count == 0 && sections == NULL);
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
}

static void checking(void)
{
    SaCkptHandleT handle = start(NULL, 1);
    SaNameT name = name_of("check"), none = name_of("none");
    SaCkptCheckpointHandleT checkpoint = made(handle, "check", attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64));
    SaCkptSectionIdT id = id_of("s"), other = id_of("other");
    MUST(SA_AIS_OK, create_section(checkpoint, "s", NULL, 0));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptCheckpointCheck(handle, NULL));
    EXPECT(SA_AIS_OK, safCkptCheckpointCheck(handle, &name));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptCheckpointCheck(handle, &none));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptSectionCheck(checkpoint, NULL));
    EXPECT(SA_AIS_OK, safCkptSectionCheck(checkpoint, &id));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptSectionCheck(checkpoint, &other));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
}

static void differing(void)
{
    enum { SIZE = 1 << 20 };
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=differ", attributes(SA_CKPT_WR_ALL_REPLICAS, 4, SIZE));
    SaCkptCheckpointHandleT other = opened(handle, "safCkpt=differ", READ_WRITE);
    SaCkptSectionIdT id = id_of("s"), none = id_of("none");
    unsigned char *data = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) data[i] = (unsigned char)(i >> 4);
    MUST(SA_AIS_OK, create_section(checkpoint, "s", NULL, 0));
    SaSizeT sent = 0;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptSectionOverwriteDifferential(checkpoint, NULL, data, SIZE, &sent));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptSectionOverwriteDifferential(checkpoint, &id, NULL, SIZE, &sent));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptSectionOverwriteDifferential(checkpoint, &id, data, SIZE + 1, &sent));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptSectionOverwriteDifferential(checkpoint, &none, data, SIZE, &sent));
    SaCkptCheckpointHandleT reader = opened(handle, "safCkpt=differ", SA_CKPT_CHECKPOINT_READ);
    EXPECT(SA_AIS_ERR_ACCESS, safCkptSectionOverwriteDifferential(reader, &id, data, SIZE, &sent));

    EXPECT(SA_AIS_OK, safCkptSectionOverwriteDifferential(checkpoint, &id, data, SIZE, &sent));
    HOLDS(sent > 0 && sent <= SIZE && holds(other, "s", data, SIZE));
    for (int i = 0; i < 20; i++) {
        data[(i * 51217) % SIZE] ^= 0x55;
        EXPECT(SA_AIS_OK, safCkptSectionOverwriteDifferential(checkpoint, &id, data, SIZE, &sent));
        HOLDS(sent > 0 && sent <= SIZE / 8);
        HOLDS(holds(other, "s", data, SIZE));
    }
    /* Nothing changed: nothing to send, and it is an update all the same. */
    EXPECT(SA_AIS_OK, safCkptSectionOverwriteDifferential(checkpoint, &id, data, SIZE, &sent));
    HOLDS(sent == 0 && holds(other, "s", data, SIZE));
    /* Whatever others did in between is replaced, too. */
    EXPECT(SA_AIS_OK, write_section(other, "s", "foreign", 7, 4000));
    EXPECT(SA_AIS_OK, safCkptSectionOverwriteDifferential(checkpoint, &id, data, SIZE, &sent));
    HOLDS(holds(other, "s", data, SIZE));
    EXPECT(SA_AIS_OK, overwrite(other, "s", "short", 5));
    EXPECT(SA_AIS_OK, safCkptSectionOverwriteDifferential(checkpoint, &id, data, SIZE / 2, NULL));
    HOLDS(holds(other, "s", data, SIZE / 2));
    EXPECT(SA_AIS_OK, safCkptSectionOverwriteDifferential(checkpoint, &id, data, 0, NULL));
    SaCkptCheckpointCreationAttributesT tight = attributes(SA_CKPT_WR_ALL_REPLICAS, 2, 64);
    tight.checkpointSize = 100;
    SaCkptCheckpointHandleT narrow = made(handle, "safCkpt=narrow", tight);
    MUST(SA_AIS_OK, create_section(narrow, "s", "1", 1));
    MUST(SA_AIS_OK, create_section(narrow, "t", data, 64));
    EXPECT(SA_AIS_ERR_NO_SPACE, safCkptSectionOverwriteDifferential(narrow, &id, data, 37, NULL));
    HOLDS(holds(narrow, "s", "1", 1));
    HOLDS(holds(other, "s", "", 0));
    free(data);
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
}

static void persisting(void)
{
    SaCkptHandleT handle = start(NULL, 2);
    SaNameT name = name_of("safCkpt=persist");
    SaCkptCheckpointHandleT checkpoint =
        made(handle, "safCkpt=persist", attributes(SA_CKPT_WR_ALL_REPLICAS | SAF_CKPT_PERSISTENT, 4, 64));
    SaCkptCheckpointDescriptorT status;
    EXPECT(SA_AIS_OK, create_section(checkpoint, "s", "kept", 4));
    EXPECT(SA_AIS_OK, saCkptCheckpointStatusGet(checkpoint, &status));
    HOLDS(status.checkpointCreationAttributes.creationFlags == (SA_CKPT_WR_ALL_REPLICAS | SAF_CKPT_PERSISTENT));
    HOLDS(holds(checkpoint, "s", "kept", 4));
    SaCkptCheckpointCreationAttributesT plain = attributes(SA_CKPT_WR_ALL_REPLICAS, 4, 64);
    SaCkptCheckpointHandleT other = 0;
    EXPECT(SA_AIS_ERR_EXIST, saCkptCheckpointOpen(handle, &name, &plain, ALL_FLAGS, PATIENCE, &other));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
}

int main(void)
{
    updating();
    checking();
    differing();
    persisting();
    return check_end();
}
