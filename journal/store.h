/*
 * store.h - contents by identity: small ones in the database, large ones as object files.
 *
 * An object file objects/xx/REST.N is complete before it gets its name and never changes
 * after; N is the copy, which tells apart different contents of one hash (V5). It is
 * written once, outside the database's log. Putting is for the writer's thread, in its
 * transaction; reading is for any thread with a connection.
 */
#ifndef STOMP_JOURNAL_STORE_H
#define STOMP_JOURNAL_STORE_H

#include <zstd.h>

#include "journal/db.h"
#include "journal/journal.h"
#include "journal/patch.h"
#include "journal/recent.h"

enum {
	/* Measured: docs/SCHEMA.md. Up to this many stored bytes live in the database. */
	STORE_INLINE_MAX = 128 * 1024,
	STORE_ZSTD_LEVEL = 1,
	/* Captured in memory up to here, as a copy in a file from there on. */
	CAPTURE_MEMORY_MAX = 256 * 1024,
	STORE_DIRTY_MAX = 64,
	STORE_RECENT_BYTES = 4 * 1024 * 1024,
};

enum store_codec { CODEC_RAW, CODEC_ZSTD };

struct store {
	int dirfd; /* objects/ */
	const struct journal_faults *faults;
	size_t inline_max;
	int level;
	/* the writer's thread only */
	ZSTD_CCtx *cctx;
	struct recent *recent;
	size_t n_dirty; /* objects whose bytes or names may not be on stable storage */
	int dirty[STORE_DIRTY_MAX];
	unsigned char dirty_folder[STORE_DIRTY_MAX];
};

struct stored {
	int64_t id;
	bool added, object; /* object: in a file of its own */
	uint64_t bytes;	    /* on disk, when added */
};

/* How hash was made: of all bytes at once, or as digest.h says. */
enum store_identity { IDENTITY_FLAT, IDENTITY_BLOCKS };

/* A row of the content table; data and ranges live until its statement is reset. */
struct content_row {
	int64_t id;
	struct hash128 hash;
	uint64_t size, copy;
	enum store_codec codec;
	const void *data; /* NULL: an object file, or a segment's first bytes */
	size_t data_size;
	enum store_identity identity;
	int64_t base_id;    /* 0: data is the whole content, else a patch of that one */
	int64_t segment_id; /* 0: none */
	uint64_t weight;    /* bytes of patches to read over the last whole one */
	const void *ranges; /* NULL: it appends to its base, or is the beginning of it */
	size_t ranges_size; /* 0 beside ranges: a delta */
	bool delta;	    /* data is all of it, by zstd with the base as its prefix */
};

must_check int store_init(struct store *s, int dirfd, const struct journal_faults *faults);
void store_done(struct store *s);

/* Find or add; a content is the same only when its bytes are. before: the content that it
 * is probably much like, 0: none. */
must_check int store_put(struct store *s, struct db *db, const struct capture *c,
	int64_t before, struct stored *out);

/* A transaction was taken back; a content's row is gone: its id may come again. */
void store_rolled_back(struct store *s);
void store_dropped(struct store *s, int64_t id);

/* A content as a file to pread; -ENOENT, or -EIO when it is not what was stored. */
must_check int store_open(const struct store *s, struct db *db, int64_t id, int *fd);
must_check int store_open_hash(
	const struct store *s, struct db *db, struct hash128 hash, uint64_t size, int *fd);
void store_read_row(sqlite3_stmt *stmt, struct content_row *row);

/* content.c, for patch.c, segment.c and delta.c */
must_check int content_add_row(
	struct db *db, const struct content_row *row, uint64_t stored, int64_t *id);
must_check int content_by_id(
	struct db *db, int64_t id, sqlite3_stmt **stmt, struct content_row *row);
/* The same without data and ranges, and nothing to reset. */
void content_read_meta(sqlite3_stmt *stmt, struct content_row *row);
must_check int content_meta(struct db *db, int64_t id, struct content_row *row);
/* The size bytes that a row itself has, in memory or as a file; of a patch, those that it
 * brings. capture_done() lets go of them. */
