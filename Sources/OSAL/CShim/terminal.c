#define _GNU_SOURCE 1
#include "cosal.h"

#include <stdlib.h>

int cosal_pseudo_terminal(char *name, size_t size) {
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) return -1;
    int error = 0;
    if (grantpt(fd) != 0 || unlockpt(fd) != 0) error = errno;
    if (error == 0) error = ptsname_r(fd, name, size);
    if (error == 0) return fd;
    close(fd);
    errno = error;
    return -1;
}
