#include "cli/top_data.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "cli/versions.h"
#include "cli/words.h"

#define RATE_WINDOW_S 10

static const struct text_column writer_columns[] = {{"WRITER", false, false, COLOUR_CYAN},
	{"RULE", false, false, COLOUR_NONE}, {"PROC", true, false, COLOUR_NONE},
	{"WRITES", true, false, COLOUR_NONE}, {"REFUSED", true, false, COLOUR_NONE},
	{"LEASES", true, false, COLOUR_NONE}, {"SEEN", true, false, COLOUR_NONE},
	{"WAITS FOR", false, true, COLOUR_YELLOW}};
static const struct text_column lease_columns[] = {{"WRITER", false, false, COLOUR_CYAN},
	{"LEFT", true, false, COLOUR_NONE}, {"EPOCH", true, false, COLOUR_NONE},
	{"WAITING", false, false, COLOUR_YELLOW}, {"FILE", false, true, COLOUR_NONE},
	{"REASON", false, false, COLOUR_NONE}};
static const struct text_column refused_columns[] = {{"TIME", false, false, COLOUR_DIM},
	{"WRITER", false, false, COLOUR_CYAN}, {"ASKED", false, false, COLOUR_NONE},
	{"WHY", false, false, COLOUR_RED}, {"BY", false, false, COLOUR_CYAN},
	{"KEPT AS", false, false, COLOUR_YELLOW}, {"FILE", false, true, COLOUR_NONE}};
static const struct text_column set_columns[] = {{"SET", true, false, COLOUR_NONE},
	{"WRITER", false, false, COLOUR_CYAN}, {"LAST", false, false, COLOUR_DIM},
	{"FILES", true, false, COLOUR_NONE}, {"CHANGES", true, false, COLOUR_NONE},
	{"WHAT", false, true, COLOUR_NONE}};
static const struct text_column event_columns[] = {{"TIME", false, false, COLOUR_DIM},
	{"WRITER", false, false, COLOUR_CYAN}, {"WHAT", false, false, COLOUR_NONE},
	{"SET", true, false, COLOUR_NONE}, {"N", true, false, COLOUR_NONE},
	{"FILE", false, true, COLOUR_NONE}};

static const struct {
	const char *title;
	const struct text_column *columns;
	int n;
} panes[TOP_PANES] = {
	[TOP_WRITERS] = {"writers", writer_columns, ARRAY_SIZE(writer_columns)},
	[TOP_LEASES] = {"leases", lease_columns, ARRAY_SIZE(lease_columns)},
	[TOP_REFUSED] = {"refusals and conflicts", refused_columns,
		ARRAY_SIZE(refused_columns)},
	[TOP_SETS] = {"change sets", set_columns, ARRAY_SIZE(set_columns)},
	[TOP_EVENTS] = {"newest events", event_columns, ARRAY_SIZE(event_columns)},
};

const char *top_pane_title(enum top_pane_id id)
{
	return panes[id].title;
}

const struct text_column *top_pane_columns(enum top_pane_id id, int *n)
{
	*n = panes[id].n;
	return panes[id].columns;
}

/* ---- rows ---- */

static struct top_row *row_add(struct top_pane *p)
{
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 64;
		struct top_row *rows = realloc(p->rows, cap * sizeof(*rows));

		if (!rows)
			return NULL;
		p->rows = rows;
		p->cap = cap;
	}
	p->rows[p->n] = (struct top_row){0};
	return &p->rows[p->n++];
}

static void row_done(struct top_row *row)
{
	for (size_t i = 0; i < ARRAY_SIZE(row->cells); i++)
		free(row->cells[i]);
	free(row->key);
	free(row->path);
}

static char *number_text(int64_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long)number);
	return strdup(text);
}

static char *count_text(int64_t number)
{
	return number ? number_text(number) : strdup("-");
}

static char *span_text(int64_t ms)
{
	auto_buf text = {0};

	buf_put_span(&text, ms * NS_PER_MS);
	return buf_take(&text, NULL);
}

static char *time_text(struct json_object *o, const char *key)
{
	auto_buf text = {0};

	version_when(&text, json_text(o, key, ""));
	return text.len ? buf_take(&text, NULL) : strdup("-");
}

static char *key_text(const char *what, const char *a, const char *b)
{
	auto_buf text = {0};

	buf_printf(&text, "%s %s\n%s", what, a, b);
	return buf_take(&text, NULL);
}

