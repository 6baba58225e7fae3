/*
 * names.c - what is, or was, directly in a folder, from the index of paths.
 *
 * One look-up per name: what lies below a name is stepped over, not read.
 */
#include <string.h>

#include "base/buf.h"
#include "journal/internal.h"

struct entry {
	size_t at, len; /* in names.text */
	bool is_file, is_folder;
};

struct names {
	struct buf text;
	struct entry *entries;
	size_t n, cap;
};

static void names_done(struct names *n)
{
	buf_done(&n->text);
	free(n->entries);
}

static int names_add(struct names *n, const char *name, size_t len, bool file, bool folder)
{
	if (!file && !folder)
		return 0;
	if (n->n == n->cap) {
		size_t cap = n->cap ? 2 * n->cap : 64;
		struct entry *entries = reallocarray(n->entries, cap, sizeof(*entries));

		if (!entries)
			return -ENOMEM;
		n->entries = entries;
		n->cap = cap;
	}
	n->entries[n->n++] = (struct entry){n->text.len, len, file, folder};
	buf_append(&n->text, name, len);
	return buf_failed(&n->text) ? -ENOMEM : 0;
}

static int has_version(struct db *db, int64_t path_id, uint64_t before)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_VERSION_ANY, &s);

	if (r)
		return r;
	bind_int(s, 1, (uint64_t)path_id);
	bind_int(s, 2, before);
	return db_step(db, s);
}

/* Whether anything below folder (which ends in '/') has a version: 1 or 0. */
static int has_below(struct db *db, const struct buf *folder, uint64_t before)
{
	auto_buf end = {0};
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_NAMES_BELOW, &s);

	buf_append(&end, folder->data, folder->len - 1);
	buf_putc(&end, '/' + 1);
	if (r || buf_failed(&end))
		return r ?: -ENOMEM;
	bind_blob(s, 1, folder->data, folder->len);
	bind_blob(s, 2, end.data, end.len);
	bind_int(s, 3, before);
	return db_step(db, s);
}

/* The path at or after at, if it lies in the place: its name goes to n, and at goes
 * behind it. 1, or 0 at the end. */
static int next_name(struct db *db, const struct place *p, struct buf *at, struct names *n)
{
	auto_buf path = {0};
	const char *name, *slash;
	int64_t id = 0;
	bool found;
	int r;
	{
		auto_stmt *s = NULL;

		r = db_stmt(db, STMT_NAMES_NEXT, &s);
		if (r)
			return r;
		bind_blob(s, 1, at->data ?: "", at->len);
		r = db_step(db, s);
		if (r <= 0)
			return r;
		id = sqlite3_column_int64(s, 0);
		buf_append(&path, sqlite3_column_blob(s, 1),
			(size_t)sqlite3_column_bytes(s, 1));
	}
	if (buf_failed(&path))
		return -ENOMEM;
	if (path.len <= p->len || memcmp(path.data, p->path, p->len) != 0)
		return 0;
	name = path.data + p->len;
	slash = memchr(name, '/', path.len - p->len);
	if (slash)
		path.len = (size_t)(slash - path.data) + 1;
	r = slash ? has_below(db, &path, p->before) : has_version(db, id, p->before);
	if (r < 0)
		return r;
	found = r == 1;
	r = names_add(n, name, path.len - p->len - (slash != NULL), !slash && found,
		slash && found);
	buf_reset(at);
	buf_append(at, path.data, path.len - (slash != NULL));
	buf_putc(at, slash ? '/' + 1 : '\0'); /* behind all below it, or just behind it */
	return r ?: buf_failed(at) ? -ENOMEM : 1;
}

static int names_in(struct db *db, const struct place *p, struct names *n)
{
	auto_buf at = {0};
	int r;

	buf_append(&at, p->path, p->len);
	if (buf_failed(&at))
		return -ENOMEM;
	do {
		r = next_name(db, p, &at, n);
	} while (r == 1);
	return r;
}

