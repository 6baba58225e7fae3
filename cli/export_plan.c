#include "cli/export_plan.h"

#include <stdio.h>
#include <string.h>

#include "cli/words.h"

enum { PAUSE_MS = 2000 }; /* after which a command is at something else */

void export_plan_done(struct export_plan *p)
{
	export_rows_done(&p->rows);
	free(p->order);
	free(p->commits);
	free(p->is_named);
	buf_done(&p->below);
	*p = (struct export_plan){0};
}

bool export_is_below(const char *path, const char *folder)
{
	size_t n = strlen(folder);

	return !n || (strncmp(path, folder, n) == 0 && (!path[n] || path[n] == '/'));
}

/* ---- which paths ---- */

static bool is_below_any(const struct export_plan *p, const char *path)
{
	const uint32_t *all = (const void *)p->below.data;

	for (size_t i = 0; i < p->below.len / sizeof(*all); i++)
		if (export_is_below(path, export_name(&p->rows, all[i])))
			return true;
	return false;
}

bool export_plan_has(const struct export_plan *p, uint32_t name)
{
	return (name < p->n_named && p->is_named[name]) ||
	       is_below_any(p, export_name(&p->rows, name));
}

/* A renamed folder matters where something of ours is, or comes to be, below it. */
static bool has_part_of(const struct export_plan *p, uint32_t folder)
{
	const char *path = export_name(&p->rows, folder);
	const uint32_t *all = (const void *)p->below.data;

	for (uint32_t i = 1; i < p->n_named; i++)
		if (p->is_named[i] && export_is_below(export_name(&p->rows, i), path))
			return true;
	for (size_t i = 0; i < p->below.len / sizeof(*all); i++)
		if (export_is_below(export_name(&p->rows, all[i]), path))
			return true;
	return is_below_any(p, path);
}

static void name_path(struct export_plan *p, uint32_t name)
{
	if (name)
		p->is_named[name] = true;
}

static bool is_asked(const struct export_plan *p, const struct export_choice *c,
	const struct export_row *row)
{
	const char *path = export_name(&p->rows, row->path);
	const char *from = export_name(&p->rows, row->from);

	if (c->set && row->set != c->set)
		return false;
	if (c->writer && strcmp(export_name(&p->rows, row->writer), c->writer) != 0)
		return false;
	if (!c->set && !c->writer)
		return false; /* paths say it all */
	for (unsigned i = 0; i < c->n_paths; i++)
		if (export_is_below(path, c->paths[i]) ||
			(row->from && export_is_below(from, c->paths[i])))
			return true;
	return !c->n_paths;
}

/* What a set or a writer changed, and what became of it by others' renames meanwhile. */
static size_t name_what_was_changed(struct export_plan *p, const struct export_choice *c)
{
	size_t n = 0;

	p->base = p->last = 0;
	for (size_t i = 0; i < p->rows.n; i++) {
		const struct export_row *row = &p->rows.rows[i];
		bool asked = is_asked(p, c, row);

		if (!asked && !(row->kind == EXPORT_GONE && p->is_named[row->path]))
			continue;
		if (asked && !n++)
			p->base = row->seq - 1;
		p->last = asked ? row->seq : p->last;
		if (row->kind == EXPORT_FOLDER) {
			buf_append(&p->below, &row->path, sizeof(row->path));
			buf_append(&p->below, &row->from, sizeof(row->from));
			continue;
		}
		name_path(p, row->path);
		if (row->kind == EXPORT_CAME || row->kind == EXPORT_GONE)
			name_path(p, row->from);
	}
	return n;
}

/* Paths: what is at and below them, and of a file what it was called before. */
static int name_paths(struct export_plan *p, const struct export_choice *c)
{
	for (unsigned i = 0; i < c->n_paths; i++) {
		int64_t name = report_names_take(&p->rows.names, c->paths[i]);
		uint32_t folder = (uint32_t)name;

		if (name < 0)
			return -ENOMEM;
		buf_append(&p->below, &folder, sizeof(folder));
	}
	return buf_failed(&p->below) ? -ENOMEM : 0;
}

static bool is_path_itself(const struct export_choice *c, const char *path)
{
	for (unsigned i = 0; i < c->n_paths; i++)
		if (strcmp(c->paths[i], path) == 0)
			return true;
	return false;
}

static void name_former_paths(struct export_plan *p, const struct export_choice *c)
{
	for (size_t i = p->rows.n; i-- > 0;) {
		const struct export_row *row = &p->rows.rows[i];

		if (row->kind == EXPORT_CAME &&
			(p->is_named[row->path] ||
				is_path_itself(c, export_name(&p->rows, row->path))))
			name_path(p, row->from);
	}
}

static int choose_paths(
	struct export_plan *p, const struct export_choice *c, size_t *n_chosen)
{
	bool by_paths = !c->set && !c->writer;
	int r = by_paths ? name_paths(p, c) : 0;

	p->n_named = p->rows.names.n;
	p->is_named = calloc((size_t)p->n_named + 1, sizeof(*p->is_named));
	if (r < 0 || !p->is_named)
		return -ENOMEM;
	if (!by_paths) {
		*n_chosen = name_what_was_changed(p, c);
	} else {
		name_former_paths(p, c);
		p->base = c->since;
		p->last = c->at;
	}
	return buf_failed(&p->below) ? -ENOMEM : 0;
}

/* ---- which rows, and what is one commit ---- */

