/* A program that plays init and a tenant, for the tests of the supervisor. As an ordinary user: root would be believed.
 */
#ifndef SANDPOOL_TESTS_SUPERVISED_H
#define SANDPOOL_TESTS_SUPERVISED_H

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "init/landlock.h"
#include "init/supervise.h"

#define USER 23456
#define THEN 1000000000 /* the time of the victim's last change */
#define NOT_STARTED 254

#define LEASE "lease"
#define VICTIM "host/victim"

enum setting {
    SETTING_LANDLOCK,   /* the control: nothing but Landlock */
    SETTING_SUPERVISED, /* and the supervisor */
    SETTING_REFUSED,    /* and the filter that refuses */
    SETTING_OLD,        /* Landlock before ABI 6, which does not judge signals */
    SETTING_SIGNALS,    /* the same, with a supervisor that does */
    SETTING_NO_SIGNALS, /* the same, with the filter that refuses */
};

static char top[64];

static inline const char *at(const char *name) {
    static char paths[8][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 8];
    (void)snprintf(path, PATH_MAX, "%s/%s", top, name);
    return path;
}

static inline void make_file(const char *name, mode_t mode) {
    int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd != -1 && write(fd, "x", 1) == 1 && fchmod(fd, mode) == 0);
    (void)close(fd);
}

static inline void make_victim(void) {
    const struct timespec then[2] = {{.tv_sec = THEN}, {.tv_sec = THEN}};
    make_file(VICTIM, 0640);
    CHECK(utimensat(AT_FDCWD, at(VICTIM), then, 0) == 0);
    CHECK(utimensat(AT_FDCWD, at("host"), then, 0) == 0);
}

/* Whether nobody has changed the files outside. */
static inline bool is_untouched(void) {
    struct stat file;
    struct stat dir;
    return stat(at(VICTIM), &file) == 0 && stat(at("host"), &dir) == 0 && (file.st_mode & 07777) == 0640 &&
           file.st_mtime == THEN && file.st_atime == THEN && file.st_nlink == 1 && (dir.st_mode & 07777) == 0700 &&
           dir.st_mtime == THEN;
}

static inline void remove_all(void) {
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", top);
    CHECK(system(command) == 0); /* NOLINT: a path of this program's own */
}

/* Becomes an ordinary user, if it is root, with directories of its own. */
static inline void set_the_stage(void) {
    (void)snprintf(top, sizeof top, "/tmp/sandpool-test-XXXXXX");
    CHECK(mkdtemp(top) != NULL);
    if (geteuid() == 0) {
        CHECK(chown(top, USER, USER) == 0);
        CHECK(setgroups(0, NULL) == 0 && setresgid(USER, USER, USER) == 0 && setresuid(USER, USER, USER) == 0);
        (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    }
    CHECK(mkdir(at("host"), 0700) == 0 && mkdir(at(LEASE), 0700) == 0 && mkdir(at("bind"), 0700) == 0);
    make_victim();
    make_file("single", 0600);
}

typedef int act_t(void);

static enum setting the_setting;

static inline int in_landlock(void) {
    const struct sp_landlock_rule rules[] = {
        {.path = "/usr"},
        {.path = "/dev/null", .writable = true},
        {.path = at(LEASE), .writable = true},
        {.path = at("bind"), .writable = true},
        {.path = at("single"), .writable = true},
    };
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const uint32_t most = the_setting >= SETTING_OLD ? SP_LANDLOCK_SCOPED - 1 : UINT32_MAX;
    const char *failed;
    return sp_landlock_restrict(rules, sizeof rules / sizeof rules[0], most, false, &failed);
}

/* The tenant: in a domain below that of init, in its directory. */
static inline int start_tenant(act_t *act) {
    if (in_landlock() < 0 || chdir(at(LEASE)) != 0) {
        return NOT_STARTED;
    }
    return act();
}

static inline struct sp_supervised supervised_at(const char *name) {
    const char *path = strdup(at(name));
    return (struct sp_supervised){open(path, O_PATH | O_CLOEXEC), path};
}

static inline int start_init(enum setting setting) {
    const struct sp_supervised places[] = {supervised_at(LEASE), supervised_at("bind"), supervised_at("single")};
    const bool supervised = setting == SETTING_SUPERVISED || setting == SETTING_SIGNALS;
    the_setting = setting;
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    int rc = supervised ? sp_supervise_start(places, 3) : 0;
    rc = rc == 0 && in_landlock() < 0 ? -EPERM : rc;
    if (rc == 0 && supervised) {
        rc = sp_supervise_listen(setting == SETTING_SIGNALS);
    } else if (rc == 0 && setting != SETTING_LANDLOCK && setting != SETTING_OLD) {
        rc = sp_supervise_refuse(setting == SETTING_NO_SIGNALS);
    }
    /* A call that is answered shows that the thread runs: a fork must not find it in the middle of a sanitizer's lock.
     */
    if (rc == 0 && supervised && fchmod(places[0].fd, 0700) != 0) {
        rc = -errno;
    }
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    return rc;
}

static inline int fork_tenant(act_t *act) {
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* as after an exec */
        _exit(start_tenant(act));
    }
    return pid;
}

static inline int exit_of(pid_t pid) {
    int status = 0;
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Runs a function as init, in a process of its own. */
static inline int as_init(enum setting setting, act_t *act) {
    pid_t pid = fork();
    if (pid == 0) {
        _exit(start_init(setting) != 0 ? NOT_STARTED : act());
    }
    return exit_of(pid);
}

static act_t *the_act;

static inline int run_tenant(void) { return exit_of(fork_tenant(the_act)); }

/* Runs a function as a tenant of an init, and returns what it returned: an errno mostly. */
static inline int as_tenant(enum setting setting, act_t *act) {
    the_act = act;
    return as_init(setting, run_tenant);
}

static inline int result(long rc) { return rc == -1 ? errno : 0; }

#endif
