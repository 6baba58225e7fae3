#include "cli/report_data.h"
#include "cli/report_internal.h"

#include <stdio.h>
#include <string.h>

#include "cli/versions.h"
#include "cli/words.h"

enum { SETS_MAX = 2000 }; /* of sets/log.json */

void report_done(struct report *report)
{
	for (size_t i = 0; i < report->n_undos; i++)
		free(report->undos[i].what);
	free(report->undos);
	free(report->events);
	report_names_done(&report->names);
	buf_done(&report->notes);
	buf_done(&report->told);
	*report = (struct report){0};
}

int report_take(struct report *r, const char *text, uint32_t *number)
{
	int64_t n = report_names_take(&r->names, text ?: "");

	*number = n < 0 ? 0 : (uint32_t)n;
	return n < 0 ? -ENOMEM : 0;
}

/* The event, where its time is within the span. */
int report_add(struct report *r, const struct report_event *e)
{
	if (e->time_ms < r->since_ms || e->time_ms > r->until_ms)
		return 0;
	if (r->n == r->room) {
		size_t room = r->room ? r->room * 2 : 1024;
		void *more = reallocarray(r->events, room, sizeof(*r->events));

		if (!more)
			return -ENOMEM;
		r->events = more;
		r->room = room;
	}
	r->events[r->n++] = *e;
	return 0;
}

/* What every table calls the same. */
int report_begin_event(struct report *r, struct json_object *o, struct report_event *e)
{
	*e = (struct report_event){
		.time_ms = word_time_ms(json_text(o, "time", "")),
		.seq = (uint64_t)json_number(o, "seq", 0),
		.number = (uint64_t)json_number(o, "number", 0),
		.refusals = 1,
	};
	return report_take(r, json_text(o, "writer", ""), &e->writer)
		       ?: report_take(r, json_text(o, "path", ""), &e->path)
		       ?: report_take(r, json_text(o, "command", ""), &e->command)
		       ?: report_take(r, json_text(o, "word", ""), &e->word)
		       ?: report_take(r, json_text(o, "from_word", ""), &e->from_word);
}

static bool has_flag(const struct version_entry *v, const char *name)
{
	size_t n = v->flags ? json_object_array_length(v->flags) : 0;

	for (size_t i = 0; i < n; i++) {
		if (strcmp(json_object_get_string(json_object_array_get_idx(v->flags, i)),
			    name) == 0)
			return true;
	}
	return false;
}

/* The content before it: what a rename was, else the version one lower. */
static int take_before(
	struct report *r, const struct version_entry *v, struct report_event *e)
{
	bool moved = v->from_path && !version_is_delete(v);

	e->from_number = moved ? v->from_number : v->number ? v->number - 1 : 0;
	if (!moved)
		e->from_word = e->word;
	return report_take(r, moved ? v->from_path : v->path, &e->from_path);
}

int report_add_version(struct report *r, const struct version_entry *v, bool undo)
{
	struct report_event e;
	auto_buf what = {0};
	int error;

	/* What a file was before somebody changed it is nothing that happened (V2). */
	if (strcmp(v->kind, "initial") == 0)
		return 0;
	error = report_begin_event(r, v->json, &e);
	e.kind = undo ? REPORT_UNDO : has_flag(v, "merged") ? REPORT_MERGE : REPORT_VERSION;
	e.set = (uint64_t)json_number(v->json, "set", 0);
	e.size = v->size;
	e.has_content = version_has_content(v);
	buf_puts(&what, v->kind);
	for (size_t i = 0; v->flags && i < json_object_array_length(v->flags); i++)
		buf_printf(&what, " %s",
			json_object_get_string(json_object_array_get_idx(v->flags, i)));
	if (buf_failed(&what))
		error = -ENOMEM;
	return error
		       ?: report_take(r, what.data, &e.what)
		       ?: report_take(r, "", &e.text) ?: take_before(r, v, &e) ?: report_add(r, &e);
}

