#include "common/wire.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

#include "common/fact.h"
#include "common/stage.h"

/* Cursors over the bytes of one record. Reading a value that is out of range sets `bad` and returns 0; the caller
 * checks `bad` once, at the end. */
struct writer {
    uint8_t *at;
};

struct reader {
    const uint8_t *at;
    bool bad;
};

static void put(struct writer *w, uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++) {
        *w->at++ = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t get(struct reader *r, unsigned bytes, uint64_t min, uint64_t max) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)*r->at++ << (8 * i);
    }
    if (value < min || value > max) {
        r->bad = true;
        return 0;
    }
    return value;
}

static uint32_t get32(struct reader *r, uint32_t max) { return (uint32_t)get(r, 4, 0, max); }

static void put_config(struct writer *w, const struct sp_rec_config *c) {
    put(w, c->flags, 4);
    put(w, c->payload_len, 4);
    put(w, c->n_binds, 4);
    put(w, c->template_filter_len, 4);
    put(w, c->init_filter_len, 4);
    put(w, c->attach_filter_len, 4);
    put(w, c->exec_filter_len, 4);
    put(w, c->landlock_abi_max, 4);
    put(w, c->memory_bytes, 8);
    put(w, c->data_bytes, 8);
    put(w, c->max_processes, 8);
    put(w, c->scratch_bytes, 8);
    put(w, c->scratch_inodes, 8);
}

/* Of one sandbox, covers included. */
#define BINDS_MAX 4096
/* The kernel's BPF_MAXINSNS. */
#define FILTER_MAX 4096

static void get_config(struct reader *r, struct sp_rec_config *c) {
    c->flags = get32(r, SP_CONFIG_FLAGS);
    c->payload_len = get32(r, SP_PAYLOAD_MAX);
    c->n_binds = get32(r, BINDS_MAX);
    c->template_filter_len = get32(r, FILTER_MAX);
    c->init_filter_len = get32(r, FILTER_MAX);
    c->attach_filter_len = get32(r, FILTER_MAX);
    c->exec_filter_len = get32(r, FILTER_MAX);
    c->landlock_abi_max = get32(r, UINT32_MAX);
    c->memory_bytes = get(r, 8, 0, INT64_MAX);
    c->data_bytes = get(r, 8, 0, INT64_MAX);
    c->max_processes = get(r, 8, 0, INT32_MAX);
    c->scratch_bytes = get(r, 8, 0, INT64_MAX);
    c->scratch_inodes = get(r, 8, 0, INT64_MAX);
    uint64_t filters = 8ull * (c->template_filter_len + c->init_filter_len + c->attach_filter_len + c->exec_filter_len);
    r->bad = r->bad || filters > c->payload_len;
}

static void put_exec(struct writer *w, const struct sp_rec_exec *e) {
    put(w, e->id, 4);
    put(w, e->flags, 4);
    put(w, e->argc, 4);
    put(w, e->envc, 4);
    put(w, e->payload_len, 4);
    put(w, e->cpu_seconds, 4);
    put(w, e->timeout_ns, 8);
    put(w, e->rows, 4);
    put(w, e->cols, 4);
}

static void get_exec(struct reader *r, struct sp_rec_exec *e) {
    e->id = get32(r, UINT32_MAX);
    e->flags = get32(r, SP_EXEC_FLAGS);
    /* The shortest string is its NUL, so the counts are bounded by the payload that must hold them. */
    e->argc = (uint32_t)get(r, 4, 1, SP_PAYLOAD_MAX);
    e->envc = get32(r, SP_PAYLOAD_MAX);
    e->payload_len = get32(r, SP_PAYLOAD_MAX);
    e->cpu_seconds = get32(r, UINT32_MAX);
    e->timeout_ns = get(r, 8, 0, INT64_MAX);
    e->rows = get32(r, UINT16_MAX);
    e->cols = get32(r, UINT16_MAX);
    r->bad = r->bad || (uint64_t)e->argc + e->envc + 1 > e->payload_len;
}

static void get_created(struct reader *r, struct sp_rec_created *c) {
    c->bindings = get32(r, UINT32_MAX);
    c->lease = get32(r, UINT32_MAX);
    c->stale = get32(r, 1);
}

static void put_attach(struct writer *w, const struct sp_rec_attach *a) {
    put(w, a->mode, 4);
    put(w, a->payload_len, 4);
    put(w, a->device, 8);
    put(w, a->inode, 8);
}

static void get_attach(struct reader *r, struct sp_rec_attach *a) {
    a->mode = (uint32_t)get(r, 4, SP_ATTACH_RW, SP_ATTACH_COW);
    a->payload_len = (uint32_t)get(r, 4, 2, SP_ATTACH_PATH_MAX);
    a->device = get(r, 8, 0, UINT64_MAX);
    a->inode = get(r, 8, 0, UINT64_MAX);
}

