/*
 * content.c - which row and place a content gets, and getting it back whole (V5).
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "journal/store.h"

int store_init(struct store *s, int dirfd, const struct journal_faults *faults)
{
	*s = (struct store){.dirfd = -1,
		.faults = faults,
		.inline_max = STORE_INLINE_MAX,
		.level = STORE_ZSTD_LEVEL};
	if (mkdirat(dirfd, "objects", 0700) < 0 && errno != EEXIST)
		return -errno;
	s->dirfd = openat(dirfd, "objects", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dirfd < 0)
		return -errno;
	s->cctx = ZSTD_createCCtx();
	s->recent = recent_new(STORE_RECENT_BYTES);
	return s->cctx && s->recent ? 0 : -ENOMEM;
}

void store_done(struct store *s)
{
	while (s->n_dirty > 0)
		close(s->dirty[--s->n_dirty]);
	ZSTD_freeCCtx(s->cctx);
	s->recent = recent_free(s->recent);
	if (s->dirfd >= 0)
		close(s->dirfd);
	s->dirfd = -1;
	s->cctx = NULL;
}

void store_rolled_back(struct store *s)
{
	recent_forget_all(s->recent);
}

void store_dropped(struct store *s, int64_t id)
{
	recent_forget(s->recent, id);
}

void store_read_row(sqlite3_stmt *stmt, struct content_row *row)
{
	bool in_row = sqlite3_column_type(stmt, 5) != SQLITE_NULL;

	*row = (struct content_row){
		.id = sqlite3_column_int64(stmt, 0),
		.hash = column_hash(stmt, 1),
		.size = column_int(stmt, 2),
		.copy = column_int(stmt, 3),
		.codec = (enum store_codec)sqlite3_column_int(stmt, 4),
	};
	row->identity = (enum store_identity)sqlite3_column_int(stmt, 6);
	row->base_id = sqlite3_column_int64(stmt, 7);
	row->segment_id = sqlite3_column_int64(stmt, 8);
	row->weight = column_int(stmt, 9);
	row->ranges = sqlite3_column_blob(stmt, 10);
	row->ranges_size = (size_t)sqlite3_column_bytes(stmt, 10);
	row->delta = row->base_id && sqlite3_column_type(stmt, 10) != SQLITE_NULL &&
		     row->ranges_size == 0;
	if (in_row) {
		row->data = sqlite3_column_blob(stmt, 5) ?: ""; /* no bytes: NULL */
		row->data_size = (size_t)sqlite3_column_bytes(stmt, 5);
	}
}

void content_read_meta(sqlite3_stmt *stmt, struct content_row *row)
{
	*row = (struct content_row){
		.id = sqlite3_column_int64(stmt, 0),
		.size = column_int(stmt, 1),
		.base_id = sqlite3_column_int64(stmt, 2),
		.segment_id = sqlite3_column_int64(stmt, 3),
		.weight = column_int(stmt, 4),
		.hash = column_hash(stmt, 5),
	};
}

int content_hash_fd(
	const struct journal_faults *faults, int fd, struct hash128 *hash, uint64_t *size)
{
	int r = digest_fd(fd, hash, size);

	if (!r && faults && faults->hash)
		*hash = faults->hash(*hash);
	return r;
}

/* The bytes of a row that has them, malloc'ed, size + 1 long. */
static int unpack_inline(const struct content_row *row, uint64_t size, char **out)
{
	auto_free char *bytes = NULL;
	size_t n;

	/* A damaged size is no reason to ask for that much memory. */
	if (size > INT32_MAX ||
		(row->codec == CODEC_ZSTD ? ZSTD_getFrameContentSize(
						    row->data, row->data_size) != size
					  : row->data_size != size))
		return -EIO;
	bytes = malloc((size_t)size + 1);
	if (!bytes)
		return -ENOMEM;
	if (row->codec == CODEC_ZSTD) {
		n = ZSTD_decompress(bytes, (size_t)size, row->data, row->data_size);
		if (ZSTD_isError(n) || n != size)
			return -EIO;
	} else {
		memcpy(bytes, row->data, row->data_size);
	}
	*out = steal_ptr(bytes);
	return 0;
}

