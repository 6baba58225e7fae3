#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/top_data.h"
#include "cli/top_fetch.h"
#include "cli/top_live.h"
#include "cli/words.h"
#include "cli/workspace.h"

enum { OPT_INTERVAL, OPT_ONCE };
enum { ANSWER_LIMIT_MS = 10000, INTERVAL_LEAST_MS = 100 };

static const struct option_spec options[] = {
	[OPT_INTERVAL] = {"interval", 'i', "SPAN",
		"how often to look: 500ms, 1s (default), 5s", false},
	[OPT_ONCE] = {"once", '1', NULL, "print it once, as plain text", false},
	{0}};

static const struct command_spec spec = {
	.name = "top",
	.usage = "[DIR] [--interval SPAN] [--once]",
	.about =
		"A live screen of the workspace that holds DIR (default: the current "
		"folder):\n"
		"who writes, who holds what for how long, who waits, what was refused, "
		"the\n"
		"newest change sets and changes. Keys: j/k or arrows select, Tab changes\n"
		"the pane, b breaks the selected lease, d shows what the selected version\n"
		"changed, u undoes the selected change set (or that of the version), w "
		"says\n"
		"why things were refused, ? help, q quit. Where the input or the output is "
		"no\n"
		"terminal: --once.",
	.example = "  stomp top\n"
		   "  stomp top --once | head -3     # rates and counts, for a script",
	.options = options,
	.max_args = 1,
};

static int print_view(const struct top_view *v)
{
	struct output out;
	auto_buf head = {0}, root = {0};

	buf_put_name(&root, v->root, strlen(v->root));
	top_put_counts(&head, v);
	output_begin(&out, false);
	fprintf(out.f, "workspace %s\nhealth: %s\n%s\n", root.data ?: "", v->health,
		head.data ?: "");
	for (int id = 0; id < TOP_PANES; id++) {
		const struct top_pane *p = &v->panes[id];
		const struct text_column *columns;
		auto_text_table t = {0};
		int n;

		columns = top_pane_columns((enum top_pane_id)id, &n);
		text_table_init(&t, columns, n);
		for (size_t i = 0; i < p->n; i++) {
			for (int c = 0; c < n; c++)
				text_table_cell(&t, "%s", p->rows[i].cells[c]);
		}
		fprintf(out.f, "\n%s (%zu)\n", top_pane_title((enum top_pane_id)id), p->n);
		if (p->n && text_table_print(&t, &out) < 0)
			fputs("(out of memory)\n", out.f);
	}
	return output_end(&out);
}

static int print_once(struct json_object *answer)
{
	int error = (int)json_number(answer, "error", EBADMSG);
	auto_top_view v = {0};

	if (error)
		return report_errno(spec.name, json_text(answer, "root", "?"), -error);
	if (top_view_make(&v, answer) < 0)
		return report_errno(spec.name, json_text(answer, "root", "?"), -ENOMEM);
	return print_view(&v);
}

static int no_answer(void)
{
	fprintf(stderr,
		"stomp top: the mount has not answered for %d s: its daemon stands still. "
		"`stomp doctor` looks at it from outside.\n",
		ANSWER_LIMIT_MS / 1000);
	return STOMP_FAILED;
}

int cmd_top(int argc, char **argv)
{
	auto_options o = {0};
	auto_top_fetch fetch = {.fd = -1};
	auto_json *answer = NULL;
	int64_t interval_ms = 1000;
	int r = options_parse(&spec, argc, argv, &o), code = STOMP_FAILED;

	if (r != OPTIONS_GO_ON)
		return r;
	if (o.values[OPT_INTERVAL] &&
		(!word_span_ms(o.values[OPT_INTERVAL], &interval_ms) ||
			interval_ms < INTERVAL_LEAST_MS))
		return options_wrong(&spec,
			"--interval takes a span of at least %dms, like 500ms or 5s, not "
			"%s",
			INTERVAL_LEAST_MS, o.values[OPT_INTERVAL]);
	setlocale(LC_CTYPE, "");
	r = top_fetch_start(&fetch, o.n_args ? o.args[0] : NULL);
	if (r < 0)
		return report_errno(spec.name, "a process to read with", r);
	top_fetch_ask(&fetch);
	switch (top_fetch_wait(&fetch, ANSWER_LIMIT_MS, &answer, &code)) {
	case TOP_NOT_YET:
		return no_answer();
	case TOP_ENDED:
		return code;
	case TOP_ANSWER:
		break;
	}
	if (o.values[OPT_ONCE] || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))
		return print_once(answer);
	if (chdir("/") != 0) /* in no umount's way */
		return report_errno(spec.name, "/", -errno);
	return top_live(&fetch, answer, interval_ms);
}
