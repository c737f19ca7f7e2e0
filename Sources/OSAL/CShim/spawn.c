/* Starting a process without fork: the child borrows the parent's memory until it executes the program, while the
 * calling thread sleeps (clone(2) with CLONE_VM | CLONE_VFORK). In C because a Swift function must not run there: the
 * child may call nothing that allocates, locks or starts other threads' work. CLONE_PIDFD gives the pidfd atomically.
 * */
#define _GNU_SOURCE 1
#include "cosal.h"

#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1u << 2)
#endif

enum { STACK_BYTES = 64 * 1024, GUARD_BYTES = 4096 };

struct attempt {
    const struct cosal_spawn *options;
    pid_t parent;
    /* Written by the child in the parent's memory. */
    const char *volatile stage;
    volatile int code;
};

int cosal_get_limit(int resource, struct cosal_limit *limit) {
    struct rlimit raw;
    if (getrlimit((__rlimit_resource_t)resource, &raw) != 0) return -1;
    limit->resource = resource;
    limit->soft = raw.rlim_cur == RLIM_INFINITY ? UINT64_MAX : raw.rlim_cur;
    limit->hard = raw.rlim_max == RLIM_INFINITY ? UINT64_MAX : raw.rlim_max;
    return 0;
}

int cosal_set_limit(int resource, uint64_t soft, uint64_t hard) {
    struct rlimit raw = {.rlim_cur = soft == UINT64_MAX ? RLIM_INFINITY : (rlim_t)soft,
                         .rlim_max = hard == UINT64_MAX ? RLIM_INFINITY : (rlim_t)hard};
    return setrlimit((__rlimit_resource_t)resource, &raw);
}

/* Handlers point into memory that the child must not run; SIG_IGN (our SIGPIPE) would be inherited by the program. */
static void reset_signals(void) {
    /* The kernel's own struct, all zero = SIG_DFL: glibc's sigaction() refuses the two signals it keeps for itself. */
    static const char zero[64];
    for (int number = 1; number < NSIG; number++) syscall(SYS_rt_sigaction, number, zero, NULL, NSIG / 8);
}

static int close_on_exec_from(unsigned first, unsigned last) {
    if (first > last) return 0;
    if (syscall(SYS_close_range, first, last, CLOSE_RANGE_CLOEXEC) == 0) return 0;
    if (errno != ENOSYS && errno != EINVAL) return -1; /* Linux before 5.11: one by one */
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -1;
    for (unsigned fd = first; fd <= last && fd < limit.rlim_cur; fd++) fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    return 0;
}

/* Gives every source its target number, and marks everything else to be closed by the exec. */
static int place_descriptors(const struct cosal_spawn *options) {
    int moved[COSAL_SPAWN_DESCRIPTORS_MAX];
    int above = options->targets[options->descriptor_count - 1] + 1;
    for (int i = 0; i < options->descriptor_count; i++) { /* out of the way first: targets may be others' sources */
        int source = options->sources[i];
        if (source < 0) {
            source = open("/dev/null", O_RDWR | O_CLOEXEC);
            if (source < 0) return -1;
        }
        moved[i] = fcntl(source, F_DUPFD_CLOEXEC, above);
        if (moved[i] < 0) return -1;
        if (options->sources[i] < 0) close(source);
    }
    unsigned next = 0;
    for (int i = 0; i < options->descriptor_count; i++) {
        unsigned target = (unsigned)options->targets[i];
        if (dup2(moved[i], (int)target) < 0) return -1;
        if (target > next && close_on_exec_from(next, target - 1) != 0) return -1;
        next = target + 1;
    }
    return close_on_exec_from(next, ~0u);
}

static int write_oom_score(int score) {
    char text[16];
    int length = snprintf(text, sizeof text, "%d", score);
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t count = write(fd, text, (size_t)length);
    close(fd);
    return count == length ? 0 : -1;
}