int content_own_bytes(const struct store *s, struct db *db, const struct content_row *row,
	uint64_t size, struct capture *out)
{
	struct content_row own = *row;

	*out = (struct capture){.size = size, .fd = -1};
	own.size = size;
	if (row->segment_id)
		return segment_read(db, row->segment_id, size, &out->data);
	if (row->data)
		return unpack_inline(row, size, &out->data);
	return object_open(s, &own, &out->fd);
}

static int check_whole(const struct store *s, const struct content_row *row, int fd)
{
	struct hash128 hash;
	uint64_t size;
	int r = row->identity == IDENTITY_FLAT && row->size > DIGEST_FLAT_MAX
			? hash128_fd(fd, &hash, &size)
			: content_hash_fd(s->faults, fd, &hash, &size);

	if (r)
		return r;
	return size == row->size && hash128_equal(hash, row->hash) ? 0 : -EIO;
}

static int open_row(
	const struct store *s, struct db *db, const struct content_row *row, int *fd)
{
	auto_close int file = -1;
	auto_free char *bytes = NULL;
	int r;

	if (row->base_id) {
		r = patch_open(s, db, row, &file);
	} else if (row->data) {
		r = unpack_inline(row, row->size, &bytes) ?: memory_file(row->size, &file);
		if (!r)
			r = write_all(file, bytes, (size_t)row->size);
	} else {
		r = object_open(s, row, &file);
	}
	if (!r)
		r = check_whole(s, row, file);
	if (!r)
		*fd = steal_fd(&file);
	return r;
}

int content_by_id(struct db *db, int64_t id, sqlite3_stmt **stmt, struct content_row *row)
{
	int r = db_stmt(db, STMT_CONTENT_BY_ID, stmt);

	if (r)
		return r;
	bind_int(*stmt, 1, (uint64_t)id);
	r = db_step(db, *stmt);
	if (r <= 0)
		return r ?: -ENOENT;
	store_read_row(*stmt, row);
	return 0;
}

int content_meta(struct db *db, int64_t id, struct content_row *row)
{
	auto_stmt *stmt = NULL;
	int r = db_stmt(db, STMT_CONTENT_META, &stmt);

	if (r)
		return r;
	bind_int(stmt, 1, (uint64_t)id);
	r = db_step(db, stmt);
	if (r <= 0)
		return r ?: -ENOENT;
	content_read_meta(stmt, row);
	return 0;
}

int store_open(const struct store *s, struct db *db, int64_t id, int *fd)
{
	auto_stmt *stmt = NULL;
	struct content_row row;
	int r = content_by_id(db, id, &stmt, &row);

	return r ?: open_row(s, db, &row, fd);
}

int store_open_hash(
	const struct store *s, struct db *db, struct hash128 hash, uint64_t size, int *fd)
{
	auto_stmt *stmt = NULL;
	int64_t id;
	int r = db_stmt(db, STMT_CONTENT_EXISTS, &stmt);

	if (r)
		return r;
	bind_hash(stmt, 1, hash);
	bind_int(stmt, 2, size);
	r = db_step(db, stmt);
	if (r <= 0)
		return r ?: -ENOENT;
	id = sqlite3_column_int64(stmt, 0);
	return store_open(s, db, id, fd);
}

static int same_bytes(const struct content_row *row, const struct capture *c)
{
	auto_free char *bytes = NULL;
	int r = unpack_inline(row, row->size, &bytes);

	return r ?: memcmp(bytes, c->data, (size_t)c->size) == 0;
}

/* 1 when the row holds just the bytes of c. What cannot be read back is not the same. */
static int same_content(const struct store *s, struct db *db, const struct content_row *row,
	const struct capture *c)
{
	auto_close int have = -1, mine = -1;
	int r;

	if (c->size == 0)
		return 1;
	if (row->data && c->data) {
		r = same_bytes(row, c);
		return r == -EIO ? 0 : r;
	}
	r = open_row(s, db, row, &have);
	if (r)
		return r == -EIO ? 0 : r;
	if (c->fd >= 0)
		return sparse_equal(have, c->fd, c->size);
	r = memory_file(c->size, &mine) ?: write_all(mine, c->data, (size_t)c->size);
	return r ?: sparse_equal(have, mine, c->size);
}

