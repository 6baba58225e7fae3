/* The strategy driver:NAME (M): a command is run, and what it leaves is judged. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "check.h"
#include "fs/driver.h"

static struct content text(const char *s)
{
	return (struct content){.data = s, .size = strlen(s)};
}

/* One run in a folder of its own, which must be empty afterwards. */
struct outcome {
	int answer;
	struct buf merged, why;
};

#define auto_outcome __attribute__((cleanup(outcome_done))) struct outcome

static void outcome_done(struct outcome *o)
{
	buf_done(&o->merged);
	buf_done(&o->why);
}

static char scratch[] = "/tmp/stomp-driver-test-XXXXXX"; /* 0700: nobody's way leads in */
static int scratch_fd = -1;

static void check_empty(void)
{
	int fd = openat(scratch_fd, ".", O_RDONLY | O_DIRECTORY);
	DIR *dir = fdopendir(fd);
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	CHECK_EQ(n, 2);
}

static int run_as(const char *command, int timeout_ms, const char *path, uid_t uid,
	gid_t gid, struct outcome *o)
{
	struct content base = text("b\n"), current = text("c\n"), new = text("n\n");

	buf_puts(&o->merged, ">"); /* appended to, not replaced */
	o->answer = driver_run(command, timeout_ms * NS_PER_MS, &base, &current, &new, path,
		uid, gid, scratch_fd, &o->merged, &o->why);
	CHECK(o->answer == DRIVER_MERGED || o->merged.len == 1);
	CHECK_EQ(o->answer == DRIVER_MERGED, o->why.len == 0);
	CHECK(!memchr(o->why.data ?: "", '\n', o->why.len));
	return o->answer;
}

static int run(const char *command, struct outcome *o)
{
	return run_as(command, 20000, "dir/a file", getuid(), getgid(), o);
}

static const struct cell {
	const char *what, *command;
	int answer;
	const char *says; /* the result, or a part of what is said */
} cells[] = {
	{"all three", "cat %O %A %B > out && mv out %A", DRIVER_MERGED, "b\nc\nn\n"},
	{"written in place", "cat %B >> %A", DRIVER_MERGED, "c\nn\n"},
	{"nothing done", "true", DRIVER_MERGED, "c\n"},
	{"emptied", ": > %A", DRIVER_MERGED, ""},
	{"the path", "printf '%%s,%s,%L' %P > %A", DRIVER_MERGED, "dir/a file,,7"},
	{"the path as a variable", "printf %%s \"$STOMP_PATH\" > %A", DRIVER_MERGED,
		"dir/a file"},
	{"stdin is empty, stdout goes nowhere", "cat; echo x; cat %B > \"%A\"",
		DRIVER_MERGED, "n\n"},
	{"by absolute names, where they lead", "cat \"$PWD\"/%B 2> error || cat %B",
		DRIVER_MERGED, "c\n"},
	{"conflict", "echo lost > %A; echo one >&2; echo; printf 'two\\033' >&2; exit 1",
		DRIVER_CONFLICT,
		"the command says that they conflict (exit 1): one; two\\x1b"},
	{"no such command", "no-such-command-here", DRIVER_CONFLICT, "(exit 127): "},
	{"a failure", "exit 128", -EIO, "the command failed (exit 128)"},
	{"a signal", "kill -SEGV $$", -EIO, "killed by signal 11 (Segmentation fault)"},
	{"markers", "printf 'a\\n<<<<<<< ours\\n' > %A", DRIVER_CONFLICT,
		"the command left conflict markers"},
	{"markers at once", "echo '<<<<<<< ours' > %A", DRIVER_CONFLICT,
		"conflict markers"},
	{"no markers", "printf '<<<<<<<\\n <<<<<<< x\\n' > %A", DRIVER_MERGED,
		"<<<<<<<\n <<<<<<< x\n"},
	{"too large for a file", "exec head -c 70000000 /dev/zero > %A", -EIO,
		"killed by signal 25 (File size limit exceeded)"},
	{"the result gone", "rm %A", -EIO, "its result cannot be opened"},
	{"a link", "ln -sf /etc/passwd %A", -EIO, "its result cannot be opened"},
	{"a pipe", "rm %A; mkfifo %A", -EIO, "is no file of its own"},
	{"a folder", "rm %A; mkdir %A", -EIO, "is no file of its own"},
	{"unfinished", "while", DRIVER_CONFLICT, "yntax error"},
};

