/*
 * salvage.c - a damaged journal.db set aside, and what can be read of it read.
 *
 * Rows are taken table by table in the order of their ids. Where a page cannot be read
 * the ids after it are tried, so that a page costs what it held. A path, a writer or a
 * content whose row is gone is looked for in the index that has it too. What is then still
 * missing is not guessed: versions of a path that nobody can name any more are kept under
 * `.stomp-lost/path-ID`, versions of an unknown writer have none, and a content that is in
 * no row and no file is marked as lost.
 *
 * When even the list of tables is gone (it lies in the first pages, which are the same in
 * every journal of this schema), it is taken from a fresh journal.
 */
#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "journal/check_internal.h"
#include "journal/schema.h"

enum {
	COLUMNS_MAX = 40,
	PROBES_MAX = 1 << 16, /* ids tried one by one behind a page that is damaged */
	PAGE = 4096,
	PAGES_FRESH_MAX = 256,
	TABLES_MAX = 64,
};

struct salvage {
	struct check *c;
	struct db *old, *new;
	char old_path[96];
	uint64_t rows, gaps;
};

/* ---- one table ---- */

struct table_plan {
	char name[64];
	struct buf columns, marks; /* "a, b", "?2, ?3" */
	unsigned n;
};

static int plan_columns(sqlite3 *sql, struct table_plan *t)
{
	sqlite3_stmt *s = NULL;
	char pragma[128];
	int rc;

	snprintf(pragma, sizeof(pragma), "PRAGMA table_info('%s')", t->name);
	rc = sqlite3_prepare_v2(sql, pragma, -1, &s, NULL);
	while (rc == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW && t->n < COLUMNS_MAX) {
		buf_printf(&t->columns, "%s\"%s\"", t->n ? ", " : "",
			(const char *)sqlite3_column_text(s, 1));
		buf_printf(&t->marks, "%s?%u", t->n ? ", " : "", t->n + 2);
		t->n++;
	}
	sqlite3_finalize(s);
	return rc == SQLITE_OK && t->n && !buf_failed(&t->columns) ? 0 : -EIO;
}

static sqlite3_stmt *prepare(struct db *db, const struct buf *sql)
{
	sqlite3_stmt *s = NULL;

	if (buf_failed(sql) ||
		sqlite3_prepare_v2(db->sql, sql->data, -1, &s, NULL) != SQLITE_OK)
		return NULL;
	return s;
}

/* 1: the row is in the new table; 0: it breaks a rule there, so it is none; -errno. */
static int put_row(struct salvage *sv, sqlite3_stmt *from, sqlite3_stmt *to, unsigned n)
{
	int rc;

	sqlite3_reset(to);
	sqlite3_bind_int64(to, 1, sqlite3_column_int64(from, 0));
	for (unsigned i = 0; i < n; i++)
		sqlite3_bind_value(to, (int)i + 2, sqlite3_column_value(from, (int)i + 1));
	rc = sqlite3_step(to);
	sqlite3_reset(to);
	if (rc == SQLITE_DONE)
		return sqlite3_changes(sv->new->sql) > 0;
	return (rc & 0xff) == SQLITE_CONSTRAINT ? 0 : db_errno(sv->new, rc);
}

/* The id of the last row that can be read from the end, or INT64_MAX. */
static int64_t highest_id(struct salvage *sv, const char *table)
{
	sqlite3_stmt *s = NULL;
	char sql[128];
	int64_t id = INT64_MAX;

	snprintf(sql, sizeof(sql), "SELECT rowid FROM \"%s\" ORDER BY rowid DESC LIMIT 1",
		table);
	if (sqlite3_prepare_v2(sv->old->sql, sql, -1, &s, NULL) == SQLITE_OK)
		switch (sqlite3_step(s)) {
		case SQLITE_ROW:
			id = sqlite3_column_int64(s, 0);
			break;
		case SQLITE_DONE:
			id = 0;
			break;
		default:
			break;
		}
	sqlite3_finalize(s);
	return id;
}

/* From after on, until there is no more (0) or it cannot be read (-EUCLEAN). */
static int copy_from(struct salvage *sv, sqlite3_stmt *from, sqlite3_stmt *to, unsigned n,
	int64_t *after)
{
	int rc;

	sqlite3_reset(from);
	sqlite3_bind_int64(from, 1, *after);
	while ((rc = sqlite3_step(from)) == SQLITE_ROW) {
		int r = put_row(sv, from, to, n);

		if (r < 0)
			return r;
		*after = sqlite3_column_int64(from, 0);
		sv->rows += r == 1;
	}
	sqlite3_reset(from);
	return rc == SQLITE_DONE ? 0 : -EUCLEAN;
}

