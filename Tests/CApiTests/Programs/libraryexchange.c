/* `libraryexchange write|read FILE`: leaves a library checkpoint for a program in Swift; finds what that has left. */
#include "check.h"
#include "safCkptLibrary.h"

/* Version 1 of the form: limit u32, little-endian. Version 2: limit · title, 16 bytes. */
typedef struct {
    SaUint32T limit;
    char title[16];
} Settings;

static SaAisErrorT serialise(const Settings *settings, SaSizeT size, void **data, SaSizeT *written)
{
    unsigned char *bytes = malloc(size);
    if (!bytes) return SA_AIS_ERR_NO_MEMORY;
    for (int i = 0; i < 4; i++) bytes[i] = (unsigned char)(settings->limit >> 8 * i);
    if (size > 4) memcpy(bytes + 4, settings->title, 16);
    *data = bytes;
    *written = size;
    return SA_AIS_OK;
}

static SaAisErrorT deserialise(const unsigned char *bytes, SaSizeT size, SaSizeT expected, Settings *settings)
{
    if (size != expected) return SA_AIS_ERR_MESSAGE_ERROR;
    memset(settings, 0, sizeof *settings);
    for (int i = 0; i < 4; i++) settings->limit |= (SaUint32T)bytes[i] << 8 * i;
    memcpy(settings->title, size > 4 ? (const char *)bytes + 4 : "old", size > 4 ? 16 : 4);
    return SA_AIS_OK;
}

#define VERSION(name, size)                                                                                            \
    static SaAisErrorT write_##name(                                                                                   \
        const SafCkptLibraryKeyT *key, const void *value, void **data, SaSizeT *written, void *cookie)                 \
    {                                                                                                                  \
        (void)key, (void)cookie;                                                                                       \
        return serialise(value, size, data, written);                                                                  \
    }                                                                                                                  \
    static SaAisErrorT read_##name(                                                                                    \
        const SafCkptLibraryKeyT *key, const void *data, SaSizeT count, void *value, void *cookie)                     \
    {                                                                                                                  \
        (void)key, (void)cookie;                                                                                       \
        return deserialise(data, count, size, value);                                                                  \
    }
VERSION(first, 4)
VERSION(second, 20)

static const SafCkptLibrarySerialiserT versions[] = {{1, write_first, read_first}, {2, write_second, read_second}};

static SafCkptLibraryHandleT library;
static SafCkptLibraryDataSetHandleT settings, raw;

static SafCkptLibraryKeyT key_of(const char *text)
{
    SafCkptLibraryKeyT key = {(SaUint16T)strlen(text), (const SaUint8T *)text};
    return key;
}

static void leave(void)
{
    Settings own = {7, "from C"};
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetWrite(settings, &own, 0));
    for (SaUint32T i = 0; i < 10; i++) {
        char name[8];
        snprintf(name, sizeof name, "k%u", (unsigned)i);
        SafCkptLibraryKeyT key = key_of(name);
        Settings element = {100 + i, "C"};
        EXPECT(SA_AIS_OK, safCkptLibraryElementWrite(settings, &key, &element, 1 + i % 2));
    }
    SafCkptLibraryBytesT bytes = {"bytes \0 of C", 12};
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetWrite(raw, &bytes, 0));
    SafCkptLibrarySerialiserT later[] = {{3, write_second, read_second}};
    SafCkptLibraryDataSetHandleT set = 0;
    MUST(SA_AIS_OK, safCkptLibraryDataSetOpen(library, "later", later, 1, NULL, &set));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetWrite(set, &own, 0));
}

static int has(const SafCkptLibraryKeyT *key, SaUint32T version, SaUint32T limit, const char *title)
{
    Settings found = {0, ""};
    SaUint32T in = 0;
    if (key) {
        EXPECT(SA_AIS_OK, safCkptLibraryElementCheck(settings, key, &in));
        EXPECT(SA_AIS_OK, safCkptLibraryElementRead(settings, key, &found));
    } else {
        EXPECT(SA_AIS_OK, safCkptLibraryDataSetCheck(settings, &in));
        EXPECT(SA_AIS_OK, safCkptLibraryDataSetRead(settings, &found));
    }
    return in == version && found.limit == limit && strcmp(found.title, title) == 0;
}

static void find(void)
{
    SafCkptLibraryKeyT gone = key_of("k0"), old = key_of("k2"), fresh = key_of("k10");
    HOLDS(has(NULL, 1, 8, "old"));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryElementCheck(settings, &gone, NULL));
    HOLDS(has(&old, 1, 102, "old"));
    HOLDS(has(&fresh, 2, 110, "Swift"));
    SafCkptLibraryBytesT bytes = {NULL, 0};
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetRead(raw, &bytes));
    HOLDS(bytes.dataSize == 5 && memcmp(bytes.data, "Swift", 5) == 0);
    free(bytes.data);
    SafCkptLibraryDataSetHandleT set = 0;
    MUST(SA_AIS_OK, safCkptLibraryDataSetOpen(library, "later", versions, 2, NULL, &set));
    Settings found;
    EXPECT(SA_AIS_ERR_VERSION, safCkptLibraryDataSetRead(set, &found));
}

int main(int count, char **arguments)
{
    if (count < 3) return 2;
    int writes = strcmp(arguments[1], "write") == 0;
    MUST(SA_AIS_OK, safCkptLibraryOpen(arguments[2], writes ? SAF_CKPT_LIBRARY_CREATE : 0, &library));
    MUST(SA_AIS_OK, safCkptLibraryDataSetOpen(library, "settings", versions, 2, NULL, &settings));
    MUST(SA_AIS_OK, safCkptLibraryDataSetOpen(library, "raw", NULL, 0, NULL, &raw));
    if (writes)
        leave();
    else
        find();
    EXPECT(SA_AIS_OK, safCkptLibraryClose(library));
    return check_end();
}
