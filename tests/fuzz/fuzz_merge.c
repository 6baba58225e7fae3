/*
 * Three contents with the byte 0x1e between them: what must hold of any merge (M).
 */
#include <string.h>

#include "policy/merge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SEPARATOR 0x1e

static bool same(const struct content *a, const struct content *b)
{
	return a->size == b->size && (!a->size || memcmp(a->data, b->data, a->size) == 0);
}

static enum merge_answer run(const struct content *c, bool united, struct buf *merged)
{
	enum merge_answer answer;
	int r = united ? merge_union(&c[0], &c[1], &c[2], &answer, merged)
		       : merge_lines(&c[0], &c[1], &c[2], &answer, merged);

	assert(r == 0 && (answer == MERGE_CLEAN || merged->len == 0));
	return answer;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *at = (const char *)data, *end = at + size;
	bool binary = size && memchr(data, '\0', size);
	struct content c[3] = {{0}}, m;
	auto_buf merged = {0}, again = {0}, united = {0};
	enum merge_answer answer;

	for (int i = 0; i < 3; i++) {
		const char *stop =
			at < end && i < 2 ? memchr(at, SEPARATOR, end - at) : NULL;

		c[i] = (struct content){.data = at, .size = (stop ?: end) - at};
		at = stop ? stop + 1 : end;
	}
	answer = run(c, false, &merged);
	m = (struct content){.data = merged.data, .size = merged.len};
	assert(run(c, false, &again) == answer && again.len == merged.len);
	assert(!merged.len || memcmp(merged.data, again.data, merged.len) == 0);
	if (binary)
		return 0;
	assert(run(c, true, &united) == MERGE_CLEAN);
	if (same(&c[0], &c[1]) || same(&c[0], &c[2]) || same(&c[1], &c[2])) {
		assert(answer == MERGE_CLEAN);
		assert(same(&m, same(&c[0], &c[1]) ? &c[2] : &c[1]));
	}
	return 0;
}
