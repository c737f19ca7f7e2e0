/* Namespaces of a process that is being started. In C because it runs in the child that borrows the parent's memory
 * (spawn.c), where nothing may allocate, and because setns(2), mount(2), sethostname(2) and CLONE_NEW* are shown only
 * with _GNU_SOURCE. */
#define _GNU_SOURCE 1
#include "cosal.h"

#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>

static int flags_of(unsigned kinds) {
    int flags = 0;
    if (kinds & COSAL_NAMESPACE_MOUNT) flags |= CLONE_NEWNS;
    if (kinds & COSAL_NAMESPACE_NETWORK) flags |= CLONE_NEWNET;
    if (kinds & COSAL_NAMESPACE_PROCESS) flags |= CLONE_NEWPID;
    if (kinds & COSAL_NAMESPACE_HOST_NAME) flags |= CLONE_NEWUTS;
    if (kinds & COSAL_NAMESPACE_IPC) flags |= CLONE_NEWIPC;
    return flags;
}

int cosal_namespace_clone_flags(const struct cosal_namespaces *namespaces) {
    return namespaces == NULL ? 0 : flags_of(namespaces->create);
}

/* A process enters another pid namespace only by being born there: the caller's thread asks for it, for its next
 * child, and takes it back afterwards. */
int cosal_namespace_before_clone(const struct cosal_namespaces *namespaces, int *own) {
    *own = -1;
    if (namespaces == NULL || !(namespaces->enter & COSAL_NAMESPACE_PROCESS)) return 0;
    int before = open("/proc/thread-self/ns/pid_for_children", O_RDONLY | O_CLOEXEC);
    if (before < 0) return -1;
    if (setns(namespaces->pidfd, CLONE_NEWPID) != 0) {
        int code = errno;
        close(before);
        errno = code;
        return -1;
    }
    *own = before;
    return 0;
}

void cosal_namespace_after_clone(int own) {
    if (own < 0) return;
    setns(own, CLONE_NEWPID);
    close(own);
}

static int mount_all(const struct cosal_namespaces *namespaces, const char *volatile *stage) {
    if (!(namespaces->create & COSAL_NAMESPACE_MOUNT)) return 0;
    *stage = "mount / private"; /* or what follows would be seen outside */
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return -1;
    for (int i = 0; i < namespaces->mount_count; i++) {
        const struct cosal_mount *one = &namespaces->mounts[i];
        *stage = one->target;
        unsigned long flags = one->type == NULL ? MS_BIND : MS_NOSUID | MS_NODEV;
        if (mount(one->source, one->target, one->type, flags, NULL) != 0) return -1;
    }
    return 0;
}

int cosal_namespace_in_child(const struct cosal_namespaces *namespaces, const char *volatile *stage) {
    if (namespaces == NULL) return 0;
    int enter = flags_of(namespaces->enter) & ~CLONE_NEWPID;
    *stage = "enter namespaces";
    if (enter != 0 && setns(namespaces->pidfd, enter) != 0) return -1;
    *stage = "sethostname";
    const char *name = namespaces->host_name;
    if (name != NULL && sethostname(name, strlen(name)) != 0) return -1;
    if (mount_all(namespaces, stage) != 0) return -1;
    /* The first process of a pid namespace inherits every orphan; with SIGCHLD ignored, which the program keeps, the
     * kernel buries them. */
    if (namespaces->create & COSAL_NAMESPACE_PROCESS) signal(SIGCHLD, SIG_IGN);
    return 0;
}
