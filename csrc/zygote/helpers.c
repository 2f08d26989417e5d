#include "zygote/helpers.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/stage.h"

#define ROOM (SP_HELPERS_MAX * sizeof(struct sp_rec_failed))

static bool have_room(struct sp_helpers *helpers) {
    if (helpers->whys == NULL) {
        void *shared = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        helpers->whys = shared != MAP_FAILED ? shared : NULL;
    }
    return helpers->whys != NULL && helpers->n < SP_HELPERS_MAX;
}

int sp_helpers_begin(struct sp_helpers *helpers, int (*work)(const void *arg, struct sp_rec_failed *why),
                     const void *arg, struct sp_rec_failed *why) {
    pid_t pid = have_room(helpers) ? fork() : -1;
    if (pid == 0) {
        _exit(work(arg, &helpers->whys[helpers->n]) != 0);
    }
    if (pid == -1) {
        return work(arg, why);
    }
    helpers->pids[helpers->n++] = pid;
    return 0;
}

int sp_helpers_end(struct sp_helpers *helpers, struct sp_rec_failed *why) {
    int rc = 0;
    for (unsigned i = 0; i < helpers->n; i++) {
        int status = 0;
        if (waitpid(helpers->pids[i], &status, 0) != helpers->pids[i] || !WIFEXITED(status)) {
            rc = sp_failed(why, SP_STAGE_ROOT, EIO, "a helper of the zygote");
        } else if (WEXITSTATUS(status) != 0 && rc == 0) {
            *why = helpers->whys[i];
            rc = -(int)why->err;
        }
    }
    if (helpers->whys != NULL) {
        (void)munmap(helpers->whys, ROOM);
    }
    *helpers = (struct sp_helpers){.n = 0};
    return rc;
}
