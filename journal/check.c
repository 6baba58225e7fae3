#include "journal/check.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "journal/check_internal.h"
#include "journal/internal.h"
#include "journal/schema.h"

enum {
	NUMBER_MARGIN = 8192, /* a block may have been given out and not be told of */
};

void check_say(struct check *c, enum check_grade grade, const char *fmt, ...)
{
	auto_buf text = {0};
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] == '\n') /* SQLite tells several things at once */
			text.data[i] = ' ';
	c->sums->problems += grade == CHECK_PROBLEM;
	c->sums->mended += grade == CHECK_MENDED;
	c->sums->lost += grade == CHECK_LOST;
	if (!buf_failed(&text))
		c->o->say(grade, text.data, c->o->ctx);
}

void check_path(const struct check *c, const char *name, char path[96])
{
	snprintf(path, 96, "/proc/self/fd/%d/%s", c->o->dirfd, name);
}

/* ---- queries ---- */

int check_rows(struct check *c, const char *sql, int64_t bound, check_row_fn *fn, void *ctx)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(c->db->sql, sql, -1, &s, NULL), r = 0;

	if (rc == SQLITE_OK && sqlite3_bind_parameter_count(s) > 0)
		sqlite3_bind_int64(s, 1, bound);
	while (rc == SQLITE_OK && r == 0 && (r = db_step(c->db, s)) == 1)
		r = fn(c, s, ctx);
	sqlite3_finalize(s);
	return rc == SQLITE_OK ? r : db_errno(c->db, rc);
}

static int take_number(struct check *c, sqlite3_stmt *row, void *ctx)
{
	*(int64_t *)ctx = sqlite3_column_int64(row, 0);
	return 0;
}

int check_number(struct check *c, const char *sql, int64_t bound, int64_t *value)
{
	*value = 0;
	return check_rows(c, sql, bound, take_number, value);
}

static int no_row(struct check *c, sqlite3_stmt *row, void *ctx)
{
	return 0;
}

int check_run(struct check *c, const char *sql, int64_t bound)
{
	return check_rows(c, sql, bound, no_row, NULL);
}

/* ---- the database ---- */

static int tell_integrity(struct check *c, sqlite3_stmt *row, void *ctx)
{
	const char *text = (const char *)sqlite3_column_text(row, 0);
	bool *sound = ctx;

	if (text && !strcmp(text, "ok"))
		*sound = true;
	else
		check_say(c, CHECK_PROBLEM, "journal.db: %s", text ?: "damaged");
	return 0;
}

/* 1 sound, 0 not (and said so), -errno. */
static int check_structure(struct check *c, bool quick)
{
	char sql[64];
	bool sound = false;
	int r;

	snprintf(sql, sizeof(sql), "PRAGMA %s_check(%d)", quick ? "quick" : "integrity",
		INTEGRITY_LINES);
	r = check_rows(c, sql, 0, tell_integrity, &sound);
	if (r == -EUCLEAN) {
		check_say(c, CHECK_PROBLEM, "journal.db: %s", sqlite3_errmsg(c->db->sql));
		return 0;
	}
	return r < 0 ? r : sound;
}

/* ---- numbers and sums ---- */

static const struct {
	const char *name, *highest;
} numbers[] = {
	{"epoch",
		"SELECT max(n) FROM (SELECT max(epoch) AS n FROM version UNION ALL"
		" SELECT max(epoch) FROM event UNION ALL SELECT max(epoch) FROM refusal)"},
	{"seq", "SELECT max(n) FROM (SELECT max(seq) AS n FROM version UNION ALL"
		" SELECT max(seq) FROM event UNION ALL SELECT max(seq) FROM refusal"
		" UNION ALL SELECT max(seq) FROM folder_move"
		" UNION ALL SELECT max(resolved_seq) FROM refusal)"},
	{"refusal", "SELECT max(id) FROM refusal"},
};

static int set_named(struct check *c, const char *sql, const char *name, int64_t value)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(c->db->sql, sql, -1, &s, NULL);

	if (rc == SQLITE_OK) {
		sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
		sqlite3_bind_int64(s, 2, value);
		rc = sqlite3_step(s);
	}
	sqlite3_finalize(s);
	return rc == SQLITE_DONE ? 0 : db_errno(c->db, rc);
}

/* What was given out must not be given out again: an epoch above all (L8). */
static int check_counters(struct check *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		char sql[96];
		int64_t highest, reserved;
		int r;

		snprintf(sql, sizeof(sql), "SELECT reserved FROM counter WHERE name = '%s'",
			numbers[i].name);
		r = check_number(c, numbers[i].highest, 0, &highest)
			    ?: check_number(c, sql, 0, &reserved);
		if (r < 0)
			return r;
		if (reserved >= highest)
			continue;
		check_say(c, CHECK_PROBLEM,
			"%s numbers up to %lld were given out, but only up to %lld are "
			"reserved: they would be given out again",
			numbers[i].name, (long long)highest, (long long)reserved);
		if (!c->o->repair)
			continue;
		r = set_named(c,
			"INSERT INTO counter VALUES (?1, ?2)"
			" ON CONFLICT (name) DO UPDATE SET reserved = ?2",
			numbers[i].name, highest + NUMBER_MARGIN);
		if (r < 0)
			return r;
		check_say(c, CHECK_MENDED, "%s numbers go on after %lld", numbers[i].name,
			(long long)(highest + NUMBER_MARGIN));
	}
	return 0;
}

