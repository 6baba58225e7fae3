/*
 * json_text.h - the words of a JSON text: strings, numbers, true, false, null.
 *
 * Pure, nothing is allocated but in the buffers given.
 */
#ifndef STOMP_POLICY_JSON_TEXT_H
#define STOMP_POLICY_JSON_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* The length of the word that begins at s, of which size (not 0) bytes follow; 0: it is
 * none, and *what says what is wrong. A string is measured with its quotes. */
uint32_t json_string_length(const char *s, uint32_t size, const char **what);
uint32_t json_number_length(const char *s, uint32_t size, const char **what);
uint32_t json_literal_length(const char *s, uint32_t size, const char **what);

/* Of strings that json_string_length() has measured: by what they say, whichever way it
 * is escaped. */
int json_string_compare(const char *a, uint32_t a_size, const char *b, uint32_t b_size);

/* Equal strings have equal hashes. scratch is overwritten; -ENOMEM. */
must_check int json_string_hash(
	const char *s, uint32_t size, struct buf *scratch, uint64_t *hash);

#endif
