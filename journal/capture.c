/*
 * capture.c - content taken from a file while the gate holds it still: all of it, or what
 * an earlier version does not have.
 */
#include <string.h>
#include <sys/stat.h>

#include "journal/internal.h"
#include "journal/patch.h"

enum {
	/* Below, a patch saves nothing. */
	PATCH_CONTENT_MIN = 256,
	/* A longer run of new bytes is looked at for holes. */
	HOLES_FROM = 1024 * 1024,
	COPY_CHUNK = 128 * 1024,
};

static struct hash128 as_tests_want(const struct journal *j, struct hash128 hash)
{
	return j->faults && j->faults->hash ? j->faults->hash(hash) : hash;
}

static int capture_memory(struct journal *j, int fd, size_t size, struct capture *out)
{
	auto_free char *data = malloc(size + 1);
	int r;

	if (!data)
		return -ENOMEM;
	r = read_all_at(fd, data, size, 0);
	if (r)
		return r;
	*out = (struct capture){
		.fd = -1, .size = size, .hash = as_tests_want(j, digest_bytes(data, size))};
	if (size > 0)
		out->data = steal_ptr(data);
	return 0;
}

int journal_capture(struct journal *j, int fd, struct capture *out)
{
	auto_close int copy = -1;
	struct capture c = CAPTURE_NONE;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size <= CAPTURE_MEMORY_MAX)
		return capture_memory(j, fd, (size_t)st.st_size, out);
	r = temp_file(j->store.dirfd, &copy) ?: sparse_copy(fd, copy);
	if (!r)
		r = content_hash_fd(j->faults, copy, &c.hash, &c.size);
	if (r)
		return r;
	c.fd = steal_fd(&copy);
	*out = c;
	return 0;
}

int journal_capture_bytes(const void *data, size_t size, struct capture *out)
{
	char *copy = NULL;

	if (size > 0) {
		copy = malloc(size);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, data, size);
	}
	*out = (struct capture){.fd = -1, .size = size, .data = copy};
	out->hash = digest_bytes(copy ?: "", size);
	return 0;
}

void capture_done(struct capture *c)
{
	free(c->data);
	free(c->patch);
	if (c->fd >= 0)
		close(c->fd);
	*c = CAPTURE_NONE;
}

bool capture_is_patch(const struct capture *c)
{
	return c->patch;
}

uint64_t capture_bytes(const struct capture *c)
{
	return c->patch ? c->patch->bytes : c->size;
}

/* ---- what changed ---- */

static size_t count_tail_runs(int fd, uint64_t from, uint64_t size)
{
	off_t at = (off_t)from, end = (off_t)size, data, hole;
	size_t n = 0;

	if (size - from < HOLES_FROM)
		return size > from;
	for (; at<end; at = hole> at ? hole : end) {
		sparse_next_data(fd, at, end, &data, &hole);
		n += data < end;
	}
	return n;
}

static void add_range(struct patch *p, uint64_t at, uint64_t len)
{
	p->ranges[p->n_ranges++] = (struct extent){at, len};
	p->bytes += len;
}

static void add_tail(struct patch *p, int fd, uint64_t size, size_t room)
{
	off_t at = (off_t)p->keep, end = (off_t)size, data, hole;

	if (size <= p->keep)
		return;
	if (size - p->keep < HOLES_FROM) {
		add_range(p, p->keep, size - p->keep);
		return;
	}
	for (; at < end && p->n_ranges<room; at = hole> at ? hole : end) {
		sparse_next_data(fd, at, end, &data, &hole);
		if (data < end)
			add_range(p, (uint64_t)data, (uint64_t)(hole - data));
	}
}

/* The ranges that differ, or may; NULL in *out: all of it had better be taken. */
static int plan_patch(
	int fd, const struct capture_base *b, uint64_t size, struct patch **out)
{
	auto_free struct patch *p = NULL;
	size_t room;

	*out = NULL;
	if (size < PATCH_CONTENT_MIN || size < b->keep)
		return 0;
	room = b->n_extents + count_tail_runs(fd, b->keep, size);
	p = patch_new(room);
	if (!p)
		return -ENOMEM;
	p->n_ranges = 0;
	p->base_seq = b->seq;
	p->base_size = b->size;
	p->keep = b->keep;
	for (size_t i = 0; i < b->n_extents; i++)
		add_range(p, b->extents[i].at, b->extents[i].len);
	add_tail(p, fd, size, room);
	if (p->bytes > size / 2)
		return 0;
	*out = steal_ptr(p);
	return 0;
}

/* ---- its identity ---- */

static int add_blocks(
	int fd, uint64_t first, uint64_t end, uint64_t size, struct hash128 *digest)
{
	struct hash128 sum = {0};
	int r = first < end ? digest_blocks(fd, first, end, size, &sum) : 0;

	*digest = digest_add(*digest, sum);
	return r;
}

