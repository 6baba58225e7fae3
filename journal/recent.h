/*
 * recent.h - the bytes of the contents that were stored last, so that the next version of a
 * path can be compared with the one before without having that read back.
 *
 * The writer's thread only. What it has is a copy, bounded in bytes: to lose it costs time.
 * A content's id may be given to another one once its row is gone, so what is rolled back
 * or collected must be forgotten.
 */
#ifndef STOMP_JOURNAL_RECENT_H
#define STOMP_JOURNAL_RECENT_H

#include "base/hash.h"

struct recent;

struct recent *recent_new(size_t max_bytes); /* NULL: no memory */
struct recent *recent_free(struct recent *r);

/* The bytes, until the next call that adds or forgets; NULL: not here. */
const char *recent_find(struct recent *r, int64_t id, struct hash128 hash, uint64_t size);

/* A copy of them; those that were wanted least recently go. */
void recent_add(
	struct recent *r, int64_t id, struct hash128 hash, const char *data, uint64_t size);
void recent_forget(struct recent *r, int64_t id);
void recent_forget_all(struct recent *r);

#endif
