/*
 * lost_update.h - the lost-update test (S4): does this change carry the others' work?
 *
 * A pure function of three contents: base (what the writer knew), current (what is
 * there), and new (what it wants to put there). No clock, no I/O, deterministic.
 *
 * Memory and time are bounded: above LOST_UPDATE_MAX_BYTES for any content, text is
 * compared by block as binaries are.
 */
#ifndef STOMP_POLICY_LOST_UPDATE_H
#define STOMP_POLICY_LOST_UPDATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define LOST_UPDATE_MAX_BYTES (32u << 20)

struct content {
	const char *data; /* may be NULL when size is 0 */
	size_t size;
};

enum lost_update {
	LOST_UPDATE_KEPT,	/* nothing of the others' work is undone */
	LOST_UPDATE_SAME,	/* new equals current: no change at all */
	LOST_UPDATE_OVERLAPPING, /* some hunks differ in all three */
	LOST_UPDATE_REVERTED,	/* at least one hunk has the base's text again */
	LOST_UPDATE_UNDECIDED,	/* only for an incomplete new: the rest may still tell */
};

struct lost_update_result {
	enum lost_update verdict;
	uint32_t n_kept, n_reverted, n_overlapping; /* hunks of current against base */
	uint32_t first_line, last_line; /* in current, of the first hunk at stake; 0: none */
	bool by_block;			/* compared by block: lines are block numbers */
};

/*
 * known_base: false when the writer knew nothing of the file; base is then ignored and
 * every line of current that new lacks counts as overlapping.
 *
 * complete: false while more bytes of new may follow. Then REVERTED and OVERLAPPING are
 * answered only if they hold whatever follows, KEPT and SAME never.
 *
 * -ENOMEM, -EIO (the diff library failed).
 */
must_check int lost_update_test(const struct content *base, bool known_base,
	const struct content *current, const struct content *new, bool complete,
	struct lost_update_result *result);

/* The hunks at stake for a person: unified-diff-like lines "-theirs +yours", at most
 * max_lines. */
must_check int lost_update_describe(const struct content *base,
	const struct content *current, const struct content *new, uint32_t max_lines,
	struct buf *out);

#endif
