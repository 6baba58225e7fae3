/*
 * digest.h - the identity of a content, which can follow its changes (V5, V6).
 *
 * Up to DIGEST_FLAT_MAX bytes it is XXH3-128 of the bytes. Above, it is the sum, modulo
 * 2^128, of one term for each block of DIGEST_BLOCK_BYTES (XXH3-128 of the block, filled
 * up with zeros, seeded with its place; nothing for a block of zeros) and one for the
 * size. So a changed block costs that block: take its old term away, add the new one; and
 * holes cost nothing. Pure but for what takes an fd, which reads with pread and lseek.
 */
#ifndef STOMP_BASE_DIGEST_H
#define STOMP_BASE_DIGEST_H

#include "base/hash.h"

enum { DIGEST_BLOCK_BYTES = 4096, DIGEST_FLAT_MAX = 64 * 1024 };

struct hash128 digest_bytes(const void *data, size_t size);

/* The whole file behind fd; its offset stays. -errno of the read. */
must_check int digest_fd(int fd, struct hash128 *digest, uint64_t *size);

/* ---- its parts, above DIGEST_FLAT_MAX ---- */

static inline struct hash128 digest_add(struct hash128 a, struct hash128 b)
{
	struct hash128 sum = {.lo = a.lo + b.lo};

	sum.hi = a.hi + b.hi + (sum.lo < a.lo);
	return sum;
}

static inline struct hash128 digest_sub(struct hash128 a, struct hash128 b)
{
	return (struct hash128){.hi = a.hi - b.hi - (a.lo < b.lo), .lo = a.lo - b.lo};
}

struct hash128 digest_of_size(uint64_t size);

/* The term of one block; size of its bytes are given, the rest is zeros. */
struct hash128 digest_block(uint64_t index, const void *data, size_t size);

/* Add the terms of the blocks [first, end) of a file whose content ends at size, whatever
 * lies there after it. */
must_check int digest_blocks(
	int fd, uint64_t first, uint64_t end, uint64_t size, struct hash128 *sum);

#endif
