/* sources: csrc/zygote/runtime.c csrc/common/wire.c csrc/common/text.c */
/* The runtime in CONFIG: its time, and its arguments and variables, which are counted. A wrong number is refused. */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "init/command.h"
#include "zygote/zygote.h"

static struct sp_plan plan;

/* The strings are separated by '|' here, and by NUL there. */
static int parse(const char *text) {
    static char strings[8192];
    const size_t len = strlen(text) + 1;
    const char *cursor = strings;
    memcpy(strings, text, len);
    for (char *c = strings; c < strings + len; c++) {
        *c = *c == '|' ? '\0' : *c;
    }
    plan = (struct sp_plan){.config.flags = SP_CONFIG_RUNTIME};
    return sp_zygote_parse_runtime(&plan, &cursor, strings + len);
}

static void arguments_and_variables_are_taken(void) {
    CHECK(parse("500|/tmp|2|/bin/run|-v|1|HOME=/tmp") == 0);
    CHECK(strcmp(plan.runtime->cwd, "/tmp") == 0 && strcmp(plan.runtime->argv[1], "-v") == 0);
    CHECK(plan.runtime->argv[2] == NULL && strcmp(plan.runtime->env[0], "HOME=/tmp") == 0);
    CHECK(plan.runtime->env[1] == NULL && plan.runtime->channel == -1 && plan.runtime_ms == 500);
    CHECK(parse("500|/tmp|1|/bin/run|0") == 0 && plan.runtime->env[0] == NULL);
}

static void without_a_runtime_nothing_is_read(void) {
    const char *cursor = NULL;
    plan = (struct sp_plan){.payload = NULL};
    CHECK(sp_zygote_parse_runtime(&plan, &cursor, NULL) == 0 && plan.runtime == NULL);
}

static void what_is_not_whole_is_refused(void) {
    static const char *const wrong[] = {
        "500|/tmp",
        "x|/tmp|1|/bin/run|0",
        "12345678|/tmp|1|/bin/run|0",
        "500|/tmp|0",
        "500|/tmp|x|/bin/run|0",
        "500|/tmp|1x|/bin/run|0",
        "500|/tmp|00001|/bin/run|0",
        "500|/tmp|-1|0",
        "500|/tmp|2|/bin/x",
        "500|/tmp|1|/bin/run",
        "500|/tmp|1|/bin/run|2|A",
        "500|/tmp|1|/bin/run|x",
        "500|/tmp|1023|/a",
        "500|/tmp|1|/a|1022|A",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK(parse(wrong[i]) == -EBADMSG);
    }
}

int main(void) {
    RUN(arguments_and_variables_are_taken);
    RUN(without_a_runtime_nothing_is_read);
    RUN(what_is_not_whole_is_refused);
    return check_report();
}
