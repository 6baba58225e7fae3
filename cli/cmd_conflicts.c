#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/conflict.h"
#include "cli/content.h"
#include "cli/options.h"
#include "cli/patch.h"
#include "cli/show.h"
#include "cli/table.h"

enum { OPT_ALL, OPT_JSON };

static const struct option_spec options[] = {
	[OPT_ALL] = {"all", 'a', NULL, "also the newest that are resolved", false},
	[OPT_JSON] = {"json", 0, NULL, "as JSON (schema stompfs/conflicts/1)", false},
	{0}};

static const struct command_spec list_spec = {
	.name = "conflicts",
	.usage = "[show ID] [DIR] [--all] [--json]",
	.about =
		"Changes that were refused and whose bytes are kept, until somebody has "
		"resolved\nthem (stomp resolve). `stomp conflicts show ID` tells all about "
		"one.",
	.example = "  stomp conflicts                # is anybody's work left aside?\n"
		   "  stomp conflicts show 31",
	.options = options,
	.max_args = 1,
};

static const struct command_spec show_spec = {
	.name = "conflicts show",
	.usage = "ID [DIR]",
	.about = "What was refused and why, then two differences: what others had made of "
		 "the\nfile (base to ours), and what the refused writer wanted (base to "
		 "theirs).",
	.example = "  stomp conflicts show 31; stomp resolve 31 --merged",
	.min_args = 1,
	.max_args = 2,
};

/* ---- the list ---- */

static void add_rows(struct text_table *t, struct json_object *rows)
{
	size_t n = rows ? json_object_array_length(rows) : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(rows, i),
				   *resolved = NULL;
		auto_buf when = {0}, size = {0};

		json_object_object_get_ex(o, "resolved", &resolved);
		version_when(&when, json_text(o, "time", ""));
		put_size(&size, (uint64_t)json_number(o, "size", 0));
		text_table_cell(t, "%lld", (long long)json_number(o, "id", 0));
		text_table_cell(t, "%s", when.data ?: "");
		text_table_cell(t, "%s", json_text(o, "writer", "?"));
		text_table_cell(t, "%s", size.data ?: "");
		text_table_cell(t, "%s", json_text(o, "current_writer", "-"));
		if (resolved)
			text_table_cell(t, "%s (%s)", json_text(resolved, "how", "?"),
				json_text(resolved, "by", "?"));
		else
			text_table_cell(t, "-");
		text_table_cell(t, "%s", json_text(o, "path", "?"));
	}
}

static int show_table(struct json_object *json, bool all)
{
	static const struct text_column columns[] = {{"ID", true, false, COLOUR_YELLOW},
		{"WHEN", false, false, COLOUR_NONE}, {"WRITER", false, false, COLOUR_CYAN},
		{"SIZE", true, false, COLOUR_NONE}, {"OTHER", false, false, COLOUR_CYAN},
		{"RESOLVED", false, false, COLOUR_NONE},
		{"FILE", false, true, COLOUR_NONE}};
	struct json_object *rows = json_list(json, "conflicts");
	struct json_object *resolved = all ? json_list(json, "resolved") : NULL;
	auto_text_table t = {0};
	struct output out;

	text_table_init(&t, columns, ARRAY_SIZE(columns));
	add_rows(&t, rows);
	add_rows(&t, resolved);
	output_begin(&out, true);
	if (t.n_cells && text_table_print(&t, &out) < 0)
		fputs("(out of memory)\n", out.f);
	if (!t.n_cells)
		fputs("No conflict: no refused work is left aside here.\n", out.f);
	return output_end(&out);
}

