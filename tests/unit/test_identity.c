/* Who is writing (W1–W5), against a fake /proc; real processes are in
 * test_identity_real.c. */
#include "policy/identity.h"

#include <pthread.h>
#include <unistd.h>

#include "check.h"
#include "fake_proc.h"

struct bench {
	struct fake_proc proc;
	struct clock_fake clock;
	struct identity *id;
};

static void bench_init(struct bench *b, const char *bound_name)
{
	struct identity_options options;

	fake_proc_init(&b->proc);
	clock_fake_init(&b->clock);
	options = (struct identity_options){.proc_fd = b->proc.fd,
		.fake_proc = true,
		.bound_name = bound_name,
		.table = writer_table_builtin(),
		.clock = &b->clock.clock};
	CHECK_EQ(identity_new(&b->id, &options), 0);
	fake_proc_put(&b->proc,
		&(struct fake_process){.pid = 1, .comm = "systemd", .args = "/sbin/init"});
}

static void bench_done(struct bench *b)
{
	identity_free(b->id);
	fake_proc_done(&b->proc);
}

#define PUT(b, ...) fake_proc_put(&(b)->proc, &(struct fake_process){__VA_ARGS__})

/* bash 100 on a terminal below init: where most stories begin. */
static void put_shell(struct bench *b)
{
	PUT(b, .pid = 100, .ppid = 1, .start = 10, .comm = "bash", .args = "-bash",
		.exe = "/usr/bin/bash", .session = 100, .tty = 34816, .uid = 1000);
}

struct seen {
	char writer[128];
	enum writer_rule rule;
	bool is_mind, is_viewer;
	uint64_t serial;
	uint32_t writer_id;
};

static struct seen look(struct bench *b, pid_t tid)
{
	struct process *p = identity_take(b->id, tid, 1000, 1000);
	struct seen s = {.rule = p->rule,
		.is_mind = p->is_mind,
		.is_viewer = p->is_viewer,
		.serial = p->serial,
		.writer_id = p->writer->id};

	snprintf(s.writer, sizeof(s.writer), "%s", p->writer->name);
	process_put(b->id, p);
	return s;
}

#define CHECK_IS(b, tid, name, rule_, mind)                                                \
	do {                                                                               \
		struct seen s_ = look(b, tid);                                             \
		CHECK_STR(s_.writer, name);                                                \
		CHECK_EQ(s_.rule, rule_);                                                  \
		CHECK_EQ(s_.is_mind, mind);                                                \
	} while (0)

static void test_unknown(struct bench *b) /* W5 */
{
	struct process *p = identity_take(b->id, 0, 7, 8);

	CHECK_STR(p->writer->name, "unknown");
	CHECK_EQ(p->writer->id, 0);
	CHECK_EQ(p->uid, 7);
	CHECK(process_alive(b->id, p));
	CHECK(process_pidfd(b->id, p) < 0);
	process_put(b->id, p);
	CHECK_IS(b, 4711, "unknown", WRITER_UNKNOWN, false);
	CHECK_IS(b, -1, "unknown", WRITER_UNKNOWN, false);
	PUT(b, .pid = 4711, .ppid = 1, .start = 5, .comm = "gone");
	CHECK_EQ(unlinkat(b->proc.fd, "4711/stat", 0), 0); /* dies in the middle */
	CHECK_IS(b, 4711, "unknown", WRITER_UNKNOWN, false);
	process_put(b->id, NULL);
}

static void test_mount(void) /* W1a */
{
	struct bench b;

	bench_init(&b, "box");
	put_shell(&b);
	PUT(&b, .pid = 110, .ppid = 100, .start = 20, .comm = "sed", .args = "sed|-i");
	PUT(&b, .pid = 111, .ppid = 100, .start = 20, .comm = "claude", .args = "claude");
	CHECK_IS(&b, 100, "box", WRITER_MOUNT, true);
	CHECK_IS(&b, 110, "box", WRITER_MOUNT, false);
	CHECK_IS(&b, 111, "box", WRITER_MOUNT, true);
	CHECK_IS(&b, 0, "box", WRITER_MOUNT, false); /* asks nothing, so needs nothing */
	bench_done(&b);
}

