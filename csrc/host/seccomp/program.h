/*
 * Classic BPF while it is being written. Only for seccomp/compile.c and seccomp/leaf.c.
 *
 * BPF jumps forward only. So the search is written from its end to its start: what a branch leads to is there before
 * the branch, and equal verdicts are one instruction that many branches share. What is to be read in order (a look at
 * the arguments) is written in order, as a block, and then put in front as a whole.
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
#define JUMP_MAX 255 /* of a conditional jump */

/* Written in order; ends with a verdict, except the architecture check. */
struct block {
    struct sock_filter insns[BLOCK_MAX];
    uint32_t len; /* counts on beyond BLOCK_MAX, which makes the whole program fail */
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
 * BPF loads 32 bits. For an argument that the kernel takes as int, the low half is all the kernel sees, so that is what
 * is compared: garbage above it neither saves nor condemns a call. Both architectures are little-endian.
 */
static inline void load_low(struct block *b, unsigned arg) { load(b, offsetof(struct seccomp_data, args) + 8 * arg); }

static inline void load_high(struct block *b, unsigned arg) {
    load(b, offsetof(struct seccomp_data, args) + 8 * arg + 4);
}

/* Goes on behind this when the loaded value is one of them; otherwise the verdict is err. */
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

/* Written backwards. A label is the number of instructions from there to the end, and stays true as more is put in
 * front. */
struct program {
    struct sock_filter insns[PROGRAM_MAX];
    uint32_t len; /* counts on beyond PROGRAM_MAX, so that one look at the end finds an overflow */
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

/* A label that a conditional jump, put in front with up to one more instruction between, can reach. */
static inline uint32_t within_reach(struct program *p, uint32_t label) {
    uint32_t distance = p->len - label;
    return distance < JUMP_MAX ? label : prepend(p, (struct sock_filter){BPF_JMP | BPF_JA, 0, 0, distance});
}

/* One step of the search: on to right for numbers >= k, else to left. */
static inline uint32_t prepend_branch(struct program *p, uint32_t k, uint32_t right, uint32_t left) {
    right = within_reach(p, right);
    left = within_reach(p, left);
    uint8_t jt = (uint8_t)(p->len - right), jf = (uint8_t)(p->len - left);
    return prepend(p, (struct sock_filter){BPF_JMP | BPF_JGE | BPF_K, jt, jf, k});
}

#endif