static int list(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	auto_buf text = {0};
	auto_json *json = NULL;
	int r = options_parse(&list_spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	r = workspace_enter(&ws, list_spec.name, o.n_args ? o.args[0] : NULL, NULL);
	if (r != STOMP_DONE)
		return r;
	r = workspace_json(&ws, "conflicts.json", "conflicts", &text, &json);
	if (r < 0 || !json_list(json, "conflicts"))
		return report_errno(
			list_spec.name, ".stomp/conflicts.json", r < 0 ? r : -EBADMSG);
	if (!o.values[OPT_JSON])
		return show_table(json, o.values[OPT_ALL]);
	if (!o.values[OPT_ALL])
		json_object_object_del(json, "resolved");
	return show_json_rows(json, "conflicts", 0);
}

/* ---- one of them ---- */

struct side {
	const char *name;
	struct buf content, label;
	bool gone;
};

#define auto_side __attribute__((cleanup(side_done))) struct side

static void side_done(struct side *s)
{
	buf_done(&s->content);
	buf_done(&s->label);
}

static int read_side(const struct workspace *ws, const struct conflict *c, const char *name,
	struct side *s)
{
	auto_close int fd = conflict_open(ws, c, name);
	const char *number = strcmp(name, "base") == 0 ? "base" : "current";
	int r = fd < 0 ? fd : content_read_fd(fd, &s->content);

	s->name = name;
	s->gone = r == -ENOENT;
	buf_puts(&s->label, name);
	if (strcmp(name, "theirs") == 0)
		buf_printf(
			&s->label, " (refused to %s)", json_text(c->info, "writer", "?"));
	else if (json_number(c->info, number, 0))
		buf_printf(&s->label, " (version %lld)",
			(long long)json_number(c->info, number, 0));
	return r < 0 && !s->gone ? r : 0;
}

static int print_difference(const struct conflict *c, const struct side *old,
	const struct side *new, struct output *out)
{
	const struct patch_side from = {.relative = c->relative,
		.label = old->label.data ?: old->name,
		.content = &old->content,
		.gone = old->gone};
	const struct patch_side to = {.relative = c->relative,
		.label = new->label.data ?: new->name,
		.content = &new->content,
		.gone = new->gone};

	fprintf(out->f, "\n%s%s to %s%s%s\n", output_on(out, COLOUR_BOLD), old->name,
		new->name, patch_is_empty(&from, &to) ? ": no difference" : "",
		output_off(out, COLOUR_BOLD));
	return patch_print(show_spec.name, &from, &to, out);
}

static int print_sides(
	const struct workspace *ws, const struct conflict *c, struct output *out)
{
	auto_side base = {0}, ours = {0}, theirs = {0};
	int r = read_side(ws, c, "base", &base) ?: read_side(ws, c, "ours", &ours)
							   ?: read_side(ws, c, "theirs",
								      &theirs);

	if (r < 0)
		return report_errno(show_spec.name, c->path, r);
	if (base.gone) /* nothing is known of what it was made from */
		return print_difference(c, &ours, &theirs, out);
	return print_difference(c, &base, &ours, out)
		       ?: print_difference(c, &base, &theirs, out);
}

static int show(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	auto_conflict c = {0};
	auto_buf name = {0}, text = {0};
	struct output out;
	int r = options_parse(&show_spec, argc, argv, &o), ended;

	if (r != OPTIONS_GO_ON)
		return r;
	r = conflict_enter(
		show_spec.name, o.args[0], o.n_args > 1 ? o.args[1] : NULL, &ws, &c);
	if (r != STOMP_DONE)
		return r;
	buf_printf(&name, "conflicts/%llu/info", (unsigned long long)c.id);
	r = buf_failed(&name) ? -ENOMEM : workspace_read(&ws, name.data, &text);
	if (r < 0)
		return report_errno(show_spec.name, c.path, r);
	output_begin(&out, true);
	fputs(text.data ?: "", out.f);
	r = print_sides(&ws, &c, &out);
	ended = output_end(&out);
	return r ?: ended;
}

int cmd_conflicts(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "show") == 0)
		return show(argc - 1, argv + 1);
	return list(argc, argv);
}
