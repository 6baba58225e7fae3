/* The lost-update test (S4). */
#include <sys/mman.h>

#include "base/clock.h"
#include "check.h"
#include "policy/lost_update.h"

#define KEPT LOST_UPDATE_KEPT
#define SAME LOST_UPDATE_SAME
#define OVERLAPPING LOST_UPDATE_OVERLAPPING
#define REVERTED LOST_UPDATE_REVERTED
#define UNDECIDED LOST_UPDATE_UNDECIDED

static const char *const verdict_names[] = {
	[KEPT] = "kept",
	[SAME] = "same",
	[OVERLAPPING] = "overlapping",
	[REVERTED] = "reverted",
	[UNDECIDED] = "undecided",
};

static struct content text(const char *s)
{
	return (struct content){.data = s, .size = strlen(s)};
}

static struct content bytes(const struct buf *b)
{
	return (struct content){.data = b->data, .size = b->len};
}

static struct lost_update_result judge(
	struct content base, struct content current, struct content new, bool complete)
{
	struct lost_update_result result;

	CHECK_EQ(lost_update_test(&base, true, &current, &new, complete, &result), 0);
	return result;
}

static const struct cell {
	const char *what, *base, *current, *new;
	enum lost_update verdict;
} cells[] = {
	/* the other changed one line, this one another */
	{"edit elsewhere", "a\nb\nc\nd\n", "a\nB\nc\nd\n", "a\nB\nc\nD\n", KEPT},
	{"edit next to it", "a\nb\nc\n", "a\nB\nc\n", "A\nB\nc\n", KEPT},
	{"old file whole", "a\nb\nc\n", "a\nB\nc\n", "a\nb\nc\n", REVERTED},
	{"old file, edited elsewhere", "a\nb\nc\nd\n", "a\nB\nc\nd\n", "a\nb\nc\nD\n",
		REVERTED},
	{"old file, edited next to it", "a\nb\nc\n", "a\nB\nc\n", "A\nb\nc\n", REVERTED},
	{"old file, edited before and behind", "a\nb\nc\n", "a\nB\nc\n", "A\nb\nC\n",
		REVERTED},
	{"old file, line put in next to it", "a\nb\nc\n", "a\nB\nc\n", "a\nx\nb\nc\n",
		REVERTED},
	{"current, line put in next to it", "a\nb\nc\n", "a\nB\nc\n", "a\nx\nB\nc\n", KEPT},
	{"both changed the same line", "a\nb\nc\n", "a\nB\nc\n", "a\nbb\nc\n", OVERLAPPING},
	{"both changed it alike", "a\nb\nc\nd\n", "a\nB\nc\nd\n", "a\nB\nc\nD\n", KEPT},
	{"same line, and another reverted", "a\nb\nc\nd\ne\n", "a\nB\nc\nD\ne\n",
		"a\nbb\nc\nd\ne\n", REVERTED},
	{"same line, another kept", "a\nb\nc\nd\ne\n", "a\nB\nc\nD\ne\n",
		"a\nbb\nc\nD\ne\n", OVERLAPPING},
	{"nothing changed by others", "a\nb\n", "a\nb\n", "x\n", KEPT},
	{"no change at all", "a\nb\n", "a\nB\n", "a\nB\n", SAME},
	/* a block of lines */
	{"one line of the other's block edited anew", "a\np\nq\nr\nz\n", "a\nP\nQ\nR\nz\n",
		"a\nP\nQ2\nR\nz\n", OVERLAPPING},
	{"one line of the old block edited", "a\np\nq\nr\nz\n", "a\nP\nQ\nR\nz\n",
		"a\np\nq2\nr\nz\n", REVERTED},
	{"half of the old block back", "a\np\nq\nz\n", "a\nP\nQ\nz\n", "a\np\nQ\nz\n",
		REVERTED},
	{"old line back beside the other's", "a\nb\nc\n", "a\nB\nc\n", "a\nb\nB\nc\n",
		OVERLAPPING},
	{"old line back, passing for another", "a\nx\nx\ny\nx\nz\n",
		"a\n1\n2\nx\ny\nx\nz\n", "a\nx\nx\nx\nz\n", REVERTED},
	{"block rewritten by both", "a\np\nq\nz\n", "a\nP\nQ\nz\n", "a\n1\n2\n3\nz\n",
		OVERLAPPING},
	{"block replaced by a blank line, old one back", "a\nlong line\nmore\nz\n",
		"a\n\nz\n", "a\nlong line\nmore\nz\ny\n", REVERTED},
	/* lines put in */
	{"appended, lost", "a\nb\n", "a\nb\nx\n", "A\nb\n", REVERTED},
	{"appended, lost, last line edited", "a\nb\n", "a\nb\nx\n", "a\nB\n", REVERTED},
	{"appended, kept", "a\nb\n", "a\nb\nx\n", "A\nb\nx\n", KEPT},
	{"both appended, both there", "a\n", "a\nx\n", "a\nx\ny\n", KEPT},
	{"both appended, both there, other order", "a\n", "a\nx\n", "a\ny\nx\n", KEPT},
	{"both appended, only own", "a\n", "a\nx\n", "a\ny\n", OVERLAPPING},
	{"put in front, lost", "a\nb\n", "x\na\nb\n", "a\nB\n", REVERTED},
	{"put in between, lost, neighbour edited", "a\nb\n", "a\nx\nb\n", "A\nb\n",
		REVERTED},
	{"put in between, kept, neighbours edited", "a\nb\n", "a\nx\nb\n", "A\nx\nB\n",
		KEPT},
	{"put in, and edited there again", "a\nb\n", "a\nx\nb\n", "a\nX\nb\n", OVERLAPPING},
	{"put in lines, one edited", "a\nb\n", "a\nx\ny\nz\nb\n", "a\nx\nY\nz\nb\n",
		OVERLAPPING},
	{"put in twice the same line", "a\nb\n", "a\na\nb\n", "a\nb\nc\n", REVERTED},
	{"doubled line kept", "x\n", "x\nx\n", "x\ny\nx\n", KEPT},
	/* lines taken out */
	{"deleted, back", "a\nb\nc\n", "a\nc\n", "a\nb\nC\n", REVERTED},
	{"deleted, still out", "a\nb\nc\n", "a\nc\n", "a\nC\n", KEPT},
	{"deleted, still out, both neighbours edited", "a\nb\nc\n", "a\nc\n", "A\nC\n",
		KEPT},
	{"deleted, edited by this one", "a\nb\nc\n", "a\nc\n", "a\nB\nc\n", OVERLAPPING},
	{"deleted by both", "a\nb\nc\nd\n", "a\nc\nd\n", "a\nc\nD\n", KEPT},
	{"one of two like lines deleted, back", "x\nx\ny\n", "x\ny\n", "x\nx\nY\n",
		REVERTED},
	{"one of two like lines deleted, back, edited before", "a\nx\nx\ny\n", "a\nx\ny\n",
		"A\na\nx\nx\ny\n", REVERTED},
	{"one of two like lines deleted, a line between them too", "x\na\nx\nb\n",
		"a\nx\nb\n", "x\nb\n", OVERLAPPING},
	{"one of three like lines deleted, edited elsewhere", "x\nx\nx\nb\nc\n",
		"x\nx\nb\nc\n", "x\nx\nb\nC\n", KEPT},
	{"all deleted, old back", "a\nb\n", "", "a\nB\n", REVERTED},
	{"all deleted, new text", "a\nb\n", "", "x\n", OVERLAPPING},
	/* moved */
	{"other moved a block, old order back", "a\nb\nc\nd\ne\nf\n", "c\nd\ne\nf\na\nb\n",
		"a\nb\nc\nd\ne\nF\n", REVERTED},
	{"other moved a block, kept", "a\nb\nc\nd\ne\nf\n", "c\nd\ne\nf\na\nb\n",
		"c\nd\ne\nF\na\nb\n", KEPT},
	{"this one moved the other's lines", "a\nb\nc\nd\n", "a\nx\ny\nb\nc\nd\n",
		"a\nb\nc\nd\nx\ny\n", OVERLAPPING},
	/* like lines everywhere */
	{"braces", "f {\n}\n\ng {\n}\n", "f {\n}\n\nh {\n}\n\ng {\n}\n",
		"f {\n 1\n}\n\nh {\n}\n\ng {\n}\n", KEPT},
	{"braces, lost", "f {\n}\n\ng {\n}\n", "f {\n}\n\nh {\n}\n\ng {\n}\n",
		"f {\n 1\n}\n\ng {\n}\n", REVERTED},
	/* line ends */
	{"CRLF kept", "a\r\nb\r\nc\r\n", "a\r\nB\r\nc\r\n", "a\r\nB\r\nC\r\n", KEPT},
	{"CRLF reverted", "a\r\nb\r\nc\r\n", "a\r\nB\r\nc\r\n", "a\r\nb\r\nC\r\n",
		REVERTED},
	{"CRLF, written as LF, kept", "a\r\nb\r\nc\r\n", "a\r\nB\r\nc\r\n", "a\nB\nC\n",
		KEPT},
	{"CRLF, written as LF, reverted", "a\r\nb\r\nc\r\n", "a\r\nB\r\nc\r\n", "a\nb\nC\n",
		REVERTED},
	{"LF, written as CRLF, reverted", "a\nb\nc\n", "a\nB\nc\n", "a\r\nb\r\nC\r\n",
		REVERTED},
	{"other made it LF, back to CRLF", "a\r\nb\r\nc\r\n", "a\nb\nc\n",
		"a\r\nb\r\nC\r\n", REVERTED},
	{"other made it LF, kept", "a\r\nb\r\nc\r\n", "a\nb\nc\n", "a\nb\nC\n", KEPT},
	{"mixed, reverted", "a\r\nb\nc\n", "a\r\nB\nc\n", "a\r\nb\nC\n", REVERTED},
	{"no newline at the end, kept", "a\nb\nc", "a\nB\nc", "a\nB\nC", KEPT},
	{"no newline at the end, reverted", "a\nb\nc", "a\nB\nc", "a\nb\nC", REVERTED},
	{"appended behind no newline, lost", "a\nb", "a\nb\nx", "a\nb\n", REVERTED},
	{"appended behind no newline, CRLF", "a\r\nb\r\nc", "a\r\nb", "a\r\nb\r\nx",
		OVERLAPPING},
	{"appended behind no newline, kept", "a\nb", "a\nb\nx", "A\nb\nx\n", KEPT},
	{"only the newline added, old back", "a\nb", "a\nb\n", "a\nb", REVERTED},
	{"only the newline added, edited without", "a\nb", "a\nb\n", "A\nb", OVERLAPPING},
	{"only the newline added, edited with", "a\nb", "a\nb\n", "A\nb\n", KEPT},
	{"newline left out, rest kept", "a\nb\n", "a\nB\n", "A\nB", KEPT},
	/* small */
	{"one line, old back", "a", "b", "a", REVERTED},
	{"one line, three ways", "a", "b", "c", OVERLAPPING},
	{"empty, filled, emptied", "", "a\n", "", REVERTED},
	{"empty, filled by both", "", "a\n", "b\n", OVERLAPPING},
	{"empty, filled, more added", "", "a\n", "a\nb\n", KEPT},
	{"all three empty", "", "", "", SAME},
	{"emptied by this one", "a\nb\n", "a\nB\n", "", OVERLAPPING},
};

