/*
 * The stem in the Landlock tier: no mount shows it another root, so it has a domain of its own, in which the
 * interpreter finds what its sandboxes find, and a directory in the place of /tmp. Root gives itself up as the zygote
 * of a sandbox with namespaces does, and keeps the capabilities to give ids to leases.
 */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/stage.h"
#include "init/landlock.h"
#include "init/landlock_tier.h"
#include "zygote/stem.h"
#include "zygote/zygote.h"

static char home[PATH_MAX];

const char *sp_stem_tier_home(void) { return home; }

/* An earlier zygote of the same host may still make directories of leases, with numbers of the same series. */
static int make_home(struct sp_plan *plan, struct sp_rec_failed *why) {
    const char *end = home + sizeof home;
    int err = 0;
    do {
        sp_zygote_tier_next(plan);
        char *at = sp_append_number(sp_append(sp_append(home, end, plan->leases), end, "/l"), end, plan->lease);
        err = at == NULL ? ENAMETOOLONG : mkdir(home, 0700) == 0 ? 0 : errno;
    } while (err == EEXIST);
    if (err != 0) {
        return sp_failed(why, SP_STAGE_SCRATCH, err, plan->leases);
    }
    return !sp_has_lease_ids(plan) || chown(home, SP_UNPRIVILEGED_ID, SP_UNPRIVILEGED_ID) == 0
               ? 0
               : sp_failed(why, SP_STAGE_SCRATCH, errno, "owner of the directory");
}

/* An exec of root would give it all capabilities of the bounding set again. */
static int give_up_root(const struct sp_plan *plan, struct sp_rec_failed *why) {
    const unsigned id = SP_UNPRIVILEGED_ID;
    int rc = sp_stem_keep_capabilities(plan);
    for (unsigned long cap = 0; cap < plan->n_capabilities; cap++) {
        (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    }
    if (!sp_has_lease_ids(plan)) {
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
        rc = rc == 0 && syscall(SYS_capset, &header, none) != 0 ? -errno : rc;
        return rc == 0 ? 0 : sp_failed(why, SP_STAGE_CAPS, -rc, "capset");
    }
    if (rc == 0 && (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 || (setgroups(0, NULL) != 0 && errno != EPERM) ||
                    setresgid(id, id, id) != 0 || setresuid(id, id, id) != 0)) {
        rc = -errno;
    }
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_DROP_ROOT, -rc, "uid 65534 of the interpreter");
}

/* What the inits need is in it, too: their own domains cannot allow more. */
static int enter_domain(const struct sp_plan *plan, struct sp_rec_failed *why) {
    const struct sp_landlock_rule own[] = {{.path = plan->leases, .writable = true}, SP_TIER_OF_INIT};
    const struct sp_landlock_rules rules = {
        .rules = plan->rules, .n_rules = plan->n_rules, .more = own, .n_more = sizeof own / sizeof own[0]};
    const uint32_t most = plan->config.landlock_abi_max;
    const char *failed = "landlock";
    sp_auto_fd int domain = sp_landlock_make(&rules, most, true, &failed);
    int rc = domain < 0 ? domain : sp_landlock_enter(domain, most);
    return rc == 0 ? 0 : sp_failed(why, failed[0] == '/' ? SP_STAGE_BIND : SP_STAGE_LANDLOCK, -rc, failed);
}

int sp_stem_tier_prepare(struct sp_plan *plan, struct sp_rec_failed *why) {
    int rc = make_home(plan, why);
    rc = rc != 0 ? rc : give_up_root(plan, why);
    return rc != 0 ? rc : enter_domain(plan, why);
}
