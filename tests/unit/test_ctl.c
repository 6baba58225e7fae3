/* The lines of .stomp/ctl (D, docs/STOMP-FOLDER.md). */
#include "base/clock.h"
#include "check.h"
#include "fs/vtree_ctl.h"

static struct ctl_command cmd;

static void expect_parsed(const char *line, size_t size)
{
	auto_buf why = {0};

	memset(&cmd, 0xa5, sizeof(cmd)); /* nothing may depend on what was there */
	CHECK_EQ(ctl_parse(&cmd, line, size, &why), 0);
	CHECK_EQ(why.len, 0);
}

static void parse(const char *line)
{
	expect_parsed(line, strlen(line));
}

static void expect_error(const char *line, size_t size, int error)
{
	auto_buf why = {0};

	CHECK_EQ(ctl_parse(&cmd, line, size, &why), error);
	CHECK(why.len > 0); /* an error always says what is wrong */
}

static void refuse(const char *line)
{
	expect_error(line, strlen(line), -EINVAL);
}

static void test_plain_commands(void)
{
	parse("ping");
	CHECK_EQ(cmd.verb, CTL_PING);
	parse("  checkpoint \r\n");
	CHECK_EQ(cmd.verb, CTL_CHECKPOINT);
	refuse("");
	refuse("\n");
	refuse("   ");
	refuse("pin");
	refuse("pingx");
	refuse("ping x");
	refuse("ping\nping");
	refuse("ping\n\n");
	expect_error("ping\0", 5, -EINVAL);
}

static void test_moment(void)
{
	parse("moment");
	CHECK_EQ(cmd.verb, CTL_MOMENT);
	CHECK_STR(cmd.at, NULL);
	parse("moment 2026-11-24\\04010:32");
	CHECK_STR(cmd.at, "2026-11-24 10:32");
	refuse("moment now now");
}

static void test_lease_verbs(void)
{
	parse("lease acquire a");
	CHECK_EQ(cmd.verb, CTL_LEASE_ACQUIRE);
	CHECK_EQ(cmd.ttl_ns, -1);
	CHECK_STR(cmd.reason, NULL);
	CHECK_EQ(cmd.n_paths, 1);
	CHECK_STR(cmd.paths[0], "a");
	parse("lease renew ttl=5m a b\n");
	CHECK_EQ(cmd.verb, CTL_LEASE_RENEW);
	CHECK_EQ(cmd.ttl_ns, 300 * NS_PER_S);
	CHECK_EQ(cmd.n_paths, 2);
	parse("lease\trelease\ta");
	CHECK_EQ(cmd.verb, CTL_LEASE_RELEASE);
	parse("lease break a");
	CHECK_EQ(cmd.verb, CTL_LEASE_BREAK);
	refuse("lease");
	refuse("lease take a");
	refuse("lease acquire");
	refuse("lease acquire ttl=1s");
}

static void test_options(void)
{
	parse("lease acquire reason=big\\040change ttl=250ms src/a.c");
	CHECK_STR(cmd.reason, "big change");
	CHECK_EQ(cmd.ttl_ns, 250 * NS_PER_MS);
	CHECK_STR(cmd.paths[0], "src/a.c");
	parse("lease acquire reason= a");
	CHECK_STR(cmd.reason, "");
	/* options come first: behind a path, and where a verb has none, they are names */
	parse("lease acquire a ttl=1s");
	CHECK_EQ(cmd.ttl_ns, -1);
	CHECK_STR(cmd.paths[1], "ttl=1s");
	parse("lease release reason=x");
	CHECK_STR(cmd.paths[0], "reason=x");
}

static int64_t ttl(const char *line)
{
	parse(line);
	return cmd.ttl_ns;
}

static void test_ttl(void)
{
	CHECK_EQ(ttl("lease acquire ttl=1ms a"), NS_PER_MS);
	CHECK_EQ(ttl("lease acquire ttl=30s a"), 30 * NS_PER_S);
	CHECK_EQ(ttl("lease acquire ttl=2m a"), 120 * NS_PER_S);
	CHECK_EQ(ttl("lease acquire ttl=168h a"), 168 * 3600 * NS_PER_S);
	refuse("lease acquire ttl=169h a");
	refuse("lease acquire ttl=0s a");
	refuse("lease acquire ttl=30 a");
	refuse("lease acquire ttl=s a");
	refuse("lease acquire ttl=-1s a");
	refuse("lease acquire ttl=1sx a");
	refuse("lease acquire ttl=99999999999999999999999999s a");
	refuse("lease acquire ttl=9223372036854775807h a");
}

static void test_octal(void)
{
	parse("lease acquire \\141\\040\\134\\377\\001");
	CHECK_STR(cmd.paths[0], "a \\\xff\x01");
	refuse("lease acquire a\\");
	refuse("lease acquire a\\1");
	refuse("lease acquire a\\12");
	refuse("lease acquire a\\12 b");
	refuse("lease acquire a\\128");
	refuse("lease acquire a\\000b");
	refuse("lease acquire a\\777");
}