/* The bytes of a path: the daemon gives a word where JSON cannot hold them. */
static char *path_bytes(struct json_object *o)
{
	const char *word = json_text(o, "word", NULL), *path = json_text(o, "path", NULL);

	if (word)
		return word_unescape(word);
	return path ? strdup(path) : NULL;
}

/* Every cell of the pane, its key and its path are there, where they have to be. */
static bool row_whole(enum top_pane_id id, const struct top_row *row)
{
	for (int i = 0; i < panes[id].n; i++) {
		if (!row->cells[i])
			return false;
	}
	return row->key;
}

/* ---- writers ---- */

static bool names_hold(struct json_object *names, const char *name)
{
	for (size_t i = 0; names && i < json_object_array_length(names); i++) {
		const char *one =
			json_object_get_string(json_object_array_get_idx(names, i));

		if (one && strcmp(one, name) == 0)
			return true;
	}
	return false;
}

/* What it holds, and what it waits for. */
static int64_t add_up_leases(
	struct json_object *leases, const char *name, struct buf *waits_for)
{
	int64_t held = 0;

	for (size_t i = 0; leases && i < json_object_array_length(leases); i++) {
		struct json_object *o = json_object_array_get_idx(leases, i);

		held += strcmp(json_text(o, "writer", ""), name) == 0;
		if (names_hold(json_list(o, "waiting"), name))
			buf_printf(waits_for, "%s%s (%s)", waits_for->len ? ", " : "",
				json_text(o, "path", "?"), json_text(o, "writer", "?"));
	}
	return held;
}

static bool add_writer(
	struct top_pane *p, struct json_object *o, struct json_object *leases)
{
	struct top_row *row = row_add(p);
	const char *name = json_text(o, "name", "?");
	auto_buf waits_for = {0};

	if (!row)
		return false;
	row->cells[0] = strdup(name);
	row->cells[1] = strdup(json_text(o, "rule", "-"));
	row->cells[2] = number_text(json_number(o, "processes", 0));
	row->cells[3] = number_text(json_number(o, "writes", 0));
	row->cells[4] = number_text(json_number(o, "refusals", 0));
	row->cells[5] = count_text(add_up_leases(leases, name, &waits_for));
	row->cells[6] = span_text(json_number(o, "last_seen_ms", 0));
	row->cells[7] = waits_for.len ? buf_take(&waits_for, NULL) : strdup("-");
	row->key = strdup(name);
	return row_whole(TOP_WRITERS, row);
}

/* ---- leases ---- */

static bool add_lease(struct top_pane *p, struct json_object *o)
{
	struct top_row *row = row_add(p);
	struct json_object *names = json_list(o, "waiting");
	int64_t left_ms = json_number(o, "expires_ms", 0);
	auto_buf waiting = {0};

	if (!row)
		return false;
	for (size_t i = 0; names && i < json_object_array_length(names); i++)
		buf_printf(&waiting, "%s%s", i ? " " : "",
			json_object_get_string(json_object_array_get_idx(names, i)));
	row->path = path_bytes(o);
	row->cells[0] = strdup(json_text(o, "writer", "?"));
	row->cells[1] = left_ms < 0 ? strdup("lapsed") : span_text(left_ms);
	row->cells[2] = number_text(json_number(o, "epoch", 0));
	row->cells[3] = waiting.len ? buf_take(&waiting, NULL) : strdup("-");
	row->cells[4] = strdup(json_text(o, "path", "?"));
	row->cells[5] =
		strdup(json_text(o, "reason", json_flag(o, "explicit") ? "asked for" : ""));
	row->key = key_text("", row->cells[0] ?: "", row->cells[4] ?: "");
	return row_whole(TOP_LEASES, row);
}

/* ---- refusals and conflicts ---- */

static bool add_refused(struct top_pane *p, struct json_object *o, bool conflict)
{
	struct top_row *row = row_add(p);
	const char *holder = json_text(o, "holder", NULL);
	auto_buf kept = {0};

	if (!row)
		return false;
	if (conflict)
		buf_printf(&kept, "conflict %lld", (long long)json_number(o, "id", 0));
	row->path = path_bytes(o);
	row->cells[0] = time_text(o, "time");
	row->cells[1] = strdup(json_text(o, "writer", "?"));
	row->cells[2] = strdup(json_text(o, "asked", "?"));
	row->cells[3] = strdup(json_text(o, "reason", "?"));
	row->cells[4] = strdup(holder ?: json_text(o, "current_writer", "-"));
	row->cells[5] = conflict ? buf_take(&kept, NULL) : strdup("-");
	row->cells[6] = strdup(json_text(o, "path", "?"));
	row->key = number_text(json_number(o, "id", 0));
	return row_whole(TOP_REFUSED, row);
}

