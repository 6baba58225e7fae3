/* The lines of a policy that begin with % (P1, S1, S14, M). */
#include "base/clock.h"
#include "check.h"
#include "policy/rules.h"
#include "policy/writer_table.h"

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

static const struct agent_entry *agent(const struct rules *r, const char *name)
{
	const struct agent_entry *a = rules_writer_table(r)->agents;

	while (a->name && strcmp(a->name, name) != 0)
		a++;
	return a->name ? a : NULL;
}

/* "a,b" */
static void check_list(const char *const *names, const char *expected)
{
	auto_buf got = {0};

	for (; names && *names; names++)
		buf_printf(&got, "%s%s", got.len ? "," : "", *names);
	CHECK_STR(got.data ? got.data : "", expected);
}

static bool is_viewer(
	const struct rules *r, const char *comm, const char *args, size_t size)
{
	struct program p = {.comm = comm, .exe = "", .args = args, .args_size = size};

	return writer_table_is_viewer(rules_writer_table(r), &p);
}

static enum agent_part part_of(const struct rules *r, const char *comm, const char **name)
{
	struct program p = {
		.comm = comm, .exe = "", .args = comm, .args_size = strlen(comm) + 1};
	const struct agent_entry *a = NULL;
	enum agent_part part = writer_table_match(rules_writer_table(r), &p, &a);

	*name = a ? a->name : NULL;
	return part;
}

static void test_nothing_said(void)
{
	struct rules *r = parse("* mode=track\n.stomp-policy mode=guard\n");

	CHECK(rules_writer_table(r) == writer_table_builtin());
	CHECK(!rules_driver(r, "x"));
	rules_free(r);
}

static void test_agent_key_by_key(void)
{
	struct rules *r =
		parse("%agent claude errno=EBUSY\n"
		      "%agent\tcodex  program+=codex-next,@x/codex variable=NEW_ID\n"
		      "%agent qwen errno=ESTALE helper=h tool=t1,t2 tool+=t3\n");
	const struct agent_entry *a = agent(r, "claude");

	CHECK_EQ(a->refusal_errno, EBUSY);
	check_list(a->programs, "claude,claude-code,@anthropic-ai/claude-code");
	a = agent(r, "codex");
	check_list(a->programs,
		"codex,codex-cli,codex-exec,@openai/codex,codex-next,@x/codex");
	check_list(a->variables, "NEW_ID");
	CHECK_EQ(a->refusal_errno, 0);
	a = agent(r, "qwen");
	CHECK_EQ(a->refusal_errno, 0); /* EBUSY in the built-in table */
	check_list(a->helpers, "h");
	check_list(a->tools, "t1,t2,t3");
	check_list(a->variables, "QWEN_CODE_SESSION_ID,QWEN_CODE");
	CHECK_EQ(writer_table_builtin()->agents[0].refusal_errno, 0);
	rules_free(r);
}

static void test_new_agents_come_first(void)
{
	struct rules *r = parse("%agent house program=house-agent\n"
				"%agent other program=claude\n"
				"%agent env variable=ENV_ID\n");
	const char *name;

	CHECK_EQ(part_of(r, "house-agent", &name), PART_INSTANCE);
	CHECK_STR(name, "house");
	CHECK_EQ(part_of(r, "claude", &name), PART_INSTANCE);
	CHECK_STR(name, "other");
	CHECK_EQ(part_of(r, "codex", &name), PART_INSTANCE);
	CHECK_STR(name, "codex");
	CHECK_EQ(part_of(r, "env", &name), PART_NONE);
	check_list(agent(r, "env")->variables, "ENV_ID");
	check_list(agent(r, "env")->programs, "");
	rules_free(r);
}

static void test_viewers(void) /* S1 */
{
	struct rules *r = parse("%viewer glow \"jq -C\"\n%viewer -cat \"-sed -n\" head\n");

	CHECK(is_viewer(r, "glow", "glow", 5));
	CHECK(is_viewer(r, "jq", "jq\0-C\0.", 8));
	CHECK(!is_viewer(r, "jq", "jq\0.", 5));
	CHECK(!is_viewer(r, "cat", "cat", 4));
	CHECK(!is_viewer(r, "sed", "sed\0-n\0p", 9));
	CHECK(is_viewer(r, "head", "head", 5));
	CHECK(is_viewer(r, "tail", "tail", 5));
	rules_free(r);
	r = parse("%viewer -cat\n%viewer cat\n");
	CHECK(is_viewer(r, "cat", "cat", 4));
	rules_free(r);
}

