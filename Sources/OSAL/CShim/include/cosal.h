#ifndef COSAL_H
#define COSAL_H
/* COSAL: what Swift cannot say. One cosal_<call> per call, with the return value and errno of its man page:
 * variadic functions, macros with arguments, system calls without a wrapper, packed structs, inline assembly,
 * and what glibc shows only with _GNU_SOURCE. That macro is defined in cosal.c and must not be defined here: the
 * importer would then see some structs otherwise than Swift's own Glibc module, and refuse both. */

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Never: the deadline that does not come (absolute CLOCK_MONOTONIC nanoseconds). */
#define COSAL_NO_DEADLINE UINT64_MAX

static inline struct timespec cosal_timespec(uint64_t nanoseconds) {
    const uint64_t second = 1000000000u;
    return (struct timespec){.tv_sec = (time_t)(nanoseconds / second), .tv_nsec = (long)(nanoseconds % second)};
}

/* Whether malloc(3) has so many bytes just now: compilers leave out a malloc whose memory is only freed. */
static inline bool cosal_can_allocate(size_t count) {
    void *volatile memory = malloc(count);
    free(memory);
    return memory != NULL;
}

/* ---- variadic calls ------------------------------------------------------------------------------------------ */
static inline int cosal_open(const char *path, int flags, mode_t mode) { return open(path, flags, mode); }
int cosal_set_pipe_capacity(int fd, int bytes); /* F_SETPIPE_SZ is a GNU extension */
static inline int cosal_fcntl(int fd, int command, int argument) { return fcntl(fd, command, argument); }
int cosal_lock_byte(int fd, uint64_t place); /* F_SETLK, shared, until the process ends */
int cosal_unlock_byte(int fd, uint64_t place);
pid_t cosal_byte_locker(int fd, uint64_t place); /* F_GETLK: another process that has it; 0: nobody; -1 */
static inline int cosal_prctl(int option, unsigned long argument) { return prctl(option, argument, 0ul, 0ul, 0ul); }
static inline int cosal_terminal_columns(int fd) {
    struct winsize size;
    return ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : -1;
}

/* ---- system calls that glibc 2.36 does not wrap, or wraps only on newer systems -------------------------------- */
static inline int cosal_pidfd_open(pid_t pid, unsigned flags) { return (int)syscall(SYS_pidfd_open, pid, flags); }
static inline int cosal_pidfd_send_signal(int fd, int number) {
    return (int)syscall(SYS_pidfd_send_signal, fd, number, NULL, 0u);
}
static inline int cosal_gettid(void) { return (int)syscall(SYS_gettid); }
int cosal_accept(int fd); /* accept4(2), non-blocking, closed on exec */
int cosal_pipe(int descriptors[2], bool nonblocking);
int cosal_replace(int number, int other, bool close_on_exec); /* dup3(2) */
int cosal_memory(const char *name); /* memfd_create(2), closed on exec, can be sealed */
int cosal_add_seals(int fd, bool size, bool content);
int cosal_has_seals(int fd, bool size, bool content); /* 1, 0 or -1 */
int cosal_cpu_count(void);
int cosal_clock_synchronisation(bool *is_synchronised, long *maximum_error); /* adjtimex(2); microseconds */
int cosal_run_on_cpu(int index); /* sched_setaffinity(2): of those allowed at the first call; -1: all of them */
char **cosal_environment(void); /* environ is a global variable, which Swift 6 refuses */
static inline int cosal_tgkill(pid_t process, pid_t thread, int number) {
    return (int)syscall(SYS_tgkill, process, thread, number);
}

/* FUTEX_WAIT_BITSET because its deadline is absolute; not private: the word may be in shared memory. */
static inline int cosal_futex_wait(const uint32_t *word, uint32_t expected, uint64_t deadline) {
    struct timespec until = cosal_timespec(deadline);
    return (int)syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, deadline == COSAL_NO_DEADLINE ? NULL : &until,
                        NULL, FUTEX_BITSET_MATCH_ANY);
}
static inline int cosal_futex_wake(const uint32_t *word, int count) {
    return (int)syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}
static inline int cosal_futex_waitv(struct futex_waitv *waiters, unsigned count, uint64_t deadline) {
    struct timespec until = cosal_timespec(deadline);
    return (int)syscall(SYS_futex_waitv, waiters, count, 0u, deadline == COSAL_NO_DEADLINE ? NULL : &until,
                        CLOCK_MONOTONIC);
}

