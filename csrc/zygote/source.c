#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/tree.h"
#include "common/vfork.h"
#include "init/plan.h"
#include "zygote/binds.h"

static int open_source(const struct sp_plan *plan, const struct sp_plan_bind *bind, int root) {
    if (bind->within == -1) {
        return sp_tree_open_path(root, bind->source);
    }
    const struct sp_plan_bind *outer = &plan->binds[bind->within];
    sp_auto_fd int above = open_source(plan, outer, root);
    return above < 0 ? above : sp_tree_open_inside(above, bind->source + strlen(outer->source) + 1);
}

int sp_source_open(const struct sp_plan *plan, const struct sp_plan_bind *bind, const char *base) {
    sp_auto_fd int root = open(base[0] != '\0' ? base : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    sp_auto_fd int source = root == -1 ? -errno : open_source(plan, bind, root);
    int rc = source < 0 ? source : sp_tree_check(source, bind->source, bind->writable, base);
    return rc != 0 ? rc : sp_fd_steal(&source);
}

int sp_source_clone(const struct sp_plan *plan, const struct sp_plan_bind *bind, const char *base) {
    sp_auto_fd int source = sp_source_open(plan, bind, base);
    return source < 0 ? source : sp_tree_clone(source, bind->writable, true);
}

/* ---- the host's mounts, once the template has become the root ---- */

/* The mount namespace that the zygote was in before it built the template. No sandbox gets this descriptor: init closes
 * it first of all. */
static int outside = -1;

int sp_outside(void) { return outside; }

void sp_outside_take_over(int fd) { outside = fd; }

void sp_outside_keep(void) {
    /* What the host mounts and unmounts later appears here, too, where its mounts are shared. Nothing goes back. */
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0) {
        return;
    }
    outside = openat(SP_PROC_FD, "self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (unshare(CLONE_NEWNS) != 0) {
        sp_fd_close(&outside); /* the template is going to be built in it */
    }
}

struct resolved {
    const struct sp_plan *plan;
    const struct sp_plan_bind *bind;
    int tree; /* or -errno */
};

/* In a child with the zygote's memory and descriptors, but with a root and a mount namespace of its own. */
static int resolve(void *arg) {
    struct resolved *r = arg;
    r->tree = setns(outside, CLONE_NEWNS) == 0 ? sp_source_clone(r->plan, r->bind, "") : -errno;
    return 0;
}

int sp_source_clone_outside(const struct sp_plan *plan, const struct sp_plan_bind *bind) {
    struct resolved r = {.plan = plan, .bind = bind, .tree = -EAGAIN};
    int rc = sp_vfork_run(resolve, &r);
    return rc != 0 ? rc : r.tree;
}
