/*
 * The end of a sandbox, verified: one that was killed is kept, with its pidfd, until that says that it is dead. A kill
 * that does not work must stop nobody, and must not be silent either: one that is not dead by a deadline is *undead*,
 * counted and told once, and nobody waits for it any more; when it dies after all, that is told too.
 *
 * Any thread may end a session: it goes on the launcher's stack, which is taken whole, without a lock. The list of
 * those that were taken belongs to whoever looks: the janitor, and after it who closes the pool.
 */
#include <poll.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/fd.h"
#include "host/sandbox/launch.h"

static void drop(struct sp_session *session) {
    sp_close_own(&session->pidfd, &session->pidfd_identity);
    free(session);
}

void sp_dying_add(struct sp_session *session) {
    sp_launcher *launcher = session->launcher;
    session->ended_at = sp_now();
    session->next = atomic_load_explicit(&launcher->dying, memory_order_relaxed);
    /* release: pairs with take() in another thread, which then sees the session's fields */
    while (!atomic_compare_exchange_weak_explicit(&launcher->dying, &session->next, session, memory_order_release,
                                                  memory_order_relaxed)) {
    }
}

static void take(sp_launcher *launcher, struct sp_session **list) {
    /* acquire: see sp_dying_add() */
    struct sp_session *session = atomic_exchange_explicit(&launcher->dying, NULL, memory_order_acquire);
    while (session != NULL) {
        struct sp_session *next = session->next;
        session->next = *list;
        *list = session;
        session = next;
    }
}

/* Of one whose pidfd was taken from us nothing more will be known. */
static bool is_dead(const struct sp_session *session) {
    struct pollfd p = {.fd = session->pidfd, .events = POLLIN};
    return poll(&p, 1, 0) > 0 || !sp_is_own(session->pidfd, &session->pidfd_identity);
}

/* relaxed: the count orders nothing */
static void count(sp_launcher *launcher, unsigned step) {
    (void)atomic_fetch_add_explicit(&launcher->undead, step, memory_order_relaxed);
}

int64_t sp_dying_look(sp_launcher *launcher, struct sp_session **list, const struct sp_dying_observer *observer) {
    const int64_t now = sp_now();
    int64_t youngest = SP_NEVER;
    take(launcher, list);
    for (struct sp_session **at = list; *at != NULL;) {
        struct sp_session *session = *at;
        const int64_t age = now - session->ended_at;
        if (is_dead(session)) {
            if (session->undead) {
                count(launcher, 0U - 1);
                observer->notify(observer->arg, session, false);
            }
            *at = session->next;
            drop(session);
            continue;
        }
        if (age >= SP_UNDEAD_NS && !session->undead) {
            session->undead = true;
            count(launcher, 1);
            observer->notify(observer->arg, session, true);
        }
        youngest = age < youngest ? age : youngest;
        at = &session->next;
    }
    return youngest;
}

void sp_dying_forget(sp_launcher *launcher, struct sp_session **list) {
    take(launcher, list);
    while (*list != NULL) {
        struct sp_session *session = *list;
        *list = session->next;
        drop(session);
    }
}

void sp_dying_leave(sp_launcher *launcher, struct sp_session **list) {
    /* relaxed: as in sp_session_end() */
    if (atomic_fetch_sub_explicit(&launcher->lookers, 1, memory_order_relaxed) == 1) {
        sp_dying_forget(launcher, list);
        return;
    }
    while (*list != NULL) { /* of a launcher with other pools: theirs stay */
        struct sp_session *session = *list;
        *list = session->next;
        drop(session);
    }
}