static void test_cells(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cells); i++) {
		const struct cell *cell = &cells[i];
		auto_outcome o = {0};
		bool as_told;

		run(cell->command, &o);
		as_told =
			o.answer == cell->answer &&
			(o.answer == DRIVER_MERGED ? !strcmp(o.merged.data + 1, cell->says)
						   : !!strstr(o.why.data, cell->says));
		check_empty();
		if (as_told)
			continue;
		fprintf(stderr, "%s: %d \"%s\" \"%s\"\n", cell->what, o.answer,
			o.merged.data + 1, o.why.data ?: "");
		exit(1);
	}
}

static void test_paths_are_quoted(void)
{
	static const char path[] = "a'b $(touch /tmp/never)`x`\\ \"\n*%A";
	auto_outcome o = {0};

	CHECK_EQ(run_as("printf %%s %P > %A", 20000, path, getuid(), getgid(), &o), 0);
	CHECK_STR(o.merged.data + 1, path);
}

static void test_unknown_base_is_empty(void)
{
	struct content current = text("c"), new = {0};
	auto_outcome o = {0};

	CHECK_EQ(driver_run("wc -c < %O > %A; wc -c < %B >> %A", 20 * NS_PER_S, NULL,
			 &current, &new, "f", getuid(), getgid(), scratch_fd, &o.merged,
			 &o.why),
		DRIVER_MERGED);
	CHECK_STR(o.merged.data, "0\n0\n");
}

static void test_large_contents(void)
{
	auto_buf large = {0}, merged = {0}, why = {0};
	struct content c, empty = {0};

	while (large.len < 8 << 20)
		buf_printf(&large, "line %zu\n", large.len);
	c = (struct content){.data = large.data, .size = large.len};
	CHECK_EQ(driver_run("cat %B >> %A", 20 * NS_PER_S, &empty, &c, &c, "f", getuid(),
			 getgid(), scratch_fd, &merged, &why),
		DRIVER_MERGED);
	CHECK_EQ(merged.len, 2 * large.len);
	CHECK(memcmp(merged.data, large.data, large.len) == 0);
	CHECK(memcmp(merged.data + large.len, large.data, large.len) == 0);
}

static int64_t now_ms(void)
{
	return clock_boot_ns(clock_system()) / NS_PER_MS;
}

static void test_timeout(void)
{
	static const char *const commands[] = {"sleep 60", "exec sleep 60",
		"trap '' TERM HUP; while :; do :; done", "yes >&2", "sleep 60 & sleep 60",
		"kill -STOP $$", "cat %A | sleep 60"};

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		int64_t begun_ms = now_ms();
		auto_outcome o = {0};

		CHECK_EQ(run_as(commands[i], 150, "f", getuid(), getgid(), &o), -ETIMEDOUT);
		CHECK(now_ms() - begun_ms >= 150);
		CHECK(now_ms() - begun_ms < 5000);
		CHECK(strstr(o.why.data, "did not end within"));
		check_empty();
	}
}

/* The last time that a process left behind gave a sign of life. */
static void test_nothing_runs_on(void)
{
	static const char *const commands[] = {"", "sleep 60", "exit 1"};
	char beat[64];
	struct stat before, after;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		auto_buf command = {0};
		auto_outcome o = {0};
		int fd;

		snprintf(beat, sizeof(beat), "/tmp/stomp-driver-beat-%d", getpid());
		fd = open(beat, O_CREAT | O_RDWR | O_TRUNC, 0666);
		CHECK(fd >= 0 && fchmod(fd, 0666) == 0);
		buf_printf(&command,
			"(while :; do echo x >> %s; sleep 0.01; done) & sleep 0.1; %s",
			beat, commands[i]);
		run_as(command.data, 500, "f", getuid(), getgid(), &o);
		CHECK_EQ(o.answer, i == 0 ? DRIVER_MERGED : i == 1 ? -ETIMEDOUT : 1);
		usleep(50000);
		CHECK(fstat(fd, &before) == 0 && before.st_size > 0);
		usleep(150000);
		CHECK(fstat(fd, &after) == 0);
		CHECK_EQ(before.st_size, after.st_size);
		close(fd);
		unlink(beat);
	}
}

