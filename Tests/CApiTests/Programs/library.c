/* `library FOLDER`: every function of safCkptLibrary.h, and every error that it names. */
#include "check.h"
#include "safCkptLibrary.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* The second version of the form has a title. */
typedef struct {
    SaUint32T limit;
    char title[16];
} Settings;

static int calls_of_cookie;

static SaAisErrorT write_first(
    const SafCkptLibraryKeyT *key, const void *value, void **data, SaSizeT *size, void *cookie)
{
    (void)key;
    ++*(int *)cookie;
    *data = malloc(4);
    *size = 4;
    memcpy(*data, &((const Settings *)value)->limit, 4);
    return SA_AIS_OK;
}

static SaAisErrorT read_first(
    const SafCkptLibraryKeyT *key, const void *data, SaSizeT size, void *value, void *cookie)
{
    (void)key, (void)cookie;
    if (size != 4) return SA_AIS_ERR_MESSAGE_ERROR;
    Settings *settings = value;
    memcpy(&settings->limit, data, 4);
    strcpy(settings->title, "old");
    return SA_AIS_OK;
}

static SaAisErrorT write_second(
    const SafCkptLibraryKeyT *key, const void *value, void **data, SaSizeT *size, void *cookie)
{
    (void)key;
    ++*(int *)cookie;
    *data = malloc(sizeof(Settings));
    *size = sizeof(Settings);
    memcpy(*data, value, sizeof(Settings));
    return SA_AIS_OK;
}

static SaAisErrorT read_second(
    const SafCkptLibraryKeyT *key, const void *data, SaSizeT size, void *value, void *cookie)
{
    (void)key, (void)cookie;
    if (size != sizeof(Settings)) return SA_AIS_ERR_MESSAGE_ERROR;
    memcpy(value, data, size);
    return SA_AIS_OK;
}

/* What a bad serialiser does: chosen by the value. */
enum { REFUSE = 1, TOO_MUCH, NOWHERE, NOTHING };

static SaAisErrorT write_badly(
    const SafCkptLibraryKeyT *key, const void *value, void **data, SaSizeT *size, void *cookie)
{
    (void)key, (void)cookie;
    switch (*(const int *)value) {
    case REFUSE: return SA_AIS_ERR_QUEUE_FULL;
    case TOO_MUCH:
        *data = malloc(1);
        *size = (SaSizeT)SAF_CKPT_LIBRARY_DATA_MAX + 1;
        return SA_AIS_OK;
    case NOWHERE: *size = 3; return SA_AIS_OK;
    default: return SA_AIS_OK;
    }
}

static SaAisErrorT read_badly(const SafCkptLibraryKeyT *key, const void *data, SaSizeT size, void *value, void *cookie)
{
    (void)key, (void)data, (void)value, (void)cookie;
    return size == 0 ? SA_AIS_ERR_QUEUE_NOT_AVAILABLE : SA_AIS_ERR_LIBRARY;
}

static const SafCkptLibrarySerialiserT first_only[] = {{1, write_first, read_first}};
static const SafCkptLibrarySerialiserT both[] = {{2, write_second, read_second}, {1, write_first, read_first}};
static const SafCkptLibrarySerialiserT bad[] = {{7, write_badly, read_badly}};

static SafCkptLibraryHandleT library;
static char path[512], other[512];

static SafCkptLibraryKeyT key_of(const char *text)
{
    SafCkptLibraryKeyT key = {(SaUint16T)strlen(text), (const SaUint8T *)text};
    return key;
}

static SafCkptLibraryDataSetHandleT set_of(const char *name, const SafCkptLibrarySerialiserT *all, SaUint32T count)
{
    SafCkptLibraryDataSetHandleT set = 0;
    MUST(SA_AIS_OK, safCkptLibraryDataSetOpen(library, name, all, count, &calls_of_cookie, &set));
    return set;
}

