/*
 * options.h - one small option parser, and the help text from the same table.
 *
 * Long options (--name, --name VALUE, --name=VALUE), letters (-n 5, -n5, -ab), operands
 * anywhere, "--" ends the options. Every command has --help. What is not known is
 * answered with the nearest right word (stderr) and STOMP_USAGE.
 */
#ifndef STOMP_CLI_OPTIONS_H
#define STOMP_CLI_OPTIONS_H

#include <stdbool.h>

#include "base/cleanup.h"
#include "cli/cli.h"

#define OPTIONS_MAX 8

struct option_spec {
	const char *name; /* without the dashes */
	char letter;	  /* 0: none */
	const char *arg;  /* name of its value for the help text; NULL: a flag */
	const char *help;
	bool joins; /* given several times, the values are joined by commas */
};

struct command_spec {
	const char *name;    /* "log", "lease acquire" */
	const char *usage;   /* "[PATH] [options]" */
	const char *about;   /* what it does, lines of at most 80 columns */
	const char *example; /* one or more lines, each "  command    # why" */
	const struct option_spec *options; /* ends with an empty name; NULL: none */
	int min_args, max_args;		   /* max_args -1: any number */
};

struct options {
	const char
		*values[OPTIONS_MAX]; /* by place in the spec; NULL: not given; flags: "" */
	char *joined[OPTIONS_MAX];    /* memory of values that were joined */
	char **args;		      /* operands, in argv's memory */
	int n_args;
};

#define auto_options __attribute__((cleanup(options_done))) struct options

void options_done(struct options *o);

#define OPTIONS_GO_ON (-1)

/* argv[0] is the command's name and is skipped. OPTIONS_GO_ON, or the code to exit with
 * (after --help, or when the line is wrong). argv is reordered. */
must_check int options_parse(
	const struct command_spec *spec, int argc, char **argv, struct options *o);

/* "stomp NAME: " and a message of the command line being wrong, then how to get help. */
int options_wrong(const struct command_spec *spec, const char *fmt, ...) printf_like(2, 3);

#endif
