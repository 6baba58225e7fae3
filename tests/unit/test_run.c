/* `stomp run` (W1b, W2) with real processes and terminals. argv[1]: the command. */
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "check.h"
#include "policy/identity.h"

enum { PATIENCE_MS = 20000, OUTPUT_SIZE = 8192 };

static const char *stomp;

struct job {
	pid_t pid;
	int out; /* a pipe or a terminal's master */
	char text[OUTPUT_SIZE];
	size_t len;
};

static void job_exec(char *const argv[])
{
	execv(stomp, argv);
	_exit(99);
}

/* `stomp run` and these words, output and errors to a pipe. */
static void job_start(struct job *j, char *const argv[])
{
	int ends[2];

	*j = (struct job){0};
	CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
	j->pid = fork();
	CHECK(j->pid >= 0);
	if (j->pid == 0) {
		dup2(ends[1], 1);
		dup2(ends[1], 2);
		job_exec(argv);
	}
	close(ends[1]);
	j->out = ends[0];
}

#define ARGV(...)                                                                          \
	((char *const[]){                                                                  \
		(char *)(uintptr_t)stomp, (char *)(uintptr_t) "run", __VA_ARGS__, NULL})
#define W(s) ((char *)(uintptr_t)(s))

/* Reads until text is there, or the end when text is NULL. */
static bool job_expect(struct job *j, const char *text)
{
	while (!text || !strstr(j->text, text)) {
		struct pollfd p = {.fd = j->out, .events = POLLIN};
		ssize_t n;

		if (poll(&p, 1, PATIENCE_MS) != 1 || j->len == OUTPUT_SIZE - 1)
			return false;
		n = read(j->out, j->text + j->len, OUTPUT_SIZE - 1 - j->len);
		if (n <= 0)
			return !text;
		j->len += (size_t)n;
		j->text[j->len] = '\0';
	}
	return true;
}

#define EXPECT(j, words)                                                                   \
	do {                                                                               \
		if (!job_expect(j, words)) {                                               \
			fprintf(stderr, "%s:%d: no \"%s\" in: %s\n", __FILE__, __LINE__,   \
				words, (j)->text);                                         \
			exit(1);                                                           \
		}                                                                          \
	} while (0)

