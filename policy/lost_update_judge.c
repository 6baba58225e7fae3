#include <string.h>

#include "policy/lost_update_internal.h"

#define NO_LINE UINT32_MAX

/* That many lines in common show that an unfinished new has come to a place in current. */
#define RUN_MIN_LINES 2
#define RUN_MIN_WEIGHT 24

/* The first hunk that ends behind this line of side a, of side b. */
static uint32_t find_a(const struct hunks *h, uint32_t line)
{
	uint32_t low = 0, high = h->n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (h->v[middle].a1 > line)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static uint32_t find_b(const struct hunks *h, uint32_t line)
{
	uint32_t low = 0, high = h->n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (h->v[middle].b1 > line)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* Whether line of side b is in none of the hunks, so has a counterpart on side a. */
static bool is_common_b(const struct hunks *h, uint32_t line)
{
	uint32_t i = find_b(h, line);

	return i == h->n || h->v[i].b0 > line;
}

/* The counterpart of a line of side a, or NO_LINE. */
static uint32_t counterpart(const struct hunks *h, uint32_t line)
{
	uint32_t i = find_a(h, line);

	if (i < h->n && h->v[i].a0 <= line)
		return NO_LINE;
	return i ? line - h->v[i - 1].a1 + h->v[i - 1].b1 : line;
}

/* What a line says: blank lines and braces are in every text and prove little. */
static uint64_t weight(const struct lines *l, uint32_t i)
{
	const char *s = line_text(l, i);
	uint64_t n = 1;

	for (uint32_t k = 0; k < line_size(l, i); k++)
		n += s[k] != ' ' && s[k] != '\t' && s[k] != '\r' && s[k] != '\n';
	return n;
}

/* What became of one hunk: of the lines it put in, and of those it took out. */
struct traces {
	uint64_t carried, lost; /* weight of its lines that new has, has not */
	uint64_t own;		/* of those carried, what does not pass for the base\'s */
	uint64_t back,
		still_out;   /* weight of the base's lines that new has again, has not */
	bool base_untouched; /* new changed none of those lines, compared with base */
};

static struct traces find_traces(const struct comparison *c, const struct hunk *h)
{
	struct traces t = {.base_untouched = true};

	for (uint32_t line = h->b0; line < h->b1; line++) {
		uint32_t in_new = counterpart(&c->current_new, line);
		uint64_t w = weight(&c->current.lines, line);

		if (in_new == NO_LINE)
			t.lost += w;
		else
			t.carried += w;
		if (in_new != NO_LINE && !is_common_b(&c->base_new, in_new))
			t.own += w;
	}
	for (uint32_t line = h->a0; line < h->a1; line++) {
		uint32_t in_new = counterpart(&c->base_new, line);

		/* A line of new that current has too is current's: not the base's again. */
		if (in_new != NO_LINE && !is_common_b(&c->current_new, in_new))
			t.back += weight(&c->base.lines, line);
		else
			t.still_out += weight(&c->base.lines, line);
		t.base_untouched = t.base_untouched && in_new != NO_LINE;
	}
	return t;
}

/* Whether one of the hunks puts something in at this point of side a. One that only ends
 * or begins there does so where it has more lines than it replaces. */
static bool inserts_at(const struct hunks *h, uint32_t point, bool inside_counts)
{
	for (uint32_t i = point ? find_a(h, point - 1) : 0; i < h->n; i++) {
		const struct hunk *g = &h->v[i];

		if (g->a0 > point)
			break;
		if (inside_counts && g->a0 < point && point < g->a1)
			return true;
		if (g->b1 - g->b0 > g->a1 - g->a0)
			return true;
	}
	return false;
}

#define MOVE_MAX_STEPS 1000000u

/* Whether the lines [b0, b1) of current stand together elsewhere in new, put there by new:
 * neither base's nor current's at that place. Gives up, with no, on endless repetition. */
static bool is_moved(const struct comparison *c, const struct hunk *h)
{
	uint32_t n = h->b1 - h->b0, steps = 0;

	for (uint32_t i = 0; i < c->current_new.n; i++) {
		const struct hunk *g = &c->current_new.v[i];

		for (uint32_t at = g->b0; at < g->b1 && g->b1 - at >= n; at++) {
			uint32_t k = 0;

			while (k < n && steps++ < MOVE_MAX_STEPS &&
				line_equal(&c->current.lines, h->b0 + k, &c->new.lines,
					at + k) &&
				!is_common_b(&c->base_new, at + k))
				k++;
			if (k == n)
				return true;
			if (steps >= MOVE_MAX_STEPS)
				return false;
		}
	}
	return false;
}

/* Lines put in where none had been. */
static enum lost_update judge_insertion(
	const struct comparison *c, const struct hunk *h, const struct traces *t)
{
	if (!t->lost)
		return LOST_UPDATE_KEPT;
	if (inserts_at(&c->base_new, h->a0, true) || is_moved(c, h))
		return LOST_UPDATE_OVERLAPPING;
	return LOST_UPDATE_REVERTED;
}

static enum lost_update judge_deletion(
	const struct comparison *c, const struct hunk *h, const struct traces *t)
{
	if (t->back)
		return t->back >= t->still_out ? LOST_UPDATE_REVERTED
					       : LOST_UPDATE_OVERLAPPING;
	/* Compared with base they were never gone: which of several like lines are meant
	 * cannot be told. */
	if (t->base_untouched)
		return LOST_UPDATE_OVERLAPPING;
	/* What new has there may be what it made of the deleted lines. */
	return inserts_at(&c->current_new, h->b0, false) ? LOST_UPDATE_OVERLAPPING
							 : LOST_UPDATE_KEPT;
}

static enum lost_update judge_replacement(
	const struct comparison *c, const struct hunk *h, const struct traces *t)
{
	if (!t->lost)
		return t->back >= t->carried ? LOST_UPDATE_OVERLAPPING : LOST_UPDATE_KEPT;
	if (t->back)
		return t->back >= t->own ? LOST_UPDATE_REVERTED : LOST_UPDATE_OVERLAPPING;
	/* The base's lines can be in new and yet pass for current's, where current has the
	 * same lines nearby. In an unfinished text that may still turn out otherwise. */
	if (!t->own && t->base_untouched)
		return c->complete ? LOST_UPDATE_REVERTED : LOST_UPDATE_UNDECIDED;
	return LOST_UPDATE_OVERLAPPING;
}

static enum lost_update judge(const struct comparison *c, const struct hunk *h)
{
	struct traces t = find_traces(c, h);

	if (h->a0 == h->a1)
		return judge_insertion(c, h, &t);
	if (h->b0 == h->b1)
		return judge_deletion(c, h, &t);
	return judge_replacement(c, h, &t);
}

static bool same_text(const struct text *a, const struct text *b)
{
	return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

/* Whether enough lines in common stand here, one below the other, to tell a place. */
static bool is_run(const struct comparison *c, uint32_t from, uint32_t end)
{
	uint64_t run = 0;

	for (uint32_t line = from; line < end && run < RUN_MIN_WEIGHT; line++)
		run += weight(&c->current.lines, line);
	return end - from >= RUN_MIN_LINES && run >= RUN_MIN_WEIGHT;
}

/* Whether enough of new has arrived for a verdict on a hunk that ends here: it must be back
 * on current's lines. A revert is plain to see by then; that new goes its own way is
 * believed only of a place that is hard to mistake. */
static bool has_arrived(const struct comparison *c, uint32_t end, enum lost_update verdict)
{
	if (c->complete)
		return true;
	if (end > c->sure_from || c->sure_from == c->sure)
		return false;
	if (verdict == LOST_UPDATE_REVERTED)
		return c->sure - c->sure_from >= RUN_MIN_LINES ||
		       c->sure == c->current.lines.n;
	return is_run(c, c->sure_from, c->sure);
}

void comparison_judge(struct comparison *c)
{
	/* Then nothing is left to interpretation, nor to two diffs that see it unlike. */
	bool all_back = c->known_base && c->complete && same_text(&c->base, &c->new);

	for (uint32_t i = 0; i < comparison_size(c); i++) {
		enum lost_update verdict;
		uint32_t first, end;

		if (c->verdicts[i] == LOST_UPDATE_REVERTED)
			continue; /* seen early */
		comparison_range(c, i, &first, &end);
		if (all_back)
			verdict = LOST_UPDATE_REVERTED;
		else if (c->known_base)
			verdict = judge(c, &c->base_current.v[i]);
		else
			verdict = first < end ? LOST_UPDATE_OVERLAPPING : LOST_UPDATE_KEPT;
		if (has_arrived(c, end, verdict))
			c->verdicts[i] = verdict;
	}
}

bool comparison_replaced(const struct comparison *c, uint32_t i)
{
	const struct hunk *h = &c->base_current.v[i], *g;
	uint32_t n = h->a1 - h->a0, k = find_a(&c->current_new, h->b0), run_end;

	if (h->b0 == h->b1 || k == c->current_new.n)
		return false; /* deletions are seen by comparison_judge() just as early */
	g = &c->current_new.v[k];
	if (g->a0 != h->b0 || g->a1 != h->b1 || g->b1 - g->b0 != n)
		return false;
	for (uint32_t line = 0; line < n; line++) {
		if (!line_equal(&c->base.lines, h->a0 + line, &c->new.lines, g->b0 + line))
			return false;
	}
	run_end =
		k + 1 < c->current_new.n ? c->current_new.v[k + 1].a0 : c->current.lines.n;
	return is_run(c, g->a1, run_end);
}