must_check int content_own_bytes(const struct store *s, struct db *db,
	const struct content_row *row, uint64_t size, struct capture *out);
/* Add the row, with the bytes that c carries as its own. */
must_check int content_put_data(struct store *s, struct db *db, const struct capture *c,
	struct content_row *row, struct stored *out);
must_check int content_put_whole(struct store *s, struct db *db, const struct capture *c,
	int64_t before, struct stored *out);

/* Every object put so far is on stable storage, with its name. */
must_check int store_sync(struct store *s);

/* object.c: files */
enum { OBJECT_NAME_SIZE = 64 };
void object_name(struct hash128 hash, uint64_t copy, char name[OBJECT_NAME_SIZE]);
/* The object of a file's name in objects/FOLDER; false: it is not one of ours. */
bool object_parse_name(
	unsigned folder, const char *name, struct hash128 *hash, uint64_t *copy);
must_check int object_open(const struct store *s, const struct content_row *row, int *fd);
must_check int object_add(struct store *s, const struct capture *c, uint64_t copy_from,
	struct content_row *row, uint64_t *stored);
must_check int object_add_bytes(struct store *s, const struct capture *c, const void *data,
	size_t size, enum store_codec codec, uint64_t copy_from, struct content_row *row);
must_check int object_unpack(const struct store *s, int in, uint64_t size, int *fd);

/* patch.c: contents as an earlier one with some bytes replaced (docs/SCHEMA.md) */
must_check int patch_put(
	struct store *s, struct db *db, const struct capture *c, struct stored *out);
must_check int patch_open(
	const struct store *s, struct db *db, const struct content_row *row, int *fd);

/* delta.c: small contents by what they have in common with one before. Putting: 1 when it
 * was added, 0 when that is not worth it. */
must_check int delta_put(struct store *s, struct db *db, int64_t before,
	const struct capture *c, struct stored *out);
must_check int delta_put_patch(struct store *s, struct db *db,
	const struct content_row *base, const struct capture *c, struct stored *out);

/* Reading deltas that follow each other: in memory, until it is flushed into the file that
 * the base was in. */
struct delta_run {
	ZSTD_DCtx *dctx;
	char *is, *spare;
	uint64_t size;
	bool ahead; /* of the file */
};

void delta_run_done(struct delta_run *run);
must_check int delta_apply(
	struct delta_run *run, const struct content_row *row, uint64_t base_size, int fd);
must_check int delta_flush(struct delta_run *run, int fd);

/* segment.c: runs of small appends. append: 1 when it was stored as one, 0 when it is too
 * large for that. read: the first size bytes at least, malloc'ed. */
must_check int segment_append(struct store *s, struct db *db,
	const struct content_row *base, const struct capture *c, struct stored *out);
must_check int segment_read(struct db *db, int64_t id, uint64_t size, char **out);

/* sparse.c: copying and comparing, holes stay holes and cost nothing */
must_check int sparse_copy(int in, int out);
must_check int sparse_equal(int a, int b, uint64_t size); /* 1 equal, 0 not */
bool sparse_has_holes(int fd, uint64_t size);
/* Where data starts at or after at (end when there is none), and where it ends. */
void sparse_next_data(int fd, off_t at, off_t end, off_t *from, off_t *to);
must_check int temp_file(int dirfd, int *fd);	    /* unnamed, on disk */
must_check int memory_file(uint64_t size, int *fd); /* unnamed, in memory */
must_check int write_all(int fd, const void *data, size_t size);
must_check int read_all_at(int fd, void *data, size_t size, uint64_t at); /* short: -EIO */

/* The identity of what a file holds, as the journal sees it. */
must_check int content_hash_fd(
	const struct journal_faults *faults, int fd, struct hash128 *hash, uint64_t *size);

#endif
