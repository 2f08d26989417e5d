/* sources: csrc/zygote/netns.c csrc/init/proc.c csrc/common/fd.c */
/* The stash of network namespaces keeps a returned namespace only if no socket is left in it. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "lacks.h"
#include "machine.h"
#include "refused.h"
#include "zygote/zygote.h"

static struct sp_netns_stash stash;

static void drop_stash(void) {
    while (stash.count != 0) {
        sp_fd_close(&stash.fds[--stash.count]);
    }
    while (stash.n_used != 0) {
        sp_fd_close(&stash.used[--stash.n_used]);
    }
}

static ino_t inode_of(int fd) {
    struct stat st = {0};
    CHECK(fstat(fd, &st) == 0);
    return st.st_ino;
}

static void an_empty_namespace_is_kept(void) {
    CHECK(sp_netns_make(&stash) == 0 && stash.count == 1);
    ino_t made = inode_of(stash.fds[0]);
    int fd = sp_netns_enter(&stash);
    CHECK(fd >= 0 && inode_of(fd) == made && stash.count == 0);
    sp_netns_return(&stash, fd);
    CHECK(stash.count == 0 && stash.n_used == 1);
    CHECK(sp_netns_check_used(&stash) && stash.count == 1 && stash.n_used == 0);
    CHECK(!sp_netns_check_used(&stash));
    CHECK(inode_of(stash.fds[0]) == made);
    drop_stash();
}

static void a_namespace_with_a_socket_is_closed(void) {
    static const int families[] = {AF_UNIX, AF_INET, AF_NETLINK};
    for (unsigned i = 0; i < 3; i++) {
        unsigned fds = count_fds();
        int fd = sp_netns_enter(&stash);
        int sock = socket(families[i], SOCK_DGRAM, 0);
        CHECK(fd >= 0 && sock != -1);
        sp_netns_return(&stash, fd);
        CHECK(sp_netns_check_used(&stash) && stash.count == 0 && stash.n_used == 0);
        sp_fd_close(&sock);
        CHECK(count_fds() == fds);
    }
}

static void a_returned_namespace_is_used_before_a_new_one(void) {
    int first = sp_netns_enter(&stash);
    ino_t made = inode_of(first);
    sp_netns_return(&stash, first);
    int second = sp_netns_enter(&stash);
    CHECK(second >= 0 && inode_of(second) == made);
    sp_fd_close(&second);
}

static void the_stash_has_a_bound(void) {
    unsigned fds = count_fds();
    for (int i = 0; i < 2 * SP_STASH_MAX; i++) {
        sp_netns_return(&stash, dup(0));
    }
    CHECK(stash.n_used == SP_STASH_MAX && count_fds() == fds + SP_STASH_MAX);
    CHECK(sp_netns_check_used(&stash) && stash.count == 0); /* /dev/null is not a namespace */
    drop_stash();
    while (sp_netns_make(&stash) == 0) {
    }
    CHECK(stash.count == SP_STASH_MAX && sp_netns_make(&stash) == -ENOSPC);
    sp_netns_return(&stash, dup(stash.fds[0]));
    CHECK(stash.count == SP_STASH_MAX && stash.n_used == 0);
    drop_stash();
    CHECK(count_fds() == fds);
}

/* In the test's own namespace there are no sockets, so that the copies of its descriptor are kept. */
static void fill(unsigned n) {
    sp_auto_fd int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    while (stash.count < n) {
        sp_netns_return(&stash, dup(own));
        CHECK(sp_netns_check_used(&stash));
    }
}

static void what_was_not_needed_is_closed_later(void) {
    static const unsigned taken[] = {0, 10, 70};
    const int64_t now = SP_SEC(1000);
    unsigned fds = count_fds();
    for (unsigned i = 0; i < 3; i++) {
        int out[70];
        fill(100);
        stash.least = 100;
        stash.trim_at = now + 1;
        for (unsigned n = 0; n < taken[i]; n++) {
            out[n] = sp_netns_enter(&stash);
        }
        for (unsigned n = 0; n < taken[i]; n++) {
            sp_netns_return(&stash, out[n]);
        }
        sp_netns_trim(&stash, now);
        CHECK(stash.count + stash.n_used == 100);
        sp_netns_trim(&stash, now + 1);
        CHECK(stash.count + stash.n_used == (taken[i] == 70 ? 100 : SP_STASH_SPARE + taken[i]));
        CHECK(stash.least == stash.count + stash.n_used);
        drop_stash();
    }
    CHECK(count_fds() == fds);
}

static void a_namespace_whose_sockets_cannot_be_counted_is_closed(void) {
    int proc = dup(SP_PROC_FD);
    int fd = sp_netns_enter(&stash);
    CHECK(fd >= 0 && dup2(0, SP_PROC_FD) != -1);
    sp_netns_return(&stash, fd);
    CHECK(sp_netns_check_used(&stash) && stash.count == 0);
    CHECK(sp_netns_enter(&stash) == -ENOTDIR);
    CHECK(dup2(proc, SP_PROC_FD) != -1);
    sp_fd_close(&proc);
}

static void make_in_vain(int call, int err, bool loopback) {
    const unsigned fds = count_fds();
    stash.loopback = loopback;
    refuse(call, err);
    CHECK(sp_netns_make(&stash) == -err && sp_netns_enter(&stash) == -err && stash.count == 0);
    CHECK(count_fds() == fds);
}

static void no_namespace(void) { make_in_vain(SYS_unshare, ENOSPC, false); }
static void no_socket(void) { make_in_vain(SYS_socket, EAFNOSUPPORT, true); }
static void no_flags(void) { make_in_vain(SYS_ioctl, EPERM, true); }

static void one_that_cannot_be_made_is_reported(void) {
    CHECK(in_child(no_namespace, 10) == 0 && in_child(no_socket, 10) == 0 && in_child(no_flags, 10) == 0);
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(60);
    if (lack == NULL && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0 && unshare(CLONE_NEWNET) != 0) {
        perror("unshare");
        return 1;
    }
    int proc = open("/proc", O_PATH | O_DIRECTORY);
    if (proc != SP_PROC_FD) {
        (void)dup2(proc, SP_PROC_FD);
    }
    RUN_WITHOUT(lack, an_empty_namespace_is_kept);
    RUN_WITHOUT(lack, a_namespace_with_a_socket_is_closed);
    RUN_WITHOUT(lack, a_returned_namespace_is_used_before_a_new_one);
    RUN_WITHOUT(lack, the_stash_has_a_bound);
    RUN_WITHOUT(lack, what_was_not_needed_is_closed_later);
    RUN_WITHOUT(lack, a_namespace_whose_sockets_cannot_be_counted_is_closed);
    RUN_WITHOUT(lack, one_that_cannot_be_made_is_reported);
    return check_report();
}
