/* Changes the file of a supervised call. init has the uid of its tenants, and the kernel checks whose the file is. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/text.h"
#include "init/supervise_call.h"

static int result(int rc) { return rc == 0 ? 0 : -errno; }

/* No file gets a set-id bit: on the host it would be one of the host's user. */
static int change_mode(const struct sp_call *call, int file, int proc) {
    char name[32] = "";
    struct stat st;
    if ((call->mode & (S_ISUID | S_ISGID)) != 0) {
        return -EPERM;
    }
    if (fstatat(file, "", &st, AT_EMPTY_PATH) != 0 || S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode)) {
        return -EPERM;
    }
    if (S_ISLNK(st.st_mode)) {
        return -EOPNOTSUPP;
    }
    /* Through /proc, because fchmod() refuses an O_PATH descriptor, and not all supported kernels have fchmodat2(). */
    (void)sp_append_number(sp_append(name, name + sizeof name, "self/fd/"), name + sizeof name, (uint64_t)file);
    return result(fchmodat(proc, name, call->mode, 0));
}

/* Only to the tenant's own user and group: another group of the user's would share the file with its members. */
static int change_owner(const struct sp_call *call, int file) {
    bool other_user = call->uid != (uid_t)-1 && call->uid != geteuid();
    bool other_group = call->gid != (gid_t)-1 && call->gid != getegid();
    return other_user || other_group ? -EPERM : result(fchownat(file, "", call->uid, call->gid, AT_EMPTY_PATH));
}

int sp_call_perform(const struct sp_call *call, int file, int proc) {
    switch (call->change) {
    case SP_CHANGE_MODE:
        return change_mode(call, file, proc);
    case SP_CHANGE_OWNER:
        return change_owner(call, file);
    default:
        return result(utimensat(file, "", call->now ? NULL : call->times, AT_EMPTY_PATH));
    }
}
