/* Landlock: which files may be opened, whatever the mounts show. Async-signal-safe, no allocation. */
#ifndef SANDPOOL_INIT_LANDLOCK_H
#define SANDPOOL_INIT_LANDLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define SP_LANDLOCK_SCOPED 6 /* the first ABI that scopes signals and abstract unix sockets */

/* Everything below `path` (or the file itself) may be read and executed, and also changed if `writable` is set. `check`
 * is asked with the open path. */
struct sp_landlock_rule {
    const char *path;
    bool writable;
    bool dispensable;   /* a path that does not exist is passed over */
    const char *within; /* another rule's path that contains it: from there on no link is followed, because a tenant may
                           have made it; NULL: none */
    int (*check)(int path, const struct sp_landlock_rule *rule); /* 0, or -errno: not this one. NULL: any */
};

/*
 * Confines the calling process, and all processes that it starts, to the rules for good. What no rule covers is denied.
 * From ABI 6 on, signals to outside processes and their abstract unix sockets are denied, too; with deny_tcp, from ABI
 * 4 on, also TCP bind and connect. abi_max makes a newer kernel behave like one of that ABI; 0 is a kernel without
 * Landlock.
 *
 * The caller must have set no_new_privs and done its mounts, because afterwards the kernel refuses mount().
 * Returns the ABI that is enforced (>= 1), or 0 when the kernel has no Landlock, or -errno; in the last two cases
 * nothing is enforced. After an error *failed is the path of the rule, or the step, that failed.
 */
int sp_landlock_restrict(const struct sp_landlock_rule *rules, unsigned n_rules, uint32_t abi_max, bool deny_tcp,
                         const char **failed);

/* The ABI that sp_landlock_restrict() would enforce: 0 when the kernel has no Landlock, -errno when it is refused. */
int sp_landlock_abi(uint32_t abi_max);

/* Two lists of rules, of which the second may be NULL. */
struct sp_landlock_rules {
    const struct sp_landlock_rule *rules, *more;
    unsigned n_rules, n_more;
};

/*
 * The two halves of sp_landlock_restrict(), for a domain that many processes enter. sp_landlock_make() returns a
 * descriptor of the rules, or -errno with *failed filled; it must only be called where the ABI is at least 1.
 */
int sp_landlock_make(const struct sp_landlock_rules *rules, uint32_t abi_max, bool deny_tcp, const char **failed);
/* Enters a domain of these rules. 0 or -errno. */
int sp_landlock_enter(int ruleset, uint32_t abi_max);
/* Enters a domain that restricts no files, but only signals and abstract unix sockets; the ABI must have scopes. 0 or
 * -errno. */
int sp_landlock_scope(uint32_t abi_max);

#endif
