/*
 * check_content.c - the stored contents: there, and with scrub what their hash says.
 *
 * Walked in small groups, so that a check of an open journal holds no snapshot for long.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/clock.h"
#include "journal/check_internal.h"

enum { GROUP = 256 };

struct checked {
	int64_t id;
	struct hash128 hash;
	uint64_t size, copy;
	bool object, lost, part;
};

struct group {
	struct checked rows[GROUP];
	size_t n;
};

static int take_row(struct check *c, sqlite3_stmt *row, void *ctx)
{
	struct group *g = ctx;

	g->rows[g->n++] = (struct checked){
		.id = sqlite3_column_int64(row, 0),
		.hash = column_hash(row, 1),
		.size = column_int(row, 2),
		.copy = column_int(row, 3),
		.lost = sqlite3_column_int64(row, 4) == CONTENT_LOST,
		.object = sqlite3_column_int(row, 5),
		.part = sqlite3_column_int(row, 6),
	};
	return 0;
}

/* ---- who needs it ---- */

static void tell_user(struct check *c, sqlite3_stmt *row, const char *what)
{
	auto_buf name = {0};

	buf_put_name(
		&name, sqlite3_column_blob(row, 0), (size_t)sqlite3_column_bytes(row, 0));
	if (!buf_failed(&name))
		check_say(c, CHECK_LOST, "%s@%lld: %s", name.data,
			(long long)sqlite3_column_int64(row, 1), what);
}

static int lose_version(struct check *c, sqlite3_stmt *row, void *ctx)
{
	(void)ctx;
	tell_user(c, row,
		"the content of this version is lost; who made it, and when, is "
		"still told");
	return 0;
}

static int lose_refusal(struct check *c, sqlite3_stmt *row, void *ctx)
{
	(void)ctx;
	tell_user(c, row, "the refused bytes of the conflict of this number are lost");
	return 0;
}

static int add_event(struct check *c, int64_t id)
{
	sqlite3_stmt *s = NULL;
	int rc, r;

	r = check_run(c,
		"INSERT INTO counter VALUES ('seq', ?1) ON CONFLICT (name)"
		" DO UPDATE SET reserved = reserved + ?1",
		1);
	if (r < 0)
		return r;
	rc = sqlite3_prepare_v2(c->db->sql,
		"INSERT INTO event (seq, time_ns, kind, path, epoch, number, text)"
		" SELECT (SELECT reserved FROM counter WHERE name = 'seq'), ?2, 'lost', "
		"p.path, v.epoch, v.number,"
		" 'the content of this version is damaged and could not be had back'"
		" FROM version v JOIN path p ON p.id = v.path_id WHERE v.content_id = ?1",
		-1, &s, NULL);

	if (rc == SQLITE_OK) {
		sqlite3_bind_int64(s, 1, id);
		sqlite3_bind_int64(s, 2, clock_wall_ns(clock_system()));
		rc = sqlite3_step(s);
	}
	sqlite3_finalize(s);
	return rc == SQLITE_DONE ? 0 : db_errno(c->db, rc);
}

/* ---- mending ---- */

struct source {
	const struct checked *row;
	int fd; /* a file of the tree with just that content, or -1 */
};

/* Does the file of that path still hold the content? */
static int try_file(struct check *c, sqlite3_stmt *row, void *ctx)
{
	struct source *s = ctx;
	size_t len;
	auto_free char *path = column_bytes(row, 0, &len);
	auto_close int fd = path ? check_open_file(c, path) : -ENOMEM;
	struct hash128 hash;
	uint64_t size;

	if (s->fd >= 0 || fd < 0 || content_hash_fd(NULL, fd, &hash, &size) < 0 ||
		size != s->row->size || !hash128_equal(hash, s->row->hash))
		return 0;
	s->fd = steal_fd(&fd);
	return 0;
}

