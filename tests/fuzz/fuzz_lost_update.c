/*
 * Three contents with the byte 0x1e between them, behind one byte of choices: what must
 * hold for any three (S4).
 */
#include <string.h>

#include "policy/lost_update.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SEPARATOR 0x1e

static bool same(const struct content *a, const struct content *b)
{
	return a->size == b->size && (!a->size || memcmp(a->data, b->data, a->size) == 0);
}

static struct lost_update_result run(const struct content *c, bool known, bool complete)
{
	struct lost_update_result result, again;
	int r = lost_update_test(&c[0], known, &c[1], &c[2], complete, &result);

	assert(r == 0);
	r = lost_update_test(&c[0], known, &c[1], &c[2], complete, &again);
	assert(r == 0 && again.verdict == result.verdict);
	assert(again.n_reverted == result.n_reverted && again.n_kept == result.n_kept);
	assert(complete || result.verdict >= LOST_UPDATE_OVERLAPPING);
	assert(!complete || result.verdict != LOST_UPDATE_UNDECIDED);
	assert((result.verdict == LOST_UPDATE_REVERTED) == (result.n_reverted > 0));
	assert(result.first_line <= result.last_line);
	return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct content c[3] = {{0}};
	struct lost_update_result result;
	auto_buf out = {0};
	uint8_t choices = size ? *data : 0;
	const char *at = (const char *)data + (size ? 1 : 0),
		   *end = (const char *)data + size;
	int r;

	for (int i = 0; i < 3; i++) {
		const char *stop =
			at < end && i < 2 ? memchr(at, SEPARATOR, end - at) : NULL;

		c[i] = (struct content){.data = at, .size = (stop ?: end) - at};
		at = stop ? stop + 1 : end;
	}
	if (choices & 1)
		c[2] = c[0];
	result = run(c, true, true);
	assert((result.verdict == LOST_UPDATE_SAME) == same(&c[1], &c[2]));
	if (same(&c[0], &c[2]) && !same(&c[0], &c[1]))
		assert(result.verdict == LOST_UPDATE_REVERTED && !result.n_kept);
	if (same(&c[0], &c[1]))
		assert(result.verdict <= LOST_UPDATE_SAME);
	run(c, true, false);
	run(c, false, true);
	run(c, false, false);
	r = lost_update_describe(choices & 2 ? NULL : &c[0], &c[1], &c[2], 20, &out);
	assert(r == 0);
	return 0;
}