static void put_launcher(struct bench *b, pid_t pid, const char *comm, const char *args)
{
	PUT(b, .pid = pid, .ppid = 100, .start = (unsigned)pid, .comm = comm, .args = args,
		.exe = "/usr/bin/stomp", .uid = 1000);
}

static void test_run(struct bench *b) /* W1b, W2 */
{
	put_launcher(b, 200, "stomp:201", "stomp|run|alice|--|sh|-c|x");
	PUT(b, .pid = 201, .ppid = 200, .start = 201, .comm = "sh", .args = "sh|-c|x");
	PUT(b, .pid = 202, .ppid = 201, .start = 202, .comm = "make", .args = "make");
	/* Double fork and setsid: the subreaper is its parent, its environment is empty. */
	PUT(b, .pid = 203, .ppid = 200, .start = 203, .comm = "server", .session = 203);
	CHECK_IS(b, 202, "alice", WRITER_RUN, false);
	CHECK_IS(b, 201, "alice", WRITER_RUN, true);
	CHECK_IS(b, 203, "alice", WRITER_RUN, false); /* taken in, not started */
	/* An agent inside is its mind; in a pid namespace the launcher has other numbers.
	 */
	PUT(b, .pid = 204, .ppid = 201, .start = 204, .comm = "claude", .args = "claude");
	CHECK_IS(b, 204, "alice", WRITER_RUN, true);
	put_launcher(b, 210, "stomp:3", "stomp|run|--|carol|cmd");
	PUT(b, .pid = 211, .ppid = 210, .start = 211, .comm = "cmd", .nspid = "211\t3");
	PUT(b, .pid = 212, .ppid = 210, .start = 212, .comm = "cmd", .nspid = "212\t4");
	CHECK_IS(b, 211, "carol", WRITER_RUN, true);
	CHECK_IS(b, 212, "carol", WRITER_RUN, false);
	/* Nested: the inner one. */
	PUT(b, .pid = 220, .ppid = 201, .start = 220, .comm = "stomp",
		.args = "stomp|run|bob|--|cmd", .uid = 1000);
	PUT(b, .pid = 221, .ppid = 220, .start = 221, .comm = "cmd", .args = "cmd");
	CHECK_IS(b, 221, "bob", WRITER_RUN, true);
	/* What only looks like one. */
	put_launcher(b, 230, "stomp", "stomp|log|run");
	PUT(b, .pid = 231, .ppid = 230, .start = 231, .comm = "x", .args = "x");
	CHECK_IS(b, 231, "bash-100", WRITER_TERMINAL, false);
	put_launcher(b, 232, "stomp", "stomp|run|unknown|--|x");
	CHECK_IS(b, 232, "bash-100", WRITER_TERMINAL, false);
	put_launcher(b, 233, "stompy", "stomp|run|alice|--|x");
	CHECK_IS(b, 233, "bash-100", WRITER_TERMINAL, false);
}

static void test_run_again(struct bench *b) /* W2 */
{
	/* A second one beside the first is another writer, also when asked again. */
	put_launcher(b, 250, "stomp:251", "stomp|run|alice|cmd");
	PUT(b, .pid = 251, .ppid = 250, .start = 251, .comm = "cmd", .args = "cmd");
	CHECK_IS(b, 251, "alice-250", WRITER_RUN, true);
	CHECK_IS(b, 202, "alice", WRITER_RUN, false);
	/* After the first has ended its name is free, but the second keeps its own. */
	for (pid_t pid = 200; pid <= 204; pid++)
		fake_proc_remove(&b->proc, pid);
	put_launcher(b, 260, "stomp:261", "stomp|run|alice|cmd");
	PUT(b, .pid = 261, .ppid = 260, .start = 261, .comm = "cmd", .args = "cmd");
	CHECK_IS(b, 261, "alice", WRITER_RUN, true);
	CHECK_IS(b, 251, "alice-250", WRITER_RUN, true);
	/* Another uid's alice is not ours. */
	PUT(b, .pid = 270, .ppid = 100, .start = 270, .comm = "stomp:271",
		.args = "stomp|run|alice|cmd", .uid = 1001);
	PUT(b, .pid = 271, .ppid = 270, .start = 271, .comm = "cmd", .args = "cmd");
	CHECK_IS(b, 271, "alice-u1001", WRITER_RUN, true);
	/* The front, seen before its supervisor, is the same run. */
	put_launcher(b, 280, "stomp", "stomp|run|dora|cmd");
	CHECK_IS(b, 280, "dora", WRITER_RUN, false);
	PUT(b, .pid = 281, .ppid = 280, .start = 281, .comm = "stomp:282",
		.args = "stomp|run|dora|cmd", .uid = 1000);
	PUT(b, .pid = 282, .ppid = 281, .start = 282, .comm = "cmd", .args = "cmd");
	CHECK_IS(b, 282, "dora", WRITER_RUN, true);
}

