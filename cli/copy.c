#include "cli/copy.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define COPY_CHUNK ((size_t)1 << 20)

struct copying {
	int from, to;
	off_t size;	/* of the source */
	off_t base;	/* where its beginning goes */
	off_t old_size; /* of the target: what is behind it reads as zeros */
	off_t end;	/* of the target, as far as it was written */
	char *chunk;
	bool *read_failed;
};

/* The next data at or behind at: [*data, *hole); at the end both are the size. */
static void next_data(int fd, off_t at, off_t size, off_t *data, off_t *hole)
{
	off_t found = lseek(fd, at, SEEK_DATA);

	if (found < 0)
		found = errno == ENXIO ? size : at; /* cannot tell: all of it is data */
	*data = found < size ? found : size;
	found = *data < size ? lseek(fd, *data, SEEK_HOLE) : size;
	*hole = found <= *data || found > size ? size : found;
}

static int write_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			data += n;
			size -= (size_t)n;
		}
	}
	return 0;
}

/* Through what has no places: a pipe, an end that others append to. */
static int copy_stream(struct copying *c)
{
	ssize_t n;

	while ((n = read(c->from, c->chunk, COPY_CHUNK)) != 0) {
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		r = write_all(c->to, c->chunk, (size_t)n);
		if (r < 0) {
			*c->read_failed = false;
			return r;
		}
	}
	return 0;
}

/* The chunk, to where that place of the source goes. */
static int put_chunk(struct copying *c, off_t at, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pwrite(
			c->to, c->chunk + done, size - done, c->base + at + (off_t)done);

		if (n < 0 && errno != EINTR) {
			*c->read_failed = false;
			return -errno;
		}
		done += n > 0 ? (size_t)n : 0;
	}
	if (c->base + at + (off_t)size > c->end)
		c->end = c->base + at + (off_t)size;
	return 0;
}

static int copy_run(struct copying *c, off_t at, off_t end)
{
	while (at < end) {
		size_t want =
			end - at < (off_t)COPY_CHUNK ? (size_t)(end - at) : COPY_CHUNK;
		ssize_t n = pread(c->from, c->chunk, want, at);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO; /* it is shorter than it was */
		r = put_chunk(c, at, (size_t)n);
		if (r < 0)
			return r;
		at += n;
	}
	return 0;
}

/* A hole of the source: zeros over what the target had there. */
static int copy_hole(struct copying *c, off_t at, off_t end)
{
	if (end > c->old_size - c->base)
		end = c->old_size - c->base;
	if (at < end)
		memset(c->chunk, 0, COPY_CHUNK);
	while (at < end) {
		size_t size =
			end - at < (off_t)COPY_CHUNK ? (size_t)(end - at) : COPY_CHUNK;
		int r = put_chunk(c, at, size);

		if (r < 0)
			return r;
		at += (off_t)size;
	}
	return 0;
}

static int copy_runs(struct copying *c)
{
	off_t at = 0, data, hole;
	int r = 0;

	while (r == 0 && at < c->size) {
		next_data(c->from, at, c->size, &data, &hole);
		r = copy_hole(c, at, data);
		if (r == 0)
			r = copy_run(c, data, hole);
		at = hole;
	}
	if (r < 0)
		return r;
	if (c->base + c->size > c->end && ftruncate(c->to, c->base + c->size) < 0) {
		*c->read_failed = false;
		return -errno;
	}
	/* Were it longer by now, the stream has the rest. */
	if (lseek(c->from, c->size, SEEK_SET) < 0)
		return -errno;
	return lseek(c->to, c->base + c->size, SEEK_SET) < 0 ? -errno : 0;
}

/* Do both ends have places, of which one may be left out? */
static bool find_places(struct copying *c)
{
	int flags = fcntl(c->to, F_GETFL);
	struct stat from, to;

	if (flags < 0 || (flags & O_APPEND) || fstat(c->from, &from) < 0 ||
		fstat(c->to, &to) < 0 || !S_ISREG(from.st_mode) || !S_ISREG(to.st_mode))
		return false;
	c->size = from.st_size;
	c->old_size = c->end = to.st_size;
	c->base = lseek(c->to, 0, SEEK_CUR);
	return c->base >= 0;
}

int copy_all(int from, int to, bool *read_failed)
{
	auto_free char *chunk = malloc(COPY_CHUNK);
	struct copying c = {
		.from = from, .to = to, .chunk = chunk, .read_failed = read_failed};
	int r = 0;

	*read_failed = true;
	if (!chunk)
		return -ENOMEM;
	if (find_places(&c))
		r = copy_runs(&c);
	return r < 0 ? r : copy_stream(&c);
}

static bool is_same_run(int a, int b, off_t at, off_t end, char *chunks)
{
	const size_t half = COPY_CHUNK / 2;

	while (at < end) {
		size_t want = end - at < (off_t)half ? (size_t)(end - at) : half;
		ssize_t n = pread(a, chunks, want, at);

		if (n <= 0 || pread(b, chunks + half, (size_t)n, at) != n ||
			memcmp(chunks, chunks + half, (size_t)n) != 0)
			return false;
		at += n;
	}
	return true;
}

bool copy_is_same(int a, int b)
{
	auto_free char *chunks = malloc(COPY_CHUNK);
	off_t at = 0, data[2], hole[2];
	struct stat st;

	if (!chunks || fstat(a, &st) < 0)
		return false;
	while (at < st.st_size) {
		next_data(a, at, st.st_size, &data[0], &hole[0]);
		next_data(b, at, st.st_size, &data[1], &hole[1]);
		/* Both are zeros up to the nearer data; its end bounds what is compared. */
		bool first = data[0] <= data[1];

		at = data[!first];
		if (!is_same_run(a, b, at, hole[!first], chunks))
			return false;
		at = hole[!first];
	}
	return true;
}