/* Folders that were moved here count, however little was recorded at their new name. */
static int moved_names(struct db *db, const struct place *p, struct names *n)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_MOVE_INTO, &s);

	if (r)
		return r;
	bind_blob(s, 1, p->path, p->len);
	bind_int(s, 2, p->before);
	while ((r = db_step(db, s)) == 1) {
		const char *to = sqlite3_column_blob(s, 2);
		size_t len = (size_t)sqlite3_column_bytes(s, 2);
		const char *slash;

		if (len <= p->len || memcmp(to, p->path, p->len) != 0)
			return 0;
		slash = memchr(to + p->len, '/', len - p->len);
		len = slash ? (size_t)(slash - to) : len;
		r = names_add(n, to + p->len, len - p->len, false, true);
		if (r)
			return r;
	}
	return r;
}

/* And folders that were moved away from here: of one that nobody ever recorded, that is
 * all that tells of its old name. */
static int left_names(struct db *db, const struct place *p, struct names *n)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_MOVE_OUT_OF, &s);

	if (r)
		return r;
	bind_blob(s, 1, p->path, p->len);
	while ((r = db_step(db, s)) == 1) {
		const char *from = sqlite3_column_blob(s, 0);
		size_t len = (size_t)sqlite3_column_bytes(s, 0);
		const char *slash;

		if (len <= p->len || memcmp(from, p->path, p->len) != 0)
			return 0;
		slash = memchr(from + p->len, '/', len - p->len);
		len = slash ? (size_t)(slash - from) : len;
		r = names_add(n, from + p->len, len - p->len, false, true);
		if (r)
			return r;
	}
	return r;
}

static int entry_compare(const void *a, const void *b, void *text)
{
	const struct entry *x = a, *y = b;
	const char *names = text;
	size_t len = x->len < y->len ? x->len : y->len;
	int c = memcmp(names + x->at, names + y->at, len);

	return c ?: (x->len > y->len) - (x->len < y->len);
}

static int tell_names(struct names *n, name_fn *fn, void *ctx)
{
	if (n->n > 0)
		qsort_r(n->entries, n->n, sizeof(*n->entries), entry_compare, n->text.data);
	for (size_t i = 0; i < n->n;) {
		struct entry e = n->entries[i++];
		int r;

		for (; i < n->n && !entry_compare(&e, &n->entries[i], n->text.data); i++) {
			e.is_file = e.is_file || n->entries[i].is_file;
			e.is_folder = e.is_folder || n->entries[i].is_folder;
		}
		r = fn(n->text.data + e.at, e.len, e.is_file, e.is_folder, ctx);
		if (r)
			return r;
	}
	return 0;
}

int journal_names(struct journal *j, const char *folder, size_t len, name_fn *fn, void *ctx)
{
	auto_pooled p = {j, NULL};
	auto_places *places = NULL;
	struct names n = {0};
	int r;

	queue_flush(j);
	r = pool_take(j, &p.db)
		    ?: places_below(j, p.db, folder, len, PLACES_BEFORE, &places);
	for (size_t i = 0; !r && i < places->n; i++) {
		r = names_in(p.db, &places->at[i], &n);
		if (!r && atomic_load(&j->has_moves))
			r = moved_names(p.db, &places->at[i], &n);
	}
	if (!r)
		r = tell_names(&n, fn, ctx);
	names_done(&n);
	return r;
}

int journal_past_names(struct journal *j, const char *folder, size_t len, uint64_t seq,
	name_fn *fn, void *ctx)
{
	auto_pooled p = {j, NULL};
	auto_places *places = NULL;
	struct names n = {0};
	int r;

	queue_flush(j);
	r = pool_take(j, &p.db) ?: places_of_moment(j, p.db, folder, len, seq, &places);
	for (size_t i = 0; !r && i < places->n; i++) {
		struct place *place = &places->at[i];

		place->before = INT64_MAX; /* what was recorded later may have been there */
		r = names_in(p.db, place, &n);
		if (!r && atomic_load(&j->has_moves))
			r = moved_names(p.db, place, &n) ?: left_names(p.db, place, &n);
	}
	if (!r)
		r = tell_names(&n, fn, ctx);
	names_done(&n);
	return r;
}