static void test_run_cgroup(struct bench *b) /* W2 */
{
	PUT(b, .pid = 290, .ppid = 1, .start = 290, .comm = "x", .uid = 1000,
		.cgroup = "/a/stomp-al-ice-999/stomp-erin-998/b");
	CHECK_IS(b, 290, "erin", WRITER_RUN, false); /* its launcher was killed */
	put_launcher(b, 291, "stomp:292", "stomp|run|alice|cmd");
	PUT(b, .pid = 293, .ppid = 1, .start = 293, .comm = "x", .uid = 1000,
		.cgroup = "/stomp-alice-291");
	CHECK_IS(b, 293, "alice-291", WRITER_RUN, false); /* 260 runs as alice */
	PUT(b, .pid = 294, .ppid = 1, .start = 294, .comm = "x", .cgroup = "/stomp-x-0");
	CHECK_IS(b, 294, "x-294", WRITER_ANCESTOR, true);
}

static void test_agents(struct bench *b) /* W1c, W2 */
{
	PUT(b, .pid = 300, .ppid = 100, .start = 300, .comm = "claude", .args = "claude",
		.exe = "/home/a/.local/share/claude/versions/2.0.1", .session = 100);
	PUT(b, .pid = 301, .ppid = 300, .start = 301, .comm = "zsh",
		.args = "/bin/zsh|-c|claude x", .session = 301);
	PUT(b, .pid = 302, .ppid = 301, .start = 302, .comm = "sed", .args = "sed|-i|x|f");
	PUT(b, .pid = 303, .ppid = 300, .start = 303, .comm = "claude", .args = "claude|x");
	PUT(b, .pid = 304, .ppid = 301, .start = 304, .comm = "2.0.1", .args = "rg|x",
		.exe = "/opt/claude");
	PUT(b, .pid = 305, .ppid = 301, .start = 305, .comm = "claude",
		.args = "claude|-p|x");
	CHECK_IS(b, 300, "claude-300", WRITER_AGENT, true);
	CHECK_IS(b, 301, "claude-300", WRITER_AGENT, false);
	CHECK_IS(b, 302, "claude-300", WRITER_AGENT, false);
	CHECK_IS(b, 303, "claude-300", WRITER_AGENT, true);  /* a helper of its own */
	CHECK_IS(b, 304, "claude-300", WRITER_AGENT, false); /* its embedded grep */
	CHECK_IS(b, 305, "claude-305", WRITER_AGENT, true);  /* another instance */
	PUT(b, .pid = 310, .ppid = 100, .start = 310, .comm = "MainThread",
		.args = "node|--max-old-space-size=4096|/usr/lib/node_modules/@google/"
			"gemini-cli/dist/index.js",
		.exe = "/usr/bin/node");
	PUT(b, .pid = 311, .ppid = 310, .start = 311, .comm = "MainThread",
		.args = "/usr/bin/node|--x|/usr/lib/node_modules/@google/gemini-cli/a.js");
	CHECK_IS(b, 311, "gemini-310", WRITER_AGENT, true);
	PUT(b, .pid = 312, .ppid = 100, .start = 312, .comm = "node",
		.args = "npx|@qwen-code/qwen-code@latest");
	CHECK_IS(b, 312, "qwen-312", WRITER_AGENT, true);
	PUT(b, .pid = 313, .ppid = 100, .start = 313, .comm = "python3",
		.args = "python3|-m|aider");
	CHECK_IS(b, 313, "aider-313", WRITER_AGENT, true);
	PUT(b, .pid = 314, .ppid = 100, .start = 314, .comm = "vim",
		.args = "vim|claude.py", .exe = "/usr/bin/vim");
	CHECK_IS(b, 314, "bash-100", WRITER_TERMINAL, false);
	PUT(b, .pid = 315, .ppid = 100, .start = 315, .comm = "node",
		.args = "node|-e|claude");
	CHECK_IS(b, 315, "bash-100", WRITER_TERMINAL, false);
}

