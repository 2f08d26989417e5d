#include "init/judge.h"

#include "init/machine.h"
#include "init/sockets.h"

#define KIB UINT64_C(1024)

/* What each kind of object costs. FREE_*: so many are not counted, because ordinary programs have them. */
#define FREE_BUFFERS 64
#define SOCKET_FILLS 2 /* a queue that is not full yet takes one more message, of up to its whole size */
#define PIPE_BYTES (64 * KIB)
#define TEXT_BYTES (8 * KIB) /* the text that an open file of /proc keeps */
#define FREE_LISTS 16
#define LIST_BYTES (512 * KIB) /* the text of SP_SCAN_OBJECTS_MAX objects */
#define OBJECT_BYTES 256       /* with the unused space of its slab; a lock may have the list of its inode */
#define FREE_MAPPINGS 8192
#define MAPPING_BYTES 512         /* including a file that only the mapping holds */
#define LINK_BYTES 128            /* of a mapping to a process that it was forked from, and to one that has ended */
#define FILTER_BYTES (6 * KIB)    /* a short filter */
#define FILTERED_BYTES (96 * KIB) /* all the filters that a thread may add, compiled: see zygote/filters.c */
#define HIDDEN_PASSES 2
#define PAGE (4 * KIB)

/* The kernel memory that is known to be the sandbox's, as if all buffers were full. */
static uint64_t known_of_kernel(const struct sp_look *look) {
    const struct sp_memory_watch *watch = look->watch;
    const struct sp_found *found = &watch->scan.last;
    uint64_t sockets = watch->own_network ? watch->sockets.local
                       : watch->no_inet   ? found->sums[SP_TALLY_SOCKET].n_present
                                          : 0;
    uint64_t socket_bytes = sp_sockets_pair_bytes() * SOCKET_FILLS;
    return look->census.tables + (uint64_t)look->census.threads * SP_THREAD_BYTES +
           (uint64_t)found->filtered * FILTERED_BYTES + (uint64_t)found->filters * FILTER_BYTES +
           sp_above(sockets, SP_SOCKETS_FREE) * socket_bytes + watch->queued +
           sp_above(found->sums[SP_TALLY_PIPE].n_present, FREE_BUFFERS) * PIPE_BYTES +
           sp_above(found->proc_files, FREE_BUFFERS) * TEXT_BYTES + sp_above(found->lists, FREE_LISTS) * LIST_BYTES +
           (uint64_t)found->objects * OBJECT_BYTES + sp_above(found->mappings, FREE_MAPPINGS) * MAPPING_BYTES;
}

/*
 * What descriptors in flight may hide at most. If no socket is among them, their number is known. Each may be a full
 * pipe; whatever else they may be keeps its memory in objects, not in pages.
 */
static uint64_t most_in_flight(const struct sp_look *look) {
    const struct sp_memory_watch *watch = look->watch;
    const struct sp_found *found = &watch->scan.last;
    bool known = watch->sockets_seen && found->maps == 0 && !found->unreadable;
    uint64_t objects = sp_above(look->kernel.objects, watch->base.kernel.objects);
    return known ? watch->in_flight * PIPE_BYTES + objects : UINT64_MAX;
}

/*
 * Each mapping has a link to the anonymous memory of each process that it was forked from, which no figure of a process
 * shows. If each process was forked from the one before it, there are this many.
 */
static uint64_t most_in_links(const struct sp_look *look) {
    return (uint64_t)look->watch->scan.last.mappings * look->census.processes * LINK_BYTES;
}

/*
 * The other kernel memory that the machine has taken since the command began may be anybody's. It counts as the
 * sandbox's up to the size of the pipes that were seen before and are not found any more, and of the links between its
 * mappings, which are objects; and wholly while there is something that can hide any amount: sockets in flight, or the
 * text of a process's mappings.
 */
static uint64_t hidden_in_kernel(const struct sp_look *look, uint64_t known, uint64_t room) {
    const struct sp_memory_watch *watch = look->watch;
    const struct sp_tally_sum *pipes = &watch->scan.last.sums[SP_TALLY_PIPE];
    uint64_t hidden = sp_above(look->kernel.used, watch->base.kernel.used + known);
    if (watch->hidden_passes < HIDDEN_PASSES) {
        uint64_t all = sp_above((uint64_t)pipes->n_present + pipes->n_gone, FREE_BUFFERS);
        uint64_t known_objects = sp_above(known, look->census.tables); /* page tables are pages */
        uint64_t objects = sp_above(look->kernel.objects, watch->base.kernel.objects + known_objects);
        return sp_smaller(hidden, (all - sp_above(pipes->n_present, FREE_BUFFERS)) * PIPE_BYTES) +
               sp_smaller(objects, most_in_links(look));
    }
    const uint64_t most = most_in_flight(look);
    /* Free pages in the lists of processors look like used ones. They are read only where they decide. */
    if (sp_smaller(hidden, most) > room) {
        hidden = sp_above(hidden, sp_above(sp_machine_free_lists(look->watch->proc), watch->free_lists));
    }
    return sp_smaller(hidden, most);
}

/*
 * Shared memory that no process shows is still in the figure of the machine. The growth of that figure since the
 * command began counts up to what the sandbox's mappings reach, or up to the memfds that were seen before and are not
 * found any more. It counts wholly when descriptors may be in flight, or when the reach of the mappings is not known.
 */
static uint64_t hidden_shared(const struct sp_look *look, uint64_t shared) {
    const struct sp_memory_watch *watch = look->watch;
    const struct sp_found *found = &watch->scan.last;
    uint64_t grown = sp_above(look->shared_by_all, watch->base.shared_by_all + sp_above(shared, watch->base.kept));
    uint64_t gone = found->sums[SP_TALLY_MEMFD].gone * PAGE;
    return found->hidden || found->reach_unknown ? grown : sp_smaller(grown, sp_larger(found->reach, gone));
}

/* The growth of the machine's figures, whoever caused it. */
static uint64_t grown(const struct sp_look *look) {
    const struct sp_memory_base *base = &look->watch->base;
    return sp_above(look->kernel.used, base->kernel.used) + sp_above(look->shared_by_all, base->shared_by_all);
}

uint64_t sp_judge_plain(const struct sp_look *look) {
    const struct sp_census *census = &look->census;
    return census->own + sp_larger(look->kept, sp_judge_mapped(look)) + census->tables +
           (uint64_t)census->threads * SP_THREAD_BYTES;
}

struct sp_verdict sp_judge(const struct sp_look *look) {
    const struct sp_memory_watch *watch = look->watch;
    const struct sp_found *found = &watch->scan.last;
    /* Most mapped memory is in the first sum, too, but it is not known which: the larger sum counts. */
    uint64_t shared = sp_larger(look->kept + found->sums[SP_TALLY_MEMFD].present * PAGE, sp_judge_mapped(look));
    uint64_t known = known_of_kernel(look);
    uint64_t seen = look->census.own + shared + known;
    uint64_t plain = sp_judge_plain(look);
    struct sp_verdict verdict = {.far = plain > 2 * watch->limit,
                                 .suspected = seen + grown(look) > watch->limit,
                                 .by_scan = plain <= watch->limit && !look->census.out_of_time};
    if (look->census.out_of_time || found->too_much || seen > watch->limit) {
        verdict.too_much = true;
        return verdict;
    }
    seen += hidden_shared(look, shared);
    seen += seen > watch->limit ? 0 : hidden_in_kernel(look, known, watch->limit - seen);
    verdict.too_much = seen > watch->limit;
    return verdict;
}
