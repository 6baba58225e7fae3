#include "base/digest.h"

#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

enum { CHUNK_BLOCKS = 64 };

static bool is_zeros(const char *data, size_t size)
{
	return data[0] == 0 && memcmp(data, data + 1, size - 1) == 0;
}

struct hash128 digest_of_size(uint64_t size)
{
	XXH128_hash_t h = XXH3_128bits_withSeed(&size, sizeof(size), UINT64_MAX);

	return (struct hash128){.hi = h.high64, .lo = h.low64};
}

struct hash128 digest_block(uint64_t index, const void *data, size_t size)
{
	char filled[DIGEST_BLOCK_BYTES];
	XXH128_hash_t h;

	assert(size <= DIGEST_BLOCK_BYTES);
	if (size == 0 || is_zeros(data, size))
		return (struct hash128){0};
	if (size < DIGEST_BLOCK_BYTES) {
		memcpy(filled, data, size);
		memset(filled + size, 0, DIGEST_BLOCK_BYTES - size);
		data = filled;
	}
	h = XXH3_128bits_withSeed(data, DIGEST_BLOCK_BYTES, index);
	return (struct hash128){.hi = h.high64, .lo = h.low64};
}

static struct hash128 sum_of(uint64_t index, const char *data, size_t size)
{
	struct hash128 sum = {0};

	for (size_t at = 0; at < size; at += DIGEST_BLOCK_BYTES, index++) {
		size_t n = size - at;

		n = n < DIGEST_BLOCK_BYTES ? n : DIGEST_BLOCK_BYTES;
		sum = digest_add(sum, digest_block(index, data + at, n));
	}
	return sum;
}

struct hash128 digest_bytes(const void *data, size_t size)
{
	if (size <= DIGEST_FLAT_MAX)
		return hash128_bytes(data, size);
	return digest_add(digest_of_size(size), sum_of(0, data, size));
}

/* As many bytes as are there, up to size. */
static ssize_t read_chunk(int fd, char *data, size_t size, uint64_t at)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pread(fd, data + done, size - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* [at, end) begins at a block; a file that shrinks meanwhile is zeros from there on. */
static int sum_data(int fd, char *chunk, uint64_t at, uint64_t end, struct hash128 *sum)
{
	const uint64_t chunk_bytes = (uint64_t)CHUNK_BLOCKS * DIGEST_BLOCK_BYTES;

	while (at < end) {
		size_t want = (size_t)(end - at < chunk_bytes ? end - at : chunk_bytes);
		ssize_t n = read_chunk(fd, chunk, want, at);

		if (n < 0)
			return (int)n;
		*sum = digest_add(*sum, sum_of(at / DIGEST_BLOCK_BYTES, chunk, (size_t)n));
		if ((size_t)n < want)
			return 0;
		at += want;
	}
	return 0;
}

/* Where data begins at or after at, as a block; end where there is none. */
static uint64_t next_data(int fd, uint64_t at, uint64_t end)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);

	if (data < 0)
		return errno == ENXIO ? end : at; /* no holes known here: all is data */
	return (uint64_t)data / DIGEST_BLOCK_BYTES * DIGEST_BLOCK_BYTES;
}

static uint64_t next_hole(int fd, uint64_t at, uint64_t end)
{
	off_t hole = lseek(fd, (off_t)at, SEEK_HOLE);
	uint64_t block;

	if (hole < 0 || (uint64_t)hole >= end)
		return end;
	block = ((uint64_t)hole + DIGEST_BLOCK_BYTES - 1) / DIGEST_BLOCK_BYTES;
	return block * DIGEST_BLOCK_BYTES < end ? block * DIGEST_BLOCK_BYTES : end;
}

int digest_blocks(int fd, uint64_t first, uint64_t end, uint64_t size, struct hash128 *sum)
{
	enum { FEW_BLOCKS = 16 };
	bool few = end - first <= FEW_BLOCKS;
	size_t chunk_bytes =
		(size_t)(few ? end - first : CHUNK_BLOCKS) * DIGEST_BLOCK_BYTES;
	auto_free char *chunk = malloc(chunk_bytes + 1);
	uint64_t at = first * DIGEST_BLOCK_BYTES, stop = end * DIGEST_BLOCK_BYTES;

	if (!chunk)
		return -ENOMEM;
	stop = stop < size ? stop : size;
	while (at < stop) {
		/* A few blocks are read faster than it is asked whether they are holes. */
		uint64_t data = few ? at : next_data(fd, at, stop);
		uint64_t hole = few ? stop : data < stop ? next_hole(fd, data, stop) : stop;
		int r = data < stop ? sum_data(fd, chunk, data, hole, sum) : 0;

		if (r < 0)
			return r;
		at = hole;
	}
	return 0;
}

static int digest_large(int fd, struct hash128 *digest, uint64_t *size)
{
	off_t saved = lseek(fd, 0, SEEK_CUR);
	off_t end = lseek(fd, 0, SEEK_END);
	struct hash128 sum;
	uint64_t blocks;
	int r = end < 0 ? -errno : 0;

	if (r == 0 && end <= DIGEST_FLAT_MAX) {
		r = hash128_fd(fd, digest, size);
	} else if (r == 0) {
		sum = digest_of_size((uint64_t)end);
		blocks = ((uint64_t)end + DIGEST_BLOCK_BYTES - 1) / DIGEST_BLOCK_BYTES;
		r = digest_blocks(fd, 0, blocks, (uint64_t)end, &sum);
		if (r == 0) {
			*digest = sum;
			*size = (uint64_t)end;
		}
	}
	if (saved >= 0)
		lseek(fd, saved, SEEK_SET);
	return r;
}

/* Faster read than asked where its holes are. */
static int digest_flat(int fd, size_t end, struct hash128 *digest, uint64_t *size)
{
	auto_free char *data = malloc(end + 1);
	ssize_t n = data ? read_chunk(fd, data, end, 0) : -ENOMEM;

	if (n < 0)
		return (int)n;
	*digest = hash128_bytes(data, (size_t)n);
	*size = (uint64_t)n;
	return 0;
}

int digest_fd(int fd, struct hash128 *digest, uint64_t *size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISREG(st.st_mode) && st.st_size <= DIGEST_FLAT_MAX)
		return digest_flat(fd, (size_t)st.st_size, digest, size);
	return digest_large(fd, digest, size);
}
