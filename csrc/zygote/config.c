#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "common/stage.h"
#include "zygote/zygote.h"

static struct sp_plan_filter parse_filter(const char **at, uint32_t len) {
    /* The host pads the strings in front of the filters, so that the instructions are aligned. */
    struct sp_plan_filter filter = {.insns = (const struct sock_filter *)(const void *)*at, .len = (uint16_t)len};
    *at += (size_t)len * sizeof(struct sock_filter);
    return filter;
}

static struct sp_plan_bind binds[SP_BINDS_MAX];
/* Landlock's rules. The zygote fills them once for all: if each init wrote them, each sandbox would have a copy of the
 * pages. */
static struct sp_landlock_rule rules[SP_BINDS_MAX + 5];
/* The first of them. With an initializer, the whole array would be in the file of the program: 128 KiB. */
static const struct sp_landlock_rule first_rules[] = {{"/", false, false, NULL, NULL},
                                                      {"/tmp", true, false, NULL, NULL},
                                                      {"/dev", true, false, NULL, NULL},
                                                      {"/proc", true, false, NULL, NULL}};

/* Binds are sorted by path: those that contain a path come before it, the innermost one last. */
static int find_parent(const char *path, int n) {
    for (int above = n - 1; above >= 0; above--) {
        if (sp_path_is_below(path, binds[above].path)) {
            return above;
        }
    }
    return -1;
}

/* Parses 16 lower-case hexadecimal digits. Returns the text after them, or NULL when they are not there. */
static const char *parse_hex(const char *text, uint64_t *value) {
    static const char digits[] = "0123456789abcdef";
    *value = 0;
    for (int i = 0; i < 16; i++) {
        const char *digit = text[i] != '\0' ? strchr(digits, text[i]) : NULL;
        if (digit == NULL) {
            return NULL;
        }
        *value = *value << 4 | (uint64_t)(digit - digits);
    }
    return text + 16;
}

/* The same for sources, which are in no order. */
static int find_outer(const char *source, int n) {
    int found = -1;
    size_t longest = 0;
    for (int i = 0; i < n; i++) {
        size_t len = strlen(binds[i].source);
        if (!binds[i].covers && !binds[i].scratch && len >= longest && source[len] == '/' &&
            sp_path_is_below(source, binds[i].source)) {
            found = i;
            longest = len;
        }
    }
    return found;
}

/* Parses what stands before the path: 's'; 'r' or 'w', in upper case if the source follows the path; or 'c' with the
 * device and inode of the covered file. */
static const char *parse_kind(const char *text, struct sp_plan_bind *bind) {
    bind->writable = text[0] == 'w' || text[0] == 'W';
    bind->covers = text[0] == 'c';
    bind->scratch = text[0] == 's';
    if (!bind->covers) {
        return text[0] == 'r' || text[0] == 'R' || bind->writable || bind->scratch ? text + 1 : NULL;
    }
    text = parse_hex(text + 1, &bind->device);
    return text != NULL ? parse_hex(text, &bind->inode) : NULL;
}

/* Parses one bind: its kind and an absolute path; `source` is NULL if that is the path, too. */
static int parse_bind(const char *text, const char *source, int n) {
    struct sp_plan_bind *bind = &binds[n];
    bind->path = parse_kind(text, bind);
    bind->source = source != NULL ? source : bind->path;
    if (bind->path == NULL || bind->path[0] != '/' || (n > 0 && strcmp(binds[n - 1].path, bind->path) >= 0)) {
        return -EBADMSG;
    }
    if (bind->source[0] != '/') {
        return -EBADMSG;
    }
    bind->parent = find_parent(bind->path, n);
    if (bind->covers && bind->parent == -1) {
        return -EBADMSG;
    }
    bool in_tmp = sp_path_is_below(bind->path, "/tmp");
    bind->staged = in_tmp && bind->parent == -1;
    bind->needs_rule = (bind->writable || bind->scratch) && !in_tmp;
    for (int above = bind->parent; above != -1; above = binds[above].parent) {
        bind->needs_rule = bind->needs_rule && !binds[above].writable;
    }
    return 0;
}

static int parse_binds(struct sp_plan *plan, const char **cursor, const char *end) {
    int rc = plan->config.n_binds <= SP_BINDS_MAX ? 0 : -EBADMSG;
    memcpy(rules, first_rules, sizeof(first_rules));
    plan->rules = rules;
    plan->n_rules = sizeof(first_rules) / sizeof(first_rules[0]);
    for (uint32_t i = 0; i < plan->config.n_binds && rc == 0; i++) {
        const char *text = sp_strings_next(cursor, end);
        bool elsewhere = text != NULL && (text[0] == 'R' || text[0] == 'W');
        const char *source = elsewhere ? sp_strings_next(cursor, end) : NULL;
        rc = text != NULL && elsewhere == (source != NULL) ? parse_bind(text, source, (int)i) : -EBADMSG;
        plan->has_staged = plan->has_staged || (rc == 0 && binds[i].staged);
        plan->has_scratch = plan->has_scratch || (rc == 0 && binds[i].scratch);
        if (rc == 0 && binds[i].needs_rule) {
            rules[plan->n_rules++] = (struct sp_landlock_rule){binds[i].path, true, false, NULL, NULL};
        }
    }
    for (uint32_t i = 0; i < plan->config.n_binds && rc == 0; i++) {
        binds[i].within = find_outer(binds[i].source, (int)plan->config.n_binds);
    }
    plan->binds = binds;
    return rc;
}

