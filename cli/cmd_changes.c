#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/moment.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/show.h"
#include "cli/table.h"
#include "cli/words.h"

enum { OPT_SINCE, OPT_NOT_BY, OPT_JSON };

static const struct option_spec options[] = {
	[OPT_SINCE] = {"since", 's', "WHEN", "a time, -15m, an epoch, or last (default)",
		false},
	[OPT_NOT_BY] = {"not-by", 0, "NAME", "not what this writer alone did; me: you",
		false},
	[OPT_JSON] = {"json", 0, NULL, "as JSON (schema stompfs/since/1)", false},
	{0}};

static const struct command_spec spec = {
	.name = "changes",
	.usage = "[DIR] [--since WHEN] [--not-by NAME] [--json]",
	.about = "What is different from then, a line for each file: who, what, and which "
		 "version\n"
		 "to compare with. What came and went in between is left out. Since "
		 "`last`: since\n"
		 "you last asked that, or last changed something yourself. Made to be read "
		 "at the\n"
		 "beginning of a turn: `cat .stomp/since/last` tells the same of others.",
	.example = "  stomp changes --since -1h --not-by me",
	.options = options,
	.max_args = 1,
};

enum { ROWS_SHOWN = 50 };

static bool is_by_alone(struct json_object *row, const char *who, const char *me)
{
	if (strcmp(who, me) == 0)
		return !json_flag(row, "others");
	return !json_flag(row, "mine") && strcmp(json_text(row, "writer", ""), who) == 0;
}

/* Takes out of the list what one writer alone did. */
static void leave_out(struct json_object *json, const char *who)
{
	struct json_object *rows = json_list(json, "changes");
	struct json_object *kept = json_object_new_array();
	const char *me = json_text(json, "me", "");

	if (strcmp(who, "me") == 0)
		who = me;
	for (size_t i = 0; rows && i < json_object_array_length(rows); i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);

		if (!is_by_alone(row, who, me))
			json_object_array_add(kept, json_object_get(row));
	}
	json_object_object_add(json, "changes", kept);
}

static void put_lines(struct buf *out, struct json_object *row)
{
	int64_t added = json_number(row, "added", -1);

	buf_printf(out, "%s%s", json_text(row, "what", ""),
		json_flag(row, "folder") ? " folder" : "");
	if (added >= 0)
		buf_printf(out, " +%lld -%lld", (long long)added,
			(long long)json_number(row, "removed", 0));
}

/* The command that shows it. */
static void put_see(struct buf *out, struct json_object *row)
{
	const char *path = json_text(row, "path", ""), *what = json_text(row, "what", "");
	auto_buf word = {0};
	bool gone = strcmp(what, "deleted") == 0;

	if (json_flag(row, "folder") || strcmp(what, "mode") == 0)
		return;
	if (strcmp(what, "new") == 0) {
		buf_puts(&word, path);
	} else {
		buf_printf(&word, "%s@%lld", path, (long long)json_number(row, "base", 0));
		buf_puts(out, gone ? "stomp cat " : "stomp diff ");
	}
	if (strcmp(what, "new") == 0)
		buf_puts(out, "cat ");
	word_quote(out, word.data ?: "");
}

static void put_row(struct text_table *t, struct json_object *row)
{
	auto_buf what = {0}, see = {0};
	bool both = json_flag(row, "mine") && json_flag(row, "others");

	put_lines(&what, row);
	put_see(&see, row);
	text_table_cell(t, "%s", json_text(row, "path", ""));
	text_table_cell(t, "%s", what.data ?: "");
	text_table_cell(
		t, "%s%s", json_text(row, "writer", "(outside)"), both ? ", you" : "");
	text_table_cell(t, "%s", see.data ?: "");
}

static int show(struct json_object *json)
{
	static const struct text_column columns[] = {{"FILE", false, true, COLOUR_NONE},
		{"WHAT", false, false, COLOUR_NONE}, {"BY", false, false, COLOUR_CYAN},
		{"TO SEE IT", false, false, COLOUR_NONE}};
	struct json_object *rows = json_list(json, "changes");
	size_t n = rows ? json_object_array_length(rows) : 0;
	int64_t more = json_number(json, "more", 0);
	auto_text_table t = {0};
	struct output out;

	if (!n) {
		puts("Nothing is different from then.");
		return STOMP_DONE;
	}
	text_table_init(&t, columns, ARRAY_SIZE(columns));
	for (size_t i = 0; i < n && i < ROWS_SHOWN; i++)
		put_row(&t, json_object_array_get_idx(rows, i));
	output_begin(&out, true);
	if (text_table_print(&t, &out) < 0)
		fputs("(out of memory)\n", out.f);
	if (n > ROWS_SHOWN || more)
		fprintf(out.f, "and %s%lld more (--json has 500)\n", more ? "up to " : "",
			(long long)(more + (n > ROWS_SHOWN ? (int64_t)n - ROWS_SHOWN : 0)));
	return output_end(&out);
}

/* The name in since/ of what the user said. */
static bool put_name(struct buf *out, const char *word)
{
	struct moment m;

	buf_puts(out, "since/");
	if (strcmp(word, "last") == 0) {
		buf_puts(out, word);
	} else {
		if (!moment_parse(word, clock_wall_ns(clock_system()), &m))
			return false;
		moment_put(out, &m);
	}
	buf_puts(out, ".json");
	return true;
}

int cmd_changes(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	auto_json *json = NULL;
	auto_buf name = {0}, text = {0};
	const char *since;
	int r = options_parse(&spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	since = o.values[OPT_SINCE] ?: "last";
	if (!put_name(&name, since))
		return options_wrong(&spec,
			"--since takes a time that is past (10:32, 2026-11-24T10:32:05, "
			"-15m), an "
			"epoch (57) or last, not %s",
			since);
	r = workspace_enter(&ws, spec.name, o.n_args ? o.args[0] : NULL, NULL);
	if (r != STOMP_DONE)
		return r;
	r = buf_failed(&name) ? -ENOMEM
			      : workspace_json(&ws, name.data, "since", &text, &json);
	if (r < 0)
		return report_errno(spec.name, name.data ?: "", r);
	if (o.values[OPT_NOT_BY])
		leave_out(json, o.values[OPT_NOT_BY]);
	if (o.values[OPT_JSON]) {
		puts(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN));
		return STOMP_DONE;
	}
	return show(json);
}
