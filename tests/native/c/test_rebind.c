/* sources: csrc/host/linux/rebind.c csrc/host/linux/paths.c csrc/host/linux/mounts.c csrc/host/sys/own.c
 * csrc/host/sandbox/error.c csrc/common/tree_linux.c csrc/common/idmap_linux.c csrc/common/packet.c csrc/common/wire.c
 * csrc/common/fd.c csrc/common/fd_linux.c csrc/common/vfork_linux.c csrc/common/clock.c csrc/common/text.c
 * csrc/common/mountinfo_linux.c */
/* What a zygote is asked for when paths lead elsewhere, and what becomes of a request that cannot be made. */
#include "host/linux/rebind.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"
#include "common/fd.h"
#include "common/packet.h"
#include "lacks.h"
#include "nth.h"
#include "refused.h"

#define TOP "/tmp/top"
#define INNER TOP "/inner"
#define OTHER "/tmp/other"

static struct sp_paths *paths;
static struct sp_look *now;
static struct sp_zygote zygote;
static int far_end; /* the zygote's */

static void look(void) {
    sp_error error;
    CHECK(sp_paths_look(paths, now, &error) != 0);
}

/* A zygote that shows what the paths lead to. */
static void prepare(void) {
    static const sp_bind binds[] = {{.path = OTHER, .source = OTHER, .flags = SP_BIND_WRITABLE},
                                    {.path = TOP, .source = TOP},
                                    {.path = INNER, .source = INNER}};
    const sp_sandbox_options options = {.binds = binds, .n_binds = sizeof binds / sizeof binds[0]};
    int pair[2];
    enter_own_mounts();
    CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0);
    CHECK(mkdir(TOP, 0755) == 0 && mkdir(INNER, 0755) == 0 && mkdir(OTHER, 0755) == 0);
    CHECK(sp_paths_make(&options, &paths) == 0);
    make_pair(pair);
    zygote.sock = pair[0];
    far_end = pair[1];
    now = sp_look_new(paths);
    zygote.bound = sp_look_new(paths);
    zygote.sent = calloc(paths->n + 1, sizeof *zygote.sent);
    look();
    sp_look_copy(paths, zygote.bound, now);
    zygote.paths = now->total;
}

static void drop(void) {
    sp_paths_free(paths);
    free(now);
    free(zygote.bound);
    free(zygote.sent);
    sp_fd_close(&zygote.sock);
    sp_fd_close(&far_end);
}

static void replace_directory(const char *path) {
    CHECK(rmdir(path) == 0 && mkdir(path, 0755) == 0);
    look();
}

/* The indices of the binds that the zygote is asked for, each with a tree. */
static unsigned asked(uint32_t indices[4]) {
    struct sp_packet packet;
    unsigned n = 0;
    while (n < 4 && sp_packet_recv(far_end, &packet, NULL, 0) == 0) {
        CHECK(packet.record.type == SP_REC_BIND && packet.n_fds == 1);
        indices[n++] = packet.record.u.bind.index | packet.record.u.bind.flags << 8;
        sp_packet_close(&packet);
    }
    return n;
}

#define LAST (SP_BIND_LAST << 8)

static void a_group(void) {
    uint32_t indices[4];
    prepare();
    CHECK(sp_rebind(&zygote, paths, now) == 0 && asked(indices) == 0); /* nothing has changed */
    replace_directory(INNER);
    CHECK(sp_rebind(&zygote, paths, now) == 0);
    CHECK(asked(indices) == 2 && indices[0] == 1 && indices[1] == (2 | LAST));
    CHECK(zygote.paths == now->total && zygote.bindings == 2 && zygote.sent[1] == 2 && zygote.sent[0] == 0);
    replace_directory(OTHER);
    CHECK(sp_rebind(&zygote, paths, now) == 0 && asked(indices) == 1 && indices[0] == (0 | LAST));
    CHECK(mount("tmpfs", INNER, "tmpfs", 0, NULL) == 0);
    look();
    CHECK(sp_rebind(&zygote, paths, now) == 0 && asked(indices) == 3); /* whatever it is mounted on */
    drop();
}

static void what_needs_another_zygote(void) {
    prepare();
    now->rootfs++;
    CHECK(sp_rebind(&zygote, paths, now) == -ENOTSUP);
    now->rootfs--;
    zygote.failures = 100;
    zygote.failed = now->total;
    CHECK(sp_rebind(&zygote, paths, now) == -ENOTSUP); /* it has failed as often as that */
    zygote.failed--;
    CHECK(sp_rebind(&zygote, paths, now) == 0);
    free(zygote.bound);
    zygote.bound = NULL; /* there was no memory */
    CHECK(sp_rebind(&zygote, paths, now) == -ENOTSUP);
    sp_rebind_failed(&zygote, paths, 1);
    drop();
}

static void what_may_not_be_shown(void) {
    prepare();
    CHECK(rmdir(OTHER) == 0 && symlink("/proc", OTHER) == 0);
    look();
    CHECK(sp_rebind(&zygote, paths, now) == -ENOTSUP && zygote.paths == 0);
    drop();
}