/* Behind a page that cannot be read: the ids one by one, then in growing steps. */
static int64_t next_try(int64_t at, unsigned probe)
{
	int64_t step = probe < PROBES_MAX ? 1 : 1LL << ((probe - PROBES_MAX) & 31);

	return at > INT64_MAX - step ? INT64_MAX : at + step;
}

static int copy_table(struct salvage *sv, struct table_plan *t)
{
	auto_buf select = {0}, insert = {0};
	int64_t last = highest_id(sv, t->name), after = INT64_MIN;
	sqlite3_stmt *from, *to;
	unsigned probe = 0;
	int r = 0;

	buf_printf(&select,
		"SELECT rowid, %s FROM \"%s\" NOT INDEXED WHERE rowid > ?1"
		" ORDER BY rowid",
		t->columns.data, t->name);
	buf_printf(&insert, "INSERT OR IGNORE INTO \"%s\" (%s) VALUES (%s)", t->name,
		t->columns.data, t->marks.data);
	from = prepare(sv->old, &select);
	to = prepare(sv->new, &insert);
	while (from && to) {
		int64_t began = after;

		r = copy_from(sv, from, to, t->n, &after);
		if (r != -EUCLEAN)
			break;
		sv->gaps += probe == 0 || after != began;
		probe = after != began ? 0 : probe + 1;
		after = after < 0 ? 0 : next_try(after, probe);
		r = 0;
		if (after >= last || probe > PROBES_MAX + 62)
			break;
	}
	sqlite3_finalize(from);
	sqlite3_finalize(to);
	return r;
}

/* ---- every table ---- */

static int list_tables(struct db *db, struct table_plan *plans, size_t *n)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(db->sql,
		"SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE"
		" 'sqlite_%' AND sql NOT LIKE '%WITHOUT ROWID%' ORDER BY rowid",
		-1, &s, NULL);

	*n = 0;
	while (rc == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW && *n < TABLES_MAX) {
		plans[*n] = (struct table_plan){0};
		snprintf(plans[*n].name, sizeof(plans->name), "%s",
			(const char *)sqlite3_column_text(s, 0));
		(*n)++;
	}
	sqlite3_finalize(s);
	return db_errno(db, rc);
}

static int copy_tables(struct salvage *sv)
{
	auto_free struct table_plan *plans = calloc(TABLES_MAX, sizeof(*plans));
	size_t n = 0;
	int r = plans ? list_tables(sv->new, plans, &n) : -ENOMEM;

	for (size_t i = 0; i < n; i++) {
		r = r ?: plan_columns(sv->new->sql, &plans[i]);
		r = r ?: copy_table(sv, &plans[i]);
		buf_done(&plans[i].columns);
		buf_done(&plans[i].marks);
	}
	return r;
}

/* Rows that an index tells of as well; what it does not have is not known. */
static const struct {
	const char *select, *insert;
	unsigned n;
} indexed[] = {
	{"SELECT id, path FROM path INDEXED BY sqlite_autoindex_path_1 ORDER BY path",
		"INSERT OR IGNORE INTO path (id, path) VALUES (?1, ?2)", 1},
	{"SELECT id, name FROM writer INDEXED BY sqlite_autoindex_writer_1 ORDER BY name",
		"INSERT OR IGNORE INTO writer (id, name, uid, first_ns)"
		" VALUES (?1, ?2, 4294967295, 0)",
		1},
	{"SELECT id, hash, size, copy FROM content INDEXED BY content_whole"
	 " WHERE base_id IS NULL ORDER BY hash, size, copy",
		"INSERT OR IGNORE INTO content (id, hash, size, copy, codec, stored,"
		" identity, weight) VALUES (?1, ?2, ?3, ?4, 0, 0, 1, 0)",
		3},
};

static int copy_indexes(struct salvage *sv)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(indexed) && r >= 0; i++) {
		sqlite3_stmt *from = NULL, *to = NULL;

		sqlite3_prepare_v2(sv->old->sql, indexed[i].select, -1, &from, NULL);
		sqlite3_prepare_v2(sv->new->sql, indexed[i].insert, -1, &to, NULL);
		while (from && to && r >= 0 && sqlite3_step(from) == SQLITE_ROW) {
			r = put_row(sv, from, to, indexed[i].n);
			sv->rows += r == 1;
		}
		sqlite3_finalize(from);
		sqlite3_finalize(to);
	}
	return r < 0 ? r : 0;
}