static void expect_path(const char *word, const char *path)
{
	auto_buf line = {0};

	buf_printf(&line, "lease acquire %s", word);
	parse(line.data);
	CHECK_EQ(cmd.n_paths, 1);
	CHECK_STR(cmd.paths[0], path);
}

static void test_paths(void)
{
	expect_path("./a", "a");
	expect_path("././a", "a");
	expect_path("/a/b", "a/b");
	expect_path("docs/", "docs");
	expect_path("docs//", "docs");
	expect_path("..a/b..", "..a/b..");
	expect_path(".a", ".a");
	expect_path("*.c", "*.c");
	expect_path("/*.c", "/*.c");
	expect_path("./*.c", "/*.c"); /* tied to the root, as it reads */
	expect_path("././*.c", "/*.c");
	expect_path("docs/*/", "docs/*/");
	refuse("lease acquire /");
	refuse("lease acquire .");
	refuse("lease acquire ./");
	refuse("lease acquire ..");
	refuse("lease acquire ../a");
	refuse("lease acquire a/../b");
	refuse("lease acquire a/..");
	refuse("lease acquire */..");
}

static void test_resolve(void)
{
	parse("resolve 31 theirs\n");
	CHECK_EQ(cmd.verb, CTL_RESOLVE);
	CHECK_EQ(cmd.conflict, 31);
	CHECK_STR(cmd.how, "theirs");
	CHECK_EQ(cmd.n_paths, 0);
	parse("resolve 4294967295 ours");
	CHECK_EQ(cmd.conflict, 4294967295);
	CHECK_STR(cmd.how, "ours");
	parse("resolve 1 merged");
	CHECK_STR(cmd.how, "merged");
	parse("resolve 1 file");
	CHECK_STR(cmd.how, "file");
	refuse("resolve");
	refuse("resolve 1");
	refuse("resolve theirs");
	refuse("resolve 0 ours");
	refuse("resolve -1 ours");
	refuse("resolve 1x ours");
	refuse("resolve 4294967296 ours");
	refuse("resolve 99999999999999999999999999 ours");
	refuse("resolve 1 our");
	refuse("resolve 1 ours theirs");
	refuse("resolve 1 ours\\000");
	parse("ping"); /* what an earlier line said is forgotten */
	CHECK_EQ(cmd.conflict, 0);
	CHECK_STR(cmd.how, NULL);
}

static void test_limits(void)
{
	auto_buf line = {0};

	buf_puts(&line, "lease acquire ");
	while (line.len < CTL_LINE_MAX)
		buf_putc(&line, 'x');
	parse(line.data);
	CHECK_EQ(strlen(cmd.paths[0]), CTL_LINE_MAX - strlen("lease acquire "));
	buf_putc(&line, '\n');
	parse(line.data);
	line.data[line.len - 1] = 'x';
	expect_error(line.data, line.len, -E2BIG);

	buf_reset(&line);
	buf_puts(&line, "lease acquire");
	for (int i = 0; i < CTL_WORDS_MAX; i++)
		buf_puts(&line, " x");
	parse(line.data);
	CHECK_EQ(cmd.n_paths, CTL_WORDS_MAX);
	buf_puts(&line, " x");
	expect_error(line.data, line.len, -E2BIG);
}

static void test_undo(void)
{
	parse("undo begin of=3 writer=al\\040ice set\\0403");
	CHECK_EQ(cmd.verb, CTL_UNDO_BEGIN);
	CHECK_EQ(cmd.set, 3);
	CHECK_STR(cmd.of, "al ice");
	CHECK_STR(cmd.what, "set 3");
	parse("undo begin x");
	CHECK_EQ(cmd.set, 0);
	CHECK_STR(cmd.of, NULL);
	parse("undo resume 7");
	CHECK_EQ(cmd.verb, CTL_UNDO_RESUME);
	CHECK_EQ(cmd.set, 7);
	parse("undo end 7 back");
	CHECK_EQ(cmd.verb, CTL_UNDO_END);
	CHECK_STR(cmd.how, "back");
	refuse("undo");
	refuse("undo begin");
	refuse("undo begin of=x y");
	refuse("undo begin of=1");
	refuse("undo begin x y");
	refuse("undo end 7");
	refuse("undo end 7 well");
	refuse("undo end 7 done now");
	refuse("undo resume");
	refuse("undo resume x");
}

int main(void)
{
	test_undo();
	test_plain_commands();
	test_moment();
	test_lease_verbs();
	test_options();
	test_ttl();
	test_octal();
	test_paths();
	test_resolve();
	test_limits();
	return 0;
}
