#include "init/share.h"

#include <linux/kcmp.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "init/lines.h"
#include "init/proc.h"

#define KIB UINT64_C(1024)
#define PAGE (4 * KIB)

/* The processor time that a walk takes for each page and each page table, measured on Linux 6.18. */
#define NS_PER_ANON_PAGE 30
#define NS_PER_FILE_PAGE 80
#define NS_PER_TABLE 1000
#define UNTIMED_NS SP_MS(10) /* the walks of one census that are made however long they take: 1.3 GB of own pages */
#define PACE_UNIT 100
#define PACE_MAX 1000
#define PACE_FROM_NS (200 * INT64_C(1000)) /* shorter walks are too inexact to measure the machine by */

/* The time that walks take on this machine at the moment, in percent of the figures above. */
static int64_t pace = PACE_UNIT;

/*
 * The known shares of processes. A share is valid while the process has the same number of pages and has had no page
 * fault, which could have replaced a shared page by one of its own. It expires after KNOWN_NS, because it also grows,
 * unnoticed, when another process stops sharing the pages.
 */
#define KNOWN_PROCESSES 256 /* a power of two */
#define KNOWN_NS SP_MS(2000)

static struct known {
    struct sp_process process;
    uint64_t faults;
    uint64_t anon, shared;
    int64_t since;
} known[KNOWN_PROCESSES];
static bool kept_used; /* since the last call of sp_share_forget() */

/* "7 (a name) S 1 ...": page faults are words 10 and 12, see proc_pid_stat(5). UINT64_MAX when they cannot be read. */
static uint64_t faults_of(int dir) {
    char text[1024];
    uint64_t faults = 0;
    if (!sp_read_text(dir, "stat", text, sizeof text)) {
        return UINT64_MAX;
    }
    const char *at = strrchr(text, ')');
    for (int word = 3; at != NULL && word <= 12; word++) {
        at = sp_next_word(at);
        const char *number = at;
        faults += word == 10 || word == 12 ? sp_number(&number, 10) : 0;
    }
    return at != NULL ? faults : UINT64_MAX;
}

static bool is_unchanged(const struct known *k, const struct sp_process *p, uint64_t faults) {
    return k->process.pid == p->pid && k->process.anon == p->anon && k->process.shared == p->shared &&
           k->process.tables == p->tables && k->faults == faults && faults != UINT64_MAX;
}

/* On the machine of the figures above. */
static int64_t walk_ns(const struct sp_process *p) {
    uint64_t ns = p->anon / PAGE * NS_PER_ANON_PAGE + (p->shared + p->file) / PAGE * NS_PER_FILE_PAGE +
                  p->tables / PAGE * NS_PER_TABLE;
    return (int64_t)(ns < INT64_MAX / PACE_MAX ? ns : INT64_MAX / PACE_MAX);
}

static int64_t at_pace(int64_t ns) { return ns * pace / PACE_UNIT; }

static void learn_pace(int64_t expected, int64_t took) {
    if (took > PACE_FROM_NS && expected > 0) {
        pace = (pace + took * pace / expected) / 2;
        pace = pace < PACE_UNIT ? PACE_UNIT : pace < PACE_MAX ? pace : PACE_MAX;
    }
}

static bool walk(const struct sp_process *p, int dir, uint64_t *anon, uint64_t *shared) {
    char text[2048];
    int64_t expected = at_pace(walk_ns(p));
    int64_t start = sp_cpu_now();
    if (!sp_read_text(dir, "smaps_rollup", text, sizeof text)) {
        return false;
    }
    learn_pace(expected, sp_cpu_now() - start);
    *anon = *shared = 0;
    (void)sp_find_number(text, "\nPss_Anon:", anon);
    (void)sp_find_number(text, "\nPss_Shmem:", shared);
    *anon *= KIB;
    *shared *= KIB;
    return true;
}

bool sp_share_find(struct sp_process *p, int dir, const struct sp_budget *budget, int64_t *walked) {
    if (p->anon + p->shared < p->tables) {
        return false; /* a long walk over empty page tables would gain little */
    }
    struct known *k = &known[(unsigned)p->pid & (KNOWN_PROCESSES - 1)];
    uint64_t faults = faults_of(dir);
    int64_t now = sp_now();
    bool stands = is_unchanged(k, p, faults) && now - k->since < KNOWN_NS;
    if (!stands) {
        uint64_t anon;
        uint64_t shared;
        const int64_t expected = walk_ns(p);
        const bool fits = *walked + expected <= UNTIMED_NS || at_pace(expected) <= sp_budget_left(budget);
        if (!fits || !walk(p, dir, &anon, &shared)) {
            return false;
        }
        *walked += expected;
        *k = (struct known){.process = *p, .faults = faults, .anon = anon, .shared = shared, .since = now};
    }
    kept_used = kept_used || stands;
    p->anon = k->anon;
    p->shared = k->shared;
    return true;
}

bool sp_share_forget(void) {
    if (!kept_used) {
        return false;
    }
    memset(known, 0, sizeof known);
    kept_used = false;
    return true;
}

static bool is_same(int pid, int other) { return syscall(SYS_kcmp, pid, other, KCMP_VM, 0, 0) == 0; }

bool sp_share_is_same(int pid, int other) { return pid > 1 && other > 1 && is_same(pid, other); }

bool sp_share_is_known(void) { return is_same(getpid(), getpid()); }
