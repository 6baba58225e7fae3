#include "fs/vtree_internal.h"

#include <string.h>

#include "policy/line_diff.h"

/*
 * since/MOMENT: what is different from then, a line for each path, newest first. Made for
 * somebody who comes back: what changed and by whom, by how many lines, and which version
 * to compare with. What came and went in between is left out. The text tells of others'
 * work; the JSON of everybody's, with "mine".
 *
 * since/last is since the reader's writer last looked here, or last changed something
 * himself, whichever is later. Looks are remembered for as many writers as fit.
 */

enum {
	SINCE_ROWS = 50, /* paths that are told, with their line counts */
	SINCE_ROWS_JSON = 500,
	SINCE_VERSIONS = 100000,     /* newest ones, looked through */
	SINCE_DIFF_MAX = 1 << 20,    /* bytes of a side whose lines are counted */
	SINCE_DIFF_TOTAL = 32 << 20, /* of all sides of one document */
	SINCE_LOOKS = 256,
};

/* ---- since/last ---- */

struct since_looks {
	struct {
		uint32_t writer; /* its id; 0: free */
		uint64_t seq;
	} at[SINCE_LOOKS];
	unsigned next; /* is forgotten next */
};

struct since_looks *since_looks_free(struct since_looks *looks)
{
	free(looks);
	return NULL;
}

static uint64_t last_look(struct vtree *v, uint32_t writer)
{
	uint64_t seq = 0;

	pthread_mutex_lock(&v->lock);
	for (unsigned i = 0; v->looks && i < SINCE_LOOKS; i++)
		if (v->looks->at[i].writer == writer)
			seq = v->looks->at[i].seq;
	pthread_mutex_unlock(&v->lock);
	return seq;
}

static void note_look(struct vtree *v, uint32_t writer, uint64_t seq)
{
	unsigned i;

	pthread_mutex_lock(&v->lock);
	if (!v->looks)
		v->looks = calloc(1, sizeof(*v->looks));
	if (v->looks) { /* else the next look goes further back: nothing is missed */
		for (i = 0; i < SINCE_LOOKS && v->looks->at[i].writer != writer; i++)
			;
		if (i == SINCE_LOOKS) {
			i = v->looks->next;
			v->looks->next = (i + 1) % SINCE_LOOKS;
		}
		v->looks->at[i].writer = writer;
		v->looks->at[i].seq = seq;
	}
	pthread_mutex_unlock(&v->lock);
}

static int note_seq(const struct version *v, void *ctx)
{
	uint64_t *seq = ctx;

	*seq = v->seq;
	return 1;
}

static int last_change(struct workspace *ws, const char *writer, uint64_t *seq)
{
	const struct log_filter filter = {.writer = writer, .limit = 1};
	int r = journal_log(ws->journal, &filter, note_seq, seq);

	return r < 0 ? r : 0;
}

int since_resolve(struct workspace *ws, const char *name, struct vspec *out)
{
	size_t len = strlen(name);
	bool json = len > 5 && !strcmp(name + len - 5, ".json");
	struct moment m;

	out->kind = json ? V_SINCE_JSON : V_SINCE_TEXT;
	buf_append(&out->path, name, json ? len - 5 : len);
	if (buf_failed(&out->path))
		return -ENOMEM;
	if (!strcmp(out->path.data, "last"))
		return 0; /* it depends on who opens it */
	if (!moment_parse(out->path.data, clock_wall_ns(ws->clock), &m))
		return -ENOENT;
	return vtree_moment_seq(ws, &m, &out->number);
}

/* ---- which paths ---- */

/* One path that something happened to, with the newest of it. */
struct touched {
	struct table_node node;
	struct touched *next; /* in the order of the log */
	unsigned n_versions;
	uint64_t number;
	int64_t time_ns;
	bool others, mine; /* who had a part in it */
	char *writer; /* of the newest version by another, else by the reader; or NULL */
	size_t path_len;
	char path[];
};

struct since {
	struct workspace *ws;
	const char *me;
	uint64_t from, newest; /* seqs */
	struct table table;
	struct touched *first, **end;
	unsigned n_paths, n_seen;
	bool cut; /* older versions were not looked at */
};

