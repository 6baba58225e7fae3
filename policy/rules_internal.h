/*
 * rules_internal.h - what rules.c and rules_parse.c share; nobody else includes it.
 */
#ifndef STOMP_POLICY_RULES_INTERNAL_H
#define STOMP_POLICY_RULES_INTERNAL_H

#include "policy/pattern.h"
#include "policy/rules.h"

enum rule_key {
	KEY_MODE,
	KEY_STRATEGY,
	KEY_TTL,
	KEY_WAIT,
	KEY_LINGER,
	KEY_SETTLE,
	KEY_CHECKPOINT,
	KEY_DURABILITY,
	KEY_KEEP,
	N_RULE_KEYS,
};

const char *rule_key_name(enum rule_key key);

#define RULES_MAX_BYTES (1u << 20)
#define RULES_MAX_LINES 10000u
#define RULES_NO_LINE UINT32_MAX

struct rule_line {
	struct pattern pattern;
	char *pattern_text;		  /* unquoted; owned */
	struct pattern_segment *segments; /* owned */
	char *driver;			  /* owned, or NULL */
	const char *text;		  /* the line as written; within rules.text */
	uint32_t text_size;
	uint32_t number; /* in its own text, from 1 */
	bool builtin;
	uint32_t keys; /* 1 << enum rule_key, those this line sets */
	struct rule values;
	uint32_t next; /* the next line in the same slot of the index */
};

/* A pattern that has a literal name holds only for paths with that name in them, and
 * one that ends in *.EXT only for last names with that extension. The index leads from
 * such a word to the few lines that can hold; the lines without one are always tried. */
struct rules_index {
	uint32_t *slots; /* first line, or RULES_NO_LINE */
	uint64_t mask;	 /* number of slots, a power of two, less one */
	uint32_t always; /* first line that has no word */
};

struct rules {
	struct directives *directives; /* NULL: the file has none */
	char *text;		       /* the policy file's */
	size_t text_size;
	struct rule_line *lines; /* the built-in ones, then the file's */
	uint32_t n_lines, cap_lines;
	struct rules_index index;
};

/* Hashes of the two kinds of word. */
uint64_t rules_word_hash(const char *name, size_t size, bool is_extension);

/* Appends the lines of text to r; the text must live as long as r. */
must_check int rules_parse_text(
	struct rules *r, const char *text, size_t size, bool builtin, struct buf *error);

/* Each line's driver must be there; -EINVAL with a message, as rules_parse(). */
must_check int rules_check_drivers(const struct rules *r, struct buf *error);

#endif
