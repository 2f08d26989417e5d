/* sources: csrc/host/sandbox/error.c */
/*
 * Which zygote a birth is given, and what happens where none can be started or none can follow the paths of the host.
 * Single zygotes, looks at paths, the lower tier and the clock are replaced; the file itself is part of this program.
 */
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "common/clock.h"

static int64_t now = SP_SEC(1000);
static int64_t fake_now(void) { return now; }
#define sp_now fake_now

/* NOLINTBEGIN(bugprone-suspicious-include): its static functions are tested */
#include "host/linux/zygotes.c"
/* NOLINTEND(bugprone-suspicious-include) */

/* ---- what is replaced ---- */

static struct {
    unsigned alive, spawned, killed, rebinds, failed_binds;
    int order, lower_order, open, make, rebind; /* what they return */
    bool unspawnable, ended, lingers;
    uint64_t paths, paths_after; /* what a look finds; and after the next spawn, unless 0 */
    sp_error await[2];           /* why the first start fails, and the second */
    sp_error lower;              /* why the tier cannot be had */
} the;

static sp_error error_of(int stage, int err) {
    sp_error error;
    (void)sp_error_set(&error, SP_E_CREATE, (uint32_t)stage, err, "made up");
    return error;
}

void sp_zygote_ref(struct sp_zygote *z) { z->refs++; }
void sp_zygote_unref(struct sp_zygote *z) {
    if (--z->refs == 0) {
        the.alive--;
        free(z->bound);
        free(z->sent);
        free(z);
    }
}
void sp_zygote_receive(struct sp_zygote *z) { z->fully_started = true; }
void sp_zygote_kill(struct sp_zygote *z) {
    z->killed = true;
    the.killed++;
}
bool sp_zygote_reap(struct sp_zygote *z) { return z->killed && !the.lingers; }
void sp_zygote_end(struct sp_zygote *z, int64_t deadline) { z->killed = deadline != 0; }
bool sp_zygote_has_ended(const struct sp_zygote *z) { return z->killed || the.ended; }

struct sp_zygote *sp_zygote_spawn(const struct sp_zygote_order *order, struct sp_cgroups *cgroups, int64_t deadline,
                                  sp_error *error) {
    (void)order, (void)cgroups, (void)deadline;
    the.paths = the.paths_after != 0 ? the.paths_after : the.paths;
    if (the.unspawnable) {
        (void)sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, EAGAIN, "no process");
        return NULL;
    }
    struct sp_zygote *z = calloc(1, sizeof *z);
    if (z == NULL) {
        abort();
    }
    z->refs = 1;
    z->started = sp_now();
    z->pidfd = -1;
    the.spawned++;
    the.alive++;
    return z;
}

int sp_zygote_await(struct sp_zygote *z, int64_t deadline, sp_error *error) {
    (void)z, (void)deadline;
    *error = the.await[the.spawned == 1 ? 0 : 1];
    return error->code;
}

int sp_zygote_order_make(struct sp_zygote_order *order, const sp_sandbox_options *options,
                         const struct sp_cgroups *cgroups, const struct sp_tier *tier) {
    (void)order, (void)options, (void)cgroups;
    return tier->lower ? the.lower_order : the.order;
}
void sp_zygote_order_free(struct sp_zygote_order *order) { (void)order; }

static struct sp_path path = {.path = "/srv/a", .source = "/srv/a", .parent = -1, .within = -1};
static struct sp_paths some_paths = {.n = 1, .paths = &path};

int sp_paths_make(const sp_sandbox_options *options, struct sp_paths **made) {
    *made = options->n_binds != 0 && the.make == 0 ? &some_paths : NULL;
    return the.make;
}
void sp_paths_free(struct sp_paths *paths) { (void)paths; }
struct sp_look *sp_look_new(const struct sp_paths *paths) {
    (void)paths;
    return calloc(1, sizeof(struct sp_look) + sizeof(struct sp_found));
}
void sp_look_copy(const struct sp_paths *paths, struct sp_look *to, const struct sp_look *from) {
    (void)paths;
    memcpy(to, from, sizeof *to + sizeof(struct sp_found));
}
uint64_t sp_paths_look(struct sp_paths *paths, struct sp_look *look, sp_error *error) {
    (void)paths;
    if (look != NULL) {
        look->total = look->found[0].digest = the.paths;
    }
    if (the.paths == 0) {
        (void)sp_error_set(error, SP_E_CREATE, SP_STAGE_BIND, ENOENT, path.source);
    }
    return the.paths;
}
int sp_rebind(struct sp_zygote *z, const struct sp_paths *paths, const struct sp_look *found) {
    (void)paths;
    the.rebinds++;
    z->paths = the.rebind == 0 ? found->total : z->paths;
    return the.rebind;
}
void sp_rebind_failed(struct sp_zygote *z, const struct sp_paths *paths, uint32_t bindings) {
    (void)z, (void)paths, (void)bindings;
    the.failed_binds++;
}