static struct touched *find_touched(struct since *s, const struct version *v, uint64_t hash)
{
	struct table_node *at;
	struct touched *t;

	table_for_each (at, &s->table, hash) {
		t = container_of(at, struct touched, node);
		if (t->path_len == v->path_len && !memcmp(t->path, v->path, v->path_len))
			return t;
	}
	t = calloc(1, sizeof(*t) + v->path_len + 1);
	if (!t)
		return NULL;
	memcpy(t->path, v->path, v->path_len);
	t->path_len = v->path_len;
	t->number = v->number;
	t->time_ns = v->time_ns;
	table_insert(&s->table, &t->node, hash);
	*s->end = t;
	s->end = &t->next;
	s->n_paths++;
	return t;
}

static int add_version(const struct version *v, void *ctx)
{
	struct since *s = ctx;
	const char *name = v->author.name;
	bool mine = name && !strcmp(name, s->me);
	struct touched *t;

	if (!s->newest)
		s->newest = v->seq;
	if (v->kind == VERSION_INITIAL)
		return 0; /* what had been there all the time */
	if (s->n_seen++ == SINCE_VERSIONS) {
		s->cut = true;
		return 1;
	}
	t = find_touched(s, v, table_hash_bytes(v->path, v->path_len, 0));
	if (!t)
		return -ENOMEM;
	t->n_versions++;
	if (name && (!t->writer || (!mine && !t->others))) {
		free(t->writer);
		t->writer = strdup(name);
		if (!t->writer)
			return -ENOMEM;
	}
	t->mine |= mine;
	t->others |= !mine;
	return 0;
}

static int since_init(struct since *s, const struct vreader *r)
{
	struct vtree *v = r->ws->vtree;
	struct log_filter filter = {0};
	uint64_t mine = 0;
	int e;

	*s = (struct since){.ws = r->ws, .me = r->by->writer->name};
	s->end = &s->first;
	s->from = r->node->number;
	if (!strcmp(r->node->path, "last")) {
		s->from = last_look(v, r->by->writer->id);
		e = last_change(r->ws, s->me, &mine);
		if (e < 0)
			return e;
		if (mine > s->from)
			s->from = mine;
	}
	e = table_init(&s->table);
	if (e < 0)
		return e;
	filter.after_seq = s->from;
	e = journal_log(r->ws->journal, &filter, add_version, s);
	if (e >= 0 && !strcmp(r->node->path, "last"))
		note_look(v, r->by->writer->id, s->newest > s->from ? s->newest : s->from);
	return e < 0 ? e : 0;
}

static void since_done(struct since *s)
{
	struct touched *t = s->first;

	while (t) {
		struct touched *next = t->next;

		table_remove(&s->table, &t->node);
		free(t->writer);
		free(t);
		t = next;
	}
	if (s->end)
		table_done(&s->table);
}

/* ---- then and now ---- */

enum change_kind { CHANGE_NONE, CHANGE_CHANGED, CHANGE_NEW, CHANGE_DELETED, CHANGE_MODE };

static const char *const kind_names[] = {"", "changed", "new", "deleted", "mode"};

struct change_row {
	enum change_kind kind;
	bool folder;
	uint64_t base, current; /* numbers of versions; 0: none */
	bool counted;
	unsigned added, removed;
};

static int read_all(
	struct workspace *ws, const struct version *v, uint64_t *budget, struct buf *out)
{
	auto_close int fd = -1;
	char chunk[16384];
	ssize_t n = 0;
	int r;

	if (v->size > SINCE_DIFF_MAX || v->size > *budget)
		return -EFBIG;
	*budget -= v->size;
	r = journal_version_content(ws->journal, v, &fd);
	while (r == 0 && (n = pread(fd, chunk, sizeof(chunk), (off_t)out->len)) > 0) {
		buf_append(out, chunk, (size_t)n);
		if (buf_failed(out))
			r = -ENOMEM;
	}
	return r ?: n < 0 ? -errno : 0;
}