static void test_cells(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cells); i++) {
		const struct cell *c = &cells[i];
		enum lost_update verdict =
			judge(text(c->base), text(c->current), text(c->new), true).verdict;

		if (verdict == c->verdict)
			continue;
		fprintf(stderr, "%s: %s, should be %s\n", c->what, verdict_names[verdict],
			verdict_names[c->verdict]);
		exit(1);
	}
}

static const struct early_cell {
	const char *what, *base, *current, *new;
	enum lost_update verdict;
} early_cells[] = {
	{"nothing yet", "a\nb\nc\n", "a\nB\nc\n", "", UNDECIDED},
	{"before the hunk", "a\nb\nc\n", "a\nB\nc\n", "a\n", UNDECIDED},
	{"old line, no more", "a\nb\nc\nd\n", "a\nB\nc\nd\n", "a\nb\n", UNDECIDED},
	{"old line, its end missing", "a\nb\nc\nd\n", "a\nB\nc\nd\n", "a\nb", UNDECIDED},
	{"old line, and one past it", "a\nb\nc\nd\n", "a\nB\nc\nd\n", "a\nb\nc\n",
		UNDECIDED},
	{"old line, and two past it", "a\nb\nc\nd\ne\n", "a\nB\nc\nd\ne\n", "a\nb\nc\nd\n",
		REVERTED},
	{"the whole old file", "a\nb\nc\nd\n", "a\nB\nc\nd\n", "a\nb\nc\nd\n", REVERTED},
	{"its last line lacks the newline", "a\nb\nc\nd\ne", "a\nB\nc\nd\ne",
		"a\nb\nc\nd\ne", REVERTED},
	{"the whole current file", "a\nb\nc\nd\n", "a\nB\nc\nd\n", "a\nB\nc\nd\n",
		UNDECIDED},
	{"another edit there, and one line past it", "a\nb\nc\nd\n", "a\nB\nc\nd\n",
		"a\nx\nc\n", UNDECIDED},
	{"another edit there, and two telling lines past it",
		"a\nb\nthe third line\nthe fourth line\nz\n",
		"a\nB\nthe third line\nthe fourth line\nz\n",
		"a\nx\nthe third line\nthe fourth line\n", OVERLAPPING},
	{"another edit there, a second hunk to come", "a\nb\nc\nd\ne\n", "a\nB\nc\nD\ne\n",
		"a\nx\nc\n", UNDECIDED},
	{"appended line may follow", "a\nb\n", "a\nb\nx\n", "A\nb\n", UNDECIDED},
	{"deleted line is back", "a\nb\nc\nd\n", "a\nc\nd\n", "a\nb\nc\nd\n", REVERTED},
	{"text put in front, file may follow", "a\nb\nc\n", "a\nB\nc\n", "x\ny\nz\n",
		UNDECIDED},
	{"a brace far down is no proof", "a\n}\nb\nc\nd\ne\nf\n}\n",
		"a\n}\nb\nC\nd\ne\nf\n}\n", "a\n}\nx\n}\n", UNDECIDED},
	{"long block lost, two lines follow",
		"start\nfirst line behind it\nsecond line\nz\n",
		"start\n1\n2\n3\n4\n5\n6\nfirst line behind it\nsecond line\nz\n",
		"start\nfirst line behind it\nsecond line\nz\n", REVERTED},
	{"binary, old block", "\1\2", "\1\3", "\1\2", UNDECIDED},
};

