/* Names in the extended form. `names on`: with SA_ENABLE_EXTENDED_NAMES=1 in the environment; `names off`: without. */
#define SA_EXTENDED_NAME_SOURCE
#include "check.h"

static char text[4096];

static const char *long_name(size_t length)
{
    memset(text, 'n', sizeof text);
    memcpy(text, "safCkpt=", 8);
    text[length] = 0;
    return text;
}

static SaAisErrorT try_name(SaCkptHandleT handle, const char *what)
{
    SaNameT name;
    saAisNameLend(what, &name);
    SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ALL_REPLICAS, 1, 64);
    SaCkptCheckpointHandleT checkpoint = 0;
    SaAisErrorT error = saCkptCheckpointOpen(handle, &name, &creation, ALL_FLAGS, PATIENCE, &checkpoint);
    if (error != SA_AIS_OK) return error;
    EXPECT(SA_AIS_OK, overwrite(checkpoint, "", what, strlen(what) < 64 ? strlen(what) : 64));
    EXPECT(SA_AIS_OK, safCkptCheckpointCheck(handle, &name));
    EXPECT(SA_AIS_OK, saCkptCheckpointUnlink(handle, &name));
    EXPECT(SA_AIS_OK, saCkptCheckpointClose(checkpoint));
    return error;
}

static void on_open(SaInvocationT invocation, SaCkptCheckpointHandleT checkpoint, SaAisErrorT error)
{
    (void)invocation;
    (void)checkpoint;
    (void)error;
    HOLDS(0);
}

/* A name that is none is refused at once, and nothing is called back. */
static SaAisErrorT try_async(SaUint8T major, const char *what)
{
    SaCkptCallbacksT callbacks = {on_open, NULL};
    SaCkptHandleT handle = start(&callbacks, major);
    SaNameT name;
    saAisNameLend(what, &name);
    SaAisErrorT error = saCkptCheckpointOpenAsync(handle, 1, &name, NULL, READ_WRITE);
    HOLDS(error != SA_AIS_OK && !readable(fd_of(handle), 20));
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    return error;
}

int main(int count, char **arguments)
{
    int on = count > 1 && strcmp(arguments[1], "on") == 0;
    SaNameT name;

    /* Short: the plain layout, with a NUL behind, whatever was there before. */
    memset(&name, 0xEE, sizeof name);
    char brief[] = "safCkpt=brief";
    saAisNameLend(brief, &name);
    memset(brief, 0, sizeof brief);
    HOLDS(strcmp(saAisNameBorrow(&name), "safCkpt=brief") == 0);
    HOLDS(((const uint16_t *)(const void *)&name)[0] == 13);
    HOLDS(memcmp((const char *)&name + 2, "safCkpt=brief", 14) == 0);
    saAisNameLend("", &name);
    HOLDS(strcmp(saAisNameBorrow(&name), "") == 0);
    saAisNameLend(long_name(255), &name);
    HOLDS(((const uint16_t *)(const void *)&name)[0] == 255);
    HOLDS(strlen(saAisNameBorrow(&name)) == 255 && saAisNameBorrow(&name) != text);

    /* Long: the mark, and the address at byte 8, as programs built elsewhere have it. */
    saAisNameLend(long_name(256), &name);
    HOLDS(((const uint16_t *)(const void *)&name)[0] == 0xCD2B);
    const char *stored;
    memcpy(&stored, (const char *)&name + 8, sizeof stored);
    HOLDS(stored == text);
    if (on) HOLDS(saAisNameBorrow(&name) == text);

    SaCkptHandleT b2 = start(NULL, 2), b1 = start(NULL, 1);
    EXPECT(SA_AIS_OK, try_name(b2, "safCkpt=brief"));
    EXPECT(SA_AIS_OK, try_name(b2, long_name(255)));
    if (on) {
        EXPECT(SA_AIS_OK, try_name(b2, long_name(256)));
        EXPECT(SA_AIS_OK, try_name(b1, long_name(256)));
        EXPECT(SA_AIS_ERR_TOO_BIG, try_name(b2, long_name(257)));
        EXPECT(SA_AIS_ERR_TOO_BIG, try_name(b2, long_name(2048)));
        EXPECT(SA_AIS_ERR_INVALID_PARAM, try_name(b1, long_name(257)));
        EXPECT(SA_AIS_ERR_INVALID_PARAM, try_name(b1, long_name(4000)));
        EXPECT(SA_AIS_ERR_TOO_BIG, try_async(2, long_name(257)));
        EXPECT(SA_AIS_ERR_INVALID_PARAM, try_async(1, long_name(257)));
        /* Long names that differ at their end only are two. */
        SaNameT other;
        static char twin[4096];
        memcpy(twin, long_name(256), 257);
        twin[255] = 'x';
        saAisNameLend(text, &name);
        saAisNameLend(twin, &other);
        SaCkptCheckpointCreationAttributesT creation = attributes(SA_CKPT_WR_ALL_REPLICAS, 1, 64);
        SaCkptCheckpointHandleT one = 0, two = 0;
        MUST(SA_AIS_OK, saCkptCheckpointOpen(b2, &name, &creation, ALL_FLAGS, PATIENCE, &one));
        EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptCheckpointCheck(b2, &other));
        MUST(SA_AIS_OK, saCkptCheckpointOpen(b2, &other, &creation, ALL_FLAGS, PATIENCE, &two));
        EXPECT(SA_AIS_OK, overwrite(one, "", "one", 3));
        EXPECT(SA_AIS_OK, overwrite(two, "", "two", 3));
        HOLDS(holds(one, "", "one", 3) && holds(two, "", "two", 3));
    } else {
        EXPECT(SA_AIS_ERR_INVALID_PARAM, try_name(b2, long_name(256)));
        EXPECT(SA_AIS_ERR_INVALID_PARAM, try_name(b1, long_name(2000)));
        EXPECT(SA_AIS_ERR_INVALID_PARAM, try_async(2, long_name(256)));
    }
    EXPECT(SA_AIS_OK, saCkptFinalize(b1));
    EXPECT(SA_AIS_OK, saCkptFinalize(b2));
    return check_end();
}