int sp_diagnostics_open(struct sp_diagnostics *diagnostics, int pipe) {
    (void)diagnostics, (void)pipe;
    return the.open;
}
void sp_diagnostics_forget(struct sp_diagnostics *diagnostics) { (void)diagnostics; }
void sp_diagnostics_set(struct sp_diagnostics *diagnostics, const char *text, size_t len) {
    (void)diagnostics, (void)text, (void)len;
}
size_t sp_diagnostics_get(struct sp_diagnostics *diagnostics, char *into, size_t size) {
    (void)diagnostics;
    memset(into, '?', size);
    return size;
}
void sp_diagnostics_free(struct sp_diagnostics *diagnostics) { (void)diagnostics; }

void sp_tier_init(struct sp_tier *tier) { tier->root = -1; }
bool sp_tier_is_refusal(const sp_error *error) { return error->stage == SP_STAGE_USERNS; }
int sp_tier_lower(struct sp_tier *tier, const sp_sandbox_options *options, sp_error *error) {
    (void)options;
    tier->lower = the.lower.code == 0;
    *error = tier->lower ? *error : the.lower;
    return the.lower.code;
}
bool sp_tier_tend(struct sp_tier *tier) { return tier == NULL; }
void sp_tier_close(struct sp_tier *tier) { (void)tier; }
void sp_tier_free(struct sp_tier *tier) { (void)tier; }

bool sp_zygotes_advance(struct sp_zygotes *zs) { return zs == NULL; }

/* ---- the first zygote ---- */

static struct sp_zygotes zs;
static const sp_bind binds[] = {{.path = "/srv/a", .source = "/srv/a"}};

static void begin(void) {
    memset(&the, 0, sizeof the);
    the.paths = 100;
    memset(&zs, 0, sizeof zs);
    sp_zygotes_init(&zs);
}

static sp_sandbox_options options_with_bind(void) { return (sp_sandbox_options){.binds = binds, .n_binds = 1}; }

/* Nothing is left of what was started. */
static void end(void) {
    sp_zygotes_close(&zs, 1);
    sp_zygotes_free(&zs);
    CHECK(the.alive == 0);
}

static void starts(const sp_sandbox_options *options, const sp_error *expected, unsigned spawned) {
    sp_error error = {0};
    const int rc = sp_zygotes_start(&zs, options, NULL, now + SP_SEC(1), &error);
    CHECK(rc == expected->code && the.spawned == spawned);
    CHECK(rc == 0 || (error.stage == expected->stage && error.err == expected->err &&
                      strcmp(error.detail, expected->detail) == 0));
    CHECK(rc != 0 || (zs.current != NULL && (zs.order.config.u.config.flags & SP_CONFIG_SEARCH) != 0));
    end();
}

static const sp_error none;

static sp_error of_config(int err) {
    sp_error error;
    (void)sp_error_set(&error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, err, "CONFIG");
    return error;
}

static void a_start_without_its_parts_spawns_nothing(void) {
    sp_sandbox_options options = options_with_bind();
    sp_error expected = of_config(EMFILE);
    begin();
    the.order = -EMFILE;
    starts(&options, &expected, 0);
    begin();
    the.make = -EMFILE;
    starts(&options, &expected, 0);
    begin();
    the.open = -EMFILE;
    starts(&options, &none, 1); /* not asked for */
    begin();
    the.unspawnable = true;
    const sp_error unspawned = {
        .code = SP_E_CREATE, .stage = SP_STAGE_SPAWN_ZYGOTE, .err = EAGAIN, .detail = "no process"};
    starts(&options, &unspawned, 0);
    begin();
    the.open = -EMFILE;
    options.interpreter = "/usr/bin/python3";
    starts(&options, &expected, 0);
}