/* ---- putting it together again ---- */

/* What a content's row alone knew is found out from its file, or it is lost. */
static int settle_content(struct check *c, sqlite3_stmt *row, void *ctx)
{
	struct content_row content = {
		.id = sqlite3_column_int64(row, 0),
		.hash = column_hash(row, 1),
		.size = column_int(row, 2),
		.copy = column_int(row, 3),
	};
	uint64_t *found = ctx;
	char sql[96];

	for (int codec = CODEC_RAW; codec <= CODEC_ZSTD; codec++) {
		auto_close int fd = -1;
		struct hash128 hash;
		uint64_t size;

		content.codec = (enum store_codec)codec;
		if (object_open(c->store, &content, &fd) < 0 ||
			content_hash_fd(NULL, fd, &hash, &size) < 0 ||
			size != content.size || !hash128_equal(hash, content.hash))
			continue;
		++*found;
		snprintf(sql, sizeof(sql),
			"UPDATE content SET codec = %d, stored = size WHERE id = ?1",
			codec);
		return check_run(c, sql, content.id);
	}
	return 0; /* check_contents() finds it missing, and tries the tree */
}

static int put_together(struct salvage *sv)
{
	struct check *c = sv->c;
	uint64_t found = 0;
	int r = settle_references(c);

	/* the safe side: numbers that may have been given out stay so */
	r = r
		    ?: check_run(c,
			       "INSERT OR IGNORE INTO counter SELECT 'epoch',"
			       " coalesce(max(epoch), 0) + 8192 FROM version",
			       0);
	r = r
		    ?: check_rows(c,
			       "SELECT id, hash, size, copy FROM content WHERE stored = 0 "
			       "AND"
			       " size > 0 AND data IS NULL AND base_id IS NULL",
			       0, settle_content, &found);
	if (r == 0 && found)
		check_say(c, CHECK_MENDED,
			"%llu contents whose rows were gone have their "
			"files in objects/ and are back",
			(unsigned long long)found);
	return r;
}

/* ---- the files ---- */

/* journal.db and its log out of the way, under one number. */
static int set_database_aside(struct salvage *sv, char name[64])
{
	static const char *const ends[] = {"", "-wal", "-shm"};
	struct check *c = sv->c;
	struct stat st;
	int n = 1;

	do
		snprintf(name, 64, "journal.db.damaged-%d", n);
	while (n++ < 10000 && fstatat(c->o->dirfd, name, &st, 0) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		char from[64], to[80];

		snprintf(from, sizeof(from), "journal.db%s", ends[i]);
		snprintf(to, sizeof(to), "%s%s", name, ends[i]);
		if (renameat(c->o->dirfd, from, c->o->dirfd, to) < 0 && errno != ENOENT)
			return -errno;
	}
	return fsync(c->o->dirfd) < 0 ? -errno : 0;
}

static int open_fresh(struct salvage *sv)
{
	char path[96];
	int r;

	check_path(sv->c, "journal.db", path);
	r = db_open(&sv->new, sv->c->vfs, path, true);
	r = r ?: schema_migrate(sv->new, SCHEMA_VERSION);
	return r ?: db_exec(sv->new, "PRAGMA foreign_keys=OFF");
}

static bool list_is_readable(struct salvage *sv)
{
	int64_t n = 0;

	return db_int(sv->old,
		       "SELECT count(*) FROM sqlite_master WHERE name IN"
		       " ('path', 'version', 'content')",
		       &n) == 0 &&
	       n == 3;
}

/* Which pages of an empty journal hold the list of tables: all but the tables' own. */
static int list_pages(struct salvage *sv, bool own[PAGES_FRESH_MAX], int64_t *n)
{
	sqlite3_stmt *s = NULL;
	int r = db_int(sv->new, "PRAGMA page_count", n), rc;

	if (r < 0 || *n >= PAGES_FRESH_MAX)
		return r < 0 ? r : -E2BIG;
	rc = sqlite3_prepare_v2(
		sv->new->sql, "SELECT rootpage FROM sqlite_master", -1, &s, NULL);
	while (rc == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW) {
		int64_t root = sqlite3_column_int64(s, 0);

		if (root > 0 && root < PAGES_FRESH_MAX)
			own[root] = true;
	}
	sqlite3_finalize(s);
	return db_errno(sv->new, rc);
}

