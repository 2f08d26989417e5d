/* sources: csrc/zygote/pivot.c csrc/common/text.c csrc/common/fd.c */
/* A new root is as closed where pivot_root(2) is refused as where it is not. */
#include <fcntl.h>
#include <sys/stat.h>

#include "check.h"
#include "lacks.h"
#include "refused.h"
#include "zygote/zygote.h"

static int first_refusal, second_refusal; /* of pivot_root; 0: it is not refused */
static int proc = -1, old_namespace = -1;

static bool is_at(const char *path, const char *other) {
    struct stat st[2];
    return stat(path, &st[0]) == 0 && stat(other, &st[1]) == 0 && st[0].st_dev == st[1].st_dev &&
           st[0].st_ino == st[1].st_ino;
}

static void refuse_pivot(int err) {
    if (err != 0) {
        refuse(SYS_pivot_root, err);
    }
}

/* The first half of what root.c does; "/tmp" has a file of the host's. */
static void enter_base(void) {
    enter_own_mounts();
    CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0 && mkdir("/tmp/of-host", 0755) == 0);
    proc = open("/proc", O_PATH | O_DIRECTORY);
    CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0 && chdir("/tmp") == 0);
    CHECK(mkdir("old", 0755) == 0 && mkdir("new", 0755) == 0 && mkdir("base", 0755) == 0);
    refuse_pivot(first_refusal);
    CHECK(sp_pivot_keeping_old() == 0);
    CHECK(is_at(".", "/") && access("/base", F_OK) == 0);
}

static void enter_new(void) {
    enter_base();
    old_namespace = openat(proc, "self/ns/mnt", O_RDONLY | O_CLOEXEC);
    CHECK(mount("tmpfs", "/new", "tmpfs", 0, NULL) == 0 && mkdir("/new/inside", 0755) == 0);
    CHECK(mkdir("/new/old", 0755) == 0 && chdir("/new") == 0);
    refuse_pivot(second_refusal);
    CHECK(sp_pivot_leaving_old() == 0);
    CHECK(is_at(".", "/") && access("/inside", F_OK) == 0);
}

static void keep(void) {
    enter_base();
    CHECK(access("/old/proc/self", F_OK) == 0 && access("/old/etc", F_OK) == 0 && is_at("/old/..", "/"));
    CHECK(access("/old/tmp/of-host", F_OK) == 0 && access("/old/tmp/base", F_OK) == -1); /* the base hides nothing */
}

static bool is_inside(void) {
    return is_at("/", "/inside/..") && access("/etc", F_OK) == -1 && access("/base", F_OK) == -1;
}

/* One line of mountinfo: of the new root. */
static bool sees_only_its_root(void) {
    char text[4096];
    int file = openat(proc, "self/mountinfo", O_RDONLY | O_CLOEXEC);
    ssize_t n = read(file, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    (void)close(file);
    const char *end = strchr(text, '\n');
    return end != NULL && end[1] == '\0' && strstr(text, " / / ") != NULL;
}

static void leave(void) {
    enter_new();
    CHECK(sees_only_its_root() && is_inside());
    CHECK(chdir("..") == 0 && is_at(".", "/") && chdir("../../..") == 0 && is_at(".", "/"));
    CHECK(openat(AT_FDCWD, "../base", O_PATH) == -1 && access("/old/etc", F_OK) == -1);
    /* A chroot below, from where ".." would lead out of it: up to the new root and no further. */
    int root = open("/", O_PATH | O_DIRECTORY);
    CHECK(chroot("/inside") == 0 && fchdir(root) == 0 && chdir("../../..") == 0 && chroot(".") == 0 && is_inside());
    /* Whoever enters the namespace anew is at the same root. */
    CHECK(setns(old_namespace, CLONE_NEWNS) == 0 && is_inside() && is_at(".", "/"));
}

static void uncover(void) {
    CHECK(umount2("/", MNT_DETACH) == -1 && errno == EINVAL);
    CHECK(umount2(".", 0) == -1 && errno == EINVAL);
    CHECK(mount("/", "/inside", NULL, MS_MOVE, NULL) == -1 && errno == EINVAL);
    CHECK(mount("/inside", "/old", NULL, MS_BIND, NULL) == 0 && is_inside());
}

/* As init has them, before it gives up its capabilities: in a namespace of its own, where all mounts are locked. */
static void with_capabilities(void) {
    enter_new();
    CHECK(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0); /* which the kernel refuses in a root that is no namespace's */
    uncover();
    CHECK(chdir("../..") == 0 && is_inside() && sees_only_its_root() == false);
}

/* Who owns the namespace can: here, the zygote. That is what the locks prevent. */
static void as_the_owner(void) {
    first_refusal = second_refusal = EPERM;
    enter_new();
    CHECK(umount2("/", MNT_DETACH) == 0 && setns(old_namespace, CLONE_NEWNS) == 0 && access("/base", F_OK) == 0);
}

static void the_owner_of_the_namespace_can_uncover_it(void) { CHECK(in_child(as_the_owner, 10) == 0); }

static const int refusals[] = {0, EPERM, EACCES, ENOSYS, EINVAL};

static void each_way(void (*test)(void)) {
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        first_refusal = second_refusal = refusals[i];
        CHECK(in_child(test, 10) == 0);
    }
    first_refusal = 0;
    CHECK(in_child(test, 10) == 0);
}

