/*
 * event.c - what happened that is not a version.
 */
#include "journal/internal.h"

int journal_event(struct journal *j, const struct event *e)
{
	struct item *item;

	assert(e->kind && e->seq > 0);
	item = item_of_event(e);
	return item ? queue_put(j, item, NULL, QUEUE_DROP_WHEN_FAILING) : -ENOMEM;
}

void row_read_event(sqlite3_stmt *s, struct event *e)
{
	*e = (struct event){
		.seq = column_int(s, 0),
		.time_ns = sqlite3_column_int64(s, 1),
		.kind = (const char *)sqlite3_column_text(s, 2),
		.path = sqlite3_column_blob(s, 3),
		.path_len = (size_t)sqlite3_column_bytes(s, 3),
		.writer = (const char *)sqlite3_column_text(s, 4),
		.epoch = column_int(s, 5),
		.number = column_int(s, 6),
		.text = (const char *)sqlite3_column_text(s, 7),
	};
}

int journal_events(struct journal *j, uint64_t after_seq, uint64_t limit,
	const char *writer, event_fn *fn, void *ctx)
{
	enum stmt_id newest = writer ? STMT_EVENT_NEWEST_BY : STMT_EVENT_NEWEST;
	enum stmt_id after = writer ? STMT_EVENT_AFTER_BY : STMT_EVENT_AFTER;
	auto_pooled p = {j, NULL};
	auto_stmt *s = NULL;
	struct event e;
	int r;

	queue_flush(j);
	r = pool_take(j, &p.db) ?: db_stmt(p.db, after_seq ? after : newest, &s);
	if (r)
		return r;
	bind_int(s, 1, limit ? seq_bound(limit) : (uint64_t)-1);
	if (after_seq)
		bind_int(s, 2, seq_bound(after_seq));
	if (writer)
		bind_text(s, after_seq ? 3 : 2, writer);
	while ((r = db_step(p.db, s)) == 1) {
		row_read_event(s, &e);
		r = fn(&e, ctx);
		if (r)
			return r;
	}
	return r;
}
