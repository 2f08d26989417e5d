/* sources: csrc/common/wire.c */
/*
 * A record of any bytes and any length. If it is accepted, packing and unpacking it gives the same record, and each
 * field that the host uses is in its range.
 */
#include "common/wire.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "common/stage.h"
#include "fuzz.h"

static void check_fields(const struct sp_record *record) {
    const struct sp_rec_config *c = &record->u.config;
    const struct sp_rec_exec *e = &record->u.exec;
    int status = (int)record->u.exited.status;

    switch (record->type) {
    case SP_REC_CONFIG:
        MUST(c->payload_len <= SP_PAYLOAD_MAX && (c->flags & ~SP_CONFIG_FLAGS) == 0 && c->n_binds <= 4096);
        MUST(8ull * (c->template_filter_len + c->init_filter_len + c->exec_filter_len) <= c->payload_len);
        break;
    case SP_REC_EXEC:
        MUST(e->argc != 0 && e->payload_len <= SP_PAYLOAD_MAX && (uint64_t)e->argc + e->envc < e->payload_len);
        MUST(e->rows <= UINT16_MAX && e->cols <= UINT16_MAX);
        break;
    case SP_REC_EXITED:
        MUST(WIFEXITED(status) != WIFSIGNALED(status) && !WIFSTOPPED(status));
        MUST(!WIFSIGNALED(status) || (WTERMSIG(status) >= 1 && WTERMSIG(status) <= 64));
        MUST(record->u.exited.user_us <= INT64_MAX && record->u.exited.max_rss_bytes <= INT64_MAX);
        break;
    case SP_REC_FAILED:
        MUST(record->u.failed.stage > SP_STAGE_NONE && record->u.failed.stage < SP_STAGE_COUNT);
        MUST(record->u.failed.err <= 4095 && memchr(record->u.failed.detail, 0, SP_DETAIL_SIZE) != NULL);
        break;
    case SP_REC_FILE:
        MUST(record->u.file.op > 0 && record->u.file.op < SP_FILE_OP_END && record->u.file.mode <= 0777);
        MUST(record->u.file.payload_len >= 2 && record->u.file.payload_len <= SP_FILE_PAYLOAD_MAX);
        break;
    case SP_REC_FILED:
        MUST(record->u.filed.err <= 4095 && record->u.filed.payload_len <= SP_FILE_PATH_MAX);
        MUST(record->u.filed.size <= INT64_MAX && record->u.filed.modified_ns <= INT64_MAX);
        break;
    default:
        MUST(record->type > 0 && record->type < SP_REC_TYPE_END);
        break;
    }
}

static void check_strings(const char *bytes, size_t len) {
    const char *cursor = bytes;
    const char *end = bytes + len;
    const char *last = bytes;

    for (const char *text; (text = sp_strings_next(&cursor, end)) != NULL; last = cursor) {
        MUST(text == last && cursor == text + strlen(text) + 1 && cursor <= end);
    }
    MUST(cursor == last && memchr(cursor, 0, (size_t)(end - cursor)) == NULL);
}

static void check_record(const uint8_t *bytes, size_t len) {
    uint8_t once[SP_RECORD_SIZE];
    uint8_t twice[SP_RECORD_SIZE];
    struct sp_record first;
    struct sp_record second;
    int rc = sp_wire_unpack(bytes, len, &first);

    MUST(rc == -EBADMSG || (rc == 0 && len == SP_RECORD_SIZE));
    if (rc == 0) {
        check_fields(&first);
        sp_wire_pack(&first, once);
        MUST(sp_wire_unpack(once, sizeof once, &second) == 0);
        sp_wire_pack(&second, twice);
        MUST(memcmp(once, twice, sizeof once) == 0);
    }
}

/* The first byte decides whether the rest is the whole record, or follows a valid header. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t how = size != 0 ? data[0] : 0;
    const size_t header = how < 128 ? 8 : 0;
    size_t len = size != 0 ? size - 1 + header : 0;
    uint8_t head[SP_RECORD_SIZE];

    len = header != 0 && (how & 16) != 0 ? SP_RECORD_SIZE : len;
    if (len == 0) {
        return 0;
    }
    uint8_t *bytes = calloc(1, len); /* of the exact size, so that AddressSanitizer sees a read beyond it */
    MUST(bytes != NULL);
    if (header != 0) {
        const unsigned type = (how & 15u) | (how & 32u) >> 1;

        sp_wire_pack(&(struct sp_record){.type = (enum sp_record_type)type}, head); /* NOLINT: of any type */
        memcpy(bytes, head, header);
    }
    memcpy(bytes + header, data + 1, size - 1 < len - header ? size - 1 : len - header);
    check_strings((const char *)bytes, len);
    check_record(bytes, len);
    free(bytes);
    return 0;
}
