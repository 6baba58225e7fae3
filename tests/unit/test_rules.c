/* The policy file (P1, P2, P3). */
#include "base/clock.h"
#include "check.h"
#include "policy/rules.h"

static struct rules *parse(const char *text)
{
	auto_buf error = {0};
	struct rules *r = NULL;
	int result = rules_parse(&r, text, strlen(text), &error);

	if (result < 0)
		fprintf(stderr, "%s\n", error.data ? error.data : "?");
	CHECK_EQ(result, 0);
	return r;
}

static struct rule lookup(const struct rules *r, const char *path, bool is_dir)
{
	struct rule rule;

	rules_lookup(r, path, strlen(path), is_dir, &rule);
	return rule;
}

static const struct match_case {
	const char *pattern, *path;
	bool is_dir, matches;
} match_cases[] = {
	/* no slash: the last name, anywhere */
	{"a.c", "a.c", false, true},
	{"a.c", "x/y/a.c", false, true},
	{"a.c", "a.c/x", false, false},
	{"a.c", "xa.c", false, false},
	{"*.c", "x/y/a.c", false, true},
	{"*.c", "x/y/.c", false, true},
	{"*.c", "x/y.c/a", false, false},
	{"*", "", true, true},
	{"*", "x/y", false, true},
	{"**", "x/y", false, true},
	{"a", "", true, false},
	/* a slash: from the root */
	{"/a.c", "a.c", false, true},
	{"/a.c", "x/a.c", false, false},
	{"x/a.c", "x/a.c", false, true},
	{"x/a.c", "y/x/a.c", false, false},
	{"x/*", "x/a", false, true},
	{"x/*", "x/a/b", false, false},
	{"x*y", "x/y", false, false},
	{"x?y", "x/y", false, false},
	{"/*", "a", false, true},
	{"/*", "a/b", false, false},
	/* two stars */
	{"x/**", "x/a", false, true},
	{"x/**", "x/a/b/c", false, true},
	{"x/**", "x", true, false},
	{"x/**", "y/x/a", false, false},
	{"**/x", "x", false, true},
	{"**/x", "a/b/x", false, true},
	{"**/x/**", "x/a", false, true},
	{"**/x/**", "a/x/b/c", false, true},
	{"**/x/**", "a/x", true, false},
	{"a/**/b", "a/b", false, true},
	{"a/**/b", "a/x/y/b", false, true},
	{"a/**/b", "a/x/y/c", false, false},
	{"a/**/**/b", "a/b", false, true},
	{"a/**/b/**/c", "a/1/b/2/b/3/c", false, true},
	{"a/**/b/**/c", "a/1/c/2/b", false, false},
	{"**/a/b", "a/a/b", false, true},
	{"a**b", "axxb", false, true},
	{"x/a**b", "x/a/b", false, false},
	/* a folder and everything below */
	{"d/", "d", true, true},
	{"d/", "d", false, false},
	{"d/", "d/x", false, true},
	{"d/", "a/d/x/y", false, true},
	{"d/", "a/d", true, true},
	{"d/", "a/d", false, false},
	{"d/", "d/d", false, true},
	{"/d/", "d/x", false, true},
	{"/d/", "a/d/x", false, false},
	{"a/d/", "a/d/x", false, true},
	{"a/d/", "x/a/d/x", false, false},
	{"d*/", "a/dd/x", false, true},
	{"a/**/", "a/b", true, true},
	{"a/**/", "a/b", false, false},
	{"a/**/", "a/b/c", false, true},
	/* within a name */
	{"[a-c]x", "bx", false, true},
	{"[!a-c]x", "bx", false, false},
	{"[^a-c]x", "dx", false, true},
	{"[]x]", "]", false, true},
	{"[!]x]", "]", false, false},
	{"[a-]", "-", false, true},
	{"[[:digit:]x]", "7", false, true},
	{"[[:digit:]]", "x", false, false},
	{"[\\]]", "]", false, true},
	{"[a\\-c]", "b", false, false},
	{"\\*", "*", false, true},
	{"\\*", "a", false, false},
	{"\\a", "a", false, true},
	{"?", "\xff", false, true},
	{"?", "\xc3\xa4", false, false}, /* bytes, not characters */
	{"*a*b*", "xxaxxbxx", false, true},
	{"*a*b*", "xxbxxaxx", false, false},
	{"*.tar.gz", "a.tar.gz", false, true},
	{"*.tar.gz", "a.gz", false, false},
	{"a*", "a", false, true},
	{"*a", "ba", false, true},
	{"*ab", "aab", false, true},
	{"A", "a", false, false},
	/* no pattern at all: matches nothing */
	{"", "a", false, false},
	{"/", "a", true, false},
	{"[a", "a", false, false},
	{"a\\", "a", false, false},
	{"a//b", "a/b", false, false},
	{"[[:nope:]]", "a", false, false},
	{"[", "[", false, false},
	{"[!", "a", false, false},
};

