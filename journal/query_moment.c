/*
 * query_moment.c - which seq a time or an epoch is.
 */
#include "journal/internal.h"

struct stamp {
	uint64_t seq;
	int64_t time_ns;
};

/* The nearest version on that side of seq: 1 or 0. */
static int find_stamp(struct db *db, enum stmt_id id, uint64_t seq, struct stamp *out)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, id, &s);

	if (r)
		return r;
	bind_int(s, 1, seq_bound(seq));
	r = db_step(db, s);
	if (r == 1)
		*out = (struct stamp){column_int(s, 0), sqlite3_column_int64(s, 1)};
	return r;
}

/*
 * Two neighbouring versions, one of up to the time and one of later; 0 and INT64_MAX stand
 * for "none". Found by halving, as times rise with seqs but where the clock was set back.
 */
static int find_boundary(struct db *db, int64_t wall_ns, uint64_t *before, uint64_t *after)
{
	struct stamp last, at;
	int r = find_stamp(db, STMT_SEQ_UP_TO, INT64_MAX, &last);

	*before = 0;
	*after = INT64_MAX;
	if (r <= 0)
		return r;
	if (last.time_ns <= wall_ns) {
		*before = last.seq;
		return 0;
	}
	*after = last.seq;
	while (*before + 1 < *after) {
		uint64_t middle = *before + (*after - *before) / 2;

		r = find_stamp(db, STMT_SEQ_UP_TO, middle, &at);
		if (r < 0)
			return r;
		if (r == 0 || at.seq <= *before) { /* nothing from before to the middle */
			r = find_stamp(db, STMT_SEQ_AFTER, middle, &at);
			if (r < 0)
				return r;
			if (r == 0 || at.seq >= *after)
				return 0; /* and nothing from there on */
		}
		if (at.time_ns <= wall_ns)
			*before = at.seq;
		else
			*after = at.seq;
	}
	return 0;
}

/* Renames of folders between two versions have times of their own. */
static int add_moves(struct db *db, int64_t wall_ns, uint64_t after, uint64_t *seq)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_MOVE_BETWEEN, &s);

	if (r)
		return r;
	bind_int(s, 1, *seq);
	bind_int(s, 2, after);
	bind_int(s, 3, (uint64_t)wall_ns);
	r = db_step(db, s);
	if (r != 1)
		return r;
	if (sqlite3_column_type(s, 0) != SQLITE_NULL)
		*seq = column_int(s, 0) - 1;
	else if (sqlite3_column_type(s, 1) != SQLITE_NULL)
		*seq = column_int(s, 1);
	return 0;
}

int journal_seq_at_time(struct journal *j, int64_t wall_ns, uint64_t *seq)
{
	auto_pooled p = {j, NULL};
	uint64_t before, after;
	int r;

	queue_flush(j);
	r = pool_take(j, &p.db) ?: find_boundary(p.db, wall_ns, &before, &after);
	if (!r)
		r = add_moves(p.db, wall_ns, after, &before);
	if (!r)
		*seq = before;
	return r;
}

int journal_seq_at_epoch(struct journal *j, uint64_t epoch, uint64_t *seq)
{
	auto_pooled p = {j, NULL};
	auto_stmt *s = NULL;
	int r;

	queue_flush(j);
	r = pool_take(j, &p.db) ?: db_stmt(p.db, STMT_SEQ_OF_EPOCH, &s);
	if (r)
		return r;
	bind_int(s, 1, seq_bound(epoch));
	r = db_step(p.db, s);
	if (r < 0)
		return r;
	*seq = r == 1 ? column_int(s, 0) : 0; /* NULL, where there is none, reads as 0 */
	return 0;
}