static int add_versions(struct report *r, struct version_list *list, bool undo)
{
	int error = 0;

	for (size_t i = 0; i < list->n && error == 0; i++)
		error = report_add_version(r, &list->entries[i], undo);
	return error;
}

/* ---- change sets ---- */

static int note_undo(struct report *r, struct json_object *set)
{
	const char *what = json_text(set, "what", "");
	void *more = reallocarray(r->undos, r->n_undos + 1, sizeof(*r->undos));
	char *copy = strdup(what);

	if (more)
		r->undos = more;
	if (!more || !copy) {
		free(copy);
		return -ENOMEM;
	}
	r->undos[r->n_undos++] = (struct report_undo){
		.set = (uint64_t)json_number(set, "id", 0), .what = copy};
	return 0;
}

bool report_is_undo(const struct report *r, uint64_t set)
{
	for (size_t i = 0; set && i < r->n_undos; i++) {
		if (r->undos[i].set == set)
			return true;
	}
	return false;
}

/* The sets that there are, and which of them are undos. */
static int list_sets(struct report *r, const struct workspace *ws,
	struct json_object **json, struct buf *failed)
{
	auto_buf text = {0};
	struct json_object *sets;
	size_t n;
	int error;

	buf_puts(failed, "sets/log.json");
	error = workspace_json(ws, "sets/log.json", "sets", &text, json);
	sets = error < 0 ? NULL : json_list(*json, "sets");
	n = sets ? json_object_array_length(sets) : 0;
	for (size_t i = 0; i < n && error == 0; i++) {
		struct json_object *set = json_object_array_get_idx(sets, i);
		int64_t last_seq = json_number(set, "last_seq", 0);
		int64_t to_ms = word_time_ms(json_text(set, "to", ""));

		if (to_ms >= 0 && to_ms < r->since_ms && (uint64_t)last_seq > r->after_seq)
			r->after_seq = (uint64_t)last_seq;
		if (json_text(set, "undo", NULL))
			error = note_undo(r, set);
	}
	if (n >= SETS_MAX && error == 0 &&
		word_time_ms(json_text(json_object_array_get_idx(sets, n - 1), "to", "")) >=
			r->since_ms)
		buf_printf(&r->notes,
			"Undos are marked in the newest %zu change sets; choose a shorter "
			"--since to see older ones.\n",
			n);
	return error;
}

/* Everything that one set changed. A set that was collected meanwhile is none. */
static int read_set(struct report *r, const struct workspace *ws, struct json_object *set,
	struct buf *failed)
{
	bool undo = json_text(set, "undo", NULL) != NULL;
	long long id = (long long)json_number(set, "id", 0);
	auto_versions list = {0};
	auto_buf text = {0};
	int error;

	buf_reset(failed);
	buf_printf(failed, "sets/%lld.json", id);
	if (buf_failed(failed))
		return -ENOMEM;
	error = workspace_read(ws, failed->data, &text);
	if (error == -ENOENT)
		return 0;
	error = error ?: versions_parse(&list, text.data ?: "");
	if (error < 0)
		return error;
	if (json_flag(list.json, "truncated"))
		buf_printf(&r->notes, "Of change set %lld only the newest changes.\n", id);
	return add_versions(r, &list, undo);
}

static int read_sets(struct report *r, const struct workspace *ws, struct json_object *json,
	struct buf *failed)
{
	struct json_object *sets = json_list(json, "sets");
	size_t n = sets ? json_object_array_length(sets) : 0;
	int error = 0;

	for (size_t i = 0; i < n && error == 0; i++) {
		struct json_object *set = json_object_array_get_idx(sets, i);

		if (word_time_ms(json_text(set, "to", "")) >= r->since_ms &&
			word_time_ms(json_text(set, "from", "")) <= r->until_ms)
			error = read_set(r, ws, set, failed);
	}
	if (n >= SETS_MAX && error == 0)
		buf_printf(&r->notes, "Only the newest %zu change sets are listed.\n", n);
	return error;
}

/* ---- the other tables ---- */