static void test_patterns(void) /* P1 */
{
	for (size_t i = 0; i < ARRAY_SIZE(match_cases); i++) {
		const struct match_case *c = &match_cases[i];

		if (rules_match(c->pattern, c->path, strlen(c->path), c->is_dir) ==
			c->matches)
			continue;
		fprintf(stderr, "pattern \"%s\", path \"%s\"%s: should %smatch\n",
			c->pattern, c->path, c->is_dir ? " (folder)" : "",
			c->matches ? "" : "not ");
		exit(1);
	}
}

/* Exponential matchers need longer than the age of the world for these. */
static void test_patterns_are_polynomial(void)
{
	char path[2001], deep[4001];

	memset(path, 'a', 2000);
	path[2000] = '\0';
	CHECK(!rules_match("a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", path, 2000, false));
	for (int i = 0; i < 2000; i++)
		memcpy(deep + (size_t)2 * i, "a/", 3);
	CHECK(!rules_match("**/a/**/a/**/a/**/a/**/a/**/a/**/a/b", deep, 3999, false));
}

static const struct error_case {
	const char *text, *error;
} error_cases[] = {
	{"a mode=gaurd", "line 1: unknown mode \"gaurd\": did you mean \"guard\"?"},
	{"\n# c\na mode=zzzzzz", "line 3: unknown mode \"zzzzzz\": use guard, track, pass, "
				 "append or frozen"},
	{"a mood=guard", "line 1: unknown key \"mood\": did you mean \"mode\"?"},
	{"a xyzxyz=1", "line 1: unknown key \"xyzxyz\": use mode, strategy, ttl, wait, "
		       "linger, settle, checkpoint, durability or keep"},
	{"a durability=disk", "line 1: unknown durability \"disk\": use process, fsync or "
			      "close"},
	{"a keep=",
		"line 1: nothing in \"\": keep=30d, keep=100, keep=64M, several of them "
		"with commas, or keep=all"},
	{"a keep=30m", "line 1: unknown unit in \"30m\": an age has h, d or w, a size K, M "
		       "or G, a number of versions none"},
	{"a keep=30d,14d", "line 1: said twice in \"30d,14d\": one age, one number and one "
			   "size at most"},
	{"a keep=all,5", "line 1: nothing goes with all: \"all,5\""},
	{"a keep=5,every",
		"line 1: every goes with an age: \"5,every\": only an age thins"},
	{"a keep=0", "line 1: out of bounds: \"0\" (an age is 1h to 36500d, a number of "
		     "versions 1 to 1000000000, a size 1K to 1048576G)"},
	{"a mode", "line 1: no value for \"mode\": write key=value without blanks"},
	{"a mode = pass", "line 1: no value for \"mode\": write key=value without blanks"},
	{"a mode=", "line 1: unknown mode \"\": use guard, track, pass, append or frozen"},
	{"a strategy=marge", "line 1: unknown strategy \"marge\": did you mean \"merge\"?"},
	{"a strategy=driver:a/b", "line 1: not a driver's name: \"a/b\" (letters, digits, "
				  "_, - and ., at most 64)"},
	{"a strategy=driver:", "line 1: not a driver's name: \"\" (letters, digits, _, - "
			       "and ., at most 64)"},
	{"a strategy=driver:NAME",
		"line 1: \"driver:NAME\": put the driver's own name for NAME"},
	{"a ttl=30", "line 1: no unit in \"30\": write ms, s, m or h after it, as in 30s"},
	{"a ttl=30d", "line 1: unknown unit in \"30d\": use ms, s, m or h"},
	{"a ttl=1.5s", "line 1: not a whole number: \"1.5s\" (ttl is 10ms to 24h)"},
	{"a ttl=-1s", "line 1: not a length of time: \"-1s\": write a whole number and ms, "
		      "s, m or h, as in 30s"},
	{"a ttl=1ms", "line 1: out of bounds: \"1ms\" (ttl is 10ms to 24h)"},
	{"a ttl=0", "line 1: out of bounds: \"0\" (ttl is 10ms to 24h)"},
	{"a ttl=25h", "line 1: out of bounds: \"25h\" (ttl is 10ms to 24h)"},
	{"a settle=2m", "line 1: out of bounds: \"2m\" (settle is 0 to 1m)"},
	{"a ttl=999999999h", "line 1: out of bounds: \"999999999h\" (ttl is 10ms to 24h)"},
	{"a ttl=9999999999s",
		"line 1: not a whole number: \"9999999999s\" (ttl is 10ms to 24h)"},
	{"a", "line 1: nothing is said about \"a\": write key=value after the pattern"},
	{"a -mode", "line 1: cannot unset \"-mode\": a later line with another value does"},
	{"!a mode=pass", "line 1: patterns cannot be negated: \"!a\": say it with a later "
			 "line, or quote and escape it: \"\\\\!…\""},
	{"[attr]x mode=pass", "line 1: macros are not supported: \"[attr]x\""},
	{"\"a b mode=pass", "line 1: the quote is not closed: \"\"a b mode=pass\""},
	{"\"a b\"mode=pass",
		"line 1: no blank after the quoted pattern: \"\"a b\"mode=pass\""},
	{"\"a\\q\" mode=pass", "line 1: bad escape in the quoted pattern: \"\"a\\q\" "
			       "mode=pass\" (for a glob's backslash write two)"},
	{"[a mode=pass",
		"line 1: bad pattern \"[a\": a [ is not closed, or names an unknown "
		"class"},
	{"/ mode=pass", "line 1: bad pattern \"/\": the pattern is empty"},
	{"a//b mode=pass", "line 1: bad pattern \"a//b\": an empty name between slashes"},
	{"a\\ mode=pass", "line 1: bad pattern \"a\\\": a name ends in a lone backslash"},
	{"* mode=track\n* mode=pass",
		"line 2: under \"* mode=pass\" a change of this file would go unnoticed: "
		"add a line .stomp-policy mode=guard below it"},
	{"a mode=pass\r\nb mode=pas\r\n",
		"line 2: unknown mode \"pas\": did you mean \"pass\"?"},
};