void sp_zygote_allow_workspace(struct sp_plan *plan) {
    plan->has_workspace = true;
    rules[plan->n_rules++] = (struct sp_landlock_rule){SP_WORKSPACES, true, false, NULL, NULL};
}

static int parse_stem(struct sp_plan *plan, const char **cursor, const char *end) {
    if ((plan->config.flags & SP_CONFIG_STEM) == 0) {
        return 0;
    }
    plan->interpreter = sp_strings_next(cursor, end);
    plan->parameters = sp_strings_next(cursor, end);
    plan->source = sp_strings_next(cursor, end);
    return plan->source != NULL && plan->interpreter[0] == '/' ? 0 : -EBADMSG;
}

static int split_payload(struct sp_plan *plan, const char *payload) {
    const struct sp_rec_config *c = &plan->config;
    size_t filters = sizeof(struct sock_filter) *
                     ((size_t)c->template_filter_len + c->init_filter_len + c->attach_filter_len + c->exec_filter_len);
    const char *strings_end = payload + (c->payload_len - filters);
    const char *at = strings_end;
    if ((c->payload_len - filters) % sizeof(struct sock_filter) != 0) {
        return -EBADMSG;
    }
    plan->template_filter = parse_filter(&at, c->template_filter_len);
    plan->init_filter = parse_filter(&at, c->init_filter_len);
    plan->attach_filter = parse_filter(&at, c->attach_filter_len);
    plan->exec_filter = parse_filter(&at, c->exec_filter_len);
    const char *cursor = payload;
    if (sp_in_landlock_tier(plan)) {
        plan->leases = sp_strings_next(&cursor, strings_end);
        if (plan->leases == NULL || plan->leases[0] != '/' || (c->flags & SP_CONFIG_ROOTFS) != 0) {
            return -EBADMSG;
        }
    }
    if ((c->flags & SP_CONFIG_ROOTFS) != 0) {
        plan->rootfs = sp_strings_next(&cursor, strings_end);
        if (plan->rootfs == NULL || plan->rootfs[0] != '/') {
            return -EBADMSG;
        }
    }
    int rc = parse_binds(plan, &cursor, strings_end);
    rc = rc != 0 ? rc : parse_stem(plan, &cursor, strings_end);
    return rc != 0 ? rc : sp_zygote_parse_runtime(plan, &cursor, strings_end);
}

int sp_zygote_take_over(struct sp_plan *plan, const char *payload) {
    plan->payload = payload;
    int rc = split_payload(plan, payload);
    if (rc == 0 && plan->has_workspace) {
        sp_zygote_allow_workspace(plan);
    }
    return rc == 0 && sp_in_landlock_tier(plan) ? sp_zygote_tier_take_over(plan) : rc;
}

/* With a stem its module and its stderr come before the host's pidfd, which may be missing. */
static int take_descriptors(struct sp_plan *plan, struct sp_packet *packet, int *host) {
    const unsigned of_stem = (plan->config.flags & SP_CONFIG_STEM) != 0 ? 2 : 0;
    *host = packet->n_fds == of_stem + 1 ? sp_fd_steal(&packet->fds[of_stem]) : -1;
    plan->module = of_stem != 0 ? sp_fd_steal(&packet->fds[0]) : -1;
    plan->errors = of_stem != 0 ? sp_fd_steal(&packet->fds[1]) : -1;
    return packet->n_fds >= of_stem ? 0 : -EBADMSG;
}

/* Needed because a host that dies before it has sent the whole CONFIG does not close the socket if a child that it
 * forked holds it, too. */
#define CONFIG_TIMEOUT_NS SP_SEC(10)

int sp_zygote_configure(int sock, struct sp_plan *plan, int *host, struct sp_rec_failed *why) {
    static char first[SP_PACKET_MAX] __attribute__((aligned(8)));
    const int64_t deadline = sp_now() + CONFIG_TIMEOUT_NS;
    struct sp_packet packet;
    memset(&packet, 0, sizeof packet);
    memset(packet.fds, -1, sizeof packet.fds);
    int rc = sp_wait_fd(sock, POLLIN, deadline);
    rc = rc != 0 ? rc : sp_packet_recv(sock, &packet, first, sizeof first);
    if (rc != 0 || packet.record.type != SP_REC_CONFIG) {
        sp_packet_close(&packet);
        return sp_failed(why, SP_STAGE_PROTOCOL, rc != 0 ? -rc : EBADMSG, "CONFIG");
    }
    plan->config = packet.record.u.config;
    rc = take_descriptors(plan, &packet, host);
    sp_packet_close(&packet);
    char *payload = first;
    if (plan->config.payload_len > sizeof first) {
        payload = mmap(NULL, plan->config.payload_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (payload == MAP_FAILED) {
            return sp_failed(why, SP_STAGE_PROTOCOL, ENOMEM, "CONFIG");
        }
        memcpy(payload, first, packet.payload_len);
    }
    plan->payload = payload;
    rc = rc != 0 ? rc : sp_payload_recv(sock, payload, packet.payload_len, plan->config.payload_len, deadline);
    rc = rc != 0 ? rc : split_payload(plan, payload);
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_PROTOCOL, -rc, "CONFIG");
}
