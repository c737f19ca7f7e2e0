/* `hostile attack FOLDER USER`: a user's process writes sections directly, and then does whatever can be done with the
 * descriptors it was given, until there is FOLDER/stop. `hostile victim`: another user's process reads and writes the
 * same checkpoint meanwhile: no call may end or hold it. `hostile repair`: afterwards. */
#include "check.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { SIZE = 20000, SECONDS = 4 };
static char data[SIZE];
static const char *folder;

/* Copies of all descriptors that the library was sent. */
static int sent[256], sent_count;

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t count = syscall(SYS_recvmsg, fd, message, flags);
    if (count <= 0) return count;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        size_t number = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < number && sent_count < 256; i++) {
            int one;
            memcpy(&one, CMSG_DATA(part) + i * sizeof one, sizeof one);
            sent[sent_count++] = fcntl(one, F_DUPFD_CLOEXEC, 0);
        }
    }
    return count;
}

/* A file with a name, opened so; -1: none was sent. */
static int sent_file(int access, int skip)
{
    struct stat status;
    for (int i = 0; i < sent_count; i++) {
        if (fstat(sent[i], &status) != 0 || !S_ISREG(status.st_mode) || status.st_nlink == 0) continue;
        if ((fcntl(sent[i], F_GETFL) & O_ACCMODE) == access && skip-- == 0) return sent[i];
    }
    return -1;
}

static int there(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

/* Waits until somebody says so; 0 when the time is over. */
static int await(const char *name)
{
    SaTimeT until = now_ns() + PATIENCE;
    while (!there(name) && now_ns() < until) poll(NULL, 0, 1);
    return there(name);
}

static void say(const char *word)
{
    printf("%s\n", word);
    fflush(stdout);
}

static void cannot_be_reopened(int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const int ways[] = {O_RDWR, O_WRONLY, O_RDWR | O_TRUNC, O_RDONLY | O_TRUNC};
    for (int i = 0; i < 4; i++) HOLDS(open(path, ways[i]) < 0);
    HOLDS(truncate(path, 0) != 0);
    HOLDS(fchmod(fd, 0666) != 0);
}

static void cannot_be_written(int fd)
{
    struct stat status;
    HOLDS(fstat(fd, &status) == 0 && status.st_size > 0);
    size_t size = (size_t)status.st_size;
    HOLDS(ftruncate(fd, 0) != 0 && ftruncate(fd, status.st_size + 4096) != 0);
    HOLDS(pwrite(fd, data, 1, 0) < 0);
    HOLDS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, status.st_size) != 0);
    HOLDS(fallocate(fd, 0, status.st_size, 4096) != 0);
    HOLDS(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    void *mapped = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (!HOLDS(mapped != MAP_FAILED)) return;
    HOLDS(mprotect(mapped, size, PROT_READ | PROT_WRITE) != 0);
    HOLDS(madvise(mapped, size, MADV_REMOVE) != 0);
    cannot_be_reopened(fd);
}

static void cannot_be_cut(int fd, off_t size)
{
    const off_t lengths[] = {0, 100, size - 1, size + 4096};
    for (int i = 0; i < 4; i++) HOLDS(ftruncate(fd, lengths[i]) != 0);
    cannot_be_reopened(fd);
}

/* Everything that can be done with it, again and again. */
static void attack(int fd, off_t size)
{
    unsigned char *mapped = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!HOLDS(mapped != MAP_FAILED)) return;
    const off_t pages = size / 4096;
    const int remove = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    while (!there("stop")) {
        off_t page = rand() % pages, count = 1 + rand() % (pages - page);
        switch (rand() % 8) {
        case 0: fallocate(fd, remove, page * 4096, count * 4096); break;
        case 1: madvise(mapped + page * 4096, (size_t)count * 4096, MADV_REMOVE); break;
        case 2: fallocate(fd, remove, 0, size); break;
        case 3: /* all the memory there is */
            for (off_t end = size; pwrite(fd, data, SIZE, end) > 0; end += SIZE) continue;
            break;
        case 4: fallocate(fd, FALLOC_FL_KEEP_SIZE, size, 16 << 20); break;
        default: /* through the system: to touch a hole could end this process */
            for (int i = 0; i < 64; i++) {
                unsigned char bytes[8];
                for (int j = 0; j < 8; j++) bytes[j] = (unsigned char)rand();
                if (pwrite(fd, bytes, (size_t)(1 + rand() % 8), rand() % (size - 8)) < 0) break;
            }
        }
    }
}