static void a_path_that_is_replaced_during_the_start_is_bound_by_the_next_zygote(void) {
    const sp_sandbox_options options = options_with_bind();
    begin();
    the.await[0] = error_of(SP_STAGE_BIND, ENOENT);
    the.paths_after = 200;
    starts(&options, &none, 2);
    CHECK(the.killed == 1);
    begin(); /* as it was: another zygote would fail, too */
    the.await[0] = error_of(SP_STAGE_BIND, EACCES);
    starts(&options, &the.await[0], 1);
    begin(); /* for another reason */
    the.await[0] = error_of(SP_STAGE_ROOTFS, ENOENT);
    the.paths_after = 200;
    starts(&options, &the.await[0], 1);
}

static void the_lower_tier_is_taken_after_a_refusal(void) {
    sp_sandbox_options options = options_with_bind();
    sp_error expected;
    begin(); /* not allowed */
    the.await[0] = error_of(SP_STAGE_USERNS, EPERM);
    starts(&options, &the.await[0], 1);
    options.allow_degradation = 1;
    begin();
    the.await[0] = error_of(SP_STAGE_USERNS, EPERM);
    starts(&options, &none, 2);
    CHECK(the.killed == 1 && zs.tier.lower);
    begin(); /* not to be had */
    the.await[0] = error_of(SP_STAGE_USERNS, EPERM);
    the.lower = error_of(SP_STAGE_LANDLOCK, ENOSYS);
    starts(&options, &the.lower, 1);
    begin(); /* its CONFIG cannot be made */
    the.await[0] = error_of(SP_STAGE_USERNS, EPERM);
    the.lower_order = -EMFILE;
    expected = of_config(EMFILE);
    starts(&options, &expected, 1);
    CHECK(the.killed == 1);
}

static void the_lower_tier_may_be_asked_for(void) {
    sp_sandbox_options options = {.tier = SP_TIER_LANDLOCK};
    sp_error expected;
    (void)sp_error_set(&expected, SP_E_CREATE, SP_STAGE_USERNS, EPERM, "clone(CLONE_NEWUSER)");
    begin();
    starts(&options, &expected, 0); /* not allowed */
    options.allow_degradation = 1;
    begin();
    starts(&options, &none, 1);
    begin();
    the.lower = error_of(SP_STAGE_TIER, ENOTSUP);
    starts(&options, &the.lower, 0);
}

/* ---- the one that a birth is given ---- */

static struct sp_birth birth;

static void begin_started(void) {
    const sp_sandbox_options options = options_with_bind();
    sp_error error = {0};
    begin();
    birth = (struct sp_birth){.deadline = SP_NEVER};
    CHECK(sp_zygotes_start(&zs, &options, NULL, now + SP_SEC(1), &error) == 0);
}

/* 0 with a reference on zs.current, which is given back. */
static int choose(sp_error *error) {
    struct sp_zygote *chosen = NULL;
    const int rc = sp_zygotes_choose(&zs, &birth, &chosen, error);
    CHECK((rc == 0) == (chosen != NULL) && (rc != 0 || chosen == zs.current));
    if (chosen != NULL) {
        sp_zygote_unref(chosen);
    }
    return rc;
}

static void a_zygote_follows_the_paths_or_is_replaced(void) {
    sp_error error = {0};
    begin_started();
    struct sp_zygote *first = zs.current;
    CHECK(choose(&error) == 0 && the.rebinds == 0);
    the.paths = 200;
    CHECK(choose(&error) == 0 && the.rebinds == 1 && zs.current == first && first->paths == 200);
    the.paths = 300;
    the.rebind = -EAGAIN; /* they change all the time */
    CHECK(choose(&error) == SP_AGAIN && the.rebinds == 1 + LOOKS && zs.current == first);
    CHECK(birth.not_before == now + FOLLOW_PAUSE_NS);
    the.rebind = -ENOTSUP;
    CHECK(choose(&error) == 0 && the.spawned == 2 && the.killed == 1 && zs.current->renews && zs.outdated == NULL);
    sp_zygote_ref(zs.current); /* a sandbox */
    struct sp_zygote *second = zs.current;
    zs.tier.lower = true;
    the.paths = 400;
    the.rebinds = 0;
    CHECK(choose(&error) == 0 && the.rebinds == 0 && the.spawned == 3 && the.killed == 1 && zs.outdated == second);
    CHECK(!sp_zygotes_tend(&zs) && zs.dying == NULL && the.alive == 2);
    sp_zygote_unref(second);
    CHECK(!sp_zygotes_tend(&zs) && zs.outdated == NULL && the.killed == 2 && the.alive == 1);
    the.paths = 0;
    CHECK(choose(&error) == SP_E_CREATE && error.stage == SP_STAGE_BIND && error.err == ENOENT);
    end();
}