static void test_early(void) /* S7: the first write that decides */
{
	for (size_t i = 0; i < ARRAY_SIZE(early_cells); i++) {
		const struct early_cell *c = &early_cells[i];
		enum lost_update verdict =
			judge(text(c->base), text(c->current), text(c->new), false).verdict;

		if (verdict == c->verdict)
			continue;
		fprintf(stderr, "early: %s: %s, should be %s\n", c->what,
			verdict_names[verdict], verdict_names[c->verdict]);
		exit(1);
	}
}

static void test_counts_and_lines(void)
{
	struct lost_update_result r = judge(text("a\nb\nc\nd\ne\nf\ng\n"),
		text("a\nB\nc\nD\ne\nF\nF2\ng\n"), text("a\nB\nc\nx\ne\nf\ng\n"), true);

	CHECK_EQ(r.verdict, REVERTED);
	CHECK_EQ(r.n_kept, 1);
	CHECK_EQ(r.n_overlapping, 1);
	CHECK_EQ(r.n_reverted, 1);
	CHECK_EQ(r.first_line, 4);
	CHECK_EQ(r.last_line, 4);
	CHECK(!r.by_block);
	r = judge(text("a\nb\nc\nd\n"), text("a\nB\nB2\nd\n"), text("a\nb\nc\nd\n"), true);
	CHECK_EQ(r.first_line, 2);
	CHECK_EQ(r.last_line, 3);
	r = judge(text("a\nb\n"), text("a\n"), text("a\nb\n"), true);
	CHECK_EQ(r.first_line, 1); /* nothing stands where b was: the last line */
	r = judge(text("a\nb\n"), text(""), text("a\nb\n"), true);
	CHECK_EQ(r.first_line, 1);
	r = judge(text("a\nb\n"), text("a\nB\n"), text("A\nB\n"), true);
	CHECK_EQ(r.first_line, 0);
	CHECK_EQ(r.n_kept, 1);
}