/* Two lists, each newest first by a number, as one; from says from which the next is. */
struct merge {
	struct json_object *lists[2];
	const char *by;
	size_t at[2];
};

static struct json_object *merge_next(struct merge *m, int *from)
{
	struct json_object *next = NULL;

	for (int i = 0; i < 2; i++) {
		struct json_object *list = m->lists[i], *o;

		if (!list || m->at[i] >= json_object_array_length(list))
			continue;
		o = json_object_array_get_idx(list, m->at[i]);
		if (next && json_number(next, m->by, 0) >= json_number(o, m->by, 0))
			continue;
		next = o;
		*from = i;
	}
	if (next)
		m->at[*from]++;
	return next;
}

static bool add_all_refused(
	struct top_pane *p, struct json_object *conflicts, struct json_object *refusals)
{
	/* A conflict has the number of its refusal: the first of the two is shown. */
	struct merge m = {.lists = {conflicts, refusals}, .by = "id"};
	struct json_object *o;
	int64_t last = -1;
	int from;

	while ((o = merge_next(&m, &from))) {
		int64_t id = json_number(o, "id", 0);

		if (id != last && !add_refused(p, o, from == 0))
			return false;
		last = id;
	}
	return true;
}

/* ---- change sets ---- */

/* An undo says so; of others the command it began with. */
static char *set_text(struct json_object *o)
{
	struct json_object *commands = json_list(o, "commands");
	const char *undo = json_text(o, "undo", NULL), *first = NULL;
	auto_buf text = {0};

	if (commands && json_object_array_length(commands))
		first = json_object_get_string(json_object_array_get_idx(commands, 0));
	if (undo)
		buf_printf(&text, "undo of %s (%s)", json_text(o, "what", "?"), undo);
	else
		buf_puts(&text, first ?: "-");
	return buf_take(&text, NULL);
}

static bool add_set(struct top_pane *p, struct json_object *o)
{
	struct top_row *row = row_add(p);

	if (!row)
		return false;
	row->set = json_number(o, "id", 0);
	row->cells[0] = number_text(row->set);
	row->cells[1] = strdup(json_text(o, "writer", "?"));
	row->cells[2] = time_text(o, "to");
	row->cells[3] = number_text(json_number(o, "files", 0));
	row->cells[4] = number_text(json_number(o, "changes", 0));
	row->cells[5] = set_text(o);
	row->key = number_text(row->set);
	return row_whole(TOP_SETS, row);
}

/* ---- versions and events ---- */

static void put_kind(struct buf *out, struct json_object *o)
{
	struct json_object *flags = json_list(o, "flags");

	buf_puts(out, json_text(o, "kind", "?"));
	for (size_t i = 0; flags && i < json_object_array_length(flags); i++)
		buf_printf(out, " %s",
			json_object_get_string(json_object_array_get_idx(flags, i)));
}

static bool add_event(struct top_pane *p, struct json_object *o, bool version)
{
	struct top_row *row = row_add(p);
	const char *path = json_text(o, "path", NULL), *text = json_text(o, "text", NULL);
	auto_buf kind = {0};
	char seq[24];

	if (!row)
		return false;
	put_kind(&kind, o);
	if (version) {
		row->path = path_bytes(o);
		row->number = json_number(o, "number", 0);
		row->set = json_number(o, "set", 0);
	}
	row->cells[0] = time_text(o, "time");
	row->cells[1] = strdup(json_text(o, "writer", "-"));
	row->cells[2] = buf_take(&kind, NULL);
	row->cells[3] = count_text(row->set);
	row->cells[4] = count_text(row->number);
	row->cells[5] = strdup((version ? path : text ?: path) ?: "-");
	snprintf(seq, sizeof(seq), "%lld", (long long)json_number(o, "seq", 0));
	row->key = key_text(version ? "version" : "event", seq, "");
	return row_whole(TOP_EVENTS, row);
}

static bool add_events(struct top_pane *p, struct json_object *log)
{
	struct merge m = {.lists = {json_list(log, "versions"), json_list(log, "events")},
		.by = "seq"};
	struct json_object *o;
	int from;

	while ((o = merge_next(&m, &from))) {
		if (!add_event(p, o, from == 0))
			return false;
	}
	return true;
}