static void files(void)
{
    char long_path[5000];
    memset(long_path, 'x', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = 0;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryOpen(NULL, 0, &library));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryOpen("", 0, &library));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryOpen(long_path, 0, &library));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryOpen(path, SAF_CKPT_LIBRARY_CREATE, NULL));
    EXPECT(SA_AIS_ERR_BAD_FLAGS, safCkptLibraryOpen(path, 2, &library));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryOpen(path, 0, &library));
    EXPECT(SA_AIS_ERR_FAILED_OPERATION, safCkptLibraryOpen("/nowhere/at/all", SAF_CKPT_LIBRARY_CREATE, &library));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryCheck(NULL));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryCheck(path));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryDelete(""));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryDelete(path));

    MUST(SA_AIS_OK, safCkptLibraryOpen(path, SAF_CKPT_LIBRARY_CREATE, &library));
    SafCkptLibraryHandleT second = 0;
    EXPECT(SA_AIS_ERR_BUSY, safCkptLibraryOpen(path, 0, &second));
    EXPECT(SA_AIS_ERR_BUSY, safCkptLibraryDelete(path));
    EXPECT(SA_AIS_OK, safCkptLibraryCheck(path));
    MUST(SA_AIS_OK, safCkptLibraryOpen(other, SAF_CKPT_LIBRARY_CREATE, &second));
    EXPECT(SA_AIS_OK, safCkptLibraryClose(second));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryClose(second));
    EXPECT(SA_AIS_OK, safCkptLibraryDelete(other));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryCheck(other));

    /* Nobody's, be it somebody who died while making it: none, and nothing is made of it unasked. */
    struct stat status;
    int fd = open(other, O_CREAT | O_WRONLY, 0600);
    HOLDS(fd >= 0 && close(fd) == 0);
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryOpen(other, 0, &second));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryCheck(other));
    HOLDS(stat(other, &status) == 0 && status.st_size == 0);
    EXPECT(SA_AIS_OK, safCkptLibraryDelete(other));
    HOLDS(stat(other, &status) != 0);
    fd = open(other, O_CREAT | O_WRONLY, 0600);
    HOLDS(fd >= 0 && close(fd) == 0);
    MUST(SA_AIS_OK, safCkptLibraryOpen(other, SAF_CKPT_LIBRARY_CREATE, &second));
    EXPECT(SA_AIS_OK, safCkptLibraryClose(second));
    MUST(SA_AIS_OK, safCkptLibraryOpen(other, 0, &second));
    EXPECT(SA_AIS_OK, safCkptLibraryClose(second));
    EXPECT(SA_AIS_OK, safCkptLibraryDelete(other));

    /* None of ours: a file of other bytes is damaged, and one of another program is not touched. */
    fd = open(other, O_CREAT | O_WRONLY, 0600);
    HOLDS(fd >= 0 && write(fd, long_path, 4096) == 4096 && close(fd) == 0);
    EXPECT(SA_AIS_ERR_LIBRARY, safCkptLibraryOpen(other, 0, &second));
    EXPECT(SA_AIS_OK, safCkptLibraryDelete(other));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryCheck(other));
}

static void sets(void)
{
    SafCkptLibraryDataSetHandleT set = 0;
    char name[300];
    memset(name, 'n', sizeof name);
    name[256] = 0;
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryDataSetOpen(0, "settings", both, 2, NULL, &set));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryDataSetOpen(library, NULL, both, 2, NULL, &set));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryDataSetOpen(library, "", both, 2, NULL, &set));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryDataSetOpen(library, name, both, 2, NULL, &set));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryDataSetOpen(library, "settings", NULL, 1, NULL, &set));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryDataSetOpen(library, "settings", both, 2, NULL, NULL));
    SafCkptLibrarySerialiserT wrong[] = {both[0], both[1]};
    wrong[1].version = 2;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryDataSetOpen(library, "settings", wrong, 2, NULL, &set));
    wrong[1].version = 0;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryDataSetOpen(library, "settings", wrong, 2, NULL, &set));
    wrong[1] = both[1];
    wrong[1].serialise = NULL;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryDataSetOpen(library, "settings", wrong, 2, NULL, &set));
    wrong[1] = both[1];
    wrong[1].deserialise = NULL;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryDataSetOpen(library, "settings", wrong, 2, NULL, &set));
    name[255] = 0;
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetOpen(library, name, NULL, 0, NULL, &set));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryClose(set));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetClose(set));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryDataSetClose(set));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryDataSetClose(library));
}

