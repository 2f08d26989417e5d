/* Landlock: what may be opened, whatever the mounts show. Async-signal-safe, no allocation. */
#ifndef SANDPOOL_INIT_LANDLOCK_H
#define SANDPOOL_INIT_LANDLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* Everything beneath path (or the file itself) may be read and executed, and changed if it is writable. */
struct sp_landlock_rule {
    const char *path;
    bool writable;
};

/*
 * Confines the calling process, and all that it starts, to the rules, for good. What no rule names is denied. From the
 * ABI that has it on: no signal and no abstract unix socket of a process outside (6), and with deny_tcp no TCP bind and
 * connect (4). abi_max forces the behaviour of an older kernel; 0 is a kernel without Landlock.
 *
 * The caller has set no_new_privs and done its mounts: afterwards the kernel refuses mount().
 * Returns the ABI that is enforced (>= 1), 0 when the kernel has none (nothing is enforced), or -errno (likewise).
 */
int sp_landlock_apply(const struct sp_landlock_rule *rules, unsigned n_rules, uint32_t abi_max, bool deny_tcp);

/* The same; on an error *failed is the rule's path or the step that failed. */
int sp_landlock_restrict(const struct sp_landlock_rule *rules, unsigned n_rules, uint32_t abi_max, bool deny_tcp,
                         const char **failed);

#endif
