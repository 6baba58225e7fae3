/*
 * delta.c - a small content as what zstd makes of it with an earlier one at hand.
 *
 * For files that are written anew, where nobody can tell which bytes changed: the one
 * before is given to zstd as a prefix, so what they share costs a few bytes. Such a row is
 * a patch as any other (base_id, weight), but for its ranges, which are empty.
 */
#include <string.h>
#include <unistd.h>

#include "journal/patch.h"
#include "journal/store.h"

enum {
	/* Below, a row of its own costs as much as the content. */
	CONTENT_MIN = 256,
	/* At most so many upon each other, and less where they are large: then the content
	 * is kept whole again. */
	CHAIN_MAX = 32,
	/* A patch of fewer bytes is small as it is. */
	PATCH_MIN = 512,
};

static bool suits(uint64_t size)
{
	return size >= CONTENT_MIN && size <= CAPTURE_MEMORY_MAX;
}

/* ---- bytes ---- */

static int read_back(
	const struct store *s, struct db *db, int64_t id, uint64_t size, char **out)
{
	auto_free char *bytes = malloc((size_t)size + 1);
	auto_close int fd = -1;
	int r = bytes ? store_open(s, db, id, &fd) : -ENOMEM;

	r = r ?: read_all_at(fd, bytes, (size_t)size, 0);
	if (!r)
		*out = steal_ptr(bytes);
	return r;
}

/* The bytes of a content, borrowed; NULL: they cannot be had, so nothing builds on them. */
static const char *bytes_of(struct store *s, struct db *db, const struct content_row *row)
{
	const char *found = recent_find(s->recent, row->id, row->hash, row->size);
	auto_free char *bytes = NULL;

	if (found)
		return found;
	if (read_back(s, db, row->id, row->size, &bytes))
		return NULL;
	recent_add(s->recent, row->id, row->hash, bytes, row->size);
	return recent_find(s->recent, row->id, row->hash, row->size);
}

static int window_log(uint64_t size)
{
	int bits = 10; /* the least that zstd takes */

	while (1ULL << bits < size)
		bits++;
	return bits;
}

/* How long it becomes; 0: zstd failed, or it is longer than room. */
static size_t pack(struct store *s, const char *was, uint64_t was_size, const char *is,
	uint64_t size, char *out, size_t room)
{
	size_t n;

	ZSTD_CCtx_reset(s->cctx, ZSTD_reset_session_and_parameters);
	ZSTD_CCtx_setParameter(s->cctx, ZSTD_c_compressionLevel, s->level);
	ZSTD_CCtx_setParameter(s->cctx, ZSTD_c_windowLog, window_log(was_size + size));
	ZSTD_CCtx_refPrefix(s->cctx, was, (size_t)was_size);
	n = ZSTD_compress2(s->cctx, out, room, is, (size_t)size);
	return ZSTD_isError(n) ? 0 : n;
}

/* Clearly less than the content would take otherwise. Of one that is whole, an eighth is;
 * above, what it takes by itself decides. Text of a patch shrinks to a third or a quarter.
 */
static bool is_worth(struct store *s, size_t n, const char *is, const struct capture *c)
{
	size_t bound = ZSTD_compressBound((size_t)c->size), alone;
	auto_free char *packed = NULL;

	if (n == 0 || c->patch || n <= c->size / 8)
		return n > 0;
	packed = malloc(bound);
	alone = packed ? ZSTD_compressCCtx(
				 s->cctx, packed, bound, is, (size_t)c->size, s->level)
		       : 0;
	return !ZSTD_isError(alone) && n <= alone / 2;
}

/* ---- putting ---- */

static uint64_t weight_on(const struct content_row *base, uint64_t size, uint64_t bytes)
{
	uint64_t least = size / CHAIN_MAX + 1;

	return base->weight + (bytes > least ? bytes : least);
}

/* 1: added; 0: not worth it. */
static int put(struct store *s, struct db *db, const struct content_row *base,
	const char *was, const char *is, const struct capture *c, struct stored *out)
{
	size_t room = (size_t)(c->patch ? c->patch->bytes / 4 : c->size / 2), n;
	auto_free char *packed = malloc(room);
	struct content_row row = {
		.hash = c->hash,
		.size = c->size,
		.codec = CODEC_ZSTD,
		.identity = IDENTITY_BLOCKS,
		.base_id = base->id,
		.ranges = "",
	};
	int r;

	if (!packed)
		return -ENOMEM;
	n = pack(s, was, base->size, is, c->size, packed, room);
	row.weight = weight_on(base, c->size, n);
	if (!is_worth(s, n, is, c) || n > s->inline_max || row.weight >= c->size)
		return 0;
	row.data = packed;
	row.data_size = n;
	out->added = true;
	out->bytes = n;
	r = content_add_row(db, &row, n, &out->id);
	/* The next version builds on this one; the base has served. */
	recent_forget(s->recent, base->id);
	return r ?: 1;
}

