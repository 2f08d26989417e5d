/* Memory that a copy of the process would not be a copy of: a mapping that is shared and may be written. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "common/fd.h"
#include "init/lines.h"
#include "stem/process.h"
#include "zygote/zygote.h"

/* "7f18bf565000-7f18bf566000 rw-s 00000000 00:01 37    /dev/zero (deleted)", see proc_pid_maps(5). Puts the name of a
 * shared mapping into `name`; "" for a private one. */
static void read_head(const char *line, char *name, size_t size) {
    const char *at = sp_next_word(line);
    const bool shared = strnlen(at, 4) == 4 && at[3] == 's';
    for (int word = 0; word < 4; word++) {
        at = sp_next_word(at);
    }
    (void)snprintf(name, size, "%s", !shared ? "" : *at != '\0' ? at : "a mapping without a name");
}

void sp_stem_shared_memory(char *names, size_t size) {
    struct sp_lines lines;
    char name[256] = "";
    names[0] = '\0';
    sp_auto_fd int fd = sp_lines_open(&lines, SP_PROC_FD, "self/smaps");
    for (const char *line; fd != -1 && (line = sp_lines_next(&lines)) != NULL;) {
        if (!isupper((unsigned char)line[0])) {
            read_head(line, name, sizeof name);
        } else if (name[0] != '\0' && strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " mw") != NULL) {
            const size_t len = strlen(names);
            (void)snprintf(names + len, size - len, "%s%s", len != 0 ? ", " : "", name);
        }
    }
    if (fd == -1 || lines.err != 0) {
        (void)snprintf(names, size, "what /proc/self/smaps would show");
    }
}
