/* sources: csrc/zygote/workspace.c csrc/zygote/source.c csrc/zygote/search.c csrc/zygote/listing.c csrc/init/files.c
 * csrc/init/mount_flags.c csrc/init/lines.c csrc/init/proc.c csrc/common/tree_linux.c csrc/common/idmap_linux.c
 * csrc/common/vfork_linux.c csrc/common/packet.c csrc/common/wire.c csrc/common/clock.c csrc/common/fd.c
 * csrc/common/fd_linux.c csrc/common/mountinfo_linux.c csrc/common/text.c */
/* A workspace is attached as it was ordered, or the answer says why not and nothing of it is left. */
#include <poll.h>
#include <sys/stat.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/packet.h"
#include "common/stage.h"
#include "common/tree.h"
#include "lacks.h"
#include "nth.h"
#include "refused.h"
#include "zygote/binds.h"
#include "zygote/zygote.h"

#define OURS "/tmp/ours"
#define LARGE 1100 /* more entries than the zygote waits for */

static bool allowed;

void sp_zygote_allow_workspace(struct sp_plan *plan) { allowed = plan->has_workspace = true; }

/* ---- the place in the template ---- */

static struct sp_rec_failed why;
static struct sp_plan_bind shown;
static struct sp_plan plan;

static void make_template(void) {
    plan = (struct sp_plan){.binds = &shown};
    enter_own_mounts();
    CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, "mode=0755") == 0 && mkdir("/tmp/new", 0755) == 0);
    CHECK(chroot("/tmp") == 0 && chdir("/") == 0);
}

static void make_rootfs(void) {
    make_template();
    plan.rootfs = "/rootfs";
    CHECK(mkdir("/new/mnt", 0755) == 0);
}

static int make_place(void) {
    int rc = sp_zygote_make_workspace(&plan, &why);
    CHECK(rc == 0 || (rc == -(int)why.err && why.stage == SP_STAGE_ROOT && strcmp(why.detail, SP_WORKSPACE) == 0));
    return rc;
}

static bool has_place(void) {
    struct stat st;
    return stat("/new" SP_WORKSPACE, &st) == 0 && S_ISDIR(st.st_mode);
}

static void in_the_system_view(void) {
    make_template();
    CHECK(make_place() == 0 && allowed && has_place() && access("/new/workspace", F_OK) == 0);
    CHECK(mkdir("/new/again", 0755) == 0);
    CHECK(sp_zygote_make_workspace(&plan, &why) == -EEXIST && why.stage == SP_STAGE_ROOT);
}

static void in_a_rootfs(void) {
    make_rootfs();
    CHECK(make_place() == 0 && allowed && has_place());
    CHECK(mkdir("/new/mnt/more", 0755) == -1 && errno == EROFS);
}

static void in_a_rootfs_with_files(void) {
    make_rootfs();
    CHECK(mkdir("/new/mnt/theirs", 0755) == 0);
    CHECK(make_place() == 0 && !allowed && !has_place());
}

static void below_a_bind(void) {
    static const char *const taken[] = {"/mnt", "/mnt/data", "/workspace/data"};
    make_template();
    plan.config.n_binds = 1;
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        shown.path = taken[i];
        CHECK(make_place() == 0 && !allowed && !has_place());
    }
}

static void there_is_a_place_where_nothing_else_is(void) {
    CHECK(in_child(in_the_system_view, 10) == 0 && in_child(in_a_rootfs, 10) == 0);
    CHECK(in_child(in_a_rootfs_with_files, 10) == 0 && in_child(below_a_bind, 10) == 0);
}

static void a_refused_place_is_reported(void) {
    const struct sweep sweep = {.prepare = make_template, .act = make_place, .err = ENOSPC};
    CHECK(count_fatal(&sweep, SYS_mkdirat) == 2);
    CHECK(count_fatal(&sweep, SYS_symlinkat) == 1);
}

/* Such a sandbox has no workspaces. */
static int make_place_in_rootfs(void) {
    int rc = make_place();
    CHECK(!allowed || has_place() || has_place());
    return rc;
}

static void a_refused_place_in_a_rootfs_is_done_without(void) {
    const struct sweep sweep = {.prepare = make_rootfs, .act = make_place_in_rootfs, .err = ENOMEM};
    CHECK(count_fatal(&sweep, SYS_mount) == 0 && count_fatal(&sweep, SYS_mkdirat) == 0);
    CHECK(count_fatal(&sweep, SYS_openat) == 0);
}