static void test_agent_parts(struct bench *b) /* W1c */
{
	/* Codex writes through a short-lived part of itself in a sandbox. */
	PUT(b, .pid = 320, .ppid = 100, .start = 320, .comm = "node",
		.args = "node|/usr/bin/codex", .exe = "/usr/bin/node");
	PUT(b, .pid = 321, .ppid = 320, .start = 321, .comm = "codex",
		.args = "/opt/codex/codex", .exe = "/opt/codex/codex");
	PUT(b, .pid = 322, .ppid = 321, .start = 322, .comm = "bwrap", .args = "bwrap|x");
	PUT(b, .pid = 323, .ppid = 322, .start = 323, .comm = "codex",
		.args = "/opt/codex/codex|--codex-run-as-apply-patch|x",
		.exe = "/opt/codex/codex", .nspid = "323\t2");
	PUT(b, .pid = 324, .ppid = 322, .start = 324, .comm = "bash", .args = "bash|-lc|x");
	PUT(b, .pid = 325, .ppid = 324, .start = 325, .comm = "apply_patch",
		.args = "apply_patch|x", .exe = "/opt/codex/codex");
	PUT(b, .pid = 326, .ppid = 324, .start = 326, .comm = "codex", .args = "codex|exec",
		.exe = "/opt/codex/codex");
	CHECK_IS(b, 321, "codex-320", WRITER_AGENT, true);
	CHECK_IS(b, 323, "codex-320", WRITER_AGENT, true);
	CHECK_IS(b, 324, "codex-320", WRITER_AGENT, false);
	CHECK_IS(b, 325, "codex-320", WRITER_AGENT, true);
	CHECK_IS(b, 326, "codex-326", WRITER_AGENT, true);
	/* An MCP server works for the agent that started it; else for itself. */
	PUT(b, .pid = 330, .ppid = 300, .start = 330, .comm = "node",
		.args = "node|/x/@modelcontextprotocol/server-filesystem/dist/index.js|/w");
	PUT(b, .pid = 331, .ppid = 1, .start = 331, .comm = "mcp-server-file",
		.args = "mcp-server-filesystem|/w");
	CHECK_IS(b, 330, "claude-300", WRITER_AGENT, true);
	CHECK_IS(b, 331, "mcp-server-filesystem-331", WRITER_AGENT, true);
}

