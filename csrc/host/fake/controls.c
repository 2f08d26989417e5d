/* The functions by which a test controls the fake launcher. */
#include <pthread.h>
#include <unistd.h>

#include "host/fake/fake.h"

static struct sp_fake *lock_fake(sp_launcher *launcher) {
    struct sp_fake *f = (struct sp_fake *)launcher;
    pthread_mutex_lock(&f->lock);
    return f;
}

static void unlock_fake(struct sp_fake *f) {
    pthread_mutex_unlock(&f->lock);
    (void)!write(f->wake[1], "", 1); /* if the pipe is full, the thread wakes anyway */
}

void sp_fake_fail(sp_launcher *launcher, uint32_t skip, uint32_t count, int stage, int err) {
    struct sp_fake *f = lock_fake(launcher);
    f->skip = skip;
    f->fail = count;
    f->fail_stage = stage;
    f->fail_errno = err;
    unlock_fake(f);
}

void sp_fake_delay(sp_launcher *launcher, int64_t create_ns) {
    struct sp_fake *f = lock_fake(launcher);
    f->delay = create_ns;
    unlock_fake(f);
}

void sp_fake_serial(sp_launcher *launcher, int serial) {
    struct sp_fake *f = lock_fake(launcher);
    f->serial = serial != 0;
    unlock_fake(f);
}

void sp_fake_mute(sp_launcher *launcher, int mute) {
    struct sp_fake *f = lock_fake(launcher);
    f->mute = mute != 0;
    unlock_fake(f);
}

void sp_fake_undead(sp_launcher *launcher, int undead) {
    struct sp_fake *f = lock_fake(launcher);
    f->undead = undead != 0;
    unlock_fake(f);
}

void sp_fake_hold(sp_launcher *launcher, int hold) {
    struct sp_fake *f = lock_fake(launcher);
    f->hold = hold != 0;
    unlock_fake(f);
}

void sp_fake_health(sp_launcher *launcher, int exit_code) {
    struct sp_fake *f = lock_fake(launcher);
    f->exit_code = exit_code;
    unlock_fake(f);
}

void sp_fake_crash(sp_launcher *launcher) {
    struct sp_fake *f = lock_fake(launcher);
    f->crash = true;
    atomic_fetch_add(&f->base.restarts, 1);
    unlock_fake(f);
}

int sp_fake_kill(sp_launcher *launcher, int64_t pid) {
    struct sp_fake *f = lock_fake(launcher);
    bool found = sp_fake_remove_alive(f, NULL, pid);
    unlock_fake(f);
    return found ? SP_OK : SP_E_INVAL;
}

uint64_t sp_fake_live(sp_launcher *launcher) {
    struct sp_fake *f = lock_fake(launcher);
    uint64_t live = f->n_alive;
    unlock_fake(f);
    return live;
}

uint64_t sp_fake_created(sp_launcher *launcher) {
    struct sp_fake *f = lock_fake(launcher);
    uint64_t created = f->created;
    unlock_fake(f);
    return created;
}