static void versions(void)
{
    SafCkptLibraryDataSetHandleT old = set_of("settings", first_only, 1), new = set_of("settings", both, 2);
    Settings settings = {7, "dropped"}, found = {0, ""};
    SaUint32T version = 99;
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryDataSetRead(new, &found));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryDataSetCheck(new, &version));
    HOLDS(version == 99);
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetWrite(old, &settings, 0));
    HOLDS(calls_of_cookie == 1);
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetRead(new, &found));
    HOLDS(found.limit == 7 && strcmp(found.title, "old") == 0);
    settings.limit = 8;
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetWrite(new, &settings, 0));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetRead(new, &found));
    HOLDS(found.limit == 8 && strcmp(found.title, "dropped") == 0);
    EXPECT(SA_AIS_ERR_VERSION, safCkptLibraryDataSetRead(old, &found));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetCheck(old, &version));
    HOLDS(version == 2);
    /* The new program writes what the old one reads. */
    settings.limit = 9;
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetWrite(new, &settings, 1));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetRead(old, &found));
    HOLDS(found.limit == 9);
    EXPECT(SA_AIS_ERR_VERSION, safCkptLibraryDataSetWrite(new, &settings, 5));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetCheck(old, NULL));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryDataSetWrite(0, &settings, 0));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryDataSetRead(0, &settings));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryDataSetCheck(0, NULL));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryDataSetDelete(0));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetDelete(new));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetDelete(new));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryDataSetCheck(new, NULL));

    SafCkptLibraryDataSetHandleT worse = set_of("bad", bad, 1);
    int how = REFUSE;
    EXPECT(SA_AIS_ERR_QUEUE_FULL, safCkptLibraryDataSetWrite(worse, &how, 0));
    how = TOO_MUCH;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryDataSetWrite(worse, &how, 0));
    how = NOWHERE;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryDataSetWrite(worse, &how, 0));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryDataSetCheck(worse, NULL));
    how = NOTHING;
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetWrite(worse, &how, 7));
    EXPECT(SA_AIS_ERR_QUEUE_NOT_AVAILABLE, safCkptLibraryDataSetRead(worse, NULL));
    /* Another form of the same data set. */
    SafCkptLibraryBytesT bytes = {NULL, 0};
    EXPECT(SA_AIS_ERR_VERSION, safCkptLibraryDataSetRead(set_of("bad", NULL, 0), &bytes));
}

static void raw(void)
{
    SafCkptLibraryDataSetHandleT set = set_of("raw", NULL, 0);
    SafCkptLibraryBytesT bytes = {"some bytes", 10}, found = {NULL, 0};
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryDataSetWrite(set, NULL, 0));
    EXPECT(SA_AIS_ERR_VERSION, safCkptLibraryDataSetWrite(set, &bytes, 2));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetWrite(set, &bytes, 1));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryDataSetRead(set, NULL));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetRead(set, &found));
    HOLDS(found.dataSize == 10 && memcmp(found.data, "some bytes", 10) == 0);
    free(found.data);
    bytes.dataSize = 0;
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetWrite(set, &bytes, 0));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetRead(set, &found));
    HOLDS(found.dataSize == 0 && found.data == NULL);
    bytes = (SafCkptLibraryBytesT){NULL, 1};
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryDataSetWrite(set, &bytes, 0));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryElementsRead(set, NULL, 0, NULL, NULL));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetDelete(set));
}

/* Elements as they were read: their number, and the key of the last. */
typedef struct {
    int count, stop_at;
    char last[8];
    SaUint32T sum;
} Walk;