/* A number that is damaged may be beyond all others together: total() does not stop. */
static const struct {
	const char *name, *sum;
} tallies[] = {
	{"versions", "SELECT count(*) FROM version"},
	{"refusals", "SELECT count(*) FROM refusal"},
	{"contents", "SELECT count(*) FROM content"},
	{"content_bytes", "SELECT cast(total(size) AS INTEGER) FROM content"},
	{"stored_bytes", "SELECT cast(total(max(stored, 0)) AS INTEGER) FROM content"},
	{"object_bytes", "SELECT cast(total(max(stored, 0)) AS INTEGER) FROM content"
			 " WHERE data IS NULL AND segment_id IS NULL"},
	{"kept", "SELECT count(*) FROM refusal WHERE content_id IS NOT NULL"},
	{"resolved", "SELECT count(*) FROM refusal WHERE resolved_seq IS NOT NULL"},
};

static int check_tallies(struct check *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(tallies); i++) {
		char sql[96];
		int64_t sum, told;
		int r;

		snprintf(sql, sizeof(sql), "SELECT value FROM tally WHERE name = '%s'",
			tallies[i].name);
		r = check_number(c, tallies[i].sum, 0, &sum)
			    ?: check_number(c, sql, 0, &told);
		if (r < 0)
			return r;
		if (sum == told)
			continue;
		if (!c->sums->mended && !c->sums->lost) /* else it is our own doing */
			check_say(c, CHECK_NOTE,
				"the figure %s says %lld, counted are %lld%s",
				tallies[i].name, (long long)told, (long long)sum,
				c->o->repair ? "; it is set right" : "");
		if (!c->o->repair)
			continue;
		r = set_named(c,
			"INSERT INTO tally VALUES (?1, ?2)"
			" ON CONFLICT (name) DO UPDATE SET value = ?2",
			tallies[i].name, sum);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- all of it ---- */

static int check_rest(struct check *c)
{
	int64_t versions = 0;
	int r = check_contents(c);

	if (r == 0 && !c->o->repair) /* what is compared is of one moment */
		r = db_exec(c->db, "BEGIN");
	r = r ?: check_number(c, "SELECT count(*) FROM version", 0, &versions);
	c->sums->versions = (uint64_t)versions;
	r = r ?: check_references(c);
	r = r ?: check_counters(c);
	r = r ?: check_tallies(c);
	if (!c->o->repair && !sqlite3_get_autocommit(c->db->sql)) {
		int end = db_exec(c->db, "COMMIT");

		r = r ?: end;
	}
	if (r == 0 && c->alone)
		r = check_orphans(c);
	return r ?: check_tree(c);
}

/* The file is there and of our schema: 1; 0: it is not to be read; -errno. */
static int open_database(struct check *c)
{
	char path[96];
	int64_t have = 0;
	int r;

	if (faccessat(c->o->dirfd, "journal.db", F_OK, 0) < 0)
		return errno == ENOENT ? -ENOENT : -errno;
	check_path(c, "journal.db", path);
	r = db_open(&c->db, c->vfs, path, c->o->repair);
	if (r == 0) {
		sqlite3_db_config(
			c->db->sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
		r = db_int(c->db, "PRAGMA user_version", &have);
	}
	if (r == -EUCLEAN) {
		check_say(c, CHECK_PROBLEM, "journal.db cannot be opened as a database");
		return 0;
	}
	if (r == 0 && have > SCHEMA_VERSION)
		r = -EPROTO;
	if (r == 0 && have < SCHEMA_VERSION && c->o->repair)
		r = schema_migrate(c->db, SCHEMA_VERSION);
	else if (r == 0 && have < SCHEMA_VERSION)
		check_say(c, CHECK_NOTE,
			"an older stompfs wrote this journal; only its structure is "
			"looked at (mount it once, or check with --repair, for the rest)");
	return r < 0 ? r : 1;
}

static int check_all(struct check *c)
{
	int64_t have = 0;
	int r = open_database(c);

	if (r == 1)
		r = check_structure(c, false);
	if (r < 0)
		return r;
	if (r == 0) {
		if (!c->o->repair)
			return 0; /* of what is damaged nothing more can be said */
		c->salvaged = true;
		r = salvage(c);
		if (r < 0)
			return r;
	}
	r = db_int(c->db, "PRAGMA user_version", &have);
	if (r < 0 || have < SCHEMA_VERSION)
		return r;
	if (!c->o->repair)
		return check_rest(c);
	r = db_run(c->db, STMT_BEGIN) ?: check_rest(c);
	if (r == 0)
		r = store_sync(c->store);
	if (r == 0)
		r = db_run(c->db, STMT_COMMIT) ?: db_checkpoint(c->db, true);
	else
		(void)!db_run(c->db, STMT_ROLLBACK);
	return r;
}

int journal_check(const struct check_options *o, struct check_sums *sums)
{
	struct store store = {.dirfd = -1};
	struct check c = {.o = o, .sums = sums, .store = &store, .alone = true};
	sqlite3_vfs vfs;
	char name[32];
	int r = db_vfs_register(&vfs, name, sizeof(name));

	*sums = (struct check_sums){0};
	if (r < 0)
		return r;
	c.vfs = name;
	r = store_init(&store, o->dirfd, NULL);
	if (r == 0)
		r = check_all(&c);
	db_free(c.db);
	store_done(&store);
	sqlite3_vfs_unregister(&vfs);
	return r;
}

int journal_check_open(
	struct journal *j, const struct check_options *o, struct check_sums *sums)
{
	struct check_options own = *o;
	struct check c = {.o = &own, .sums = sums, .store = &j->store, .vfs = j->vfs_name};
	auto_pooled pooled = {.j = j};
	int r;

	*sums = (struct check_sums){0};
	own.repair = false;
	own.dirfd = j->dirfd;
	r = pool_take(j, &pooled.db);
	if (r < 0)
		return r;
	c.db = pooled.db;
	r = check_structure(&c, true);
	return r == 1 ? check_rest(&c) : r;
}
