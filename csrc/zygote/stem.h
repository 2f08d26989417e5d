/*
 * The stem: an interpreter that the zygote becomes. Once its template stands, the zygote executes the interpreter of
 * the configuration, which it finds in the template as a tenant would. A module of ours (csrc/stem) is loaded into it,
 * made from the same sources as this program. The interpreter imports what it should, and then the module goes on where
 * the zygote has stopped: with the same loop, in the same process.
 *
 * What the zygote knows by then is handed over in a file in memory.
 */
#ifndef SANDPOOL_ZYGOTE_STEM_H
#define SANDPOOL_ZYGOTE_STEM_H

#include "init/plan.h"
#include "zygote/binds.h"

/* Of the interpreter's command line. */
#define SP_STEM_WORDS 7

/* Followed by the payload of CONFIG. */
struct sp_stem_handover {
    uint32_t version, size; /* of this struct: SP_WIRE_VERSION, sizeof */
    int host, outside;      /* descriptors; -1: there is none */
    struct sp_plan plan;    /* its pointers mean nothing any more */
    struct sp_binds_known binds;
};

/* Shows the writable binds again that sp_zygote_prepare_stem() has hidden from the interpreter. 0 or -errno. */
int sp_stem_show_writable(const struct sp_plan *plan);

/* Keeps the capabilities that the loop of the zygote needs over an exec. 0 or -errno. */
int sp_stem_keep_capabilities(const struct sp_plan *plan);

/* stem_tier.c: the same as sp_zygote_prepare_stem(), in the Landlock tier; and what is the interpreter's /tmp then. */
int sp_stem_tier_prepare(struct sp_plan *plan, struct sp_rec_failed *why);
const char *sp_stem_tier_home(void);

#endif
