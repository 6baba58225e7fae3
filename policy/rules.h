/*
 * rules.h - the policy file: which rule holds for which path (P1–P3).
 *
 * gitattributes syntax: PATTERN key=value …, last match wins per key, gitignore-style
 * patterns. Parsed once into an immutable object that may be shared between threads;
 * looking up a path allocates nothing.
 *
 * Errors of rules_parse() are -EINVAL with a message that names the line and the
 * remedy, or -ENOMEM.
 */
#ifndef STOMP_POLICY_RULES_H
#define STOMP_POLICY_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct rules;

enum rule_mode { MODE_GUARD, MODE_TRACK, MODE_PASS, MODE_APPEND, MODE_FROZEN };
enum rule_strategy {
	STRATEGY_REJECT,
	STRATEGY_MERGE,
	STRATEGY_UNION,
	STRATEGY_JSON,
	STRATEGY_DRIVER,
	STRATEGY_LAST_WRITER,
};

struct rule {
	enum rule_mode mode;
	enum rule_strategy strategy;
	const char *driver; /* STRATEGY_DRIVER: its name; borrowed from the rules */
	int64_t ttl_ns, wait_ns, linger_ns, settle_ns, checkpoint_ns;
};

const char *rule_mode_name(enum rule_mode mode);
const char *rule_strategy_name(enum rule_strategy strategy);

/* What holds with no file at all (P2), in the same syntax, documented line by line. */
const char *rules_builtin_text(void);

/* Parse text on top of the built-in lines. On error *error (may be NULL) gets one line. */
must_check int rules_parse(
	struct rules **out, const char *text, size_t size, struct buf *error);
struct rules *rules_free(struct rules *r);

/* path: relative to the workspace, bytes. */
void rules_lookup(
	const struct rules *r, const char *path, size_t len, bool is_dir, struct rule *out);

/* For `stomp policy check`: each key, its value, and the line that decided. */
void rules_explain(const struct rules *r, const char *path, size_t len, bool is_dir,
	struct buf *out);

/* The text in force: the built-in lines, then the file's. */
void rules_text(const struct rules *r, struct buf *out);

/* One pattern of gitignore syntax against a path; for lease globs. */
bool rules_match(const char *pattern, const char *path, size_t len, bool is_dir);

#endif
