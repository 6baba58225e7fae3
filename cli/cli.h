/*
 * cli.h - what every subcommand of `stomp` shares: its signature and its exit codes.
 *
 * A command gets its own name as argv[0], parses the rest itself (options.h), answers
 * --help, prints its own messages to stderr and returns one of the codes.
 */
#ifndef STOMP_CLI_CLI_H
#define STOMP_CLI_CLI_H

/* As docs/STOMP-FOLDER.md promises them. */
enum stomp_exit {
	STOMP_DONE = 0,
	STOMP_NO = 1,		/* the answer is no: refused, held, not found, differs */
	STOMP_USAGE = 2,	/* the command line is wrong */
	STOMP_NO_WORKSPACE = 3, /* not a mounted workspace */
	STOMP_FAILED = 4,	/* the system failed: I/O, permission */
};

int cmd_agents(int argc, char **argv);
int cmd_blame(int argc, char **argv);
int cmd_cat(int argc, char **argv);
int cmd_changes(int argc, char **argv);
int cmd_conflicts(int argc, char **argv);
int cmd_diff(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_fsck(int argc, char **argv);
int cmd_gc(int argc, char **argv);
int cmd_lease(int argc, char **argv);
int cmd_log(int argc, char **argv);
int cmd_mount(int argc, char **argv);
int cmd_pin(int argc, char **argv);
int cmd_policy(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_resolve(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_rollback(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_undo(int argc, char **argv);
int cmd_umount(int argc, char **argv);
int cmd_watch(int argc, char **argv);
int cmd_why(int argc, char **argv);

#endif
