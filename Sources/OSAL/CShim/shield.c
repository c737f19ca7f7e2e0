/* Files that others may write, too: a descriptor that writes and cannot shorten the file, and memory of a file that
 * somebody has shortened nevertheless. A signal handler and a restricted thread cannot be Swift. */
#include "cosal.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* landlock(7), in no older kernel header. The numbers are the same on every architecture. */
#define LANDLOCK_CREATE_RULESET 444
#define LANDLOCK_RESTRICT_SELF 446
#define LANDLOCK_VERSION 1u
#define LANDLOCK_TRUNCATE (1ull << 14)

int cosal_can_forbid_cutting(void) {
    return syscall(LANDLOCK_CREATE_RULESET, (void *)0, (size_t)0, LANDLOCK_VERSION) >= 3;
}

struct opening {
    const char *path;
    int fd, error;
};

/* The right to truncate stays with what was opened, whoever has the descriptor; the restriction with the thread. */
static void *open_restricted(void *argument) {
    struct opening *opening = argument;
    uint64_t handled = LANDLOCK_TRUNCATE;
    opening->fd = -1;
    int rules = (int)syscall(LANDLOCK_CREATE_RULESET, &handled, sizeof handled, 0u);
    if (rules >= 0) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(LANDLOCK_RESTRICT_SELF, rules, 0u) == 0)
            opening->fd = open(opening->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        opening->error = errno;
        close(rules);
    } else {
        opening->error = errno;
    }
    return 0;
}

int cosal_open_without_cutting(const char *path) {
    struct opening opening = {path, -1, 0};
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&thread, 0, open_restricted, &opening);
    pthread_sigmask(SIG_SETMASK, &before, 0);
    if (code != 0) {
        errno = code;
        return -1;
    }
    pthread_join(thread, 0);
    if (opening.fd < 0) errno = opening.error;
    return opening.fd;
}

static struct shield {
    _Atomic uintptr_t start, end;
    atomic_int faults;
} shields[COSAL_SHIELDS];
static struct sigaction before_shields;
static uintptr_t page_bytes;

/* The page that is not there becomes one of zeroes, of this process alone, and what has touched it goes on. */
static void on_bus_error(int signal, siginfo_t *info, void *context) {
    (void)context;
    int error = errno;
    uintptr_t at = (uintptr_t)info->si_addr;
    for (int slot = 0; slot < COSAL_SHIELDS && info->si_code == BUS_ADRERR; slot++) {
        struct shield *shield = &shields[slot];
        if (at < atomic_load(&shield->start) || at >= atomic_load(&shield->end)) continue;
        void *page = (void *)(at & ~(page_bytes - 1));
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
        if (mmap(page, page_bytes, PROT_READ | PROT_WRITE, flags, -1, 0) != page) break;
        atomic_store(&shield->faults, 1);
        errno = error;
        return;
    }
    sigaction(signal, &before_shields, 0); /* It comes again, to whoever was there before. */
    errno = error;
}

static void install(void) {
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &before_shields);
}

int cosal_shield(void *start, size_t count) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
    for (int slot = 0; slot < COSAL_SHIELDS; slot++) {
        uintptr_t none = 0;
        if (!atomic_compare_exchange_strong(&shields[slot].start, &none, UINTPTR_MAX)) continue;
        atomic_store(&shields[slot].faults, 0);
        atomic_store(&shields[slot].end, (uintptr_t)start + count);
        atomic_store(&shields[slot].start, (uintptr_t)start);
        return slot;
    }
    return -1;
}

void cosal_unshield(int slot) {
    atomic_store(&shields[slot].end, 0);
    atomic_store(&shields[slot].start, 0);
}

int cosal_has_faulted(int slot) { return atomic_load(&shields[slot].faults); }