static void the_first_root_shows_the_old_one(void) { each_way(keep); }
static void no_way_leads_out_of_the_second_one(void) { each_way(leave); }
static void nobody_inside_can_uncover_the_old_one(void) { each_way(with_capabilities); }

/* ---- where it fails ---- */

static void fail_first(int call, int err, unsigned argument, uint32_t bits) {
    enter_own_mounts();
    CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0 && chdir("/tmp") == 0 && mkdir("old", 0755) == 0);
    refuse(SYS_pivot_root, EPERM);
    refuse_flagged(call, err, argument, bits);
    CHECK(sp_pivot_keeping_old() == -err);
}

static void fail_second(int call, int err, unsigned argument, uint32_t bits) {
    enter_base();
    CHECK(mount("tmpfs", "/new", "tmpfs", 0, NULL) == 0 && chdir("/new") == 0);
    refuse(SYS_pivot_root, second_refusal);
    if (call != 0) {
        refuse_flagged(call, err, argument, bits);
    }
    CHECK(sp_pivot_leaving_old() == -err);
}

static void no_bind(void) { fail_first(SYS_mount, EACCES, 3, MS_BIND); }
static void no_move(void) { fail_first(SYS_mount, EACCES, 3, MS_MOVE); }
static void no_umount(void) { fail_first(SYS_umount2, EBUSY, 1, MNT_DETACH); }
static void no_path(void) { fail_first(SYS_getcwd, ENOMEM, 0, UINT32_MAX); }
static void no_chroot(void) { fail_first(SYS_chroot, EACCES, 0, UINT32_MAX); }
static void no_second_chroot(void) { fail_second(SYS_chroot, EACCES, 0, UINT32_MAX); }
static void no_second_move(void) { fail_second(SYS_mount, EACCES, 3, MS_MOVE); }
static void no_second_umount(void) { fail_second(SYS_umount2, EBUSY, 1, MNT_DETACH); }
static void another_error(void) { fail_second(0, ENOMEM, 0, 0); }

static void a_failure_is_reported(void) {
    first_refusal = 0;
    second_refusal = EPERM;
    CHECK(in_child(no_bind, 10) == 0 && in_child(no_move, 10) == 0 && in_child(no_umount, 10) == 0);
    CHECK(in_child(no_path, 10) == 0 && in_child(no_chroot, 10) == 0 && in_child(no_second_chroot, 10) == 0);
    CHECK(in_child(no_second_move, 10) == 0 && in_child(no_second_umount, 10) == 0);
    second_refusal = ENOMEM;
    CHECK(in_child(another_error, 10) == 0);
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(120);
    RUN_WITHOUT(lack, the_first_root_shows_the_old_one);
    RUN_WITHOUT(lack, no_way_leads_out_of_the_second_one);
    RUN_WITHOUT(lack, the_owner_of_the_namespace_can_uncover_it);
    RUN_WITHOUT(lack, nobody_inside_can_uncover_the_old_one);
    RUN_WITHOUT(lack, a_failure_is_reported);
    return check_report();
}