static void test_drivers(void) /* M */
{
	struct rules *r =
		parse("*.po strategy=driver:po\n" /* before its line */
		      "%driver po timeout=90s command=\"po-merge \\\"x\\\" y\\\\z\"\n"
		      "%driver plain command=tool\n"
		      "*.bin strategy=driver:none strategy=reject\n");
	const struct driver_entry *d = rules_driver(r, "po");
	unsigned n_rules, n_directives;

	CHECK_STR(d->name, "po");
	CHECK_STR(d->command, "po-merge \"x\" y\\z");
	CHECK_EQ(d->timeout_ns, 90 * NS_PER_S);
	d = rules_driver(r, "plain");
	CHECK_STR(d->command, "tool");
	CHECK_EQ(d->timeout_ns, 5 * NS_PER_S);
	CHECK(!rules_driver(r, "none"));
	rules_count(r, &n_rules, &n_directives);
	CHECK_EQ(n_rules, 2);
	CHECK_EQ(n_directives, 2);
	rules_free(r);
}

static const struct error_case {
	const char *text, *error;
} error_cases[] = {
	{"\n%agnet x", "line 2: unknown directive \"%agnet\": did you mean \"%agent\"?"},
	{"%zzzzzzzz x", "line 1: unknown directive \"%zzzzzzzz\": use %agent, %viewer, "
			"%driver or %limit"},
	{"%agent", "line 1: no name after \"%agent\": write %agent NAME program=…"},
	{"%agent a/b program=x",
		"line 1: not an agent's name: \"a/b\" (letters, digits, ., "
		"_ and -, at most 32)"},
	{"%agent unknown program=x",
		"line 1: not an agent's name: \"unknown\" (letters, digits, ., _ and -, at "
		"most 32)"},
	{"%agent cluade errno=EBUSY", "line 1: unknown agent \"cluade\": did you mean "
				      "\"claude\"? (a new agent needs program= or "
				      "variable=)"},
	{"%agent somebodyelse errno=EBUSY",
		"line 1: unknown agent \"somebodyelse\": a new agent needs program= or "
		"variable="},
	{"%agent claude", "line 1: nothing is said about \"claude\": write program=, "
			  "variable=, helper=, tool= or errno="},
	{"%agent claude progam=x",
		"line 1: unknown key \"progam\": did you mean \"program\"?"},
	{"%agent claude program",
		"line 1: no value for \"program\": write key=value without blanks"},
	{"%agent claude program = x",
		"line 1: no value for \"program\": write key=value without blanks"},
	{"%agent claude program=a, b",
		"line 1: an empty name in \"a,\": write a,b without blanks"},
	{"%agent claude program=/usr/bin/claude", "line 1: a path: \"/usr/bin/claude\": "
						  "write the program's name alone, as in "
						  "program=claude"},
	{"%agent claude variable=1X",
		"line 1: not a variable's name: \"1X\" (letters, digits "
		"and _, no digit first)"},
	{"%agent claude variable=STOMP_AGENT", "line 1: \"STOMP_AGENT\" names its writer "
					       "itself: it is no agent's own"},
	{"%agent claude errno=EBUZY",
		"line 1: unknown errno \"EBUZY\": did you mean \"EBUSY\"?"},
	{"%agent claude errno=EAGAIN",
		"line 1: unknown errno \"EAGAIN\": use EBUSY or ESTALE"},
	{"%agent claude errno+=EBUSY",
		"line 1: nothing to add to: \"errno\": write errno=EBUSY or errno=ESTALE"},
	{"%viewer", "line 1: no name after \"%viewer\": write %viewer NAME"},
	{"%viewer /bin/cat",
		"line 1: not a viewer: \"/bin/cat\": write a program's name, or "
		"with its first option \"sed -n\""},
	{"%viewer \"sed n\"", "line 1: not a viewer: \"sed n\": write a program's name, or "
			      "with its first option \"sed -n\""},
	{"%viewer -",
		"line 1: not a viewer: \"-\": write a program's name, or with its first "
		"option \"sed -n\""},
	{"%viewer -taill", "line 1: unknown viewer \"taill\": did you mean \"tail\"?"},
	{"%viewer \"sed -n", "line 1: the quote is not closed: \"\"sed -n\""},
	{"%viewer \"a\\000b\"", "line 1: a NUL byte in \"\"a\\000b\"\""},
	{"%driver", "line 1: no name after \"%driver\": write %driver NAME command=\"…\""},
	{"%driver a/b command=x",
		"line 1: not a driver's name: \"a/b\" (letters, digits, _, - "
		"and ., at most 64)"},
	{"%driver x",
		"line 1: no command for the driver \"x\": write command=\"…\" after its "
		"name"},
	{"%driver x comand=y", "line 1: unknown key \"comand\": did you mean \"command\"?"},
	{"%driver x command=\"a\"b", "line 1: no blank after the quoted value: \"\"a\"b\""},
	{"%driver x command=\"\\q\"",
		"line 1: bad escape in the quoted value: \"\"\\q\"\" (for "
		"a backslash write two)"},
	{"%driver x command=a timeout=1h",
		"line 1: out of bounds: \"1h\" (timeout is 100ms to 5m)"},
	{"%driver x command=a timeout=5",
		"line 1: no unit in \"5\": write ms, s, m or h after "
		"it, as in 30s"},
	{"%driver x command=a\n\n%driver x command=b",
		"line 3: a second driver \"x\": line 1 has it already"},
	{"\n* strategy=driver:po", "line 2: no driver \"po\": a line %driver NAME "
				   "command=\"…\" says what it is"},
	{"%driver potool command=x\n* strategy=driver:pottool",
		"line 2: unknown driver \"pottool\": did you mean \"potool\"?"},
};

