/* The strategy json (M). */
#include "check.h"
#include "policy/json_doc.h"
#include "policy/merge_json.h"

static struct content text(const char *s)
{
	return (struct content){.data = s, .size = strlen(s)};
}

#define PACKAGE(test, more)                                                                \
	"{\n  \"name\": \"x\",\n  \"scripts\": {\n    \"build\": "                         \
	"\"tsc\",\n    \"test\": \"" test "\"\n  }" more "\n}\n"

/* base NULL: unknown. merged NULL: a conflict, why says how. */
static const struct cell {
	const char *what, *base, *current, *new, *merged, *why;
} cells[] = {
	/* Keys. */
	{"two keys", "{\"a\":1,\"b\":2}", "{\"a\":9,\"b\":2}", "{\"a\":1,\"b\":8}",
		"{\"a\":9,\"b\":8}", NULL},
	{"one key, two ways", "{\"a\":1}", "{\"a\":2}", "{\"a\":3}", NULL,
		"$.a: both changed it"},
	{"one key, the same way", "{\"a\":1, \"b\":1}", "{\"a\":2, \"b\":1}",
		"{\"a\":2,\"b\":3}", "{\"a\":2, \"b\":3}", NULL},
	{"two added", "{\"a\": 1}", "{\"a\": 1, \"b\": 2}", "{\"a\": 1, \"c\": 3}",
		"{\"a\": 1, \"b\": 2, \"c\": 3}", NULL},
	{"one added twice", "{}", "{\"a\": 1}", "{\"a\": 2}", NULL, "$.a: both changed it"},
	{"one added twice, the same", "{}", "{\"a\": 1}", "{ \"a\":1 }", "{\"a\": 1}",
		NULL},
	{"objects added twice", "{}", "{\"a\": {\"x\": 1}}", "{\"a\": {\"y\": 2}}",
		"{\"a\": {\"x\": 1, \"y\": 2}}", NULL},
	{"removed by new", "{\"a\": 1, \"b\": 2, \"c\": 3}",
		"{\"a\": 9, \"b\": 2, \"c\": 3}", "{\"a\": 1, \"c\": 3}",
		"{\"a\": 9, \"c\": 3}", NULL},
	{"the first removed", "{\"a\": 1, \"b\": 2}", "{\"a\": 1, \"b\": 9}", "{\"b\": 2}",
		"{\"b\": 9}", NULL},
	{"the last removed", "{\"a\": 1, \"b\": 2 }", "{\"a\": 9, \"b\": 2 }", "{\"a\": 1}",
		"{\"a\": 9 }", NULL},
	{"all removed", "{\"o\": {\"a\": 1}, \"x\": 1}", "{\"o\": {\"a\": 1}, \"x\": 2}",
		"{\"o\": {}, \"x\": 1}", "{\"o\": {}, \"x\": 2}", NULL},
	{"removed by current", "{\"a\": 1, \"b\": 2}", "{\"a\": 1}", "{\"a\": 3, \"b\": 2}",
		"{\"a\": 3}", NULL},
	{"removed by both", "{\"a\": 1, \"b\": 2, \"c\": 3}", "{\"a\": 9, \"c\": 3}",
		"{\"a\": 1, \"c\": 4}", "{\"a\": 9, \"c\": 4}", NULL},
	{"removed, changed", "{\"a\": 1, \"b\": 2}", "{\"a\": 1, \"b\": 3}", "{\"a\": 1}",
		NULL, "$.b: removed by you, changed by the others"},
	{"changed, removed", "{\"a\": 1, \"b\": 2}", "{\"a\": 1}", "{\"a\": 1, \"b\": 3}",
		NULL, "$.b: removed by the others, changed by you"},
	{"an object that the other removed", "{\"a\": {\"x\": 1}}", "{}",
		"{\"a\": {\"x\": 1, \"y\": 2}}", NULL,
		"$.a: removed by the others, changed by you"},
	{"a number becomes two objects", "{\"a\": 1}", "{\"a\": {\"x\": 1}}",
		"{\"a\": {\"y\": 1}}", "{\"a\": {\"x\": 1, \"y\": 1}}", NULL},
	{"an object becomes a number", "{\"a\": {\"x\": 1}}", "{\"a\": 1}",
		"{\"a\": {\"x\": 2}}", NULL, "$.a: both changed it"},
	{"deep", "{\"a\": {\"b\": {\"c\": 1, \"d\": 1}}}",
		"{\"a\": {\"b\": {\"c\": 2, \"d\": 1}}}",
		"{\"a\": {\"b\": {\"c\": 1, \"d\": 2}}}",
		"{\"a\": {\"b\": {\"c\": 2, \"d\": 2}}}", NULL},
	{"a path with several conflicts", "{\"a\": {\"b c\": 1, \"d\": 1}}",
		"{\"a\": {\"b c\": 2, \"d\": 2}}", "{\"a\": {\"b c\": 3, \"d\": 3}}", NULL,
		"$.a[\"b c\"]: both changed it (and 1 more)"},
	{"the path of the issue", PACKAGE("jest", ""), PACKAGE("mocha", ""),
		PACKAGE("vitest", ""), NULL, "$.scripts.test: both changed it"},
	{"moved keys are no change", "{\"a\": 1, \"b\": 2}", "{\"b\": 2, \"a\": 3}",
		"{\"b\": 4, \"a\": 1}", "{\"b\": 4, \"a\": 3}", NULL},
	{"a key escaped another way", "{\"a\": 1, \"b\": 1}", "{\"\\u0061\": 2, \"b\": 1}",
		"{\"a\": 1, \"b\": 3}", "{\"\\u0061\": 2, \"b\": 3}", NULL},
	{"a string escaped another way", "{\"a\": \"/\", \"b\": 1}",
		"{\"a\": \"\\/\", \"b\": 2}", "{\"a\": \"\\u002f\", \"b\": 1}",
		"{\"a\": \"\\/\", \"b\": 2}", NULL},
	{"half a pair is not another half", "{\"a\": 1}", "{\"a\": \"\\ud800\"}",
		"{\"a\": \"\\ud801\"}", NULL, "$.a: both changed it"},
	{"a pair is its character", "{\"a\": 1, \"b\": 1}",
		"{\"a\": \"\\ud83d\\uDE00\", \"b\": 1}", "{\"a\": \"😀\", \"b\": 2}",
		"{\"a\": \"\\ud83d\\uDE00\", \"b\": 2}", NULL},
	{"the last of its pairs", "{\"a\": 1, \"b\": 1}",
		"{\"a\": \"\\ud83d\\udfff\", \"b\": 1}",
		"{\"a\": \"\xf0\x9f\x9f\xbf\", \"b\": 2}",
		"{\"a\": \"\\ud83d\\udfff\", \"b\": 2}", NULL},

	/* Numbers by their text. */
	{"1.0 is not 1", "{\"a\": 1, \"b\": 1}", "{\"a\": 1.0, \"b\": 1}",
		"{\"a\": 1, \"b\": 2}", "{\"a\": 1.0, \"b\": 2}", NULL},
	{"1.0 against 1", "{\"a\": 0}", "{\"a\": 1.0}", "{\"a\": 1}", NULL,
		"$.a: both changed it"},
	{"large numbers", "{\"a\": 1, \"b\": 1}",
		"{\"a\": 123456789012345678901234567890, \"b\": 1}",
		"{\"a\": 1, \"b\": -1.0e-999}",
		"{\"a\": 123456789012345678901234567890, \"b\": -1.0e-999}", NULL},

	/* Arrays. */
	{"both append", "[1, 2]", "[1, 2, 3]", "[1, 2, 4]", "[1, 2, 3, 4]", NULL},
	{"both append the same", "[1]", "[1, 2, 3]", "[1, 3, 4]", "[1, 2, 3, 4]", NULL},
	{"one for one", "[1]", "[1, 2]", "[1, 2, 2]", "[1, 2, 2]", NULL},
	{"into an empty one", "[]", "[1]", "[2]", "[1, 2]", NULL},
	{"in front and behind", "[2]", "[1, 2]", "[2, 3]", "[1, 2, 3]", NULL},
	{"in one place", "[1, 9]", "[1, 2, 9]", "[1, 3, 9]", "[1, 2, 3, 9]", NULL},
	{"both in front", "[9]", "[1, 9]", "[2, 3, 9]", "[1, 2, 3, 9]", NULL},
	{"one removes", "[1, 2]", "[1, 2, 3]", "[1]", NULL,
		"$: both changed this array, not only by adding to it"},
	{"one side changes", "{\"a\": [1, 2], \"b\": 1}", "{\"a\": [2], \"b\": 1}",
		"{\"a\": [1, 2], \"b\": 2}", "{\"a\": [2], \"b\": 2}", NULL},
	{"the other side changes", "{\"a\": [1, 2], \"b\": 1}", "{\"a\": [1, 2], \"b\": 3}",
		"{\"a\": [2], \"b\": 1}", "{\"a\": [2], \"b\": 3}", NULL},
	{"element by element", "[1, 2, 3]", "[9, 2, 3]", "[1, 2, 8]", "[9, 2, 8]", NULL},
	{"one element, two ways", "{\"a\": [1, {\"x\": 1}]}", "{\"a\": [1, {\"x\": 2}]}",
		"{\"a\": [1, {\"x\": 1, \"y\": 3}]}", NULL, "$.a[1]: both changed it"},
	{"arrays added twice", "{}", "{\"a\": [1]}", "{\"a\": [2]}", NULL,
		"$.a: both changed it"},

	/* Base unknown. */
	{"unknown: keys are kept", NULL, "{\"a\": 1, \"b\": 2}", "{\"b\": 2, \"c\": 3}",
		"{\"a\": 1, \"b\": 2, \"c\": 3}", NULL},
	{"unknown: one key, two ways", NULL, "{\"a\": 1}", "{\"a\": 2}", NULL,
		"$.a: both changed it"},
	{"unknown: arrays", NULL, "[1]", "[1, 2]", NULL, "$: both changed it"},
	{"blank base", " \n", "{\"a\": 1}", "{\"b\": 2}", "{\"a\": 1, \"b\": 2}", NULL},

	/* Layout. */
	{"nothing changed by new, all laid out anew", "{\"a\":1}", "{\n\t\"a\": 2\n}\n",
		"{ \"a\" : 1 }", "{\n\t\"a\": 2\n}\n", NULL},
	{"current is base: new as it is", "{\"a\":1}", "{\"a\":1}", "{\n \"a\" : 2 }\n\n",
		"{\n \"a\" : 2 }\n\n", NULL},
	{"new is base: current as it is", "{\"a\":1}", " {\"a\"\t:2}", "{\"a\":1}",
		" {\"a\"\t:2}", NULL},
	{"a member on a line of its own", "{\n    \"a\": 1,\n    \"z\": 1\n}\n",
		"{\n    \"a\": 2,\n    \"z\": 1\n}\n",
		"{\n    \"a\": 1,\n    \"b\": 1,\n    \"z\": 1\n}\n",
		"{\n    \"a\": 2,\n    \"b\": 1,\n    \"z\": 1\n}\n", NULL},
	{"the first", "{\n  \"b\": 1\n}", "{\n  \"b\": 2\n}",
		"{\n  \"a\": 1,\n  \"b\": 1\n}", "{\n  \"a\": 1,\n  \"b\": 2\n}", NULL},
	{"the first, on one line", "{\"b\": 1}", "{\"b\": 2}", "{\"a\": 1, \"b\": 1}",
		"{\"a\": 1, \"b\": 2}", NULL},
	{"behind what current has added there", "{\n \"a\": 1,\n \"z\": 1\n}",
		"{\n \"a\": 1,\n \"c\": 1,\n \"z\": 1\n}",
		"{\n \"a\": 1,\n \"n\": 1,\n \"z\": 1\n}",
		"{\n \"a\": 1,\n \"c\": 1,\n \"n\": 1,\n \"z\": 1\n}", NULL},
	{"indented as current is", "{\n\t\"a\": 1\n}\n", "{\n\t\"a\": 2\n}\n",
		"{\n  \"a\": 1,\n  \"o\": {\n    \"p\": [\n      1\n    ]\n  }\n}\n",
		"{\n\t\"a\": 2,\n\t\"o\": {\n\t\t\"p\": [\n\t\t\t1\n\t\t]\n\t}\n}\n", NULL},
	{"into an empty object", "{\n  \"a\": 1,\n  \"o\": {}\n}",
		"{\n  \"a\": 2,\n  \"o\": {}\n}",
		"{\n  \"a\": 1,\n  \"o\": {\n    \"p\": 1,\n    \"q\": {\n      \"r\": 1\n "
		"   }\n  }\n}",
		"{\n  \"a\": 2,\n  \"o\": {\n    \"p\": 1,\n    \"q\": {\n      \"r\": 1\n "
		"   }\n  }\n}",
		NULL},
	{"the whole was empty", "{}", "{ }\n", "{\n  \"a\": 1,\n  \"b\": [\n    2\n  ]\n}",
		"{\n  \"a\": 1,\n  \"b\": [\n    2\n  ]\n}\n", NULL},
	{"one line stays one line", "{\"a\": 1}", "{\"a\": 2}",
		"{\n  \"a\": 1,\n  \"b\": [\n    1,\n    2\n  ]\n}",
		"{\"a\": 2, \"b\": [1, 2]}", NULL},
	{"minified stays so", "{\"a\":1,\"b\":1}", "{\"a\":2,\"b\":1}",
		"{\"a\": 1, \"b\": 1, \"c\": 1}", "{\"a\":2,\"b\":1,\"c\":1}", NULL},
	{"CRLF stays", "{\r\n  \"a\": 1\r\n}\r\n", "{\r\n  \"a\": 2\r\n}\r\n",
		"{\n  \"a\": 1,\n  \"b\": {\n    \"c\": 1\n  }\n}\n",
		"{\r\n  \"a\": 2,\r\n  \"b\": {\r\n    \"c\": 1\r\n  }\r\n}\r\n", NULL},
	{"a blank line between groups", "{\n  \"a\": 1,\n\n  \"b\": 1\n}",
		"{\n  \"a\": 2,\n\n  \"b\": 1\n}",
		"{\n  \"a\": 1,\n\n  \"b\": 1,\n  \"c\": 1\n}",
		"{\n  \"a\": 2,\n\n  \"b\": 1,\n  \"c\": 1\n}", NULL},
	{"elements on lines", "[\n  1\n]\n", "[\n  1,\n  2\n]\n", "[\n  1,\n  3\n]\n",
		"[\n  1,\n  2,\n  3\n]\n", NULL},
	{"a value with lines taken", "{\n  \"a\": [],\n  \"b\": 1\n}",
		"{\n  \"a\": [],\n  \"b\": 2\n}",
		"{\n    \"a\": [\n        1\n    ],\n    \"b\": 1\n}",
		"{\n  \"a\": [\n    1\n  ],\n  \"b\": 2\n}", NULL},

	/* Not JSON. */
	{"a comma too many", "{}", "{\"a\": 1}", "{\"a\":\n1,}", NULL,
		"not JSON: what you wrote, line 2: expected a key"},
	{"current is not", "{}", "{\n\"a\": 1]\n", "{}", NULL,
		"not JSON: what is there, line 2: expected ',' or '}'"},
	{"base is not", "x", "{}", "{\"a\": 1}", NULL,
		"not JSON: what you read, line 1: expected a value"},
	{"a key twice", "{}", "{}", "{\"a\": 1,\n\"\\u0061\": 2}", NULL,
		"not JSON: what you wrote, line 2: the same key a second time in one "
		"object"},
	{"nothing", "{}", "{}", "", NULL,
		"not JSON: what you wrote, line 1: the end is missing"},
	{"not even if equal", "nul", "nul", "nul", NULL,
		"not JSON: what is there, line 1: expected a value"},
};

