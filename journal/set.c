/*
 * set.c - change sets: what one writer did in one go, found again by its id.
 */
#include "journal/internal.h"

static int put_and_wait(struct journal *j, struct set_change *set)
{
	struct item *item;
	int r = journal_health(j) ?: journal_next_seq(j, &set->seq);

	if (r)
		return r;
	set->time_ns = clock_wall_ns(j->clock);
	item = item_of_set(set);
	if (!item)
		return -ENOMEM;
	return queue_put(j, item, NULL, QUEUE_DROP_WHEN_FAILING)
		       ?: journal_wait(j, set->seq);
}

static int find_begun(struct journal *j, uint64_t seq, uint64_t *id)
{
	auto_pooled p = {j, NULL};
	auto_stmt *s = NULL;
	int r = pool_take(j, &p.db) ?: db_stmt(p.db, STMT_SET_BEGUN, &s);

	if (r)
		return r;
	bind_int(s, 1, seq);
	r = db_step(p.db, s);
	if (r == 1)
		*id = column_int(s, 0);
	return r == 1 ? 0 : r < 0 ? r : -EIO;
}

int journal_set_begin(struct journal *j, const struct author *author, uint64_t undo_of,
	const char *undo_writer, const char *what, uint64_t *id)
{
	struct set_change set = {.act = SET_ACT_BEGIN,
		.undo_of = undo_of,
		.undo_writer = undo_writer,
		.what = what,
		.author = *author};
	int r;

	assert(author->name);
	r = put_and_wait(j, &set);
	return r ?: find_begun(j, set.seq, id);
}

static int is_open(const struct change_set *set, void *ctx)
{
	return set->state == SET_OPEN ? 1 : 0;
}

/* Looking and marking are one step, as for a conflict. */
static int change_open(struct journal *j, struct set_change *set)
{
	int r;

	pthread_mutex_lock(&j->resolve_lock);
	r = journal_sets(j, set->id, NULL, 0, is_open, NULL);
	if (r == 1)
		r = put_and_wait(j, set);
	else if (r == 0)
		r = -ENOENT;
	pthread_mutex_unlock(&j->resolve_lock);
	return r;
}

int journal_set_resume(struct journal *j, uint64_t id, const struct author *author)
{
	struct set_change set = {.act = SET_ACT_RESUME, .id = id, .author = *author};

	assert(id > 0 && author->name);
	return change_open(j, &set);
}

int journal_set_end(struct journal *j, uint64_t id, enum set_state state)
{
	struct set_change set = {.act = SET_ACT_END, .id = id, .state = state};

	assert(id > 0 && (state == SET_DONE || state == SET_BACK));
	return change_open(j, &set);
}

static void read_set(sqlite3_stmt *s, struct change_set *set)
{
	*set = (struct change_set){
		.id = column_int(s, 0),
		.state = (enum set_state)sqlite3_column_int(s, 1),
		.undo_of = column_int(s, 2),
		.what = (const char *)sqlite3_column_text(s, 3),
		.first_seq = column_int(s, 4),
		.last_seq = column_int(s, 5),
		.first_ns = sqlite3_column_int64(s, 6),
		.last_ns = sqlite3_column_int64(s, 7),
		.n_changes = column_int(s, 8),
		.n_files = column_int(s, 9),
	};
	row_read_author(s, 10, &set->author);
}

static int list_sets(struct journal *j, uint64_t id, const char *writer, uint64_t limit,
	uint64_t before, set_fn *fn, void *ctx)
{
	auto_pooled p = {j, NULL};
	auto_stmt *s = NULL;
	struct change_set set;
	int r;

	queue_flush(j);
	r = pool_take(j, &p.db) ?: db_stmt(p.db, id ? STMT_SET_BY_ID : STMT_SET_LIST, &s);
	if (r)
		return r;
	if (id) {
		bind_int(s, 1, id);
	} else {
		bind_int(s, 1, limit ? seq_bound(limit) : (uint64_t)-1);
		bind_text(s, 2, writer);
		bind_int(s, 3, seq_bound(before));
	}
	while ((r = db_step(p.db, s)) == 1) {
		read_set(s, &set);
		r = fn(&set, ctx);
		if (r)
			return r;
	}
	return r;
}

int journal_sets(struct journal *j, uint64_t id, const char *writer, uint64_t limit,
	set_fn *fn, void *ctx)
{
	return list_sets(j, id, writer, limit, UINT64_MAX, fn, ctx);
}

int journal_sets_before(
	struct journal *j, uint64_t id, uint64_t limit, set_fn *fn, void *ctx)
{
	return list_sets(j, 0, NULL, limit, id, fn, ctx);
}

int journal_sets_open(struct journal *j, set_fn *fn, void *ctx)
{
	auto_pooled p = {j, NULL};
	auto_stmt *s = NULL;
	struct change_set set;
	int r = pool_take(j, &p.db) ?: db_stmt(p.db, STMT_SET_ALL_OPEN, &s);

	while (!r && (r = db_step(p.db, s)) == 1) {
		read_set(s, &set);
		r = fn(&set, ctx);
	}
	return r;
}

int journal_set_log(
	struct journal *j, uint64_t id, uint64_t before_seq, version_fn *fn, void *ctx)
{
	auto_pooled p = {j, NULL};
	auto_stmt *s = NULL;
	struct version v;
	int r;

	queue_flush(j);
	r = pool_take(j, &p.db) ?: db_stmt(p.db, STMT_LOG_SET, &s);
	if (r)
		return r;
	bind_int(s, 1, id);
	bind_int(s, 2, seq_bound(before_seq));
	while ((r = db_step(p.db, s)) == 1) {
		row_read_version(s, &v);
		r = fn(&v, ctx);
		if (r)
			return r;
	}
	return r;
}

int journal_set_commands(
	struct journal *j, uint64_t id, uint64_t limit, command_fn *fn, void *ctx)
{
	auto_pooled p = {j, NULL};
	auto_stmt *s = NULL;
	int r = pool_take(j, &p.db) ?: db_stmt(p.db, STMT_SET_COMMANDS, &s);

	if (r)
		return r;
	bind_int(s, 1, id);
	bind_int(s, 2, seq_bound(limit));
	while ((r = db_step(p.db, s)) == 1) {
		r = fn((const char *)sqlite3_column_text(s, 0), column_int(s, 1), ctx);
		if (r)
			return r;
	}
	return r;
}

int journal_moves(struct journal *j, uint64_t after_seq, move_fn *fn, void *ctx)
{
	auto_pooled p = {j, NULL};
	auto_stmt *s = NULL;
	int r = folders_settle(j);

	if (!r)
		r = pool_take(j, &p.db) ?: db_stmt(p.db, STMT_MOVE_AFTER, &s);
	if (r)
		return r;
	bind_int(s, 1, seq_bound(after_seq));
	while ((r = db_step(p.db, s)) == 1) {
		r = fn(column_int(s, 0), column_int(s, 3), sqlite3_column_int64(s, 4),
			sqlite3_column_blob(s, 1), (size_t)sqlite3_column_bytes(s, 1),
			sqlite3_column_blob(s, 2), (size_t)sqlite3_column_bytes(s, 2), ctx);
		if (r)
			return r;
	}
	return r;
}
