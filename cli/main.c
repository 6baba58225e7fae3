#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/words.h"

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *usage, *summary;
};

static const struct command commands[] = {
	{"mount", cmd_mount, "DIR [MOUNTPOINT]", "make DIR a workspace"},
	{"umount", cmd_umount, "DIR", "end it again"},
	{"run", cmd_run, "NAME -- CMD [ARG]", "run CMD as the writer NAME"},
	{"status", cmd_status, "[DIR]", "one screen about the workspace"},
	{"top", cmd_top, "[DIR]", "the same live, with keys to act on it"},
	{"log", cmd_log, "[PATH]", "who changed what, newest first"},
	{"changes", cmd_changes, "[--since WHEN]", "what others did, in a few lines"},
	{"watch", cmd_watch, "[PATH]", "what happens, as it happens"},
	{"blame", cmd_blame, "FILE", "who wrote each line, and by which command"},
	{"diff", cmd_diff, "PATH[@N] [PATH[@M]]", "what changed between two versions"},
	{"cat", cmd_cat, "PATH@N", "print a version"},
	{"rollback", cmd_rollback, "PATH@N", "make a file what version N was"},
	{"restore", cmd_restore, "PATH [--at WHEN]",
		"bring back what was deleted, or what was then"},
	{"undo", cmd_undo, "SET|WRITER", "take one writer's work back, keep others'"},
	{"export", cmd_export, "SET|WRITER|PATH", "the same as git commits or as patches"},
	{"report", cmd_report, "[--since TIME]",
		"all that happened, as a page for a browser"},
	{"lease", cmd_lease, "VERB PATH", "hold files ahead; list, break leases"},
	{"why", cmd_why, "[DIR]", "what was refused to you, and what to do"},
	{"conflicts", cmd_conflicts, "[show ID]",
		"refused work that is still to be brought in"},
	{"resolve", cmd_resolve, "ID --ours|--merged", "settle a conflict"},
	{"policy", cmd_policy, "VERB", "which rule holds for a file; test a policy"},
	{"doctor", cmd_doctor, "[DIR]", "is everything there that is needed?"},
	{"pin", cmd_pin, "NAME [PATH] [--at WHEN]", "keep what was there then for good"},
	{"gc", cmd_gc, "[--dry-run] [DIR]", "let go of what the policy does not keep"},
	{"fsck", cmd_fsck, "[DIR]", "is the history whole? mend it"},
	{"agents", cmd_agents, "", "five lines for AGENTS.md"},
};

static int usage(FILE *f)
{
	fputs("usage: stomp COMMAND [ARGUMENT]\n\n"
	      "A workspace is a folder that several writers (agents, people, builds) "
	      "change at\n"
	      "once; stompfs refuses what would overwrite somebody else's work and keeps "
	      "every\n"
	      "version. In it, .stomp/ tells the same as these commands (cat "
	      ".stomp/README).\n\n",
		f);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(f, "  %-9s %-20s %s\n", commands[i].name, commands[i].usage,
			commands[i].summary);
	fputs("  help      [COMMAND]            the same as COMMAND --help, with an "
	      "example\n\n"
	      "example\n"
	      "  stomp mount ~/project && cd ~/project\n"
	      "  echo hi > note; stomp log note; stomp rollback note@1\n\n"
	      "Exit codes: 0 done; 1 the answer is no (refused, held, not found, "
	      "differs);\n"
	      "2 wrong command line; 3 not a mounted workspace; 4 the system failed.\n",
		f);
	return f == stdout ? STOMP_DONE : STOMP_USAGE;
}

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

static int unknown(const char *word)
{
	static const char *const options[] = {"--help", "--version", NULL};
	const char *names[ARRAY_SIZE(commands) + 2];
	bool option = word[0] == '-';
	const char *near;
	size_t n = 0;

	for (; n < ARRAY_SIZE(commands); n++)
		names[n] = commands[n].name;
	names[n++] = "help";
	names[n] = NULL;
	near = word_nearest(word, option ? options : names);
	fprintf(stderr, "stomp: there is no %s `%s`", option ? "option" : "command", word);
	if (near)
		fprintf(stderr, "; did you mean `stomp %s`?\n", near);
	else
		fputs("; `stomp help` lists what there is\n", stderr);
	return STOMP_USAGE;
}

static int help(int argc, char **argv)
{
	char option[] = "--help";
	const struct command *command;

	if (argc < 2)
		return usage(stdout);
	command = find(argv[1]);
	if (!command)
		return strcmp(argv[1], "help") == 0 ? usage(stdout) : unknown(argv[1]);
	return command->run(2, (char *[]){argv[1], option, NULL});
}

int main(int argc, char **argv)
{
	const struct command *command;
	int r;

	if (argc < 2)
		return usage(stderr);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return usage(stdout);
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		puts("stomp " STOMPFS_VERSION);
		return STOMP_DONE;
	}
	if (strcmp(argv[1], "help") == 0)
		return help(argc - 1, argv + 1);
	command = find(argv[1]);
	if (!command)
		return unknown(argv[1]);
	r = command->run(argc - 1, argv + 1);
	if (fflush(stdout) != 0 && r == STOMP_DONE) {
		fprintf(stderr, "stomp: standard output: %s\n", strerror(errno));
		return STOMP_FAILED;
	}
	return r;
}
