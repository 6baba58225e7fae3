/*
 * words.h - small pure readings of words: PATH@N, spans, escapes, the nearest word.
 *
 * No state, no threads. Functions that append to a struct buf leave failure in it.
 */
#ifndef STOMP_CLI_WORDS_H
#define STOMP_CLI_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* PATH@N: the last '@' followed by digits only, with something before it. Returns false
 * where the word names no version; *path_len is then all of it and *number 0. A file
 * whose own name ends in @3 is given as NAME@3@M. */
bool word_version(const char *word, size_t *path_len, uint64_t *number);

/* A span for ctl: digits and one of ms, s, m, min, h, d; bare digits are seconds. Sets
 * *ms; false where it is none, is zero, or is over a year. */
bool word_span_ms(const char *word, int64_t *ms);

/* A moment, in nanoseconds of the wall clock: a span before now ("15m", also "-15m"), a
 * local time of today ("10:32", "10:32:05"), or a date, with or without a time
 * ("2026-11-24", "2026-11-24T10:32:05"). False where it is none. */
bool word_moment_ns(const char *word, int64_t now_ns, int64_t *ns);

/* A time as the daemon writes it (ISO 8601 in UTC, with or without a fraction), in
 * milliseconds since 1970; -1: it is none. */
int64_t word_time_ms(const char *iso);

/* A whole number of at least 1. */
bool word_count(const char *word, uint64_t *count);

/* One word of a ctl line: blanks, backslashes and what is not printable ASCII become
 * three octal digits. */
void word_escape(struct buf *out, const char *word, size_t size);

/* What was escaped so; the caller's to free. NULL: no memory. */
char *word_unescape(const char *word);

/* Edits between two words: insert, drop, replace, swap of neighbours. Words longer than
 * 63 bytes are compared by their first 63. */
unsigned word_distance(const char *a, const char *b);

/* The word of the list (ends with NULL) that word most likely meant, or NULL where none
 * is near. */
const char *word_nearest(const char *word, const char *const *list);

/* One word for a shell: as it is where that is safe, else in single quotes. */
void word_quote(struct buf *out, const char *word);

#endif