static void test_errors(void) /* P1 */
{
	for (size_t i = 0; i < ARRAY_SIZE(error_cases); i++) {
		auto_buf error = {0};
		struct rules *r = NULL;

		CHECK_EQ(rules_parse(&r, error_cases[i].text, strlen(error_cases[i].text),
				 &error),
			-EINVAL);
		CHECK(!r);
		CHECK_STR(error.data, error_cases[i].error);
		CHECK_EQ(rules_parse(&r, error_cases[i].text, strlen(error_cases[i].text),
				 NULL),
			-EINVAL);
	}
}

static void test_keep(void) /* V9 */
{
	struct rules *r = parse("a keep=30d,100,64M,every\nb keep=5\nc keep=all\n"
				"d keep=36h,3K\n");
	struct rule_keep keep = lookup(r, "a", false).keep;
	auto_buf out = {0};

	CHECK_EQ(keep.age_ns, 30 * 24 * 3600 * NS_PER_S);
	CHECK_EQ(keep.count, 100);
	CHECK_EQ(keep.bytes, 64 << 20);
	CHECK(keep.every);
	keep = lookup(r, "b", false).keep;
	CHECK(!keep.age_ns && keep.count == 5 && !keep.bytes && !keep.every);
	keep = lookup(r, "c", false).keep;
	CHECK(!keep.age_ns && !keep.count && !keep.bytes);
	CHECK_EQ(lookup(r, "x", false).keep.age_ns, 90 * 24 * 3600 * NS_PER_S);
	rules_explain(r, "a", 1, false, &out);
	CHECK(strstr(out.data, "keep=30d,100,64M,every "));
	buf_reset(&out);
	rules_explain(r, "d", 1, false, &out);
	CHECK(strstr(out.data, "keep=36h,3K "));
	buf_reset(&out);
	rules_explain(r, "c", 1, false, &out);
	CHECK(strstr(out.data, "keep=all "));
	rules_free(r);
}