static void after_a_failed_start_there_is_a_pause(void) {
    sp_error error = {0};
    begin_started();
    the.ended = the.unspawnable = true;
    CHECK(choose(&error) == SP_AGAIN && birth.not_before > now); /* it has ended without a reason */
    now = birth.not_before;
    CHECK(choose(&error) == SP_E_CREATE && error.err == EAGAIN && zs.not_before > now && zs.current == NULL);
    the.unspawnable = false;
    error = none;
    CHECK(choose(&error) == SP_E_CREATE && error.err == EAGAIN && birth.not_before == zs.not_before);
    zs.why = error_of(SP_STAGE_BIND, ENOENT);
    zs.why_paths = the.paths;
    CHECK(choose(&error) == SP_E_CREATE && error.stage == SP_STAGE_BIND);
    the.paths = 200; /* what it lacked may be there */
    the.ended = false;
    CHECK(choose(&error) == 0 && zs.why.code == 0 && !zs.current->renews);
    end();
}

static void after_a_useful_life_there_is_none(void) {
    sp_error error = {0};
    begin_started();
    zs.current->useful = true;
    now += GOOD_LIFE_NS;
    the.lingers = true;
    sp_zygotes_discard(&zs, zs.current);
    CHECK(choose(&error) == 0 && the.spawned == 2 && the.killed == 1 && zs.not_before == now);
    CHECK(sp_zygotes_tend(&zs) && the.alive == 2); /* the first one has not ended yet */
    the.lingers = false;
    CHECK(!sp_zygotes_tend(&zs) && the.alive == 1);
    end();
}

static void a_closed_launcher_starts_none(void) {
    sp_error error = {0};
    begin_started();
    sp_zygotes_close(&zs, 1);
    CHECK(choose(&error) == SP_E_CREATE && error.stage == SP_STAGE_SPAWN_ZYGOTE && error.err == ESHUTDOWN);
    CHECK(strcmp(error.detail, "the launcher is closed") == 0 && the.spawned == 1);
    end();
}

static void a_path_that_could_not_be_bound_is_bound_again(void) {
    begin_started();
    sp_zygotes_bind_failed(&zs, zs.current, 0, ENOENT);
    CHECK(the.failed_binds == 0);
    sp_zygotes_bind_failed(&zs, zs.current, 0, ESTALE);
    sp_zygotes_bind_failed(&zs, zs.current, 1, ENOENT);
    CHECK(the.failed_binds == 2);
    struct sp_paths *paths = zs.paths;
    zs.paths = NULL;
    sp_zygotes_bind_failed(&zs, zs.current, 1, ESTALE);
    CHECK(the.failed_binds == 2);
    zs.paths = paths;
    the.paths = 200; /* replaced while it started */
    CHECK(!sp_zygotes_receive_start(&zs, zs.current));
    CHECK(zs.current->paths == 0 && zs.current->bound->found[0].digest == 0);
    CHECK(!sp_zygotes_is_current(&zs, zs.current, 0));
    zs.current->paths = 200;
    CHECK(sp_zygotes_is_current(&zs, zs.current, 0) && !sp_zygotes_is_current(&zs, zs.current, 1));
    zs.current->superseded = true;
    CHECK(!sp_zygotes_is_current(&zs, zs.current, 0));
    end();
}

int main(void) {
    check_deadline(60);
    RUN(a_start_without_its_parts_spawns_nothing);
    RUN(a_path_that_is_replaced_during_the_start_is_bound_by_the_next_zygote);
    RUN(the_lower_tier_is_taken_after_a_refusal);
    RUN(the_lower_tier_may_be_asked_for);
    RUN(a_zygote_follows_the_paths_or_is_replaced);
    RUN(after_a_failed_start_there_is_a_pause);
    RUN(after_a_useful_life_there_is_none);
    RUN(a_closed_launcher_starts_none);
    RUN(a_path_that_could_not_be_bound_is_bound_again);
    return check_report();
}
