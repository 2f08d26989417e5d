/*
 * What every sandbox of one zygote is made of. The zygote fills it once from CONFIG; each init reads its inherited
 * copy. Nothing here is written after the first clone.
 */
#ifndef SANDPOOL_INIT_PLAN_H
#define SANDPOOL_INIT_PLAN_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"

/* The one user and group that exist inside: nobody is uid 0, so no namespace's root owns /proc/sys knobs. */
#define SP_INSIDE_ID 1000

/* Where the template keeps what has to be shown below the private /tmp, until init binds it there and covers it. */
#define SP_STAGED_DIR "/.staged"
#define SP_STAGED_COVER "/.cover"

struct sp_plan_filter {
    const struct sock_filter *insns;
    uint16_t len;
};

struct sp_plan {
    struct sp_rec_config config;
    const char *binds; /* config.n_binds strings: 'r' or 'w', then the absolute path */
    const char *binds_end;
    unsigned n_capabilities; /* that this kernel knows */
    bool has_staged;         /* some bind lies below /tmp */
    struct sp_plan_filter template_filter, init_filter, exec_filter;
};

struct sp_plan_bind {
    const char *path;
    bool writable;
    bool staged;    /* below /tmp */
    unsigned index; /* its number in the staging directory */
};

/* Walks the binds: start with cursor = plan->binds and index = 0. False at the end. */
bool sp_plan_next_bind(const struct sp_plan *plan, const char **cursor, struct sp_plan_bind *bind);

/* Fills the failure and returns -err, so that a step can `return sp_failed(...)`. detail may be NULL. */
int sp_failed(struct sp_rec_failed *why, uint32_t stage, int err, const char *detail);

#endif
