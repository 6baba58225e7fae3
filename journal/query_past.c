/*
 * query_past.c - what was at a path at a moment of the past.
 *
 * Back from the moment: the newest row, through the renames that brought the path there.
 * Where there is none, forward from it: the first thing that happened to the path later
 * tells what it had been. An INITIAL version is what was there all the time before (V2);
 * one that made it says that nothing was; a rename of its folder leads on to another name.
 */
#include <string.h>

#include "journal/internal.h"

void past_done(struct past *past)
{
	version_row_done(&past->row);
	free(past->now);
	past->now = NULL;
}

static bool is_gone(const struct version *v)
{
	return v->kind == VERSION_DELETE || v->kind == VERSION_RMDIR;
}

/* The first row of just this path after that seq: 1 or 0. */
static int first_row(
	struct db *db, const struct place *p, uint64_t after, struct version_row *row)
{
	auto_stmt *s = NULL;
	struct version v;
	int64_t id;
	int r = path_find(db, p->path, p->len, &id);

	if (r > 0)
		r = db_stmt(db, STMT_VERSION_AFTER, &s) ?: 1;
	if (r <= 0)
		return r;
	bind_int(s, 1, (uint64_t)id);
	bind_int(s, 2, seq_bound(after));
	r = db_step(db, s);
	if (r <= 0)
		return r;
	row_read_version(s, &v);
	return version_row_copy(&v, row) ?: 1;
}

/* What the first row of a path says of the time before it. */
static int judge_first(struct past *past)
{
	const struct version *v = &past->row.v;

	if (v->kind == VERSION_INITIAL || v->kind == VERSION_EXTERNAL ||
		(v->kind == VERSION_RMDIR && (v->mode & 0777)))
		return PAST_VERSION;
	/* What made it was collected: this is the oldest of it that there is. */
	if ((v->flags & VERSION_GAP) && !is_gone(v))
		return PAST_VERSION;
	version_row_done(&past->row);
	return PAST_ABSENT;
}

static int take_now(struct place *p, struct past *past)
{
	past->now = p->path;
	past->now_len = p->len;
	p->path = NULL;
	return PAST_UNCHANGED;
}

static int look_ahead(struct journal *j, struct db *db, struct place *p, uint64_t after,
	struct past *past)
{
	for (;;) {
		auto_place to = {0};
		uint64_t comes = UINT64_MAX, goes = UINT64_MAX;
		int r = first_row(db, p, after, &past->row);
		bool row = r == 1;

		if (r >= 0 && atomic_load(&j->has_moves)) {
			r = place_goes_to(db, p, after, &to);
			goes = r == 1 ? to.before : goes;
			if (r >= 0)
				r = place_arrives(db, p, after, &comes);
		}
		if (r < 0)
			return r;
		if (row && past->row.v.seq < goes && past->row.v.seq < comes)
			return judge_first(past);
		version_row_done(&past->row);
		if (goes == UINT64_MAX && comes == UINT64_MAX)
			return take_now(p, past);
		if (comes < goes)
			return PAST_ABSENT; /* what came later found nothing there */
		place_done(p);
		*p = to;
		to.path = NULL;
		after = goes;
	}
}

static int look(struct journal *j, struct db *db, const char *path, size_t len,
	uint64_t seq, struct past *past)
{
	auto_place back = {0}, ahead = {0};
	uint64_t before = seq < INT64_MAX ? seq + 1 : INT64_MAX;
	int r = place_init(&back, path, len, before) ?: place_init(&ahead, path, len, seq);

	*past = (struct past){0};
	if (r)
		return r;
	r = place_find_newest(j, db, &back, true, &past->row);
	if (r == 1 && is_gone(&past->row.v)) {
		version_row_done(&past->row);
		return PAST_ABSENT;
	}
	if (r)
		return r < 0 ? r : PAST_VERSION;
	return look_ahead(j, db, &ahead, seq, past);
}

int journal_past(
	struct journal *j, const char *path, size_t len, uint64_t seq, struct past *past)
{
	auto_pooled p = {j, NULL};
	int r = folders_settle(j) ?: pool_take(j, &p.db);

	*past = (struct past){0};
	if (r)
		return r;
	r = look(j, p.db, path, len, seq, past);
	if (r == PAST_UNCHANGED && atomic_load(&j->oldest_seq) != UINT64_MAX) {
		past_done(past); /* what would tell may be in the queue */
		queue_flush(j);
		r = look(j, p.db, path, len, seq, past);
	}
	if (r < 0)
		past_done(past);
	return r;
}

/* Whether a file that was there was itself renamed later, and where to: 1 or 0. */
static int renamed_to(struct db *db, struct place *p, uint64_t after)
{
	struct version_row row = {0};
	struct place to = {0};
	int r;

	p->before = INT64_MAX;
	r = place_newest_row(db, p, &row);
	if (r <= 0)
		return r;
	r = 0;
	if (row.v.kind == VERSION_DELETE && row.v.from_path && row.v.seq > after)
		r = place_init(&to, row.v.from_path, row.v.from_path_len, row.v.seq) ?: 1;
	version_row_done(&row);
	if (r == 1) {
		place_done(p);
		*p = to;
	}
	return r;
}

enum { RENAMES_MAX = 64 }; /* that are followed: two names may take turns for ever */

static int path_of_today(struct journal *j, struct db *db, struct place *p, uint64_t after)
{
	for (int i = 0; i < RENAMES_MAX; i++) {
		struct place to = {0};
		uint64_t comes = UINT64_MAX;
		int r = 0;

		if (atomic_load(&j->has_moves)) {
			r = place_arrives(db, p, after, &comes);
			if (r >= 0)
				r = place_goes_to(db, p, after, &to);
		}
		if (r == 1 && to.before <= comes) {
			after = to.before;
			place_done(p);
			*p = to;
			continue;
		}
		place_done(&to);
		if (r < 0 || comes != UINT64_MAX)
			return r < 0 ? r : 0; /* another folder came in its place */
		r = renamed_to(db, p, after);
		if (r <= 0)
			return r < 0 ? r : 1;
		after = p->before;
	}
	return 0;
}

int journal_past_path(struct journal *j, const char *path, size_t len, uint64_t seq,
	char **now, size_t *now_len)
{
	auto_pooled p = {j, NULL};
	auto_place at = {0};
	int r = folders_settle(j) ?: pool_take(j, &p.db);

	if (!r)
		r = place_init(&at, path, len, seq) ?: path_of_today(j, p.db, &at, seq);
	if (r < 0)
		return r;
	*now = at.path;
	*now_len = at.len;
	at.path = NULL;
	return r;
}