/* System calls and not glibc's functions: those would change the user of all threads of the parent. */
static int change_user(const struct cosal_spawn *options) {
    if (syscall(SYS_setgroups, options->group_count, options->groups) != 0) return -1;
    if (syscall(SYS_setresgid, options->group, options->group, options->group) != 0) return -1;
    return (int)syscall(SYS_setresuid, options->user, options->user, options->user);
}

static void prepare(struct attempt *attempt) {
    const struct cosal_spawn *options = attempt->options;
    int executable = options->executable;
    attempt->stage = "signals";
    reset_signals();
    cpu_set_t processors;
    if (options->processors_of != 0 && sched_getaffinity(options->processors_of, sizeof processors, &processors) == 0) {
        sched_setaffinity(0, sizeof processors, &processors);
    }
    if (cosal_namespace_in_child(options->namespaces, &attempt->stage) != 0) return;
    attempt->stage = "setsid";
    if (options->new_session && setsid() < 0) return;
    attempt->stage = "descriptors";
    if (executable >= 0) { /* above all targets, so that none of them replaces it */
        executable = fcntl(executable, F_DUPFD_CLOEXEC, options->targets[options->descriptor_count - 1] + 1);
        if (executable < 0) return;
    }
    if (place_descriptors(options) != 0) return;
    attempt->stage = "oom_score_adj";
    if (options->oom_score != INT32_MIN && write_oom_score(options->oom_score) != 0) return;
    attempt->stage = "setpriority";
    if (options->process_priority != INT32_MIN && setpriority(PRIO_PROCESS, 0, options->process_priority) != 0) return;
    attempt->stage = "setrlimit";
    for (int i = 0; i < options->limit_count; i++) {
        const struct cosal_limit *limit = &options->limits[i];
        if (cosal_set_limit(limit->resource, limit->soft, limit->hard) != 0) return;
    }
    attempt->stage = "setuid";
    if (options->change_user && change_user(options) != 0) return;
    attempt->stage = "chdir";
    if (options->directory != NULL && chdir(options->directory) != 0) return;
    attempt->stage = "no_new_privs";
    if (options->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1ul, 0ul, 0ul, 0ul) != 0) return;
    attempt->stage = "parent death signal"; /* after setuid, which clears it */
    if (options->death_signal != 0) {
        if (prctl(PR_SET_PDEATHSIG, (unsigned long)options->death_signal, 0ul, 0ul, 0ul) != 0) return;
        if (getppid() != attempt->parent && getppid() != 0) _exit(127); /* 0: it is in another pid namespace */
    }
    attempt->stage = "execve";
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (executable >= 0) {
        syscall(SYS_execveat, executable, "", options->arguments, options->environment, AT_EMPTY_PATH);
    } else {
        execve(options->path, options->arguments, options->environment);
    }
}

static int child(void *argument) {
    struct attempt *attempt = argument;
    errno = 0;
    prepare(attempt); /* returns only when a step failed */
    attempt->code = errno == 0 ? EINVAL : errno;
    _exit(127);
}

pid_t cosal_spawn(const struct cosal_spawn *options, int *pidfd, const char **stage) {
    struct attempt attempt = {.options = options, .parent = getpid(), .stage = "clone", .code = 0};
    *stage = "clone";
    char *stack = mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) return -1;
    mprotect(stack, GUARD_BYTES, PROT_NONE);
    /* No handler of ours may run in the child while it shares our memory. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD | cosal_namespace_clone_flags(options->namespaces);
    int own_namespace = -1;
    pid_t pid = cosal_namespace_before_clone(options->namespaces, &own_namespace);
    if (pid == 0) pid = clone(child, stack + STACK_BYTES + GUARD_BYTES, flags, &attempt, pidfd);
    int code = pid < 0 ? errno : attempt.code;
    cosal_namespace_after_clone(own_namespace);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(stack, STACK_BYTES + GUARD_BYTES);
    if (pid >= 0 && code == 0) return pid;
    if (pid >= 0) {
        *stage = attempt.stage;
        close(*pidfd);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
    }
    *pidfd = -1;
    errno = code;
    return -1;
}
