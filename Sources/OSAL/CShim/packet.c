/* Whole Ethernet frames of a network device: Swift's Glibc module has neither sockaddr_ll nor the options of packet(7).
 * PACKET_VNET_HDR puts in front of every frame what a network card would still have to do (checksum, segmentation), so
 * that a frame passed on is the one that was sent. */
#include "cosal.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

static int open_bound(unsigned index, int receive_bytes) {
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    int one = 1;
    struct sockaddr_ll address;
    memset(&address, 0, sizeof address);
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = (int)index;
    if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) == 0
        && setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) == 0
        && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive_bytes, sizeof receive_bytes) == 0
        && setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &receive_bytes, sizeof receive_bytes) == 0
        && bind(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

int cosal_packet_open(const char *device, int receive_bytes) {
    unsigned index = if_nametoindex(device);
    if (index == 0) return -1;
    return open_bound(index, receive_bytes);
}

int cosal_packet_drops(int fd, unsigned *drops) {
    struct tpacket_stats statistics;
    socklen_t size = sizeof statistics;
    if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &size) != 0) return -1;
    *drops = statistics.tp_drops;
    return 0;
}