/* oldest_refusal: of those that are told of by themselves. */
int report_add_event(struct report *r, struct json_object *o, uint64_t oldest_refusal)
{
	const char *kind = json_text(o, "kind", "");
	bool incident = strcmp(kind, "incident") == 0;
	struct json_object *files = json_list(o, "files");
	struct report_event e;
	int error;

	/* Merges are marked where the version is; a refusal that is told of by itself is
	 * not told of again as part of an incident. */
	if (strcmp(kind, "merge") == 0)
		return 0;
	if (incident && oldest_refusal &&
		(uint64_t)json_number(o, "number", 0) >= oldest_refusal)
		return 0;
	error = report_begin_event(r, o, &e);
	e.kind = incident ? REPORT_REFUSAL : REPORT_EVENT;
	e.seq = 0;
	if (incident) {
		e.refusals = (uint32_t)json_number(o, "refusals", 1);
		if (!error && files && json_object_array_length(files))
			error = report_take(r,
				json_object_get_string(json_object_array_get_idx(files, 0)),
				&e.path);
	}
	return error
		       ?: report_take(r, kind, &e.what)
		       ?: report_take(r, json_text(o, "text", ""), &e.text)
		       ?: report_take(r, "", &e.from_path) ?: report_add(r, &e);
}

/* The newest versions, whether of a set or of none (external), and the news. */
static int read_log(struct report *r, const struct workspace *ws, uint64_t oldest_refusal,
	struct buf *failed)
{
	auto_versions list = {0};
	auto_buf text = {0};
	struct json_object *events;
	int error;

	buf_reset(failed);
	buf_puts(failed, "log.json");
	error = versions_read(ws, NULL, &text, &list);
	for (size_t i = 0; i < list.n && error == 0; i++) {
		const struct version_entry *v = &list.entries[i];
		uint64_t set = (uint64_t)json_number(v->json, "set", 0);

		error = report_add_version(r, v, report_is_undo(r, set));
	}
	if (list.n >= 200 && word_time_ms(list.entries[list.n - 1].time) > r->since_ms)
		buf_puts(&r->notes,
			"What was changed round the mount is in it as far as it "
			"is among the newest 200 versions.\n");
	events = error < 0 ? NULL : json_list(list.json, "events");
	for (size_t i = 0; events && i < json_object_array_length(events) && !error; i++)
		error = report_add_event(
			r, json_object_array_get_idx(events, i), oldest_refusal);
	return error;
}

static int add_refusal(struct report *r, struct json_object *o, bool conflict)
{
	struct json_object *resolved = NULL;
	struct report_event e;
	auto_buf what = {0};
	int error = report_begin_event(r, o, &e);

	json_object_object_get_ex(o, "resolved", &resolved);
	e.kind = conflict ? REPORT_CONFLICT : REPORT_REFUSAL;
	e.number = (uint64_t)json_number(o, "id", 0);
	e.resolved = conflict && resolved;
	buf_printf(
		&what, "%s, %s", json_text(o, "asked", "?"), json_text(o, "reason", "?"));
	if (buf_failed(&what))
		error = -ENOMEM;
	return error
		       ?: report_take(r, what.data, &e.what)
		       ?: report_take(r, json_text(o, "text", ""), &e.text)
		       ?: report_take(r, "", &e.from_path) ?: report_add(r, &e);
}

