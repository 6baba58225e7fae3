/*
 * rules.h - the policy file: which rule holds for which path (P1–P3).
 *
 * gitattributes syntax: PATTERN key=value …, last match wins per key, gitignore-style
 * patterns. Parsed once into an immutable object that may be shared between threads;
 * looking up a path allocates nothing.
 *
 * Lines that begin with % are directives: they change the writer table and name the merge
 * drivers (directives.h).
 *
 * Errors of rules_parse() are -EINVAL with a message that names the line and the
 * remedy, or -ENOMEM.
 */
#ifndef STOMP_POLICY_RULES_H
#define STOMP_POLICY_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* In the root of a workspace. */
#define RULES_FILE ".stomp-policy"

struct rules;
struct writer_table;

enum rule_mode { MODE_GUARD, MODE_TRACK, MODE_PASS, MODE_APPEND, MODE_FROZEN };
enum rule_strategy {
	STRATEGY_REJECT,
	STRATEGY_MERGE,
	STRATEGY_UNION,
	STRATEGY_JSON,
	STRATEGY_DRIVER,
	STRATEGY_LAST_WRITER,
};

/* What a power cut leaves (V4): what the backing leaves; what fsync(2) answered for; what
 * close(2) answered for. */
enum rule_durability { DURABILITY_PROCESS, DURABILITY_FSYNC, DURABILITY_CLOSE };

/* For how long versions stay (V9); all 0: for ever. journal/gc.h has the meaning. */
struct rule_keep {
	int64_t age_ns;
	uint64_t count, bytes;
	bool every;
};

struct rule {
	enum rule_mode mode;
	enum rule_strategy strategy;
	enum rule_durability durability;
	const char *driver; /* STRATEGY_DRIVER: its name; borrowed from the rules */
	int64_t ttl_ns, wait_ns, linger_ns, settle_ns, checkpoint_ns;
	struct rule_keep keep;
};

/* A %driver line: what strategy=driver:NAME runs. Strings are borrowed from the rules. */
struct driver_entry {
	const char *name, *command;
	int64_t timeout_ns;
};

const char *rule_mode_name(enum rule_mode mode);
const char *rule_strategy_name(enum rule_strategy strategy);
const char *rule_durability_name(enum rule_durability durability);

/* What holds with no file at all (P2), in the same syntax, documented line by line. */
const char *rules_builtin_text(void);

/* Parse text on top of the built-in lines. On error *error (may be NULL) gets one line. */
must_check int rules_parse(
	struct rules **out, const char *text, size_t size, struct buf *error);
struct rules *rules_free(struct rules *r);

/* path: relative to the workspace, bytes. */
void rules_lookup(
	const struct rules *r, const char *path, size_t len, bool is_dir, struct rule *out);

/* The writer table with what the file's directives say; the built-in one where it says
 * nothing. It lives as long as the rules. */
const struct writer_table *rules_writer_table(const struct rules *r);

/* How many readers a file remembers (`%limit observations=`): the oldest is forgotten. */
uint16_t rules_observations(const struct rules *r);

/* NULL: there is none of that name (never so for a driver that a rule names). */
const struct driver_entry *rules_driver(const struct rules *r, const char *name);

/* Does a line of the file itself ask for something better than refusing a stale change:
 * merge, union, json, a driver? */
bool rules_merges(const struct rules *r);

/* Was r parsed from this very text? */
bool rules_is_from(const struct rules *r, const char *text, size_t size);

/* What the file itself has, without the built-in lines. */
void rules_count(const struct rules *r, unsigned *n_rules, unsigned *n_directives);

/* Why a path has the rule it has: one key, its value, and the line that decided. */
struct rule_reason {
	const char *key, *value;
	bool builtin;	  /* the line is one of the built-in ones */
	uint32_t number;  /* of the line, from 1, in the built-in text or in the file */
	const char *line; /* as written; not terminated */
	size_t line_size;
};

/* Each key in turn, for `stomp policy check`. What is passed to fn lives for the call. */
typedef void rule_reason_fn(const struct rule_reason *reason, void *ctx);
void rules_each_reason(const struct rules *r, const char *path, size_t len, bool is_dir,
	rule_reason_fn *fn, void *ctx);

/* The same as text, a line for each key. */
void rules_explain(
	const struct rules *r, const char *path, size_t len, bool is_dir, struct buf *out);

/* The text in force: the built-in lines, then the file's. */
void rules_text(const struct rules *r, struct buf *out);

/* The file's part of such a text, so that its lines can be counted as in the file; the
 * whole text where it is none. */
void rules_text_file(const char *text, size_t size, const char **file, size_t *file_size);

/* One pattern of gitignore syntax against a path; for lease globs. */
bool rules_match(const char *pattern, const char *path, size_t len, bool is_dir);

#endif
