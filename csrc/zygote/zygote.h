/* The zygote: what the static program does before it clones a sandbox. It has one thread and no heap. */
#ifndef SANDPOOL_ZYGOTE_ZYGOTE_H
#define SANDPOOL_ZYGOTE_ZYGOTE_H

#include <sys/types.h>

#include "init/plan.h"

/*
 * config.c: receives CONFIG with its payload; the plan points into memory that lives as long as the process. *host
 * becomes the pidfd of the host, or -1 when the host could not open one (an old kernel, or a filter).
 */
int sp_zygote_configure(int sock, struct sp_plan *plan, int *host, struct sp_rec_failed *why);

/* For the program that the zygote has become: reads the payload once more, into its own memory. 0 or -errno. */
int sp_zygote_take_over(struct sp_plan *plan, const char *payload);

/* runtime.c: the strings of the runtime, if there is one. 0 or -EBADMSG. */
int sp_zygote_parse_runtime(struct sp_plan *plan, const char **cursor, const char *end);

/* Lets the sandboxes write to a workspace: the template has a place for it. */
void sp_zygote_allow_workspace(struct sp_plan *plan);

/* limits.c: replaces the limits of the host by those of all sandboxes. Called as root, which may raise hard limits, and
 * before the user namespace is created, which takes some soft limits as its bounds. */
int sp_zygote_set_limits(struct sp_rec_failed *why);

/*
 * Where init counts the memory, its processes and those of the tenant have no transparent huge pages. Of such a page
 * the kernel keeps all of it, up to 2 MiB, as long as any 4 KiB of it are mapped, and shows those alone. What a cgroup
 * counts is all of it.
 */
int sp_zygote_leave_huge_pages(const struct sp_plan *plan, struct sp_rec_failed *why);

/* inherited.c: gives up what the host has more of than an ordinary process: priority, and protection against the end by
 * lack of memory. */
int sp_zygote_leave_inherited(struct sp_rec_failed *why);

/*
 * enter.c: gives up root and clones the process that becomes the zygote (pid 1 of its own pid namespace, in its own
 * user namespace). On success this returns only in that child; the parent sends the child's pidfd to the host and
 * exits. -errno on failure, in either process.
 */
int sp_zygote_enter(int sock, struct sp_plan *plan, struct sp_rec_failed *why);

/*
 * enter.c: clones a process into new namespaces, and into `cgroup` unless that is -1. Kinds of namespaces that the
 * kernel refuses and the plan lets go are left out. Like fork(2): 0 in the child, the pid, or -1 with errno.
 */
long sp_zygote_clone(struct sp_plan *plan, int cgroup, int *pidfd);

/*
 * landlock_tier.c: the same without namespaces and with the user's ids. On success this returns only in a child of the
 * warden, which adopts the tenants of an init that has died, and whose signals reach only what the warden has started.
 */
int sp_zygote_enter_tier(int sock, struct sp_plan *plan, struct sp_rec_failed *why);
/* The rules of Landlock in the place of a root. */
int sp_zygote_tier_rules(struct sp_plan *plan, struct sp_rec_failed *why);
/* For the program that the zygote has become: makes them once more. 0 or -errno. */
int sp_zygote_tier_take_over(struct sp_plan *plan);
/* Takes the number of the next sandbox, whose directory does not exist yet. */
void sp_zygote_tier_next(struct sp_plan *plan);
/* Remembers an init, and what was reaped: kills what an init has left if it did not end by itself. */
void sp_zygote_tier_created(pid_t init);
void sp_zygote_tier_reaped(const struct sp_plan *plan, pid_t pid, int status);

/*
 * leftovers.c: kills the children of this process that are not to be spared. False when there are none; a list that
 * breaks off may have left some out.
 */
bool sp_zygote_kill_leftovers(bool (*is_spared)(pid_t pid));
/* Kills all processes with the ids of the lease of this init. */
void sp_zygote_kill_lease(pid_t init);

/* warden.c: waits for the end of the zygote, and kills all that is left of its sandboxes. `scoped`: the signals of this
 * process reach nothing else. */
_Noreturn void sp_zygote_be_warden(pid_t zygote, bool scoped);

/* view.c: calls `each` with each path of the system view, and whether it is a device. */
void sp_zygote_each_shown(void (*each)(const char *path, bool device, void *arg), void *arg);

/* binds.c: attaches the tree of plan->rootfs at /new, and checks that it has the directories to mount on. */
int sp_zygote_attach_rootfs(const struct sp_plan *plan, struct sp_rec_failed *why);

/*
 * pivot.c: make the current directory, which must be a mount of its own, the root and the current directory. The first
 * function shows the old root at ./old of the new one, the second one lets nothing of it be reached: the first must
 * have been called before. 0 or -errno.
 */
int sp_pivot_keeping_old(void);
int sp_pivot_leaving_old(void);

struct sp_helpers;

/* root.c: builds the read-only root that all sandboxes share, and makes it the root of this process. */
int sp_zygote_build_root(struct sp_plan *plan, struct sp_rec_failed *why);
/* view.c: adds to "/new" the system view (/usr etc., and /etc), and the devices in /dev. Sources are below "/old". */
int sp_zygote_system_view(const struct sp_plan *plan, struct sp_helpers *helpers, struct sp_rec_failed *why);
int sp_zygote_show_dev(struct sp_rec_failed *why);
/* Whether a path of the host is in the system view by itself, not as a copy. */
bool sp_zygote_shows(const char *path);