/* Lines put in and taken out; not told where that cannot be had. */
static void count_lines(struct workspace *ws, const struct past *then,
	const struct past *now, uint64_t *budget, struct change_row *row)
{
	auto_buf old = {0}, new = {0};
	auto_lines a = {0}, b = {0};
	auto_hunks hunks = {0};

	if (then->row.v.has_content && read_all(ws, &then->row.v, budget, &old) < 0)
		return;
	if (now->row.v.has_content && read_all(ws, &now->row.v, budget, &new) < 0)
		return;
	if ((old.len && memchr(old.data, '\0', old.len)) ||
		(new.len &&memchr(new.data, '\0', new.len)))
		return;
	if (lines_init(&a, old.data ?: "", old.len) < 0 ||
		lines_init(&b, new.data ?: "", new.len) < 0 ||
		line_diff(&a, &b, &hunks) != 0)
		return;
	row->counted = true;
	for (uint32_t i = 0; i < hunks.n; i++) {
		row->removed += hunks.v[i].a1 - hunks.v[i].a0;
		row->added += hunks.v[i].b1 - hunks.v[i].b0;
	}
}

static bool same_content(const struct version *a, const struct version *b)
{
	return a->has_content == b->has_content &&
	       (!a->has_content ||
		       (a->size == b->size && hash128_equal(a->content, b->content)));
}

static void compare(struct workspace *ws, const struct past *then, bool was,
	const struct past *now, bool is, uint64_t *budget, struct change_row *row)
{
	const struct version *a = &then->row.v, *b = &now->row.v;

	row->folder = S_ISDIR((is ? b : a)->mode);
	row->base = was ? a->number : 0;
	row->current = is ? b->number : 0;
	if (was && is && same_content(a, b))
		row->kind =
			(a->mode & 07777) != (b->mode & 07777) ? CHANGE_MODE : CHANGE_NONE;
	else if (was && is)
		row->kind = CHANGE_CHANGED;
	else
		row->kind = is ? CHANGE_NEW : was ? CHANGE_DELETED : CHANGE_NONE;
	if (!row->folder && row->kind != CHANGE_NONE && row->kind != CHANGE_MODE)
		count_lines(ws, then, now, budget, row);
}

/* What a path was and is. Its versions say so: it has some. */
static int look(
	struct since *s, const struct touched *t, uint64_t *budget, struct change_row *row)
{
	struct past then = {0}, now = {0};
	struct journal *j = s->ws->journal;
	int was = journal_past(j, t->path, t->path_len, s->from, &then), is = 0;

	*row = (struct change_row){0};
	if (was >= 0)
		is = journal_past(j, t->path, t->path_len, journal_last_seq(j), &now);
	if (was >= 0 && is >= 0)
		compare(s->ws, &then, was == PAST_VERSION, &now, is == PAST_VERSION, budget,
			row);
	past_done(&then);
	past_done(&now);
	return was < 0 ? was : is < 0 ? is : 0;
}

/* Who may not read the file shall not learn its name here either: as log, it is for all
 * who may enter the workspace; contents are not told. */

/* ---- as text ---- */

static void put_what(struct buf *b, const struct change_row *row)
{
	buf_puts(b, kind_names[row->kind]);
	if (row->folder)
		buf_puts(b, " folder");
	if (row->counted)
		buf_printf(b, " +%u -%u", row->added, row->removed);
}

/* The command that shows it; a word for a shell. */
static void put_see(struct buf *b, const struct touched *t, const struct change_row *row)
{
	bool plain = true;

	for (size_t i = 0; i < t->path_len; i++)
		plain &= t->path[i] > ' ' && t->path[i] < 0x7f &&
			 !strchr("'\"\\$`&|;<>()*?[]#~!{}", t->path[i]);
	if (row->folder)
		return;
	if (!plain || t->path[0] == '-') {
		buf_printf(b, "versions %llu, %llu", (unsigned long long)row->base,
			(unsigned long long)row->current);
		return;
	}
	switch (row->kind) {
	case CHANGE_CHANGED:
		buf_printf(b, "stomp diff %s@%llu", t->path, (unsigned long long)row->base);
		break;
	case CHANGE_NEW:
		buf_printf(b, "cat %s", t->path);
		break;
	case CHANGE_DELETED:
		buf_printf(b, "stomp cat %s@%llu", t->path, (unsigned long long)row->base);
		break;
	default:
		break;
	}
}

