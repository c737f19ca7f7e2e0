/*
 * `librarykill FILE ROUNDS SEED`: kills a writer at random moments, from the making of the file on; each time the file
 * is wholly as one update left it, and no older than the last that was acknowledged.
 */
#include "check.h"
#include "safCkptLibrary.h"

static SaAisErrorT write_number(
    const SafCkptLibraryKeyT *key, const void *value, void **data, SaSizeT *size, void *cookie)
{
    (void)key, (void)cookie;
    *data = malloc(sizeof(SaUint64T));
    *size = sizeof(SaUint64T);
    memcpy(*data, value, sizeof(SaUint64T));
    return SA_AIS_OK;
}

/* The second version is large: it lies on pages of its own. */
static SaAisErrorT write_large(
    const SafCkptLibraryKeyT *key, const void *value, void **data, SaSizeT *size, void *cookie)
{
    (void)key, (void)cookie;
    *data = calloc(1, 9000);
    *size = 9000;
    memcpy(*data, value, sizeof(SaUint64T));
    return SA_AIS_OK;
}

static SaAisErrorT read_number(
    const SafCkptLibraryKeyT *key, const void *data, SaSizeT size, void *value, void *cookie)
{
    (void)key, (void)cookie;
    if (size < sizeof(SaUint64T)) return SA_AIS_ERR_MESSAGE_ERROR;
    memcpy(value, data, sizeof(SaUint64T));
    return SA_AIS_OK;
}

static const SafCkptLibrarySerialiserT numbers[] = {{1, write_number, read_number}, {2, write_large, read_number}};
static const SafCkptLibraryKeyT copy = {4, (const SaUint8T *)"copy"};

static void keep_writing(const char *path, SaUint64T number, int told)
{
    SafCkptLibraryHandleT library;
    SafCkptLibraryDataSetHandleT set;
    MUST(SA_AIS_OK, safCkptLibraryOpen(path, SAF_CKPT_LIBRARY_CREATE, &library));
    MUST(SA_AIS_OK, safCkptLibraryDataSetOpen(library, "numbers", numbers, 2, NULL, &set));
    for (;;) {
        number++;
        SaUint32T version = (SaUint32T)(number % 2 + 1);
        SafCkptLibraryChangeT changes[] = {
            {SAF_CKPT_LIBRARY_WRITE, version, set, NULL, &number},
            {SAF_CKPT_LIBRARY_WRITE, 3 - version, set, &copy, &number}};
        MUST(SA_AIS_OK, safCkptLibraryUpdate(library, changes, 2, NULL));
        if (write(told, &number, sizeof number) != sizeof number) exit(3);
    }
}

/* What is in the file; 0 if there is nothing yet. */
static SaUint64T kept(const char *path)
{
    SafCkptLibraryHandleT library;
    SafCkptLibraryDataSetHandleT set;
    SaUint64T value = 0, element = 0;
    SaAisErrorT code = safCkptLibraryOpen(path, 0, &library);
    if (code == SA_AIS_ERR_NOT_EXIST) return 0;
    MUST(SA_AIS_OK, code);
    MUST(SA_AIS_OK, safCkptLibraryDataSetOpen(library, "numbers", numbers, 2, NULL, &set));
    code = safCkptLibraryDataSetRead(set, &value);
    EXPECT(code, safCkptLibraryElementRead(set, &copy, &element));
    if (code != SA_AIS_ERR_NOT_EXIST) EXPECT(SA_AIS_OK, code);
    HOLDS(value == element);
    EXPECT(SA_AIS_OK, safCkptLibraryClose(library));
    return value;
}

int main(int count, char **arguments)
{
    if (count < 4) return 2;
    const char *path = arguments[1];
    unsigned seed = (unsigned)strtoul(arguments[3], NULL, 10);
    printf("seed %u\n", seed);
    SaUint64T last = 0, written = 0;
    for (long round = strtol(arguments[2], NULL, 10); round > 0; round--) {
        /* Two of three rounds make the file. */
        if (round % 3 != 0 && safCkptLibraryCheck(path) == SA_AIS_OK) {
            MUST(SA_AIS_OK, safCkptLibraryDelete(path));
            last = 0;
        }
        int told[2];
        if (pipe(told) != 0) return 3;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) keep_writing(path, last, told[1]);
        close(told[1]);
        struct timespec pause = {0, rand_r(&seed) % 20000000};
        nanosleep(&pause, NULL);
        kill(child, SIGKILL);
        int status = 0;
        HOLDS(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        SaUint64T acknowledged = last, number;
        while (read(told[0], &number, sizeof number) == sizeof number) acknowledged = number;
        close(told[0]);
        SaUint64T found = kept(path);
        HOLDS(found == acknowledged || found == acknowledged + 1);
        written += found - last;
        last = found;
    }
    printf("%llu updates\n", (unsigned long long)written);
    HOLDS(written > 0);
    return check_end();
}