/* ---- epoll: struct epoll_event is packed, which Swift does not import ------------------------------------------ */
struct cosal_event {
    uint64_t token;
    uint32_t events;
};
int cosal_epoll_control(int epoll, int operation, int fd, uint32_t events, uint64_t token);
/* timeout: nanoseconds, negative = no limit. At most COSAL_EVENTS_MAX events. */
#define COSAL_EVENTS_MAX 128
int cosal_epoll_wait(int epoll, struct cosal_event *events, int count, int64_t timeout);

/* ---- descriptors over sockets: CMSG_* are macros --------------------------------------------------------------- */
#define COSAL_DESCRIPTORS_MAX 16
/* sendmsg(2) with MSG_NOSIGNAL | MSG_DONTWAIT. */
ssize_t cosal_send(int fd, const void *bytes, size_t count, const int *descriptors, int descriptor_count);
/* recvmsg(2) with MSG_DONTWAIT | MSG_CMSG_CLOEXEC. *descriptor_count: in capacity, out received.
 * *truncated: the datagram or its descriptors did not fit; surplus descriptors have been closed. */
ssize_t cosal_receive(int fd, void *bytes, size_t count, int *descriptors, int *descriptor_count, bool *truncated);
/* SO_PEERCRED: struct ucred needs _GNU_SOURCE. */
int cosal_peer_credentials(int fd, pid_t *pid, uid_t *uid, gid_t *gid);

/* ---- wait status macros ---------------------------------------------------------------------------------------- */
static inline bool cosal_exited(int status) { return WIFEXITED(status); }
static inline int cosal_exit_code(int status) { return WEXITSTATUS(status); }
static inline bool cosal_signaled(int status) { return WIFSIGNALED(status); }
static inline int cosal_term_signal(int status) { return WTERMSIG(status); }

/* ---- robust locks ---------------------------------------------------------------------------------------------- */
_Static_assert(offsetof(pthread_mutex_t, __data.__lock) == 0, "the futex word must lead the mutex");
int cosal_robust_initialize(pthread_mutex_t *mutex); /* returns an errno, as pthread does */
int cosal_robust_lock_until(pthread_mutex_t *mutex, uint64_t deadline); /* the same; CLOCK_MONOTONIC */
/* Sets FUTEX_WAITERS in a held lock word, so that the kernel or the owner wakes a watcher; returns the new value. */
uint32_t cosal_arm_waiters(uint32_t *word);

/* ---- instructions ---------------------------------------------------------------------------------------------- */
static inline void cosal_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
}
/* CRC-32C (Castagnoli, reflected 0x82F63B78), continuing from `seed` (0 to start). SSE4.2 where there is one. */
/* The same without the instruction; for machines without it, and to compare. */
uint32_t cosal_crc32c_portable(const void *bytes, size_t count, uint32_t seed);
uint32_t cosal_crc32c(const void *bytes, size_t count, uint32_t seed);
/* Copies blocks of 512 bytes and checksums what it copied, several blocks at once: the instruction takes three cycles, but
 * three can be under way. Each byte is read once, so that the checksum is that of the copy whatever happens to the source
 * meanwhile. The seed is the block's index: `first` for the first one. */
#define COSAL_BLOCK_BYTES 512
void cosal_copy_blocks(void *to, const void *from, size_t blocks, uint32_t first, uint32_t *checksums);

/* ---- files that others may write, too ---------------------------------------------------------------------------- */
/* Whether the next one works here: landlock, ABI 3. */
int cosal_can_forbid_cutting(void);
/* open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW), of which ftruncate(2) is EACCES in every process. */
int cosal_open_without_cutting(const char *path);
/* From now on a page of this memory that its file has no longer becomes one of zeroes when it is touched. The number of
 * the shield, or -1: there are COSAL_SHIELDS already. It ends before the memory is unmapped. */
#define COSAL_SHIELDS 4096
int cosal_shield(void *start, size_t count);
void cosal_unshield(int slot);
int cosal_has_faulted(int slot);

