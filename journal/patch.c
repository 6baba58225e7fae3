/*
 * patch.c - contents kept as an earlier one with some bytes replaced: putting, opening.
 */
#include "journal/patch.h"

#include <string.h>

#include "base/log.h"
#include "journal/store.h"

enum {
	COPY_CHUNK = 128 * 1024,
	/* What reading one more patch costs, as bytes read. */
	PATCH_WEIGHT_MIN = 4096,
	/* But of what is small at least so many: a row costs more than its bytes. */
	CHAIN_MIN = 32,
};

struct patch *patch_new(size_t n_ranges)
{
	struct patch *p = calloc(1, sizeof(*p) + n_ranges * sizeof(p->ranges[0]));

	if (p)
		p->n_ranges = n_ranges;
	return p;
}

bool patch_appends(const struct patch *p, uint64_t size)
{
	return p->keep == p->base_size && size > p->base_size && p->n_ranges == 1 &&
	       p->ranges[0].at == p->base_size && p->ranges[0].len == size - p->base_size;
}

/* ---- ranges in a row ---- */

static void put_number(struct buf *out, uint64_t n)
{
	for (; n > 0x7f; n >>= 7)
		buf_putc(out, (char)(n | 0x80));
	buf_putc(out, (char)n);
}

static bool get_number(const unsigned char **at, const unsigned char *end, uint64_t *n)
{
	*n = 0;
	for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
		unsigned char c = *(*at)++;

		*n |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			return true;
	}
	return false;
}

int patch_encode(const struct patch *p, struct buf *out)
{
	uint64_t at = 0;

	put_number(out, p->keep);
	for (size_t i = 0; i < p->n_ranges; i++) {
		put_number(out, p->ranges[i].at - at);
		put_number(out, p->ranges[i].len);
		at = p->ranges[i].at + p->ranges[i].len;
	}
	return buf_failed(out) ? -ENOMEM : 0;
}

int patch_decode(const void *data, size_t size, struct patch **out)
{
	const unsigned char *at = data, *end = at + size;
	auto_free struct patch *p = patch_new(size / 2); /* at least two bytes each */
	uint64_t last = 0, gap, len;

	if (!p)
		return -ENOMEM;
	p->n_ranges = 0;
	if (!get_number(&at, end, &p->keep))
		return -EIO;
	while (at < end) {
		if (!get_number(&at, end, &gap) || !get_number(&at, end, &len) ||
			gap > INT64_MAX - last || len > INT64_MAX - last - gap)
			return -EIO;
		p->ranges[p->n_ranges++] = (struct extent){last + gap, len};
		last += gap + len;
		p->bytes += len;
	}
	*out = steal_ptr(p);
	return 0;
}

/* ---- applying ---- */

