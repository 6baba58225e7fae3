#include <stdio.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/show.h"
#include "cli/table.h"
#include "cli/versions.h"
#include "cli/words.h"

enum { OPT_ALL, OPT_N, OPT_JSON };

static const struct option_spec options[] = {
	[OPT_ALL] = {"all", 'a', NULL, "everybody's refusals, as a table", false},
	[OPT_N] = {"number", 'n', "N", "at most N of them", false},
	[OPT_JSON] = {"json", 0, NULL, "as JSON (schema stompfs/refusals/1)", false},
	{0}};

static const struct command_spec spec = {
	.name = "why",
	.usage = "[DIR] [--all] [-n N] [--json]",
	.about = "What was refused to you in this workspace, newest first: what was asked, "
		 "who\n"
		 "changed or holds the file, and what to do now. The same as `cat "
		 ".stomp/why`.",
	.example = "  stomp why                      # after EAGAIN, ESTALE or EBUSY\n"
		   "  stomp why --all -n 20          # who collides with whom",
	.options = options,
	.max_args = 1,
};

/* Everybody's, one line each. */
static int show_table(struct json_object *rows, uint64_t limit)
{
	static const struct text_column columns[] = {{"ID", true, false, COLOUR_NONE},
		{"WHEN", false, false, COLOUR_NONE}, {"WRITER", false, false, COLOUR_CYAN},
		{"ASKED", false, false, COLOUR_NONE}, {"ERROR", false, false, COLOUR_RED},
		{"REASON", false, false, COLOUR_NONE}, {"OTHER", false, false, COLOUR_CYAN},
		{"FILE", false, true, COLOUR_NONE}};
	size_t n = json_object_array_length(rows);
	auto_text_table t = {0};
	struct output out;

	if (limit && n > limit)
		n = limit;
	text_table_init(&t, columns, ARRAY_SIZE(columns));
	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(rows, i);
		auto_buf when = {0};

		version_when(&when, json_text(o, "time", ""));
		text_table_cell(&t, "%lld", (long long)json_number(o, "id", 0));
		text_table_cell(&t, "%s", when.data ?: "");
		text_table_cell(&t, "%s", json_text(o, "writer", "?"));
		text_table_cell(&t, "%s", json_text(o, "asked", "?"));
		text_table_cell(&t, "%s", json_text(o, "errno", "?"));
		text_table_cell(&t, "%s", json_text(o, "reason", "?"));
		text_table_cell(&t, "%s",
			json_text(o, "holder", json_text(o, "current_writer", "-")));
		text_table_cell(&t, "%s", json_text(o, "path", "?"));
	}
	output_begin(&out, true);
	if (n && text_table_print(&t, &out) < 0)
		fputs("(out of memory)\n", out.f);
	if (!n)
		fputs("Nothing was refused to anybody here.\n", out.f);
	return output_end(&out);
}

/* One's own, each with its whole text. */
static int show_texts(struct json_object *rows, uint64_t limit)
{
	size_t n = json_object_array_length(rows);
	struct output out;

	output_begin(&out, true);
	for (size_t i = 0; i < n && i < limit; i++) {
		struct json_object *o = json_object_array_get_idx(rows, i);

		fprintf(out.f, "%s%s\n", i ? "\n" : "", json_text(o, "text", ""));
	}
	return output_end(&out);
}

int cmd_why(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	auto_buf text = {0};
	auto_json *json = NULL;
	struct json_object *rows;
	uint64_t limit = 0;
	int r = options_parse(&spec, argc, argv, &o);
	const char *name = o.values[OPT_ALL] ? "refusals.json" : "why.json";

	if (r != OPTIONS_GO_ON)
		return r;
	if (o.values[OPT_N] && !word_count(o.values[OPT_N], &limit))
		return options_wrong(
			&spec, "-n takes a number from 1, not %s", o.values[OPT_N]);
	r = workspace_enter(&ws, spec.name, o.n_args ? o.args[0] : NULL, NULL);
	if (r != STOMP_DONE)
		return r;
	if (!limit && o.values[OPT_JSON])
		return show_json(&ws, spec.name, name, "refusals");
	if (!limit && !o.values[OPT_ALL])
		return show_file(&ws, spec.name, "why", "Nothing was refused to you.\n");
	r = workspace_json(&ws, name, "refusals", &text, &json);
	rows = r < 0 ? NULL : json_list(json, "refusals");
	if (!rows)
		return report_errno(spec.name, name, r < 0 ? r : -EBADMSG);
	if (o.values[OPT_JSON])
		return show_json_rows(json, "refusals", limit);
	return o.values[OPT_ALL] ? show_table(rows, limit) : show_texts(rows, limit);
}
