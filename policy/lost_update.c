#include <string.h>

#include "policy/lost_update_internal.h"

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Of sparse ones block by block: what is a hole in both is passed over. */
static bool same_bytes(const struct content *a, const struct content *b)
{
	uint64_t piece = a->spans || b->spans ? LOST_UPDATE_BLOCK_BYTES : a->size;

	if (a->size != b->size)
		return false;
	for (uint64_t at = 0; at < a->size;) {
		uint64_t n;

		at = smaller(content_next_data(a, at), content_next_data(b, at));
		n = smaller(piece, a->size - at);
		if (n && memcmp(a->data + at, b->data + at, n) != 0)
			return false;
		at += n;
	}
	return true;
}

static bool ends_line(const struct content *c)
{
	return c->size && c->data[c->size - 1] == '\n';
}

/* All that the others changed is the newline at the very end. Losing that overlaps at
 * most: many programs put it in or leave it out by habit. */
static void judge_last_newline(const struct content *base, const struct content *current,
	const struct content *new, struct lost_update_result *result)
{
	if (same_bytes(base, new))
		result->verdict = LOST_UPDATE_REVERTED;
	else if (ends_line(new) != ends_line(current))
		result->verdict = LOST_UPDATE_OVERLAPPING;
	result->n_reverted = result->verdict == LOST_UPDATE_REVERTED;
	result->n_overlapping = result->verdict == LOST_UPDATE_OVERLAPPING;
	result->n_kept = result->verdict == LOST_UPDATE_KEPT;
}

static void count(struct lost_update_result *result, const struct comparison *c, uint32_t i)
{
	uint32_t first, end, n_lines = c->current.lines.n;

	switch (c->verdicts[i]) {
	case LOST_UPDATE_KEPT:
		result->n_kept++;
		return;
	case LOST_UPDATE_REVERTED:
		result->n_reverted++;
		break;
	case LOST_UPDATE_OVERLAPPING:
		result->n_overlapping++;
		break;
	case LOST_UPDATE_SAME:
	case LOST_UPDATE_UNDECIDED:
		return;
	}
	if (result->first_line)
		return;
	comparison_range(c, i, &first, &end);
	result->first_line = first < n_lines ? first + 1 : n_lines ?: 1;
	result->last_line = end > first ? end : result->first_line;
}

static void sum_up(struct lost_update_result *result, const struct comparison *c)
{
	uint32_t n = comparison_size(c), n_decided;

	for (uint32_t i = 0; i < n; i++)
		count(result, c, i);
	n_decided = result->n_kept + result->n_reverted + result->n_overlapping;
	if (result->n_reverted)
		result->verdict = LOST_UPDATE_REVERTED;
	/* A revert may follow where the base is known: then only the last word counts. */
	else if (result->n_overlapping && (n_decided == n || !c->known_base))
		result->verdict = LOST_UPDATE_OVERLAPPING;
	else
		result->verdict = c->complete ? LOST_UPDATE_KEPT : LOST_UPDATE_UNDECIDED;
}

int lost_update_test(const struct content *base, bool known_base,
	const struct content *current, const struct content *new, bool complete,
	struct lost_update_result *result)
{
	auto_comparison c = {0};
	int r;

	*result = (struct lost_update_result){0};
	if (complete && same_bytes(current, new)) {
		result->verdict = LOST_UPDATE_SAME;
		return 0;
	}
	if (contents_by_block(known_base ? base : current, current, new))
		r = 1;
	else
		r = comparison_init(&c, base, known_base, current, new, complete);
	if (r < 0)
		return r;
	if (r > 0) {
		lost_update_by_block(base, known_base, current, new, complete, result);
		return 0;
	}
	comparison_judge(&c);
	sum_up(result, &c);
	if (complete && known_base && !c.base_current.n && !same_bytes(base, current))
		judge_last_newline(base, current, new, result);
	return 0;
}
