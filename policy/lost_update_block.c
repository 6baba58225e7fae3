#include <string.h>

#include "policy/lost_update_internal.h"

/* git's own test for binary. */
#define BINARY_PROBE_BYTES 8000

static bool is_binary(const struct content *c)
{
	size_t probe = c->size < BINARY_PROBE_BYTES ? c->size : BINARY_PROBE_BYTES;

	return probe && memchr(c->data, '\0', probe);
}

bool contents_by_block(const struct content *base, const struct content *current,
	const struct content *new)
{
	const struct content *const all[] = {base, current, new};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		if (all[i]->size > LOST_UPDATE_MAX_BYTES || is_binary(all[i]))
			return true;
	}
	return false;
}

uint64_t content_next_data(const struct content *c, uint64_t at)
{
	size_t low = 0, high = c->n_spans;

	if (at >= c->size)
		return c->size;
	if (!c->spans)
		return at;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (c->spans[middle].end > at)
			high = middle;
		else
			low = middle + 1;
	}
	if (low == c->n_spans || c->spans[low].at >= c->size)
		return c->size;
	return c->spans[low].at > at ? c->spans[low].at : at;
}

/* Block i of a content: empty behind its end. */
static struct content block(const struct content *c, uint64_t i)
{
	uint64_t at = i * LOST_UPDATE_BLOCK_BYTES;
	static const char zeros[LOST_UPDATE_BLOCK_BYTES];
	uint64_t rest = at < c->size ? c->size - at : 0;
	uint64_t size = rest < LOST_UPDATE_BLOCK_BYTES ? rest : LOST_UPDATE_BLOCK_BYTES;
	bool hole = rest && content_next_data(c, at) >= at + size;

	if (!rest)
		return (struct content){.data = ""};
	return (struct content){.data = hole ? zeros : c->data + at, .size = size};
}

static bool starts_with(const struct content *whole, const struct content *start)
{
	return whole->size >= start->size &&
	       memcmp(whole->data, start->data, start->size) == 0;
}

static bool same(const struct content *a, const struct content *b)
{
	return a->size == b->size && starts_with(a, b);
}

uint64_t content_blocks(const struct content *base, const struct content *current)
{
	uint64_t size = base->size > current->size ? base->size : current->size;

	return (size + LOST_UPDATE_BLOCK_BYTES - 1) / LOST_UPDATE_BLOCK_BYTES;
}

enum lost_update block_verdict(const struct content *base, bool known_base,
	const struct content *current, const struct content *new, uint64_t i)
{
	struct content b = block(base, i), c = block(current, i), n = block(new, i);

	if (known_base && same(&b, &c))
		return LOST_UPDATE_SAME;
	if (same(&n, &c))
		return LOST_UPDATE_KEPT;
	if (known_base && same(&n, &b))
		return LOST_UPDATE_REVERTED;
	/* More behind the end of current is not its affair, unless it had cut the base. */
	if (starts_with(&n, &c) && (!known_base || current->size >= base->size))
		return LOST_UPDATE_KEPT;
	return LOST_UPDATE_OVERLAPPING;
}

/* Whether all bytes of block i have arrived that can decide it. */
static bool has_arrived(const struct content *base, const struct content *current,
	const struct content *new, uint64_t i)
{
	struct content b = block(base, i), c = block(current, i), n = block(new, i);

	return n.size == LOST_UPDATE_BLOCK_BYTES || (n.size > b.size && n.size > c.size);
}

static uint32_t saturate(uint64_t n)
{
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

/* n blocks from i on. */
static void count(
	struct lost_update_result *result, enum lost_update verdict, uint64_t i, uint64_t n)
{
	if (verdict == LOST_UPDATE_KEPT)
		result->n_kept = saturate(result->n_kept + n);
	else if (verdict == LOST_UPDATE_REVERTED)
		result->n_reverted = saturate(result->n_reverted + n);
	else if (verdict == LOST_UPDATE_OVERLAPPING)
		result->n_overlapping = saturate(result->n_overlapping + n);
	if (verdict != LOST_UPDATE_REVERTED && verdict != LOST_UPDATE_OVERLAPPING)
		return;
	if (!result->first_line)
		result->first_line = saturate(i + 1);
	else if (result->last_line != i)
		return;
	result->last_line = saturate(i + n);
}

static uint64_t run_of(const struct content *c, uint64_t i)
{
	uint64_t at = i * LOST_UPDATE_BLOCK_BYTES;

	if (at >= c->size)
		return UINT64_MAX;
	return (content_next_data(c, at) - at) / LOST_UPDATE_BLOCK_BYTES;
}

uint64_t blocks_alike(const struct content *base, const struct content *current,
	const struct content *new, uint64_t i)
{
	uint64_t last = content_blocks(base, current) - i;
	const struct content *const all[] = {base, current, new};

	for (size_t k = 0; k < ARRAY_SIZE(all); k++) {
		uint64_t run = run_of(all[k], i);

		if (run < last)
			last = run;
	}
	return last ?: 1;
}

void lost_update_by_block(const struct content *base, bool known_base,
	const struct content *current, const struct content *new, bool complete,
	struct lost_update_result *result)
{
	static const struct content empty = {.data = ""};
	bool all_arrived = true;

	if (!known_base)
		base = &empty;
	*result = (struct lost_update_result){.by_block = true};
	for (uint64_t i = 0, n; i < content_blocks(base, current); i += n) {
		enum lost_update verdict = block_verdict(base, known_base, current, new, i);

		n = blocks_alike(base, current, new, i);
		if (complete || has_arrived(base, current, new, i))
			count(result, verdict, i, n);
		else if (verdict != LOST_UPDATE_SAME)
			all_arrived = false;
	}
	if (result->n_reverted)
		result->verdict = LOST_UPDATE_REVERTED;
	else if (result->n_overlapping && (all_arrived || !known_base))
		result->verdict = LOST_UPDATE_OVERLAPPING;
	else
		result->verdict = complete ? LOST_UPDATE_KEPT : LOST_UPDATE_UNDECIDED;
}
