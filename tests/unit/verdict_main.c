/*
 * The lost-update test and the merges as a program, for tests that draw contents at
 * random and for whoever wonders about a verdict (S4, M).
 *
 *   verdict BASE CURRENT NEW		BASE `-`: nothing is known of the file
 *
 * One line for the verdict, then one for each merge, with its bytes right behind it:
 *
 *   verdict kept|same|overlapping|reverted KEPT REVERTED OVERLAPPING lines|blocks
 *   passes yes|no			for a process that has read CURRENT
 *   merge|union|json clean SIZE	SIZE bytes and a newline follow
 *   merge|union|json conflict SIZE	as many of why follow (json), and a newline
 *
 * Exits with 0; with 2 where the command line or a file cannot be used.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/lost_update.h"
#include "policy/merge.h"
#include "policy/merge_json.h"
#include "policy/stale.h"

static void fail(const char *what, int error)
{
	fprintf(stderr, "verdict: %s: %s\n", what, strerror(error));
	exit(2);
}

static struct content read_all(const char *path, struct buf *out)
{
	FILE *f = fopen(path, "rb");
	char piece[1 << 16];
	size_t n;

	if (!f)
		fail(path, errno);
	while ((n = fread(piece, 1, sizeof(piece), f)) > 0)
		buf_append(out, piece, n);
	if (ferror(f) || buf_failed(out))
		fail(path, EIO);
	fclose(f);
	return (struct content){.data = out->data, .size = out->len};
}

static void print_verdict(const struct content *c, bool known)
{
	static const char *const names[] = {
		[LOST_UPDATE_KEPT] = "kept",
		[LOST_UPDATE_SAME] = "same",
		[LOST_UPDATE_OVERLAPPING] = "overlapping",
		[LOST_UPDATE_REVERTED] = "reverted",
		[LOST_UPDATE_UNDECIDED] = "undecided",
	};
	struct lost_update_result result;
	int r = lost_update_test(&c[0], known, &c[1], &c[2], true, &result);

	if (r < 0)
		fail("the lost-update test", -r);
	printf("verdict %s %u %u %u %s\n", names[result.verdict], result.n_kept,
		result.n_reverted, result.n_overlapping,
		result.by_block ? "blocks" : "lines");
	printf("passes %s\n", stale_test_passes(result.verdict, true) ? "yes" : "no");
}

static void print_merge(const char *name, int r, enum merge_answer answer,
	const struct buf *merged, const struct buf *why)
{
	const struct buf *said = answer == MERGE_CLEAN ? merged : why;

	if (r < 0)
		fail(name, -r);
	if (answer == MERGE_CONFLICT && merged->len)
		fail("a conflict has a result", EINVAL);
	printf("%s %s %zu\n", name, answer == MERGE_CLEAN ? "clean" : "conflict",
		said->len);
	fwrite(said->data, 1, said->len, stdout);
	putchar('\n');
}

int main(int argc, char **argv)
{
	auto_buf base = {0}, current = {0}, new = {0};
	auto_buf lines = {0}, united = {0}, json = {0}, why = {0}, nothing = {0};
	struct content c[3] = {{0}};
	enum merge_answer answer = MERGE_CONFLICT;
	bool known;
	int r;

	if (argc != 4)
		fail("BASE CURRENT NEW are needed", EINVAL);
	known = strcmp(argv[1], "-") != 0;
	if (known)
		c[0] = read_all(argv[1], &base);
	c[1] = read_all(argv[2], &current);
	c[2] = read_all(argv[3], &new);
	print_verdict(c, known);
	r = merge_lines(&c[0], &c[1], &c[2], &answer, &lines);
	print_merge("merge", r, answer, &lines, &nothing);
	r = merge_union(&c[0], &c[1], &c[2], &answer, &united);
	print_merge("union", r, answer, &united, &nothing);
	r = merge_json(&c[0], known, &c[1], &c[2], &answer, &json, &why);
	print_merge("json", r, answer, &json, &why);
	return fflush(stdout) == 0 ? 0 : 2;
}
