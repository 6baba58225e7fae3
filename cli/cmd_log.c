#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/log_sets.h"
#include "cli/options.h"
#include "cli/show.h"
#include "cli/table.h"
#include "cli/versions.h"
#include "cli/words.h"
enum { OPT_WRITER, OPT_N, OPT_JSON, OPT_SETS, OPT_SET };

static const struct option_spec options[] = {
	[OPT_WRITER] = {"writer", 'w', "NAME", "only what this writer did", false},
	[OPT_N] = {"number", 'n', "N", "at most N of them", false},
	[OPT_JSON] = {"json", 0, NULL, "as JSON (schema stompfs/log/1)", false},
	[OPT_SETS] = {"sets", 0, NULL, "change sets: what each writer did in one go",
		false},
	[OPT_SET] = {"set", 0, "ID", "the changes of one set", false},
	{0}};

static const struct command_spec spec = {
	.name = "log",
	.usage = "[PATH] [--writer NAME] [-n N] [--sets | --set ID] [--json]",
	.about = "The versions of PATH, newest first: who changed it, when and how, also "
		 "across\n"
		 "renames and after it was deleted. For a folder, and without PATH: the "
		 "newest\n"
		 "changes below it, out of the workspace's newest 200, and where one "
		 "command was\n"
		 "refused many files. With --set: what the set changed, at PATH or below.",
	.example =
		"  stomp log src/a.c              # then: stomp diff src/a.c@2 src/a.c@3\n"
		"  stomp log --writer alice -n 5\n"
		"  stomp log --sets               # then: stomp log --set 12; stomp undo "
		"12",
	.options = options,
	.max_args = 1,
};

struct filter {
	const char *below;    /* only this path and what is below it, as JSON spells it */
	const char *relative; /* the same as bytes */
	const char *writer;   /* or NULL */
	uint64_t limit;	      /* 0: none */
};

static bool is_below(const char *path, const char *folder)
{
	size_t n = strlen(folder);

	return strncmp(path, folder, n) == 0 && (!path[n] || path[n] == '/');
}

/* Below the path by the name of then, or by that of now where a folder was renamed. */
static bool passes(const struct filter *f, const struct version_entry *v)
{
	const char *now = json_text(v->json, "now", NULL);
	auto_free char *name = now ? word_unescape(now) : NULL;

	if (f->below && !is_below(v->path, f->below) &&
		!(name && f->relative && is_below(name, f->relative)))
		return false;
	return !f->writer || (v->writer && strcmp(v->writer, f->writer) == 0);
}

/* Keep what passes, in place. */
static void apply(const struct filter *f, struct version_list *list)
{
	size_t kept = 0;

	for (size_t i = 0; i < list->n && (!f->limit || kept < f->limit); i++) {
		if (passes(f, &list->entries[i]))
			list->entries[kept++] = list->entries[i];
	}
	list->n = kept;
}

static int show_filtered_json(const struct version_list *list)
{
	auto_json *json = json_object_new_object();
	struct json_object *rows = json_object_new_array();

	for (size_t i = 0; i < list->n; i++)
		json_object_array_add(rows, json_object_get(list->entries[i].json));
	json_object_object_add(json, "schema",
		json_object_new_string(json_text(list->json, "schema", "")));
	json_object_object_add(json, "versions", rows);
	return show_json_rows(json, "versions", 0);
}

static void put_what(struct text_table *t, const struct version_entry *v)
{
	auto_buf what = {0};
	size_t n = v->flags ? json_object_array_length(v->flags) : 0;

	buf_puts(&what, v->kind);
	for (size_t i = 0; i < n; i++)
		buf_printf(&what, " %s",
			json_object_get_string(json_object_array_get_idx(v->flags, i)));
	text_table_cell(t, "%s", what.data ?: "");
}

