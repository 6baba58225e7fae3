/*
 * log.c - histories, newest first.
 *
 * The history of one path is woven from strands: the rows of the path itself, of the
 * names its folders had, and of the files that were renamed onto it. Each strand is a
 * position in an index; the newest row among them is next.
 */
#include <string.h>

#include "journal/internal.h"

enum { STRANDS_MAX = 256 };

struct strand {
	int64_t path_id;
	uint64_t seq; /* of the row it stands at */
	int64_t id;
	uint64_t max_number;
	bool until_delete; /* ends where the path was last created */
};

struct walk {
	struct journal *j;
	struct db *db;
	const struct log_filter *filter;
	version_fn *fn;
	void *ctx;
	uint64_t told;
	size_t n;
	struct strand strands[STRANDS_MAX];
};

static bool limit_reached(const struct walk *w)
{
	return w->filter->limit && w->told >= w->filter->limit;
}

/* Tell of a row that the statement stands at: 0 to go on. */
static int tell(struct walk *w, const struct version *v)
{
	const char *writer = w->filter->writer;

	if (writer && (!v->author.name || strcmp(writer, v->author.name) != 0))
		return 0;
	w->told++;
	return w->fn(v, w->ctx);
}

/* To the strand's next older row: 1, or 0 at its end. */
static int strand_next(struct walk *w, struct strand *strand)
{
	auto_stmt *s = NULL;
	int r = db_stmt(w->db, STMT_VERSION_NEXT, &s);

	if (r)
		return r;
	bind_int(s, 1, (uint64_t)strand->path_id);
	bind_int(s, 2, strand->seq);
	bind_int(s, 3, (uint64_t)strand->id);
	bind_int(s, 4, strand->max_number);
	bind_int(s, 5, seq_bound(w->filter->after_seq));
	r = db_step(w->db, s);
	if (r <= 0)
		return r;
	if (strand->until_delete && sqlite3_column_int(s, 3) == VERSION_DELETE)
		return 0;
	strand->id = sqlite3_column_int64(s, 0);
	strand->seq = column_int(s, 1);
	return 1;
}

/* A strand of rows older than (place->before, before_id). */
static int add_strand(struct walk *w, const struct place *place, int64_t before_id,
	uint64_t max_number, bool until_delete)
{
	struct strand *strand = &w->strands[w->n];
	int64_t path_id;
	int r;

	if (w->n == STRANDS_MAX)
		return 0;
	r = path_find(w->db, place->path, place->len, &path_id);
	if (r <= 0)
		return r;
	*strand = (struct strand){.path_id = path_id,
		.seq = place->before,
		.id = before_id,
		.max_number = seq_bound(max_number),
		.until_delete = until_delete};
	r = strand_next(w, strand);
	w->n += r == 1;
	return r < 0 ? r : 0;
}

/* The path, and all the names that renames of its folders gave it. */
static int add_path(struct walk *w, const char *path, size_t len, uint64_t before,
	int64_t before_id, uint64_t max_number, bool until_delete)
{
	auto_places *all = calloc(1, sizeof(*all));
	int r = all ? place_init(&all->at[0], path, len, before) : -ENOMEM;

	if (r)
		return r;
	all->n = 1;
	if (w->filter->follow && atomic_load(&w->j->has_moves))
		r = places_spread(w->db, all, PLACES_BEFORE);
	for (size_t i = 0; i < all->n && !r; i++)
		r = add_strand(w, &all->at[i], i ? 0 : before_id, max_number, until_delete);
	return r;
}

static int follow_row(struct walk *w, const struct version *v, int64_t id)
{
	bool replaced = v->kind == VERSION_REPLACE;

	if (!w->filter->follow || w->filter->below || !v->from_path)
		return 0;
	if (!replaced && v->kind != VERSION_MOVE && v->kind != VERSION_LINK)
		return 0;
	return add_path(w, v->from_path, v->from_path_len, v->seq, id,
		v->from_number ?: UINT64_MAX, replaced);
}

static int tell_row(struct walk *w, int64_t id)
{
	auto_stmt *s = NULL;
	struct version v;
	int r = db_stmt(w->db, STMT_VERSION_BY_ID, &s);

	if (r)
		return r;
	bind_int(s, 1, (uint64_t)id);
	r = db_step(w->db, s);
	if (r <= 0)
		return r ?: -EIO;
	row_read_version(s, &v);
	return tell(w, &v) ?: follow_row(w, &v, id);
}

static struct strand *newest_strand(struct walk *w)
{
	struct strand *best = NULL;

	for (size_t i = 0; i < w->n; i++) {
		struct strand *s = &w->strands[i];

		if (!best || s->seq > best->seq ||
			(s->seq == best->seq && s->id > best->id))
			best = s;
	}
	return best;
}

/* Two strands that meet go on as one, the one that goes on for longer. */
static int advance(struct walk *w, int64_t id)
{
	bool until_delete = true;
	uint64_t max_number = 0;
	struct strand *kept = NULL;
	int r;

	for (size_t i = 0; i < w->n;) {
		struct strand *s = &w->strands[i];

		if (s->id != id) {
			i++;
			continue;
		}
		until_delete = until_delete && s->until_delete;
		if (s->max_number > max_number)
			max_number = s->max_number;
		if (!kept) {
			kept = s;
			i++;
		} else {
			*s = w->strands[--w->n];
		}
	}
	assert(kept); /* the id came from a strand */
	kept->until_delete = until_delete;
	kept->max_number = max_number;
	r = strand_next(w, kept);
	if (r == 0)
		*kept = w->strands[--w->n];
	return r < 0 ? r : 0;
}

