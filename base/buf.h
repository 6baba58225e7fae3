/*
 * buf.h - a growing byte buffer that remembers failure.
 *
 * Not thread-safe. After an allocation fails, further appends do nothing and
 * buf_failed() is true: check once, at the end. data is always NUL-terminated (after
 * the len bytes) unless it is NULL.
 */
#ifndef STOMP_BASE_BUF_H
#define STOMP_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct buf {
	char *data;
	size_t len, cap;
	bool failed;
};

#define auto_buf __attribute__((cleanup(buf_done))) struct buf

void buf_done(struct buf *b);
void buf_reset(struct buf *b); /* len = 0, memory kept, failure kept */
bool buf_failed(const struct buf *b);

void buf_append(struct buf *b, const void *data, size_t size);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) printf_like(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) printf_like(2, 0);

/* A name for a person: printable UTF-8 as it is, everything else as \n, \t or \xNN. */
void buf_put_name(struct buf *b, const char *name, size_t size);

/* A quoted JSON string; bytes that are not UTF-8 become the two characters-escaped
 * form \\xNN, so that the text stays valid JSON and the name can still be told. */
void buf_put_json(struct buf *b, const char *s, size_t size);
void buf_put_json_str(struct buf *b, const char *s); /* NULL becomes null */

/* Local time, "2026-11-24 10:32:05"; and ISO 8601 in UTC with milliseconds. */
void buf_put_time(struct buf *b, int64_t wall_ns);
void buf_put_iso_time(struct buf *b, int64_t wall_ns);

/* "14 s", "3 min", "2 h", "5 d": how long a span is, for a person. */
void buf_put_span(struct buf *b, int64_t span_ns);

/* Hand the bytes to the caller (free()); the buffer is empty afterwards. */
char *buf_take(struct buf *b, size_t *size);

#endif
