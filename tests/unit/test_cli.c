/* The pure parts of the stomp command: words, tables, options, the log. */
#include <fcntl.h>

#include "cli/options.h"
#include "cli/show.h"
#include "cli/table.h"
#include "cli/versions.h"
#include "cli/words.h"
#include "tests/unit/check.h"

static void expect_version(const char *word, bool is, size_t len, uint64_t number)
{
	size_t got_len = 999;
	uint64_t got_number = 999;

	CHECK_EQ(word_version(word, &got_len, &got_number), is);
	CHECK_EQ(got_len, len);
	CHECK_EQ(got_number, number);
}

static void test_version(void)
{
	expect_version("src/a.c@3", true, 7, 3);
	expect_version("src/a.c", false, 7, 0);
	expect_version("a@2@5", true, 3, 5);
	expect_version("a@b@5", true, 3, 5);
	expect_version("a@5@b", false, 5, 0);
	expect_version("a@", false, 2, 0);
	expect_version("a@3x", false, 4, 0);
	expect_version("a@-3", false, 4, 0);
	expect_version("@3", false, 2, 0);
	expect_version("", false, 0, 0);
	expect_version("a@0", true, 1, 0);
	expect_version("a@18446744073709551615", true, 1, UINT64_MAX);
	expect_version("a@18446744073709551616", false, 22, 0);
}

static void expect_span(const char *word, int64_t ms)
{
	int64_t got = -1;

	CHECK_EQ(word_span_ms(word, &got), ms > 0);
	CHECK_EQ(got, ms > 0 ? ms : -1);
}

static void test_span(void)
{
	expect_span("30", 30000);
	expect_span("30s", 30000);
	expect_span("250ms", 250);
	expect_span("5m", 300000);
	expect_span("5min", 300000);
	expect_span("2h", 7200000);
	expect_span("1d", 86400000);
	expect_span("366d", 366LL * 86400000);
	expect_span("367d", 0);
	expect_span("99999999999999999999s", 0);
	expect_span("0s", 0);
	expect_span("", 0);
	expect_span("s", 0);
	expect_span("-1s", 0);
	expect_span("1 s", 0);
	expect_span("1.5s", 0);
}

static void test_count(void)
{
	uint64_t n = 7;

	CHECK(word_count("1", &n));
	CHECK_EQ(n, 1);
	CHECK(!word_count("0", &n));
	CHECK(!word_count("x", &n));
	CHECK(!word_count("", &n));
}

static void expect_escape(const char *word, size_t size, const char *escaped)
{
	auto_buf out = {0};

	buf_puts(&out, "");
	word_escape(&out, word, size);
	CHECK_STR(out.data, escaped);
}

static void test_escape(void)
{
	expect_escape("src/a.c", 7, "src/a.c");
	expect_escape("a b", 3, "a\\040b");
	expect_escape("a\\b", 3, "a\\134b");
	expect_escape("a\nb\t", 4, "a\\012b\\011");
	expect_escape("\xff\x80~\x7f!", 5, "\\377\\200~\\177!");
	expect_escape("\xc3\xa9", 2, "\\303\\251");
	expect_escape("", 0, "");
}

static void test_quote(void)
{
	static const char *const pairs[][2] = {{"src/a.c@3", "src/a.c@3"}, {"a b", "'a b'"},
		{"it's", "'it'\\''s'"}, {"", "''"}, {"$(x)", "'$(x)'"}};

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		auto_buf out = {0};

		word_quote(&out, pairs[i][0]);
		CHECK_STR(out.data, pairs[i][1]);
	}
}

static void test_nearest(void)
{
	static const char *const words[] = {
		"mount", "umount", "status", "log", "rollback", "restore", "lease", NULL};
	char longest[200];

	CHECK_EQ(word_distance("", ""), 0);
	CHECK_EQ(word_distance("abc", ""), 3);
	CHECK_EQ(word_distance("kitten", "sitting"), 3);
	CHECK_EQ(word_distance("ab", "ba"), 1); /* a swap is one edit */
	CHECK_EQ(word_distance("statsu", "status"), 1);
	CHECK_EQ(word_distance("ca", "abc"), 3);
	CHECK_STR(word_nearest("statsu", words), "status");
	CHECK_STR(word_nearest("rolback", words), "rollback");
	CHECK_STR(word_nearest("unmount", words), "umount");
	CHECK_STR(word_nearest("stat", words), "status");
	CHECK_STR(word_nearest("lgo", words), "log");
	CHECK_STR(word_nearest("frobnicate", words), NULL);
	CHECK_STR(word_nearest("", words), NULL);
	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	CHECK_STR(word_nearest(longest, words), NULL);
}