/* ---- attaching: this process is the zygote, a child the sandbox ---- */

static struct sp_rec_attach order;
static const char *path = OURS;
static int files;                           /* in the directory of the host */
static bool gives_tree;                     /* the host makes the tree itself */
static int reply, init, tree = -1, answers; /* `answers`: our end of `reply` */
static pid_t sandbox;
static enum { SENDS_NAMESPACES, SENDS_FAILURE, SENDS_NONSENSE, SENDS_NOTHING } init_says;

static void send_from_init(int sock) {
    struct sp_record record = {.type = SP_REC_NAMESPACES};
    const int fds[] = {open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), open("/proc/self/ns/user", O_RDONLY)};
    struct sp_outgoing out = {.record = &record, .fds = fds, .n_fds = 2};
    if (init_says == SENDS_FAILURE) {
        sp_packet_fail(sock, 0, &(struct sp_rec_failed){.stage = SP_STAGE_WORKSPACE, .err = EMFILE});
        return;
    }
    if (init_says == SENDS_NONSENSE) {
        record.type = SP_REC_ACK;
        out.n_fds = 0;
    }
    CHECK(init_says == SENDS_NOTHING || sp_packet_send(sock, &out, sp_now() + 1000 * MS) == 0);
}

/* What init/mounts.c leaves: /dev/shm is one directory of the scratch, whose root is mounted below it. */
static void be_sandbox(int sock, int mapped) {
    char byte;
    CHECK(read(mapped, &byte, 1) == 1);
    CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHECK(mount("tmpfs", "/mnt", "tmpfs", 0, "mode=0755") == 0 && mkdir(SP_WORKSPACE, 0755) == 0);
    CHECK(mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") == 0);
    CHECK(mkdir("/dev/shm/shm", 01777) == 0 && mount("/dev/shm/shm", "/dev/shm", NULL, MS_BIND, NULL) == 0);
    send_from_init(sock);
    (void)close(sock);
    CHECK(atomic_load(&check_failures) == 0);
    for (;;) {
        (void)pause();
    }
}

static void map_ids(pid_t pid) {
    char name[64];
    (void)snprintf(name, sizeof name, "/proc/%d/setgroups", (int)pid);
    write_text(name, "deny");
    (void)snprintf(name, sizeof name, "/proc/%d/uid_map", (int)pid);
    write_text(name, "0 0 1");
    (void)snprintf(name, sizeof name, "/proc/%d/gid_map", (int)pid);
    write_text(name, "0 0 1");
}

static void start_sandbox(void) {
    int pair[2];
    int mapped[2];
    const pid_t parent = getpid();
    make_pair(pair);
    CHECK(pipe(mapped) == 0);
    sandbox = (pid_t)syscall(SYS_clone, SIGCHLD | CLONE_NEWUSER | CLONE_NEWNS, NULL, NULL, NULL, 0L);
    if (sandbox == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == 0 || getppid() == parent) {
            (void)close(pair[0]);
            be_sandbox(pair[1], mapped[0]);
        }
        _exit(0);
    }
    (void)close(pair[1]);
    map_ids(sandbox);
    CHECK(write(mapped[1], "x", 1) == 1);
    init = pair[0];
    CHECK(sandbox > 0);
    struct pollfd sent = {.fd = init, .events = POLLIN};
    CHECK(poll(&sent, 1, 5000) == 1);
}

static void end_sandbox(void) {
    if (sandbox > 0) { /* -1 would be everybody */
        (void)kill(sandbox, SIGKILL);
    }
}

static void fill_ours(void) {
    char name[64];
    CHECK(mkdir(OURS, 0755) == 0);
    for (int i = 0; i < files; i++) {
        (void)snprintf(name, sizeof name, OURS "/%d", i);
        (void)close(open(name, O_CREAT | O_WRONLY, i == 0 ? 04755 : 0644)); /* the first one is set-id */
    }
    (void)close(open("/tmp/file", O_CREAT | O_WRONLY, 0644));
}

static void prepare(void) {
    struct stat st;
    int answer[2];
    plan = (struct sp_plan){.has_workspace = true};
    enter_own_mounts();
    CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, "mode=0755") == 0);
    umask(0);
    fill_ours();
    (void)dup2(open("/proc", O_PATH | O_DIRECTORY), SP_PROC_FD);
    sp_outside_keep();
    CHECK(sp_outside() != -1);
    CHECK(stat(path, &st) == 0);
    order.device = st.st_dev;
    order.inode = st.st_ino;
    if (gives_tree) {
        int source = open(path, O_PATH | O_CLOEXEC);
        tree = sp_tree_clone(source, order.mode == SP_ATTACH_RW, true);
        CHECK(tree >= 0);
    }
    make_pair(answer);
    reply = answer[1];
    answers = answer[0];
    start_sandbox();
}