static void test_errors(void) /* P1 */
{
	for (size_t i = 0; i < ARRAY_SIZE(error_cases); i++) {
		const char *text = error_cases[i].text;
		auto_buf error = {0};
		struct rules *r = NULL;

		CHECK_EQ(rules_parse(&r, text, strlen(text), &error), -EINVAL);
		CHECK(!r);
		CHECK_STR(error.data, error_cases[i].error);
		CHECK_EQ(rules_parse(&r, text, strlen(text), NULL), -EINVAL);
	}
}

/* head, then n lines or names of line with a number in it, then tail. */
static int parse_many(const char *head, const char *line, unsigned n, struct buf *error)
{
	auto_buf text = {0};
	struct rules *r = NULL;
	int result;

	buf_puts(&text, head);
	for (unsigned i = 0; i < n; i++)
		buf_printf(&text, "%s%u", line, i);
	result = rules_parse(&r, text.data, text.len, error);
	rules_free(r);
	return result;
}

static void test_bounds(void)
{
	auto_buf error = {0};

	CHECK_EQ(parse_many("", "\n%agent a variable=V program=p", 1, &error), 0);
	CHECK_EQ(parse_many("%viewer", " v", 256, &error), 0);
	CHECK_EQ(parse_many("%viewer", " v", 257, &error), -EINVAL);
	CHECK_STR(error.data, "line 1: too many viewers (at most 256 new ones): \"v256\"");
	CHECK_EQ(parse_many("%agent x program=a", ",p", 63, &error), 0);
	CHECK_EQ(parse_many("%agent x program=a", ",p", 64, &error), -EINVAL);
	CHECK_STR(error.data, "line 1: too many names (at most 64) at \"p63\"");
}

static void test_many_entries(void)
{
	auto_buf text = {0}, error = {0};
	struct rules *r;

	for (int i = 0; i < 64; i++)
		buf_printf(&text, "%%agent a%d program=p%d\n%%driver d%d command=c%d\n", i,
			i, i, i);
	r = parse(text.data);
	check_list(agent(r, "a0")->programs, "p0");
	check_list(agent(r, "a63")->programs, "p63");
	CHECK_STR(rules_driver(r, "d63")->command, "c63");
	rules_free(r);
	r = NULL;
	buf_puts(&text, "%agent more program=x\n");
	CHECK_EQ(rules_parse(&r, text.data, text.len, &error), -EINVAL);
	CHECK_STR(error.data, "line 129: too many agents (at most 64 new ones): \"more\"");
}

static void test_builtin_errno(void) /* S14, docs/ERRNO.md */
{
	struct rules *r = parse("");

	CHECK_EQ(agent(r, "gemini")->refusal_errno, EBUSY);
	CHECK_EQ(agent(r, "mcp-server-filesystem")->refusal_errno, EBUSY);
	/* Told EBUSY at its rename, it writes in place instead. */
	CHECK_EQ(agent(r, "claude")->refusal_errno, 0);
	CHECK_EQ(agent(r, "opencode")->refusal_errno, 0);
	rules_free(r);
}

static void test_limit(void) /* S1: bounded, and the policy's to cap */
{
	struct rules *r = parse("%limit observations=8\n");

	CHECK_EQ(rules_observations(r), 8);
	rules_free(r);
	r = parse("");
	CHECK_EQ(rules_observations(r), 128);
	rules_free(r);
}

int main(void)
{
	test_limit();
	test_nothing_said();
	test_agent_key_by_key();
	test_new_agents_come_first();
	test_viewers();
	test_drivers();
	test_errors();
	test_bounds();
	test_many_entries();
	test_builtin_errno();
	return 0;
}
