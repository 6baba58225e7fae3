/*
 * conflict.c - refusals whose bytes were kept, until somebody has resolved them (S11).
 */
#include "journal/internal.h"

int journal_conflicts(
	struct journal *j, enum conflict_set set, uint64_t limit, refusal_fn *fn, void *ctx)
{
	enum stmt_id id =
		set == CONFLICTS_RESOLVED ? STMT_REFUSAL_RESOLVED : STMT_REFUSAL_CONFLICT;
	auto_pooled p = {j, NULL};
	auto_stmt *s = NULL;
	struct refusal refusal;
	int r;

	queue_flush(j);
	r = pool_take(j, &p.db) ?: db_stmt(p.db, id, &s);
	if (r)
		return r;
	bind_int(s, 1, limit ? seq_bound(limit) : (uint64_t)-1);
	while ((r = db_step(p.db, s)) == 1) {
		row_read_refusal(s, &refusal);
		r = fn(&refusal, ctx);
		if (r)
			return r;
	}
	return r;
}

static int judge(const struct refusal *r, void *ctx)
{
	if (!r->kept)
		return RESOLVE_NONE;
	return r->resolved_seq ? RESOLVE_AGAIN : RESOLVE_DONE;
}

static int resolve(struct journal *j, const struct resolution *r)
{
	struct item *item;
	int answer = journal_health(j) ?: journal_refusal(j, r->id, judge, NULL);

	if (answer == -ENOENT)
		return RESOLVE_NONE;
	if (answer)
		return answer;
	item = item_of_resolution(r);
	if (!item)
		return -ENOMEM;
	return queue_put(j, item, NULL, QUEUE_DROP_WHEN_FAILING) ?: journal_wait(j, r->seq);
}

int journal_resolve(struct journal *j, const struct resolution *r)
{
	int answer;

	assert(r->id > 0 && r->seq > 0 && r->by && r->how);
	/* Looking and marking are one step: of two that come at once, one is told that the
	 * other was first. */
	pthread_mutex_lock(&j->resolve_lock);
	answer = resolve(j, r);
	pthread_mutex_unlock(&j->resolve_lock);
	return answer;
}

int conflict_write(struct db *db, const struct resolution *r, struct tally *t)
{
	auto_stmt *s = NULL;
	int e = db_stmt(db, STMT_REFUSAL_RESOLVE, &s);

	if (e)
		return e;
	bind_int(s, 1, r->id);
	bind_int(s, 2, r->seq);
	bind_int(s, 3, (uint64_t)r->time_ns);
	bind_text(s, 4, r->by);
	bind_text(s, 5, r->how);
	e = db_step(db, s);
	if (!e)
		t->n[TALLY_RESOLVED] += (uint64_t)sqlite3_changes(db->sql);
	return e;
}
