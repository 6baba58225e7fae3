#include "fs/copy.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

enum { CHUNK_BYTES = 256 * 1024 };

int copy_shadow_new(int shadow_fd)
{
	static uint64_t serial; /* names only need to differ until they are unlinked */
	char name[64];
	int fd = openat(shadow_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT)
		return -errno;
	snprintf(name, sizeof(name), "tmp-%d-%llu", (int)getpid(),
		(unsigned long long)__atomic_fetch_add(&serial, 1, __ATOMIC_RELAXED));
	fd = openat(shadow_fd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	unlinkat(shadow_fd, name, 0);
	return fd;
}

static int copy_by_hand(int from, int to, off_t at, off_t end)
{
	auto_free char *chunk = malloc(CHUNK_BYTES);

	if (!chunk)
		return -ENOMEM;
	while (at < end) {
		size_t want = end - at < CHUNK_BYTES ? (size_t)(end - at) : CHUNK_BYTES;
		ssize_t got = pread(from, chunk, want, at);
		ssize_t put = 0;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return 0;
		while (put < got) {
			ssize_t n = pwrite(to, chunk + put, (size_t)(got - put), at + put);

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return -errno;
			put += n;
		}
		at += got;
	}
	return 0;
}

static int copy_extent(int from, int to, off_t at, off_t end)
{
	off_t in = at, out = at;

	while (in < end) {
		ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - in), 0);

		if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP ||
				     errno == ENOSYS || errno == EBADF))
			return copy_by_hand(from, to, in, end);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return copy_by_hand(from, to, in, end);
	}
	return 0;
}

/* No bytes from at to end, without a moment in which the file is shorter. */
static int clear_range(int to, off_t at, off_t end)
{
	static const char zeroes[4096];

	if (at >= end || fallocate(to, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
				 end - at) == 0)
		return 0;
	while (at < end) {
		size_t size = end - at < (off_t)sizeof(zeroes) ? (size_t)(end - at)
							       : sizeof(zeroes);
		ssize_t n = pwrite(to, zeroes, size, at);

		if (n < 0 && errno != EINTR)
			return -errno;
		at += n > 0 ? n : 0;
	}
	return 0;
}

static int copy_extents(int from, int to, off_t size, off_t size_before)
{
	off_t at = 0;

	while (at < size) {
		off_t data = lseek(from, at, SEEK_DATA), hole;
		int r;

		if (data < 0)
			data = errno == ENXIO ? size : at; /* only a hole is left */
		r = clear_range(to, at, data < size_before ? data : size_before);
		if (r < 0 || data >= size)
			return r;
		hole = lseek(from, data, SEEK_HOLE);
		if (hole <= data)
			hole = size;
		r = copy_extent(from, to, data, hole);
		if (r < 0)
			return r;
		at = hole;
	}
	return 0;
}

int copy_content(int from, int to)
{
	struct stat st, before;

	if (fstat(from, &st) < 0 || fstat(to, &before) < 0)
		return -errno;
	if (ioctl(to, FICLONE, from) < 0) {
		int r = copy_extents(from, to, st.st_size, before.st_size);

		if (r < 0)
			return r;
	}
	/* Last: who reads the target meanwhile must not find it empty (S7). A clone does
	 * not make it shorter either. */
	return ftruncate(to, st.st_size) < 0 ? -errno : 0;
}