static void test_variables(struct bench *b) /* W1d */
{
	PUT(b, .pid = 400, .ppid = 1, .start = 400, .comm = "node", .uid = 1000,
		.env = "A=1|CLAUDE_CODE_SESSION_ID=0123456789abcdef|CLAUDECODE=1");
	CHECK_IS(b, 400, "claude-01234567", WRITER_VARIABLE, false);
	PUT(b, .pid = 401, .ppid = 400, .start = 401, .comm = "x", .uid = 1000);
	CHECK_IS(b, 401, "claude-01234567", WRITER_VARIABLE, false);
	PUT(b, .pid = 402, .ppid = 1, .start = 402, .comm = "x", .uid = 1001,
		.env = "CLAUDE_CODE_SESSION_ID=0123456789abcdef");
	CHECK_IS(b, 402, "claude-01234567-u1001", WRITER_VARIABLE, false);
	PUT(b, .pid = 403, .ppid = 1, .start = 403, .comm = "x", .uid = 1000,
		.env = "GEMINI_CLI=1");
	CHECK_IS(b, 403, "gemini", WRITER_VARIABLE, false);
	/* STOMP_AGENT first, wherever it is; of two of it the nearer one. */
	PUT(b, .pid = 410, .ppid = 100, .start = 410, .comm = "py", .uid = 1000,
		.env = "STOMP_AGENT=my agent!");
	PUT(b, .pid = 411, .ppid = 410, .start = 411, .comm = "x", .uid = 1000,
		.env = "CODEX_THREAD_ID=99|STOMP_AGENT=my agent!");
	PUT(b, .pid = 412, .ppid = 411, .start = 412, .comm = "x", .uid = 1000,
		.env = "STOMP_AGENT=inner");
	CHECK_IS(b, 410, "my_agent_", WRITER_VARIABLE, true);
	CHECK_IS(b, 411, "my_agent_", WRITER_VARIABLE, false);
	CHECK_IS(b, 412, "inner", WRITER_VARIABLE, true);
	/* Forged by another uid; forged to be what it is not. */
	PUT(b, .pid = 413, .ppid = 1, .start = 413, .comm = "x", .uid = 1001,
		.env = "STOMP_AGENT=inner");
	CHECK_IS(b, 413, "inner-u1001", WRITER_VARIABLE, true);
	PUT(b, .pid = 414, .ppid = 1, .start = 414, .comm = "x", .uid = 1000,
		.env = "STOMP_AGENT=stompfs");
	CHECK_IS(b, 414, "stompfs-u1000", WRITER_VARIABLE, true);
	PUT(b, .pid = 415, .ppid = 1, .start = 415, .comm = "x", .uid = 1000,
		.env = "STOMP_AGENT=claude-300");
	CHECK_IS(b, 415, "claude-300-u1000", WRITER_VARIABLE, true);
	/* A child of a run that has lost its launcher is still that writer. */
	PUT(b, .pid = 416, .ppid = 1, .start = 416, .comm = "x", .uid = 1000,
		.env = "STOMP_AGENT=alice");
	CHECK_IS(b, 416, "alice", WRITER_VARIABLE, true);
	/* One of that name by variable, and a run of it, are one. */
	PUT(b, .pid = 417, .ppid = 100, .start = 417, .comm = "x", .uid = 1000,
		.env = "STOMP_AGENT=frank");
	CHECK_IS(b, 417, "frank", WRITER_VARIABLE, true);
	put_launcher(b, 418, "stomp:419", "stomp|run|frank|cmd");
	PUT(b, .pid = 419, .ppid = 418, .start = 419, .comm = "cmd", .args = "cmd");
	CHECK_IS(b, 419, "frank", WRITER_RUN, true);
	/* A child that outlives its agent is still its own, if it was seen before. */
	PUT(b, .pid = 420, .ppid = 301, .start = 420, .comm = "x", .uid = 1000,
		.env = "CLAUDE_CODE_SESSION_ID=feed");
	CHECK_IS(b, 420, "claude-300", WRITER_AGENT, false);
	PUT(b, .pid = 421, .ppid = 1, .start = 421, .comm = "x", .uid = 1000,
		.env = "CLAUDE_CODE_SESSION_ID=feed");
	CHECK_IS(b, 421, "claude-300", WRITER_VARIABLE, false);
}

static void test_terminal_and_ancestor(struct bench *b) /* W1e, W1f */
{
	PUT(b, .pid = 500, .ppid = 100, .start = 500, .comm = "vim", .args = "vim|f",
		.session = 100, .tty = 34816);
	CHECK_IS(b, 500, "bash-100", WRITER_TERMINAL, false);
	CHECK_IS(b, 100, "bash-100", WRITER_TERMINAL, true);
	PUT(b, .pid = 510, .ppid = 1, .start = 510, .comm = "cron", .session = 510);
	PUT(b, .pid = 511, .ppid = 510, .start = 511, .comm = "sh", .session = 511);
	CHECK_IS(b, 511, "cron-510", WRITER_ANCESTOR, false);
	CHECK_IS(b, 510, "cron-510", WRITER_ANCESTOR, true);
	PUT(b, .pid = 520, .ppid = 510, .start = 520, .comm = "tini");
	PUT(b, .pid = 521, .ppid = 520, .start = 521, .comm = "app");
	CHECK_IS(b, 521, "app-521", WRITER_ANCESTOR, true);
	PUT(b, .pid = 530, .ppid = 510, .start = 530, .comm = "own", .nspid = "530\t1");
	PUT(b, .pid = 531, .ppid = 530, .start = 531, .comm = "in", .nspid = "531\t2");
	CHECK_IS(b, 531, "in-531", WRITER_ANCESTOR, true);
	CHECK_IS(b, 1, "systemd-1", WRITER_ANCESTOR, true);
	/* A loop of parents ends too. */
	PUT(b, .pid = 540, .ppid = 541, .start = 540, .comm = "a");
	PUT(b, .pid = 541, .ppid = 540, .start = 540, .comm = "b");
	CHECK_EQ(look(b, 540).rule, WRITER_ANCESTOR);
}