static enum lost_update blind(const char *current, const char *new, bool complete)
{
	struct content c = text(current), n = text(new);
	struct lost_update_result result;

	CHECK_EQ(lost_update_test(NULL, false, &c, &n, complete, &result), 0);
	return result.verdict;
}

static void test_unknown_base(void)
{
	CHECK_EQ(blind("a\nb\n", "a\nb\n", true), SAME);
	CHECK_EQ(blind("a\nb\n", "x\na\ny\nb\nz\n", true), KEPT);
	CHECK_EQ(blind("a\nb\n", "a\n", true), OVERLAPPING);
	CHECK_EQ(blind("a\nb\n", "b\na\n", true), OVERLAPPING);
	CHECK_EQ(blind("", "a\n", true), KEPT);
	CHECK_EQ(blind("a\n", "", true), OVERLAPPING);
	CHECK_EQ(blind("a\nb", "a\nb\nc\n", true), KEPT);
	CHECK_EQ(blind("a\nthe second line\nthe third line\n",
			 "the second line\nthe third line\n", false),
		OVERLAPPING);
	CHECK_EQ(blind("a\nb\nc\n", "x\n", false), UNDECIDED);
	CHECK_EQ(blind("a\nb\nc\n", "", false), UNDECIDED);
}

/* Binary contents of three blocks, one letter each. */
static struct lost_update_result judge_blocks(
	const char *base, const char *current, const char *new, bool complete)
{
	const char *const letters[] = {base, current, new};
	struct buf b[3] = {{0}, {0}, {0}};
	struct lost_update_result result;

	for (int i = 0; i < 3; i++) {
		for (const char *l = letters[i]; *l; l++) {
			/* a lower-case letter is a block of 10 bytes, the last */
			for (int k = 0; k < (*l >= 'a' ? 10 : 4096); k++)
				buf_putc(&b[i], k ? *l : '\0');
		}
	}
	result = judge(bytes(&b[0]), bytes(&b[1]), bytes(&b[2]), complete);
	for (int i = 0; i < 3; i++)
		buf_done(&b[i]);
	CHECK(result.by_block || result.verdict == SAME);
	return result;
}

