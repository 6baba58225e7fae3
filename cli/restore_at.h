/*
 * restore_at.h - making files and folders what they were at a moment of the past.
 *
 * Reads .stomp/at/MOMENT/ and writes through the mount like any program: leases hold, and
 * what is refused is told and left as it is; the rest goes on. Reading what a file was is
 * knowing what it is (S5), and what is to be removed is read before.
 */
#ifndef STOMP_CLI_RESTORE_AT_H
#define STOMP_CLI_RESTORE_AT_H

#include <stdbool.h>

#include "base/buf.h"
#include "cli/workspace.h"

struct restore {
	const struct workspace *ws;
	const char *command;
	const char *moment; /* a word for at/ that does not float */
	const char *to;	    /* a folder to put it in; NULL: where it was */
	bool dry_run;
	bool exact; /* remove what was not there then */
	/* what was done, over all paths: */
	unsigned n_changed, n_same, n_failed, n_left;
	struct buf left; /* the first names that were left alone, a line each */
};

void restore_done(struct restore *r);

/* One path as the user gave it (for messages), relative its place in the workspace, now;
 * then: its place at the moment. STOMP_DONE, also where some of it failed (n_failed), or
 * the code to exit with. */
must_check int restore_path(
	struct restore *r, const char *path, const char *relative, const char *then);

#endif
