/* CONFIG: the configuration that a launcher sends each of its zygotes. It is built once, so that a zygote that replaces
 * a dead one gets the same configuration. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fd.h"
#include "host/linux/zygote.h"
#include "host/seccomp/seccomp.h"

/* template, init, attach, exec */
#define FILTERS 4

/* The first ABIs of Landlock that scope signals, and that check truncation. */
#define SCOPED_ABI 6
#define TRUNCATE_ABI 3

/* The strings of CONFIG's payload, padded, then the filters. */
struct config_payload {
    char *bytes;
    size_t len;
    struct sp_filter filters[FILTERS];
};

static void payload_free(struct config_payload *p) {
    free(p->bytes);
    for (int i = 0; i < FILTERS; i++) {
        free(p->filters[i].insns);
    }
}

static bool has_writable_bind(const sp_sandbox_options *o) {
    for (uint32_t i = 0; i < o->n_binds; i++) {
        if ((o->binds[i].flags & SP_BIND_WRITABLE) != 0) {
            return true;
        }
    }
    return false;
}

#define BIND_PREFIX 33 /* length for a cover: 'c', then device and inode with 16 digits each */

static bool is_elsewhere(const sp_bind *bind) { return strcmp(bind->path, bind->source) != 0; }

/* Writes 'r', 'w' or 's' and the path, or in upper case, the path and the source; for a cover 'c', the device and inode
 * of the covered file, and the path. Returns the number of bytes with each NUL. */
static size_t put_bind(char *at, const sp_bind *bind) {
    size_t len = strlen(bind->path) + 1;
    size_t prefix = 1;
    if ((bind->flags & SP_BIND_COVER) != 0) {
        char text[BIND_PREFIX + 1];
        (void)snprintf(text, sizeof text, "c%016" PRIx64 "%016" PRIx64, bind->device, bind->inode);
        prefix = BIND_PREFIX;
        memcpy(at, text, prefix);
    } else {
        *at = (bind->flags & SP_BIND_SCRATCH) != 0 ? 's' : (bind->flags & SP_BIND_WRITABLE) != 0 ? 'w' : 'r';
    }
    memcpy(at + prefix, bind->path, len);
    if ((bind->flags & SP_BIND_COVER) == 0 && is_elsewhere(bind)) {
        *at = *at == 'w' ? 'W' : 'R';
        size_t more = strlen(bind->source) + 1;
        memcpy(at + prefix + len, bind->source, more);
        len += more;
    }
    return prefix + len;
}

static int payload_build(const sp_sandbox_options *o, const struct sp_tier *tier, struct config_payload *p) {
    struct sp_seccomp_policy policy = {.profile = o->seccomp_profile,
                                       .allow_fork = o->allow_fork != 0,
                                       .allow_unix_sockets = o->allow_unix_sockets != SP_UNIX_NONE && !tier->lower,
                                       .list_interfaces = o->network != SP_NET_NONE,
                                       .no_setid = has_writable_bind(o) || tier->lower,
                                       .pretend_sync = !has_writable_bind(o),
                                       .own_network = o->network != SP_NET_HOST,
                                       .no_filters = o->refuse_filters != 0,
                                       .interpreter = o->interpreter != NULL,
                                       .shares_host = tier->lower,
                                       .supervised = tier->lower && !tier->lease_uids,
                                       .one_group = tier->lower && !tier->lease_uids && tier->abi < SCOPED_ABI,
                                       .old_truncate = tier->lower && tier->abi < TRUNCATE_ABI,
                                       .allow = o->seccomp_allow,
                                       .n_allow = o->n_seccomp_allow};
    int rc = sp_seccomp_template(&policy, &p->filters[0]);
    rc = rc != 0 ? rc : sp_seccomp_init(&policy, &p->filters[1]);
    rc = rc != 0 ? rc : sp_seccomp_attach(&policy, &p->filters[2]);
    rc = rc != 0 ? rc : sp_seccomp_exec(&policy, &p->filters[3]);
    if (rc != 0) {
        return rc;
    }
    const char *root = tier->lower ? tier->leases : o->rootfs;
    size_t root_len = root != NULL ? strlen(root) + 1 : 0;
    size_t strings = root_len;
    for (uint32_t i = 0; i < o->n_binds; i++) {
        strings += strlen(o->binds[i].path) + 1 + ((o->binds[i].flags & SP_BIND_COVER) != 0 ? BIND_PREFIX : 1);
        strings += is_elsewhere(&o->binds[i]) ? strlen(o->binds[i].source) + 1 : 0;
    }
    const char *const of_stem[] = {o->interpreter, o->stem_parameters, o->stem_source};
    for (size_t i = 0; o->interpreter != NULL && i < sizeof of_stem / sizeof of_stem[0]; i++) {
        strings += strlen(of_stem[i]) + 1;
    }
    strings += o->runtime_len;
    const size_t insn = sizeof(struct sock_filter);
    p->len = (strings + insn - 1) / insn * insn;
    for (int i = 0; i < FILTERS; i++) {
        p->len += p->filters[i].len * insn;
    }
    p->bytes = calloc(1, p->len + 1);
    if (p->bytes == NULL) {
        return -ENOMEM;
    }
    char *at = p->bytes;
    if (root_len != 0) {
        memcpy(at, root, root_len);
        at += root_len;
    }
    for (uint32_t i = 0; i < o->n_binds; i++) {
        at += put_bind(at, &o->binds[i]);
    }
    for (size_t i = 0; o->interpreter != NULL && i < sizeof of_stem / sizeof of_stem[0]; i++) {
        at = stpcpy(at, of_stem[i]) + 1;
    }
    if (o->runtime_len != 0) {
        memcpy(at, o->runtime, o->runtime_len);
    }
    at = p->bytes + (strings + insn - 1) / insn * insn;
    for (int i = 0; i < FILTERS; i++) {
        if (p->filters[i].len != 0) {
            memcpy(at, p->filters[i].insns, p->filters[i].len * insn);
            at += p->filters[i].len * insn;
        }
    }
    return 0;
}

