/*
 * test_past.c - the tree at a moment: what the journal says was at a path, and when.
 */
#include "base/buf.h"
#include "base/moment.h"
#include "journal_fixture.h"

static uint64_t put_kind(
	struct fixture *f, const char *path, uint64_t number, enum version_kind kind)
{
	struct version v = make_version(f, path, number, kind);

	if (kind == VERSION_MKDIR || kind == VERSION_RMDIR)
		v.mode = 040750;
	CHECK_EQ(journal_append(f->j, &v, NULL), 0);
	return v.seq;
}

static uint64_t put_at(struct fixture *f, const char *path, uint64_t number,
	int64_t time_ns, uint64_t epoch)
{
	struct version v = make_version(f, path, number, VERSION_WRITE);

	v.time_ns = time_ns;
	v.epoch = epoch;
	CHECK_EQ(journal_append(f->j, &v, NULL), 0);
	return v.seq;
}

/* "-" where nothing was, "PATH@N" of a version, "=PATH" of what never changed. */
static void check_past(struct fixture *f, const char *path, uint64_t seq, const char *want)
{
	auto_buf b = {0};
	struct past past;
	int r = journal_past(f->j, path, strlen(path), seq, &past);

	if (r == PAST_VERSION)
		buf_printf(&b, "%s@%llu", past.row.v.path,
			(unsigned long long)past.row.v.number);
	else if (r == PAST_UNCHANGED)
		buf_printf(&b, "=%s", past.now);
	else
		buf_printf(&b, r == PAST_ABSENT ? "-" : "error %d", r);
	CHECK_STR(b.data, want);
	past_done(&past);
}

static int note_name(const char *name, size_t len, bool file, bool folder, void *ctx)
{
	struct buf *b = ctx;

	buf_printf(b, "%s%.*s", b->len ? " " : "", (int)len, name);
	return 0;
}

static void check_names(
	struct fixture *f, const char *folder, uint64_t seq, const char *want)
{
	auto_buf b = {0};

	CHECK_EQ(journal_past_names(f->j, folder, strlen(folder), seq, note_name, &b), 0);
	CHECK_STR(b.data ? b.data : "", want);
}

/* V2: the INITIAL version is what was there all the time before. */
static void test_before_the_first_version(void)
{
	struct fixture f = {0};
	uint64_t start, initial, write, made;

	fixture_init(&f);
	start = take_seq(&f);
	initial = put_kind(&f, "old", 1, VERSION_INITIAL);
	write = put(&f, "old", 2, "new");
	made = put(&f, "made", 1, "made");
	check_past(&f, "old", start, "old@1");
	check_past(&f, "old", initial, "old@1");
	check_past(&f, "old", write, "old@2");
	check_past(&f, "made", write, "-");
	check_past(&f, "made", made, "made@1");
	check_past(&f, "made", UINT64_MAX, "made@1");
	check_past(&f, "never", start, "=never");
	fixture_done(&f);
}

static void test_what_was_deleted(void)
{
	struct fixture f = {0};
	uint64_t there, gone, again;

	fixture_init(&f);
	there = put(&f, "a", 1, "a");
	gone = put_kind(&f, "a", 2, VERSION_DELETE);
	again = put(&f, "a", 3, "b");
	check_past(&f, "a", there, "a@1");
	check_past(&f, "a", gone, "-");
	check_past(&f, "a", again, "a@3");
	/* a folder from before the mount, with the mode it had when it was removed */
	gone = put_kind(&f, "d", 1, VERSION_RMDIR);
	check_past(&f, "d", there, "d@1");
	check_past(&f, "d", gone, "-");
	fixture_done(&f);
}

/* Renames of folders are looked through, forwards from the moment and back from it. */
static void test_renamed_folders(void)
{
	struct fixture f = {0};
	uint64_t before, x, moved, later, twice;

	fixture_init(&f);
	before = take_seq(&f);
	x = put(&f, "a/x", 1, "x");
	moved = move_folder(&f, "a", "b");
	later = put(&f, "b/x", 2, "x2");
	twice = move_folder(&f, "b", "c/d");
	settle(&f);
	check_past(&f, "a", before, "=c/d");
	check_past(&f, "a/quiet", x, "=c/d/quiet");
	check_past(&f, "a/x", x, "a/x@1");
	check_past(&f, "b", x, "-");
	check_past(&f, "b/quiet", x, "-");
	check_past(&f, "a/x", moved, "=a/x"); /* and there is no a any more */
	check_past(&f, "b/x", moved, "a/x@1");
	check_past(&f, "b/quiet", moved, "=c/d/quiet");
	check_past(&f, "b/x", later, "b/x@2");
	check_past(&f, "c/d/x", twice, "b/x@2");
	check_past(&f, "c/d", later, "-");
	check_names(&f, "", before, "a b c");
	check_names(&f, "a", before, "x");
	fixture_done(&f);
}

/* Two names that change places, by a third; and one that is used again. */
static void test_names_used_again(void)
{
	struct fixture f = {0};
	uint64_t first, second;

	fixture_init(&f);
	put_kind(&f, "a", 1, VERSION_MKDIR);
	put(&f, "a/x", 1, "of a");
	put_kind(&f, "b", 1, VERSION_MKDIR);
	first = put(&f, "b/x", 1, "of b");
	move_folder(&f, "a", "t");
	move_folder(&f, "b", "a");
	second = move_folder(&f, "t", "b");
	settle(&f);
	check_past(&f, "a/x", first, "a/x@1");
	check_past(&f, "b/x", first, "b/x@1");
	check_past(&f, "a/x", second, "b/x@1");
	check_past(&f, "b/x", second, "a/x@1");
	check_past(&f, "a", second, "b@1");
	check_past(&f, "t", second, "=t");
	check_past(&f, "t", first, "-");
	fixture_done(&f);
}

