/*
 * lost_update.h - the lost-update test (S4): does this change carry the others' work?
 *
 * A pure function of three contents: base (what the writer knew), current (what is
 * there), and new (what it wants to put there). No clock, no I/O, deterministic.
 *
 * Text is compared by line, a missing newline at the end supplied. Whether lines end in
 * LF or CRLF makes no difference, unless current has changed it and new changed it back.
 *
 * Each hunk of current against base is looked for in new, starting from what new has in
 * common with current, so that an edit of current is seen as one:
 *
 *   kept         all its lines are in new, or its deletion is, and the base's text is not
 *                back in their place
 *   reverted     its lines are missing, and the base's text stands there again; where only
 *                a part of either is in new, the heavier part counts (bytes without
 *                blanks)
 *   overlapping  else: new changed the same place in its own way. An insertion overlaps
 *                another at the same point; a hunk that merely touches does not. So
 *                does a hunk that new has moved, and one of which, among like lines,
 *                cannot be told whether it is undone.
 *
 * Binary (a NUL in the first 8,000 bytes of any of the three), or above
 * LOST_UPDATE_MAX_BYTES, or more than LINE_DIFF_MAX_LINES lines between the first and the
 * last difference: compared by block of 4 KiB at equal offsets. An insertion in front
 * then makes every block behind it overlap: the safe side.
 *
 * Measured (2 busy cores, text of 47 bytes a line, changes at a third and at the end):
 * 0.3 ms for 1,000 lines, 3 ms for 9,000 (0.4 MB), 0.3 s for 450,000 (21 MB). The longest
 * found: 16 s, with 135 MB, for three texts of 590,000 lines of noise of two kinds, so do
 * not hold a lock others wait for.
 */
#ifndef STOMP_POLICY_LOST_UPDATE_H
#define STOMP_POLICY_LOST_UPDATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define LOST_UPDATE_MAX_BYTES (32u << 20)

#define LOST_UPDATE_BLOCK_BYTES 4096u

/* Where a sparse file has bytes that may not be 0. */
struct content_span {
	uint64_t at, end;
};

struct content {
	const char *data; /* may be NULL when size is 0 */
	size_t size;
	/* Sorted and apart, so that terabytes of holes are not read; NULL: anywhere. */
	const struct content_span *spans;
	size_t n_spans;
};

enum lost_update {
	LOST_UPDATE_KEPT,	 /* nothing of the others' work is undone */
	LOST_UPDATE_SAME,	 /* new equals current: no change at all */
	LOST_UPDATE_OVERLAPPING, /* some hunks differ in all three */
	LOST_UPDATE_REVERTED,	 /* at least one hunk has the base's text again */
	LOST_UPDATE_UNDECIDED,	 /* only for an incomplete new: the rest may still tell */
};

struct lost_update_result {
	enum lost_update verdict;
	uint32_t n_kept, n_reverted, n_overlapping; /* hunks of current against base */
	/* In current, from 1, of the first hunk at stake; 0: none. For lines that current
	 * has deleted: the line that now stands there. */
	uint32_t first_line, last_line;
	bool by_block; /* compared by block: lines are block numbers */
};

/*
 * known_base: false when the writer knew nothing of the file; base is then ignored and
 * every line of current that new lacks counts as overlapping; one that has all of
 * current's lines, in order, is kept.
 *
 * complete: false while more bytes of new may follow. Then REVERTED and OVERLAPPING are
 * answered only if they hold whatever follows, KEPT and SAME never. A last line without
 * its newline is not looked at. What holds is found by the best that can still come: the
 * rest of current, from where the last of new stands in it. One more way to REVERTED:
 * exactly the base's text stands in the place of a hunk, with lines of current right
 * behind it. Not counted as possible: that text which lies before this place comes once
 * more, later; that the whole turns out to be binary. In rare cases
 * (seen once in a million drawn texts that repeat themselves within a few lines) the whole
 * is judged otherwise than its beginning.
 *
 * -ENOMEM, -EIO (the diff library failed).
 */
must_check int lost_update_test(const struct content *base, bool known_base,
	const struct content *current, const struct content *new, bool complete,
	struct lost_update_result *result);

/* The hunks at stake for a person: "@@ lines 10-12 @@", then "-theirs" and "+yours", at
 * most max_lines and one that says how many more there are. base NULL: unknown. Long
 * lines are cut, control characters escaped. -ENOMEM, -EIO. */
must_check int lost_update_describe(const struct content *base,
	const struct content *current, const struct content *new, uint32_t max_lines,
	struct buf *out);

#endif