static void put_file(struct text_table *t, const struct version_entry *v)
{
	if (!v->from_path)
		text_table_cell(t, "%s", v->path);
	else if (version_is_delete(v))
		text_table_cell(t, "%s (now %s)", v->path, v->from_path);
	else
		text_table_cell(t, "%s (was %s)", v->path, v->from_path);
}

static int say_none(const struct filter *f, const char *path)
{
	if (f->writer)
		fprintf(stderr, "stomp log: no change by %s is recorded%s%s\n", f->writer,
			path ? " for " : "", path ?: "");
	else if (path)
		fprintf(stderr,
			"stomp log: no version of %s is recorded: nobody has changed "
			"it through the mount\n",
			path);
	else
		fprintf(stderr, "stomp log: nothing has been changed here yet\n");
	return STOMP_NO;
}

/* ---- many refusals told as one ---- */

struct incidents {
	struct json_object *events; /* newest first; or NULL */
	size_t at;
	const struct filter *filter;
};

/* The next one that is newer than seq, or NULL. */
static struct json_object *next_incident(struct incidents *in, uint64_t seq)
{
	size_t n = in->events ? json_object_array_length(in->events) : 0;

	for (; in->at < n; in->at++) {
		struct json_object *o = json_object_array_get_idx(in->events, in->at);
		const char *by = in->filter->writer;

		if ((uint64_t)json_number(o, "seq", 0) <= seq)
			break;
		if (strcmp(json_text(o, "kind", ""), "incident") != 0 ||
			(by && strcmp(json_text(o, "writer", ""), by) != 0))
			continue;
		in->at++;
		return o;
	}
	return NULL;
}

/* Only the log of the whole workspace has them. */
static struct incidents find_incidents(
	const struct version_list *list, const struct filter *f)
{
	return (struct incidents){
		.events = f->below ? NULL : json_list(list->json, "events"), .filter = f};
}

static void put_incident(struct text_table *t, struct json_object *o)
{
	auto_buf when = {0};

	version_when(&when, json_text(o, "time", ""));
	text_table_cell(t, "%s", when.data ?: "");
	text_table_cell(t, "%s", json_text(o, "writer", "-"));
	text_table_cell(t, "refused");
	text_table_cell(t, "-");
	text_table_cell(t, "-");
	text_table_cell(t, "%s", json_text(o, "text", ""));
}

static void put_version(struct text_table *t, const struct version_entry *v)
{
	auto_buf when = {0}, size = {0};

	version_when(&when, v->time);
	put_size(&size, v->size);
	text_table_cell(t, "%s", when.data ?: "");
	text_table_cell(t, "%s", v->writer ?: "-");
	put_what(t, v);
	text_table_cell(t, "%s", version_has_content(v) && size.data ? size.data : "-");
	text_table_cell(t, "@%llu", (unsigned long long)v->number);
	put_file(t, v);
}

/* Versions and incidents in one order, at most the limit. */
static size_t put_rows(
	struct text_table *t, const struct version_list *list, const struct filter *f)
{
	struct incidents in = find_incidents(list, f);
	uint64_t limit = f->limit ?: UINT64_MAX;
	struct json_object *incident;
	size_t rows = 0;

	for (size_t i = 0; i <= list->n && rows < limit; i++) {
		uint64_t seq = i < list->n ? list->entries[i].seq : 0;

		while (rows < limit && (incident = next_incident(&in, seq))) {
			put_incident(t, incident);
			rows++;
		}
		if (i < list->n && rows < limit) {
			put_version(t, &list->entries[i]);
			rows++;
		}
	}
	return rows;
}

static int show_table(
	const struct version_list *list, const struct filter *f, const char *path)
{
	static const struct text_column columns[] = {{"WHEN", false, false, COLOUR_NONE},
		{"WRITER", false, false, COLOUR_CYAN}, {"WHAT", false, false, COLOUR_NONE},
		{"SIZE", true, false, COLOUR_NONE}, {"VERSION", true, false, COLOUR_YELLOW},
		{"FILE", false, true, COLOUR_NONE}};
	auto_text_table t = {0};
	struct output out;

	text_table_init(&t, columns, ARRAY_SIZE(columns));
	if (!put_rows(&t, list, f))
		return say_none(f, path);
	output_begin(&out, true);
	if (text_table_print(&t, &out) < 0)
		fputs("(out of memory)\n", out.f);
	return output_end(&out);
}