static int attacker(uid_t user)
{
    if (setgroups(0, NULL) != 0 || setgid(user) != 0 || setuid(user) != 0) return 2;
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointCreationAttributesT creation =
        attributes(SA_CKPT_WR_ACTIVE_REPLICA | SA_CKPT_CHECKPOINT_COLLOCATED, 4, 2 * SIZE);
    creation.retentionDuration = 10 * SA_TIME_ONE_MINUTE;
    SaCkptCheckpointHandleT checkpoint = made(handle, "safCkpt=hostile", creation);
    MUST(SA_AIS_OK, saCkptActiveReplicaSet(checkpoint));
    const char *const names[] = {"a", "b"};
    for (int i = 0; i < 2; i++) EXPECT(SA_AIS_OK, create_section(checkpoint, names[i], data, SIZE));
    SaTimeT until = now_ns() + PATIENCE;
    int fd;
    do {
        for (int i = 0; i < 2; i++) EXPECT(SA_AIS_OK, overwrite(checkpoint, names[i], data, SIZE));
        fd = sent_file(O_RDWR, 0);
    } while (fd < 0 && now_ns() < until);
    if (!HOLDS(fd >= 0)) return check_end();
    for (int i = 0; i < 64; i++) /* the file is made longer with the second section */
        for (int j = 0; j < 2; j++) EXPECT(SA_AIS_OK, overwrite(checkpoint, names[j], data, SIZE));
    struct stat status;
    HOLDS(fstat(fd, &status) == 0 && status.st_size > 4096);
    int first = sent_file(O_RDONLY, 0), second = sent_file(O_RDONLY, 1);
    HOLDS(first >= 0 && second >= 0);
    cannot_be_written(first);
    cannot_be_written(second);
    cannot_be_cut(fd, status.st_size);
    say("direct");
    HOLDS(await("go"));
    attack(fd, status.st_size);
    return check_end();
}

/* Corrupted, or no room while the other takes it all: but an answer. */
static int answered(SaAisErrorT code)
{
    if (code == SA_AIS_OK || code == SA_AIS_ERR_LIBRARY || code == SA_AIS_ERR_NO_SPACE) return 1;
    printf("returned %d\n", (int)code);
    return 0;
}

static int victim(void)
{
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointHandleT checkpoint = opened(handle, "safCkpt=hostile", READ_WRITE);
    SaCkptIOVectorElementT element;
    static char found[SIZE];
    for (int i = 0; i < 8; i++) {
        element = piece("a", found, SIZE, 0);
        EXPECT(SA_AIS_OK, saCkptCheckpointRead(checkpoint, &element, 1, NULL));
    }
    HOLDS(sent_file(O_RDWR, 0) < 0); /* another user's */
    say("reading");
    HOLDS(await("go"));
    long count = 0;
    for (SaTimeT until = now_ns() + SECONDS * SA_TIME_ONE_SECOND; now_ns() < until; count++) {
        element = piece(count % 2 ? "a" : "b", found, SIZE, 0);
        HOLDS(answered(saCkptCheckpointRead(checkpoint, &element, 1, NULL)));
        if (count % 16 == 0) HOLDS(answered(overwrite(checkpoint, "b", data, SIZE)));
    }
    HOLDS(count > 100);
    return check_end();
}

static int repair(void)
{
    SaCkptHandleT handle = start(NULL, 2);
    SaCkptCheckpointHandleT checkpoint = opened(handle, "safCkpt=hostile", READ_WRITE);
    memset(data, 'r', sizeof data);
    const char *const names[] = {"a", "b"};
    for (int i = 0; i < 2; i++) {
        EXPECT(SA_AIS_OK, overwrite(checkpoint, names[i], data, SIZE));
        HOLDS(holds(checkpoint, names[i], data, SIZE));
    }
    return check_end();
}

int main(int count, char **arguments)
{
    if (count < 3) return 2;
    folder = arguments[2];
    memset(data, 'd', sizeof data);
    srand((unsigned)now_ns());
    if (strcmp(arguments[1], "victim") == 0) return victim();
    if (strcmp(arguments[1], "repair") == 0) return repair();
    return count < 4 ? 2 : attacker((uid_t)atoi(arguments[3]));
}