/* Store anew what a file has, and let everything speak of that. */
static int store_again(struct check *c, const struct checked *row, int file)
{
	struct capture content = CAPTURE_NONE;
	struct stored stored;
	sqlite3_stmt *s = NULL;
	int r = temp_file(c->store->dirfd, &content.fd) ?: sparse_copy(file, content.fd);

	content.hash = row->hash;
	content.size = row->size;
	if (r == 0)
		r = store_put(c->store, c->db, &content, 0, &stored);
	for (int i = 0; r == 0 && i < 3; i++) {
		static const char *const sql[] = {
			"UPDATE content SET base_id = ?2 WHERE base_id = ?1",
			"UPDATE version SET content_id = ?2 WHERE content_id = ?1",
			"UPDATE refusal SET content_id = ?2 WHERE content_id = ?1"};
		int rc = sqlite3_prepare_v2(c->db->sql, sql[i], -1, &s, NULL);

		if (rc == SQLITE_OK) {
			sqlite3_bind_int64(s, 1, row->id);
			sqlite3_bind_int64(s, 2, stored.id);
			rc = sqlite3_step(s);
		}
		sqlite3_finalize(s);
		r = rc == SQLITE_DONE ? 0 : db_errno(c->db, rc);
	}
	capture_done(&content);
	return r;
}

