/*
 * rules_words.h - words of a line of the policy, and what is said about wrong ones.
 *
 * For the parsers of rules and of directives; nobody else includes it. Pure. What says
 * that something is wrong writes one line, "line N: …", to the place's error and returns
 * -EINVAL.
 */
#ifndef STOMP_POLICY_RULES_WORDS_H
#define STOMP_POLICY_RULES_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"

#define NS_PER_MIN (60 * NS_PER_S)
#define NS_PER_H (60 * NS_PER_MIN)

struct place {
	uint32_t number; /* of the line */
	bool builtin;
	struct buf *error; /* may be NULL */
};

struct word {
	const char *s;
	size_t size;
};

/* The word w, wrong: LEAD"w"REST. */
int rules_say_wrong(
	const struct place *at, const char *lead, struct word w, const char *rest);

/* unknown WHAT "w", with the nearest of names where one is near, else all of them. */
int rules_say_unknown(const struct place *at, const char *what, struct word w,
	const char *const *names, size_t n_names);

bool rules_word_is(struct word w, const char *s);
int rules_word_find(struct word w, const char *const *names, size_t n_names); /* or -1 */

/* The name that w most likely meant, or NULL where none is near. */
const char *rules_word_nearest(struct word w, const char *const *names, size_t n_names);

/* [A-Za-z0-9._-]{1,64}, no '.' first. */
bool rules_word_is_name(struct word w);

size_t rules_skip_blanks(const char *s, size_t size, size_t i);
size_t rules_skip_word(const char *s, size_t size, size_t i);

/* "…" with C escapes at s, into out, which has room for size bytes; *used includes both
 * quotes. what ("pattern", "value") is for the message. */
must_check int rules_word_unquote(const struct place *at, const char *what, const char *s,
	size_t size, char *out, size_t *out_size, size_t *used);

struct rules_span {
	int64_t min_ns, max_ns;
	const char *bounds; /* the same in words: "ttl is 10ms to 24h" */
};

/* "30s", "250ms", "0". */
must_check int rules_word_span(
	const struct place *at, const struct rules_span *span, struct word w, int64_t *ns);

#endif
