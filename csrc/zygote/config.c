#include <errno.h>
#include <poll.h>
#include <sys/mman.h>

#include "common/packet.h"
#include "common/stage.h"
#include "zygote/zygote.h"

static struct sp_plan_filter take_filter(const char **at, uint32_t len) {
    /* The host pads the strings before them so that the instructions are aligned. */
    struct sp_plan_filter filter = {.insns = (const struct sock_filter *)(const void *)*at, .len = (uint16_t)len};
    *at += (size_t)len * sizeof(struct sock_filter);
    return filter;
}

/* Each bind is 'r' or 'w' and an absolute path; exactly n_binds of them. */
static int check_binds(struct sp_plan *plan) {
    const char *cursor = plan->binds;
    struct sp_plan_bind bind = {0};
    uint32_t n = 0;
    while (n < plan->config.n_binds && sp_plan_next_bind(plan, &cursor, &bind)) {
        char flag = bind.path[-1];
        if ((flag != 'r' && flag != 'w') || bind.path[0] != '/') {
            return -EBADMSG;
        }
        plan->has_staged = plan->has_staged || bind.staged;
        n++;
    }
    plan->binds_end = cursor; /* without the padding */
    return n == plan->config.n_binds ? 0 : -EBADMSG;
}

static int split_payload(struct sp_plan *plan, const char *payload) {
    const struct sp_rec_config *c = &plan->config;
    size_t filters =
        sizeof(struct sock_filter) * ((size_t)c->template_filter_len + c->init_filter_len + c->exec_filter_len);
    const char *at = payload + (c->payload_len - filters);
    plan->binds = payload;
    plan->binds_end = at;
    if ((c->payload_len - filters) % sizeof(struct sock_filter) != 0) {
        return -EBADMSG;
    }
    plan->template_filter = take_filter(&at, c->template_filter_len);
    plan->init_filter = take_filter(&at, c->init_filter_len);
    plan->exec_filter = take_filter(&at, c->exec_filter_len);
    return check_binds(plan);
}

int sp_zygote_configure(int sock, struct sp_plan *plan, struct sp_rec_failed *why) {
    static char first[SP_PACKET_MAX] __attribute__((aligned(8)));
    struct sp_packet packet;
    int rc = sp_wait_fd(sock, POLLIN, SP_NEVER);
    rc = rc != 0 ? rc : sp_packet_recv(sock, &packet, first, sizeof first);
    if (rc != 0 || packet.record.type != SP_REC_CONFIG) {
        return sp_failed(why, SP_STAGE_PROTOCOL, rc != 0 ? -rc : EBADMSG, "CONFIG");
    }
    plan->config = packet.record.u.config;
    char *payload = first;
    if (plan->config.payload_len > sizeof first) {
        payload = mmap(NULL, plan->config.payload_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (payload == MAP_FAILED) {
            return sp_failed(why, SP_STAGE_PROTOCOL, ENOMEM, "CONFIG");
        }
        __builtin_memcpy(payload, first, packet.payload_len);
    }
    rc = sp_payload_recv(sock, payload, packet.payload_len, plan->config.payload_len, SP_NEVER);
    rc = rc != 0 ? rc : split_payload(plan, payload);
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_PROTOCOL, -rc, "CONFIG");
}
