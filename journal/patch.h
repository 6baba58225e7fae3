/*
 * patch.h - what a content has that an earlier one has not, while it is on its way.
 *
 * Plain data of one owner. The bytes themselves are the capture's.
 */
#ifndef STOMP_JOURNAL_PATCH_H
#define STOMP_JOURNAL_PATCH_H

#include "base/buf.h"
#include "base/cleanup.h"
#include "journal/journal.h"

/* The content is its base cut at keep, made as long as it is, and the ranges written over
 * that; their bytes follow each other in the capture's. */
struct patch {
	uint64_t base_seq, base_size;
	uint64_t keep;
	uint64_t bytes; /* the sum of the ranges */
	size_t n_ranges;
	struct extent ranges[];
};

struct patch *patch_new(size_t n_ranges); /* NULL: no memory */

/* Nothing but bytes after the end of its base; the row needs no ranges then. */
bool patch_appends(const struct patch *p, uint64_t size);

/* As a row has them: keep, then gap and length of each range, in sevens of bits. */
must_check int patch_encode(const struct patch *p, struct buf *out);
must_check int patch_decode(const void *data, size_t size, struct patch **out); /* -EIO */

#endif
