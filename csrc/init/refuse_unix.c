#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "init/confine.h"

#define LOW(arg) (offsetof(struct seccomp_data, args) + 8 * (arg)) /* of an argument that is an int */

/* The template has refused other architectures and other families of pairs; a stricter verdict wins over its own. */
static const struct sock_filter no_unix[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socketpair, 3, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 6),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW(0)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 5, 4),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW(1)),
    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOCK_STREAM, 1, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOCK_SEQPACKET, 0, 2),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ESOCKTNOSUPPORT),
};

int sp_refuse_unix_sockets(void) {
    return sp_install_filter(&(struct sp_plan_filter){no_unix, sizeof no_unix / sizeof no_unix[0]});
}