static void test_binary(void)
{
	struct lost_update_result r = judge_blocks("ABC", "AXC", "ABD", true);

	CHECK_EQ(r.verdict, REVERTED);
	CHECK_EQ(r.first_line, 2);
	CHECK_EQ(r.last_line, 2);
	CHECK_EQ(judge_blocks("ABC", "AXC", "AXD", true).verdict, KEPT);
	CHECK_EQ(judge_blocks("ABC", "AXC", "AYC", true).verdict, OVERLAPPING);
	CHECK_EQ(judge_blocks("ABC", "AXC", "AXC", true).verdict, SAME);
	CHECK_EQ(judge_blocks("AB", "ABx", "AB", true).verdict, REVERTED);
	CHECK_EQ(judge_blocks("AB", "ABx", "DB", true).verdict, REVERTED);
	CHECK_EQ(judge_blocks("AB", "ABx", "DBx", true).verdict, KEPT);
	CHECK_EQ(judge_blocks("AB", "AB", "D", true).verdict, KEPT);
	CHECK_EQ(judge_blocks("ABC", "AB", "DBC", true).verdict, REVERTED);
	CHECK_EQ(judge_blocks("ABC", "AB", "DB", true).verdict, KEPT);
	CHECK_EQ(judge_blocks("ABC", "AB", "DBX", true).verdict, OVERLAPPING);
	CHECK_EQ(judge_blocks("ABCD", "AXCY", "AX", false).verdict, UNDECIDED);
	CHECK_EQ(judge_blocks("ABCD", "AXCY", "AB", false).verdict, REVERTED);
	CHECK_EQ(judge_blocks("ABCD", "AXCY", "AZ", false).verdict, UNDECIDED);
	CHECK_EQ(judge_blocks("ABCD", "AXCD", "AZ", false).verdict, OVERLAPPING);
}

static void test_describe(void)
{
	struct content base = text("a\nb\nc\nd\ne\n"), current = text("a\nB\nc\nD\ne\n");
	struct content new = text("a\nb\nc\n\tD\x1b\xff\nf\n");
	auto_buf out = {0};

	CHECK_EQ(lost_update_describe(&base, &current, &new, 100, &out), 0);
	CHECK_STR(out.data, "@@ line 2 @@\n-B\n+b\n"
			    "@@ lines 4-5 @@\n-D\n-e\n+\tD\\x1b\\xff\n+f\n");
	buf_reset(&out);
	CHECK_EQ(lost_update_describe(&base, &current, &new, 2, &out), 0);
	CHECK_STR(out.data, "@@ line 2 @@\n-B\n… 6 more lines\n");
	buf_reset(&out);
	CHECK_EQ(lost_update_describe(NULL, &current, &new, 3, &out), 0);
	CHECK_STR(out.data, "@@ line 2 @@\n-B\n+b\n… 5 more lines\n");
	buf_reset(&out);
	base = (struct content){.data = "\0a", .size = 2};
	current = (struct content){.data = "\0b", .size = 2};
	CHECK_EQ(lost_update_describe(&base, &current, &base, 3, &out), 0);
	CHECK_STR(out.data, "@@ bytes 0-4095 differ @@\n");
}

/* ---- properties, over texts with many like lines ---- */

struct random {
	uint64_t state;
};

static uint32_t draw(struct random *r, uint32_t n)
{
	r->state = r->state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((r->state >> 33) % n);
}

/* A text as an array of line numbers: below 100 common words, above unique ones. */
struct draft {
	int lines[64];
	int n;
	bool no_newline, crlf;
};

static struct draft draw_draft(struct random *r, int kinds)
{
	struct draft d = {.n = (int)draw(r, 24)};

	for (int i = 0; i < d.n; i++)
		d.lines[i] = (int)draw(r, (uint32_t)kinds);
	d.no_newline = draw(r, 5) == 0;
	d.crlf = draw(r, 8) == 0;
	return d;
}

static void put_draft(struct buf *b, const struct draft *d)
{
	static const char *const common[] = {"", "}", "\treturn 0;", "{", "x", "y = 1;"};

	for (int i = 0; i < d->n; i++) {
		if (d->lines[i] < 6)
			buf_puts(b, common[d->lines[i]]);
		else
			buf_printf(b, "line %d", d->lines[i]);
		/* A blank last line without its newline would be no line at all. */
		if (i + 1 < d->n || !d->no_newline || d->lines[i] == 0)
			buf_puts(b, d->crlf ? "\r\n" : "\n");
	}
}