/* Between the look and the request. */
static void what_has_vanished(void) {
    prepare();
    replace_directory(INNER);
    CHECK(rmdir(INNER) == 0 && sp_rebind(&zygote, paths, now) == -EAGAIN && zygote.paths == 0);
    CHECK(mkdir(INNER, 0755) == 0);
    look();
    CHECK(sp_rebind(&zygote, paths, now) == 0 && zygote.paths == now->total);
    drop();
}

static void a_zygote_that_does_not_read(void) {
    const struct sp_record record = {.type = SP_REC_BIND};
    uint32_t indices[4];
    prepare();
    replace_directory(OTHER);
    while (sp_packet_send(zygote.sock, &(struct sp_outgoing){.record = &record}, 0) == 0) {
    }
    CHECK(sp_rebind(&zygote, paths, now) == -EAGAIN && zygote.paths == 0);
    struct sp_packet packet;
    while (sp_packet_recv(far_end, &packet, NULL, 0) == 0) {
        sp_packet_close(&packet);
    }
    CHECK(sp_rebind(&zygote, paths, now) == 0 && asked(indices) == 1 && zygote.paths == now->total);
    sp_fd_close(&far_end);
    replace_directory(OTHER);
    CHECK(sp_rebind(&zygote, paths, now) == -EAGAIN); /* it is dead, which the next birth finds out */
    drop();
}

/* Where the kernel lets this process make no tree, the zygote resolves the path itself. */
static void without_a_right(void) {
    struct sp_packet packet;
    prepare();
    replace_directory(OTHER);
    refuse(SYS_open_tree, EPERM);
    CHECK(sp_rebind(&zygote, paths, now) == 0);
    CHECK(sp_packet_recv(far_end, &packet, NULL, 0) == 0 && packet.n_fds == 0 && packet.record.type == SP_REC_BIND);
    drop();
}

static void births_that_fail(void) {
    uint32_t indices[4];
    prepare();
    replace_directory(OTHER);
    CHECK(sp_rebind(&zygote, paths, now) == 0 && asked(indices) == 1);
    for (unsigned i = 1; i <= 4; i++) {
        sp_rebind_failed(&zygote, paths, zygote.bindings);
        CHECK(zygote.failures == i && zygote.failed == now->total && zygote.paths == 0);
        CHECK(zygote.bound->found[0].digest == 0 && zygote.bound->found[1].digest != 0);
        CHECK(sp_rebind(&zygote, paths, now) == (i < 4 ? 0 : -ENOTSUP));
    }
    replace_directory(OTHER); /* another one may do */
    CHECK(sp_rebind(&zygote, paths, now) == 0);
    sp_rebind_failed(&zygote, paths, zygote.bindings);
    CHECK(zygote.failures == 1);
    drop();
}

/* As an ordinary user's: the zygote opens the path itself. */
static void without_root(void) {
    struct sp_packet packet;
    prepare();
    replace_directory(OTHER);
    refuse(SYS_geteuid, EPERM); /* which is an id then */
    CHECK(geteuid() != 0 && sp_rebind(&zygote, paths, now) == 0);
    CHECK(sp_packet_recv(far_end, &packet, NULL, 0) == 0 && packet.record.type == SP_REC_BIND && packet.n_fds == 0);
    drop();
}

static void changed_paths_are_bound_anew(void) {
    CHECK(in_child(a_group, 20) == 0 && in_child(without_a_right, 20) == 0);
    CHECK(in_child(what_needs_another_zygote, 20) == 0 && in_child(what_may_not_be_shown, 20) == 0);
    CHECK(in_child(what_has_vanished, 20) == 0 && in_child(a_zygote_that_does_not_read, 20) == 0);
    CHECK(in_child(births_that_fail, 20) == 0 && in_child(without_root, 20) == 0);
}

/* ---- calls that are refused ---- */

static void prepare_a_change(void) {
    prepare();
    replace_directory(INNER);
}

static int rebind_and_check(void) {
    const int rc = sp_rebind(&zygote, paths, now);
    CHECK((rc == 0) == (zygote.paths == now->total));
    return rc;
}

static void each_refused_call_is_reported(void) {
    static const long calls[] = {SYS_openat, SYS_openat2, SYS_open_tree, SYS_fstatfs, SYS_readlinkat};
    const struct sweep sweep = {
        .prepare = prepare_a_change, .act = rebind_and_check, .err = EMFILE, .other = {ENOTSUP, EAGAIN}};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        (void)count_fatal(&sweep, calls[i]);
    }
    const struct sweep no_directory = {
        .prepare = prepare_a_change, .act = rebind_and_check, .err = ENOTDIR, .other = {ENOTSUP, EAGAIN}};
    CHECK(count_fatal(&no_directory, SYS_openat2) != 0);
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(60);
    RUN_WITHOUT(lack, changed_paths_are_bound_anew);
    RUN_WITHOUT(lack, each_refused_call_is_reported);
    return check_report();
}
