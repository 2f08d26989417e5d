/* What the pool counts under its lock, and the events that it reports. */
#include <string.h>

#include "host/pool/state.h"

void sp_pool_report(sp_pool *pool, sp_event event) {
    if (pool->options.events != NULL) {
        event.pool = pool->options.number;
        sp_events_report(pool->options.events, &event);
    }
}

static bool is_closed(sp_pool *pool) { return sp_ledger_closed(atomic_load(&pool->ledger)); }

void sp_pool_count_eviction(sp_pool *pool, unsigned reason, const struct sp_session *session) {
    pool->evictions[reason]++;
    if (!is_closed(pool)) {
        sp_pool_report(pool, (sp_event){.kind = SP_EVENT_EVICTED,
                                        .reason = reason,
                                        .pid = session != NULL ? session->pid : 0,
                                        .count = 1});
    }
}

/* A creation that fails because the pool is being closed is not reported. */
void sp_pool_count_failed_creation(sp_pool *pool, const sp_error *error) {
    pool->create_errors++;
    if (!is_closed(pool)) {
        sp_event event = {
            .kind = SP_EVENT_CREATE_FAILED, .reason = (uint32_t)error->stage, .err = error->err, .count = 1};
        memcpy(event.detail, error->detail, sizeof event.detail);
        sp_pool_report(pool, event);
    }
}

void sp_pool_count_outcome(sp_pool *pool, enum sp_outcome outcome, const struct sp_session *session) {
    switch (outcome) {
    case SP_OUTCOME_TIMEOUT:
        pool->timeouts++;
        break;
    case SP_OUTCOME_OOM_KILL:
        pool->oom_kills++;
        break;
    case SP_OUTCOME_LOSS:
        pool->lost++;
        sp_pool_report(pool, (sp_event){.kind = SP_EVENT_LOST, .pid = session->pid, .count = 1});
        break;
    case SP_OUTCOME_ORDINARY:
        break;
    }
}

/* The pid is part of the reason, so that the events of two sandboxes are not merged into one. */
void sp_pool_report_undead(void *pool, const struct sp_session *session, bool undead) {
    sp_pool_report(pool, (sp_event){.kind = undead ? SP_EVENT_UNDEAD : SP_EVENT_UNDEAD_ENDED,
                                    .reason = (uint32_t)session->pid,
                                    .pid = session->pid,
                                    .count = 1});
}

void sp_pool_record_latency(sp_pool *pool, unsigned kind, int64_t ns) { sp_histogram_add(&pool->latencies[kind], ns); }