static uint32_t network_flags(const sp_sandbox_options *o) {
    /* A network namespace may be used again only if no inet socket could exist in it. */
    bool no_inet = o->seccomp_profile == SP_SECCOMP_ESSENTIAL;
    switch (o->network) {
    case SP_NET_HOST:
        return SP_CONFIG_NET_HOST;
    case SP_NET_LOOPBACK:
        return SP_CONFIG_NET_LOOPBACK;
    default:
        return SP_CONFIG_DENY_TCP | (no_inet ? SP_CONFIG_NETNS_REUSE : 0);
    }
}

static uint32_t unix_flags(const sp_sandbox_options *o) {
    return o->allow_unix_sockets == SP_UNIX_ANY      ? SP_CONFIG_UNIX
           : o->allow_unix_sockets == SP_UNIX_SCOPED ? SP_CONFIG_UNIX_SCOPED
                                                     : 0;
}

static uint32_t flags_of_tier(const struct sp_tier *tier) {
    return SP_CONFIG_LANDLOCK_TIER | SP_CONFIG_DENY_TCP | (tier->lease_uids ? SP_CONFIG_LEASE_UIDS : 0);
}

static uint32_t config_flags(const sp_sandbox_options *o, const struct sp_cgroups *cgroups,
                             const struct sp_tier *tier) {
    const uint32_t kind = tier->lower ? flags_of_tier(tier) : network_flags(o) | unix_flags(o);
    return kind | (o->rootfs != NULL ? SP_CONFIG_ROOTFS : 0) | (cgroups != NULL ? SP_CONFIG_CGROUP : 0) |
           (cgroups != NULL && (sp_cgroups_enforced(cgroups) & SP_CGROUP_MEMORY) != 0 ? SP_CONFIG_MEMORY_CGROUP : 0) |
           (o->allow_degradation != 0 ? SP_CONFIG_DEGRADE : 0) | (o->interpreter != NULL ? SP_CONFIG_STEM : 0) |
           (o->runtime_len != 0 ? SP_CONFIG_RUNTIME : 0);
}

/* Both are kept open: a later zygote gets the module that belongs to this one, whatever is installed by then. */
static int open_stem(struct sp_zygote_order *order, const sp_sandbox_options *o) {
    if (o->interpreter == NULL) {
        return 0;
    }
    order->timeout = o->preload_timeout_ns;
    order->module = open(o->stem_module, O_RDONLY | O_CLOEXEC);
    order->errors = order->module != -1 ? fcntl(o->stem_stderr, F_DUPFD_CLOEXEC, 0) : -1;
    return order->errors != -1 ? 0 : -errno;
}

int sp_zygote_order_make(struct sp_zygote_order *order, const sp_sandbox_options *o, const struct sp_cgroups *cgroups,
                         const struct sp_tier *tier) {
    uint32_t enforced = cgroups != NULL ? sp_cgroups_enforced(cgroups) : 0;
    struct config_payload p = {0};
    int rc = payload_build(o, tier, &p);
    rc = rc != 0 ? rc : open_stem(order, o);
    order->path = strdup(o->zygote_path);
    rc = rc == 0 && order->path == NULL ? -ENOMEM : rc;
    if (rc == 0) {
        order->config =
            (struct sp_record){.type = SP_REC_CONFIG,
                               .u.config = {.flags = config_flags(o, cgroups, tier),
                                            .payload_len = (uint32_t)p.len,
                                            .n_binds = o->n_binds,
                                            .template_filter_len = p.filters[0].len,
                                            .init_filter_len = p.filters[1].len,
                                            .attach_filter_len = p.filters[2].len,
                                            .exec_filter_len = p.filters[3].len,
                                            .landlock_abi_max = o->landlock_abi_max,
                                            .memory_bytes = (enforced & SP_CGROUP_MEMORY) != 0 ? 0 : o->memory_bytes,
                                            .data_bytes = o->data_bytes,
                                            .max_processes = o->max_processes,
                                            .scratch_bytes = o->scratch_bytes,
                                            .scratch_inodes = o->scratch_inodes}};
        order->payload = p.bytes;
        p.bytes = NULL;
    }
    payload_free(&p);
    return rc;
}

void sp_zygote_order_free(struct sp_zygote_order *order) {
    free(order->path);
    free(order->payload);
    sp_fd_close(&order->module);
    sp_fd_close(&order->errors);
}
