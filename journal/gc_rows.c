/*
 * gc_rows.c - which versions of a path stay: down from the newest, a chunk at a time.
 */
#include <string.h>
#include <time.h>

#include "journal/gc_internal.h"

static const int64_t hour_s = 3600, day_s = 24 * 3600;

void gc_path_done(struct gc_path *p)
{
	free(p->path);
	*p = (struct gc_path){0};
}

/* ---- what protects rows of a path ---- */

static int load_cuts_of(struct gc *g, const char *folder, size_t len)
{
	struct gc_path *p = &g->at;
	auto_stmt *s = NULL;
	int r = db_stmt(g->j->db, STMT_GC_MOVES_FROM, &s);

	if (r)
		return r;
	bind_blob(s, 1, folder, len);
	while ((r = db_step(g->j->db, s)) == 1) {
		if (p->n_cuts == GC_CUTS_MAX) {
			p->all_held = true;
			return 0;
		}
		p->cuts[p->n_cuts++] = column_int(s, 0);
	}
	return r;
}

/* When the path, or a folder that it is in, went to another name. */
static int load_cuts(struct gc *g)
{
	struct gc_path *p = &g->at;
	int r = 0;

	p->n_cuts = 0;
	if (!atomic_load(&g->j->has_moves))
		return 0;
	for (size_t i = 1; i <= p->len && !r; i++)
		if (i == p->len || p->path[i] == '/')
			r = load_cuts_of(g, p->path, i);
	return r;
}

static int load_held(struct gc *g)
{
	struct gc_path *p = &g->at;
	auto_stmt *s = NULL;
	int r = db_stmt(g->j->db, STMT_GC_HELD, &s);

	p->n_held = 0;
	if (r)
		return r;
	bind_blob(s, 1, p->path, p->len);
	while ((r = db_step(g->j->db, s)) == 1) {
		if (p->n_held + 2 > GC_HELD_MAX) {
			p->all_held = true;
			return 0;
		}
		p->held[p->n_held++] = column_int(s, 0);
		p->held[p->n_held++] = column_int(s, 1);
	}
	return r;
}

static bool is_in(const char *path, size_t len, const char *folder, size_t folder_len)
{
	return folder_len == 0 || (len >= folder_len && !memcmp(path, folder, folder_len) &&
					  (len == folder_len || path[folder_len] == '/'));
}

/* Does a pinned moment show the row? */
static bool is_pinned(const struct gc *g, const struct gc_row *row, bool oldest)
{
	const struct gc_path *p = &g->at;

	for (size_t i = 0; i < g->n_pins; i++) {
		const struct gc_pin *pin = &g->pins[i];

		/* Of a pinned path its folders as well: their modes are part of it. */
		if (!is_in(p->path, p->len, pin->path, pin->len) &&
			!is_in(pin->path, pin->len, p->path, p->len))
			continue;
		if (row->seq <= pin->seq && pin->seq < p->newer.seq)
			return true;
		/* The first row of all says what had been there before it. */
		if (oldest && pin->seq < row->seq)
			return true;
	}
	return false;
}

static bool is_held(const struct gc_path *p, const struct gc_row *row)
{
	for (size_t i = 0; i < p->n_cuts; i++)
		if (row->seq < p->cuts[i] && p->cuts[i] <= p->newer.seq)
			return true;
	for (size_t i = 0; i < p->n_held; i++)
		if (row->number == p->held[i])
			return true;
	return p->all_held;
}

/* ---- what the policy lets go ---- */

/* Hours and days of the place, so that its full hours are exact moments. */
static int64_t span_of(int64_t time_ns, int64_t span_s)
{
	time_t t = (time_t)(time_ns / NS_PER_S);
	struct tm local = {0};

	localtime_r(&t, &local);
	return ((int64_t)t + local.tm_gmtoff) / span_s;
}

/* Another one of the same hour (day) came after it. */
static bool is_thinned(const struct gc_row *row, const struct gc_row *newer, int64_t age_ns)
{
	int64_t span_s = age_ns > 7 * day_s * NS_PER_S ? day_s : hour_s;

	return age_ns > day_s * NS_PER_S &&
	       span_of(row->time_ns, span_s) == span_of(newer->time_ns, span_s);
}

static bool is_over(const struct gc *g, const struct gc_row *row)
{
	const struct gc_path *p = &g->at;
	const struct keep *k = &p->keep;
	int64_t age_ns = g->o.now_ns - p->newer.time_ns;
	bool gone = p->newest.kind == VERSION_DELETE || p->newest.kind == VERSION_RMDIR;

	if (k->age_ns && age_ns > k->age_ns)
		return true;
	if (gone && row->content_id && p->counted == 0)
		return false; /* the last of what was deleted */
	if (k->age_ns && !k->every && is_thinned(row, &p->newer, age_ns))
		return true;
	if (k->count && p->counted >= k->count)
		return true;
	return k->bytes && p->counted > 0 && p->bytes + row->stored > k->bytes;
}

static bool goes(const struct gc *g, const struct gc_row *row, bool oldest)
{
	const struct gc_path *p = &g->at;

	if (p->newest.id == row->id ||
		(row->content_id && row->content_id == p->newest.content_id))
		return false;
	return is_over(g, row) && !is_held(p, row) && !is_pinned(g, row, oldest);
}

