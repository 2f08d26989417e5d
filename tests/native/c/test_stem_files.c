/* sources: csrc/stem/files.c */
/* Which files of the interpreter count as changed, and when it looks. The clock is the test's. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"
#include "common/clock.h"
#include "stem/process.h"

static int64_t now = SP_SEC(10);
static char folder[] = "/tmp/sandpool-stem-files-XXXXXX";
static char path[64];

int64_t sp_now(void) { return now; }

/* What is below /tmp of the interpreter is nowhere later. */
const char *sp_stem_lasting_path(const char *name, char *elsewhere, size_t size) {
    elsewhere[0] = '\0';
    (void)size;
    return strcmp(name, "passing") == 0 ? NULL : name;
}

static void write_file(const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    CHECK(fd != -1 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    (void)close(fd);
}

static bool is_stale_after(int64_t ns) {
    now += ns;
    return sp_stem_is_stale();
}

static void files_are_remembered(void) {
    for (int i = 0; i < 600; i++) { /* more than the first table holds */
        CHECK(sp_stem_note_file(path) == 0);
    }
    CHECK(sp_stem_note_file("/nowhere/module.py") == 0 && sp_stem_note_file("passing") == 0);
    CHECK(!is_stale_after(SP_SEC(2)) && !is_stale_after(SP_SEC(2)));
}

static void a_change_is_seen_at_the_next_look(void) {
    write_file("more");
    CHECK(!is_stale_after(SP_MS(500)) && is_stale_after(SP_MS(600)));
    CHECK(is_stale_after(0) && is_stale_after(SP_SEC(2))); /* and stays */
}

int main(void) {
    check_deadline(60);
    if (mkdtemp(folder) == NULL) {
        return EXIT_FAILURE;
    }
    (void)snprintf(path, sizeof path, "%s/module.py", folder);
    write_file("text");
    RUN(files_are_remembered);
    RUN(a_change_is_seen_at_the_next_look);
    CHECK(unlink(path) == 0 && rmdir(folder) == 0);
    return check_report();
}