static void test_bad_bytes(void)
{
	static const char nul[] = "a\0b mode=pass";
	auto_buf error = {0};
	auto_free char *large = malloc((1u << 20) + 1);
	struct rules *r = NULL;

	CHECK_EQ(rules_parse(&r, nul, sizeof(nul) - 1, &error), -EINVAL);
	CHECK(strstr(error.data, "line 1: a NUL byte in"));
	CHECK(large);
	memset(large, '\n', (1u << 20) + 1);
	CHECK_EQ(rules_parse(&r, large, (1u << 20) + 1, &error), -EINVAL);
	CHECK_EQ(rules_parse(&r, large, 1u << 20, &error), 0);
	r = rules_free(r);
	CHECK_EQ(rules_parse(&r, NULL, 0, &error), 0);
	rules_free(r);
	CHECK(!rules_free(NULL));
}

static void test_syntax(void) /* P1 */
{
	struct rules *r =
		parse("\xef\xbb\xbf# comment\r\n"
		      "\n"
		      "  \"a b\"\tmode=track   ttl=1m  \r\n"
		      "\"q\\\"\\101\\t\" mode=frozen\n"
		      "\\#x mode=append\n"
		      "\"\\\\!y\" mode=append\n"
		      "*.json strategy=json wait=1500ms linger=1h settle=0\n"
		      "*.bin strategy=driver:my-tool.2\n"
		      "%driver my-tool.2 command=cat\n"
		      "*.txt strategy=merge checkpoint=5s mode=frozen mode=track\n"
		      "notes.txt strategy=last-writer");

	CHECK_EQ(lookup(r, "x/a b", false).mode, MODE_TRACK);
	CHECK_EQ(lookup(r, "x/a b", false).ttl_ns, 60 * NS_PER_S);
	CHECK_EQ(lookup(r, "a", false).mode, MODE_GUARD);
	CHECK_EQ(lookup(r, "q\"A\t", false).mode, MODE_FROZEN);
	CHECK_EQ(lookup(r, "#x", false).mode, MODE_APPEND);
	CHECK_EQ(lookup(r, "!y", false).mode, MODE_APPEND);
	CHECK_EQ(lookup(r, "p.json", false).strategy, STRATEGY_JSON);
	CHECK_EQ(lookup(r, "p.json", false).wait_ns, 1500 * NS_PER_MS);
	CHECK_EQ(lookup(r, "p.json", false).linger_ns, 3600 * NS_PER_S);
	CHECK_EQ(lookup(r, "p.json", false).settle_ns, 0);
	CHECK_EQ(lookup(r, "p.json", false).ttl_ns, 30 * NS_PER_S);
	CHECK_EQ(lookup(r, "p.bin", false).strategy, STRATEGY_DRIVER);
	CHECK_STR(lookup(r, "p.bin", false).driver, "my-tool.2");
	CHECK_EQ(lookup(r, "p.txt", false).mode, MODE_TRACK);
	CHECK_EQ(lookup(r, "d/notes.txt", false).strategy, STRATEGY_LAST_WRITER);
	CHECK_EQ(lookup(r, "d/notes.txt", false).checkpoint_ns, 5 * NS_PER_S);
	CHECK(!lookup(r, "d/notes.txt", false).driver);
	rules_free(r);
}

