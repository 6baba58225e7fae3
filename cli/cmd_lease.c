#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/show.h"
#include "cli/table.h"
#include "cli/words.h"

#define CTL_LINE_MAX 4096

/* Places in the tables below; each has only those it knows. */
enum { OPT_JSON, OPT_TTL, OPT_REASON, OPT_FORCE = OPT_TTL };

static const struct option_spec list_options[] = {
	{"json", 0, NULL, "as JSON (schema stompfs/leases/1)", false}, {0}};
static const struct option_spec acquire_options[] = {
	[OPT_JSON] = {"json", 0, NULL, "the answer as JSON", false},
	[OPT_TTL] = {"ttl", 't', "SPAN", "how long, after the last write: 30s, 5m, 1h",
		false},
	[OPT_REASON] = {"reason", 'r', "TEXT", "shown to whoever meets the lease", false},
	{0}};
static const struct option_spec renew_options[] = {
	[OPT_JSON] = {"json", 0, NULL, "the answer as JSON", false},
	[OPT_TTL] = {"ttl", 't', "SPAN", "how long from now: 30s, 5m, 1h", false},
	{0}};
static const struct option_spec release_options[] = {
	{"json", 0, NULL, "the answer as JSON", false}, {0}};
static const struct option_spec break_options[] = {
	[OPT_JSON] = {"json", 0, NULL, "the answer as JSON", false},
	[OPT_FORCE] = {"force", 'f', NULL, "also when you are an agent, not a person",
		false},
	{0}};

static const struct command_spec specs[] = {
	{.name = "lease acquire",
		.usage = "PATH-OR-PATTERN… [--ttl SPAN] [--reason TEXT] [--json]",
		.about = "Hold files, folders or patterns ahead of changing them: until it "
			 "lapses "
			 "or\nyou release it, nobody else can change them. All or none. "
			 "Exit code "
			 "1 when\nanother writer holds one of them.",
		.example =
			"  stomp lease acquire src/a.c src/b.c --ttl 5m --reason 'rename "
			"parse()'\n  stomp lease acquire 'src/*.c'",
		.options = acquire_options,
		.min_args = 1,
		.max_args = -1},
	{.name = "lease renew",
		.usage = "PATH-OR-PATTERN… [--ttl SPAN] [--json]",
		.about = "Let leases of yours run on from now. Exit code 1 when you hold "
			 "none.",
		.example = "  stomp lease renew src/a.c --ttl 10m",
		.options = renew_options,
		.min_args = 1,
		.max_args = -1},
	{.name = "lease release",
		.usage = "PATH-OR-PATTERN… [--json]",
		.about = "Give leases back before they lapse. Exit code 1 when you hold "
			 "none.",
		.example = "  stomp lease release src/a.c src/b.c",
		.options = release_options,
		.min_args = 1,
		.max_args = -1},
	{.name = "lease break",
		.usage = "PATH-OR-PATTERN… [--force] [--json]",
		.about = "End anybody's lease. Its holder can write no more through what "
			 "it has "
			 "open\n(ESTALE) and is told who did it; what it had written is "
			 "kept as a "
			 "version.",
		.example = "  stomp lease break src/a.c",
		.options = break_options,
		.min_args = 1,
		.max_args = -1},
	{.name = "lease list",
		.usage = "[DIR] [--json]",
		.about = "Who holds what, for how long still, and who waits for it.",
		.example = "  stomp lease list",
		.options = list_options,
		.max_args = 1},
};

static int usage(FILE *f)
{
	fputs("usage: stomp lease acquire|renew|release|break|list …\n\n"
	      "  acquire PATH…   hold files, folders or patterns ahead\n"
	      "  renew PATH…     let leases of yours run on\n"
	      "  release PATH…   give them back\n"
	      "  break PATH…     end anybody's\n"
	      "  list            who holds what, and who waits\n\n"
	      "example\n"
	      "  stomp lease acquire src/a.c --ttl 5m --reason 'rename parse()'\n\n"
	      "`stomp lease acquire --help` (and so on) says more.\n",
		f);
	return f == stdout ? STOMP_DONE : STOMP_USAGE;
}

