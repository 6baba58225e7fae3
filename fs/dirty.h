/*
 * dirty.h - where a file differs from its last version, so that a capture reads and keeps
 * no more than that (V6).
 *
 * Told before each change, since the terms of the old blocks (base/digest.h) are taken
 * away while they can still be read. A few runs are kept to the byte, many as a map of
 * blocks. What cannot be told exactly is "all": then the whole file is captured.
 *
 * Of one file, guarded by its lock. No call fails: what goes wrong makes it "all".
 */
#ifndef STOMP_FS_DIRTY_H
#define STOMP_FS_DIRTY_H

#include <stdbool.h>
#include <stdint.h>

#include "journal/journal.h"

struct dirty {
	bool all;
	int fd;	       /* to read with what is about to change; -1: not needed yet */
	uint64_t size; /* of the last version */
	uint64_t keep; /* from here on nothing is as it was; at most size */
	struct hash128 removed; /* as struct capture_base has it */
	size_t n_extents;
	struct extent *extents; /* sorted and apart; NULL: none */
	uint64_t *blocks; /* a bit per block below size, instead of extents; or NULL */
};

/* Opens the file for reading; called at most once until dirty_end(). */
typedef int dirty_open_fn(void *ctx);

void dirty_init(struct dirty *d); /* all of it */
void dirty_end(struct dirty *d);  /* frees; all of it */

/* The file is now as its last version, which has that size. */
void dirty_begin(struct dirty *d, uint64_t size);

void dirty_all(struct dirty *d);
/* [at, at + len) is about to be written, or to become zeros. */
void dirty_note(
	struct dirty *d, uint64_t at, uint64_t len, dirty_open_fn *open_file, void *ctx);
/* It is about to be cut or made longer. */
void dirty_resize(struct dirty *d, uint64_t size, dirty_open_fn *open_file, void *ctx);

/* How much a capture of the file, which is size long now, has to read about. */
uint64_t dirty_bytes(const struct dirty *d, uint64_t size);

/* What a capture wants to know, but for seq and hash; extents are to be freed by the
 * caller. False: all may differ. */
bool dirty_base(const struct dirty *d, struct capture_base *out, struct extent **extents);

#endif
