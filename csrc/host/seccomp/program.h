/*
 * Functions that write a program of classic BPF. Only for the files of this folder.
 *
 * BPF jumps only forward. So the search is written from its end to its start: the target of a branch exists before the
 * branch, and branches with the same verdict share one instruction. A check of arguments, which runs in order, is
 * written in order, as a block, and then prepended as a whole.
 */
#ifndef SANDPOOL_HOST_SECCOMP_PROGRAM_H
#define SANDPOOL_HOST_SECCOMP_PROGRAM_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PROGRAM_MAX 1024
#define BLOCK_MAX 32
#define JUMP_MAX 255 /* the longest conditional jump */

/* Instructions in the order in which they run. A block ends with a verdict, except the architecture check. */
struct block {
    struct sock_filter insns[BLOCK_MAX];
    uint32_t len; /* a value above BLOCK_MAX makes the whole program fail */
};

static inline void emit(struct block *b, uint32_t code, uint32_t k, uint32_t jt, uint32_t jf) {
    if (b->len < BLOCK_MAX) {
        b->insns[b->len] = (struct sock_filter){(uint16_t)code, (uint8_t)jt, (uint8_t)jf, k};
    }
    b->len++;
}

static inline void emit_verdict(struct block *b, uint32_t verdict) { emit(b, BPF_RET | BPF_K, verdict, 0, 0); }

static inline void refuse(struct block *b, int err) { emit_verdict(b, SECCOMP_RET_ERRNO | (uint32_t)err); }

static inline void load(struct block *b, size_t offset) { emit(b, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0); }

/*
 * BPF loads 32 bits. Of an argument that is an int the kernel uses only the low half, so only the low half is compared:
 * the upper half changes nothing. Both architectures are little-endian.
 */
static inline void load_low(struct block *b, unsigned arg) { load(b, offsetof(struct seccomp_data, args) + 8 * arg); }

static inline void load_high(struct block *b, unsigned arg) {
    load(b, offsetof(struct seccomp_data, args) + 8 * arg + 4);
}

/* Continues after this block of instructions if the loaded value is one of `values`; otherwise the verdict is err. */
static inline void require_one_of(struct block *b, const uint32_t *values, uint32_t n, int err) {
    for (uint32_t i = 0; i < n; i++) {
        emit(b, BPF_JMP | BPF_JEQ | BPF_K, values[i], n - i, 0);
    }
    refuse(b, err);
}

static inline void refuse_if_equal(struct block *b, uint32_t value, int err) {
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    refuse(b, err);
}

static inline void refuse_unless_zero(struct block *b, int err) {
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
    refuse(b, err);
}

static inline void refuse_if_set(struct block *b, uint32_t mask, int err) {
    emit(b, BPF_JMP | BPF_JSET | BPF_K, mask, 0, 1);
    refuse(b, err);
}

/* A program that is written backwards. A label is the number of instructions from there to the end, which stays true
 * when more is prepended. */
struct program {
    struct sock_filter insns[PROGRAM_MAX];
    uint32_t len; /* may exceed PROGRAM_MAX, so that one check at the end finds an overflow */
};

static inline uint32_t prepend(struct program *p, struct sock_filter insn) {
    p->len++;
    if (p->len <= PROGRAM_MAX) {
        p->insns[PROGRAM_MAX - p->len] = insn;
    }
    return p->len;
}

static inline uint32_t prepend_block(struct program *p, const struct block *b) {
    if (b->len > BLOCK_MAX) {
        p->len = PROGRAM_MAX;
    }
    for (uint32_t i = b->len < BLOCK_MAX ? b->len : BLOCK_MAX; i > 0; i--) {
        prepend(p, b->insns[i - 1]);
    }
    return p->len;
}

/* Returns a label for the same target that a conditional jump can reach, with up to one more instruction between. */
static inline uint32_t within_reach(struct program *p, uint32_t label) {
    uint32_t distance = p->len - label;
    return distance < JUMP_MAX ? label : prepend(p, (struct sock_filter){BPF_JMP | BPF_JA, 0, 0, distance});
}

/* One step of the search: continues at `right` for numbers >= k, else at `left`. */
static inline uint32_t prepend_branch(struct program *p, uint32_t k, uint32_t right, uint32_t left) {
    right = within_reach(p, right);
    left = within_reach(p, left);
    uint8_t jt = (uint8_t)(p->len - right), jf = (uint8_t)(p->len - left);
    return prepend(p, (struct sock_filter){BPF_JMP | BPF_JGE | BPF_K, jt, jf, k});
}

#endif
