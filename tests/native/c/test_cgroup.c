#include "host/linux/cgroup.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "common/stage.h"
#include "machine.h"

static void refuses(const char *dir, int err) {
    sp_sandbox_options o = {.size = sizeof o, .cgroup_dir = dir, .memory_bytes = 1 << 20};
    sp_error error = {0};
    struct stat st;
    CHECK(sp_cgroups_open(&o, &error) == NULL);
    CHECK(error.code == SP_E_CREATE && error.stage == SP_STAGE_CGROUP && error.err == err);
    CHECK(stat(dir, &st) != 0);
}

static void a_directory_that_is_no_cgroup_is_refused_and_not_changed(void) {
    refuses("/tmp/pysandpool-test-cgroup", ENODEV);
    refuses("/nothing/here/pysandpool-test-cgroup", ENOENT);
}

/* A sandbox outside its cgroup would have no limits, so the host checks where it is. */
static void the_processes_of_a_cgroup_are_known(void) {
    const char *mount = find_cgroup_mount();
    char dir[128];
    char procs[160];
    sp_error error = {0};
    int fd = -1;
    if (mount == NULL) {
        printf("(no cgroup v2 that can be written) ");
        return;
    }
    (void)snprintf(dir, sizeof dir, "%s/pysandpool-test-%d", mount, (int)getpid());
    sp_sandbox_options o = {.size = sizeof o, .cgroup_dir = dir};
    struct sp_cgroups *c = sp_cgroups_open(&o, &error);
    CHECK(c != NULL);
    int64_t number = c != NULL ? sp_cgroup_take(c, &fd) : -1;
    CHECK(number > 0);
    pid_t child = fork();
    if (child == 0) {
        (void)pause();
    }
    CHECK(!sp_cgroup_contains(c, (uint32_t)number, child));
    (void)snprintf(procs, sizeof procs, "%s/s%d/cgroup.procs", dir, (int)number);
    FILE *file = fopen(procs, "we");
    CHECK(file != NULL && fprintf(file, "%d", (int)child) > 0 && fclose(file) == 0);
    CHECK(sp_cgroup_contains(c, (uint32_t)number, child));
    CHECK(!sp_cgroup_contains(c, (uint32_t)number, child / 10)); /* the whole number is compared */
    CHECK(!sp_cgroup_contains(c, (uint32_t)number + 1, child));
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    (void)close(fd);
    sp_cgroups_close(c, INT64_MAX);
    sp_cgroups_free(c);
    CHECK(access(dir, F_OK) != 0);
}

int main(void) {
    check_deadline(60);
    RUN(a_directory_that_is_no_cgroup_is_refused_and_not_changed);
    RUN(the_processes_of_a_cgroup_are_known);
    return check_report();
}