static bool has_room(const struct content_row *base, uint64_t size)
{
	return suits(base->size) && weight_on(base, size, 0) < size;
}

int delta_put(struct store *s, struct db *db, int64_t before, const struct capture *c,
	struct stored *out)
{
	struct content_row base;
	const char *was;
	int r;

	if (!before || !c->data || !suits(c->size))
		return 0;
	r = content_meta(db, before, &base);
	if (r)
		return r == -ENOENT ? 0 : r;
	was = has_room(&base, c->size) ? bytes_of(s, db, &base) : NULL;
	return was ? put(s, db, &base, was, c->data, c, out) : 0;
}

/* False: its ranges are not those of such a content. */
static bool apply(
	const struct patch *p, const char *was, const char *bytes, char *is, uint64_t size)
{
	memcpy(is, was, (size_t)p->keep);
	memset(is + p->keep, 0, (size_t)(size - p->keep));
	for (size_t i = 0; i < p->n_ranges; i++) {
		const struct extent *e = &p->ranges[i];

		if (e->at > size || e->len > size - e->at)
			return false;
		memcpy(is + e->at, bytes, (size_t)e->len);
		bytes += e->len;
	}
	return true;
}

int delta_put_patch(struct store *s, struct db *db, const struct content_row *base,
	const struct capture *c, struct stored *out)
{
	auto_free char *is = NULL;
	const char *was;
	int r;

	if (!c->data || c->patch->bytes < PATCH_MIN || !suits(c->size) ||
		!has_room(base, c->size) || c->patch->keep > base->size ||
		c->patch->keep > c->size)
		return 0;
	was = bytes_of(s, db, base);
	is = malloc((size_t)c->size);
	if (!was || !is)
		return was ? -ENOMEM : 0;
	/* What is not what it says is kept as it came, for whoever looks. */
	if (!apply(c->patch, was, c->data, is, c->size) ||
		!hash128_equal(digest_bytes(is, (size_t)c->size), c->hash))
		return 0;
	r = put(s, db, base, was, is, c, out);
	if (r == 1)
		recent_add(s->recent, out->id, c->hash, is, c->size);
	return r;
}

/* ---- reading ---- */

void delta_run_done(struct delta_run *run)
{
	ZSTD_freeDCtx(run->dctx);
	free(run->is);
	free(run->spare);
	*run = (struct delta_run){0};
}

/* Room for any content that a delta is made of; what is not touched costs nothing. */
static int begin(struct delta_run *run)
{
	if (run->dctx)
		return 0;
	run->dctx = ZSTD_createDCtx();
	run->is = malloc(CAPTURE_MEMORY_MAX);
	run->spare = malloc(CAPTURE_MEMORY_MAX);
	return run->dctx && run->is && run->spare ? 0 : -ENOMEM;
}

int delta_apply(
	struct delta_run *run, const struct content_row *row, uint64_t base_size, int fd)
{
	char *was;
	size_t n;
	int r;

	if (!row->data || base_size > CAPTURE_MEMORY_MAX || row->size > CAPTURE_MEMORY_MAX)
		return -EIO;
	r = begin(run);
	if (!r && !run->ahead)
		r = read_all_at(fd, run->is, (size_t)base_size, 0);
	if (r)
		return r;
	ZSTD_DCtx_reset(run->dctx, ZSTD_reset_session_only);
	ZSTD_DCtx_refPrefix(run->dctx, run->is, (size_t)base_size);
	n = ZSTD_decompressDCtx(
		run->dctx, run->spare, (size_t)row->size, row->data, row->data_size);
	if (ZSTD_isError(n) || n != row->size)
		return -EIO;
	was = run->is;
	run->is = run->spare;
	run->spare = was;
	run->size = row->size;
	run->ahead = true;
	return 0;
}

int delta_flush(struct delta_run *run, int fd)
{
	if (!run->ahead)
		return 0;
	run->ahead = false;
	if (ftruncate(fd, (off_t)run->size) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	return write_all(fd, run->is, (size_t)run->size);
}