static SaAisErrorT walk(const SafCkptLibraryKeyT *key, const void *data, SaSizeT size, void *value, void *cookie)
{
    (void)cookie;
    Walk *walked = value;
    if (walked->count == walked->stop_at) return SA_AIS_ERR_INTERRUPT;
    SaUint32T limit = 0;
    if (size < 4 || key == NULL || key->keyLen >= sizeof walked->last) return SA_AIS_ERR_MESSAGE_ERROR;
    memcpy(&limit, data, 4);
    memcpy(walked->last, key->key, key->keyLen);
    walked->last[key->keyLen] = 0;
    walked->sum += limit;
    walked->count++;
    return SA_AIS_OK;
}

static void elements(void)
{
    SafCkptLibraryDataSetHandleT set = set_of("set", both, 2), one = set_of("set", first_only, 1);
    SafCkptLibraryKeyT key = key_of("a"), none = {0, (const SaUint8T *)""}, nowhere = {1, NULL};
    static SaUint8T bytes[SAF_CKPT_LIBRARY_KEY_MAX + 1];
    SafCkptLibraryKeyT long_key = {sizeof bytes, bytes};
    Settings settings = {1, "one"}, found;
    SaUint32T version = 0, count = 0;
    const SafCkptLibraryKeyT *refused[] = {NULL, &none, &nowhere, &long_key};
    for (int i = 0; i < 4; i++) {
        EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryElementWrite(set, refused[i], &settings, 0));
        EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryElementRead(set, refused[i], &found));
        EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryElementCheck(set, refused[i], NULL));
        EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryElementDelete(set, refused[i]));
        if (i > 0) EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryElementsRead(set, refused[i], 0, NULL, NULL));
    }
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryElementWrite(7, &key, &settings, 0));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryElementRead(7, &key, &found));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryElementCheck(7, &key, NULL));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryElementDelete(7, &key));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryElementsRead(7, NULL, 0, NULL, NULL));
    long_key.keyLen--;
    EXPECT(SA_AIS_OK, safCkptLibraryElementWrite(set, &long_key, &settings, 0));
    EXPECT(SA_AIS_OK, safCkptLibraryElementDelete(set, &long_key));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryElementRead(set, &key, &found));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryElementCheck(set, &key, &version));
    EXPECT(SA_AIS_OK, safCkptLibraryElementDelete(set, &key));
    EXPECT(SA_AIS_ERR_VERSION, safCkptLibraryElementWrite(set, &key, &settings, 3));

    char name[8];
    for (SaUint32T i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "k%03u", (unsigned)i % 1000);
        key = key_of(name);
        settings.limit = i;
        EXPECT(SA_AIS_OK, safCkptLibraryElementWrite(set, &key, &settings, i % 2 + 1));
    }
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetCheck(set, &version));
    HOLDS(version == 0);
    key = key_of("k007");
    EXPECT(SA_AIS_OK, safCkptLibraryElementRead(set, &key, &found));
    HOLDS(found.limit == 7 && strcmp(found.title, "one") == 0);
    EXPECT(SA_AIS_OK, safCkptLibraryElementCheck(set, &key, &version));
    HOLDS(version == 2);
    EXPECT(SA_AIS_ERR_VERSION, safCkptLibraryElementRead(one, &key, &found));
    EXPECT(SA_AIS_ERR_VERSION, safCkptLibraryElementsRead(one, NULL, 0, &found, &count));
    HOLDS(count == 1);

    const SafCkptLibrarySerialiserT walking[] = {{1, write_first, walk}, {2, write_second, walk}};
    SafCkptLibraryDataSetHandleT all = set_of("set", walking, 2);
    Walk walked = {.stop_at = -1};
    EXPECT(SA_AIS_OK, safCkptLibraryElementsRead(all, NULL, 0, &walked, &count));
    HOLDS(count == 300 && walked.count == 300 && walked.sum == 299 * 300 / 2 && strcmp(walked.last, "k299") == 0);
    walked = (Walk){.stop_at = -1};
    EXPECT(SA_AIS_OK, safCkptLibraryElementsRead(all, &key, 5, &walked, NULL));
    HOLDS(walked.count == 5 && strcmp(walked.last, "k012") == 0);
    walked = (Walk){.stop_at = 3};
    EXPECT(SA_AIS_ERR_INTERRUPT, safCkptLibraryElementsRead(all, NULL, 0, &walked, &count));
    HOLDS(count == 3 && walked.count == 3);
    EXPECT(SA_AIS_OK, safCkptLibraryElementDelete(set, &key));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryElementCheck(set, &key, NULL));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetDelete(set));
    EXPECT(SA_AIS_OK, safCkptLibraryElementsRead(all, NULL, 0, &walked, &count));
    HOLDS(count == 0);
}

