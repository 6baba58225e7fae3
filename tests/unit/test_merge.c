/* The strategies merge and union (M). */
#include "check.h"
#include "policy/merge.h"

typedef int merge_fn(const struct content *base, const struct content *current,
	const struct content *new, enum merge_answer *answer, struct buf *merged);

static struct content text(const char *s)
{
	return (struct content){.data = s, .size = strlen(s)};
}

static const struct cell {
	const char *what, *base, *current, *new, *merged, *united; /* NULL: a conflict */
} cells[] = {
	{"changes apart", "a\nb\nc\nd\ne\n", "A\nb\nc\nd\ne\n", "a\nb\nc\nd\nE\n",
		"A\nb\nc\nd\nE\n", "A\nb\nc\nd\nE\n"},
	{"the same change", "a\nb\nc\n", "a\nB\nc\n", "a\nB\nc\n", "a\nB\nc\n",
		"a\nB\nc\n"},
	{"one line, two ways", "a\nb\nc\n", "a\n1\nc\n", "a\n2\nc\n", NULL, "a\n1\n2\nc\n"},
	{"side by side", "a\nb\n", "A\nb\n", "a\nB\n", NULL, "A\nb\na\nB\n"},
	{"both appended", "a\n", "a\n1\n", "a\n2\n", NULL, "a\n1\n2\n"},
	{"both appended, no newline", "a\n", "a\n1", "a\n2", NULL, "a\n1\n2"},
	{"only new changed", "a\nb\n", "a\nb\n", "x\n", "x\n", "x\n"},
	{"only current changed", "a\nb\n", "x\n", "a\nb\n", "x\n", "x\n"},
	{"empty base", "", "a\n", "b\n", NULL, "a\nb\n"},
	{"all empty", "", "", "", "", ""},
	{"deleted and changed", "a\nb\nc\n", "a\nc\n", "a\nB\nc\n", NULL, "a\nB\nc\n"},
	{"line ends kept", "a\r\nb\r\nc\r\nd\r\n", "A\r\nb\r\nc\r\nd\r\n",
		"a\r\nb\r\nc\r\nD\r\n", "A\r\nb\r\nc\r\nD\r\n", "A\r\nb\r\nc\r\nD\r\n"},
	{"markers that are text", "<<<<<<< x\na\nb\nc\n", "<<<<<<< x\nA\nb\nc\n",
		"<<<<<<< x\na\nb\nC\n", "<<<<<<< x\nA\nb\nC\n", "<<<<<<< x\nA\nb\nC\n"},
};

static void check(const struct cell *cell, merge_fn *fn, const char *expected)
{
	struct content base = text(cell->base), current = text(cell->current);
	struct content new = text(cell->new);
	enum merge_answer answer;
	auto_buf merged = {0};

	buf_puts(&merged, ">"); /* appended to, not replaced */
	CHECK_EQ(fn(&base, &current, &new, &answer, &merged), 0);
	if (answer == (expected ? MERGE_CLEAN : MERGE_CONFLICT) &&
		strcmp(merged.data + 1, expected ?: "") == 0)
		return;
	fprintf(stderr, "%s: %s \"%s\"\n", cell->what,
		answer == MERGE_CLEAN ? "clean" : "conflict", merged.data + 1);
	exit(1);
}

static void test_beyond_text(void)
{
	struct content a = {.data = "a\0", .size = 2}, b = text("b\n"), c = text("c\n");
	enum merge_answer answer;
	auto_buf merged = {0}, large = {0};

	CHECK_EQ(merge_union(&a, &b, &c, &answer, &merged), 0);
	CHECK_EQ(answer, MERGE_CONFLICT);
	for (uint32_t i = 0; i <= MERGE_MAX_LINES; i++)
		buf_putc(&large, '\n');
	a = (struct content){.data = large.data, .size = large.len};
	CHECK_EQ(merge_union(&b, &a, &c, &answer, &merged), 0);
	CHECK_EQ(answer, MERGE_CONFLICT);
	CHECK_EQ(merged.len, 0);
}

/* A clean merge carries both sides: the lost-update test finds nothing lost, seen from
 * either. Texts of a few lines, drawn. */
static void test_clean_merges_lose_nothing(void)
{
	uint64_t state = 9;
	int n_clean = 0;

	for (int round = 0; round < 20000; round++) {
		struct buf t[3] = {{0}, {0}, {0}};
		struct content c[3], m;
		enum merge_answer answer;
		auto_buf merged = {0};

		for (int line = 0; line < 12; line++) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			for (int i = 0; i < 3; i++) {
				/* sides 1 and 2 each change some lines, or add one */
				unsigned what = (unsigned)(state >> (30 + 5 * i)) % 12;

				if (i && what == 0)
					buf_printf(&t[i], "side %d, %d\n", i, line);
				else if (!i || what != 1)
					buf_printf(&t[i], "line %d\n", line);
				if (i && what == 2)
					buf_printf(&t[i], "added by %d, %d\n", i, line);
			}
		}
		for (int i = 0; i < 3; i++)
			c[i] = (struct content){.data = t[i].data, .size = t[i].len};
		CHECK_EQ(merge_lines(&c[0], &c[1], &c[2], &answer, &merged), 0);
		m = (struct content){.data = merged.data, .size = merged.len};
		for (int i = 1; i < 3 && answer == MERGE_CLEAN; i++) {
			struct lost_update_result result;

			n_clean++;
			CHECK_EQ(
				lost_update_test(&c[0], true, &c[i], &m, true, &result), 0);
			CHECK(result.verdict <= LOST_UPDATE_SAME);
		}
		for (int i = 0; i < 3; i++)
			buf_done(&t[i]);
	}
	CHECK(n_clean > 2000); /* or the test shows nothing */
}

int main(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cells); i++) {
		check(&cells[i], merge_lines, cells[i].merged);
		check(&cells[i], merge_union, cells[i].united);
	}
	test_beyond_text();
	test_clean_merges_lose_nothing();
	return 0;
}