static void test_last_match_wins_key_by_key(void) /* P1 */
{
	struct rules *r = parse("src/** mode=track ttl=1m\n"
				"*.c ttl=2m\n"
				"src/gen/ mode=pass\n"
				"src/gen/keep.c mode=guard\n"
				"node_modules/mine/ mode=guard\n"
				"/target/ mode=guard\n");

	CHECK_EQ(lookup(r, "src/a.c", false).mode, MODE_TRACK);
	CHECK_EQ(lookup(r, "src/a.c", false).ttl_ns, 120 * NS_PER_S);
	CHECK_EQ(lookup(r, "src/a.h", false).ttl_ns, 60 * NS_PER_S);
	CHECK_EQ(lookup(r, "src/gen/x/y.c", false).mode, MODE_PASS);
	CHECK_EQ(lookup(r, "src/gen", true).mode, MODE_PASS);
	CHECK_EQ(lookup(r, "src/gen/keep.c", false).mode, MODE_GUARD);
	CHECK_EQ(lookup(r, "node_modules/mine/a.js", false).mode, MODE_GUARD);
	CHECK_EQ(lookup(r, "node_modules/theirs/a.js", false).mode, MODE_PASS);
	CHECK_EQ(lookup(r, "target/i386/cpu.c", false).mode, MODE_GUARD);
	rules_free(r);
}

static const struct default_case {
	const char *path;
	bool is_dir;
	enum rule_mode mode;
	enum rule_strategy strategy;
} default_cases[] = {
	{"", true, MODE_GUARD, STRATEGY_REJECT},
	{"src/a.c", false, MODE_GUARD, STRATEGY_REJECT},
	{"Makefile", false, MODE_GUARD, STRATEGY_REJECT},
	{"a.c.tmp.123.beef", false, MODE_GUARD, STRATEGY_REJECT},
	{"a.c~", false, MODE_GUARD, STRATEGY_REJECT},
	{"build/x.sh", false, MODE_GUARD, STRATEGY_REJECT},
	{"a.d", false, MODE_GUARD, STRATEGY_REJECT},
	{"x/app.log", false, MODE_GUARD, STRATEGY_UNION},
	{".git", true, MODE_PASS, STRATEGY_REJECT},
	{".git", false, MODE_PASS, STRATEGY_REJECT},
	{".git/index", false, MODE_PASS, STRATEGY_REJECT},
	{"sub/.git", false, MODE_PASS, STRATEGY_REJECT},
	{"sub/.git/refs/heads/a", false, MODE_PASS, STRATEGY_REJECT},
	{".gitignore", false, MODE_GUARD, STRATEGY_REJECT},
	{"x.git/a", false, MODE_GUARD, STRATEGY_REJECT},
	{"node_modules", true, MODE_PASS, STRATEGY_REJECT},
	{"web/node_modules/a/b.js", false, MODE_PASS, STRATEGY_REJECT},
	{"target/debug/a", false, MODE_PASS, STRATEGY_REJECT},
	{"drivers/target/loop.c", false, MODE_GUARD, STRATEGY_REJECT},
	{"m/target/classes/A.class", false, MODE_PASS, STRATEGY_REJECT},
	{"p/__pycache__/a.pyc", false, MODE_PASS, STRATEGY_REJECT},
	{"a.o", false, MODE_PASS, STRATEGY_REJECT},
	{"x/.main.c.swp", false, MODE_PASS, STRATEGY_REJECT},
	{"#notes#", false, MODE_PASS, STRATEGY_REJECT},
	{"d/my.db", false, MODE_TRACK, STRATEGY_REJECT},
	{"d/my.db-wal", false, MODE_PASS, STRATEGY_REJECT},
	{"d/my.db-journal", false, MODE_PASS, STRATEGY_REJECT},
	{"my-journal", false, MODE_GUARD, STRATEGY_REJECT},
	{"pkg.egg-info/PKG-INFO", false, MODE_PASS, STRATEGY_REJECT},
	{"cmake-build-debug/x", false, MODE_PASS, STRATEGY_REJECT},
};

