/*
 * Checks that killed sandboxes die. The session of a killed sandbox is kept until its pidfd reports the death. A kill
 * that does not work must not block anybody, and must not go unnoticed: a sandbox that is not dead by a deadline is
 * *undead*. It is counted and reported once, and nobody waits for it any more; if it dies later, that is reported too.
 *
 * Any thread may end a session, which pushes it to the launcher's stack. A pool takes the whole stack without a lock
 * and moves it to a list. The janitor owns that list, and after it the thread that closes the pool.
 */
#include <poll.h>

#include "common/clock.h"
#include "common/fd.h"
#include "host/sandbox/launch.h"

void sp_dying_add(struct sp_session *session) {
    sp_launcher *launcher = session->launcher;
    session->ended_at = sp_now();
    session->next = atomic_load_explicit(&launcher->dying, memory_order_relaxed);
    /* release: pairs with take_added(): the thread that takes the session sees its fields */
    while (!atomic_compare_exchange_weak_explicit(&launcher->dying, &session->next, session, memory_order_release,
                                                  memory_order_relaxed)) {
    }
}

static void take_added(sp_launcher *launcher, struct sp_session **list) {
    /* acquire: pairs with sp_dying_add() */
    struct sp_session *session = atomic_exchange_explicit(&launcher->dying, NULL, memory_order_acquire);
    while (session != NULL) {
        struct sp_session *next = session->next;
        session->next = *list;
        *list = session;
        session = next;
    }
}

/* So many are asked about in one system call. A busy pool has dozens that are dying. */
#define LOOK 64
/* Most are dead long before this age. */
#define OLD_NS SP_MS(100)

static void look(struct sp_session *session) {
    while (session != NULL) {
        struct pollfd p[LOOK];
        struct sp_session *asked[LOOK];
        unsigned n = 0;
        for (; session != NULL && n < LOOK; session = session->next) {
            p[n] = (struct pollfd){.fd = session->pidfd, .events = POLLIN};
            asked[n++] = session;
        }
        const int rc = poll(p, n, 0);
        for (unsigned i = 0; i < n; i++) {
            asked[i]->dead = rc > 0 && p[i].revents != 0;
        }
    }
}

/* A sandbox whose pidfd another part of this process has closed counts as dead: the host can learn no more about it. */
static bool is_dead(const struct sp_session *session, int64_t age) {
    return session->dead || (age >= OLD_NS && !sp_is_own(session->pidfd, &session->pidfd_identity));
}

/* relaxed: the count orders nothing */
static void count(sp_launcher *launcher, unsigned step) {
    (void)atomic_fetch_add_explicit(&launcher->undead, step, memory_order_relaxed);
}

int64_t sp_dying_check(sp_launcher *launcher, struct sp_session **list, const struct sp_dying_observer *observer) {
    const int64_t now = sp_now();
    int64_t youngest = SP_NEVER;
    take_added(launcher, list);
    look(*list);
    for (struct sp_session **at = list; *at != NULL;) {
        struct sp_session *session = *at;
        const int64_t age = now - session->ended_at;
        if (is_dead(session, age)) {
            if (session->undead) {
                count(launcher, 0U - 1);
                observer->notify(observer->arg, session, false);
            }
            *at = session->next;
            sp_session_free(session);
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

void sp_dying_drop(sp_launcher *launcher, struct sp_session **list) {
    take_added(launcher, list);
    while (*list != NULL) {
        struct sp_session *session = *list;
        *list = session->next;
        sp_session_free(session);
    }
}

void sp_dying_leave(sp_launcher *launcher, struct sp_session **list) {
    /* relaxed: as in sp_session_end() */
    if (atomic_fetch_sub_explicit(&launcher->checkers, 1, memory_order_relaxed) == 1) {
        sp_dying_drop(launcher, list);
        return;
    }
    while (*list != NULL) { /* only this pool's list: the stack stays for the other pools of the launcher */
        struct sp_session *session = *list;
        *list = session->next;
        sp_session_free(session);
    }
}
