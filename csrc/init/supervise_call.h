/* The parts of the supervisor, each in a file of its own. Only for supervise*.c. */
#ifndef SANDPOOL_INIT_SUPERVISE_CALL_H
#define SANDPOOL_INIT_SUPERVISE_CALL_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct seccomp_data;

enum sp_change { SP_CHANGE_MODE, SP_CHANGE_OWNER, SP_CHANGE_TIMES };

/* How the times stand in the tenant's memory. */
enum sp_times { SP_TIMES_SECONDS, SP_TIMES_MICRO, SP_TIMES_NANO };

#define SP_NO_ARG (-1)

/* A supervised call: which of its arguments means what. */
struct sp_call_form {
    uint16_t nr;
    uint8_t change; /* enum sp_change */
    int8_t dir;     /* the argument that is a descriptor; SP_NO_ARG: the path is relative to the working directory */
    int8_t path;    /* SP_NO_ARG: the descriptor is the file */
    int8_t value;   /* the mode, the owner and after it the group, or the address of the times */
    int8_t flags;
    bool no_follow; /* also without AT_SYMLINK_NOFOLLOW */
    uint8_t times;  /* enum sp_times */
};

/* The forms of this architecture. */
extern const struct sp_call_form sp_call_forms[];
extern const unsigned sp_call_forms_count;

/* The calls that send signals; kill() is the first. */
#define SP_SIGNAL_CALLS 5
extern const uint16_t sp_signal_calls[SP_SIGNAL_CALLS];

/* A call with all that it says copied from the tenant's registers and memory, once. */
struct sp_call {
    enum sp_change change;
    int dir;      /* a descriptor of the tenant, or AT_FDCWD */
    bool is_file; /* `dir` itself is the file; then there is no path */
    bool follow;  /* a symlink at the end of the path */
    char path[PATH_MAX];
    mode_t mode;
    uid_t uid;
    gid_t gid;
    bool now; /* both times */
    struct timespec times[2];
};

/* Reads a call. `task`: the directory of /proc of the thread that makes it. 0 or -errno, the answer. */
int sp_call_read(const struct seccomp_data *data, int task, struct sp_call *call);

/* Where files may be changed. */
struct sp_places {
    int proc; /* O_PATH of /proc */
    unsigned n;
    struct sp_place {
        int fd;           /* O_PATH */
        const char *name; /* as it was given, or as the kernel prints it: two places where these differ */
    } at[128];
};

/* Adds one. 0 or -errno. */
int sp_places_add(struct sp_places *places, int fd, const char *name);

/*
 * The file of a call, as an O_PATH descriptor that was opened by walking from a place downwards; or -errno. Nothing
 * that a tenant can change between two steps leads outside: the names decide only which file inside it is.
 */
int sp_places_find(const struct sp_places *places, int task, const struct sp_call *call);

/* Changes the file. 0 or -errno. `proc`: O_PATH of /proc. */
int sp_call_perform(const struct sp_call *call, int file, int proc);

/* ---- signals ---- */

/* An answer: the kernel shall perform the call. Only for calls that are decided by registers alone. */
#define SP_CALL_CONTINUE 1

/* Sends the signal of a call, or lets the kernel do so. `caller`: the thread. 0, SP_CALL_CONTINUE or -errno. */
int sp_call_signal(const struct sp_places *places, pid_t caller, int task, const struct seccomp_data *data);

#endif
