#include "cli/cli.h"
#include "cli/options.h"
#include "cli/show.h"

enum { OPT_JSON };

static const struct option_spec options[] = {
	[OPT_JSON] = {"json", 0, NULL, "as JSON (schema stompfs/status/1)", false}, {0}};

static const struct command_spec spec = {
	.name = "status",
	.usage = "[DIR] [--json]",
	.about = "One screen about the workspace that holds DIR (default: the current "
		 "folder):\n"
		 "the mount, who writes, leases, refusals, the journal and its health.",
	.example = "  stomp status                   # is all well here?\n"
		   "  stomp status --json | jq -r .health",
	.options = options,
	.max_args = 1,
};

int cmd_status(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	int r = options_parse(&spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	r = workspace_enter(&ws, spec.name, o.n_args ? o.args[0] : NULL, NULL);
	if (r != STOMP_DONE)
		return r;
	if (o.values[OPT_JSON])
		return show_json(&ws, spec.name, "status.json", "status");
	return show_file(&ws, spec.name, "status", "");
}