static void test_descriptors_are_not_inherited(void)
{
	int leaked[] = {open("/etc/passwd", O_RDONLY), dup2(scratch_fd, 200)};
	auto_outcome o = {0};

	CHECK_EQ(run("exec ls /proc/self/fd > %A", &o), 0);
	CHECK_STR(o.merged.data + 1, "0\n1\n2\n3\n"); /* 3: the folder that ls reads */
	close(leaked[0]);
	close(leaked[1]);
}

/* Also from a process that has closed its own. */
static void test_without_stdio(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		auto_outcome o = {0};

		close(0);
		close(1);
		close(2);
		run("exec ls /proc/self/fd > %A; echo x >&2", &o);
		_exit(o.answer || strcmp(o.merged.data + 1, "0\n1\n2\n3\n") != 0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static void test_environment_is_clean(void)
{
	auto_outcome o = {0};

	setenv("STOMP_TEST_SECRET", "x", 1);
	setenv("LD_LIBRARY_PATH", "/x", 1);
	CHECK_EQ(run("tr '\\0' '\\n' < /proc/$$/environ > %A", &o), 0);
	unsetenv("LD_LIBRARY_PATH");
	CHECK_STR(o.merged.data + 1,
		"PATH=/usr/local/bin:/usr/bin:/bin\nHOME=/nonexistent\nLANG=C.UTF-8\n"
		"STOMP_PATH=dir/a file\n");
}

static void test_signals_are_as_usual(void)
{
	sigset_t blocked, now, before;
	auto_outcome o = {0};

	signal(SIGPIPE, SIG_IGN);
	sigfillset(&blocked);
	pthread_sigmask(SIG_BLOCK, &blocked, &before);
	CHECK_EQ(run("exec grep -E '^Sig(Blk|Ign)' /proc/self/status > %A", &o), 0);
	CHECK_STR(o.merged.data + 1,
		"SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
	pthread_sigmask(SIG_SETMASK, &before, &now);
	CHECK(sigismember(&now, SIGUSR1)); /* the caller's mask is as it was */
	signal(SIGPIPE, SIG_DFL);
}

static void test_privileges(void)
{
	static const char command[] =
		"exec 1> %A; id -u; id -g; id -G; umask; stat -c '%%a %%u' . %B; "
		"grep -E '^(NoNewPrivs|Cap(Eff|Prm|Inh|Amb))' /proc/self/status | cut -f2 "
		"| "
		"tr '\\n' ' '";
	static const char rest[] =
		"0077\n700 %d\n600 %d\n0000000000000000 0000000000000000 "
		"0000000000000000 0000000000000000 1 ";
	auto_buf expected = {0}, nobody = {0};
	auto_outcome o = {0}, root = {0};

	if (getuid() != 0) {
		CHECK_EQ(run("grep NoNewPrivs /proc/self/status > %A", &o), 0);
		CHECK_STR(o.merged.data + 1, "NoNewPrivs:\t1\n");
		return;
	}
	CHECK_EQ(run_as(command, 20000, "f", 1234, 4321, &o), 0);
	buf_puts(&expected, "1234\n4321\n4321\n");
	buf_printf(&expected, rest, 1234, 1234);
	CHECK_STR(o.merged.data + 1, expected.data);
	CHECK_EQ(run_as(command, 20000, "f", 0, 0, &root), 0);
	buf_puts(&nobody, "65534\n65534\n65534\n");
	buf_printf(&nobody, rest, 65534, 65534);
	CHECK_STR(root.merged.data + 1, nobody.data);
}

static void test_what_it_says_is_bounded(void)
{
	auto_outcome o = {0};

	CHECK_EQ(run("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 3", &o), 1);
	CHECK(strstr(o.why.data, "(exit 3): xxxx"));
	CHECK(o.why.len > 1000 && o.why.len < 1200);
}

static void leave_much(void)
{
	auto_outcome o = {0};

	CHECK_EQ(run("mkdir a && mkdir a/b && touch a/b/c a/b/d && ln -s / a/root && "
		     "chmod 0 a/b a && mkfifo p && for i in 1 2 3 4 5 6 7 8; do mkdir -p "
		     "x$i/y/z && touch x$i/y/z/f x$i/f; done; "
		     "i=0; while [ $i -lt 300 ]; do mkdir d; touch f; cd -P d; "
		     "i=$((i+1)); done; chmod 0 .; true",
			 &o),
		0);
	check_empty();
	CHECK_EQ(access("/etc/passwd", F_OK), 0);
}

/* As root, and as somebody who is stopped by modes. */
static void test_the_folder_is_removed(void)
{
	pid_t pid;
	int status;

	leave_much();
	if (getuid() != 0)
		return;
	CHECK_EQ(fchown(scratch_fd, 1234, 1234), 0);
	pid = fork();
	if (pid == 0) {
		auto_outcome o = {0};

		CHECK(setgid(1234) == 0 && setuid(1234) == 0);
		leave_much();
		/* Another's identity cannot be taken: it stays the daemon's. */
		CHECK_EQ(run_as("id -u > %A", 20000, "f", 0, 0, &o), 0);
		CHECK_STR(o.merged.data + 1, "1234\n");
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(fchown(scratch_fd, 0, 0), 0);
}

/* What is left by a daemon that was killed meanwhile; the rest is not ours. */
static void test_sweep(void)
{
	CHECK_EQ(mkdirat(scratch_fd, "stomp-driver-1", 0700), 0);
	CHECK_EQ(mkdirat(scratch_fd, "stomp-driver-1/a", 0700), 0);
	CHECK_EQ(mkdirat(scratch_fd, "stomp-driver-1/a/b", 0), 0);
	CHECK_EQ(mkdirat(scratch_fd, "stomp-driver-2", 0), 0);
	CHECK_EQ(mkdirat(scratch_fd, "another", 0700), 0);
	driver_folder_sweep(scratch_fd);
	CHECK_EQ(unlinkat(scratch_fd, "another", AT_REMOVEDIR), 0);
	check_empty();
}

static void test_no_folder(void)
{
	struct content c = text("c");
	auto_buf merged = {0}, why = {0};
	int fd = open("/proc/self", O_RDONLY | O_DIRECTORY);

	CHECK(driver_run("true", NS_PER_S, &c, &c, &c, "f", getuid(), getgid(), fd, &merged,
		      &why) < 0);
	CHECK(strstr(why.data, "the command could not be run: "));
	close(fd);
}

/* Children of others are theirs to wait for. */
static void test_other_children(void)
{
	pid_t pid = fork();
	auto_outcome o = {0};
	int status;

	if (pid == 0)
		_exit(7);
	usleep(20000);
	CHECK_EQ(run("true", &o), 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(WEXITSTATUS(status), 7);
}

static void *run_many(void *arg)
{
	for (int i = 0; i < 10; i++) {
		auto_outcome o = {0};

		CHECK_EQ(run("cat %O %B > %A", &o), 0);
		CHECK_STR(o.merged.data + 1, "b\nn\n");
	}
	return NULL;
}

static void test_threads(void)
{
	pthread_t threads[4];

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, run_many, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	check_empty();
}

static void test_folder_open(void)
{
	int fd = driver_folder_open();

	CHECK(fd >= 0);
	close(fd);
}

int main(void)
{
	CHECK(mkdtemp(scratch));
	scratch_fd = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(scratch_fd >= 0);
	test_cells();
	test_paths_are_quoted();
	test_unknown_base_is_empty();
	test_large_contents();
	test_timeout();
	test_nothing_runs_on();
	test_descriptors_are_not_inherited();
	test_without_stdio();
	test_environment_is_clean();
	test_signals_are_as_usual();
	test_privileges();
	test_what_it_says_is_bounded();
	test_the_folder_is_removed();
	test_sweep();
	test_no_folder();
	test_other_children();
	test_threads();
	test_folder_open();
	close(scratch_fd);
	CHECK_EQ(rmdir(scratch), 0);
	return 0;
}