static bool is_exported(const struct export_plan *p, const struct export_row *row)
{
	if (row->seq <= p->base || row->seq > p->last)
		return false;
	if (row->kind == EXPORT_FOLDER)
		return has_part_of(p, row->path) || has_part_of(p, row->from);
	return export_plan_has(p, row->path);
}

static int put_in_order(struct export_plan *p)
{
	p->order = calloc(p->rows.n + 1, sizeof(*p->order));
	if (!p->order)
		return -ENOMEM;
	for (size_t i = 0; i < p->rows.n; i++)
		if (is_exported(p, &p->rows.rows[i]))
			p->order[p->n_order++] = &p->rows.rows[i];
	if (p->n_order)
		p->base_ms = p->order[0]->time_ms;
	return 0;
}

/* The two rows of one rename, or exchange, are one change. */
static bool belong_together(const struct export_row *a, const struct export_row *b)
{
	return a->seq == b->seq || (a->from && a->from == b->path && b->from == a->path);
}

static bool brings_content(const struct export_row *row)
{
	return row->kind == EXPORT_CONTENT || row->kind == EXPORT_CAME;
}

/* Cutting: which commit each path had its newest content in, by name; 0: none. */
struct cutting {
	struct export_plan *p;
	const struct export_choice *choice;
	size_t *in;
};

/* Does the change of these rows go on with the commit, which has some already? */
static bool goes_on(const struct cutting *cut, const struct export_commit *commit,
	size_t begin, size_t end)
{
	const struct export_row *first = cut->p->order[begin];

	if (first->set != commit->set || first->command != commit->command ||
		first->writer != commit->writer ||
		first->time_ms > commit->time_ms + PAUSE_MS)
		return false;
	for (size_t i = begin; i < end; i++) {
		const struct export_row *row = cut->p->order[i];
		bool again = cut->in[row->path] == cut->p->n_commits;

		/* A file that was renamed away is told under its new name. */
		if (again &&
			(brings_content(row) || (row->kind == EXPORT_GONE && !row->from)))
			return false;
		if (row->kind == EXPORT_FOLDER)
			return false; /* told apart from edits of what lies below */
	}
	return true;
}

static void add_change(const struct cutting *cut, size_t begin, size_t end)
{
	struct export_plan *p = cut->p;
	struct export_commit *c = p->n_commits ? &p->commits[p->n_commits - 1] : NULL;
	const struct export_row *first = p->order[begin], *last = p->order[end - 1];

	if (!c || p->order[begin - 1]->kind == EXPORT_FOLDER ||
		!goes_on(cut, c, begin, end)) {
		uint64_t before = c ? c->at : p->base;

		c = &p->commits[p->n_commits++];
		*c = (struct export_commit){.begin = begin,
			.before = before,
			.writer = first->writer,
			.command = first->command,
			.set = first->set,
			.chosen = !cut->choice->set && !cut->choice->writer};
	}
	c->end = end;
	c->at = last->seq;
	c->time_ms = last->time_ms;
	for (size_t i = begin; i < end; i++) {
		c->chosen |= is_asked(p, cut->choice, p->order[i]);
		if (brings_content(p->order[i]))
			cut->in[p->order[i]->path] = p->n_commits;
	}
}

static int cut_into_commits(struct export_plan *p, const struct export_choice *choice)
{
	struct cutting cut = {.p = p, .choice = choice};

	p->commits = calloc(p->n_order + 1, sizeof(*p->commits));
	cut.in = calloc((size_t)p->rows.names.n + 1, sizeof(*cut.in));
	if (!p->commits || !cut.in) {
		free(cut.in);
		return -ENOMEM;
	}
	for (size_t begin = 0, end; begin < p->n_order; begin = end) {
		for (end = begin + 1; end < p->n_order; end++)
			if (!belong_together(p->order[end - 1], p->order[end]))
				break;
		add_change(&cut, begin, end);
	}
	free(cut.in);
	return 0;
}

/* ---- all of it ---- */

/* Where the set begins and ends, so that no more is read than need be. */
static int find_set(
	const struct workspace *ws, uint64_t id, uint64_t *first, uint64_t *last)
{
	auto_json *json = NULL;
	auto_buf name = {0}, text = {0};
	struct json_object *set = NULL;
	int r;

	buf_printf(&name, "sets/%llu.json", (unsigned long long)id);
	r = buf_failed(&name) ? -ENOMEM
			      : workspace_json(ws, name.data, "log", &text, &json);
	if (r < 0)
		return r;
	if (!json_object_object_get_ex(json, "set", &set))
		return -EBADMSG;
	*first = (uint64_t)json_number(set, "first_seq", 1);
	*last = (uint64_t)json_number(set, "last_seq", 0);
	return 0;
}

int export_plan_make(struct export_plan *p, const struct workspace *ws,
	const struct export_choice *choice, size_t *n_chosen)
{
	uint64_t after = choice->since, last = choice->at, first, end;
	int r = 0;

	*n_chosen = 0;
	if (choice->set) {
		r = find_set(ws, choice->set, &first, &end);
		if (r == 0) {
			after = after + 1 < first ? first - 1 : after;
			last = last < end ? last : end;
		}
	}
	if (r == 0)
		r = export_rows_read(&p->rows, ws, after, last);
	if (r == 0)
		r = choose_paths(p, choice, n_chosen);
	if (r == 0)
		r = put_in_order(p);
	if (r == 0)
		r = cut_into_commits(p, choice);
	if (!choice->set && !choice->writer)
		*n_chosen = p->n_order;
	return r;
}