static void updates(void)
{
    SafCkptLibraryDataSetHandleT set = set_of("updated", both, 2), worse = set_of("bad", bad, 1);
    Settings one = {1, "one"}, two = {2, "two"}, found;
    int how = REFUSE;
    SafCkptLibraryKeyT a = key_of("a"), b = key_of("b"), none = {0, NULL};
    SaUint32T index = 99;
    SafCkptLibraryChangeT changes[] = {
        {SAF_CKPT_LIBRARY_WRITE, 0, set, NULL, &one}, {SAF_CKPT_LIBRARY_WRITE, 1, set, &a, &one},
        {SAF_CKPT_LIBRARY_WRITE, 0, worse, &b, &how}};
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryUpdate(0, changes, 3, &index));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryUpdate(library, NULL, 3, &index));
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryUpdate(library, changes, 0, &index));
    HOLDS(index == 99);
    EXPECT(SA_AIS_ERR_QUEUE_FULL, safCkptLibraryUpdate(library, changes, 3, &index));
    HOLDS(index == 2);
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryDataSetCheck(set, NULL));
    changes[2] = (SafCkptLibraryChangeT){SAF_CKPT_LIBRARY_WRITE, 9, set, NULL, &one};
    EXPECT(SA_AIS_ERR_VERSION, safCkptLibraryUpdate(library, changes, 3, NULL));
    changes[2] = (SafCkptLibraryChangeT){(SafCkptLibraryChangeKindT)3, 0, set, NULL, &one};
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryUpdate(library, changes, 3, NULL));
    changes[2] = (SafCkptLibraryChangeT){SAF_CKPT_LIBRARY_DELETE, 0, set, &none, NULL};
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryUpdate(library, changes, 3, NULL));
    changes[2] = (SafCkptLibraryChangeT){SAF_CKPT_LIBRARY_WRITE, 0, 0, NULL, &one};
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryUpdate(library, changes, 3, NULL));
    SafCkptLibraryHandleT second = 0;
    SafCkptLibraryDataSetHandleT foreign = 0;
    MUST(SA_AIS_OK, safCkptLibraryOpen(other, SAF_CKPT_LIBRARY_CREATE, &second));
    MUST(SA_AIS_OK, safCkptLibraryDataSetOpen(second, "updated", both, 2, &calls_of_cookie, &foreign));
    changes[2].dataSet = foreign;
    EXPECT(SA_AIS_ERR_INVALID_PARAM, safCkptLibraryUpdate(library, changes, 3, NULL));
    EXPECT(SA_AIS_OK, safCkptLibraryClose(second));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryDataSetRead(foreign, &found));
    EXPECT(SA_AIS_OK, safCkptLibraryDelete(other));

    EXPECT(SA_AIS_OK, safCkptLibraryUpdate(library, changes, 2, &index));
    EXPECT(SA_AIS_OK, safCkptLibraryElementRead(set, &a, &found));
    HOLDS(found.limit == 1 && strcmp(found.title, "old") == 0);
    /* A later change sees what earlier ones left. */
    SafCkptLibraryChangeT anew[] = {
        {SAF_CKPT_LIBRARY_WRITE, 0, set, &a, &two}, {SAF_CKPT_LIBRARY_DELETE, 0, set, NULL, NULL},
        {SAF_CKPT_LIBRARY_WRITE, 0, set, &b, &two}, {SAF_CKPT_LIBRARY_DELETE, 0, worse, &a, NULL}};
    EXPECT(SA_AIS_OK, safCkptLibraryUpdate(library, anew, 4, NULL));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryDataSetRead(set, &found));
    EXPECT(SA_AIS_ERR_NOT_EXIST, safCkptLibraryElementRead(set, &a, &found));
    EXPECT(SA_AIS_OK, safCkptLibraryElementRead(set, &b, &found));
    HOLDS(found.limit == 2);
}