static void test_defaults(void) /* P2 */
{
	struct rules *r = parse("");
	struct rule rule = lookup(r, "a.c", false);

	CHECK_EQ(rule.ttl_ns, 30 * NS_PER_S);
	CHECK_EQ(rule.wait_ns, 2 * NS_PER_S);
	CHECK_EQ(rule.linger_ns, 0);
	CHECK_EQ(rule.settle_ns, 250 * NS_PER_MS);
	CHECK_EQ(rule.checkpoint_ns, 60 * NS_PER_S);
	CHECK_EQ(rule.durability, DURABILITY_FSYNC);
	CHECK(!rule.driver);
	for (size_t i = 0; i < ARRAY_SIZE(default_cases); i++) {
		const struct default_case *c = &default_cases[i];

		rule = lookup(r, c->path, c->is_dir);
		if (rule.mode != c->mode || rule.strategy != c->strategy) {
			fprintf(stderr, "\"%s\" is %s, %s\n", c->path,
				rule_mode_name(rule.mode),
				rule_strategy_name(rule.strategy));
			exit(1);
		}
	}
	rules_free(r);
}

static void test_explain(void) /* P3 */
{
	struct rules *r = parse("# mine\nsrc/** mode=track ttl=90s strategy=driver:x\n"
				"%driver x command=\"a b\"\n");
	auto_buf out = {0}, text = {0};

	rules_explain(r, "src/a.c", 7, false, &out);
	CHECK_STR(out.data,
		"mode=track              policy line 2: src/** mode=track ttl=90s "
		"strategy=driver:x\n"
		"strategy=driver:x       policy line 2: src/** mode=track ttl=90s "
		"strategy=driver:x\n"
		"ttl=90s                 policy line 2: src/** mode=track ttl=90s "
		"strategy=driver:x\n"
		"wait=2s                 built-in line 4: * mode=guard strategy=reject "
		"ttl=30s "
		"wait=2s linger=0 settle=250ms checkpoint=60s durability=fsync keep=90d\n"
		"linger=0                built-in line 4: * mode=guard strategy=reject "
		"ttl=30s "
		"wait=2s linger=0 settle=250ms checkpoint=60s durability=fsync keep=90d\n"
		"settle=250ms            built-in line 4: * mode=guard strategy=reject "
		"ttl=30s "
		"wait=2s linger=0 settle=250ms checkpoint=60s durability=fsync keep=90d\n"
		"checkpoint=60s          built-in line 4: * mode=guard strategy=reject "
		"ttl=30s "
		"wait=2s linger=0 settle=250ms checkpoint=60s durability=fsync keep=90d\n"
		"durability=fsync        built-in line 4: * mode=guard strategy=reject "
		"ttl=30s "
		"wait=2s linger=0 settle=250ms checkpoint=60s durability=fsync keep=90d\n"
		"keep=90d                built-in line 4: * mode=guard strategy=reject "
		"ttl=30s "
		"wait=2s linger=0 settle=250ms checkpoint=60s durability=fsync keep=90d\n");
	rules_text(r, &text);
	CHECK(strncmp(text.data, rules_builtin_text(), strlen(rules_builtin_text())) == 0);
	CHECK(strstr(text.data, "\n# mine\nsrc/** mode=track"));
	rules_free(r);
	r = parse(text.data); /* what is shown can be used as a policy */
	CHECK_EQ(lookup(r, "src/a.c", false).mode, MODE_TRACK);
	CHECK(!rules_is_from(r, "", 0));
	CHECK(rules_is_from(r, text.data, text.len));
	rules_free(r);
}

