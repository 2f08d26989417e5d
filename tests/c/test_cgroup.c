#include "host/cgroup.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "common/stage.h"

static void refuses(const char *dir, int err) {
    sp_sandbox_options o = {.size = sizeof o, .cgroup_dir = dir, .memory_bytes = 1 << 20};
    sp_error error = {0};
    struct stat st;
    CHECK(sp_cgroups_open(&o, &error) == NULL);
    CHECK(error.code == SP_E_CREATE && error.stage == SP_STAGE_CGROUP && error.err == err);
    CHECK(stat(dir, &st) != 0);
}

static void what_is_no_cgroup_is_refused_and_left_alone(void) {
    refuses("/tmp/pysandpool-test-cgroup", ENODEV);
    refuses("/nothing/here/pysandpool-test-cgroup", ENOENT);
}

int main(void) {
    RUN(what_is_no_cgroup_is_refused_and_left_alone);
    return check_report();
}