static int log_path(struct walk *w)
{
	const struct log_filter *f = w->filter;
	const struct strand *s;
	int r = add_path(w, f->path, f->path_len, INT64_MAX, 0, UINT64_MAX, false);

	while (!r && !limit_reached(w) && (s = newest_strand(w))) {
		int64_t id = s->id;

		r = advance(w, id) ?: tell_row(w, id);
	}
	return r;
}

static int find_writer(struct walk *w, int64_t *id)
{
	auto_stmt *s = NULL;
	int r = db_stmt(w->db, STMT_WRITER_ID, &s);

	if (r)
		return r;
	bind_text(s, 1, w->filter->writer);
	r = db_step(w->db, s);
	if (r == 1)
		*id = sqlite3_column_int64(s, 0);
	return r;
}

static int log_all(struct walk *w)
{
	auto_stmt *s = NULL;
	struct version v;
	int64_t writer_id = 0;
	int r;

	if (w->filter->writer) {
		r = find_writer(w, &writer_id);
		if (r <= 0)
			return r;
	}
	r = db_stmt(w->db, writer_id ? STMT_LOG_WRITER : STMT_LOG_ALL, &s);
	if (r)
		return r;
	bind_int(s, 1, seq_bound(w->filter->after_seq));
	if (writer_id)
		bind_int(s, 2, (uint64_t)writer_id);
	while (!limit_reached(w) && (r = db_step(w->db, s)) == 1) {
		row_read_version(s, &v);
		r = tell(w, &v);
		if (r)
			return r;
	}
	return r < 0 ? r : 0;
}

/* ---- everything below a folder ---- */

struct hit {
	uint64_t seq;
	int64_t id;
};

struct hits {
	struct hit *at;
	size_t n, cap;
};

static int hit_add(struct hits *h, struct hit hit)
{
	if (h->n == h->cap) {
		size_t cap = h->cap ? 2 * h->cap : 256;
		struct hit *at = reallocarray(h->at, cap, sizeof(*at));

		if (!at)
			return -ENOMEM;
		h->at = at;
		h->cap = cap;
	}
	h->at[h->n++] = hit;
	return 0;
}

static int hit_compare(const void *a, const void *b)
{
	const struct hit *x = a, *y = b;

	if (x->seq != y->seq)
		return x->seq < y->seq ? 1 : -1;
	return x->id == y->id ? 0 : x->id < y->id ? 1 : -1;
}

/* The newest rows below one place, as many as may be wanted. */
static int collect(struct walk *w, const struct place *p, int64_t writer_id, struct hits *h)
{
	auto_place end = {0};
	auto_stmt *s = NULL;
	int r = place_init(&end, p->path, p->len, 0) ?: db_stmt(w->db, STMT_LOG_BELOW, &s);

	if (r)
		return r;
	end.path[end.len - 1] = '/' + 1;
	bind_blob(s, 1, p->path, p->len);
	bind_blob(s, 2, end.path, end.len);
	bind_int(s, 3, seq_bound(w->filter->after_seq));
	bind_int(s, 4, p->before);
	bind_opt(s, 5, writer_id);
	bind_int(s, 6, w->filter->limit ? seq_bound(w->filter->limit) : (uint64_t)-1);
	while ((r = db_step(w->db, s)) == 1) {
		r = hit_add(h, (struct hit){column_int(s, 0), sqlite3_column_int64(s, 1)});
		if (r)
			return r;
	}
	return r;
}

static int log_below(struct walk *w)
{
	auto_places *places = NULL;
	struct hits h = {0};
	int64_t writer_id = 0;
	int r = 1;

	if (w->filter->writer)
		r = find_writer(w, &writer_id);
	if (r <= 0)
		return r;
	r = places_below(w->j, w->db, w->filter->path, w->filter->path_len,
		w->filter->follow ? PLACES_INSIDE : PLACES_NOW, &places);
	for (size_t i = 0; !r && i < places->n; i++)
		r = collect(w, &places->at[i], writer_id, &h);
	if (!r && h.n > 0)
		qsort(h.at, h.n, sizeof(*h.at), hit_compare);
	for (size_t i = 0; !r && i < h.n && !limit_reached(w); i++) {
		if (i == 0 || h.at[i].id != h.at[i - 1].id)
			r = tell_row(w, h.at[i].id);
	}
	free(h.at);
	return r;
}

int journal_log(
	struct journal *j, const struct log_filter *filter, version_fn *fn, void *ctx)
{
	auto_free struct walk *w = calloc(1, sizeof(*w));
	auto_pooled p = {j, NULL};
	int r;

	if (!w)
		return -ENOMEM;
	queue_flush(j);
	r = pool_take(j, &p.db);
	if (r)
		return r;
	*w = (struct walk){.j = j, .db = p.db, .filter = filter, .fn = fn, .ctx = ctx};
	if (!filter->path || filter->path_len == 0)
		return log_all(w);
	return filter->below ? log_below(w) : log_path(w);
}