/* copy.c: copies those paths of the host that exist from below "/old" to the same place below "/new". It is fastest
 * when paths of one directory follow each other. */
int sp_zygote_copy(const char *const *paths, size_t n, struct sp_rec_failed *why);

/* etc.c: adds the files of /etc that are made up for every sandbox to the system view, or lays them over the /etc of
 * the attached rootfs. */
int sp_zygote_make_etc(const struct sp_plan *plan, struct sp_rec_failed *why);
int sp_zygote_lay_etc(const struct sp_plan *plan, struct sp_rec_failed *why);

/* cpus.c: helpers add a copy of what the host's /sys/devices/system/cpu says about processors and caches: some 60 files
 * for each processor. Once they have ended, it is laid over the /sys of a rootfs. */
int sp_zygote_copy_cpus(const struct sp_plan *plan, struct sp_helpers *helpers, struct sp_rec_failed *why);
int sp_zygote_lay_cpus(const struct sp_plan *plan, struct sp_rec_failed *why);

/*
 * binds.c: clones the binds of the configuration. It does so only as root, before root is given up: root can reach
 * sources that "nobody" cannot, and can idmap a writable one. sp_zygote_attach_binds() clones the others.
 */
int sp_zygote_clone_binds(const struct sp_plan *plan, struct sp_rec_failed *why);
/* Attaches them below /new, or where init finds the staged ones. Sources that are not cloned yet are below "/old". */
int sp_zygote_attach_binds(const struct sp_plan *plan, struct sp_rec_failed *why);

/* The template has become the root. */
void sp_zygote_binds_are_in_root(void);
/*
 * Binds one path anew for later sandboxes: to *tree, or, if that is -1, to what the path leads to in the host's mounts;
 * *tree remains the caller's to close. The outcome is what sp_zygote_check_binds() returns afterwards. -EBADMSG: there
 * is no such bind.
 */
int sp_zygote_bind_again(const struct sp_plan *plan, const struct sp_rec_bind *again, int *tree);
/* 0, or -errno while a bind is missing in the template. *changes: sp_rec_bind.bindings of the last change. */
int sp_zygote_check_binds(const struct sp_plan *plan, uint32_t *changes, struct sp_rec_failed *why);

/* workspace.c: makes the place for a workspace in the template, if nothing else is shown there. */
int sp_zygote_make_workspace(struct sp_plan *plan, struct sp_rec_failed *why);
/* Attaches a workspace to a live sandbox whose init has sent its namespaces, in a child, which answers over fds[0].
 * `fds` are those of the record. */
void sp_zygote_attach_workspace(const struct sp_plan *plan, const struct sp_rec_attach *attach, const char *path,
                                const int *fds, unsigned n_fds);

/* filters.c: installs the filters that every sandbox inherits, and counts them. Needs no_new_privs. */
int sp_zygote_filter(struct sp_plan *plan, struct sp_rec_failed *why);
/* Refuses AF_UNIX sockets to all sandboxes. 0 or -errno. */
int sp_zygote_refuse_unix(struct sp_plan *plan);

/* netns.c: the stash of network namespaces that no tenant has used, or that were found to have no sockets left. */
#define SP_STASH_MAX 128  /* a burst of ends; beyond it namespaces are destroyed and made anew */
#define SP_STASH_SPARE 32 /* so many stay even if they are not needed */
struct sp_netns_stash {
    int fds[SP_STASH_MAX];
    unsigned count;
    int used[SP_STASH_MAX]; /* used by a sandbox that was reaped, and not checked yet */
    unsigned n_used;
    unsigned least;  /* that were in both, since the last trim */
    int64_t trim_at; /* when to look again whether there are too many */
    bool loopback;   /* lo is up in new ones; the seccomp profile must then allow inet sockets to the zygote, too */
};
/* Adds one new namespace. 0 or -errno. */
int sp_netns_make(struct sp_netns_stash *stash);
/* Enters a namespace without sockets, so that the next clone inherits it. Returns its fd, which the caller owns, or
 * -errno. */
int sp_netns_enter(struct sp_netns_stash *stash);
/* Takes back the fd of a namespace whose processes are all dead; closes it when there are enough. */
void sp_netns_return(struct sp_netns_stash *stash, int fd);
/* Closes those that were not needed since the last trim, if that was some seconds ago. */
void sp_netns_trim(struct sp_netns_stash *stash, int64_t now);
/* Checks one used namespace, which takes about 10 us: keeps it when no socket is left in it, else closes it. False:
 * there was none. */
bool sp_netns_check_used(struct sp_netns_stash *stash);

/* stem.c: the steps that need the privileges of the zygote, and then the exec of the interpreter, which returns only on
 * failure. See stem.h. */
int sp_zygote_prepare_stem(struct sp_plan *plan, struct sp_rec_failed *why);
int sp_zygote_become_stem(const struct sp_plan *plan, int host, struct sp_rec_failed *why);

/*
 * serve.c: answers CREATE and reaps, until the host's socket closes or `host` says that the host has ended. The socket
 * alone would not suffice: children that the host forked hold it, too.
 */
void sp_zygote_serve(int sock, int host, struct sp_plan *plan);

#endif