/* By the answer: 0 or -errno; its detail is in `why`. */
static int receive_answer(void) {
    struct sp_packet packet;
    struct pollfd answered = {.fd = answers, .events = POLLIN};
    CHECK(poll(&answered, 1, 10000) == 1);
    if (sp_packet_recv(answers, &packet, NULL, 0) != 0 && sp_packet_recv(answers, &packet, NULL, 0) != 0) {
        return -EBADMSG;
    }
    why = packet.record.u.failed;
    CHECK(packet.record.type == SP_REC_ACK || (packet.record.type == SP_REC_FAILED && why.stage == SP_STAGE_WORKSPACE));
    return packet.record.type == SP_REC_ACK ? 0 : -(int)why.err;
}

static int attach(void) {
    const int fds[] = {reply, init, tree};
    sp_zygote_attach_workspace(&plan, &order, path, fds, gives_tree ? 3 : 2);
    return receive_answer();
}

static char inside[128];

static const char *in_sandbox(const char *name) {
    (void)snprintf(inside, sizeof inside, "/proc/%d/root%s", (int)sandbox, name);
    return inside;
}

/* One call of these may be the refused one. */
static bool is_attached(void) {
    struct stat st;
    (void)in_sandbox(SP_WORKSPACE "/0");
    return stat(inside, &st) == 0 || stat(inside, &st) == 0;
}

static int attach_and_check(void) {
    int rc = attach();
    CHECK(rc != 0 || is_attached());
    end_sandbox();
    return rc;
}

static void attach_as_ordered(void) {
    struct stat st;
    prepare();
    unsigned fds = count_low_fds();
    CHECK(attach() == 0 && is_attached() && count_low_fds() == fds);
    int file = open(in_sandbox(SP_WORKSPACE "/new"), O_CREAT | O_WRONLY, 0644);
    CHECK(order.mode == SP_ATTACH_RO ? file == -1 && errno == EROFS : file != -1);
    CHECK((stat(OURS "/new", &st) == 0) == (order.mode == SP_ATTACH_RW));
    /* A set-id file can be changed in a copy, and nowhere else. */
    file = open(in_sandbox(SP_WORKSPACE "/0"), O_WRONLY);
    CHECK(order.mode == SP_ATTACH_COW ? file != -1 : file == -1 && errno == EROFS);
    CHECK(stat(in_sandbox("/dev/shm/lower"), &st) == -1 && errno == ENOENT);
    end_sandbox();
}

/* Linux before 5.11 has no overlays of ordinary users. */
static int try_overlay(void) {
    order.mode = SP_ATTACH_COW;
    prepare();
    int rc = attach();
    end_sandbox();
    return rc == 0 ? 0 : 1;
}

static bool has_overlays(void) { return lack_of(try_overlay, "this kernel has no overlays of users") == NULL; }

static const uint32_t modes[] = {SP_ATTACH_RW, SP_ATTACH_RO, SP_ATTACH_COW};

static void a_workspace_is_attached_in_each_way(void) {
    const size_t n = has_overlays() ? 3 : 2;
    for (size_t i = 0; i < 2 * n; i++) {
        order.mode = modes[i % n];
        gives_tree = i >= n;
        files = 3;
        CHECK(in_child(attach_as_ordered, 20) == 0);
    }
}

static void a_large_tree_is_searched_in_a_process_of_its_own(void) {
    order.mode = SP_ATTACH_RW;
    files = LARGE;
    for (int i = 0; i < 2; i++) {
        gives_tree = i == 1;
        CHECK(in_child(attach_as_ordered, 20) == 0);
    }
    files = 3;
}

/* ---- what is refused without a call that fails ---- */

static int expected;

static void attach_in_vain(void) {
    prepare();
    unsigned fds = count_low_fds();
    CHECK(attach() == -expected && count_low_fds() == fds && !is_attached());
    end_sandbox();
}

static void another_directory(void) {
    prepare();
    order.inode++;
    CHECK(attach() == -ESTALE && strcmp(why.detail, OURS) == 0);
}

static void no_place(void) {
    prepare();
    plan.has_workspace = false;
    CHECK(attach() == -EBUSY && !is_attached());
}

