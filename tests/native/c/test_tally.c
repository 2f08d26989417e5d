/* sources: csrc/init/tally.c */
/* The files of a pass of the memory watch: each counts once, for some time after it was seen, and none gets lost. */
#include "init/tally.h"

#include <string.h>

#include "check.h"
#include "common/clock.h"

#define PAGES 3
#define SLOT(n) ((ino_t)(n) * SP_TALLY_FILES) /* files with the same place in the table */

static struct sp_tally tally;
static struct sp_tally_sum sums[SP_TALLY_KINDS];

static void add(enum sp_tally_kind kind, ino_t inode, int64_t now) {
    const struct stat st = {.st_ino = inode, .st_blocks = (blkcnt_t)PAGES * 8};
    sp_tally_add(&tally, kind, &st, now);
}

static void a_file_counts_once(void) {
    memset(&tally, 0, sizeof tally);
    sp_tally_begin_pass(&tally);
    for (int i = 0; i < 3; i++) {
        add(SP_TALLY_MEMFD, 10, SP_SEC(1));
    }
    add(SP_TALLY_PIPE, 11, SP_SEC(1));
    sp_tally_sum(&tally, SP_SEC(1), SP_SEC(1), sums);
    CHECK(sums[SP_TALLY_MEMFD].n_present == 1 && sums[SP_TALLY_MEMFD].present == PAGES);
    CHECK(sums[SP_TALLY_PIPE].n_present == 1 && sums[SP_TALLY_SOCKET].n_present == 0);
    sp_tally_sum(&tally, SP_SEC(1) + 1, SP_SEC(1) + 1, sums); /* not seen in the next pass */
    CHECK(sums[SP_TALLY_MEMFD].n_present == 0 && sums[SP_TALLY_MEMFD].n_gone == 1 &&
          sums[SP_TALLY_MEMFD].gone == PAGES);
    sp_tally_sum(&tally, SP_SEC(2), SP_SEC(2), sums);
    CHECK(sums[SP_TALLY_MEMFD].n_gone == 0);
}

/* A tenant may choose many files with one place in the table. */
static void a_file_without_a_place_counts_each_time(void) {
    const unsigned files = 100;
    memset(&tally, 0, sizeof tally);
    sp_tally_begin_pass(&tally);
    for (unsigned i = 1; i <= files; i++) {
        add(SP_TALLY_MEMFD, SLOT(i), SP_SEC(1));
    }
    sp_tally_sum(&tally, SP_SEC(1), SP_SEC(1), sums);
    CHECK(sums[SP_TALLY_MEMFD].present == (uint64_t)files * PAGES);
    add(SP_TALLY_SOCKET, SLOT(files + 1), SP_SEC(1));
    sp_tally_sum(&tally, SP_SEC(1), SP_SEC(1), sums);
    CHECK(sums[SP_TALLY_SOCKET].n_present == 1);
    sp_tally_begin_pass(&tally);
    add(SP_TALLY_SOCKET, SLOT(files + 1), SP_SEC(3)); /* the others are forgotten by now */
    sp_tally_sum(&tally, SP_SEC(3), SP_SEC(3), sums);
    CHECK(sums[SP_TALLY_SOCKET].n_present == 1 && sums[SP_TALLY_MEMFD].present == 0);
}

int main(void) {
    check_deadline(60);
    RUN(a_file_counts_once);
    RUN(a_file_without_a_place_counts_each_time);
    return check_report();
}