static void put_waiting(struct text_table *t, struct json_object *lease)
{
	struct json_object *names = json_list(lease, "waiting");
	size_t n = names ? json_object_array_length(names) : 0;
	auto_buf text = {0};

	for (size_t i = 0; i < n; i++)
		buf_printf(&text, "%s%s", i ? " " : "",
			json_object_get_string(json_object_array_get_idx(names, i)));
	text_table_cell(t, "%s", n && text.data ? text.data : "-");
}

static int show_leases(struct json_object *rows)
{
	static const struct text_column columns[] = {{"WRITER", false, false, COLOUR_CYAN},
		{"LEFT", true, false, COLOUR_NONE}, {"EPOCH", true, false, COLOUR_NONE},
		{"WAITING", false, false, COLOUR_CYAN}, {"FILE", false, true, COLOUR_NONE},
		{"REASON", false, false, COLOUR_NONE}};
	auto_text_table t = {0};
	struct output out;

	text_table_init(&t, columns, ARRAY_SIZE(columns));
	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		struct json_object *o = json_object_array_get_idx(rows, i);
		int64_t left_ms = json_number(o, "expires_ms", 0);
		auto_buf left = {0};

		buf_put_span(&left, left_ms * 1000000);
		text_table_cell(&t, "%s", json_text(o, "writer", "?"));
		text_table_cell(&t, "%s", left_ms < 0 || !left.data ? "lapsed" : left.data);
		text_table_cell(&t, "%lld", (long long)json_number(o, "epoch", 0));
		put_waiting(&t, o);
		text_table_cell(&t, "%s", json_text(o, "path", "?"));
		text_table_cell(&t, "%s",
			json_text(
				o, "reason", json_flag(o, "explicit") ? "asked for" : ""));
	}
	output_begin(&out, true);
	if (!json_object_array_length(rows))
		fputs("Nobody holds a lease.\n", out.f);
	else if (text_table_print(&t, &out) < 0)
		fputs("(out of memory)\n", out.f);
	return output_end(&out);
}

static int list_leases(const struct command_spec *spec, const struct options *o)
{
	auto_workspace ws = {.stomp_fd = -1};
	auto_buf text = {0};
	auto_json *json = NULL;
	struct json_object *rows;
	int r = workspace_enter(&ws, spec->name, o->n_args ? o->args[0] : NULL, NULL);

	if (r != STOMP_DONE)
		return r;
	if (o->values[OPT_JSON])
		return show_json(&ws, spec->name, "leases.json", "leases");
	r = workspace_json(&ws, "leases.json", "leases", &text, &json);
	rows = r < 0 ? NULL : json_list(json, "leases");
	if (!rows)
		return report_errno(spec->name, ".stomp/leases.json", r < 0 ? r : -EBADMSG);
	return show_leases(rows);
}

/* A word of the line for one path; the workspace itself is the pattern of everything. A
 * name that reads as an option of the line is kept from it by "./". */
static void put_path(struct buf *line, const char *relative)
{
	const char *path = *relative ? relative : "**";
	bool like_option =
		strncmp(path, "ttl=", 4) == 0 || strncmp(path, "reason=", 7) == 0;

	buf_puts(line, like_option ? " ./" : " ");
	word_escape(line, path, strlen(path));
}

/* "lease VERB [ttl=…] [reason=…] PATH…"; STOMP_DONE or the code to exit with. */
static int make_line(const struct command_spec *spec, const struct options *o,
	struct workspace *ws, struct buf *line)
{
	bool timed = spec->options == acquire_options || spec->options == renew_options;
	const char *ttl = timed ? o->values[OPT_TTL] : NULL;
	const char *reason =
		spec->options == acquire_options ? o->values[OPT_REASON] : NULL;
	int64_t ttl_ms;

