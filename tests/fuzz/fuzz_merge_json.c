/*
 * Three documents, and what must hold of their merge by key (M). The first byte says how
 * they come about: as they are, with the byte 0x1e between them; or drawn, the base by
 * the first part, and the others by the same bytes with those changed that their own part
 * names, in pairs of place and value.
 */
#include <string.h>

#include "policy/json_doc.h"
#include "policy/merge_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SEPARATOR 0x1e

enum { MAX_DRAWN = 256 };

struct drawn {
	uint8_t bytes[MAX_DRAWN];
	size_t n, at;
};

static uint8_t draw(struct drawn *d)
{
	return d->at < d->n ? d->bytes[d->at++] : 0;
}

static void put_blanks(struct drawn *d, struct buf *out)
{
	static const char *const blanks[] = {
		"", "", "", " ", "\n", "\n  ", "\r\n\t", "\n\n "};

	buf_puts(out, blanks[draw(d) % ARRAY_SIZE(blanks)]);
}

static void put_scalar(struct drawn *d, struct buf *out)
{
	static const char *const scalars[] = {"0", "1", "1.0", "-2e5", "true", "null",
		"\"a\"", "\"\\u0061\"", "\"\\ud83d\"", "\"é\"", "99999999999999999999"};

	buf_puts(out, scalars[draw(d) % ARRAY_SIZE(scalars)]);
}

static void put_value(struct drawn *d, struct buf *out, int depth)
{
	static const char *const keys[] = {
		"\"a\"", "\"\\u0061b\"", "\"c d\"", "\"\"", "\"e\\\"\"", "\"f\""};
	uint8_t what = draw(d);
	bool object = what & 1;
	unsigned n = what / 4 % 5, first = draw(d);

	if (depth == 5 || what % 4 == 2) {
		put_scalar(d, out);
		return;
	}
	buf_putc(out, object ? '{' : '[');
	for (unsigned i = 0; i < n; i++) {
		if (i)
			buf_putc(out, ',');
		put_blanks(d, out);
		if (object) { /* no two of the same, but for those that wrap around */
			buf_puts(out, keys[(first + i) % ARRAY_SIZE(keys)]);
			put_blanks(d, out);
			buf_putc(out, ':');
			put_blanks(d, out);
		}
		put_value(d, out, depth + 1);
		put_blanks(d, out);
	}
	buf_putc(out, object ? '}' : ']');
}

static void draw_document(
	const struct content *base, const struct content *changes, struct buf *out)
{
	struct drawn d = {.n = base->size < MAX_DRAWN ? base->size : MAX_DRAWN};

	if (d.n)
		memcpy(d.bytes, base->data, d.n);
	for (size_t i = 0; changes && d.n && i + 1 < changes->size; i += 2)
		d.bytes[(uint8_t)changes->data[i] % d.n] = (uint8_t)changes->data[i + 1];
	put_blanks(&d, out);
	put_value(&d, out, 0);
	put_blanks(&d, out);
}

static bool same(const struct content *a, const struct content *b)
{
	return a->size == b->size && (!a->size || memcmp(a->data, b->data, a->size) == 0);
}

static enum merge_answer run(const struct content *base, bool known,
	const struct content *current, const struct content *new, struct buf *merged)
{
	enum merge_answer answer;
	auto_buf why = {0};
	int r = merge_json(base, known, current, new, &answer, merged, &why);

	assert(r == 0 && (answer == MERGE_CLEAN || merged->len == 0));
	assert((answer == MERGE_CONFLICT) == (why.len > 0));
	assert(!memchr(why.data ?: "", '\n', why.len) && why.len < 1500);
	return answer;
}

static bool says_the_same(const struct content *a, const struct content *b)
{
	auto_json_doc x = {0}, y = {0};
	enum json_doc_answer answer;
	auto_buf why = {0};
	int r = json_doc_parse(&x, a->data, a->size, &answer, &why);

	assert(r == 0 && answer == JSON_DOC_OK);
	r = json_doc_parse(&y, b->data, b->size, &answer, &why);
	assert(r == 0 && answer == JSON_DOC_OK);
	assert(json_equal(&x, 0, &y, 0) == json_equal(&y, 0, &x, 0));
	return json_equal(&x, 0, &y, 0);
}

static void check(const struct content c[3])
{
	auto_buf merged = {0}, again = {0}, swapped = {0}, twice = {0}, unknown = {0};
	enum merge_answer answer = run(&c[0], true, &c[1], &c[2], &merged);
	struct content m = {.data = merged.data, .size = merged.len}, t;

	assert(run(&c[0], true, &c[1], &c[2], &again) == answer);
	t = (struct content){.data = again.data, .size = again.len};
	assert(same(&m, &t));
	assert(run(&c[0], true, &c[2], &c[1], &swapped) == answer);
	run(NULL, false, &c[1], &c[2], &unknown);
	if (answer != MERGE_CLEAN)
		return;
	if (same(&c[0], &c[1]) || same(&c[0], &c[2]) || same(&c[1], &c[2]))
		assert(same(&m, same(&c[0], &c[1]) ? &c[2] : &c[1]));
	/* What is merged already is no change any more. */
	answer = run(&c[0], true, &m, &c[2], &twice);
	t = (struct content){.data = twice.data, .size = twice.len};
	assert(answer == MERGE_CLEAN && says_the_same(&m, &t));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *at = (const char *)data + (size ? 1 : 0),
		   *end = (const char *)data + size;
	struct content c[3] = {{0}};
	struct buf b[3] = {{0}};

	for (int i = 0; i < 3; i++) {
		const char *stop =
			at < end && i < 2 ? memchr(at, SEPARATOR, end - at) : NULL;

		c[i] = (struct content){.data = at, .size = (stop ?: end) - at};
		at = stop ? stop + 1 : end;
	}
	for (int i = 0; i < 3 && size && *data % 4; i++)
		draw_document(&c[0], i ? &c[i] : NULL, &b[i]);
	for (int i = 0; i < 3 && size && *data % 4; i++)
		c[i] = (struct content){.data = b[i].data, .size = b[i].len};
	check(c);
	for (int i = 0; i < 3; i++)
		buf_done(&b[i]);
	return 0;
}
