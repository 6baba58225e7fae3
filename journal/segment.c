/*
 * segment.c - runs of small appends share one growing row of bytes.
 *
 * A content in a segment is its base and the segment's first bytes, as many as its size
 * wants. Only the newest such content can be appended to in place: the row grows, the
 * contents that were there before it stay what they are.
 */
#include <string.h>

#include "journal/patch.h"
#include "journal/store.h"

enum { SEGMENT_MAX = 16 * 1024 };

struct segment {
	enum store_codec codec;
	uint64_t size;
	const void *data; /* lives until the statement is reset */
	size_t data_size;
};

static int get(struct db *db, int64_t id, sqlite3_stmt **stmt, struct segment *out)
{
	int r = db_stmt(db, STMT_SEGMENT_GET, stmt);

	if (r)
		return r;
	bind_int(*stmt, 1, (uint64_t)id);
	r = db_step(db, *stmt);
	if (r <= 0)
		return r ?: -EIO; /* a content says it is there */
	*out = (struct segment){
		.codec = (enum store_codec)sqlite3_column_int(*stmt, 0),
		.size = column_int(*stmt, 1),
		.data = sqlite3_column_blob(*stmt, 2) ?: "",
		.data_size = (size_t)sqlite3_column_bytes(*stmt, 2),
	};
	return 0;
}

static int set(
	struct db *db, int64_t id, enum store_codec codec, const void *data, size_t size)
{
	auto_stmt *stmt = NULL;
	int r = db_stmt(db, STMT_SEGMENT_SET, &stmt);

	if (r)
		return r;
	bind_int(stmt, 1, (uint64_t)id);
	bind_int(stmt, 2, codec);
	bind_blob(stmt, 3, data, size);
	return db_step(db, stmt);
}

int segment_read(struct db *db, int64_t id, uint64_t size, char **out)
{
	auto_free char *bytes = NULL;
	auto_stmt *stmt = NULL;
	struct segment seg;
	int r = get(db, id, &stmt, &seg);

	if (r)
		return r;
	if (size > seg.size || seg.size > SEGMENT_MAX)
		return -EIO;
	bytes = malloc((size_t)seg.size + 1);
	if (!bytes)
		return -ENOMEM;
	if (seg.codec == CODEC_ZSTD) {
		size_t n =
			ZSTD_decompress(bytes, (size_t)seg.size, seg.data, seg.data_size);

		if (ZSTD_isError(n) || n != seg.size)
			return -EIO;
	} else {
		if (seg.data_size != seg.size)
			return -EIO;
		memcpy(bytes, seg.data, seg.data_size);
	}
	*out = steal_ptr(bytes);
	return 0;
}

/* No more is appended to it. *saved: bytes less on disk. */
static int seal(struct store *s, struct db *db, int64_t id, uint64_t *saved)
{
	size_t bound = ZSTD_compressBound(SEGMENT_MAX), n;
	auto_free char *packed = malloc(bound);
	auto_stmt *stmt = NULL;
	struct segment seg;
	int r = packed ? get(db, id, &stmt, &seg) : -ENOMEM;

	if (r)
		return r;
	n = ZSTD_compressCCtx(s->cctx, packed, bound, seg.data, seg.data_size, s->level);
	if (ZSTD_isError(n) || n > seg.data_size - seg.data_size / 8)
		return 0;
	*saved = seg.data_size - n;
	return set(db, id, CODEC_ZSTD, packed, n);
}

static int size_of(struct db *db, int64_t content_id, uint64_t *size)
{
	auto_stmt *stmt = NULL;
	int r = db_stmt(db, STMT_CONTENT_BASE, &stmt);

	if (r)
		return r;
	bind_int(stmt, 1, (uint64_t)content_id);
	r = db_step(db, stmt);
	if (r == 1)
		*size = column_int(stmt, 1);
	return r < 0 ? r : r == 1 ? 0 : -EIO;
}

/* 1: the bytes are in the segment that base ends; 0: it is in none, or that is full. */
static int grow(struct store *s, struct db *db, const struct content_row *base,
	const struct capture *c, uint64_t *saved)
{
	size_t n = (size_t)c->patch->bytes;
	auto_free char *bytes = NULL;
	auto_stmt *stmt = NULL;
	struct segment seg;
	uint64_t start;
	int r = size_of(db, base->base_id, &start);

	if (!r)
		r = get(db, base->segment_id, &stmt, &seg);
	if (r)
		return r;
	if (seg.codec != CODEC_RAW || seg.data_size != seg.size ||
		base->size - start != seg.size)
		return 0;
	if (seg.size + n > SEGMENT_MAX)
		return seal(s, db, base->segment_id, saved);
	bytes = malloc(seg.data_size + n);
	if (!bytes)
		return -ENOMEM;
	memcpy(bytes, seg.data, seg.data_size);
	memcpy(bytes + seg.data_size, c->data, n);
	return set(db, base->segment_id, CODEC_RAW, bytes, seg.data_size + n) ?: 1;
}

static int begin(struct db *db, const struct capture *c, int64_t *id)
{
	auto_stmt *stmt = NULL;
	int r = db_stmt(db, STMT_SEGMENT_ADD, &stmt);

	if (r)
		return r;
	bind_int(stmt, 1, c->patch->bytes);
	bind_blob(stmt, 2, c->data, (size_t)c->patch->bytes);
	r = db_step(db, stmt);
	*id = sqlite3_last_insert_rowid(db->sql);
	return r;
}

int segment_append(struct store *s, struct db *db, const struct content_row *base,
	const struct capture *c, struct stored *out)
{
	struct content_row row = {
		.hash = c->hash,
		.size = c->size,
		.identity = IDENTITY_BLOCKS,
		.base_id = base->base_id,
		.segment_id = base->segment_id,
		.weight = base->weight,
	};
	uint64_t saved = 0;
	int r = 0;

	if (!c->data || c->patch->bytes > SEGMENT_MAX)
		return 0;
	if (base->segment_id)
		r = grow(s, db, base, c, &saved);
	if (r == 0) {
		row.base_id = base->id;
		r = begin(db, c, &row.segment_id);
	}
	if (r < 0)
		return r;
	out->added = true;
	out->bytes = c->patch->bytes - saved; /* may be "less than nothing" */
	return content_add_row(db, &row, c->patch->bytes, &out->id) ?: 1;
}