static int compare_ids(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

void report_ids_add(struct buf *ids, uint64_t id)
{
	buf_append(ids, (const char *)&id, sizeof(id));
}

int report_ids_sort(struct buf *ids)
{
	if (buf_failed(ids))
		return -ENOMEM;
	if (ids->len)
		qsort(ids->data, ids->len / sizeof(uint64_t), sizeof(uint64_t),
			compare_ids);
	return 0;
}

bool report_ids_have(const struct buf *ids, uint64_t id)
{
	size_t n = ids->len / sizeof(id);

	return n && bsearch(&id, ids->data, n, sizeof(id), compare_ids);
}

static bool is_among(struct json_object *rows, int64_t id)
{
	for (size_t i = 0; rows && i < json_object_array_length(rows); i++) {
		if (json_number(json_object_array_get_idx(rows, i), "id", 0) == id)
			return true;
	}
	return false;
}

/* A refusal whose bytes were kept is in both tables, with the same number. */
static int read_refusals(
	struct report *r, const struct workspace *ws, uint64_t *oldest, struct buf *failed)
{
	static const char *const lists[] = {"conflicts", "resolved"};
	auto_json *refusals = NULL, *conflicts = NULL;
	auto_buf text = {0}, other = {0};
	struct json_object *rows, *kept[2];
	int error;

	*oldest = 0;
	buf_reset(failed);
	buf_puts(failed, "refusals.json");
	error = workspace_json(ws, "refusals.json", "refusals", &text, &refusals);
	if (error < 0)
		return error;
	buf_reset(failed);
	buf_puts(failed, "conflicts.json");
	error = workspace_json(ws, "conflicts.json", "conflicts", &other, &conflicts);
	for (int k = 0; k < 2; k++) {
		kept[k] = json_list(conflicts, lists[k]);
		for (size_t i = 0;
			kept[k] && !error && i < json_object_array_length(kept[k]); i++) {
			struct json_object *o = json_object_array_get_idx(kept[k], i);

			report_ids_add(&r->told, (uint64_t)json_number(o, "id", 0));
			error = add_refusal(r, o, true);
		}
	}
	rows = json_list(refusals, "refusals");
	for (size_t i = 0; rows && !error && i < json_object_array_length(rows); i++) {
		struct json_object *o = json_object_array_get_idx(rows, i);
		int64_t id = json_number(o, "id", 0);

		*oldest = *oldest && *oldest < (uint64_t)id ? *oldest : (uint64_t)id;
		report_ids_add(&r->told, (uint64_t)json_number(o, "id", 0));
		if (!is_among(kept[0], id) && !is_among(kept[1], id))
			error = add_refusal(r, o, false);
	}
	error = error ?: report_ids_sort(&r->told);
	return error;
}

/* ---- order ---- */

static int by_time(const void *a, const void *b)
{
	const struct report_event *x = a, *y = b;

	if (x->time_ms != y->time_ms)
		return x->time_ms < y->time_ms ? -1 : 1;
	if (x->seq != y->seq)
		return x->seq < y->seq ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

/* Oldest first; a version that two tables told of is there once. */
static void put_in_order(struct report *r)
{
	size_t kept = 0;

	if (r->n)
		qsort(r->events, r->n, sizeof(*r->events), by_time);
	for (size_t i = 0; i < r->n; i++) {
		const struct report_event *e = &r->events[i];

		if (kept && e->seq && r->events[kept - 1].seq == e->seq)
			continue;
		r->events[kept++] = *e;
	}
	r->n = kept;
}

/* Without the stream: what the tables hold. */
static int read_tables(struct report *r, const struct workspace *ws,
	struct json_object *sets, uint64_t oldest_refusal, struct buf *failed)
{
	int error = read_sets(r, ws, sets, failed);

	error = error ?: read_log(r, ws, oldest_refusal, failed);
	if (oldest_refusal > 1)
		buf_puts(&r->notes, "Of refusals the newest 200 one by one; of older ones "
				    "those that met several files at once.\n");
	return error;
}

int report_collect(struct report *report, const struct workspace *ws, struct buf *failed)
{
	auto_json *sets = NULL;
	uint64_t oldest_refusal;
	int error = list_sets(report, ws, &sets, failed);

	error = error ?: read_refusals(report, ws, &oldest_refusal, failed);
	if (error == 0) {
		error = report_read_feed(report, ws, failed);
		if (error == -EOPNOTSUPP || error == -ENOENT)
			error = read_tables(report, ws, sets, oldest_refusal, failed);
	}
	if (error < 0)
		return error;
	put_in_order(report);
	return buf_failed(&report->notes) ? -ENOMEM : 0;
}
