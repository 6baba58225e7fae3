/*
 * top_act.h - what the keys of `stomp top` do: other `stomp` commands, on the terminal.
 *
 * The same commands as by hand, run in the workspace, so that they refuse and explain
 * as they do there. Signals that the caller blocked are free in them. No threads.
 */
#ifndef STOMP_CLI_TOP_ACT_H
#define STOMP_CLI_TOP_ACT_H

#include "base/buf.h"

struct top_act {
	const char *root; /* of the workspace */
	int signal_fd;	  /* signals that came; SIGINT is the command's own here */
	int ended_by;	  /* the SIGTERM or SIGHUP that came meanwhile; 0: none */
};

enum top_act_mode {
	TOP_ACT_TERMINAL, /* it has the terminal, pages itself, then Enter is waited for */
	TOP_ACT_PAGED,	  /* the same, through the pager */
	TOP_ACT_QUIET,	  /* nothing is shown: what it says is appended to said */
};

/* words: of `stomp`, ends with NULL. Its exit code (128 + n after a signal), or -errno;
 * -EINTR where ended_by has been set, -ETIMEDOUT where it was given up. */
must_check int top_act_run(struct top_act *a, enum top_act_mode mode,
	const char *const *words, struct buf *said);

#endif