/* Replaces n_out lines at `at` by n_in lines nobody else writes. */
static void edit(struct draft *d, int at, int n_out, int n_in, int unique)
{
	memmove(d->lines + at + n_in, d->lines + at + n_out,
		sizeof(*d->lines) * (size_t)(d->n - at - n_out));
	for (int i = 0; i < n_in; i++)
		d->lines[at + i] = unique + i;
	d->n += n_in - n_out;
}

static void edit_anywhere(struct random *r, struct draft *d, int low, int high, int unique)
{
	int at = low + (int)draw(r, (uint32_t)(high - low) + 1);
	int n_out = (int)draw(r, 3), n_in = (int)draw(r, 3);

	if (n_out > high - at)
		n_out = high - at;
	edit(d, at, n_out, n_in, unique);
}

static void fail_property(
	const char *what, const struct buf *b, const struct buf *c, const struct buf *n)
{
	fprintf(stderr, "%s\n--- base\n%s\n--- current\n%s\n--- new\n%s\n", what,
		b->data ? b->data : "", c->data ? c->data : "", n->data ? n->data : "");
	exit(1);
}

/* current is any text; new is current, edited behind everything the others did, or
 * anywhere when only lines that nobody else has are in play. */
static void test_edits_of_current_are_not_refused(void)
{
	struct random r = {.state = 1};

	for (int round = 0; round < 20000; round++) {
		struct draft base = draw_draft(&r, round % 2 ? 6 : 40), current = base, new;
		auto_buf b = {0}, c = {0}, n = {0};
		int at, added;

		for (int i = 0; i < 3; i++)
			edit_anywhere(&r, &current, 0, current.n, 1000 + 10 * i);
		new = current;
		at = (int)draw(&r, (uint32_t) new.n + 1);
		added = 1 + (int)draw(&r, 2);
		edit(&new, at, 0, added, 2000); /* put in lines anywhere */
		put_draft(&b, &base);
		put_draft(&c, &current);
		put_draft(&n, &new);
		if (judge(bytes(&b), bytes(&c), bytes(&n), true).verdict == REVERTED)
			fail_property("an edit of current passes for a revert", &b, &c, &n);
	}
}

/* Edits of current that delete or replace lines, clear of what the others did. */
static void test_edits_elsewhere_are_kept(void)
{
	struct random r = {.state = 2};

	for (int round = 0; round < 20000; round++) {
		struct draft base = draw_draft(&r, 40), current, new;
		auto_buf b = {0}, c = {0}, n = {0};
		int half, grown;

		/* An untouched, unique line in the middle parts the two. */
		half = base.n / 2;
		edit(&base, half, 0, 1, 3000);
		current = base;
		edit_anywhere(&r, &current, 0, half, 1000);
		grown = current.n - base.n;
		new = current;
		edit_anywhere(&r, &new, half + 1 + grown, new.n, 2000);
		put_draft(&b, &base);
		put_draft(&c, &current);
		put_draft(&n, &new);
		if (judge(bytes(&b), bytes(&c), bytes(&n), true).verdict > SAME)
			fail_property("an edit elsewhere is not kept", &b, &c, &n);
	}
}

static bool has_line(const struct draft *d, int line)
{
	for (int i = 0; i < d->n; i++) {
		if (d->lines[i] == line)
			return true;
	}
	return false;
}

static void test_stale_texts_are_found(void)
{
	struct random r = {.state = 3};

	for (int round = 0; round < 20000; round++) {
		struct draft base = draw_draft(&r, round % 2 ? 6 : 40), current, new;
		auto_buf b = {0}, c = {0}, n = {0}, cut = {0};
		struct lost_update_result early, late;
		int n_before, at;

		current = new = base;
		n_before = current.n;
		at = (int)draw(&r, (uint32_t)current.n + 1);
		edit(&current, at, draw(&r, 2) && at < n_before, 1 + (int)draw(&r, 2),
			1000);
		edit_anywhere(&r, &new, 0, new.n, 2000);
		CHECK(has_line(&current, 1000) && !has_line(&new, 1000));
		put_draft(&b, &base);
		put_draft(&c, &current);
		put_draft(&n, &new);
		late = judge(bytes(&b), bytes(&c), bytes(&n), true);
		if (late.verdict != REVERTED && late.verdict != OVERLAPPING)
			fail_property("a stale text passes", &b, &c, &n);
		buf_append(&cut, n.data, draw(&r, (uint32_t)n.len + 1));
		early = judge(bytes(&b), bytes(&c), bytes(&cut), false);
		CHECK(early.verdict == UNDECIDED || early.verdict == REVERTED ||
			early.verdict == OVERLAPPING);
	}
}