static void test_names(struct bench *b)
{
	/* comm with blanks and parentheses, and bytes nobody wants in a table */
	PUT(b, .pid = 600, .ppid = 1, .start = 600, .comm = ") S 1 (\x1b[31m\xff");
	CHECK_IS(b, 600, "__S_1____31m_-600", WRITER_ANCESTOR, true);
}

static void test_pid_reuse(struct bench *b) /* W3 */
{
	struct process *before, *after;

	PUT(b, .pid = 700, .ppid = 1, .start = 700, .comm = "job");
	before = identity_take(b->id, 700, 0, 0);
	CHECK(process_alive(b->id, before));
	PUT(b, .pid = 700, .ppid = 1, .start = 701, .comm = "job");
	CHECK(!process_alive(b->id, before));
	after = identity_take(b->id, 700, 0, 0);
	CHECK(after->serial != before->serial);
	CHECK(after->writer != before->writer);
	CHECK_STR(before->writer->name, "job-700");
	CHECK_STR(after->writer->name, "job-700-2"); /* the name was taken */
	CHECK_EQ(after->start_ns - before->start_ns, 1000000000LL / sysconf(_SC_CLK_TCK));
	PUT(b, .pid = 700, .ppid = 1, .start = 701, .comm = "job", .state = 'Z');
	CHECK(!process_alive(b->id, after));
	process_put(b->id, before);
	process_put(b->id, after);
	/* A parent that is younger than its child has only its pid. */
	PUT(b, .pid = 710, .ppid = 711, .start = 710, .comm = "orphan");
	PUT(b, .pid = 711, .ppid = 100, .start = 712, .comm = "claude", .args = "claude");
	CHECK_IS(b, 710, "orphan-710", WRITER_ANCESTOR, true);
}

static void test_threads(struct bench *b) /* W3 */
{
	PUT(b, .pid = 720, .ppid = 1, .start = 720, .comm = "server");
	PUT(b, .pid = 721, .ppid = 1, .start = 725, .comm = "worker", .tgid = 720);
	CHECK_EQ(look(b, 721).serial, look(b, 720).serial);
	CHECK_IS(b, 721, "server-720", WRITER_ANCESTOR, true);
}

static const struct viewer_case {
	const char *comm, *args;
	bool is_viewer;
} viewer_cases[] = {
	{"cat", "cat|f", true},
	{"coreutils", "/usr/bin/head|-n|5|f", true},
	{"batcat", "batcat|f", true},
	{"sed", "sed|-n|1,5p|f", true},
	{"sed", "sed|-En|p|f", true},
	{"sed", "sed|-e|p|--quiet|f", true},
	{"sed", "sed|s/n/x/|f", false},
	{"sed", "sed|-es/n/x/|f", false},
	{"sed", "sed|-n|-i|p|f", false},
	{"sed", "sed|-ni.bak|p|f", false},
	{"sed", "sed|-n|--in-place=x|p|f", false},
	{"sed", "sed|--|-n|f", false},
	{"grep", "grep|-n|x|f", false},
	{"awk", "awk|1|f", false},
	{"category", "category|f", false},
	{"sh", "sh|-c|cat f", false},
};

