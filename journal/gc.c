/*
 * gc.c - a pass: versions, what conflicts that are over have kept, old events, then what
 * an interrupted pass may have left.
 */
#include "journal/gc.h"

#include <string.h>

#include "journal/gc_internal.h"
#include "journal/reserve.h"

enum phase {
	PHASE_ROWS,
	PHASE_CONFLICTS,
	PHASE_EVENTS,
	PHASE_REFUSALS,
	PHASE_CONTENTS,
	PHASE_OBJECTS,
	PHASES
};

int gc_point(struct gc *g)
{
	const struct journal_faults *f = g->j->faults;

	return f && f->gc ? f->gc(f->ctx) : 0;
}

/* ---- conflicts that are resolved, old events and refusals ---- */

struct old_conflict {
	int64_t id, content_id;
};

/* Of resolved ones their bytes go when they are as old as the path's versions may get. */
static int conflicts_step(struct gc *g)
{
	struct old_conflict old[GC_CHUNK];
	auto_stmt *s = NULL, *drop = NULL;
	size_t n = 0, looked = 0;
	int r = db_stmt(g->j->db, STMT_GC_RESOLVED, &s);

	if (r)
		return r;
	bind_int(s, 1, (uint64_t)g->cursor);
	bind_int(s, 2, GC_CHUNK);
	while ((r = db_step(g->j->db, s)) == 1) {
		struct keep keep = {0};

		g->cursor = sqlite3_column_int64(s, 0);
		looked++;
		g->o.keep(sqlite3_column_blob(s, 2), (size_t)sqlite3_column_bytes(s, 2),
			&keep, g->o.ctx);
		if (keep.age_ns && g->o.now_ns - sqlite3_column_int64(s, 3) > keep.age_ns)
			old[n++] = (struct old_conflict){
				g->cursor, sqlite3_column_int64(s, 1)};
	}
	sqlite3_reset(s);
	for (size_t i = 0; i < n && !r; i++) {
		r = gc_point(g) ?: db_stmt(g->j->db, STMT_GC_RESOLVED_DROP, &drop);
		if (r)
			return r;
		bind_int(drop, 1, (uint64_t)old[i].id);
		r = db_step(g->j->db, drop) ?: gc_content_release(g, old[i].content_id);
		g->tally.n[TALLY_KEPT]--;
		g->tally.n[TALLY_RESOLVED]--;
		g->sums.conflicts++;
	}
	return r ?: looked == GC_CHUNK;
}

static int log_step(struct gc *g, enum stmt_id id, uint64_t *count)
{
	auto_stmt *s = NULL;
	uint64_t n;
	int r = gc_point(g) ?: db_stmt(g->j->db, id, &s);

	if (!g->o.log_age_ns || r)
		return r;
	bind_int(s, 1, (uint64_t)(g->o.now_ns - g->o.log_age_ns));
	bind_int(s, 2, GC_CHUNK);
	r = db_step(g->j->db, s);
	if (r)
		return r;
	n = (uint64_t)sqlite3_changes64(g->j->db->sql);
	g->sums.log_rows += n;
	if (count)
		*count -= n;
	return n == GC_CHUNK && !g->o.dry_run; /* what is rolled back is found again */
}

/* ---- steps ---- */

static int load_pins(struct gc *g)
{
	auto_stmt *s = NULL;
	int r = db_stmt(g->j->db, STMT_PIN_LIST, &s);

	while (!r && (r = db_step(g->j->db, s)) == 1) {
		struct gc_pin *pin = &g->pins[g->n_pins];

		assert(g->n_pins < PINS_MAX); /* journal_pin() sees to it */
		pin->seq = column_int(s, 1);
		pin->path = column_bytes(s, 2, &pin->len);
		if (!pin->path)
			return -ENOMEM;
		g->n_pins++;
		r = 0;
	}
	return r;
}

static void drop_pins(struct gc *g)
{
	while (g->n_pins > 0)
		free(g->pins[--g->n_pins].path);
}

static int run_phase(struct gc *g)
{
	switch (g->phase) {
	case PHASE_ROWS:
		return gc_rows_step(g);
	case PHASE_CONFLICTS:
		return conflicts_step(g);
	case PHASE_EVENTS:
		return log_step(g, STMT_GC_EVENTS_DROP, NULL);
	case PHASE_REFUSALS:
		return log_step(g, STMT_GC_REFUSALS_DROP, &g->tally.n[TALLY_REFUSALS]);
	case PHASE_CONTENTS:
		return gc_contents_step(g);
	default:
		return gc_objects_step(g);
	}
}