/* A copy of the damaged file with the list of tables of the fresh one. */
static int transplant_list(struct salvage *sv, const char *name)
{
	static const char copy_name[] = "journal.db.salvage";
	struct check *c = sv->c;
	auto_close int from = openat(c->o->dirfd, name, O_RDONLY | O_CLOEXEC);
	auto_close int fresh = -1, to = -1;
	bool own[PAGES_FRESH_MAX] = {0};
	char page[PAGE];
	struct stat st;
	int64_t n = 0;
	int r = from < 0 ? -errno : db_checkpoint(sv->new, true);

	r = r ?: list_pages(sv, own, &n);
	fresh = openat(c->o->dirfd, "journal.db", O_RDONLY | O_CLOEXEC);
	to = openat(c->o->dirfd, copy_name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (r < 0 || fresh < 0 || to < 0 || fstat(from, &st) < 0)
		return r < 0 ? r : -errno;
	r = sparse_copy(from, to);
	for (int64_t i = 1; r == 0 && i <= n; i++) {
		off_t at = (off_t)(i - 1) * PAGE;

		if (own[i])
			continue;
		r = read_all_at(fresh, page, PAGE, (uint64_t)at);
		if (r == 0 && i == 1) { /* the header: as many pages as there are */
			uint32_t pages = htobe32((uint32_t)(st.st_size / PAGE));

			memcpy(page + 28, &pages, sizeof(pages));
			page[18] = page[19] = 1; /* no log belongs to the copy */
			memset(page + 32, 0, 8); /* its list of free pages is not known */
		}
		if (r == 0 && pwrite(to, page, PAGE, at) != PAGE)
			r = -EIO;
	}
	check_path(c, copy_name, sv->old_path);
	return r;
}

/* True: the damaged database can be asked. */
static bool open_damaged(struct salvage *sv, const char *name)
{
	db_free(sv->old);
	sv->old = NULL;
	check_path(sv->c, name, sv->old_path);
	if (db_open(&sv->old, sv->c->vfs, sv->old_path, false) == 0 && list_is_readable(sv))
		return true;
	db_free(sv->old);
	sv->old = NULL;
	if (transplant_list(sv, name) < 0 ||
		db_open(&sv->old, sv->c->vfs, sv->old_path, false) < 0)
		return false;
	return list_is_readable(sv);
}

static int read_damaged(struct salvage *sv)
{
	int r = db_run(sv->new, STMT_BEGIN);

	/* One look at locks and log, not one at each of very many tries; it ends with
	 * sv->old. Where that is denied, each try does it all the same. */
	(void)!db_exec(sv->old, "BEGIN");
	if (r == 0) {
		r = copy_tables(sv) ?: copy_indexes(sv);
		r = r ?: put_together(sv);
		if (r == 0)
			r = db_run(sv->new, STMT_COMMIT);
		else
			(void)!db_run(sv->new, STMT_ROLLBACK);
	}
	return r;
}

int salvage(struct check *c)
{
	struct salvage sv = {.c = c};
	char name[64];
	int r;

	db_free(c->db);
	c->db = NULL;
	r = set_database_aside(&sv, name) ?: open_fresh(&sv);
	if (r < 0) {
		db_free(sv.new);
		return r;
	}
	c->db = sv.new;
	check_say(c, CHECK_MENDED, "the damaged database is set aside as .stomp/%s", name);
	if (open_damaged(&sv, name))
		r = read_damaged(&sv);
	if (r == 0 && sv.rows)
		check_say(c, CHECK_MENDED, "%llu rows of it are in a fresh journal.db%s",
			(unsigned long long)sv.rows,
			sv.gaps ? "; some pages could not be read, and what they held "
				  "alone is gone"
				: "");
	else if (r == 0)
		check_say(c, CHECK_LOST,
			"nothing of it can be read: the history begins anew");
	db_free(sv.old);
	unlinkat(c->o->dirfd, "journal.db.salvage", 0);
	unlinkat(c->o->dirfd, "journal.db.salvage-wal", 0);
	unlinkat(c->o->dirfd, "journal.db.salvage-shm", 0);
	return r ?: db_exec(c->db, "PRAGMA foreign_keys=ON");
}
