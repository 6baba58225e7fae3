/*
 * claims.h - leases asked for ahead: on files, folders and globs (L9).
 *
 * Thread-safe (one lock of its own; a lookup with no claims at all is one atomic read).
 * A claim keeps others from taking the lease of any file its pattern matches, until its
 * time is over; it lapses like a lease and is usable by its holder until another takes
 * it. -ENOMEM, and the answers named below.
 */
#ifndef STOMP_POLICY_CLAIMS_H
#define STOMP_POLICY_CLAIMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct claims;
struct writer;

struct claim {
	const char *pattern; /* gitignore syntax, or a plain path */
	struct writer *holder;
	uint64_t epoch;
	int64_t expires_ns;
	const char *reason; /* may be NULL */
};

must_check int claims_new(struct claims **out);
struct claims *claims_free(struct claims *c);

/* Who keeps w from changing path now: the holder of a live claim of another, or NULL. */
struct writer *claims_blocker(struct claims *c, const char *path, size_t len,
	const struct writer *w, int64_t now_ns, int64_t *until_ns);

/* Nobody has asked for anything: an atomic read. */
bool claims_none(const struct claims *c);

/* Does another hold a live claim that pattern covers, or (for a folder) one below it? */
struct writer *claims_covered(
	struct claims *c, const char *pattern, const struct writer *w, int64_t now_ns);

/* Add or renew the holder's claim on that very pattern. */
must_check int claims_set(struct claims *c, const struct claim *claim);

/* Remove the claims with that pattern (holder NULL: whoever holds them); how many. */
int claims_drop(struct claims *c, const char *pattern, const struct writer *holder);

/* Remove every claim, whoever holds it, that matches path; how many (break). */
int claims_break(struct claims *c, const char *path, size_t len, struct writer **holder);

typedef void claim_fn(const struct claim *claim, void *ctx);
void claims_each(struct claims *c, claim_fn *fn, void *ctx);

/* True when pattern has glob characters or names a folder with a trailing slash. */
bool claim_is_pattern(const char *pattern);

/* Does a claim on pattern cover path? A plain path covers the file, and everything below
 * it if it is a folder. */
bool claim_covers(const char *pattern, const char *path, size_t len);

#endif