/* What is said of a beginning holds for the whole. */
static void test_early_verdicts_hold(void)
{
	struct random r = {.state = 4};
	int n_decided = 0;

	for (int round = 0; round < 30000; round++) {
		struct draft base = draw_draft(&r, round % 2 ? 12 : 1000), current = base,
			     new;
		auto_buf b = {0}, c = {0}, n = {0}, cut = {0};
		enum lost_update early, late;

		current = base;
		for (int i = 0; i < 2; i++)
			edit_anywhere(&r, &current, 0, current.n, 2000 + 10 * i);
		new = draw(&r, 2) ? base : current;
		for (int i = 0; i < 2; i++)
			edit_anywhere(&r, &new, 0, new.n, 3000 + 10 * i);
		put_draft(&b, &base);
		put_draft(&c, &current);
		put_draft(&n, &new);
		buf_append(&cut, n.data, draw(&r, (uint32_t)n.len + 1));
		early = judge(bytes(&b), bytes(&c), bytes(&cut), false).verdict;
		if (early == UNDECIDED)
			continue;
		n_decided++;
		late = judge(bytes(&b), bytes(&c), bytes(&n), true).verdict;
		/* With few like lines the very verdict; else at least never a kept one. */
		if (late == early ||
			(round % 2 && (late == REVERTED || late == OVERLAPPING)))
			continue;
		fprintf(stderr, "--- arrived\n%s\nearly %s, late %s\n", cut.data,
			verdict_names[early], verdict_names[late]);
		fail_property("an early verdict does not hold", &b, &c, &n);
	}
	CHECK(n_decided > 3000); /* or the test shows nothing */
}

static void test_determinism(void)
{
	struct random r = {.state = 5};

	for (int round = 0; round < 500; round++) {
		struct draft d[3];
		struct buf b[3] = {{0}, {0}, {0}};
		struct lost_update_result first, second;

		for (int i = 0; i < 3; i++) {
			d[i] = draw_draft(&r, 6);
			put_draft(&b[i], &d[i]);
		}
		first = judge(bytes(&b[0]), bytes(&b[1]), bytes(&b[2]), true);
		second = judge(bytes(&b[0]), bytes(&b[1]), bytes(&b[2]), true);
		CHECK_EQ(first.verdict, second.verdict);
		CHECK_EQ(first.n_reverted, second.n_reverted);
		CHECK_EQ(first.n_kept, second.n_kept);
		CHECK_EQ(first.n_overlapping, second.n_overlapping);
		CHECK_EQ(first.first_line, second.first_line);
		for (int i = 0; i < 3; i++)
			buf_done(&b[i]);
	}
}

/* ---- sizes ---- */

/* n lines of about 40 bytes; two of them can be other ones. */
static void put_lines(struct buf *b, int n, int changed, int changed_too)
{
	for (int i = 0; i < n; i++) {
		if (i == changed)
			buf_puts(b, "changed by the other\n");
		else if (i == changed_too)
			buf_puts(b, "changed by this one\nwith one line more\n");
		else
			buf_printf(b, "line %d says what is written in line %d\n", i, i);
	}
}

static void test_size(int n)
{
	auto_buf base = {0}, current = {0}, kept = {0}, reverted = {0}, same_line = {0};
	const struct clock *clock = clock_system();
	struct lost_update_result r;
	int64_t start;

	put_lines(&base, n, -1, -1);
	put_lines(&current, n, n / 3, -1);
	put_lines(&kept, n, n / 3, n > 1 ? n - 1 : -1);
	put_lines(&reverted, n, -1, n > 1 ? n - 1 : -1);
	put_lines(&same_line, n, -1, n / 3);
	start = clock_boot_ns(clock);
	r = judge(bytes(&base), bytes(&current), bytes(&kept), true);
	CHECK_EQ(r.verdict, n > 1 ? KEPT : SAME);
	printf("%d lines, %zu bytes: %.3f ms", n, base.len,
		(double)(clock_boot_ns(clock) - start) / NS_PER_MS);
	start = clock_boot_ns(clock);
	r = judge(bytes(&base), bytes(&current), bytes(&reverted), true);
	printf(", reverted %.3f ms\n", (double)(clock_boot_ns(clock) - start) / NS_PER_MS);
	CHECK_EQ(r.verdict, REVERTED);
	CHECK_EQ(r.first_line, n / 3 + 1);
	CHECK(!r.by_block);
	CHECK_EQ(judge(bytes(&base), bytes(&current), bytes(&same_line), true).verdict,
		OVERLAPPING);
}