static void test_text_of_the_file(void) /* P3: lines are counted as in the file */
{
	static const char file[] = "a mode=track\nb mode=pass\n";
	struct rules *r = parse(file);
	auto_buf text = {0};
	unsigned n_rules, n_directives;
	const char *part;
	size_t size;

	rules_text(r, &text);
	rules_text_file(text.data, text.len, &part, &size);
	CHECK_EQ(size, strlen(file));
	CHECK_STR(part, file);
	rules_text_file(file, strlen(file), &part, &size);
	CHECK(part == file && size == strlen(file));
	rules_count(r, &n_rules, &n_directives);
	CHECK_EQ(n_rules, 2);
	CHECK_EQ(n_directives, 0);
	rules_free(r);
}

/* The index must find exactly what trying every line finds. */
static void test_index_against_all_lines(void)
{
	static const char *const words[] = {"a", "b", "src", "a.c", "b.o", ".git",
		"x.tar.gz", "[ab]", "*", "*.c", "**", "?", "*.tar.gz", "a*"};
	uint64_t seed = 7;

	for (int round = 0; round < 300; round++) {
		char patterns[12][64];
		auto_buf text = {0};
		struct rules *r;

		for (int i = 0; i < 12; i++) {
			auto_buf p = {0};

			for (int n = 0; n < 3; n++) {
				seed = seed * 6364136223846793005u + 1442695040888963407u;
				buf_puts(&p, n && (seed >> 60) < 9 ? "/" : "");
				if (n == 0 || p.data[p.len - 1] == '/')
					buf_puts(&p,
						words[(seed >> 33) % ARRAY_SIZE(words)]);
			}
			snprintf(patterns[i], sizeof(patterns[i]), "%s", p.data);
			buf_printf(&text, "%s ttl=%ds\n", patterns[i], i + 100);
		}
		r = parse(text.data);
		for (int k = 0; k < 50; k++) {
			auto_buf path = {0};
			int64_t expected = 30;

			for (int n = 0; n < 3; n++) {
				seed = seed * 6364136223846793005u + 1442695040888963407u;
				buf_printf(&path, "%s%s", n ? "/" : "",
					words[(seed >> 33) % 7]);
				if ((seed >> 60) < 5)
					break;
			}
			for (int i = 0; i < 12; i++) {
				if (rules_match(patterns[i], path.data, path.len, false))
					expected = i + 100;
			}
			CHECK_EQ(lookup(r, path.data, false).ttl_ns / NS_PER_S, expected);
		}
		rules_free(r);
	}
}

static void show_speed(const char *path) /* printed, not checked */
{
	const struct clock *clock = clock_system();
	struct rules *r = parse("");
	struct rule rule;
	int64_t start = clock_boot_ns(clock);
	int n = 200000;

	for (int i = 0; i < n; i++)
		rules_lookup(r, path, strlen(path), false, &rule);
	printf("lookup of %s: %lld ns\n", path,
		(long long)((clock_boot_ns(clock) - start) / n));
	rules_free(r);
}

int main(void)
{
	test_patterns();
	test_patterns_are_polynomial();
	test_errors();
	test_keep();
	test_bad_bytes();
	test_syntax();
	test_last_match_wins_key_by_key();
	test_defaults();
	test_explain();
	test_text_of_the_file();
	test_index_against_all_lines();
	show_speed("README.md");
	show_speed("a/bb/ccc/dddd/eeeee/ffffff/ggggggg/hhhhh.c");
	return 0;
}
