/*
 * test_delta.c - files that are written anew: what they have in common with the version
 * before is not stored again, and every version reads back as it was (V5, V6, V9).
 */
#include <sqlite3.h>

#include "base/buf.h"
#include "journal/gc.h"
#include "journal/schema.h"
#include "journal_fixture.h"

enum { TEXT = 10000, LARGE = 300000 };

static int64_t ask(struct fixture *f, const char *sql)
{
	sqlite3 *db;
	sqlite3_stmt *s;
	char path[96];
	int64_t answer;

	snprintf(path, sizeof(path), "%s/journal.db", f->folder);
	CHECK_EQ(sqlite3_open(path, &db), SQLITE_OK);
	CHECK_EQ(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
	answer = sqlite3_step(s) == SQLITE_ROW ? sqlite3_column_int64(s, 0) : -1;
	sqlite3_finalize(s);
	sqlite3_close(db);
	return answer;
}

static uint64_t stored(struct fixture *f)
{
	struct journal_figures figures;

	settle(f);
	journal_figures(f->j, &figures);
	return figures.stored_bytes;
}

/* How many contents lie between a content and a whole one, at most. */
static const char longest[] =
	"WITH RECURSIVE up(id, n) AS (SELECT id, 0 FROM content WHERE base_id IS NULL"
	" UNION ALL SELECT c.id, up.n + 1 FROM content c JOIN up ON c.base_id = up.id)"
	" SELECT max(n) FROM up";

static const char deltas[] = "SELECT count(*) FROM content WHERE base_id IS NOT NULL"
			     " AND length(ranges) = 0";

/* Lines of a source, none like another. */
static void fill(char *text, size_t size, unsigned *seed)
{
	for (size_t at = 0; at < size;) {
		char line[64];
		int n = snprintf(line, sizeof(line), "\tfield_%d = compute(%d, %x);\n",
			rand_r(seed), rand_r(seed) % 1000, (unsigned)rand_r(seed));

		for (int i = 0; i < n && at < size; i++)
			text[at++] = line[i];
	}
}

static void change_line(char *text, size_t size, unsigned *seed)
{
	fill(text + (unsigned)rand_r(seed) % (size - 40), 40, seed);
}

static void check_version(struct fixture *f, const char *path, uint64_t number,
	const char *want, uint64_t size)
{
	struct version_row row;
	char *have = malloc(size + 1);
	int fd = -1;

	CHECK_EQ(journal_version(f->j, path, strlen(path), number, &row), 1);
	CHECK_EQ(row.v.size, size);
	CHECK_EQ(journal_version_content(f->j, &row.v, &fd), 0);
	CHECK_EQ(pread(fd, have, size + 1, 0), size);
	CHECK_EQ(memcmp(have, want, size), 0);
	close(fd);
	free(have);
	version_row_done(&row);
}

static int open_version(struct fixture *f, const char *path, uint64_t number)
{
	struct version_row row;
	int fd = -1, r;

	CHECK_EQ(journal_version(f->j, path, strlen(path), number, &row), 1);
	r = journal_version_content(f->j, &row.v, &fd);
	if (fd >= 0)
		close(fd);
	version_row_done(&row);
	return r;
}

enum { SAVES = 150 };

/* A history of one file, saved anew each time. */
static char *put_history(struct fixture *f, unsigned seed)
{
	char *texts = malloc((size_t)SAVES * TEXT);

	fill(texts, TEXT, &seed);
	put_bytes(f, "a", 1, texts, TEXT);
	for (size_t i = 1; i < SAVES; i++) {
		memcpy(texts + i * TEXT, texts + (i - 1) * TEXT, TEXT);
		change_line(texts + i * TEXT, TEXT, &seed);
		put_bytes(f, "a", i + 1, texts + i * TEXT, TEXT);
	}
	settle(f);
	return texts;
}

static void test_a_save_costs_what_changed(void)
{
	struct fixture f = {0};
	char *texts;
	uint64_t whole;

	fixture_init(&f);
	texts = put_history(&f, 1);
	for (uint64_t i = 0; i < SAVES; i++)
		check_version(&f, "a", i + 1, texts + i * TEXT, TEXT);
	whole = (uint64_t)ask(&f, "SELECT stored FROM content WHERE id = 1");
	CHECK_EQ(ask(&f, longest), 31); /* and so reading one is bounded */
	CHECK_EQ(ask(&f, "SELECT count(*) FROM content WHERE base_id IS NULL"),
		(SAVES + 31) / 32);
	CHECK(stored(&f) < 5 * (whole + 100) + SAVES * 150);
	/* Nothing is remembered any more: the next save is a delta all the same. */
	fixture_reopen(&f);
	change_line(texts, TEXT, &(unsigned){2});
	memcpy(texts + TEXT, texts + (size_t)(SAVES - 1) * TEXT, TEXT);
	change_line(texts + TEXT, TEXT, &(unsigned){3});
	put_bytes(&f, "a", SAVES + 1, texts + TEXT, TEXT);
	settle(&f);
	check_version(&f, "a", SAVES + 1, texts + TEXT, TEXT);
	CHECK_EQ(ask(&f, "SELECT length(ranges) FROM content ORDER BY id DESC LIMIT 1"), 0);
	free(texts);
	fixture_done(&f);
}

static size_t draw_content(char *bytes, size_t was, unsigned *seed)
{
	size_t size = was, at;

	switch (rand_r(seed) % 8) {
	case 0: /* something else altogether */
		size = (size_t)(rand_r(seed) % TEXT);
		fill(bytes, size, seed);
		break;
	case 1:
		size = 0;
		break;
	case 2: /* longer than what is taken in memory, or just not */
		size = (size_t)(LARGE - rand_r(seed) % 80000);
		fill(bytes + was, size > was ? size - was : 0, seed);
		break;
	case 3: /* noise */
		size = (size_t)(rand_r(seed) % TEXT);
		for (size_t i = 0; i < size; i++)
			bytes[i] = (char)rand_r(seed);
		break;
	default: /* a piece goes, another comes */
		at = was ? (size_t)rand_r(seed) % was : 0;
		size = was - (was - at) / 3;
		memmove(bytes + at, bytes + at + (was - at) / 3, size - at);
		if (size > 50)
			change_line(bytes, size, seed);
	}
	return size;
}

/* Several files in turn, whatever is written: each version reads back as it was. */
static void test_drawn_saves_read_back(unsigned seed)
{
	enum { FILES = 3, EACH = 60 };
	struct fixture f = {0};
	char *now[FILES], *texts[FILES][EACH];
	size_t sizes[FILES][EACH], size[FILES] = {0};

	fixture_init(&f);
	for (int i = 0; i < FILES; i++)
		now[i] = malloc(2 * LARGE);
	for (int n = 0; n < EACH; n++) {
		for (int i = 0; i < FILES; i++) {
			char path[] = {(char)('a' + i), 0};

			size[i] = draw_content(now[i], size[i], &seed);
			texts[i][n] = malloc(size[i] + 1);
			memcpy(texts[i][n], now[i], size[i]);
			sizes[i][n] = size[i];
			put_bytes(&f, path, (uint64_t)n + 1, now[i], size[i]);
		}
		if (n == EACH / 2)
			fixture_reopen(&f);
	}
	settle(&f);
	for (int i = 0; i < FILES; i++) {
		char path[] = {(char)('a' + i), 0};

		for (int n = 0; n < EACH; n++) {
			check_version(&f, path, (uint64_t)n + 1, texts[i][n], sizes[i][n]);
			free(texts[i][n]);
		}
		free(now[i]);
	}
	CHECK(ask(&f, deltas) > 10);
	fixture_done(&f);
}

/* The temporary file's content goes over another's: it is like that. */
static void test_a_save_by_rename_costs_what_changed(void)
{
	struct fixture f = {0};
	char text[TEXT];
	unsigned seed = 4;

	fixture_init(&f);
	fill(text, TEXT, &seed);
	put_bytes(&f, "a", 1, text, TEXT);
	for (uint64_t n = 2; n <= 20; n++) {
		struct version v;
		char temp[32];

		change_line(text, TEXT, &seed);
		snprintf(temp, sizeof(temp), ".a.%llu", (unsigned long long)n);
		put_bytes(&f, temp, 1, text, TEXT);
		v = make_version(&f, "a", n, VERSION_REPLACE);
		v.has_content = true;
		v.content = digest_bytes(text, TEXT);
		v.size = TEXT;
		CHECK_EQ(journal_append(f.j, &v, NULL), 0);
		put_from(&f, temp, 2, VERSION_DELETE, "a", n);
	}
	settle(&f);
	check_version(&f, "a", 20, text, TEXT);
	check_version(&f, ".a.20", 1, text, TEXT);
	/* A batch may have ended between the two of one save: that one is whole. */
	CHECK(ask(&f, deltas) >= 15);
	fixture_done(&f);
}

/* What is far from the version before, or takes next to nothing, is kept whole. */
static void test_what_gains_nothing_is_whole(void)
{
	struct fixture f = {0};
	char text[TEXT];
	unsigned seed = 5;

	fixture_init(&f);
	for (uint64_t n = 1; n <= 5; n++) {
		fill(text, TEXT, &seed);
		put_bytes(&f, "other", n, text, TEXT);
		for (size_t i = 0; i < TEXT; i++)
			text[i] = (char)rand_r(&seed);
		put_bytes(&f, "noise", n, text, TEXT);
		snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
		put(&f, "small", n, text);
	}
	settle(&f);
	CHECK_EQ(ask(&f, deltas), 0);
	fixture_done(&f);
}

static void keep_three(const char *path, size_t len, struct keep *keep, void *ctx)
{
	*keep = (struct keep){.count = 3};
}

/* What a version that stays builds on stays, and goes with it. */
static void test_collecting_leaves_what_is_built_on(void)
{
	struct gc_options o = {.keep = keep_three, .now_ns = 1LL << 60};
	struct fixture f = {0};
	struct gc *g;
	char *texts;
	int64_t left;

	fixture_init(&f);
	texts = put_history(&f, 6);
	CHECK_EQ(gc_new(&g, f.j, &o), 0);
	while (gc_step(g))
		;
	gc_free(g);
	CHECK_EQ(ask(&f, "SELECT count(*) FROM version"), 3);
	for (uint64_t n = SAVES - 2; n <= SAVES; n++)
		check_version(&f, "a", n, texts + (n - 1) * TEXT, TEXT);
	left = ask(&f, "SELECT count(*) FROM content");
	CHECK(left >= 3 && left <= 32);
	CHECK_EQ(ask(&f, "SELECT count(*) FROM content c WHERE base_id IS NOT NULL"
			 " AND base_id NOT IN (SELECT id FROM content)"),
		0);
	/* And ids that are free again mislead nobody. */
	change_line(texts, TEXT, &(unsigned){7});
	put_bytes(&f, "b", 1, texts, TEXT);
	put_bytes(&f, "a", SAVES + 1, texts, TEXT);
	settle(&f);
	check_version(&f, "a", SAVES + 1, texts, TEXT);
	check_version(&f, "b", 1, texts, TEXT);
	free(texts);
	fixture_done(&f);
}

static int fail_once(void *ctx)
{
	int *left = ctx;

	return (*left)-- == 0 ? -EIO : 0;
}

/* A transaction that is taken back and tried again, after contents had their ids. */
static void test_a_batch_that_fails_is_written_again(void)
{
	int left = 0;
	struct journal_faults faults = {.before_object = fail_once, .ctx = &left};
	struct fixture f = {.faults = &faults};
	char *large = malloc(LARGE), *texts;
	unsigned seed = 8;

	fixture_init(&f);
	fill(large, LARGE, &seed);
	put_bytes(&f, "b", 1, "before", 6);
	texts = put_history(&f, 9);
	put_bytes(&f, "a", SAVES + 1, texts, TEXT);
	for (size_t i = 0; i < LARGE; i++)
		large[i] = (char)rand_r(&seed);
	put_bytes(&f, "b", 2, large, LARGE);
	put_bytes(&f, "a", SAVES + 2, texts + TEXT, TEXT);
	while (journal_wait(f.j, journal_last_seq(f.j)))
		;
	CHECK(left < 0); /* it did fail */
	check_version(&f, "b", 2, large, LARGE);
	for (uint64_t n = 1; n <= SAVES; n++)
		check_version(&f, "a", n, texts + (n - 1) * TEXT, TEXT);
	check_version(&f, "a", SAVES + 2, texts + TEXT, TEXT);
	free(texts);
	free(large);
	fixture_done(&f);
}

/* Damage to one is an error for those that build on it, and for no others. */
static void test_damage_is_an_error_for_what_builds_on_it(void)
{
	static const char *const harm[] = {
		"UPDATE content SET data = zeroblob(length(data)) WHERE id = 40",
		"UPDATE content SET data = substr(data, 1, length(data) - 3) WHERE id = 40",
		"UPDATE content SET data = NULL WHERE id = 40",
		"UPDATE content SET size = size + 1 WHERE id = 40",
		"UPDATE content SET size = 1 << 40 WHERE id = 40",
		"UPDATE content SET base_id = 38 WHERE id = 40",
	};

	for (size_t i = 0; i < ARRAY_SIZE(harm); i++) {
		struct fixture f = {0};
		char *texts;

		fixture_init(&f);
		texts = put_history(&f, 10);
		CHECK_EQ(ask(&f, "SELECT content_id FROM version WHERE number = 40"), 40);
		CHECK_EQ(ask(&f, harm[i]), -1);
		for (uint64_t n = 1; n <= SAVES; n++)
			if (n < 40 || n > 64) /* 65 is whole */
				check_version(&f, "a", n, texts + (n - 1) * TEXT, TEXT);
			else
				CHECK_EQ(open_version(&f, "a", n), -EIO);
		free(texts);
		fixture_done(&f);
	}
}

int main(void)
{
	test_a_save_costs_what_changed();
	for (unsigned seed = 1; seed <= 8; seed++)
		test_drawn_saves_read_back(seed);
	test_a_save_by_rename_costs_what_changed();
	test_what_gains_nothing_is_whole();
	test_collecting_leaves_what_is_built_on();
	test_a_batch_that_fails_is_written_again();
	test_damage_is_an_error_for_what_builds_on_it();
	return 0;
}
