/* The runtime in CONFIG: the milliseconds that it may take to get ready, its working directory, the number of its
 * arguments, these, the number of its variables, and these. */
#include <errno.h>
#include <stdlib.h>

#include "init/command.h"
#include "zygote/zygote.h"

/* Of arguments and variables together. */
#define STRINGS_MAX 1022u

/* A decimal number of at most so many digits, or -1. */
static long parse_number(const char *text, int digits) {
    char *end = NULL;
    long number = text != NULL && text[0] >= '0' && text[0] <= '9' ? strtol(text, &end, 10) : -1;
    return end != NULL && *end == '\0' && end - text <= digits ? number : -1;
}

/* Up to `room` strings, counted by the one before them, and NULL after them. Their number, or -1. */
static long parse_strings(const char **cursor, const char *end, char **into, unsigned room) {
    const long n = parse_number(sp_strings_next(cursor, end), 4);
    if (n > (long)room) {
        return -1;
    }
    for (long i = 0; i < n; i++) {
        const char *text = sp_strings_next(cursor, end);
        if (text == NULL) {
            return -1;
        }
        into[i] = (char *)(uintptr_t)text; /* execve(2) takes them like this, and does not write to them */
    }
    if (n >= 0) {
        into[n] = NULL;
    }
    return n;
}

int sp_zygote_parse_runtime(struct sp_plan *plan, const char **cursor, const char *end) {
    static char *vector[STRINGS_MAX + 2];
    static struct sp_command runtime;
    if ((plan->config.flags & SP_CONFIG_RUNTIME) == 0) {
        return 0;
    }
    plan->runtime_ms = parse_number(sp_strings_next(cursor, end), 7);
    runtime.cwd = plan->runtime_ms >= 0 ? sp_strings_next(cursor, end) : NULL;
    runtime.argv = vector;
    const long argc = runtime.cwd != NULL ? parse_strings(cursor, end, vector, STRINGS_MAX) : -1;
    if (argc < 1) {
        return -EBADMSG;
    }
    runtime.env = vector + argc + 1;
    runtime.channel = -1;
    plan->runtime = &runtime;
    return parse_strings(cursor, end, runtime.env, STRINGS_MAX - (unsigned)argc) >= 0 ? 0 : -EBADMSG;
}
