/*
 * Tells what it gained by being started. The test gives copies of it to root, setuid, and CAP_NET_RAW, where any user
 * of the machine may start them: so it takes no argument, and does nothing else.
 */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <sys/syscall.h>

#include "probe.h"

int main(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    syscall(SYS_capget, &header, data);
    if (geteuid() != getuid() || data[0].effective != 0) {
        reached("euid %u, capabilities %x", geteuid(), data[0].effective);
    }
    held("uid %u, no capability", getuid());
}