/* What the table prints into a file, with a terminal's width or without. */
static void print_table(const struct text_table *t, int width, char *text, size_t size)
{
	struct output o = {.f = fmemopen(text, size, "w"), .width = width};

	CHECK(o.f);
	CHECK_EQ(text_table_print(t, &o), 0);
	fclose(o.f);
}

static void test_table(void)
{
	static const struct text_column columns[] = {{"WHO", false, false, COLOUR_CYAN},
		{"SIZE", true, false, COLOUR_NONE}, {"FILE", false, true, COLOUR_NONE}};
	auto_text_table t = {0};
	char text[512];

	text_table_init(&t, columns, 3);
	text_table_cell(&t, "%s", "alice");
	text_table_cell(&t, "%d", 7);
	text_table_cell(&t, "%s", "é\n\xff");
	text_table_cell(&t, "%s", "bö");
	text_table_cell(&t, "%d", 12345);
	text_table_cell(&t, "%s", "a/rather/long/name/of/a/file.c");
	print_table(&t, 0, text, sizeof(text));
	CHECK_STR(text, "WHO     SIZE  FILE\n"
			"alice      7  é\\n\\xff\n"
			"bö     12345  a/rather/long/name/of/a/file.c\n");
	print_table(&t, 34, text, sizeof(text));
	CHECK_STR(text, "WHO     SIZE  FILE\n"
			"alice      7  é\\n\\xff\n"
			"bö     12345  a/rather/long/name/…\n");
	/* never below what tells anything */
	print_table(&t, 10, text, sizeof(text));
	CHECK_STR(text, "WHO     SIZE  FILE\n"
			"alice      7  é\\n\\xff\n"
			"bö     12345  a/rather/lo…\n");
}

static void test_size(void)
{
	static const struct {
		uint64_t size;
		const char *text;
	} rows[] = {{0, "0"}, {9999, "9999"}, {10240, "10.0K"}, {1 << 20, "1.0M"},
		{150ULL << 20, "150M"}, {5ULL << 30, "5.0G"}, {UINT64_MAX, "16.0E"}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		auto_buf out = {0};

		put_size(&out, rows[i].size);
		CHECK_STR(out.data, rows[i].text);
	}
}

enum { OPT_JSON, OPT_NUMBER, OPT_OPTIONS };

static const struct option_spec option_table[] = {[OPT_JSON] = {"json", 0, NULL, "", false},
	[OPT_NUMBER] = {"number", 'n', "N", "", false},
	[OPT_OPTIONS] = {"options", 'o', "OPTS", "", true},
	{0}};

/* Parse a command line, split at its blanks in the caller's memory. */
static int parse_line(const char *line, char *memory, char **argv, struct options *o)
{
	static const struct command_spec spec = {.name = "x",
		.usage = "",
		.about = "",
		.options = option_table,
		.min_args = 1,
		.max_args = 3};
	char *rest = strcpy(memory, line);
	int argc = 0;

	while (rest)
		argv[argc++] = strsep(&rest, " ");
	argv[argc] = NULL;
	return options_parse(&spec, argc, argv, o);
}

static void test_options(void)
{
	static const char *const wrong[] = {"x a --jsn", "x a -z", "x a -n", "x a --number",
		"x --json", "x a --json=1", "x 1 2 3 4"};
	char memory[200], *argv[20];
	auto_options o = {0};

	CHECK_EQ(parse_line("x a --json -n5 -o p b --options=q,r -o s -- -c", memory, argv,
			 &o),
		OPTIONS_GO_ON);
	CHECK_STR(o.values[OPT_JSON], "");
	CHECK_STR(o.values[OPT_NUMBER], "5");
	CHECK_STR(o.values[OPT_OPTIONS], "p,q,r,s");
	CHECK_EQ(o.n_args, 3);
	CHECK_STR(o.args[0], "a");
	CHECK_STR(o.args[1], "b");
	CHECK_STR(o.args[2], "-c");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		auto_options w = {0};

		CHECK_EQ(parse_line(wrong[i], memory, argv, &w), STOMP_USAGE);
	}
}

