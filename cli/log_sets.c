#include "cli/log_sets.h"

#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/show.h"
#include "cli/table.h"
#include "cli/versions.h"

static const struct text_column columns[] = {
	{"SET", true, false, COLOUR_BOLD},
	{"WRITER", false, false, COLOUR_CYAN},
	{"FROM", false, false, COLOUR_DIM},
	{"TO", false, false, COLOUR_DIM},
	{"FILES", true, false, COLOUR_NONE},
	{"CHANGES", true, false, COLOUR_NONE},
	{"COMMANDS", false, true, COLOUR_NONE},
};

static void put_commands(struct text_table *t, struct json_object *set)
{
	struct json_object *list = json_list(set, "commands");
	const char *undo = json_text(set, "undo", NULL);
	auto_buf text = {0};

	if (undo)
		buf_printf(&text, "undo of %s (%s)", json_text(set, "what", "?"), undo);
	for (size_t i = 0; !undo && list && i < json_object_array_length(list); i++)
		buf_printf(&text, "%s%s", i ? "; " : "",
			json_object_get_string(json_object_array_get_idx(list, i)));
	text_table_cell(t, "%s", text.data ?: "");
}

static void put_set(struct text_table *t, struct json_object *set)
{
	auto_buf from = {0}, to = {0};

	version_when(&from, json_text(set, "from", ""));
	version_when(&to, json_text(set, "to", ""));
	text_table_cell(t, "%lld", (long long)json_number(set, "id", 0));
	text_table_cell(t, "%s", json_text(set, "writer", "-"));
	text_table_cell(t, "%s", from.data ?: "");
	text_table_cell(t, "%s", to.data ?: "");
	text_table_cell(t, "%lld", (long long)json_number(set, "files", 0));
	text_table_cell(t, "%lld", (long long)json_number(set, "changes", 0));
	put_commands(t, set);
}

static int show_sets(struct json_object *sets)
{
	auto_text_table t = {0};
	struct output out;

	text_table_init(&t, columns, ARRAY_SIZE(columns));
	for (size_t i = 0; i < json_object_array_length(sets); i++)
		put_set(&t, json_object_array_get_idx(sets, i));
	output_begin(&out, true);
	if (text_table_print(&t, &out) < 0)
		fputs("(out of memory)\n", out.f);
	return output_end(&out);
}

/* The sets of one table that are wanted, put behind the chosen ones; *last is the last id
 * of all. 1: there are more. */
static int choose(const struct workspace *ws, const char *writer, uint64_t limit,
	uint64_t *last, struct json_object *chosen)
{
	auto_json *json = NULL;
	auto_buf name = {0}, text = {0};
	uint64_t before = *last;
	struct json_object *sets;
	int r;

	buf_puts(&name, "sets/log");
	if (before)
		buf_printf(&name, "-%llu", (unsigned long long)before);
	buf_puts(&name, ".json");
	r = buf_failed(&name) ? -ENOMEM
			      : workspace_json(ws, name.data, "sets", &text, &json);
	sets = r < 0 ? NULL : json_list(json, "sets");
	for (size_t i = 0; sets && i < json_object_array_length(sets); i++) {
		struct json_object *set = json_object_array_get_idx(sets, i);

		if (limit && json_object_array_length(chosen) >= limit)
			return 0;
		*last = (uint64_t)json_number(set, "id", 0);
		if (!writer || strcmp(json_text(set, "writer", ""), writer) == 0)
			json_object_array_add(chosen, json_object_get(set));
	}
	return r < 0 ? r : json_flag(json, "truncated") && *last != before;
}

int log_sets(const struct workspace *ws, const char *writer, uint64_t limit, bool as_json)
{
	auto_json *kept = json_object_new_object();
	struct json_object *chosen = json_object_new_array();
	uint64_t last = 0;
	int r;

	json_object_object_add(kept, "schema", json_object_new_string("stompfs/sets/1"));
	json_object_object_add(kept, "sets", chosen);
	do
		r = choose(ws, writer, limit, &last, chosen);
	while (r == 1);
	if (r < 0)
		return report_errno("log", ".stomp/sets/log.json", r);
	if (as_json)
		return show_json_rows(kept, "sets", 0);
	if (!json_object_array_length(chosen)) {
		fprintf(stderr, "stomp log: nothing has been changed here %s%s yet\n",
			writer ? "by " : "", writer ?: "by anybody");
		return STOMP_NO;
	}
	return show_sets(chosen);
}
