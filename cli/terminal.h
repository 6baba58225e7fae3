/*
 * terminal.h - where a command's answer goes: a terminal, its pager, or a pipe.
 *
 * Colours and the pager exist only where stdout is a terminal; NO_COLOR and TERM=dumb
 * turn colours off, PAGER chooses the pager (empty or "cat": none). One output at a time.
 */
#ifndef STOMP_CLI_TERMINAL_H
#define STOMP_CLI_TERMINAL_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/cleanup.h"

enum colour {
	COLOUR_NONE,
	COLOUR_BOLD,
	COLOUR_DIM,
	COLOUR_RED,
	COLOUR_GREEN,
	COLOUR_YELLOW,
	COLOUR_CYAN
};

struct output {
	FILE *f;
	bool colours;
	int width;   /* columns to fit into; 0: no limit, not a terminal */
	pid_t pager; /* 0: none */
};

/* Never fails: without a pager the answer goes to stdout itself. */
void output_begin(struct output *o, bool page);

/* Flushes and waits for the pager. STOMP_DONE, or STOMP_FAILED with a message where the
 * answer could not be written (a full disk); a reader that left early is no failure. */
must_check int output_end(struct output *o);

/* What switches the colour on and off: "" where there are none. */
const char *output_on(const struct output *o, enum colour c);
const char *output_off(const struct output *o, enum colour c);

#endif