/* Above the bounds: by block. */
static void test_beyond_bounds(void)
{
	auto_buf base = {0}, current = {0}, new = {0}, quiet = {0}, loud = {0};
	struct buf *noise[2] = {&quiet, &loud};
	const struct clock *clock = clock_system();
	struct random r = {.state = 6};
	struct lost_update_result result;
	int64_t start;

	while (base.len <= LOST_UPDATE_MAX_BYTES)
		buf_puts(&base, "0123456789012345678901234567890\n");
	buf_append(&current, base.data, base.len);
	buf_append(&new, base.data, base.len);
	current.data[5000] = 'x';
	new.data[20000] = 'y';
	result = judge(bytes(&base), bytes(&current), bytes(&new), true);
	CHECK(result.by_block);
	CHECK_EQ(result.verdict, REVERTED);
	CHECK_EQ(result.first_line, 2);
	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < 60000; k++)
			buf_puts(noise[i], draw(&r, 2) ? "0\n" : "1\n");
	}
	start = clock_boot_ns(clock);
	result = judge((struct content){0}, bytes(noise[0]), bytes(noise[1]), true);
	printf("60000 lines of noise: %.3f ms\n",
		(double)(clock_boot_ns(clock) - start) / NS_PER_MS);
	CHECK_EQ(result.verdict, OVERLAPPING);
}

/* Sparse contents of terabytes: what is mapped of them is never touched, for the test runs
 * over a mapping that may not be read, but for the spans. */
struct sparse {
	char *map;
	struct content_span span;
};

enum { SPARSE_AT = 40 * 4096, SPARSE_BYTES = 4096 };
static const size_t SPARSE_SIZE = (size_t)4 << 40;

static struct content sparse_new(struct sparse *s, char fill)
{
	s->map = mmap(NULL, SPARSE_SIZE, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(s->map != MAP_FAILED);
	/* The first bytes are looked at to see whether it is text; then one block. */
	CHECK_EQ(mprotect(s->map, 8192, PROT_READ | PROT_WRITE), 0);
	CHECK_EQ(mprotect(s->map + SPARSE_AT, SPARSE_BYTES, PROT_READ | PROT_WRITE), 0);
	memset(s->map + SPARSE_AT, fill, SPARSE_BYTES);
	s->span = (struct content_span){SPARSE_AT, SPARSE_AT + SPARSE_BYTES};
	return (struct content){
		.data = s->map, .size = SPARSE_SIZE, .spans = &s->span, .n_spans = 1};
}

static void test_holes_are_not_read(void) /* S4 */
{
	struct sparse s[3];
	struct content a = sparse_new(&s[0], 'a'), b = sparse_new(&s[1], 'b');
	struct content a2 = sparse_new(&s[2], 'a'), cut = a;
	struct lost_update_result r;
	struct buf text = {0};

	CHECK_EQ(lost_update_test(&a, true, &b, &a2, true, &r), 0);
	CHECK_EQ(r.verdict, LOST_UPDATE_REVERTED);
	CHECK_EQ(r.n_reverted, 1);
	CHECK_EQ(r.first_line, SPARSE_AT / 4096 + 1);
	CHECK_EQ(lost_update_test(&b, true, &a, &a2, true, &r), 0);
	CHECK_EQ(r.verdict, LOST_UPDATE_SAME);
	CHECK_EQ(lost_update_test(&a, true, &a2, &b, true, &r), 0);
	CHECK_EQ(r.verdict, LOST_UPDATE_KEPT);
	/* The end was cut off by the others, and new has it again. */
	cut.size = SPARSE_AT + SPARSE_BYTES;
	CHECK_EQ(lost_update_test(&a, true, &cut, &a2, true, &r), 0);
	CHECK_EQ(r.verdict, LOST_UPDATE_REVERTED);
	CHECK_EQ(r.n_reverted, SPARSE_SIZE / 4096 - SPARSE_AT / 4096 - 1);
	CHECK_EQ(lost_update_describe(&a, &b, &a2, 10, &text), 0);
	CHECK(strstr(text.data, "bytes 163840-167935 differ"));
	buf_done(&text);
	for (int i = 0; i < 3; i++)
		munmap(s[i].map, SPARSE_SIZE);
}

int main(void)
{
	test_holes_are_not_read();
	test_cells();
	test_early();
	test_counts_and_lines();
	test_unknown_base();
	test_binary();
	test_describe();
	test_edits_of_current_are_not_refused();
	test_edits_elsewhere_are_kept();
	test_stale_texts_are_found();
	test_early_verdicts_hold();
	test_determinism();
	test_size(1);
	test_size(1000);
	test_size(9000);
	test_size(450000);
	test_beyond_bounds();
	return 0;
}
