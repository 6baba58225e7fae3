/*
 * hash.h - XXH3-128, the identity of content (V5).
 *
 * Pure but for hash128_fd(), which reads. Equal hashes are not yet equal bytes where
 * one would stand for somebody else's: compare there.
 */
#ifndef STOMP_BASE_HASH_H
#define STOMP_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct hash128 {
	uint64_t hi, lo;
};

static inline bool hash128_equal(struct hash128 a, struct hash128 b)
{
	return a.hi == b.hi && a.lo == b.lo;
}

struct hash128 hash128_bytes(const void *data, size_t size);

/* The whole file behind fd, from offset 0, with pread; the file offset stays. Holes are
 * hashed as zeros without being read. -errno of the read. */
must_check int hash128_fd(int fd, struct hash128 *hash, uint64_t *size);

void hash128_hex(struct hash128 h, char text[33]);
must_check int hash128_parse(const char *text, struct hash128 *h); /* -EINVAL */

#endif
