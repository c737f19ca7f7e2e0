/* Works on while ckptd is killed under it. `steady COUNTER`: COUNTER is a file of two words in memory: how many writes
 * were acknowledged, and whether it is time to end. Nothing acknowledged may be missing, and no call may say anything
 * but OK or TRY_AGAIN. */
#include "check.h"

#include <fcntl.h>
#include <sys/mman.h>

static SaCkptHandleT handle;
static SaCkptCheckpointHandleT checkpoint;
static uint64_t tries_again;

/* Calls until it is done; what it returns besides OK must be TRY_AGAIN. */
#define INSIST(call)                                                                                                   \
    do {                                                                                                               \
        SaAisErrorT error_;                                                                                            \
        while ((error_ = (call)) == SA_AIS_ERR_TRY_AGAIN) {                                                            \
            tries_again++;                                                                                             \
            poll(NULL, 0, 1);                                                                                          \
        }                                                                                                              \
        MUST(SA_AIS_OK, error_);                                                                                       \
    } while (0)

static int opens;
static void on_open(SaInvocationT invocation, SaCkptCheckpointHandleT other, SaAisErrorT error)
{
    (void)invocation;
    if (error != SA_AIS_ERR_TRY_AGAIN) {
        EXPECT(SA_AIS_OK, error);
        INSIST(saCkptCheckpointClose(other));
    }
    opens++;
}

int main(int count, char **arguments)
{
    if (count < 2) return 2;
    int file = open(arguments[1], O_RDWR);
    uint64_t *words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (!HOLDS(file >= 0 && words != MAP_FAILED)) return 1;
    SaCkptCallbacksT callbacks = {on_open, NULL};
    handle = start(&callbacks, 2);
    checkpoint = made(handle, "safCkpt=steady", attributes(SA_CKPT_WR_ALL_REPLICAS, 300, 1 << 16));
    INSIST(create_section(checkpoint, "value", NULL, 0));
    INSIST(create_section(checkpoint, "log", NULL, 0));
    uint64_t value = 0;
    int asked = 0;
    while (__atomic_load_n(&words[1], __ATOMIC_ACQUIRE) == 0) {
        value++;
        INSIST(overwrite(checkpoint, "value", &value, sizeof value));
        /* Both or neither. */
        SaCkptIOVectorElementT pair[2] = {
            piece("log", &value, sizeof value, (value % 4096) * sizeof value),
            piece("value", &value, sizeof value, sizeof value),
        };
        INSIST(saCkptCheckpointWrite(checkpoint, pair, 2, NULL));
        __atomic_store_n(&words[0], value, __ATOMIC_RELEASE);
        uint64_t found[2] = {0, 0};
        SaCkptIOVectorElementT element = piece("value", found, sizeof found, 0);
        INSIST(saCkptCheckpointRead(checkpoint, &element, 1, NULL));
        if (!HOLDS(found[0] == value && found[1] == value)) break;
        if (value % 64 == 0) {
            char id[16];
            snprintf(id, sizeof id, "s%u", (unsigned)(value / 64 % 200));
            SaCkptSectionIdT name = id_of(id);
            SaAisErrorT error;
            while ((error = saCkptSectionDelete(checkpoint, &name)) == SA_AIS_ERR_TRY_AGAIN) poll(NULL, 0, 1);
            HOLDS(error == SA_AIS_OK || error == SA_AIS_ERR_NOT_EXIST);
            INSIST(create_section(checkpoint, id, &value, sizeof value));
            SaNameT text = name_of("safCkpt=steady");
            if (asked == opens) {
                INSIST(saCkptCheckpointOpenAsync(handle, value, &text, NULL, READ_WRITE));
                asked++;
            }
            EXPECT(SA_AIS_OK, saCkptDispatch(handle, SA_DISPATCH_ALL));
        }
    }
    DISPATCH_UNTIL(handle, asked == opens);
    HOLDS(opens > 0);
    /* All of the log, from the present back. */
    static uint64_t log[4096];
    SaCkptIOVectorElementT element = piece("log", log, sizeof log < 1 << 16 ? sizeof log : 1 << 16, 0);
    INSIST(saCkptCheckpointRead(checkpoint, &element, 1, NULL));
    for (uint64_t back = 0; back < 4096 && back < value; back++) HOLDS(log[(value - back) % 4096] == value - back);
    printf("%llu written, %llu times TRY_AGAIN\n", (unsigned long long)value, (unsigned long long)tries_again);
    EXPECT(SA_AIS_OK, saCkptFinalize(handle));
    return check_end();
}