static void no_namespace_outside(void) {
    prepare();
    sp_outside_take_over(-1);
    CHECK(attach() == -EBADF && !is_attached());
}

/* It could be one that may not be shown. */
static void unknown_path(void) {
    prepare();
    refuse_nth(SYS_readlinkat, ENOMEM, 1);
    CHECK(attach() == -EINVAL && !is_attached());
}

/* Only the search of a tree for writing is made again by another process. */
static void too_large_for_stat(void) {
    prepare();
    refuse_nth(SYS_newfstatat, EOVERFLOW, 1);
    CHECK(attach() == -EOVERFLOW && !is_attached());
}

static void what_does_not_fit_is_refused(void) {
    order.mode = SP_ATTACH_RO;
    gives_tree = true;
    path = "/tmp/file";
    expected = ENOTDIR;
    CHECK(in_child(attach_in_vain, 10) == 0);
    path = OURS;
    CHECK(in_child(another_directory, 10) == 0 && in_child(no_place, 10) == 0);
    gives_tree = false;
    CHECK(in_child(no_namespace_outside, 10) == 0 && in_child(unknown_path, 10) == 0);
    CHECK(in_child(too_large_for_stat, 10) == 0);
    path = "/proc";
    expected = EINVAL;
    CHECK(in_child(attach_in_vain, 10) == 0);
    path = OURS;
}

static void an_init_that_cannot_help_is_reported(void) {
    static const int errors[] = {[SENDS_FAILURE] = EMFILE, [SENDS_NONSENSE] = EBADMSG, [SENDS_NOTHING] = ECONNRESET};
    order.mode = SP_ATTACH_RO;
    for (int says = SENDS_FAILURE; says <= SENDS_NOTHING; says++) {
        init_says = says;
        expected = errors[says];
        CHECK(in_child(attach_in_vain, 10) == 0);
    }
    init_says = SENDS_NAMESPACES;
}

/* ---- calls that are refused ---- */

/* EACCES: what cannot be looked at is taken for closed. */
static unsigned count_of(uint32_t mode, bool given, long call) {
    const struct sweep sweep = {.prepare = prepare, .act = attach_and_check, .err = ENOMEM, .other = {EACCES}};
    order.mode = mode;
    gives_tree = given;
    return count_fatal(&sweep, call);
}

static void each_refused_call_is_reported(void) {
    static const long calls[] = {SYS_setns,   SYS_openat,     SYS_openat2,       SYS_open_tree,
                                 SYS_fstatfs, SYS_faccessat2, SYS_move_mount,    SYS_clone,
                                 SYS_mmap,    SYS_newfstatat, SYS_mount_setattr, SYS_recvmsg};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK(count_of(SP_ATTACH_RW, false, calls[i]) != 0);
    }
}

static void each_refused_call_of_an_overlay_is_reported(void) {
    static const long calls[] = {SYS_fsopen,   SYS_fsconfig, SYS_fsmount,    SYS_mkdirat,
                                 SYS_fchmodat, SYS_openat,   SYS_move_mount, SYS_setns};
    for (size_t i = 0; has_overlays() && i < sizeof calls / sizeof calls[0]; i++) {
        CHECK(count_of(SP_ATTACH_COW, true, calls[i]) != 0);
    }
    CHECK(!has_overlays() || count_of(SP_ATTACH_COW, true, SYS_umount2) == 0); /* it is hidden all the same */
}

static void each_refused_call_for_a_large_tree_is_reported(void) {
    files = LARGE;
    CHECK(count_of(SP_ATTACH_RW, true, SYS_setns) == 2 && count_of(SP_ATTACH_RW, true, SYS_clone) == 2);
    files = 3;
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(200);
    RUN_WITHOUT(lack, there_is_a_place_where_nothing_else_is);
    RUN_WITHOUT(lack, a_refused_place_is_reported);
    RUN_WITHOUT(lack, a_refused_place_in_a_rootfs_is_done_without);
    RUN_WITHOUT(lack, a_workspace_is_attached_in_each_way);
    RUN_WITHOUT(lack, a_large_tree_is_searched_in_a_process_of_its_own);
    RUN_WITHOUT(lack, what_does_not_fit_is_refused);
    RUN_WITHOUT(lack, an_init_that_cannot_help_is_reported);
    RUN_WITHOUT(lack, each_refused_call_is_reported);
    RUN_WITHOUT(lack, each_refused_call_of_an_overlay_is_reported);
    RUN_WITHOUT(lack, each_refused_call_for_a_large_tree_is_reported);
    return check_report();
}