/* No room: a limit on the size of files stands for a full disk, and says something else (EFBIG). */
static void failing(void)
{
    SafCkptLibraryDataSetHandleT set = set_of("large", NULL, 0);
    SafCkptLibraryBytesT small = {"small", 5}, large = {calloc(1, 4 << 20), 4 << 20}, found;
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetWrite(set, &small, 0));
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit, before;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 1 << 20;
    setrlimit(RLIMIT_FSIZE, &limit);
    SaAisErrorT code = safCkptLibraryDataSetWrite(set, &large, 0);
    setrlimit(RLIMIT_FSIZE, &before);
    HOLDS(code == SA_AIS_ERR_NO_SPACE || code == SA_AIS_ERR_FAILED_OPERATION);
    MUST(SA_AIS_OK, safCkptLibraryDataSetRead(set, &found));
    HOLDS(found.dataSize == 5 && memcmp(found.data, "small", 5) == 0);
    free(found.data);
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetWrite(set, &large, 0));
    free(large.data);
}

/* No memory. */
static void poor(void)
{
    enum { SIZE = 40 << 20 }; /* malloc() never keeps so much for later */
    SafCkptLibraryDataSetHandleT set = set_of("larger", NULL, 0), small = set_of("small", NULL, 0);
    SafCkptLibraryBytesT large = {calloc(1, SIZE), SIZE}, bytes = {"small", 5}, found = {NULL, 7};
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetWrite(set, &large, 0));
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    HOLDS(statm != NULL && fscanf(statm, "%lu", &pages) == 1);
    if (statm) fclose(statm);
    struct rlimit limit, before;
    getrlimit(RLIMIT_AS, &before);
    for (unsigned long room = 8; room < 140; room += 33) {
        limit = before;
        limit.rlim_cur = pages * (unsigned long)sysconf(_SC_PAGESIZE) + (room << 20);
        HOLDS(setrlimit(RLIMIT_AS, &limit) == 0);
        SaAisErrorT code = safCkptLibraryDataSetRead(set, &found);
        if (room < 40) HOLDS(code == SA_AIS_ERR_NO_MEMORY);
        HOLDS(code == SA_AIS_OK || (code == SA_AIS_ERR_NO_MEMORY && found.data == NULL && found.dataSize == 7));
        if (code == SA_AIS_OK) free(found.data);
        found = (SafCkptLibraryBytesT){NULL, 7};
        code = safCkptLibraryDataSetWrite(set, &large, 0);
        if (room < 40) HOLDS(code == SA_AIS_ERR_NO_MEMORY);
        HOLDS(code == SA_AIS_OK || code == SA_AIS_ERR_NO_MEMORY);
    }
    HOLDS(setrlimit(RLIMIT_AS, &before) == 0);
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetWrite(small, &bytes, 0));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetRead(set, &found));
    HOLDS(found.dataSize == SIZE && memcmp(found.data, large.data, SIZE) == 0);
    free(found.data);
    free(large.data);
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetDelete(set));
}

/* A child has none of its parent's handles, and may have files of its own. */
static void forked(void)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        check_failures = 0;
        SafCkptLibraryHandleT own = 0;
        EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryClose(library));
        EXPECT(SA_AIS_OK, safCkptLibraryOpen(other, SAF_CKPT_LIBRARY_CREATE, &own));
        EXPECT(SA_AIS_OK, safCkptLibraryClose(own));
        EXPECT(SA_AIS_OK, safCkptLibraryDelete(other));
        fflush(stdout);
        _exit(check_failures != 0);
    }
    int status = 1;
    HOLDS(waitpid(child, &status, 0) == child && status == 0);
}