static void check(const struct cell *cell)
{
	struct content base = text(cell->base ?: ""), current = text(cell->current);
	struct content new = text(cell->new);
	enum merge_answer answer;
	auto_buf merged = {0}, why = {0};

	buf_puts(&merged, ">"); /* appended to, not replaced */
	buf_puts(&why, ">");
	CHECK_EQ(merge_json(cell->base ? &base : NULL, cell->base, &current, &new, &answer,
			 &merged, &why),
		0);
	if (answer == (cell->merged ? MERGE_CLEAN : MERGE_CONFLICT) &&
		strcmp(merged.data + 1, cell->merged ?: "") == 0 &&
		strcmp(why.data + 1, cell->why ?: "") == 0)
		return;
	fprintf(stderr, "%s: %s \"%s\" \"%s\"\n", cell->what,
		answer == MERGE_CLEAN ? "clean" : "conflict", merged.data + 1,
		why.data + 1);
	exit(1);
}

/* What is JSON to the letter (RFC 8259), and what is not. */
static void test_json(void)
{
	static const char *const good[] = {"0", "-0", "1.5E+3", "\"\"", " [ ] ", "null",
		"[[[]]]", "{\"\": {}}", "\"\\u0000\"", "\"\x7f\"", "1e5", "[true,false]",
		"\"\xc2\x80\xe0\xa0\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\""};
	static const char *const bad[] = {"01", "1.", ".5", "+1", "-", "1e", "NaN",
		"Infinity", "'a'", "\"\t\"", "\"\\x\"", "\"\\u12g4\"", "\"", "[1 2]", "[,]",
		"{a:1}", "{\"a\" 1}", "[1]]", "//\n1", "\xef\xbb\xbf{}", "\"\x80\"",
		"\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "tru", "[", "{",
		"{\"a\"", "{\"a\":", "True", "1 2", "\"\\", "\"\\u12", "\v1"};
	enum json_doc_answer answer;

	for (size_t i = 0; i < ARRAY_SIZE(good) + ARRAY_SIZE(bad); i++) {
		bool is_good = i < ARRAY_SIZE(good);
		const char *s = is_good ? good[i] : bad[i - ARRAY_SIZE(good)];
		auto_json_doc doc = {0};
		auto_buf why = {0};

		CHECK_EQ(json_doc_parse(&doc, s, strlen(s), &answer, &why), 0);
		if (answer != (is_good ? JSON_DOC_OK : JSON_DOC_WRONG)) {
			fprintf(stderr, "%s: taken for %sJSON\n", s, is_good ? "no " : "");
			exit(1);
		}
	}
	auto_json_doc doc = {0};
	auto_buf why = {0};
	CHECK_EQ(json_doc_parse(&doc, "1\0", 2, &answer, &why), 0);
	CHECK_EQ(answer, JSON_DOC_WRONG);
}

static void expect_too_large(const struct content *c, const char *said)
{
	struct content base = text("[]"), other = text("[1]");
	enum merge_answer answer;
	auto_buf merged = {0}, why = {0};

	CHECK_EQ(merge_json(&base, true, c, &other, &answer, &merged, &why), 0);
	CHECK_EQ(answer, MERGE_CONFLICT);
	CHECK_EQ(merged.len, 0);
	CHECK_STR(why.data, said);
}

static struct content nested(struct buf *b, int depth)
{
	for (int i = 0; i < depth; i++)
		buf_putc(b, '[');
	for (int i = 0; i < depth; i++)
		buf_putc(b, ']');
	return (struct content){.data = b->data, .size = b->len};
}

static void test_bounds(void)
{
	auto_buf deep = {0}, deeper = {0}, many = {0}, large = {0}, why = {0};
	struct content c = nested(&deep, JSON_DOC_MAX_DEPTH);
	auto_json_doc doc = {0};
	enum json_doc_answer answer;

	CHECK_EQ(json_doc_parse(&doc, c.data, c.size, &answer, &why), 0);
	CHECK_EQ(answer, JSON_DOC_OK);
	c = nested(&deeper, JSON_DOC_MAX_DEPTH + 1);
	expect_too_large(&c,
		"too large to merge by key: what is there, line 1: deeper than 128 levels");
	for (int i = 0; i < JSON_DOC_MAX_NODES; i++)
		buf_puts(&many, i ? ",1" : "[1");
	buf_putc(&many, ']');
	c = (struct content){.data = many.data, .size = many.len};
	expect_too_large(&c,
		"too large to merge by key: what is there, line 1: more than a "
		"million values");
	buf_putc(&large, '"');
	while (large.len <= JSON_DOC_MAX_BYTES)
		buf_puts(&large, "0123456789");
	buf_putc(&large, '"');
	c = (struct content){.data = large.data, .size = large.len};
	expect_too_large(
		&c, "too large to merge by key: what is there, larger than 16 MiB");
}

/* A result that would grow beyond the bound, by indentation, has an end. */
static void test_result_is_bounded(void)
{
	struct content base, current, new;
	auto_buf b = {0}, c = {0}, n = {0}, merged = {0}, why = {0};
	enum merge_answer answer;

	buf_puts(&b, "{\"x\": 1, \"a\": 1}");
	buf_puts(&c, "{\"x\": 2,\n");
	for (int i = 0; i < 1 << 20; i++)
		buf_putc(&c, ' ');
	buf_puts(&c, "\"a\": 1}");
	buf_puts(&n, "{\"x\": 1, \"a\": [\n1");
	for (int i = 0; i < 100000; i++)
		buf_puts(&n, ",\n1");
	buf_puts(&n, "]}");
	base = (struct content){.data = b.data, .size = b.len};
	current = (struct content){.data = c.data, .size = c.len};
	new = (struct content){.data = n.data, .size = n.len};
	CHECK_EQ(merge_json(&base, true, &current, &new, &answer, &merged, &why), 0);
	CHECK_EQ(answer, MERGE_CONFLICT);
	CHECK_STR(why.data, "too large to merge by key: the result, larger than 16 MiB");
	CHECK_EQ(merged.len, 0);
}

int main(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
		check(&cells[i]);
	test_json();
	test_bounds();
	test_result_is_bounded();
	return 0;
}