/* ---- rates ---- */

static double seconds_of(const char *iso)
{
	struct tm tm = {0};
	const char *rest = strptime(iso, "%Y-%m-%dT%H:%M:%S", &tm);

	if (!rest)
		return 0;
	return (double)timegm(&tm) + (*rest == '.' ? strtod(rest, NULL) : 0);
}

/* How many of the newest-first rows are of the last seconds, each second. Where the
 * table's end lies in them, it is counted over what the table reaches back. */
static double rate_of(struct json_object *rows, double now, bool cut)
{
	size_t n = rows ? json_object_array_length(rows) : 0, i;
	double age = 0;

	for (i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(rows, i);

		age = now - seconds_of(json_text(o, "time", ""));
		if (age > RATE_WINDOW_S)
			break;
	}
	if (i == n && cut && age > 0.001)
		return (double)n / age;
	return (double)i / RATE_WINDOW_S;
}

/* ---- the view ---- */

/* The daemon's tables end with the newest 200 (docs/STOMP-FOLDER.md). */
static bool list_is_cut(struct json_object *list)
{
	return list && json_object_array_length(list) >= 200;
}

static bool fill(struct top_view *v, struct json_object *answer)
{
	struct json_object *status = NULL, *table = NULL, *list, *leases, *refusals;
	double now = (double)clock_wall_ns(clock_system()) / NS_PER_S;

	json_object_object_get_ex(answer, "status", &status);
	v->root = strdup(json_text(answer, "root", "?"));
	v->health = strdup(json_text(status, "health", "?"));
	v->writers = json_number(status, "writers", 0);
	v->leases = json_number(status, "leases", 0);
	v->waiting = json_number(status, "waiting", 0);
	v->refusals = json_number(status, "refusals", 0);
	v->conflicts = json_number(status, "conflicts", 0);
	v->versions = json_number(status, "versions", 0);
	if (!v->root || !v->health)
		return false;

	json_object_object_get_ex(answer, "leases", &table);
	leases = json_list(table, "leases");
	for (size_t i = 0; leases && i < json_object_array_length(leases); i++) {
		if (!add_lease(&v->panes[TOP_LEASES], json_object_array_get_idx(leases, i)))
			return false;
	}
	json_object_object_get_ex(answer, "writers", &table);
	list = json_list(table, "writers");
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		if (!add_writer(&v->panes[TOP_WRITERS], json_object_array_get_idx(list, i),
			    leases))
			return false;
	}
	json_object_object_get_ex(answer, "refusals", &table);
	refusals = json_list(table, "refusals");
	v->refusals_s = rate_of(refusals, now, list_is_cut(refusals));
	json_object_object_get_ex(answer, "conflicts", &table);
	if (!add_all_refused(
		    &v->panes[TOP_REFUSED], json_list(table, "conflicts"), refusals))
		return false;
	json_object_object_get_ex(answer, "sets", &table);
	list = json_list(table, "sets");
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		if (!add_set(&v->panes[TOP_SETS], json_object_array_get_idx(list, i)))
			return false;
	}
	json_object_object_get_ex(answer, "log", &table);
	v->changes_s = rate_of(json_list(table, "versions"), now,
		list_is_cut(json_list(table, "versions")));
	return add_events(&v->panes[TOP_EVENTS], table);
}

int top_view_make(struct top_view *v, struct json_object *answer)
{
	*v = (struct top_view){0};
	if (fill(v, answer))
		return 0;
	top_view_done(v);
	return -ENOMEM;
}

void top_view_done(struct top_view *v)
{
	for (int i = 0; i < TOP_PANES; i++) {
		for (size_t k = 0; k < v->panes[i].n; k++)
			row_done(&v->panes[i].rows[k]);
		free(v->panes[i].rows);
	}
	free(v->root);
	free(v->health);
	*v = (struct top_view){0};
}

void top_put_counts(struct buf *out, const struct top_view *v)
{
	buf_printf(out,
		"%.1f changes/s, %.1f refusals/s; writers %lld, leases %lld, waiting %lld, "
		"refusals %lld, conflicts %lld, versions %lld",
		v->changes_s, v->refusals_s, (long long)v->writers, (long long)v->leases,
		(long long)v->waiting, (long long)v->refusals, (long long)v->conflicts,
		(long long)v->versions);
}
