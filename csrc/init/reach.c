#include "init/reach.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/fd.h"
#include "init/lines.h"

#define BUDGET_LINES 64 /* between two checks of the budget */
#define PART_LINES 16   /* ordinary programs have some thousand mappings, and each takes less time than a file */

static void add_file(struct sp_reach *reach, uint64_t inode, uint64_t end) {
    for (size_t i = 0; i < SP_REACH_FILES; i++) {
        size_t at = (inode + i) & (SP_REACH_FILES - 1);
        if (reach->files[at].inode == 0 || reach->files[at].inode == inode) {
            uint64_t before = reach->files[at].end;
            reach->files[at].inode = inode;
            reach->files[at].end = end > before ? end : before;
            reach->bytes += end > before ? end - before : 0;
            return;
        }
    }
    reach->bytes += end;
}

/* "7fa84aa32000-7fa84ab32000 rw-s 00000000 00:01 636791    /dev/zero (deleted)", see proc_pid_maps(5). */
static void add_line(struct sp_reach *reach, const char *line, dev_t dev) {
    uint64_t start = sp_number(&line, 16);
    uint64_t end = sp_number(&line, 16);
    bool shared = strnlen(line, 5) == 5 && line[3] == 's';
    if (!shared) {
        return;
    }
    line += 5;
    uint64_t offset = sp_number(&line, 16);
    unsigned major = (unsigned)sp_number(&line, 16);
    unsigned minor = (unsigned)sp_number(&line, 16);
    uint64_t inode = sp_number(&line, 10);
    if (inode != 0 && makedev(major, minor) == dev) {
        add_file(reach, inode, offset + end - start);
    }
}

bool sp_reach_add(struct sp_reach *reach, int dir, dev_t dev, const struct sp_budget *budget) {
    static struct sp_lines lines;
    const char *line;
    sp_auto_fd int fd = sp_lines_open(&lines, dir, "maps");
    for (unsigned n = 1; fd != -1 && (line = sp_lines_next(&lines)) != NULL; n++) {
        reach->lines++;
        bool spent = n % BUDGET_LINES == 0 && sp_budget_ends(budget, n / PART_LINES, 1);
        if (lines.cut || spent || reach->lines >= SP_REACH_LINES) {
            return false;
        }
        add_line(reach, line, dev);
    }
    return true;
}
