/*
 * sparse.c - files as runs of data: what is a hole is neither read nor written.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "journal/store.h"

enum { COPY_CHUNK = 128 * 1024, COPY_MAX = 1 << 30 };

void sparse_next_data(int fd, off_t at, off_t end, off_t *from, off_t *to)
{
	off_t data = lseek(fd, at, SEEK_DATA);
	off_t hole;

	if (data < 0)
		data = errno == ENXIO ? end : at; /* no holes here: all of it is data */
	*from = data < end ? data : end;
	hole = *from < end ? lseek(fd, *from, SEEK_HOLE) : end;
	*to = hole < 0 || hole > end ? end : hole;
}

bool sparse_has_holes(int fd, uint64_t size)
{
	off_t hole = lseek(fd, 0, SEEK_HOLE);

	return hole >= 0 && (uint64_t)hole < size;
}

int write_all(int fd, const void *data, size_t size)
{
	const char *at = data;

	while (size > 0) {
		ssize_t n = write(fd, at, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		size -= (size_t)n;
	}
	return 0;
}

int read_all_at(int fd, void *data, size_t size, uint64_t at)
{
	char *to = data;

	while (size > 0) {
		ssize_t n = pread(fd, to, size, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		to += n;
		at += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static int copy_by_hand(int in, int out, off_t from, off_t to)
{
	auto_free char *chunk = malloc(COPY_CHUNK);

	if (!chunk)
		return -ENOMEM;
	if (lseek(out, from, SEEK_SET) < 0)
		return -errno;
	while (from < to) {
		size_t n = to - from < COPY_CHUNK ? (size_t)(to - from) : COPY_CHUNK;
		int r = read_all_at(in, chunk, n, (uint64_t)from);

		if (!r)
			r = write_all(out, chunk, n);
		if (r)
			return r;
		from += (off_t)n;
	}
	return 0;
}

static int copy_run(int in, int out, off_t from, off_t to)
{
	off_t source = from, target = from;

	while (source < to) {
		size_t want = to - source < COPY_MAX ? (size_t)(to - source) : COPY_MAX;
		ssize_t n = copy_file_range(in, &source, out, &target, want, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == ENOSPC || errno == EIO || errno == EDQUOT))
			return -errno;
		if (n <= 0) /* not between these file systems, or not here */
			return copy_by_hand(in, out, source, to);
	}
	return 0;
}

int sparse_copy(int in, int out)
{
	struct stat st;
	off_t at = 0, from, to;
	int r = 0;

	if (ioctl(out, FICLONE, in) == 0)
		return 0;
	if (fstat(in, &st) < 0)
		return -errno;
	while (at < st.st_size && !r) {
		sparse_next_data(in, at, st.st_size, &from, &to);
		if (from < to)
			r = copy_run(in, out, from, to);
		at = to > from ? to : st.st_size;
	}
	if (!r && ftruncate(out, st.st_size) < 0)
		r = -errno;
	return r;
}

static int equal_run(int a, int b, off_t from, off_t to)
{
	auto_free char *chunk = malloc(2 * (size_t)COPY_CHUNK);

	if (!chunk)
		return -ENOMEM;
	while (from < to) {
		size_t n = to - from < COPY_CHUNK ? (size_t)(to - from) : COPY_CHUNK;
		int r = read_all_at(a, chunk, n, (uint64_t)from);

		if (!r)
			r = read_all_at(b, chunk + COPY_CHUNK, n, (uint64_t)from);
		if (r)
			return r;
		if (memcmp(chunk, chunk + COPY_CHUNK, n) != 0)
			return 0;
		from += (off_t)n;
	}
	return 1;
}

int sparse_equal(int a, int b, uint64_t size)
{
	off_t at = 0, end = (off_t)size, from_a, to_a, from_b, to_b;
	struct stat sa, sb;
	int r = 1;

	if (fstat(a, &sa) < 0 || fstat(b, &sb) < 0)
		return -errno;
	if (sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino)
		return 1;
	while (at < end && r == 1) {
		sparse_next_data(a, at, end, &from_a, &to_a);
		sparse_next_data(b, at, end, &from_b, &to_b);
		/* both are holes up to the nearer start of data */
		at = from_a < from_b ? from_a : from_b;
		if (from_a != from_b)
			to_a = at == from_a ? to_a : to_b;
		else
			to_a = to_a > to_b ? to_a : to_b;
		if (at < to_a)
			r = equal_run(a, b, at, to_a);
		at = to_a > at ? to_a : end;
	}
	return r;
}

/* Named for a moment where the file system has no O_TMPFILE. */
static int named_temp_file(int dirfd, int *fd)
{
	char name[64];

	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "tmp-%d-%d-%d", (int)getpid(), (int)gettid(),
			i);
		*fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (*fd >= 0) {
			unlinkat(dirfd, name, 0);
			return 0;
		}
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

int temp_file(int dirfd, int *fd)
{
	*fd = openat(dirfd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	if (*fd >= 0)
		return 0;
	if (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)
		return named_temp_file(dirfd, fd);
	return -errno;
}

int memory_file(uint64_t size, int *fd)
{
	auto_close int file = memfd_create("stomp-content", MFD_CLOEXEC);

	if (file < 0 || ftruncate(file, (off_t)size) < 0)
		return -errno;
	*fd = steal_fd(&file);
	return 0;
}