static void put_bind(struct writer *w, const struct sp_rec_bind *b) {
    put(w, b->index, 4);
    put(w, b->flags, 4);
    put(w, b->bindings, 4);
    put(w, b->device, 8);
    put(w, b->inode, 8);
}

static void get_bind(struct reader *r, struct sp_rec_bind *b) {
    b->index = get32(r, BINDS_MAX - 1);
    b->flags = get32(r, SP_BIND_REC_FLAGS);
    b->bindings = get32(r, UINT32_MAX);
    b->device = get(r, 8, 0, UINT64_MAX);
    b->inode = get(r, 8, 0, UINT64_MAX);
}

static void put_signal(struct writer *w, const struct sp_rec_signal *s) { put(w, s->number, 4); }

static void get_signal(struct reader *r, struct sp_rec_signal *s) { s->number = (uint32_t)get(r, 4, 1, 64); }

static void put_exited(struct writer *w, const struct sp_rec_exited *e) {
    put(w, e->id, 4);
    put(w, e->status, 4);
    put(w, e->user_us, 8);
    put(w, e->system_us, 8);
    put(w, e->max_rss_bytes, 8);
    put(w, e->flags, 4);
}

static void get_exited(struct reader *r, struct sp_rec_exited *e) {
    e->id = get32(r, UINT32_MAX);
    e->status = get32(r, 0xffff);
    e->user_us = get(r, 8, 0, INT64_MAX);
    e->system_us = get(r, 8, 0, INT64_MAX);
    e->max_rss_bytes = get(r, 8, 0, INT64_MAX);
    e->flags = get32(r, SP_EXITED_FLAGS);
    /* Exited (low 7 bits 0) or ended by a signal 1..64 (bit 7: dumped core, high byte 0); never "stopped" (0x7f). */
    uint32_t signal = e->status & 0x7f;
    r->bad = r->bad || (signal == 0 ? (e->status & 0x80) != 0 : signal > 64 || e->status > 0xff);
    r->bad = r->bad || (e->flags != 0 && signal != SIGKILL);
}

static void put_failed(struct writer *w, const struct sp_rec_failed *f) {
    put(w, f->id, 4);
    put(w, f->stage, 4);
    put(w, f->err, 4);
    memcpy(w->at, f->detail, SP_DETAIL_SIZE);
}

static void get_failed(struct reader *r, struct sp_rec_failed *f) {
    f->id = get32(r, UINT32_MAX);
    f->stage = (uint32_t)get(r, 4, 1, SP_STAGE_COUNT - 1);
    f->err = get32(r, 4095);
    memcpy(f->detail, r->at, SP_DETAIL_SIZE);
    f->detail[SP_DETAIL_SIZE - 1] = '\0';
}

static void put_file(struct writer *w, const struct sp_rec_file *f) {
    put(w, f->op, 4);
    put(w, f->flags, 4);
    put(w, f->mode, 4);
    put(w, f->payload_len, 4);
}

static void get_file(struct reader *r, struct sp_rec_file *f) {
    f->op = (uint32_t)get(r, 4, 1, SP_FILE_OP_END - 1);
    f->flags = get32(r, SP_FILE_FLAGS);
    f->mode = get32(r, 0777);
    f->payload_len = (uint32_t)get(r, 4, 2, SP_FILE_PAYLOAD_MAX);
}

static void put_filed(struct writer *w, const struct sp_rec_filed *f) {
    put(w, f->err, 4);
    put(w, f->mode, 4);
    put(w, f->nlink, 4);
    put(w, f->uid, 4);
    put(w, f->gid, 4);
    put(w, f->size, 8);
    put(w, f->inode, 8);
    put(w, f->device, 8);
    put(w, f->accessed_ns, 8);
    put(w, f->modified_ns, 8);
    put(w, f->changed_ns, 8);
    put(w, f->payload_len, 4);
}

static void get_filed(struct reader *r, struct sp_rec_filed *f) {
    f->err = get32(r, 4095);
    f->mode = get32(r, 0xffff);
    f->nlink = get32(r, UINT32_MAX);
    f->uid = get32(r, UINT32_MAX);
    f->gid = get32(r, UINT32_MAX);
    f->size = get(r, 8, 0, INT64_MAX);
    f->inode = get(r, 8, 0, UINT64_MAX);
    f->device = get(r, 8, 0, UINT64_MAX);
    f->accessed_ns = get(r, 8, 0, INT64_MAX);
    f->modified_ns = get(r, 8, 0, INT64_MAX);
    f->changed_ns = get(r, 8, 0, INT64_MAX);
    f->payload_len = get32(r, SP_FILE_PATH_MAX);
}

