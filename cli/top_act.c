#include "cli/top_act.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>

#include "cli/terminal.h"

enum { WORDS_MAX = 8, QUIET_LIMIT_MS = 10000 };

static void run_child(const struct top_act *a, const char *const *words, int out)
{
	char *argv[WORDS_MAX + 2] = {(char[]){"stomp"}};
	sigset_t none;
	int n = 1;

	for (; words[n - 1] && n <= WORDS_MAX; n++)
		argv[n] = strdup(words[n - 1]);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	if (out >= 0) {
		dup2(out, STDOUT_FILENO);
		dup2(out, STDERR_FILENO);
	}
	if (chdir(a->root) != 0) {
		fprintf(stderr, "stomp top: %s: %s\n", a->root, strerror(errno));
		fflush(stderr);
		_exit(4);
	}
	execv("/proc/self/exe", argv);
	_exit(127);
}

/* Signals while a command runs. ^C reached it as well: it ends by itself, unless it hangs
 * in the mount; the third time it is given up. True: wait no longer. */
static bool take_signals(struct top_act *a, int *interrupts)
{
	struct signalfd_siginfo info;

	while (read(a->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGINT && ++*interrupts >= 3)
			return true;
		if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGHUP)
			a->ended_by = (int)info.ssi_signo;
	}
	return a->ended_by != 0;
}

static void read_some(int fd, struct buf *said)
{
	char chunk[4096];
	ssize_t n;

	while (fd >= 0 && (n = read(fd, chunk, sizeof(chunk))) > 0)
		buf_append(said, chunk, (size_t)n);
}

/* Until the child is gone; limit_ms -1: for ever. */
static int wait_child(struct top_act *a, pid_t pid, int in, struct buf *said, int limit_ms)
{
	auto_close int pid_fd = pidfd_open(pid, 0);
	int status, interrupts = 0;

	if (pid_fd < 0)
		return -errno;
	for (;;) {
		struct pollfd p[] = {{.fd = pid_fd, .events = POLLIN},
			{.fd = a->signal_fd, .events = POLLIN},
			{.fd = in, .events = POLLIN}};
		/* A pipe that is closed would make us spin. */
		int n = poll(p, p[2].fd >= 0 ? 3 : 2, limit_ms);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		if (p[2].revents & POLLIN)
			read_some(in, said);
		else if (p[2].revents)
			in = -1;
		if (p[0].revents && waitpid(pid, &status, WNOHANG) == pid) {
			read_some(in, said);
			return WIFEXITED(status) ? WEXITSTATUS(status)
						 : 128 + WTERMSIG(status);
		}
		if (p[1].revents && take_signals(a, &interrupts))
			break;
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, WNOHANG);
	return a->ended_by ? -EINTR : -ETIMEDOUT;
}

static void wait_for_enter(struct top_act *a)
{
	struct pollfd p[] = {{.fd = STDIN_FILENO, .events = POLLIN},
		{.fd = a->signal_fd, .events = POLLIN}};
	int interrupts = 2; /* here one ^C is enough */
	char line[256];

	tcflush(STDIN_FILENO, TCIFLUSH); /* what was typed before was not for this */
	fputs("\n[Enter: back to the screen] ", stdout);
	fflush(stdout);
	while (poll(p, 2, -1) > 0 || errno == EINTR) {
		if (p[1].revents && take_signals(a, &interrupts))
			return;
		if (p[0].revents) {
			(void)!read(STDIN_FILENO, line, sizeof(line));
			return;
		}
	}
}

/* The pager and the command below a process that waits for both: the pager has the
 * keys, so ^C is not for the one that waits. */
static void run_paged(const struct top_act *a, const char *const *words)
{
	struct output out;
	sigset_t none;
	int status = 0, r;
	pid_t pid;

	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	output_begin(&out, true);
	signal(SIGINT, SIG_IGN);
	pid = fork();
	if (pid == 0)
		run_child(a, words, fileno(out.f));
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	r = output_end(&out);
	if (pid > 0 && r == 0)
		r = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	_exit(pid < 0 ? 127 : r);
}

static int run_shown(struct top_act *a, bool paged, const char *const *words)
{
	pid_t pid;
	int r;

	fflush(NULL);
	pid = fork();
	if (pid == 0 && paged)
		run_paged(a, words);
	if (pid == 0)
		run_child(a, words, -1);
	r = pid < 0 ? -errno : wait_child(a, pid, -1, NULL, -1);
	if (r != -EINTR)
		wait_for_enter(a);
	return a->ended_by ? -EINTR : r;
}

static int run_quiet(struct top_act *a, const char *const *words, struct buf *said)
{
	auto_close int in = -1;
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return -errno;
	in = ends[0];
	if (fcntl(in, F_SETFL, O_NONBLOCK) != 0) {
		close(ends[1]);
		return -errno;
	}
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		run_child(a, words, ends[1]);
	close(ends[1]);
	return pid < 0 ? -errno : wait_child(a, pid, in, said, QUIET_LIMIT_MS);
}

int top_act_run(struct top_act *a, enum top_act_mode mode, const char *const *words,
	struct buf *said)
{
	if (mode == TOP_ACT_QUIET)
		return run_quiet(a, words, said);
	return run_shown(a, mode == TOP_ACT_PAGED, words);
}