static int write_at(int fd, const char *data, size_t size, uint64_t at)
{
	while (size > 0) {
		ssize_t n = pwrite(fd, data, size, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		at += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static int copy_at(int in, uint64_t from, int out, uint64_t to, uint64_t size)
{
	auto_free char *chunk = malloc(COPY_CHUNK);
	int r = chunk ? 0 : -ENOMEM;

	while (size > 0 && !r) {
		size_t n = size < COPY_CHUNK ? (size_t)size : COPY_CHUNK;

		r = read_all_at(in, chunk, n, from);
		if (!r)
			r = write_at(out, chunk, n, to);
		from += n;
		to += n;
		size -= n;
	}
	return r;
}

/* fd holds the base; from now on the content. bytes: those of the ranges. */
static int apply(int fd, const struct patch *p, uint64_t size, const struct capture *bytes)
{
	uint64_t at = 0;
	int r = 0;

	if (p->keep > size)
		return -EIO;
	if (ftruncate(fd, (off_t)p->keep) < 0 || ftruncate(fd, (off_t)size) < 0)
		return errno == EFBIG || errno == EINVAL ? -EIO : -errno; /* no such size */
	for (size_t i = 0; i < p->n_ranges && !r; i++) {
		const struct extent *e = &p->ranges[i];

		if (e->at > size || e->len > size - e->at)
			return -EIO;
		r = bytes->data ? write_at(fd, bytes->data + at, (size_t)e->len, e->at)
				: copy_at(bytes->fd, at, fd, e->at, e->len);
		at += e->len;
	}
	return r;
}

static int patch_of_row(
	const struct content_row *row, uint64_t base_size, struct patch **out)
{
	struct patch *p;

	if (row->ranges)
		return patch_decode(row->ranges, row->ranges_size, out);
	p = patch_new(1);
	if (!p)
		return -ENOMEM;
	p->keep = row->size < base_size ? row->size : base_size;
	p->bytes = row->size - p->keep;
	p->n_ranges = p->bytes > 0;
	p->ranges[0] = (struct extent){p->keep, p->bytes};
	*out = p;
	return 0;
}

static int apply_row(const struct store *s, struct db *db, int64_t id, uint64_t base_size,
	int fd, struct delta_run *run, uint64_t *size)
{
	struct capture bytes = CAPTURE_NONE;
	auto_free struct patch *p = NULL;
	struct content_row row;
	auto_stmt *stmt = NULL;
	int r = content_by_id(db, id, &stmt, &row);

	if (r)
		return r;
	*size = row.size;
	if (row.delta)
		return delta_apply(run, &row, base_size, fd);
	r = delta_flush(run, fd) ?: patch_of_row(&row, base_size, &p);
	if (!r && p->bytes > 0)
		r = content_own_bytes(s, db, &row, p->bytes, &bytes);
	if (!r)
		r = apply(fd, p, row.size, &bytes);
	capture_done(&bytes);
	return r;
}

/* ---- opening ---- */

/* The ids from a content to the whole one that all of them build on, that last. What a
 * damaged row makes a circle of is -EIO. */
static int find_chain(struct db *db, int64_t id, int64_t **out, size_t *n)
{
	auto_free int64_t *ids = NULL;
	size_t room = 0, mark = 0; /* ids[mark] comes again in a circle (Brent) */

	for (*n = 0; id; (*n)++) {
		auto_stmt *stmt = NULL;
		int r;

		if (*n == room) {
			int64_t *more;

			room = room ? 2 * room : 64;
			more = realloc(ids, room * sizeof(*ids));
			if (!more)
				return -ENOMEM;
			ids = more;
		}
		ids[*n] = id;
		if (*n > 0 && id == ids[mark])
			return -EIO;
		if ((*n & (*n - 1)) == 0)
			mark = *n;
		r = db_stmt(db, STMT_CONTENT_BASE, &stmt);
		if (!r) {
			bind_int(stmt, 1, (uint64_t)id);
			r = db_step(db, stmt);
		}
		if (r <= 0)
			return r ?: -EIO; /* the row above says it is there */
		id = sqlite3_column_int64(stmt, 0);
	}
	*out = steal_ptr(ids);
	return 0;
}

/* A whole content in a file of our own, to write into. */
static int open_whole(const struct store *s, struct db *db, int64_t id, uint64_t final_size,
	int *fd, uint64_t *size)
{
	struct capture bytes = CAPTURE_NONE;
	auto_close int out = -1;
	struct content_row row;
	auto_stmt *stmt = NULL;
	int r = content_by_id(db, id, &stmt, &row);

	if (r)
		return r;
	*size = row.size;
	r = row.size <= CAPTURE_MEMORY_MAX && final_size <= CAPTURE_MEMORY_MAX
		    ? memory_file(row.size, &out)
		    : temp_file(s->dirfd, &out);
	if (!r)
		r = content_own_bytes(s, db, &row, row.size, &bytes);
	if (!r && bytes.data)
		r = write_at(out, bytes.data, (size_t)row.size, 0);
	else if (!r)
		r = sparse_copy(bytes.fd, out);
	capture_done(&bytes);
	if (!r)
		*fd = steal_fd(&out);
	return r;
}

int patch_open(const struct store *s, struct db *db, const struct content_row *row, int *fd)
{
	uint64_t final_size = row->size, size;
	auto_free int64_t *ids = NULL;
	auto_close int file = -1;
	struct delta_run run = {0};
	size_t n;
	int r = find_chain(db, row->id, &ids, &n);

	if (!r)
		r = open_whole(s, db, ids[n - 1], final_size, &file, &size);
	for (size_t i = n - 1; i-- > 0 && !r;)
		r = apply_row(s, db, ids[i], size, file, &run, &size);
	r = r ?: delta_flush(&run, file);
	delta_run_done(&run);
	if (!r)
		*fd = steal_fd(&file);
	return r;
}

/* ---- putting ---- */

static uint64_t weight_of(const struct patch *p, uint64_t size)
{
	uint64_t least = size / CHAIN_MIN < PATCH_WEIGHT_MIN ? size / CHAIN_MIN + 1
							     : PATCH_WEIGHT_MIN;
	uint64_t weight = 0;

	if (patch_appends(p, size))
		return 0; /* the longer a file, the more there is to read of it anyway */
	for (size_t i = 0; i < p->n_ranges; i++)
		weight += p->ranges[i].len;
	return weight > least ? weight : least;
}

/* Its patches have grown as large as the content itself: keep it whole again. */
static int put_whole(struct store *s, struct db *db, const struct content_row *base,
	const struct capture *c, struct stored *out)
{
	struct capture whole = {.hash = c->hash, .size = c->size, .fd = -1};
	struct hash128 digest;
	uint64_t size;
	int r;

	if (base->base_id) {
		r = patch_open(s, db, base, &whole.fd);
		size = base->size;
	} else {
		r = open_whole(s, db, base->id, c->size, &whole.fd, &size);
	}
	if (!r)
		r = apply(whole.fd, c->patch, c->size, c);
	if (!r)
		r = digest_fd(whole.fd, &digest, &size);
	if (!r && (size != c->size || !hash128_equal(digest, c->hash)))
		r = -EIO; /* what it builds on is damaged */
	if (!r && c->size <= CAPTURE_MEMORY_MAX) {
		whole.data = malloc((size_t)c->size + 1);
		r = whole.data ? read_all_at(whole.fd, whole.data, (size_t)c->size, 0)
			       : -ENOMEM;
		close(whole.fd);
		whole.fd = -1;
	}
	if (!r)
		r = content_put_whole(s, db, &whole, 0, out);
	capture_done(&whole);
	return r;
}

static int put_part(struct store *s, struct db *db, const struct content_row *base,
	const struct capture *c, uint64_t weight, struct stored *out)
{
	struct content_row row = {
		.hash = c->hash,
		.size = c->size,
		.identity = IDENTITY_BLOCKS,
		.base_id = base->id,
		.weight = weight,
	};
	auto_buf ranges = {0};
	int r = 0;

	if (!patch_appends(c->patch, c->size)) {
		r = patch_encode(c->patch, &ranges);
		row.ranges = ranges.data;
		row.ranges_size = ranges.len;
	}
	return r ?: content_put_data(s, db, c, &row, out);
}

/* The content of a version; what the row holds beside ids and numbers is not kept. */
static int base_of(struct db *db, uint64_t seq, struct content_row *base)
{
	auto_stmt *stmt = NULL;
	int r = db_stmt(db, STMT_CONTENT_OF_SEQ, &stmt);

	if (r)
		return r;
	bind_int(stmt, 1, seq);
	r = db_step(db, stmt);
	if (r <= 0)
		return r ?: -ENOENT;
	content_read_meta(stmt, base);
	return 0;
}

int patch_put(struct store *s, struct db *db, const struct capture *c, struct stored *out)
{
	const struct patch *p = c->patch;
	struct content_row base;
	uint64_t weight;
	int r = base_of(db, p->base_seq, &base);

	*out = (struct stored){0};
	if (r == -ENOENT || (!r && base.size != p->base_size)) {
		log_error(
			"journal: a content builds on that of row %llu, which is not here",
			(unsigned long long)p->base_seq);
		return -EEXIST;
	}
	if (!r && patch_appends(p, c->size))
		r = segment_append(s, db, &base, c, out);
	if (r)
		return r < 0 ? r : 0;
	weight = base.weight + weight_of(p, c->size);
	if (weight > base.weight && weight >= c->size) {
		r = put_whole(s, db, &base, c, out);
		if (r != -EIO)
			return r;
	} else {
		r = delta_put_patch(s, db, &base, c, out);
		if (r)
			return r < 0 ? r : 0;
	}
	return put_part(s, db, &base, c, weight, out);
}
