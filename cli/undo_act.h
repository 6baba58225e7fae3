/*
 * undo_act.h - carrying out what undo_plan says, through the mount, as anybody would.
 *
 * One file at a time, each in one step that a kill cannot halve: new content is written
 * beside and renamed into place. (A file with several hard links keeps them and is written
 * in place.) Whoever undoes has the version that is there before his eyes, so it is his
 * decision to revert it (S5). No threads. Errors: -errno.
 */
#ifndef STOMP_CLI_UNDO_ACT_H
#define STOMP_CLI_UNDO_ACT_H

#include "cli/undo_plan.h"

must_check int undo_act(const struct workspace *ws, const struct undo_file *f);

/* Hold (acquire), or give back, every path of the files that can be done. Of acquire:
 * -EAGAIN and whose lease it is in *why; none is held then. */
must_check int undo_leases_acquire(const struct workspace *ws,
	const struct undo_file *files, size_t n, struct buf *why);
void undo_leases_release(
	const struct workspace *ws, const struct undo_file *files, size_t n);

#endif