/* As a shell's $? would have it. */
static int job_wait(struct job *j)
{
	int status;

	CHECK_EQ(waitpid(j->pid, &status, 0), j->pid);
	close(j->out);
	if (WIFSIGNALED(status))
		return 128 + WTERMSIG(status);
	CHECK(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int run_status(char *const argv[], const char *output)
{
	struct job j;
	int status;

	job_start(&j, argv);
	CHECK(job_expect(&j, NULL));
	status = job_wait(&j);
	if (!strstr(j.text, output)) {
		fprintf(stderr, "no \"%s\" in: %s\n", output, j.text);
		exit(1);
	}
	return status;
}

static int run_sh(const char *script, const char *output)
{
	return run_status(ARGV(W("alice"), W("--"), W("sh"), W("-c"), W(script)), output);
}

static void test_statuses(void)
{
	CHECK_EQ(run_sh("exit 0", ""), 0);
	CHECK_EQ(run_sh("exit 7", ""), 7);
	CHECK_EQ(run_sh("kill -TERM $$", ""), 128 + SIGTERM);
	CHECK_EQ(run_sh("kill -KILL $$", ""), 128 + SIGKILL);
	CHECK_EQ(run_sh("kill -INT $$", ""), 128 + SIGINT);
	CHECK_EQ(run_sh("echo is $STOMP_AGENT", "is alice\n"), 0);
	CHECK_EQ(
		run_status(ARGV(W("--"), W("alice"), W("echo"), W("--help")), "--help"), 0);
	CHECK_EQ(run_status(
			 ARGV(W("alice"), W("/no/such")), "cannot start /no/such: No such"),
		127);
	CHECK_EQ(run_status(ARGV(W("alice"), W("/etc/passwd")), "Permission denied"), 126);
	CHECK_EQ(run_status(ARGV(W("a/b"), W("true")), "cannot be a writer's name"), 2);
	CHECK_EQ(run_status(ARGV(W("unknown"), W("true")), "cannot be a writer's name"), 2);
	CHECK_EQ(run_status(ARGV(W("--"), W("-x"), W("true")), "cannot be a writer's"), 2);
	CHECK_EQ(run_status(ARGV(W("-x"), W("true")), "-x"), 2);
	CHECK_EQ(run_status(ARGV(W("alice")), "what to run as alice"), 2);
	CHECK_EQ(run_status(ARGV(W("--help")), "usage: stomp run"), 0);
}

/* Dispositions and masks are the command's as they were ours. */
static void test_signal_state(void)
{
	signal(SIGHUP, SIG_IGN);
	CHECK_EQ(run_sh("kill -HUP $$; echo lives", "lives"), 0);
	signal(SIGHUP, SIG_DFL);
	CHECK_EQ(run_sh("kill -HUP $$; echo lives", ""), 128 + SIGHUP);
	signal(SIGCHLD, SIG_IGN); /* kept for the command, harmless for the launcher */
	{
		int status;
		pid_t pid = fork();

		if (pid == 0)
			job_exec(ARGV(W("alice"), W("sh"), W("-c"), W("exit 3")));
		signal(SIGCHLD, SIG_DFL);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(WEXITSTATUS(status), 3);
	}
}

static void test_passes_signals_on(void)
{
	static const struct {
		int sig;
		const char *script;
		int status;
	} cases[] = {
		{SIGTERM,
			"trap 'echo got; exit 5' TERM; echo up; while :; do sleep 0.05; "
			"done",
			5},
		{SIGHUP,
			"trap 'echo got; exit 6' HUP; echo up; while :; do sleep 0.05; "
			"done",
			6},
		{SIGINT,
			"trap 'echo got; exit 7' INT; echo up; while :; do sleep 0.05; "
			"done",
			7},
		{SIGUSR1,
			"trap 'echo got; exit 8' USR1; echo up; while :; do sleep 0.05; "
			"done",
			8},
		{SIGTERM, "echo got; echo up; exec sleep 100", 128 + SIGTERM},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct job j;

		job_start(&j, ARGV(W("alice"), W("sh"), W("-c"), W(cases[i].script)));
		EXPECT(&j, "up\n");
		kill(j.pid, cases[i].sig);
		EXPECT(&j, "got\n");
		CHECK_EQ(job_wait(&j), cases[i].status);
	}
}

/* A terminal of its own for the job, as a shell would give it. */
static void job_start_on_terminal(struct job *j, char *const argv[])
{
	*j = (struct job){0};
	j->pid = forkpty(&j->out, NULL, NULL, NULL);
	CHECK(j->pid >= 0);
	if (j->pid == 0)
		job_exec(argv);
}

static void job_type(struct job *j, const char *keys)
{
	j->len = 0;
	j->text[0] = '\0';
	CHECK_EQ(write(j->out, keys, strlen(keys)), (ssize_t)strlen(keys));
}

/* Press a key, then have the shell that has the terminal afterwards say "sync". The key
 * may come before the one it is for has the terminal: then press it again. */
static void press(struct job *j, char key)
{
	char keys[32];

	snprintf(keys, sizeof(keys), "%cecho sy''nc\n", key);
	for (int i = 0; i < PATIENCE_MS / 500; i++) {
		struct pollfd p = {.fd = j->out, .events = POLLIN};

		CHECK_EQ(write(j->out, keys, strlen(keys)), (ssize_t)strlen(keys));
		while (poll(&p, 1, 500) == 1) {
			ssize_t n =
				read(j->out, j->text + j->len, OUTPUT_SIZE - 1 - j->len);

			CHECK(n > 0);
			j->len += (size_t)n;
			j->text[j->len] = '\0';
			if (strstr(j->text, "sync"))
				return;
		}
	}
	EXPECT(j, "sync");
}

static void test_terminal(void)
{
	struct job j;

	job_start_on_terminal(
		&j, ARGV(W("alice"), W("sh"), W("-c"), W("echo up; exec sleep 100")));
	EXPECT(&j, "up");
	job_type(&j, "\x03");
	CHECK_EQ(job_wait(&j), 128 + SIGINT);
	/* Only the command decides about Ctrl-C. */
	job_start_on_terminal(&j, ARGV(W("alice"), W("sh"), W("-c"),
					  W("trap 'echo one' INT; echo up; while ! read x; "
					    "do :; done; exit 4")));
	EXPECT(&j, "up");
	job_type(&j, "\x03");
	EXPECT(&j, "one");
	job_type(&j, "x\n");
	EXPECT(&j, "x");
	CHECK_EQ(job_wait(&j), 4);
}

/* An interactive shell below, and one above that has the launcher as a job. */
static void test_job_control(void)
{
	struct job j = {0};
	char line[512];

	j.pid = forkpty(&j.out, NULL, NULL, NULL);
	CHECK(j.pid >= 0);
	if (j.pid == 0) {
		setenv("PS1", "outer$ ", 1);
		execlp("bash", "bash", "--norc", "--noprofile", "--noediting", "-i", NULL);
		_exit(99);
	}
	EXPECT(&j, "outer$ ");
	snprintf(line, sizeof(line),
		"%s run me -- sh -c 'echo re\"\"ady; exec sleep 100'\n", stomp);
	job_type(&j, line);
	EXPECT(&j, "ready");
	press(&j, 'Z' & 0x1f);
	CHECK(strstr(j.text, "Stopped"));
	job_type(&j, "fg\n");
	EXPECT(&j, "run me -- sh");
	press(&j, 'C' & 0x1f);
	snprintf(line, sizeof(line),
		"PS1='in''ner$ ' %s run me -- bash --norc --noprofile --noediting -i\n",
		stomp);
	job_type(&j, line);
	EXPECT(&j, "inner$ ");
	CHECK(!strstr(j.text, "job control")); /* it has the terminal: no complaint */
	job_type(&j, "sh -c 'echo re\"\"ady; exec sleep 100'\n");
	EXPECT(&j, "ready");
	press(&j, 'Z' & 0x1f);
	CHECK(strstr(j.text, "Stopped"));
	job_type(&j, "kill %1; suspend\n"); /* the inner shell itself */
	EXPECT(&j, "outer$ ");
	job_type(&j, "fg\n");
	EXPECT(&j, "inner$ ");
	job_type(&j, "exit 3\n");
	EXPECT(&j, "outer$ ");
	job_type(&j, "echo st=$?; exit\n");
	EXPECT(&j, "st=3");
	while (read(j.out, line, sizeof(line)) > 0)
		;
	CHECK_EQ(job_wait(&j), 0);
}

static struct identity *real_identity(int *proc_fd)
{
	struct identity_options options = {
		.table = writer_table_builtin(), .clock = clock_system()};
	struct identity *id;

	*proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	options.proc_fd = *proc_fd;
	CHECK_EQ(identity_new(&id, &options), 0);
	return id;
}

static void check_writer(struct identity *id, pid_t pid, const char *name, bool is_mind)
{
	struct process *p = identity_take(id, pid, getuid(), getgid());

	CHECK_STR(p->writer->name, name);
	CHECK_EQ(p->rule, WRITER_RUN);
	CHECK_EQ(p->is_mind, is_mind);
	process_put(id, p);
}

static pid_t number_after(const struct job *j, const char *word)
{
	const char *at = strstr(j->text, word);

	CHECK(at != NULL);
	return (pid_t)strtol(at + strlen(word), NULL, 10);
}

static pid_t parent_of(pid_t pid)
{
	char path[64], text[1024], *close;
	FILE *f;
	int parent;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	CHECK(f != NULL && fgets(text, sizeof(text), f) != NULL);
	fclose(f);
	close = strrchr(text, ')');
	CHECK(close && sscanf(close + 1, " %*c %d", &parent) == 1);
	return parent;
}

static void wait_until_gone(pid_t pid)
{
	for (int i = 0; i < PATIENCE_MS / 10 && kill(pid, 0) == 0; i++)
		usleep(10000);
	CHECK(kill(pid, 0) < 0);
}

/* Detached by two forks, in a session of its own, with nothing in its environment. */
static void test_detached(struct identity *id) /* W2 */
{
	static const char script[] =
		"echo cmd=$$.; (env -i setsid sh -c 'sh -c \"exec sleep 97\" "
		"</dev/null >/dev/null 2>&1 & echo orphan=$!.'); read x; exit 9";
	struct job j, again;
	pid_t orphan, supervisor;
	int in[2], former = dup(0);

	CHECK_EQ(pipe2(in, O_CLOEXEC), 0);
	dup2(in[0], 0);
	job_start(&j, ARGV(W("alice"), W("sh"), W("-c"), W(script)));
	dup2(former, 0);
	close(former);
	EXPECT(&j, "orphan=");
	EXPECT(&j, ".\norphan"); /* both numbers whole */
	orphan = number_after(&j, "orphan=");
	check_writer(id, number_after(&j, "cmd="), "alice", true);
	check_writer(id, orphan, "alice", false);
	supervisor = parent_of(number_after(&j, "cmd="));
	for (int i = 0; i < PATIENCE_MS / 10 && parent_of(orphan) != supervisor; i++)
		usleep(10000);
	CHECK_EQ(parent_of(orphan), supervisor);
	check_writer(id, orphan, "alice", false);
	/* The user gets the prompt back, and everything that reads our pipe its end. */
	close(in[1]);
	close(in[0]);
	CHECK(job_expect(&j, NULL));
	CHECK_EQ(job_wait(&j), 9);
	CHECK_EQ(kill(supervisor, 0), 0);
	check_writer(id, orphan, "alice", false);
	/* It lives, so a second run of the name is a second writer. */
	job_start(&again,
		ARGV(W("alice"), W("sh"), W("-c"), W("echo cmd=$$.; exec sleep 9")));
	EXPECT(&again, ".\n");
	{
		char name[64];
		pid_t cmd = number_after(&again, "cmd=");

		snprintf(name, sizeof(name), "alice-%d", (int)parent_of(cmd));
		check_writer(id, cmd, name, true);
	}
	kill(again.pid, SIGTERM);
	CHECK_EQ(job_wait(&again), 128 + SIGTERM);
	kill(orphan, SIGKILL);
	wait_until_gone(supervisor); /* with the last of its tree */
}

static void test_one_after_the_other(struct identity *id) /* W1b */
{
	for (int i = 0; i < 5; i++) {
		struct job j;

		job_start(&j,
			ARGV(W("bob"), W("sh"), W("-c"), W("echo cmd=$$.; exec sleep 9")));
		EXPECT(&j, ".\n");
		check_writer(id, number_after(&j, "cmd="), "bob", true);
		kill(j.pid, SIGTERM);
		CHECK_EQ(job_wait(&j), 128 + SIGTERM);
	}
}

static void test_nested_and_namespace(struct identity *id) /* W2 */
{
	char script[512];
	struct job j;

	snprintf(script, sizeof(script),
		"exec %s run inner -- sh -c 'echo cmd=$$.; exec sleep 9'", stomp);
	job_start(&j, ARGV(W("outer"), W("sh"), W("-c"), W(script)));
	EXPECT(&j, ".\n");
	check_writer(id, number_after(&j, "cmd="), "inner", true);
	kill(j.pid, SIGTERM);
	CHECK_EQ(job_wait(&j), 128 + SIGTERM);
	/* Its own pid namespace, with nothing in the environment. */
	job_start(&j, ARGV(W("boxed"), W("sh"), W("-c"),
			      W("env -i unshare --pid --fork sh -c 'sleep 98 & wait' "
				"2>/dev/null & u=$!; "
				"until p=$(pgrep -P $(pgrep -P $u)) 2>/dev/null; do "
				"kill -0 $u || break; sleep 0.1; done; "
				"echo in=$p.; wait")));
	EXPECT(&j, ".\n");
	if (number_after(&j, "in=") > 0) {
		check_writer(id, number_after(&j, "in="), "boxed", false);
		kill(number_after(&j, "in="), SIGKILL);
	} else {
		puts("unshare --pid is not permitted: not tested");
	}
	CHECK_EQ(job_wait(&j), 0);
}

/* The folder of the cgroup that a launcher of this pid would make. */
static void cgroup_path(char *path, size_t size, const char *name, pid_t supervisor)
{
	char mountpoint[512], group[512];
	FILE *f = popen("awk '/ - cgroup2 /{print $5}' /proc/self/mountinfo; "
			"sed -n 's/^0:://p' /proc/self/cgroup",
		"r");

	CHECK(f != NULL);
	CHECK_EQ(fscanf(f, "%511s %511s", mountpoint, group), 2);
	pclose(f);
	snprintf(path, size, "%s%s/stomp-%s-%d", mountpoint,
		strcmp(group, "/") == 0 ? "" : group, name, (int)supervisor);
}

static bool in_cgroup(pid_t pid, const char *name, pid_t supervisor)
{
	char text[4096] = "", path[64], mark[64];
	FILE *f;

	snprintf(mark, sizeof(mark), "/stomp-%s-%d\n", name, (int)supervisor);
	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	f = fopen(path, "r");
	CHECK(f != NULL);
	CHECK(fread(text, 1, sizeof(text) - 1, f) > 0);
	fclose(f);
	return strstr(text, mark) != NULL;
}

/* Where a cgroup could be made it has the tree, names the writer when the launcher was
 * killed, and is removed at the end. */
static void test_cgroup(struct identity *id) /* W2 */
{
	struct job j;
	pid_t cmd, supervisor;
	char path[1200];

	for (int killed = 0; killed < 2; killed++) {
		job_start(&j, ARGV(W("al-ice"), W("sh"), W("-c"),
				      W("echo cmd=$$.; exec sleep 96")));
		EXPECT(&j, ".\n");
		cmd = number_after(&j, "cmd=");
		supervisor = parent_of(cmd);
		if (!in_cgroup(cmd, "al-ice", supervisor)) {
			cgroup_path(path, sizeof(path), "try", getpid());
			CHECK(geteuid() != 0 || mkdir(path, 0755) < 0);
			puts("no cgroup may be made here: not tested");
			kill(j.pid, SIGTERM);
			CHECK_EQ(job_wait(&j), 128 + SIGTERM);
			return;
		}
		cgroup_path(path, sizeof(path), "al-ice", supervisor);
		CHECK_EQ(access(path, F_OK), 0);
		kill(killed ? supervisor : j.pid, killed ? SIGKILL : SIGTERM);
		if (killed)
			EXPECT(&j, "supervisor was killed");
		CHECK_EQ(job_wait(&j), killed ? 4 : 128 + SIGTERM);
		if (!killed)
			CHECK(access(path, F_OK) < 0);
	}
	check_writer(id, cmd, "al-ice", false);
	kill(cmd, SIGKILL);
	wait_until_gone(cmd);
	for (int i = 0; i < 100 && rmdir(path) < 0; i++) /* nobody is left to remove it */
		usleep(10000);
	CHECK(access(path, F_OK) < 0);
}

int main(int argc, char **argv)
{
	struct identity *id;
	int proc_fd;

	CHECK(argc > 1);
	stomp = argv[1];
	signal(SIGPIPE, SIG_IGN);
	id = real_identity(&proc_fd);
	test_statuses();
	test_signal_state();
	test_passes_signals_on();
	test_terminal();
	test_job_control();
	test_detached(id);
	test_one_after_the_other(id);
	test_nested_and_namespace(id);
	test_cgroup(id);
	identity_free(id);
	close(proc_fd);
	return 0;
}
