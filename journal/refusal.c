/*
 * refusal.c - what was refused, to whom and why (S11).
 */
#include "journal/internal.h"

int journal_refuse(struct journal *j, const struct refusal *r, struct capture *c)
{
	struct item *item;

	assert(r->id > 0 && r->seq > 0 && r->path && r->asked && r->reason);
	assert(!c || (r->kept && c->size == r->size && hash128_equal(c->hash, r->content)));
	item = item_of_refusal(r);
	return item ? queue_put(j, item, c, QUEUE_DROP_WHEN_FAILING) : -ENOMEM;
}

void row_read_refusal(sqlite3_stmt *s, struct refusal *r)
{
	*r = (struct refusal){
		.id = column_int(s, 0),
		.seq = column_int(s, 1),
		.time_ns = sqlite3_column_int64(s, 2),
		.path = sqlite3_column_blob(s, 3),
		.path_len = (size_t)sqlite3_column_bytes(s, 3),
		.asked = (const char *)sqlite3_column_text(s, 4),
		.reason = (const char *)sqlite3_column_text(s, 5),
		.error = sqlite3_column_int(s, 6),
		.base_number = column_int(s, 13),
		.current_number = column_int(s, 14),
		.epoch = column_int(s, 15),
		.current_writer = (const char *)sqlite3_column_text(s, 16),
		.holder = (const char *)sqlite3_column_text(s, 17),
		.hunks = (const char *)sqlite3_column_text(s, 18),
		.text = (const char *)sqlite3_column_text(s, 19),
		.content_id = sqlite3_column_int64(s, 20),
		.content = column_hash(s, 21),
		.size = column_int(s, 22),
		.resolved_seq = column_int(s, 23),
		.resolved_ns = sqlite3_column_int64(s, 24),
		.resolved_by = (const char *)sqlite3_column_text(s, 25),
		.resolved_how = (const char *)sqlite3_column_text(s, 26),
	};
	r->kept = r->content_id != 0;
	row_read_author(s, 7, &r->author);
}

static int find_writer_id(struct db *db, const char *writer, int64_t *id)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_WRITER_ID, &s);

	if (r)
		return r;
	bind_text(s, 1, writer);
	r = db_step(db, s);
	if (r == 1)
		*id = sqlite3_column_int64(s, 0);
	return r;
}

int journal_refusals(
	struct journal *j, const char *writer, uint64_t limit, refusal_fn *fn, void *ctx)
{
	auto_pooled p = {j, NULL};
	auto_stmt *s = NULL;
	struct refusal refusal;
	int64_t writer_id = 0;
	int r;

	queue_flush(j);
	r = pool_take(j, &p.db);
	if (r)
		return r;
	if (writer) {
		r = find_writer_id(p.db, writer, &writer_id);
		if (r <= 0)
			return r;
	}
	r = db_stmt(p.db, writer ? STMT_REFUSAL_NEWEST_BY : STMT_REFUSAL_NEWEST, &s);
	if (r)
		return r;
	bind_int(s, 1, limit ? seq_bound(limit) : (uint64_t)-1);
	if (writer)
		bind_int(s, 2, (uint64_t)writer_id);
	while ((r = db_step(p.db, s)) == 1) {
		row_read_refusal(s, &refusal);
		r = fn(&refusal, ctx);
		if (r)
			return r;
	}
	return r;
}

int journal_refusal(struct journal *j, uint64_t id, refusal_fn *fn, void *ctx)
{
	auto_pooled p = {j, NULL};
	auto_stmt *s = NULL;
	struct refusal refusal;
	int r;

	queue_flush(j);
	r = pool_take(j, &p.db) ?: db_stmt(p.db, STMT_REFUSAL_BY_ID, &s);
	if (r)
		return r;
	bind_int(s, 1, seq_bound(id));
	r = db_step(p.db, s);
	if (r <= 0)
		return r ?: -ENOENT;
	row_read_refusal(s, &refusal);
	return fn(&refusal, ctx);
}
