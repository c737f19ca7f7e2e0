#define _GNU_SOURCE 1
#include "cosal.h"

#include <sched.h>
#include <string.h>
#include <sys/timex.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

int cosal_epoll_control(int epoll, int operation, int fd, uint32_t events, uint64_t token) {
    struct epoll_event event = {.events = events, .data.u64 = token};
    return epoll_ctl(epoll, operation, fd, &event);
}

int cosal_epoll_wait(int epoll, struct cosal_event *events, int count, int64_t timeout) {
    struct epoll_event ready[COSAL_EVENTS_MAX];
    struct timespec limit = cosal_timespec(timeout < 0 ? 0 : (uint64_t)timeout);
    if (count > COSAL_EVENTS_MAX) count = COSAL_EVENTS_MAX;
    int n = epoll_pwait2(epoll, ready, count, timeout < 0 ? NULL : &limit, NULL);
    if (n < 0 && errno == ENOSYS) { /* before Linux 5.11: milliseconds, rounded up so that a loop does not spin */
        int64_t milliseconds = timeout < 0 ? -1 : timeout / 1000000 + (timeout % 1000000 != 0);
        n = epoll_wait(epoll, ready, count, milliseconds > INT32_MAX ? INT32_MAX : (int)milliseconds);
    }
    for (int i = 0; i < n; i++) events[i] = (struct cosal_event){.token = ready[i].data.u64, .events = ready[i].events};
    return n;
}

int cosal_accept(int fd) { return accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); }

int cosal_pipe(int descriptors[2], bool nonblocking) {
    return pipe2(descriptors, O_CLOEXEC | (nonblocking ? O_NONBLOCK : 0));
}

int cosal_replace(int number, int other, bool close_on_exec) {
    return number == other ? number : dup3(other, number, close_on_exec ? O_CLOEXEC : 0);
}

int cosal_memory(const char *name) { return memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING); }

int cosal_add_seals(int fd, bool size, bool content) {
    int seals = (size ? F_SEAL_SHRINK | F_SEAL_GROW : 0) | (content ? F_SEAL_WRITE : 0);
    return fcntl(fd, F_ADD_SEALS, seals | F_SEAL_SEAL);
}

int cosal_has_seals(int fd, bool size, bool content) {
    int wanted = (size ? F_SEAL_SHRINK : 0) | (content ? F_SEAL_WRITE : 0);
    int seals = fcntl(fd, F_GET_SEALS);
    return seals < 0 ? -1 : (seals & wanted) == wanted;
}

static struct flock one_byte(short type, uint64_t place) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)place, .l_len = 1};
}

int cosal_lock_byte(int fd, uint64_t place) {
    struct flock lock = one_byte(F_RDLCK, place);
    return fcntl(fd, F_SETLK, &lock);
}

int cosal_unlock_byte(int fd, uint64_t place) {
    struct flock lock = one_byte(F_UNLCK, place);
    return fcntl(fd, F_SETLK, &lock);
}

pid_t cosal_byte_locker(int fd, uint64_t place) {
    struct flock lock = one_byte(F_WRLCK, place);
    if (fcntl(fd, F_GETLK, &lock) != 0) return -1;
    return lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}

char **cosal_environment(void) { return environ; }

int cosal_clock_synchronisation(bool *is_synchronised, long *maximum_error) {
    struct timex state = {.modes = 0};
    if (adjtimex(&state) < 0) return -1;
    *is_synchronised = (state.status & STA_UNSYNC) == 0;
    *maximum_error = state.maxerror;
    return 0;
}

int cosal_cpu_count(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

int cosal_run_on_cpu(int index) {
    static _Thread_local cpu_set_t allowed;
    static _Thread_local int is_known;
    if (!is_known && sched_getaffinity(0, sizeof allowed, &allowed) != 0) return -1;
    is_known = 1;
    if (index < 0) return sched_setaffinity(0, sizeof allowed, &allowed);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || index-- > 0) continue;
        CPU_SET(cpu, &one);
        return sched_setaffinity(0, sizeof one, &one);
    }
    errno = EINVAL;
    return -1;
}

ssize_t cosal_send(int fd, const void *bytes, size_t count, const int *descriptors, int descriptor_count) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * COSAL_DESCRIPTORS_MAX)];
    } control;
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor_count > COSAL_DESCRIPTORS_MAX) {
        errno = EINVAL;
        return -1;
    }
    if (descriptor_count > 0) {
        size_t length = sizeof(int) * (size_t)descriptor_count;
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(length);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(length);
        memcpy(CMSG_DATA(header), descriptors, length);
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

ssize_t cosal_receive(int fd, void *bytes, size_t count, int *descriptors, int *descriptor_count, bool *truncated) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * COSAL_DESCRIPTORS_MAX)];
    } control;
    struct iovec part = {.iov_base = bytes, .iov_len = count};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int capacity = *descriptor_count;
    *descriptor_count = 0;
    *truncated = false;
    ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) return n;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t received = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < received; i++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof descriptor);
            if (*descriptor_count < capacity) {
                descriptors[(*descriptor_count)++] = descriptor;
            } else {
                close(descriptor);
                *truncated = true;
            }
        }
    }
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) *truncated = true;
    return n;
}

int cosal_peer_credentials(int fd, pid_t *pid, uid_t *uid, gid_t *gid) {
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -1;
    *pid = credentials.pid;
    *uid = credentials.uid;
    *gid = credentials.gid;
    return 0;
}