static void test_viewers(struct bench *b) /* S1 */
{
	struct seen before, after;

	for (size_t i = 0; i < sizeof(viewer_cases) / sizeof(*viewer_cases); i++) {
		const struct viewer_case *c = &viewer_cases[i];

		PUT(b, .pid = 800, .ppid = 100, .start = 800 + i, .comm = c->comm,
			.args = c->args);
		if (look(b, 800).is_viewer != c->is_viewer) {
			fprintf(stderr, "%s: viewer is not %d\n", c->args, c->is_viewer);
			exit(1);
		}
	}
	/* A shell's child opens the redirection, then it becomes cat. */
	PUT(b, .pid = 801, .ppid = 301, .start = 801, .comm = "sh", .args = "sh|-c|cat");
	before = look(b, 801);
	CHECK(!before.is_viewer);
	PUT(b, .pid = 801, .ppid = 301, .start = 801, .comm = "cat", .args = "cat|f");
	after = look(b, 801);
	CHECK(after.is_viewer);
	CHECK_EQ(after.serial, before.serial);
	CHECK_STR(after.writer, before.writer);
	/* It execs once its agent has gone: still whose it was. */
	PUT(b, .pid = 801, .ppid = 1, .start = 801, .comm = "tail", .args = "tail|f");
	CHECK_IS(b, 801, "claude-300", WRITER_AGENT, false);
	/* It becomes an agent itself: that says more than the shell above it. */
	PUT(b, .pid = 802, .ppid = 100, .start = 802, .comm = "bash", .args = "-bash");
	CHECK_IS(b, 802, "bash-100", WRITER_TERMINAL, false);
	PUT(b, .pid = 802, .ppid = 100, .start = 802, .comm = "codex", .args = "codex");
	CHECK_IS(b, 802, "codex-802", WRITER_AGENT, true);
	PUT(b, .pid = 803, .ppid = 100, .start = 803, .comm = "bash", .args = "-bash");
	CHECK_IS(b, 803, "bash-100", WRITER_TERMINAL, false);
	PUT(b, .pid = 803, .ppid = 100, .start = 803, .comm = "py", .args = "py",
		.env = "STOMP_AGENT=own", .uid = 1000);
	CHECK_IS(b, 803, "own", WRITER_VARIABLE, true);
}

static void test_journal_names(void)
{
	struct bench b;
	struct writer *alice, *claude;

	bench_init(&b, NULL);
	alice = identity_writer(b.id, "alice", 1000);
	claude = identity_writer(b.id, "claude-300", 1000);
	CHECK(identity_writer(b.id, "alice", 1000) == alice);
	CHECK(identity_find_writer(b.id, "alice") == alice);
	CHECK(identity_find_writer(b.id, "nobody") == NULL);
	CHECK(identity_find_writer(b.id, "unknown")->id == 0);
	put_shell(&b);
	put_launcher(&b, 200, "stomp:201", "stomp|run|alice|cmd");
	PUT(&b, .pid = 201, .ppid = 200, .start = 201, .comm = "cmd", .args = "cmd");
	CHECK_EQ(look(&b, 201).writer_id, alice->id); /* the same author again */
	CHECK_EQ(alice->rule, WRITER_RUN);
	/* The same pid is not the same agent. */
	PUT(&b, .pid = 300, .ppid = 100, .start = 300, .comm = "claude", .args = "claude");
	CHECK_IS(&b, 300, "claude-300-2", WRITER_AGENT, true);
	CHECK(look(&b, 300).writer_id != claude->id);
	/* Another uid's journal name is not ours. */
	identity_writer(b.id, "bob", 5);
	PUT(&b, .pid = 400, .ppid = 1, .start = 400, .comm = "x", .uid = 1000,
		.env = "STOMP_AGENT=bob");
	CHECK_IS(&b, 400, "bob-u1000", WRITER_VARIABLE, true);
	bench_done(&b);
}

static void count_processes(const struct writer *w, uint32_t n, void *ctx)
{
	if (strcmp(w->name, "alice") == 0)
		*(uint32_t *)ctx = n;
}

static void test_explain_and_counts(struct bench *b) /* W4 */
{
	struct process *p = identity_take(b->id, 261, 1000, 1000);
	auto_buf text = {0};
	uint32_t n = 0;

	process_explain(b->id, p, &text);
	CHECK(strstr(text.data, "alice") && strstr(text.data, "process 260 (stomp:261)"));
	CHECK_STR(p->command, "cmd");
	process_put(b->id, p);
	identity_each_writer(b->id, count_processes, &n);
	CHECK_EQ(n, 2); /* 261 and 416; 201 to 204 have gone */
	CHECK_STR(writer_rule_name(WRITER_RUN), "run");
	CHECK_EQ(identity_daemon(b->id)->pid, getpid());
	CHECK_STR(identity_daemon(b->id)->writer->name, "stompfs");
}