void sp_wire_pack(const struct sp_record *record, uint8_t out[SP_RECORD_SIZE]) {
    struct writer w = {.at = out};
    memset(out, 0, SP_RECORD_SIZE);
    put(&w, SP_WIRE_MAGIC, 4);
    put(&w, SP_WIRE_VERSION, 2);
    put(&w, record->type, 2);
    switch (record->type) {
    case SP_REC_CONFIG:
        put_config(&w, &record->u.config);
        break;
    case SP_REC_READY:
        put(&w, record->u.ready.landlock_abi, 4);
        put(&w, record->u.ready.facts, 4);
        break;
    case SP_REC_EXEC:
    case SP_REC_SPAWN:
        put_exec(&w, &record->u.exec);
        break;
    case SP_REC_ACK:
    case SP_REC_ADOPT:
    case SP_REC_KILL:
        put(&w, record->u.id.id, 4);
        break;
    case SP_REC_SIGNAL:
        put_signal(&w, &record->u.signal);
        break;
    case SP_REC_EXITED:
        put_exited(&w, &record->u.exited);
        break;
    case SP_REC_FAILED:
        put_failed(&w, &record->u.failed);
        break;
    case SP_REC_FILE:
        put_file(&w, &record->u.file);
        break;
    case SP_REC_FILED:
        put_filed(&w, &record->u.filed);
        break;
    case SP_REC_CREATED:
        put(&w, record->u.created.bindings, 4);
        put(&w, record->u.created.lease, 4);
        put(&w, record->u.created.stale, 4);
        break;
    case SP_REC_BIND:
        put_bind(&w, &record->u.bind);
        break;
    case SP_REC_ATTACH:
        put_attach(&w, &record->u.attach);
        break;
    case SP_REC_HELLO:
    case SP_REC_NAMESPACES:
    case SP_REC_CREATE:
    case SP_REC_SERVE:
    case SP_REC_STARTED:
    case SP_REC_TYPE_END:
        break;
    }
}

int sp_wire_unpack(const uint8_t *bytes, size_t len, struct sp_record *record) {
    if (len != SP_RECORD_SIZE) {
        return -EBADMSG;
    }
    struct reader r = {.at = bytes};
    memset(record, 0, sizeof *record);
    get(&r, 4, SP_WIRE_MAGIC, SP_WIRE_MAGIC);
    get(&r, 2, SP_WIRE_VERSION, SP_WIRE_VERSION);
    record->type = (enum sp_record_type)get(&r, 2, SP_REC_CONFIG, SP_REC_TYPE_END - 1);
    if (r.bad) {
        return -EBADMSG;
    }
    switch (record->type) {
    case SP_REC_CONFIG:
        get_config(&r, &record->u.config);
        break;
    case SP_REC_READY:
        record->u.ready.landlock_abi = get32(&r, 1024);
        record->u.ready.facts = get32(&r, SP_FACT_ALL);
        break;
    case SP_REC_EXEC:
    case SP_REC_SPAWN:
        get_exec(&r, &record->u.exec);
        break;
    case SP_REC_ACK:
    case SP_REC_ADOPT:
    case SP_REC_KILL:
        record->u.id.id = get32(&r, UINT32_MAX);
        break;
    case SP_REC_SIGNAL:
        get_signal(&r, &record->u.signal);
        break;
    case SP_REC_EXITED:
        get_exited(&r, &record->u.exited);
        break;
    case SP_REC_FAILED:
        get_failed(&r, &record->u.failed);
        break;
    case SP_REC_FILE:
        get_file(&r, &record->u.file);
        break;
    case SP_REC_FILED:
        get_filed(&r, &record->u.filed);
        break;
    case SP_REC_CREATED:
        get_created(&r, &record->u.created);
        break;
    case SP_REC_BIND:
        get_bind(&r, &record->u.bind);
        break;
    case SP_REC_ATTACH:
        get_attach(&r, &record->u.attach);
        break;
    case SP_REC_HELLO:
    case SP_REC_NAMESPACES:
    case SP_REC_CREATE:
    case SP_REC_SERVE:
    case SP_REC_STARTED:
    case SP_REC_TYPE_END:
        break;
    }
    return r.bad ? -EBADMSG : 0;
}

const char *sp_strings_next(const char **cursor, const char *end) {
    const char *start = *cursor;
    const char *nul = start < end ? memchr(start, '\0', (size_t)(end - start)) : NULL;
    if (nul == NULL) {
        return NULL;
    }
    *cursor = nul + 1;
    return start;
}

int sp_failed(struct sp_rec_failed *why, uint32_t stage, int err, const char *detail) {
    memset(why, 0, sizeof *why);
    why->stage = stage;
    why->err = (uint32_t)err;
    if (detail != NULL) {
        size_t len = strnlen(detail, SP_DETAIL_SIZE - 1);
        memcpy(why->detail, detail, len);
    }
    return -err;
}
