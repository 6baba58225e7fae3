#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/show.h"
#include "cli/words.h"

enum { OPT_AT, OPT_LIST, OPT_REMOVE, OPT_JSON };

static const struct option_spec options[] = {
	[OPT_AT] = {"at", 0, "WHEN", "what was there then: -2h, 2026-11-24T10:32, an epoch",
		false},
	[OPT_LIST] = {"list", 'l', NULL, "what is pinned", false},
	[OPT_REMOVE] = {"remove", 0, "NAME", "let it go again", false},
	[OPT_JSON] = {"json", 0, NULL, "with --list: as JSON (schema stompfs/pins/1)",
		false},
	{0}};

static const struct command_spec spec = {
	.name = "pin",
	.usage = "NAME [PATH…] [--at WHEN] | --list [--json] | --remove NAME",
	.about = "Keep what was in the workspace at a moment (now), or at some of its "
		 "paths, for as\n"
		 "long as the pin is there: whatever the policy's keep= lets go. PATH is a "
		 "file or a\n"
		 "folder, by the name that it had then. What was pinned is read at\n"
		 ".stomp/at/seq:N; --list tells N.",
	.example = "  stomp pin before-the-merge\n"
		   "  stomp pin good src --at 10:32\n"
		   "  stomp pin --list; stomp pin --remove good",
	.options = options,
	.max_args = -1,
};

static int list(const struct workspace *ws, bool json)
{
	auto_buf text = {0};
	int r = workspace_read(ws, json ? "pins.json" : "pins", &text);

	if (r < 0)
		return report_errno(spec.name, ws->root, r);
	fwrite(text.data, 1, text.len, stdout);
	return STOMP_DONE;
}

static int add_paths(const struct workspace *ws, const struct options *o, struct buf *line)
{
	for (int i = 1; i < o->n_args; i++) {
		auto_free char *relative = NULL;
		int r = workspace_path(ws, spec.name, o->args[i], &relative);

		if (r != STOMP_DONE)
			return r;
		if (!*relative)
			return options_wrong(
				&spec, "the whole workspace is pinned without a PATH");
		buf_putc(line, ' ');
		/* An option of ctl, were it not for the slash that it drops. */
		if (!strncmp(relative, "at=", 3))
			buf_puts(line, "./");
		word_escape(line, relative, strlen(relative));
	}
	return STOMP_DONE;
}

static int change(const struct workspace *ws, const struct options *o)
{
	auto_buf line = {0}, answer = {0};
	const char *name = o->values[OPT_REMOVE] ?: o->args[0];
	int r;

	buf_puts(&line, o->values[OPT_REMOVE] ? "unpin " : "pin ");
	word_escape(&line, name, strlen(name));
	if (o->values[OPT_AT]) {
		buf_puts(&line, " at=");
		word_escape(&line, o->values[OPT_AT], strlen(o->values[OPT_AT]));
	}
	r = o->values[OPT_REMOVE] ? STOMP_DONE : add_paths(ws, o, &line);
	if (r != STOMP_DONE)
		return r;
	r = workspace_ctl(ws, line.data, &answer);
	return r < 0 ? show_ctl_failure(spec.name, ws, &answer, r) : STOMP_DONE;
}

int cmd_pin(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	int r = options_parse(&spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	if (o.values[OPT_LIST] && (o.n_args || o.values[OPT_REMOVE] || o.values[OPT_AT]))
		return options_wrong(&spec, "--list goes with nothing but --json");
	if (o.values[OPT_REMOVE] && (o.n_args || o.values[OPT_AT]))
		return options_wrong(&spec, "--remove takes one NAME and nothing else");
	if (!o.values[OPT_LIST] && !o.values[OPT_REMOVE] && !o.n_args)
		return options_wrong(&spec, "name the pin, or --list");
	r = workspace_enter(&ws, spec.name, o.n_args > 1 ? o.args[1] : NULL, NULL);
	if (r != STOMP_DONE)
		return r;
	return o.values[OPT_LIST] ? list(&ws, o.values[OPT_JSON]) : change(&ws, &o);
}
