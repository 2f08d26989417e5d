/* The zygote: the static program before the clone. One thread, no heap. */
#ifndef SANDPOOL_ZYGOTE_ZYGOTE_H
#define SANDPOOL_ZYGOTE_ZYGOTE_H

#include <sys/types.h>

#include "init/plan.h"

/* config.c: receives CONFIG with its payload; the plan points into memory that lives as long as the process. */
/* The host's pidfd goes to *host; -1: the kernel it runs on, or a filter over it, has none. */
int sp_zygote_configure(int sock, struct sp_plan *plan, int *host, struct sp_rec_failed *why);

/*
 * enter.c: gives up root, clones the process that becomes the zygote proper (pid 1 of its own pid namespace, in its own
 * user namespace) and returns in that child only. The parent reports the child's pidfd and exits. -errno in either.
 */
int sp_zygote_enter(int sock, struct sp_plan *plan, struct sp_rec_failed *why);

/*
 * enter.c: clones a process into new namespaces, but for those that the plan comes to leave out; born in `cgroup`
 * unless that is -1. As fork(2): 0 in the child, the pid, or -1 with errno.
 */
long sp_zygote_clone(struct sp_plan *plan, int cgroup, int *pidfd);

/*
 * binds.c: attaches the tree that plan->rootfs names at /new, and sees to it that what is mounted in it has a place.
 */
int sp_zygote_attach_rootfs(const struct sp_plan *plan, struct sp_rec_failed *why);

/* root.c: builds the read-only root that all sandboxes share, and makes it the root of this process. */
int sp_zygote_build_root(struct sp_plan *plan, struct sp_rec_failed *why);
/* view.c: the system view below "/new": /usr & co. and /etc; and the devices in its /dev. Sources are below "/old". */
int sp_zygote_system_view(const struct sp_plan *plan, struct sp_rec_failed *why);
int sp_zygote_show_dev(struct sp_rec_failed *why);

/*
 * binds.c: what the configuration adds. As root, its sources are opened before root is given up, which reaches what
 * "nobody" could not, and lets a writable one be idmapped. What could not be taken then is tried again later.
 */
int sp_zygote_clone_binds(const struct sp_plan *plan, struct sp_rec_failed *why);
/* Shows them, below /new or staged for init. Sources not yet taken are below "/old". */
int sp_zygote_attach_binds(const struct sp_plan *plan, struct sp_rec_failed *why);

/* idmap.c: makes the owner of the detached tree's root the sandbox's user. 0 or -errno: nothing has changed. */
int sp_zygote_idmap_tree(int tree);

/* filters.c: installs what every sandbox inherits, and counts it. Needs no_new_privs. */
int sp_zygote_filter(struct sp_plan *plan, struct sp_rec_failed *why);

/* netns.c: the stash of network namespaces that no tenant has used, or in which a look has shown no socket. */
struct sp_netns_stash {
    int fds[8];
    unsigned count;
    int used[8]; /* by a sandbox that is reaped, and not looked at yet */
    unsigned n_used;
    bool loopback; /* new ones get lo up; the profile must allow inet sockets, to the zygote too */
};
/* Adds one new namespace. 0 or -errno. */
int sp_netns_make(struct sp_netns_stash *stash);
/* Makes an empty namespace the current one, so that the next clone inherits it. Its fd (owned by the caller) or
 * -errno. */
int sp_netns_enter(struct sp_netns_stash *stash);
/* Takes back the fd of a namespace whose processes are all dead, or closes it when there are enough. */
void sp_netns_return(struct sp_netns_stash *stash, int fd);
/*
 * Looks at one that came back, about 10 us: it is kept when no socket is left in it, else closed. False: there was
 * none.
 */
bool sp_netns_check_used(struct sp_netns_stash *stash);

/*
 * serve.c: answers CREATE and reaps, until the host's socket closes or the host ends. Its end alone closes nothing when
 * children that it forked hold the same descriptors.
 */
void sp_zygote_serve(int sock, int host, struct sp_plan *plan);

#endif
