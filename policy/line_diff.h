/*
 * line_diff.h - contents as lines, and the difference of two of them.
 *
 * Thread-safe, pure, deterministic. The diff is libgit2's (xdiff); this room only cuts
 * off what both sides have in common in front and behind, which makes the ordinary case,
 * a small change in a long file, cheap.
 */
#ifndef STOMP_POLICY_LINE_DIFF_H
#define STOMP_POLICY_LINE_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

/* Lines of borrowed text; line i is data[starts[i]] to data[starts[i + 1]], with its
 * newline. starts is owned: lines_done(). Text is at most 2 GiB. */
struct lines {
	const char *data;
	uint32_t *starts;
	uint32_t n;
};

#define auto_lines __attribute__((cleanup(lines_done))) struct lines

must_check int lines_init(struct lines *l, const char *data, size_t size); /* -ENOMEM */
void lines_done(struct lines *l);

static inline const char *line_text(const struct lines *l, uint32_t i)
{
	return l->data + l->starts[i];
}

static inline uint32_t line_size(const struct lines *l, uint32_t i)
{
	return l->starts[i + 1] - l->starts[i];
}

bool line_equal(const struct lines *a, uint32_t i, const struct lines *b, uint32_t j);

/* Lines [a0, a1) of a became lines [b0, b1) of b; one of the two may be empty. */
struct hunk {
	uint32_t a0, a1, b0, b1;
};

/* In order, with at least one common line between two of them. */
struct hunks {
	struct hunk *v;
	uint32_t n, cap;
};

#define auto_hunks __attribute__((cleanup(hunks_done))) struct hunks

void hunks_done(struct hunks *h);

/* What is left of both sides without their common ends may have this many lines. xdiff
 * gives up on the shortest answer where that would take long, so its time is bounded:
 * measured worst (random lines of two kinds) 5 us and 250 bytes a line; a real text of
 * this size with changes at both ends takes 0.1 s. */
#define LINE_DIFF_MAX_LINES 500000u

/* 0; 1 when there are more lines than that (*out is empty then); -ENOMEM; -EIO when the
 * library fails. */
must_check int line_diff(const struct lines *a, const struct lines *b, struct hunks *out);

/* Sets libgit2 up, once for the process. False when that fails. */
bool line_diff_library_ready(void);

#endif
