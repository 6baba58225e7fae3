#include <stdio.h>

#include "cli/cli.h"
#include "cli/options.h"

static const struct command_spec spec = {
	.name = "agents",
	.usage = "",
	.about = "Five lines to paste into AGENTS.md, CLAUDE.md or a system prompt, so "
		 "that an\n"
		 "agent knows what the workspace will tell it and what to do then.",
	.example = "  stomp agents >> AGENTS.md",
};

int cmd_agents(int argc, char **argv)
{
	auto_options o = {0};
	int r = options_parse(&spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	puts("- This folder is a stompfs workspace: other agents and people change it at "
	     "the same time, and a change that would undo somebody else's is refused; the "
	     "file is then as it was. `cat .stomp/me` tells as whom you are known.\n"
	     "- ESTALE (\"Stale file handle\", \"Unknown system error -116\"): the file "
	     "changed since you last read it. Read the whole file again (`cat`, `sed -n`, "
	     "your read tool), look at what is new, then redo your change on that; a read "
	     "only milliseconds before the save does not count as knowing it.\n"
	     "- EAGAIN (\"Resource temporarily unavailable\") on open, rename or delete: "
	     "another writer is changing that file right now. Wait some seconds, then try "
	     "the same again. EBUSY (\"resource busy or locked\") is either of the two.\n"
	     "- After any of them `cat .stomp/why` tells who changed what, which lines, "
	     "and "
	     "what to do; text of yours that was refused may be under .stomp/conflicts/. "
	     "The "
	     "shell, git, another tool or deleting the file first are refused alike: do "
	     "not "
	     "try to go round it.\n"
	     "- Every version of every file is kept: `cat .stomp/history/PATH/log` lists "
	     "them, `cp .stomp/history/PATH/N PATH` brings version N back. .stomp/policy "
	     "says "
	     "which files are guarded, and which of them are merged where both changes "
	     "fit.");
	return STOMP_DONE;
}