int cosal_robust_initialize(pthread_mutex_t *mutex) {
    pthread_mutexattr_t attributes;
    int code = pthread_mutexattr_init(&attributes);
    if (code != 0) return code;
    code = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (code == 0) code = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (code == 0) code = pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    if (code == 0) code = pthread_mutex_init(mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return code;
}

int cosal_robust_lock_until(pthread_mutex_t *mutex, uint64_t deadline) {
    struct timespec until = cosal_timespec(deadline);
    return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &until);
}

uint32_t cosal_arm_waiters(uint32_t *word) {
    uint32_t value = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    while ((value & FUTEX_TID_MASK) != 0 && (value & FUTEX_WAITERS) == 0) {
        if (__atomic_compare_exchange_n(word, &value, value | FUTEX_WAITERS, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            return value | FUTEX_WAITERS;
    }
    return value;
}

#if defined(__x86_64__)
/* __builtin_cpu_supports() would look at all features there are: 5 KB of a small library. */
static bool has_crc32c_instruction(void) {
    static int known; /* 0 not yet, 1 no, 2 yes: whoever finds out finds the same */
    int value = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (value == 0) {
        unsigned int a, b, c = 0, d;
        value = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_2) ? 2 : 1;
        __atomic_store_n(&known, value, __ATOMIC_RELAXED);
    }
    return value == 2;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_instruction(const uint8_t *p, size_t count, uint32_t crc) {
    uint64_t wide = crc;
    for (; count >= 8; p += 8, count -= 8) {
        uint64_t chunk;
        memcpy(&chunk, p, 8);
        wide = __builtin_ia32_crc32di(wide, chunk);
    }
    crc = (uint32_t)wide;
    for (; count > 0; p++, count--) crc = __builtin_ia32_crc32qi(crc, *p);
    return crc;
}
#endif

/* Four bits at a time: small and always right; machines of the last fifteen years do not come here. */
static uint32_t crc32c_table(const uint8_t *p, size_t count, uint32_t crc) {
    static const uint32_t table[16] = {0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1, 0x417B1DBC, 0x5125DAD3,
                                       0x61C69362, 0x7198540D, 0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9,
                                       0xC38D26C4, 0xD3D3E1AB, 0xE330A81A, 0xF36E6F75};
    for (; count > 0; p++, count--) {
        crc ^= *p;
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return crc;
}

uint32_t cosal_crc32c_portable(const void *bytes, size_t count, uint32_t seed) {
    return ~crc32c_table(bytes, count, ~seed);
}

uint32_t cosal_crc32c(const void *bytes, size_t count, uint32_t seed) {
#if defined(__x86_64__)
    if (has_crc32c_instruction()) return ~crc32c_instruction(bytes, count, ~seed);
#endif
    return cosal_crc32c_portable(bytes, count, seed);
}

#if defined(__x86_64__)
/* The value is pinned in a register: the compiler must not read the source a second time. */
#define COSAL_STEP(lane)                                                                                               \
    do {                                                                                                               \
        uint64_t chunk;                                                                                                \
        memcpy(&chunk, from + lane * COSAL_BLOCK_BYTES + at, 8);                                                       \
        __asm__("" : "+r"(chunk));                                                                                     \
        memcpy(to + lane * COSAL_BLOCK_BYTES + at, &chunk, 8);                                                         \
        crc##lane = __builtin_ia32_crc32di(crc##lane, chunk);                                                          \
    } while (0)

__attribute__((target("sse4.2"))) static void copy_blocks_instruction(uint8_t *to, const uint8_t *from, size_t blocks,
                                                                       uint32_t first, uint32_t *checksums) {
    for (; blocks >= 4; blocks -= 4, first += 4, checksums += 4) {
        uint64_t crc0 = ~first, crc1 = ~(first + 1), crc2 = ~(first + 2), crc3 = ~(first + 3);
        for (size_t at = 0; at < COSAL_BLOCK_BYTES; at += 8) {
            COSAL_STEP(0);
            COSAL_STEP(1);
            COSAL_STEP(2);
            COSAL_STEP(3);
        }
        checksums[0] = ~(uint32_t)crc0;
        checksums[1] = ~(uint32_t)crc1;
        checksums[2] = ~(uint32_t)crc2;
        checksums[3] = ~(uint32_t)crc3;
        to += 4 * COSAL_BLOCK_BYTES;
        from += 4 * COSAL_BLOCK_BYTES;
    }
    for (; blocks > 0; blocks--, first++, checksums++) {
        uint64_t crc0 = ~first;
        for (size_t at = 0; at < COSAL_BLOCK_BYTES; at += 8) COSAL_STEP(0);
        *checksums = ~(uint32_t)crc0;
        to += COSAL_BLOCK_BYTES;
        from += COSAL_BLOCK_BYTES;
    }
}
#endif

void cosal_copy_blocks(void *to, const void *from, size_t blocks, uint32_t first, uint32_t *checksums) {
#if defined(__x86_64__)
    if (has_crc32c_instruction()) return copy_blocks_instruction(to, from, blocks, first, checksums);
#endif
    for (size_t block = 0; block < blocks; block++) {
        uint8_t *target = (uint8_t *)to + block * COSAL_BLOCK_BYTES;
        memcpy(target, (const uint8_t *)from + block * COSAL_BLOCK_BYTES, COSAL_BLOCK_BYTES);
        checksums[block] = cosal_crc32c_portable(target, COSAL_BLOCK_BYTES, first + (uint32_t)block);
    }
}

int cosal_set_pipe_capacity(int fd, int bytes) { return fcntl(fd, F_SETPIPE_SZ, bytes); }
