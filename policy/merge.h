/*
 * merge.h - the strategies that keep both changes: `merge` and `union` (M).
 *
 * Pure functions of base (what the writer knew), current (what is there) and new (what it
 * wants to put there): no clock, no I/O; the same bytes on every machine. Thread-safe.
 * The merge is libgit2's (xdiff).
 *
 * The result never holds conflict markers: a conflict has no result. Binary contents (a
 * NUL in the first 8,000 bytes of any), such above LOST_UPDATE_MAX_BYTES and such of more
 * than MERGE_MAX_LINES lines are conflicts: they are refused with all sides kept.
 *
 * Errors: -ENOMEM, -EIO (the library failed); *merged is then as it was.
 */
#ifndef STOMP_POLICY_MERGE_H
#define STOMP_POLICY_MERGE_H

#include "policy/lost_update.h"

#define MERGE_MAX_LINES 600000u

enum merge_answer {
	MERGE_CLEAN,	/* *merged has got both changes */
	MERGE_CONFLICT, /* *merged is as it was */
};

/* Three-way by line. Changes of one line, or of lines side by side, conflict; the same
 * change on both sides is one. */
must_check int merge_lines(const struct content *base, const struct content *current,
	const struct content *new, enum merge_answer *answer, struct buf *merged);

/* As merge_lines(), but where lines conflict both sides' stand one after the other,
 * current's first: for logs and lists of changes, where order matters little. */
must_check int merge_union(const struct content *base, const struct content *current,
	const struct content *new, enum merge_answer *answer, struct buf *merged);

#endif
