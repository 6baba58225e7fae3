#include "base/hash.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

enum { READ_CHUNK_BYTES = 256 * 1024 };

static struct hash128 from_xxh(XXH128_hash_t h)
{
	return (struct hash128){.hi = h.high64, .lo = h.low64};
}

struct hash128 hash128_bytes(const void *data, size_t size)
{
	return from_xxh(XXH3_128bits(data, size));
}

static int hash_hole(XXH3_state_t *state, char *chunk, off_t length)
{
	memset(chunk, 0, READ_CHUNK_BYTES);
	while (length > 0) {
		size_t n = length < READ_CHUNK_BYTES ? (size_t)length : READ_CHUNK_BYTES;

		XXH3_128bits_update(state, chunk, n);
		length -= (off_t)n;
	}
	return 0;
}

/* Hash [at, end); a file that shrinks meanwhile ends the loop early. */
static int hash_data(XXH3_state_t *state, char *chunk, int fd, off_t *at, off_t end)
{
	while (*at < end) {
		size_t want = end - *at < READ_CHUNK_BYTES ? (size_t)(end - *at)
							   : READ_CHUNK_BYTES;
		ssize_t n = pread(fd, chunk, want, *at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 1;
		XXH3_128bits_update(state, chunk, (size_t)n);
		*at += n;
	}
	return 0;
}

static int hash_extents(XXH3_state_t *state, char *chunk, int fd, off_t end, off_t *at)
{
	while (*at < end) {
		off_t data = lseek(fd, *at, SEEK_DATA);
		off_t hole;
		int r;

		if (data < 0 && errno == ENXIO)
			data = end;
		else if (data < 0)
			data = *at; /* no SEEK_DATA here: all of it is data */
		if (data > end)
			data = end;
		hash_hole(state, chunk, data - *at);
		*at = data;
		hole = data < end ? lseek(fd, data, SEEK_HOLE) : end;
		if (hole < 0 || hole > end)
			hole = end;
		r = hash_data(state, chunk, fd, at, hole);
		if (r)
			return r < 0 ? r : 0;
	}
	return 0;
}

int hash128_fd(int fd, struct hash128 *hash, uint64_t *size)
{
	auto_free char *chunk = malloc(READ_CHUNK_BYTES);
	XXH3_state_t *state = XXH3_createState();
	off_t saved = lseek(fd, 0, SEEK_CUR);
	off_t end = lseek(fd, 0, SEEK_END);
	off_t at = 0;
	int r;

	if (!chunk || !state)
		r = -ENOMEM;
	else if (end < 0)
		r = -errno;
	else {
		XXH3_128bits_reset(state);
		r = hash_extents(state, chunk, fd, end, &at);
	}
	if (saved >= 0)
		lseek(fd, saved, SEEK_SET);
	if (r == 0) {
		*hash = from_xxh(XXH3_128bits_digest(state));
		*size = (uint64_t)at;
	}
	XXH3_freeState(state);
	return r;
}

void hash128_hex(struct hash128 h, char text[33])
{
	snprintf(text, 33, "%016llx%016llx", (unsigned long long)h.hi,
		(unsigned long long)h.lo);
}

int hash128_parse(const char *text, struct hash128 *h)
{
	unsigned long long hi, lo;
	int end = 0;

	if (strlen(text) != 32 || sscanf(text, "%16llx%16llx%n", &hi, &lo, &end) != 2 ||
		end != 32)
		return -EINVAL;
	*h = (struct hash128){.hi = hi, .lo = lo};
	return 0;
}
