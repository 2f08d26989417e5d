#include "init/tally.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define PROBES_MAX 64
#define BLOCKS_PER_PAGE 8 /* blocks of 512 bytes; a page is 4 KiB here, whatever the page size of the machine is */

void sp_tally_begin_pass(struct sp_tally *tally) { memset(tally->untracked, 0, sizeof tally->untracked); }

void sp_tally_add(struct sp_tally *tally, enum sp_tally_kind kind, const struct stat *st, int64_t now) {
    uint64_t key = (uint64_t)st->st_ino ^ ((uint64_t)st->st_dev << 48) ^ 1;
    uint32_t pages = (uint32_t)(st->st_blocks / BLOCKS_PER_PAGE);
    size_t place = SP_TALLY_FILES;
    for (size_t i = 0; i < PROBES_MAX; i++) {
        size_t at = (key + i) & (SP_TALLY_FILES - 1);
        if (tally->files[at].key == key) {
            place = at;
            break;
        }
        bool is_free = tally->files[at].key == 0 || now - tally->files[at].seen > SP_TALLY_KEPT_NS;
        place = is_free && place == SP_TALLY_FILES ? at : place;
        if (tally->files[at].key == 0) {
            break;
        }
    }
    if (place == SP_TALLY_FILES) {
        tally->untracked[kind] += kind == SP_TALLY_MEMFD ? pages : 1;
        return;
    }
    tally->files[place].key = key;
    tally->files[place].kind = kind;
    tally->files[place].pages = pages;
    tally->files[place].seen = now;
}

void sp_tally_sum(const struct sp_tally *tally, int64_t began, int64_t now, struct sp_tally_sum sums[SP_TALLY_KINDS]) {
    memset(sums, 0, sizeof(struct sp_tally_sum) * SP_TALLY_KINDS);
    for (size_t i = 0; i < SP_TALLY_FILES; i++) {
        bool is_known = tally->files[i].key != 0 && now - tally->files[i].seen <= SP_TALLY_KEPT_NS;
        struct sp_tally_sum *sum = &sums[is_known ? tally->files[i].kind : 0];
        if (is_known && tally->files[i].seen >= began) {
            sum->present += tally->files[i].pages;
            sum->n_present++;
        } else if (is_known) {
            sum->gone += tally->files[i].pages;
            sum->n_gone++;
        }
    }
    for (size_t kind = 0; kind < SP_TALLY_KINDS; kind++) {
        sums[kind].present += kind == SP_TALLY_MEMFD ? tally->untracked[kind] : 0;
        sums[kind].n_present += kind == SP_TALLY_MEMFD ? 0 : (unsigned)tally->untracked[kind];
    }
}