/* The blocks below end that an extent touches, as they are now. */
static int add_touched(int fd, const struct capture_base *b, uint64_t end, uint64_t size,
	struct hash128 *digest)
{
	uint64_t next = 0;
	int r = 0;

	for (size_t i = 0; i < b->n_extents && !r; i++) {
		uint64_t first = b->extents[i].at / DIGEST_BLOCK_BYTES;
		uint64_t stop =
			(b->extents[i].at + b->extents[i].len - 1) / DIGEST_BLOCK_BYTES + 1;

		first = first > next ? first : next;
		stop = stop < end ? stop : end;
		r = add_blocks(fd, first, stop, size, digest);
		next = stop > next ? stop : next;
	}
	return r;
}

static bool touches(const struct capture_base *b, uint64_t block)
{
	const struct extent *last =
		b->n_extents ? &b->extents[b->n_extents - 1] : &(struct extent){0};

	return (last->at + last->len) > block * DIGEST_BLOCK_BYTES;
}

/* From that of the base, by the blocks that changed. */
static int follow_digest(
	int fd, const struct capture_base *b, uint64_t size, struct hash128 *out)
{
	uint64_t tail = b->keep / DIGEST_BLOCK_BYTES;
	uint64_t blocks = (size + DIGEST_BLOCK_BYTES - 1) / DIGEST_BLOCK_BYTES;
	bool moved_end = b->keep < b->size || size > b->keep;
	struct hash128 digest = digest_sub(b->hash, digest_of_size(b->size)), was = {0};
	int r = 0;

	digest = digest_add(digest_sub(digest, b->removed), digest_of_size(size));
	/* What is there before keep is what was there: nothing has touched it. */
	if (b->keep == b->size && size > b->keep && b->keep % DIGEST_BLOCK_BYTES &&
		!touches(b, tail)) {
		r = digest_blocks(fd, tail, tail + 1, b->keep, &was);
		digest = digest_sub(digest, was);
	}
	if (!r)
		r = add_touched(fd, b, moved_end ? tail : blocks, size, &digest);
	if (!r && moved_end)
		r = add_blocks(fd, tail, blocks, size, &digest);
	*out = digest;
	return r;
}

/* ---- its bytes ---- */

static int read_ranges(int fd, const struct patch *p, char *to)
{
	int r = 0;

	for (size_t i = 0; i < p->n_ranges && !r; i++) {
		r = read_all_at(fd, to, (size_t)p->ranges[i].len, p->ranges[i].at);
		to += p->ranges[i].len;
	}
	return r;
}

static int copy_ranges(int fd, const struct patch *p, int out)
{
	auto_free char *chunk = malloc(COPY_CHUNK);
	int r = chunk ? 0 : -ENOMEM;

	for (size_t i = 0; i < p->n_ranges && !r; i++) {
		struct extent e = p->ranges[i];

		while (e.len > 0 && !r) {
			size_t n = e.len < COPY_CHUNK ? (size_t)e.len : COPY_CHUNK;

			r = read_all_at(fd, chunk, n, e.at);
			r = r ?: write_all(out, chunk, n);
			e.at += n;
			e.len -= n;
		}
	}
	return r;
}

static int take_ranges(struct journal *j, int fd, struct capture *c)
{
	const struct patch *p = c->patch;
	int r;

	if (p->bytes == 0)
		return 0;
	if (p->bytes > CAPTURE_MEMORY_MAX)
		return temp_file(j->store.dirfd, &c->fd) ?: copy_ranges(fd, p, c->fd);
	c->data = malloc((size_t)p->bytes);
	r = c->data ? read_ranges(fd, p, c->data) : -ENOMEM;
	return r;
}

int journal_capture_change(
	struct journal *j, int fd, const struct capture_base *base, struct capture *out)
{
	struct capture c = CAPTURE_NONE;
	struct stat st;
	uint64_t size;
	int r;

	/* Weak hashes cannot be added up. */
	if (j->faults && j->faults->hash)
		return journal_capture(j, fd, out);
	if (fstat(fd, &st) < 0)
		return -errno;
	size = (uint64_t)st.st_size;
	r = plan_patch(fd, base, size, &c.patch);
	if (!r && !c.patch)
		return journal_capture(j, fd, out);
	c.size = size;
	if (!r && size > DIGEST_FLAT_MAX && base->size > DIGEST_FLAT_MAX)
		r = follow_digest(fd, base, size, &c.hash);
	else if (!r)
		r = digest_fd(fd, &c.hash, &c.size);
	if (!r)
		r = take_ranges(j, fd, &c);
	if (r) {
		capture_done(&c);
		return r;
	}
	*out = c;
	return 0;
}