static void check_today(struct fixture *f, const char *path, uint64_t seq, const char *want)
{
	auto_free char *now = NULL;
	size_t len;

	CHECK(journal_past_path(f->j, path, strlen(path), seq, &now, &len) >= 0);
	CHECK_STR(now, want);
	CHECK_EQ(len, strlen(want));
}

static void test_the_path_of_today(void)
{
	struct fixture f = {0};
	auto_free char *now = NULL;
	size_t len;
	uint64_t start;

	fixture_init(&f);
	start = put(&f, "a/x", 1, "x");
	move_folder(&f, "a", "b");
	put_from(&f, "y", 1, VERSION_MOVE, "b/x", 1);
	put_from(&f, "b/x", 2, VERSION_DELETE, "y", 1);
	settle(&f);
	check_today(&f, "a/x", start, "y");
	check_today(&f, "a/other", start, "b/other");
	check_today(&f, "c", start, "c");
	move_folder(&f, "d", "c");
	settle(&f);
	CHECK_EQ(journal_past_path(f.j, "c", 1, start, &now, &len), 0);
	fixture_done(&f);
}

static uint64_t seq_at(struct fixture *f, int64_t time_ns)
{
	uint64_t seq;

	CHECK_EQ(journal_seq_at_time(f->j, time_ns, &seq), 0);
	return seq;
}

static uint64_t seq_of(struct fixture *f, uint64_t epoch)
{
	uint64_t seq;

	CHECK_EQ(journal_seq_at_epoch(f->j, epoch, &seq), 0);
	return seq;
}

static void test_times_and_epochs(void)
{
	struct fixture f = {0};
	uint64_t seqs[200];

	fixture_init(&f);
	CHECK_EQ(seq_at(&f, INT64_MAX), 0);
	CHECK_EQ(seq_of(&f, 9), 0);
	for (unsigned i = 0; i < 200; i++) {
		if (i % 7 == 0)
			take_seq(&f); /* gaps */
		seqs[i] = put_at(&f, "a", i + 1, 1000 + 10 * i, i / 2 + 10);
	}
	settle(&f);
	CHECK_EQ(seq_at(&f, 999), 0);
	for (unsigned i = 0; i < 200; i++) {
		CHECK_EQ(seq_at(&f, 1000 + 10 * i), seqs[i]);
		CHECK_EQ(seq_at(&f, 1009 + 10 * i), seqs[i]);
	}
	CHECK_EQ(seq_at(&f, INT64_MAX), seqs[199]);
	CHECK_EQ(seq_of(&f, 9), 0);
	CHECK_EQ(seq_of(&f, 10), seqs[1]);
	CHECK_EQ(seq_of(&f, 60), seqs[101]);
	CHECK_EQ(seq_of(&f, 100000), seqs[199]);
	fixture_done(&f);
}

/* ---- the words ---- */

static const int64_t today_ns = 1700000000 * NS_PER_S; /* 2023-11-14T22:13:20Z */

static void check_moment(const char *word, const char *want)
{
	auto_buf b = {0};
	struct moment m;

	CHECK(moment_parse(word, today_ns, &m));
	moment_put(&b, &m);
	CHECK_STR(b.data, want);
}

static void test_words_for_moments(void)
{
	static const char *const wrong[] = {"", "-", "-5", "-m", "-5x", "yesterday", "1x",
		"2023-11", "2023-13-01", "2023-11-14T", "2023-11-14T25:00", "2024-01-01",
		"2023-11-14T22:13:22Z", "2023-11-14T22:13:20.1234567891Z", "10:3", "10:61",
		"99999999999999999999", "2023-11-14T22:13:20+1", "../x", "seq:", "seq:1x",
		"seq:-1", "-99999999w"};

	setenv("TZ", "UTC", 1);
	check_moment("57", "57");
	check_moment("0", "0");
	check_moment("seq:12", "seq:12");
	check_moment("now", "2023-11-14T22:13:20.000000000Z");
	check_moment("-15m", "2023-11-14T21:58:20.000000000Z");
	check_moment("-1h30min5s", "2023-11-14T20:43:15.000000000Z");
	check_moment("-1w1d", "2023-11-06T22:13:20.000000000Z");
	check_moment("2023-11-14", "2023-11-14T00:00:00.000000000Z");
	check_moment("2023-11-14T10:32", "2023-11-14T10:32:00.000000000Z");
	check_moment("2023-11-14 10:32:05", "2023-11-14T10:32:05.999999999Z");
	check_moment("2023-11-14T10:32:05.25Z", "2023-11-14T10:32:05.259999999Z");
	check_moment("2023-11-14T10:32:05.250000001Z", "2023-11-14T10:32:05.250000001Z");
	check_moment("2023-11-14T10:32+01:00", "2023-11-14T09:32:00.000000000Z");
	check_moment("2023-11-14T10:32-0800", "2023-11-14T18:32:00.000000000Z");
	check_moment("22:13", "2023-11-14T22:13:00.000000000Z");
	check_moment("22:14", "2023-11-13T22:14:00.000000000Z");
	check_moment("2023-11-14T22:13:20Z", "2023-11-14T22:13:20.000000000Z");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct moment m;

		if (moment_parse(wrong[i], today_ns, &m))
			fprintf(stderr, "taken for a moment: %s\n", wrong[i]);
		CHECK(!moment_parse(wrong[i], today_ns, &m));
	}
}

int main(void)
{
	test_before_the_first_version();
	test_what_was_deleted();
	test_renamed_folders();
	test_names_used_again();
	test_the_path_of_today();
	test_times_and_epochs();
	test_words_for_moments();
	return 0;
}