	buf_puts(line, spec->name);
	if (ttl && !word_span_ms(ttl, &ttl_ms))
		return options_wrong(
			spec, "--ttl takes a span like 30s, 5m or 1h, not %s", ttl);
	if (ttl)
		buf_printf(line, " ttl=%lldms", (long long)ttl_ms);
	if (reason && *reason) {
		buf_puts(line, " reason=");
		word_escape(line, reason, strlen(reason));
	}
	for (int i = 0; i < o->n_args; i++) {
		auto_free char *relative = NULL;
		int r = i ? workspace_path(ws, spec->name, o->args[i], &relative)
			  : workspace_enter(ws, spec->name, o->args[i], &relative);

		if (r != STOMP_DONE)
			return r;
		put_path(line, relative);
	}
	if (buf_failed(line))
		return report_errno(spec->name, o->args[0], -ENOMEM);
	if (line->len > CTL_LINE_MAX)
		return options_wrong(spec,
			"too many names for one call (%zu bytes, %d are the most); name a "
			"folder "
			"or a pattern",
			line->len, CTL_LINE_MAX);
	return STOMP_DONE;
}

/* L9: a person may break any lease; whoever is known as an agent has to mean it. */
static int may_break(const struct command_spec *spec, const struct options *o,
	const struct workspace *ws)
{
	auto_buf text = {0};
	auto_json *json = NULL;
	const char *rule;

	if (o->values[OPT_FORCE])
		return STOMP_DONE;
	if (workspace_json(ws, "me.json", "me", &text, &json) < 0)
		return STOMP_DONE;
	rule = json_text(json, "rule", "");
	if (strcmp(rule, "run") != 0 && strcmp(rule, "agent") != 0 &&
		strcmp(rule, "variable") != 0)
		return STOMP_DONE;
	fprintf(stderr,
		"stomp %s: you are known here as %s, an agent or a program. The holder "
		"would "
		"lose\nits right in the middle of its work: wait until it is done, or "
		"--force.\n",
		spec->name, json_text(json, "writer", "?"));
	return STOMP_NO;
}

static int report_refused(const struct command_spec *spec, const char *answer, int error)
{
	auto_json *json = json_tokener_parse(answer);
	const char *said = json_text(json, "error", json_text(json, "text", NULL));
	size_t n;

	if (!said)
		said = answer;
	n = strcspn(said, "\n");
	if (n)
		fprintf(stderr, "stomp %s: %.*s\n", spec->name, (int)n, said);
	else
		report_errno(spec->name, "the daemon", error);
	if (error == -EINVAL)
		return STOMP_USAGE;
	return is_refusal(error) || error == -ENOENT ? STOMP_NO : STOMP_FAILED;
}

static int call(const struct command_spec *spec, const struct options *o)
{
	auto_workspace ws = {.stomp_fd = -1};
	auto_buf line = {0}, answer = {0};
	auto_json *json = NULL;
	struct json_object *rows;
	int r = make_line(spec, o, &ws, &line);

	if (r == STOMP_DONE && spec->options == break_options)
		r = may_break(spec, o, &ws);
	if (r != STOMP_DONE)
		return r;
	r = workspace_ctl(&ws, line.data, &answer);
	if (r < 0)
		return report_refused(spec, answer.data ?: "", r);
	if (o->values[OPT_JSON])
		return show_json_text(answer.data ?: "{}");
	json = json_tokener_parse(answer.data ?: "");
	rows = json_list(json, "leases");
	if (spec->options == acquire_options || spec->options == renew_options)
		return rows ? show_leases(rows) : STOMP_DONE;
	for (int i = 0; i < o->n_args; i++)
		printf("%s %s\n", spec->options == break_options ? "broken:" : "released:",
			o->args[i]);
	return STOMP_DONE;
}

int cmd_lease(int argc, char **argv)
{
	static const char *const verbs[] = {
		"acquire", "renew", "release", "break", "list", NULL};
	const char *near;

	if (argc < 2)
		return usage(stderr);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return usage(stdout);
	for (size_t i = 0; verbs[i]; i++) {
		auto_options o = {0};
		int r;

		if (strcmp(argv[1], verbs[i]) != 0)
			continue;
		r = options_parse(&specs[i], argc - 1, argv + 1, &o);
		if (r != OPTIONS_GO_ON)
			return r;
		return specs[i].options == list_options ? list_leases(&specs[i], &o)
							: call(&specs[i], &o);
	}
	near = word_nearest(argv[1], verbs);
	fprintf(stderr, "stomp lease: there is no `%s`", argv[1]);
	if (near)
		fprintf(stderr, "; did you mean `%s`?", near);
	fputc('\n', stderr);
	return usage(stderr);
}