static int commit(struct gc *g)
{
	struct journal *j = g->j;
	int r;

	if (g->o.dry_run)
		return db_run(j->db, STMT_ROLLBACK);
	r = gc_point(g) ?: tally_write(j->db, &g->tally);
	if (!r)
		r = db_run(j->db, STMT_COMMIT);
	for (int i = 0; i < TALLY_KINDS && !r; i++)
		atomic_fetch_add(&j->tally[i], g->tally.n[i]);
	return r;
}

/* The same place once more after a step that failed. */
static int copy_place(const struct gc_path *from, struct gc_path *to)
{
	*to = *from;
	if (from->path) {
		to->path = malloc(from->len + 1);
		if (!to->path)
			return -ENOMEM;
		memcpy(to->path, from->path, from->len + 1);
	}
	return 0;
}

static int step_in_transaction(struct gc *g)
{
	struct gc_sums sums = g->sums;
	int64_t cursor = g->cursor;
	struct gc_path at;
	int r = copy_place(&g->at, &at), more = 0;

	if (r)
		return r;
	g->tally = (struct tally){0};
	r = db_run(g->j->db, STMT_BEGIN);
	if (!r) {
		r = load_pins(g);
		if (!r)
			more = run_phase(g);
		r = r ?: more < 0 ? more : commit(g);
		if (r)
			(void)!db_run(g->j->db, STMT_ROLLBACK);
		drop_pins(g);
	}
	if (r) {
		gc_path_done(&g->at);
		g->at = at;
		g->cursor = cursor;
		g->sums = sums;
		g->n_unlinks = 0;
		return r;
	}
	free(at.path);
	return more;
}

/* On the writer's thread. */
static int run_step(struct journal *j, void *ctx)
{
	struct gc *g = ctx;
	int64_t began_ns = clock_boot_ns(j->clock), took_ns;
	int r, unlinked;

	g->until_ns = began_ns + GC_STEP_MS * NS_PER_MS;

	r = g->phase == PHASE_OBJECTS ? run_phase(g) : step_in_transaction(g);
	if (r < 0)
		return r;
	used_count(j);
	unlinked = gc_point(g) ?: gc_objects_unlink(g);
	if (unlinked < 0)
		return unlinked;
	took_ns = clock_boot_ns(j->clock) - began_ns;
	g->sums.step_max_ns = took_ns > g->sums.step_max_ns ? took_ns : g->sums.step_max_ns;
	g->sums.steps++;
	return r;
}

int gc_new(struct gc **out, struct journal *j, const struct gc_options *o)
{
	struct gc *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->pins = calloc(PINS_MAX, sizeof(*g->pins));
	if (!g->pins) {
		free(g);
		return -ENOMEM;
	}
	g->j = j;
	g->o = *o;
	*out = g;
	return 0;
}

struct gc *gc_free(struct gc *g)
{
	if (!g)
		return NULL;
	gc_path_done(&g->at);
	drop_pins(g);
	free(g->pins);
	free(g);
	return NULL;
}

int gc_step(struct gc *g)
{
	int r;

	if (g->phase == PHASES)
		return 0;
	r = writer_run(g->j, run_step, g, true);
	if (r < 0 || r > 0)
		return r;
	g->phase++;
	g->cursor = 0;
	return g->phase < PHASES;
}

bool gc_reserve_use(struct journal *j)
{
	int health = atomic_load(&j->health);

	if (health != -ENOSPC && health != -EDQUOT)
		return false;
	atomic_store(&j->on_reserve, true); /* first: the writer may try at any moment */
	if (reserve_give(j->dirfd))
		return true;
	atomic_store(&j->on_reserve, false);
	return false;
}

void gc_reserve_back(struct journal *j)
{
	/* Without it the next full disk is mended by other means. */
	if (atomic_load(&j->health) == 0)
		(void)!reserve_take(j->dirfd);
	atomic_store(&j->on_reserve, false);
}

void gc_get_sums(const struct gc *g, struct gc_sums *sums)
{
	*sums = g->sums;
}