/* ---- starting a process ---------------------------------------------------------------------------------------- */
struct cosal_limit {
    int resource;
    uint64_t soft, hard; /* UINT64_MAX = no limit */
};
/* RLIMIT_* differ between machines, and their type between languages and feature macros. */
enum cosal_resource {
    COSAL_RLIMIT_CPU = RLIMIT_CPU,
    COSAL_RLIMIT_FSIZE = RLIMIT_FSIZE,
    COSAL_RLIMIT_DATA = RLIMIT_DATA,
    COSAL_RLIMIT_STACK = RLIMIT_STACK,
    COSAL_RLIMIT_CORE = RLIMIT_CORE,
    COSAL_RLIMIT_NPROC = __RLIMIT_NPROC,
    COSAL_RLIMIT_NOFILE = RLIMIT_NOFILE,
    COSAL_RLIMIT_MEMLOCK = __RLIMIT_MEMLOCK,
    COSAL_RLIMIT_AS = RLIMIT_AS
};
int cosal_get_limit(int resource, struct cosal_limit *limit);
int cosal_set_limit(int resource, uint64_t soft, uint64_t hard);
/* Namespaces to be born into: existing ones of a process (`enter`, `pidfd`), or new ones (`create`). */
enum cosal_namespace {
    COSAL_NAMESPACE_MOUNT = 1,
    COSAL_NAMESPACE_NETWORK = 2,
    COSAL_NAMESPACE_PROCESS = 4,
    COSAL_NAMESPACE_HOST_NAME = 8,
    COSAL_NAMESPACE_IPC = 16
};
struct cosal_mount {
    const char *source, *target, *type; /* type NULL: `source` is bound to `target` */
};
struct cosal_namespaces {
    unsigned create, enter; /* bits of cosal_namespace */
    int pidfd;              /* whose namespaces to enter */
    const char *host_name;  /* or NULL */
    const struct cosal_mount *mounts; /* done in this order when a mount namespace is created */
    int mount_count;
};
int cosal_namespace_clone_flags(const struct cosal_namespaces *namespaces);
int cosal_namespace_before_clone(const struct cosal_namespaces *namespaces, int *own);
void cosal_namespace_after_clone(int own);
int cosal_namespace_in_child(const struct cosal_namespaces *namespaces, const char *volatile *stage);
struct cosal_spawn {
    const char *path;             /* executed as it is, no PATH search; ignored when executable >= 0 */
    int executable;               /* a descriptor to execute (fexecve), or -1 */
    char *const *arguments;       /* NULL-terminated */
    char *const *environment;     /* NULL-terminated */
    const char *directory;        /* or NULL */
    const int *sources, *targets; /* descriptors to hand over; all others are closed; targets ascend */
    int descriptor_count;         /* at most COSAL_SPAWN_DESCRIPTORS_MAX */
    const struct cosal_limit *limits;
    int limit_count;
    const gid_t *groups; /* supplementary groups, used when change_user */
    int group_count;
    uid_t user;
    gid_t group;
    bool change_user, new_session, no_new_privileges;
    int death_signal; /* 0 = none */
    int oom_score;    /* /proc/self/oom_score_adj; INT32_MIN = leave */
    int process_priority; /* setpriority(2); INT32_MIN = leave */
    pid_t processors_of;  /* the thread on whose processors to run; 0 = the caller */
    const struct cosal_namespaces *namespaces; /* or NULL */
};
#define COSAL_SPAWN_DESCRIPTORS_MAX 64
/* Starts a process without copying the caller's page tables. Returns its pid and *pidfd, or -1 with errno; *stage is
 * then the name of the step that failed. The child has default signal handlers and an empty signal mask. */
pid_t cosal_spawn(const struct cosal_spawn *options, int *pidfd, const char **stage);

/* A packet(7) socket for every frame that arrives at a network device, each after a struct virtio_net_hdr; -1 with
 * errno. It is non-blocking and sees nothing of what leaves. */
int cosal_packet_open(const char *device, int receive_bytes);
/* Frames that were lost since the last call because nobody read them. Source: PACKET_STATISTICS. */
int cosal_packet_drops(int fd, unsigned *drops);

/* The owner's side of a new pseudo-terminal, and the name of the other: posix_openpt and its sisters are declared only
 * with _GNU_SOURCE, which Swift's Glibc module goes without. -1 with errno. */
int cosal_pseudo_terminal(char *name, size_t size);

#endif