/* What is damaged goes to .stomp/damaged, for whoever can still make something of it. */
static int set_aside(struct check *c, const struct checked *row)
{
	char object[OBJECT_NAME_SIZE], to[80];
	auto_close int folder = -1;
	sqlite3_blob *blob = NULL;
	int r = 0;

	if (mkdirat(c->o->dirfd, "damaged", 0700) < 0 && errno != EEXIST)
		return -errno;
	folder = openat(c->o->dirfd, "damaged", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return -errno;
	snprintf(to, sizeof(to), "content-%lld", (long long)row->id);
	if (row->object) {
		object_name(row->hash, row->copy, object);
		r = renameat(c->store->dirfd, object, folder, to) < 0 ? -errno : 0;
		return r == -ENOENT ? 0 : r;
	}
	if (sqlite3_blob_open(c->db->sql, "main", "content", "data", row->id, 0, &blob) ==
		SQLITE_OK) {
		int size = sqlite3_blob_bytes(blob);
		auto_free char *bytes = malloc((size_t)size + 1);
		auto_close int fd =
			openat(folder, to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

		r = !bytes ? -ENOMEM : fd < 0 ? -errno : 0;
		if (r == 0 && sqlite3_blob_read(blob, bytes, size, 0) == SQLITE_OK)
			r = write_all(fd, bytes, (size_t)size);
	}
	sqlite3_blob_close(blob);
	return r;
}

static int mend(struct check *c, const struct checked *row)
{
	struct source source = {.row = row, .fd = -1};
	char hex[33];
	int r = check_rows(c,
		"SELECT DISTINCT p.path FROM version v JOIN path p ON p.id = v.path_id"
		" WHERE v.content_id = ?1",
		row->id, try_file, &source);

	hash128_hex(row->hash, hex);
	if (r == 0 && source.fd >= 0) {
		r = store_again(c, row, source.fd);
		close(source.fd);
		r = r ?: set_aside(c, row);
		r = r ?: check_run(c, "DELETE FROM content WHERE id = ?1", row->id);
		if (r == 0)
			check_say(c, CHECK_MENDED,
				"content %s was stored again from the file that has it",
				hex);
		return r;
	}
	r = r ?: set_aside(c, row);
	/* It builds on nothing any more; its copy is free among the whole ones. */
	r = r
		    ?: check_run(c,
			       "UPDATE content SET stored = -1, data = NULL, ranges = NULL,"
			       " copy = CASE WHEN base_id IS NULL THEN copy ELSE"
			       " 1000000 + id END, base_id = NULL, segment_id = NULL"
			       " WHERE id = ?1",
			       row->id);
	r = r
		    ?: check_rows(c,
			       "SELECT p.path, v.number FROM version v JOIN path p"
			       " ON p.id = v.path_id WHERE v.content_id = ?1",
			       row->id, lose_version, NULL);
	r = r
		    ?: check_rows(c, "SELECT path, id FROM refusal WHERE content_id = ?1",
			       row->id, lose_refusal, NULL);
	return r ?: add_event(c, row->id);
}

#define CHECKED_COLUMNS                                                                    \
	"id, hash, size, copy, stored, data IS NULL AND segment_id IS NULL,"               \
	" base_id IS NOT NULL"

int mend_content(struct check *c, int64_t id)
{
	auto_free struct group *g = calloc(1, sizeof(*g));
	int r = g ? 0 : -ENOMEM;

	r = r
		    ?: check_rows(c,
			       "SELECT " CHECKED_COLUMNS " FROM content WHERE id = ?1", id,
			       take_row, g);
	return r || g->n == 0 ? r : mend(c, &g->rows[0]);
}

/* ---- looking ---- */

static bool object_is_there(struct check *c, const struct checked *row)
{
	char name[OBJECT_NAME_SIZE];
	struct stat st;

	object_name(row->hash, row->copy, name);
	return fstatat(c->store->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A version that has the content, so that who reads it knows what is damaged. */
static int first_user(struct check *c, sqlite3_stmt *row, void *ctx)
{
	struct buf *b = ctx;

	(void)c;
	if (b->len == 0) {
		buf_puts(b, ", ");
		buf_put_name(b, sqlite3_column_blob(row, 0),
			(size_t)sqlite3_column_bytes(row, 0));
		buf_printf(b, "@%lld", (long long)sqlite3_column_int64(row, 1));
	}
	return 0;
}

static int tell_problem(struct check *c, const struct checked *row, const char *what)
{
	auto_buf user = {0};
	char hex[33];
	int r = check_rows(c,
		"SELECT p.path, v.number FROM version v JOIN path p ON p.id = v.path_id"
		" WHERE v.content_id = ?1 ORDER BY v.seq LIMIT 1",
		row->id, first_user, &user);

	hash128_hex(row->hash, hex);
	check_say(c, CHECK_PROBLEM, "content %s (%llu bytes%s) is %s", hex,
		(unsigned long long)row->size, buf_failed(&user) ? "" : user.data ?: "",
		what);
	return r;
}

static int check_one(struct check *c, const struct checked *row)
{
	auto_close int fd = -1;
	/* What builds on something that is lost is lost with it, or it is in the tree. */
	bool read = c->o->scrub || (row->part && c->lost_any);
	int r = 0;

	c->sums->contents++;
	c->lost_any = c->lost_any || row->lost;
	if (row->lost || row->size == 0)
		return 0;
	if (row->object && !object_is_there(c, row))
		r = -ENOENT;
	else if (read)
		r = store_open(c->store, c->db, row->id, &fd);
	c->sums->contents_read += read && r == 0;
	c->sums->bytes_read += read && r == 0 ? row->size : 0;
	if (r == 0)
		return 0;
	if (r != -EIO && r != -ENOENT && r != -EUCLEAN)
		return r;
	c->lost_any = true;
	r = tell_problem(c, row, r == -ENOENT ? "missing" : "damaged");
	return r == 0 && c->o->repair ? mend(c, row) : r;
}

int check_contents(struct check *c)
{
	auto_free struct group *g = malloc(sizeof(*g));
	int64_t after = 0;
	int r = g ? 0 : -ENOMEM;

	while (r == 0) {
		g->n = 0;
		r = check_rows(c,
			"SELECT " CHECKED_COLUMNS " FROM content WHERE id > ?1"
			" ORDER BY id LIMIT 256",
			after, take_row, g);
		for (size_t i = 0; r == 0 && i < g->n; i++) {
			r = check_one(c, &g->rows[i]);
			if (r == 0 && c->o->pace &&
				!c->o->pace(g->rows[i].size, c->o->ctx)) {
				c->sums->ended_early = true;
				return 0;
			}
		}
		if (g->n == 0)
			break;
		after = g->rows[g->n - 1].id;
	}
	return r;
}