/* 1 found; 0 not, and copy is the first number free. */
static int find_same(struct store *s, struct db *db, const struct capture *c, int64_t *id,
	uint64_t *copy)
{
	auto_stmt *stmt = NULL;
	struct content_row row;
	int r = db_stmt(db, STMT_CONTENT_FIND, &stmt);

	*copy = 0;
	if (r)
		return r;
	bind_hash(stmt, 1, c->hash);
	bind_int(stmt, 2, c->size);
	while ((r = db_step(db, stmt)) == 1) {
		store_read_row(stmt, &row);
		r = same_content(s, db, &row, c);
		if (r)
			break;
		*copy = row.copy + 1;
	}
	if (r == 1)
		*id = row.id;
	return r;
}

int content_add_row(
	struct db *db, const struct content_row *row, uint64_t stored, int64_t *id)
{
	auto_stmt *stmt = NULL;
	int r = db_stmt(db, STMT_CONTENT_ADD, &stmt);

	if (r)
		return r;
	bind_hash(stmt, 1, row->hash);
	bind_int(stmt, 2, row->size);
	bind_int(stmt, 3, row->copy);
	bind_int(stmt, 4, row->codec);
	bind_int(stmt, 5, stored);
	bind_int(stmt, 6, row->identity);
	bind_opt(stmt, 7, row->base_id);
	bind_opt(stmt, 8, row->segment_id);
	bind_int(stmt, 9, row->weight);
	bind_blob(stmt, 10, row->ranges, row->ranges_size);
	bind_blob(stmt, 11, row->data, row->data_size);
	r = db_step(db, stmt);
	if (!r)
		*id = sqlite3_last_insert_rowid(db->sql);
	return r;
}

static int put_memory(struct store *s, struct db *db, const struct capture *c,
	struct content_row *row, struct stored *out)
{
	size_t size = (size_t)capture_bytes(c), bound = ZSTD_compressBound(size), n;
	auto_free char *packed = malloc(bound);
	int r;

	if (!packed)
		return -ENOMEM;
	n = ZSTD_compressCCtx(s->cctx, packed, bound, c->data ?: "", size, s->level);
	if (ZSTD_isError(n))
		return -ENOMEM;
	row->codec = n <= size - size / 8 && size > 0 ? CODEC_ZSTD : CODEC_RAW;
	row->data = row->codec == CODEC_ZSTD ? packed : (c->data ?: "");
	row->data_size = row->codec == CODEC_ZSTD ? n : size;
	out->bytes = row->data_size;
	if (row->data_size <= s->inline_max)
		return content_add_row(db, row, out->bytes, &out->id);
	r = object_add_bytes(s, c, row->data, row->data_size, row->codec, row->copy, row);
	row->data = NULL;
	out->object = true;
	return r ?: content_add_row(db, row, out->bytes, &out->id);
}

int content_put_data(struct store *s, struct db *db, const struct capture *c,
	struct content_row *row, struct stored *out)
{
	struct capture own = *c;
	int r;

	out->added = true;
	if (c->fd < 0)
		return put_memory(s, db, c, row, out);
	out->object = true;
	own.size = capture_bytes(c); /* the file is that long */
	r = object_add(s, &own, row->copy, row, &out->bytes);
	return r ?: content_add_row(db, row, out->bytes, &out->id);
}

int content_put_whole(struct store *s, struct db *db, const struct capture *c,
	int64_t before, struct stored *out)
{
	struct content_row row = {
		.hash = c->hash,
		.size = c->size,
		.identity = IDENTITY_BLOCKS,
	};
	int r;

	*out = (struct stored){0};
	r = find_same(s, db, c, &out->id, &row.copy);
	if (r)
		return r < 0 ? r : 0;
	r = delta_put(s, db, before, c, out);
	if (r == 0)
		r = content_put_data(s, db, c, &row, out);
	if (r >= 0 && c->data)
		recent_add(s->recent, out->id, c->hash, c->data, c->size);
	return r < 0 ? r : 0;
}

int store_put(struct store *s, struct db *db, const struct capture *c, int64_t before,
	struct stored *out)
{
	return c->patch ? patch_put(s, db, c, out)
			: content_put_whole(s, db, c, before, out);
}