static bool is_folder(const struct workspace *ws, const char *relative)
{
	auto_buf path = {0};
	struct stat st;

	buf_printf(&path, "%s/%s", ws->root, relative);
	return !buf_failed(&path) && lstat(path.data, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool was_folder(const struct version_entry *newest)
{
	return strcmp(newest->kind, "rmdir") == 0 || strcmp(newest->kind, "mkdir") == 0;
}

/* The changes of one set. STOMP_DONE or the code to exit with. */
static int read_set(const struct workspace *ws, const char *word, const struct filter *f,
	struct version_list *list)
{
	/* Who picks a writer's, or a path's, looks through all. */
	uint64_t enough = f->writer || f->below ? 0 : f->limit;
	uint64_t id;
	int r;

	if (!word_count(word, &id))
		return options_wrong(
			&spec, "--set takes the number of a change set, not %s", word);
	r = versions_read_set(ws, id, enough, list);
	if (r == 0)
		return STOMP_DONE;
	if (r != -ENOENT)
		return report_errno(spec.name, ".stomp/sets", r);
	fprintf(stderr,
		"stomp log: there is no change set %s (`stomp log --sets` lists them)\n",
		word);
	return STOMP_NO;
}

/* The versions of a file, or what is below a folder (a gone one too). */
static int read_log(const struct workspace *ws, const char *relative, struct filter *f,
	struct buf *name, struct buf *text, struct version_list *list)
{
	int r;

	if (relative && *relative && !is_folder(ws, relative)) {
		/* Who picks a writer's looks through all. */
		uint64_t newest = f->writer ? 0 : f->limit;

		r = versions_read_newest(ws, relative, newest, text, list);
		if (r != -ENOENT && (r < 0 || (list->n && !was_folder(&list->entries[0]))))
			return r;
		versions_done(list);
		buf_reset(text);
	}
	if (relative && *relative) {
		json_put_name(name, relative);
		f->below = name->data;
	}
	return versions_read(ws, NULL, text, list);
}

int cmd_log(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	auto_versions list = {0};
	auto_buf text = {0}, name = {0};
	auto_free char *relative = NULL;
	struct filter f = {0};
	int r = options_parse(&spec, argc, argv, &o);
	const char *path = o.n_args ? o.args[0] : NULL;

	if (r != OPTIONS_GO_ON)
		return r;
	f.writer = o.values[OPT_WRITER];
	if (o.values[OPT_N] && !word_count(o.values[OPT_N], &f.limit))
		return options_wrong(
			&spec, "-n takes a number from 1, not %s", o.values[OPT_N]);
	r = workspace_enter(&ws, spec.name, path, path ? &relative : NULL);
	if (r != STOMP_DONE)
		return r;
	if (o.values[OPT_SETS])
		return log_sets(&ws, f.writer, f.limit, o.values[OPT_JSON] != NULL);
	if (o.values[OPT_SET]) {
		if (relative && *relative) {
			json_put_name(&name, relative);
			f.below = name.data;
			f.relative = relative;
		}
		r = read_set(&ws, o.values[OPT_SET], &f, &list);
		if (r != STOMP_DONE)
			return r;
	} else {
		r = read_log(&ws, relative, &f, &name, &text, &list);
		if (r < 0)
			return report_errno(spec.name, path ?: ".stomp/log.json", r);
	}
	if (o.values[OPT_JSON] && !f.below && !f.writer && !f.limit)
		return text.len ? show_json_text(text.data)
				: show_json_rows(list.json, "versions", 0);
	apply(&f, &list);
	if (o.values[OPT_JSON])
		return show_filtered_json(&list);
	return show_table(&list, &f, path);
}