static int errno_of(struct bench *b, pid_t tid)
{
	struct process *p = identity_take(b->id, tid, 1000, 1000);
	int error = p->writer->refusal_errno;

	process_put(b->id, p);
	return error;
}

/* P1, S1: whoever is looked up from now on is known by the new table. */
static void test_another_table(void)
{
	static const char *const house[] = {"house", NULL}, *const claude[] = {
								    "claude", NULL};
	static const char *const shows[] = {"glow", NULL};
	static const struct agent_entry agents[] = {{.name = "house", .programs = house},
		{.name = "claude", .programs = claude, .refusal_errno = EBUSY},
		{.name = NULL}};
	static const struct writer_table table = {agents, shows};
	struct bench b;

	bench_init(&b, NULL);
	put_shell(&b);
	PUT(&b, .pid = 110, .ppid = 100, .start = 20, .comm = "house", .args = "house");
	PUT(&b, .pid = 111, .ppid = 100, .start = 20, .comm = "cat", .args = "cat|x");
	PUT(&b, .pid = 112, .ppid = 100, .start = 20, .comm = "claude", .args = "claude");
	CHECK_IS(&b, 110, "bash-100", WRITER_TERMINAL, false);
	CHECK(look(&b, 111).is_viewer);
	CHECK_EQ(errno_of(&b, 112), 0);
	identity_set_table(b.id, &table);
	CHECK_IS(&b, 110, "bash-100", WRITER_TERMINAL, false); /* it stays who it was */
	CHECK(look(&b, 111).is_viewer);
	PUT(&b, .pid = 120, .ppid = 100, .start = 30, .comm = "house", .args = "house");
	PUT(&b, .pid = 121, .ppid = 100, .start = 30, .comm = "cat", .args = "cat|x");
	PUT(&b, .pid = 122, .ppid = 100, .start = 30, .comm = "glow", .args = "glow|x");
	PUT(&b, .pid = 123, .ppid = 112, .start = 30, .comm = "sh", .args = "sh|-c|x");
	CHECK_IS(&b, 120, "house-120", WRITER_AGENT, true);
	CHECK(!look(&b, 121).is_viewer);
	CHECK(look(&b, 122).is_viewer);
	CHECK_EQ(errno_of(&b, 123), EBUSY); /* the same writer, told anew */
	CHECK_EQ(errno_of(&b, 112), EBUSY);
	bench_done(&b);
}

/* S14: an agent under a launcher, too, is told what its runtime prints readably. */
static void test_errno_under_run(void)
{
	struct bench b;

	bench_init(&b, NULL);
	put_shell(&b);
	put_launcher(&b, 200, "stomp:201", "stomp|run|alice|--|sh");
	PUT(&b, .pid = 201, .ppid = 200, .start = 201, .comm = "sh", .args = "sh");
	CHECK_EQ(errno_of(&b, 201), 0);
	PUT(&b, .pid = 202, .ppid = 201, .start = 202, .comm = "node",
		.args = "node|/usr/lib/node_modules/@google/gemini-cli/dist/index.js");
	CHECK_EQ(errno_of(&b, 202), EBUSY);
	CHECK_STR(look(&b, 202).writer, "alice");
	bench_done(&b);
	bench_init(&b, "box"); /* everybody's: there the mount decides */
	put_shell(&b);
	put_launcher(&b, 200, "stomp:201", "stomp|run|alice|--|gemini");
	PUT(&b, .pid = 201, .ppid = 200, .start = 201, .comm = "gemini", .args = "gemini");
	CHECK_EQ(errno_of(&b, 201), 0);
	bench_done(&b);
}

int main(void)
{
	struct bench b;

	bench_init(&b, NULL);
	put_shell(&b);
	test_unknown(&b);
	test_run(&b);
	test_run_again(&b);
	test_run_cgroup(&b);
	test_agents(&b);
	test_agent_parts(&b);
	test_variables(&b);
	test_terminal_and_ancestor(&b);
	test_names(&b);
	test_pid_reuse(&b);
	test_threads(&b);
	test_viewers(&b);
	test_explain_and_counts(&b);
	bench_done(&b);
	test_mount();
	test_journal_names();
	test_another_table();
	test_errno_under_run();
	return 0;
}