/* After a rename the log goes on under the old name, with numbers of its own. */
static void test_versions(void)
{
	static const char text[] =
		"{\"schema\":\"stompfs/log/1\",\"versions\":["
		"{\"seq\":9,\"time\":\"2001-01-02T03:04:05.678Z\",\"path\":\"b\","
		"\"number\":3,"
		"\"kind\":\"delete\",\"writer\":\"alice\",\"content\":null,\"flags\":[]},"
		"{\"seq\":8,\"path\":\"b\",\"number\":2,\"kind\":\"mode\",\"writer\":"
		"\"bob\","
		"\"content\":\"00\",\"mode\":\"0755\",\"size\":5},"
		"{\"seq\":7,\"path\":\"b\",\"number\":1,\"kind\":\"move\",\"content\":"
		"\"00\","
		"\"from_path\":\"a\\\\xff\",\"from_number\":2},"
		"{\"seq\":5,\"path\":\"a\\\\xff\",\"number\":2,\"kind\":\"write\","
		"\"content\":\"00\"}]}";
	auto_versions list = {0};
	auto_buf when = {0};

	CHECK_EQ(versions_parse(&list, text), 0);
	CHECK_EQ(list.n, 4);
	CHECK(version_is_delete(&list.entries[0]));
	CHECK(!version_has_content(&list.entries[0]));
	CHECK(versions_content_before(&list, &list.entries[0]) == &list.entries[1]);
	CHECK(versions_content_before(&list, NULL) == &list.entries[1]);
	CHECK(versions_content_before(&list, &list.entries[3]) == NULL);
	CHECK(versions_find(&list, "b", 2) == &list.entries[1]);
	CHECK(versions_find(&list, "a\xff", 2) == &list.entries[3]);
	CHECK(versions_find(&list, "b", 4) == NULL);
	CHECK_EQ(list.entries[1].size, 5);
	CHECK_STR(list.entries[0].mode, NULL);
	version_when(&when, list.entries[0].time);
	CHECK_STR(when.data, "2001-01-02");
}

static void test_versions_wrong(void)
{
	static const char *const texts[] = {"", "{", "[]", "null", "{\"versions\":[]}",
		"{\"schema\":\"stompfs/why/1\",\"versions\":[]}",
		"{\"schema\":\"stompfs/log/1\",\"versions\":{}}",
		"{\"schema\":7,\"versions\":[]}"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		auto_versions list = {0};

		CHECK_EQ(versions_parse(&list, texts[i]), -EBADMSG);
	}
	for (size_t i = 0; i < 2; i++) {
		/* rows that are not what they should be read as empty, and never crash */
		auto_versions list = {0};

		CHECK_EQ(versions_parse(&list, i ? "{\"schema\":\"stompfs/log/1\","
						   "\"versions\":[7,null,[]]}"
						 : "{\"schema\":\"stompfs/log/1\","
						   "\"versions\":[]}"),
			0);
		CHECK_EQ(list.n, i ? 3 : 0);
	}
}

static void expect_path(const char *path, const char *resolved)
{
	auto_free char *got = NULL;

	CHECK_EQ(path_resolve(path, &got), 0);
	CHECK_STR(got, resolved);
}

/* Links in the folders are followed, the last name is not, what is gone is text. */
static void test_paths(void)
{
	char dir[] = "/tmp/stomp-test-XXXXXX";
	auto_free char *real = NULL;
	auto_buf want = {0};

	CHECK(mkdtemp(dir));
	real = realpath(dir, NULL);
	CHECK(real && chdir(real) == 0);
	CHECK(symlink(".", "link") == 0);
	CHECK(symlink("nowhere", "dangling") == 0);
	buf_printf(&want, "%s/x", real);
	expect_path("x", want.data);
	expect_path("./link/link/x", want.data);
	expect_path("x/", want.data);
	expect_path("gone/../x", want.data);
	expect_path("gone/deep/../../x", want.data);
	buf_reset(&want);
	buf_printf(&want, "%s/dangling", real);
	expect_path("link/dangling", want.data);
	expect_path(".", real);
	expect_path("link/..", "/tmp");
	expect_path("/", "/");
	expect_path("//", "/");
	expect_path("/..", "/");
	expect_path("/../../nowhere-at-all/./a", "/nowhere-at-all/a");
	CHECK(unlink("link") == 0 && unlink("dangling") == 0 && rmdir(real) == 0);
	{
		auto_free char *got = NULL;

		CHECK_EQ(path_resolve("x", &got), -ENOENT); /* no folder to start from */
	}
}

int main(void)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	test_version();
	test_span();
	test_count();
	test_escape();
	test_quote();
	test_nearest();
	test_table();
	test_size();
	test_versions();
	test_versions_wrong();
	test_paths();
	/* The last: what options say about wrong lines is not for the log of a test. */
	CHECK(null >= 0 && dup2(null, STDERR_FILENO) >= 0);
	test_options();
	return 0;
}