/* ---- letting them go ---- */

static int delete_row(struct gc *g, const struct gc_row *row)
{
	auto_stmt *s = NULL;
	int r = gc_point(g) ?: db_stmt(g->j->db, STMT_GC_VERSION_DROP, &s);

	if (r)
		return r;
	bind_int(s, 1, (uint64_t)row->id);
	r = db_step(g->j->db, s);
	if (r)
		return r;
	g->tally.n[TALLY_VERSIONS]--;
	g->sums.versions++;
	return row->content_id ? gc_content_release(g, row->content_id) : 0;
}

static int flag_gap(struct gc *g)
{
	struct gc_path *p = &g->at;
	auto_stmt *s = NULL;
	int r = p->flagged ? 0 : db_stmt(g->j->db, STMT_GC_VERSION_FLAG, &s);

	if (r || p->flagged)
		return r;
	bind_int(s, 1, (uint64_t)p->flag_id);
	bind_int(s, 2, VERSION_GAP);
	p->flagged = true;
	return db_step(g->j->db, s);
}

static int look_at_row(struct gc *g, const struct gc_row *row, bool oldest)
{
	struct gc_path *p = &g->at;
	int r = 0;

	if (!p->newest.id)
		p->newest = p->newer = *row;
	g->sums.looked_at++;
	if (goes(g, row, oldest)) {
		r = flag_gap(g) ?: delete_row(g, row);
	} else {
		p->flag_id = row->id;
		p->flagged = row->flags & VERSION_GAP;
		p->counted += row->content_id != 0;
		p->bytes += row->stored;
	}
	p->newer = *row;
	return r;
}

/* ---- walking ---- */

/* The path after the cursor: 1, or 0 when there is none. */
static int next_path(struct gc *g)
{
	struct gc_path *p = &g->at;
	auto_stmt *s = NULL;
	int r = db_stmt(g->j->db, STMT_GC_PATH_NEXT, &s);

	gc_path_done(p);
	if (r)
		return r;
	bind_int(s, 1, (uint64_t)g->cursor);
	r = db_step(g->j->db, s);
	if (r <= 0)
		return r;
	p->id = g->cursor = sqlite3_column_int64(s, 0);
	p->path = column_bytes(s, 1, &p->len);
	if (!p->path)
		return -ENOMEM;
	g->o.keep(p->path, p->len, &p->keep, g->o.ctx);
	g->sums.paths++;
	return 1;
}

/* Up to n + 1 rows below the last one that was looked at. */
static int fetch(struct gc *g, struct gc_row *rows, size_t n, size_t *got)
{
	const struct gc_path *p = &g->at;
	auto_stmt *s = NULL;
	int r = db_stmt(g->j->db, STMT_GC_ROWS, &s);

	*got = 0;
	if (r)
		return r;
	bind_int(s, 1, (uint64_t)p->id);
	bind_int(s, 2, p->newest.id ? p->newer.seq : INT64_MAX);
	bind_int(s, 3, p->newest.id ? (uint64_t)p->newer.id : INT64_MAX);
	bind_int(s, 4, n + 1);
	while ((r = db_step(g->j->db, s)) == 1) {
		rows[*got] = (struct gc_row){
			.id = sqlite3_column_int64(s, 0),
			.seq = column_int(s, 1),
			.number = column_int(s, 2),
			.kind = (enum version_kind)sqlite3_column_int(s, 3),
			.flags = (uint32_t)sqlite3_column_int(s, 4),
			.content_id = sqlite3_column_int64(s, 5),
			.time_ns = sqlite3_column_int64(s, 6),
			.stored = column_int(s, 7),
		};
		++*got;
	}
	return r;
}

static bool keeps_all(const struct keep *k)
{
	return !k->age_ns && !k->count && !k->bytes;
}

static bool is_late(const struct gc *g)
{
	return clock_boot_ns(g->j->clock) > g->until_ns;
}

/* Of the path at hand; *left: how many more rows this step may look at. */
static int walk(struct gc *g, size_t *left)
{
	struct gc_path *p = &g->at;
	struct gc_row rows[GC_CHUNK + 1];
	size_t n = *left, got = 0, done = 0;
	int r;

	p->all_held = false;
	r = load_cuts(g) ?: load_held(g) ?: fetch(g, rows, n, &got);
	for (; done < got && done < n && !r && (done == 0 || !is_late(g)); done++)
		r = look_at_row(g, &rows[done], done + 1 == got);
	if (r)
		return r;
	*left -= done;
	if (done == got)
		p->id = 0; /* that was all of it */
	return 0;
}

int gc_rows_step(struct gc *g)
{
	size_t left = GC_CHUNK;
	int r = 0;

	while (left > 0 && !r) {
		if (!g->at.id) {
			r = next_path(g);
			if (r <= 0)
				return r;
			r = 0;
			left--; /* many paths with a row each are work too */
		}
		if (keeps_all(&g->at.keep))
			g->at.id = 0;
		else if (left > 0)
			r = walk(g, &left);
		if (gc_objects_full(g) || is_late(g))
			break;
	}
	return r ?: 1;
}
