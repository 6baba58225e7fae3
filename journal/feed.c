/*
 * feed.c - what was recorded, in the order in which it was written.
 *
 * Seqs are given out before their rows are queued, so a row can be written after one of a
 * greater seq. Row ids grow as the one writer's thread inserts: three of them, one of each
 * table, are a place that nothing slips behind. (The newest row of a table is never
 * collected, so an id is not given out again.)
 */
#include "journal/internal.h"

int journal_feed_from(struct journal *j, uint64_t after_seq, struct feed_place *at)
{
	auto_pooled p = {j, NULL};
	auto_stmt *s = NULL;
	int r = pool_take(j, &p.db) ?: db_stmt(p.db, STMT_FEED_FROM, &s);

	if (r)
		return r;
	bind_int(s, 1, seq_bound(after_seq));
	r = db_step(p.db, s);
	if (r <= 0)
		return r ?: -EIO;
	*at = (struct feed_place){.version = column_int(s, 0),
		.event = column_int(s, 1),
		.move = column_int(s, 2)};
	return 0;
}

/* A table of which the statement stands at the next row to be told, if any. */
struct strand {
	sqlite3_stmt *s;
	uint64_t id, seq;
	uint64_t *place;
	bool ended;
};

enum { FEED_VERSIONS, FEED_EVENTS, FEED_MOVES, FEED_STRANDS };

/* Which column has the id, and which the seq. */
static const int id_column[FEED_STRANDS] = {0, 8, 0}, seq_column[FEED_STRANDS] = {1, 0, 1};

static int step(struct db *db, struct strand *t, unsigned kind)
{
	int r = db_step(db, t->s);

	t->ended = r != 1;
	if (r == 1) {
		t->id = column_int(t->s, id_column[kind]);
		t->seq = column_int(t->s, seq_column[kind]);
	}
	return r < 0 ? r : 0;
}

static int tell(const struct strand *t, unsigned kind, const struct feed_place *at,
	feed_fn *fn, void *ctx)
{
	struct feed_row row = {.seq = t->seq};
	struct version v;
	struct event e;
	struct feed_move m;

	if (kind == FEED_VERSIONS) {
		row_read_version(t->s, &v);
		row.version = &v;
	} else if (kind == FEED_EVENTS) {
		row_read_event(t->s, &e);
		row.event = &e;
	} else {
		m = (struct feed_move){
			.time_ns = sqlite3_column_int64(t->s, 2),
			.from = sqlite3_column_blob(t->s, 3),
			.from_len = (size_t)sqlite3_column_bytes(t->s, 3),
			.to = sqlite3_column_blob(t->s, 4),
			.to_len = (size_t)sqlite3_column_bytes(t->s, 4),
			.set_id = column_int(t->s, 5),
			.writer = (const char *)sqlite3_column_text(t->s, 6),
		};
		row.move = &m;
	}
	return fn(&row, at, ctx);
}

/* The strand that has the least seq; NULL: all have ended. */
static struct strand *oldest(struct strand all[FEED_STRANDS])
{
	struct strand *best = NULL;

	for (unsigned i = 0; i < FEED_STRANDS; i++)
		if (!all[i].ended && (!best || all[i].seq < best->seq))
			best = &all[i];
	return best;
}

int journal_feed(struct journal *j, struct feed_place *at, feed_fn *fn, void *ctx)
{
	static const enum stmt_id statements[FEED_STRANDS] = {
		STMT_FEED_VERSIONS, STMT_FEED_EVENTS, STMT_FEED_MOVES};
	auto_pooled p = {j, NULL};
	auto_stmt *versions = NULL, *events = NULL, *moves = NULL;
	sqlite3_stmt **const all[FEED_STRANDS] = {&versions, &events, &moves};
	struct strand strands[FEED_STRANDS] = {
		{.place = &at->version}, {.place = &at->event}, {.place = &at->move}};
	struct strand *next;
	int r = pool_take(j, &p.db);

	for (unsigned i = 0; i < FEED_STRANDS && !r; i++) {
		r = db_stmt(p.db, statements[i], all[i]);
		if (r)
			break;
		strands[i].s = *all[i];
		bind_int(*all[i], 1, seq_bound(*strands[i].place));
		r = step(p.db, &strands[i], i);
	}
	while (!r && (next = oldest(strands))) {
		unsigned kind = (unsigned)(next - strands);

		*next->place = next->id;
		r = tell(next, kind, at, fn, ctx);
		if (!r)
			r = step(p.db, next, kind);
	}
	return r;
}

void journal_on_commit(struct journal *j, commit_fn *fn, void *ctx)
{
	pthread_mutex_lock(&j->lock);
	j->on_commit = fn;
	j->on_commit_ctx = ctx;
	pthread_mutex_unlock(&j->lock);
}
