#ifndef SANDPOOL_HOST_SANDBOX_USAGE_H
#define SANDPOOL_HOST_SANDBOX_USAGE_H

#include <stdint.h>

/* What one sandbox has used since its birth, if its launcher can count it. */
struct sp_usage {
    uint64_t user_us;
    uint64_t system_us;
    uint64_t peak_bytes; /* 0: the kernel does not report it */
    uint64_t oom_kills;
};

#endif