static int put_rows(struct since *s, struct buf *rows, unsigned *told, unsigned *more)
{
	uint64_t budget = SINCE_DIFF_TOTAL;

	for (const struct touched *t = s->first; t; t = t->next) {
		struct change_row row;
		int r;

		if (!t->others)
			continue;
		if (*told == SINCE_ROWS) {
			++*more;
			continue;
		}
		r = look(s, t, &budget, &row);
		if (r < 0)
			return r;
		if (row.kind == CHANGE_NONE)
			continue;
		buf_put_name(rows, t->path, t->path_len);
		buf_putc(rows, '\t');
		put_what(rows, &row);
		buf_putc(rows, '\t');
		if (t->writer)
			buf_put_name(rows, t->writer, strlen(t->writer));
		else
			buf_puts(rows, "(outside)");
		buf_puts(rows, t->mine ? ", you\t" : "\t");
		put_see(rows, t, &row);
		buf_putc(rows, '\n');
		++*told;
	}
	return 0;
}

void vdoc_since(const struct vreader *r, struct buf *out)
{
	unsigned told = 0, more = 0;
	auto_buf rows = {0};
	struct since s;
	int e = since_init(&s, r);

	buf_puts(&rows, "FILE\tWHAT\tBY\tTO SEE IT\n");
	if (e == 0)
		e = put_rows(&s, &rows, &told, &more);
	if (e < 0)
		buf_printf(
			out, "The history cannot be read now: %s.\n", strerrordesc_np(-e));
	else if (!told && !more)
		buf_puts(out, "Nothing that others did since then is different now.\n");
	if (told)
		put_columns(out, &rows);
	if (more)
		buf_printf(out, "and up to %u more (stomp changes --since %s --json)\n",
			more, r->node->path);
	if (e == 0 && s.cut)
		buf_printf(out, "(the newest %u versions were looked at)\n",
			(unsigned)SINCE_VERSIONS);
	since_done(&s);
}

/* ---- as JSON ---- */

static void put_json(struct buf *b, const struct touched *t, const struct change_row *row)
{
	buf_putc(b, '{');
	json_bytes(b, "path", t->path, t->path_len);
	json_string(b, "what", kind_names[row->kind]);
	json_bool(b, "folder", row->folder);
	json_string(b, "writer", t->writer);
	json_bool(b, "mine", t->mine);
	json_bool(b, "others", t->others);
	json_time(b, "time", t->time_ns);
	json_number(b, "versions", t->n_versions);
	json_signed(b, "added", row->counted ? (int64_t)row->added : -1);
	json_signed(b, "removed", row->counted ? (int64_t)row->removed : -1);
	json_number(b, "base", row->base);
	json_number(b, "current", row->current);
	buf_putc(b, '}');
}

static int put_json_rows(struct since *s, struct json_rows *rows, unsigned *more)
{
	uint64_t budget = SINCE_DIFF_TOTAL;
	unsigned told = 0;

	for (const struct touched *t = s->first; t; t = t->next) {
		struct change_row row;
		int r;

		if (told == SINCE_ROWS_JSON) {
			++*more;
			continue;
		}
		r = look(s, t, &budget, &row);
		if (r < 0)
			return r;
		if (row.kind == CHANGE_NONE)
			continue;
		if (!json_rows_next(rows))
			return 0;
		put_json(rows->out, t, &row);
		told++;
	}
	return 0;
}

void vdoc_since_json(const struct vreader *r, struct buf *out)
{
	struct json_rows rows;
	unsigned more = 0;
	struct since s;
	int e = since_init(&s, r);

	buf_puts(out, "{\"schema\":\"stompfs/since/1\"");
	json_string(out, "since", r->node->path);
	json_number(out, "seq", s.from);
	json_string(out, "me", s.me);
	json_rows_begin(&rows, out, "changes");
	if (e == 0)
		e = put_json_rows(&s, &rows, &more);
	json_rows_end(&rows);
	json_number(out, "more", more);
	json_bool(out, "cut", s.cut);
	if (e < 0)
		json_string(out, "error", strerrordesc_np(-e));
	buf_puts(out, "}\n");
	since_done(&s);
}
