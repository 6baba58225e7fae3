/*
 * pin.c - moments that are kept whatever the policy lets go.
 */
#include <string.h>

#include "journal/gc.h"
#include "journal/internal.h"

struct pin_job {
	const struct pin *pins;
	size_t n;
	const char *name;
};

static int has_name(struct journal *j, const char *name)
{
	auto_stmt *s = NULL;
	int r = db_stmt(j->db, STMT_PIN_HAS, &s);

	if (r)
		return r;
	bind_text(s, 1, name);
	return db_step(j->db, s);
}

static int add(struct journal *j, const struct pin *p)
{
	auto_stmt *s = NULL;
	int r = db_stmt(j->db, STMT_PIN_ADD, &s);

	if (r)
		return r;
	bind_text(s, 1, p->name);
	bind_int(s, 2, p->seq);
	bind_blob(s, 3, p->path_len ? p->path : "", p->path_len);
	bind_int(s, 4, (uint64_t)p->time_ns);
	bind_text(s, 5, p->writer);
	return db_step(j->db, s);
}

static int add_all(struct journal *j, const struct pin_job *job)
{
	int64_t have = 0;
	int r = has_name(j, job->pins[0].name);

	if (r)
		return r < 0 ? r : PIN_AGAIN;
	r = db_int(j->db, "SELECT count(*) FROM pin", &have);
	if (!r && (uint64_t)have + job->n > PINS_MAX)
		return PIN_FULL;
	for (size_t i = 0; i < job->n && !r; i++)
		r = add(j, &job->pins[i]);
	return r;
}

static int remove_all(struct journal *j, const char *name)
{
	auto_stmt *s = NULL;
	int r = db_stmt(j->db, STMT_PIN_DROP, &s);

	if (r)
		return r;
	bind_text(s, 1, name);
	r = db_step(j->db, s);
	return r ?: sqlite3_changes(j->db->sql) > 0 ? PIN_DONE : PIN_NONE;
}

/* On the writer's thread. */
static int run(struct journal *j, void *ctx)
{
	const struct pin_job *job = ctx;
	int r = db_run(j->db, STMT_BEGIN), answer;

	if (r)
		return r;
	answer = job->name ? remove_all(j, job->name) : add_all(j, job);
	r = answer == PIN_DONE ? db_run(j->db, STMT_COMMIT) : answer;
	if (r) {
		(void)!db_run(j->db, STMT_ROLLBACK);
		return r;
	}
	return store_sync(&j->store) ?: db_sync_wal(j->db);
}

int journal_pin(struct journal *j, const struct pin *pins, size_t n)
{
	struct pin_job job = {.pins = pins, .n = n};

	assert(n > 0);
	return writer_run(j, run, &job, false);
}

int journal_unpin(struct journal *j, const char *name)
{
	struct pin_job job = {.name = name};

	return writer_run(j, run, &job, false);
}

int journal_pins(struct journal *j, pin_fn *fn, void *ctx)
{
	auto_pooled p = {j, NULL};
	auto_stmt *s = NULL;
	int r = pool_take(j, &p.db) ?: db_stmt(p.db, STMT_PIN_LIST, &s);

	if (r)
		return r;
	while ((r = db_step(p.db, s)) == 1) {
		const struct pin pin = {
			.name = (const char *)sqlite3_column_text(s, 0),
			.seq = column_int(s, 1),
			.path = sqlite3_column_blob(s, 2) ?: "",
			.path_len = (size_t)sqlite3_column_bytes(s, 2),
			.time_ns = sqlite3_column_int64(s, 3),
			.writer = (const char *)sqlite3_column_text(s, 4),
		};

		r = fn(&pin, ctx);
		if (r)
			return r;
	}
	return r;
}