/* Threads write their own elements, and read each other's, while one opens and closes data sets. */
static void *writer(void *argument)
{
    SaUint32T number = (SaUint32T)(uintptr_t)argument;
    SafCkptLibraryDataSetHandleT set = set_of("threads", first_only, 1);
    for (SaUint32T i = 1; i <= 40; i++) {
        SaUint32T mine = number;
        Settings settings = {i, ""}, found;
        SafCkptLibraryKeyT key = {4, (const SaUint8T *)&mine};
        EXPECT(SA_AIS_OK, safCkptLibraryElementWrite(set, &key, &settings, 0));
        EXPECT(SA_AIS_OK, safCkptLibraryElementRead(set, &key, &found));
        HOLDS(found.limit == i);
    }
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetClose(set));
    return NULL;
}

static SaAisErrorT count_only(
    const SafCkptLibraryKeyT *key, const void *value, void **data, SaSizeT *size, void *cookie)
{
    (void)key, (void)value, (void)data, (void)size, (void)cookie;
    return SA_AIS_OK;
}

static void threads(void)
{
    pthread_t all[4];
    for (uintptr_t i = 0; i < 4; i++) pthread_create(&all[i], NULL, writer, (void *)(i + 1));
    for (int i = 0; i < 4; i++) pthread_join(all[i], NULL);
    const SafCkptLibrarySerialiserT walking[] = {{1, count_only, walk}};
    Walk walked = {.stop_at = -1};
    SaUint32T count = 0;
    EXPECT(SA_AIS_OK, safCkptLibraryElementsRead(set_of("threads", walking, 1), NULL, 0, &walked, &count));
    HOLDS(count == 4 && walked.sum == 160);
}

/* What is damaged is told, and written anew. */
static void damaged(void)
{
    SafCkptLibraryDataSetHandleT set = set_of("damaged", NULL, 0);
    SafCkptLibraryBytesT bytes = {"to be spoilt, here", 18}, found;
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetWrite(set, &bytes, 0));
    MUST(SA_AIS_OK, safCkptLibraryClose(library));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryDataSetRead(set, &found));
    int fd = open(path, O_RDWR);
    struct stat status;
    HOLDS(fd >= 0 && fstat(fd, &status) == 0);
    char *content = malloc((size_t)status.st_size);
    HOLDS(pread(fd, content, (size_t)status.st_size, 0) == status.st_size);
    char *place = memmem(content, (size_t)status.st_size, "to be spoilt", 12);
    HOLDS(place != NULL && pwrite(fd, "T", 1, place - content) == 1);
    close(fd);
    free(content);
    MUST(SA_AIS_OK, safCkptLibraryOpen(path, 0, &library));
    set = set_of("damaged", NULL, 0);
    EXPECT(SA_AIS_ERR_LIBRARY, safCkptLibraryDataSetRead(set, &found));
    EXPECT(SA_AIS_ERR_LIBRARY, safCkptLibraryDataSetCheck(set, NULL));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetWrite(set, &bytes, 0));
    EXPECT(SA_AIS_OK, safCkptLibraryDataSetRead(set, &found));
    free(found.data);
}

int main(int count, char **arguments)
{
    if (count < 2) return 2;
    snprintf(path, sizeof path, "%s/state", arguments[1]);
    snprintf(other, sizeof other, "%s/other", arguments[1]);
    files();
    sets();
    versions();
    raw();
    elements();
    updates();
    failing();
    poor();
    forked();
    threads();
    damaged();
    EXPECT(SA_AIS_OK, safCkptLibraryClose(library));
    EXPECT(SA_AIS_ERR_BAD_HANDLE, safCkptLibraryClose(library));
    EXPECT(SA_AIS_OK, safCkptLibraryDelete(path));
    return check_end();
}
