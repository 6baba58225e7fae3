/*
 * stomp run - start a process tree as one writer (W1b, W2).
 *
 * Three processes. The front is what the user waits for: it relays signals and returns
 * with the command's status. Its child, the supervisor, is a subreaper: orphans of the
 * tree come to it, so that its name stands above them for as long as one of them lives.
 * The supervisor's child is the command. Front and supervisor talk over a socket pair;
 * the front never signals the command by pid, which could be another's by then.
 *
 * What identity sees: comm "stomp:PID" (PID of the command) and the command line of
 * `stomp run` are the supervisor's. The others call themselves "stomp-run".
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/run_cgroup.h"
#include "policy/writer_table.h"

enum { EXIT_CANNOT_EXEC = 126, EXIT_NOT_FOUND = 127, EXIT_SIGNALED = 128 };

enum word {
	WORD_FAILED,  /* value: errno of the exec */
	WORD_STOPPED, /* the command has stopped */
	WORD_ENDED,   /* value: its wait status; others of the tree live on */
	WORD_LAST,    /* as WORD_ENDED, and the supervisor ends too */
	WORD_SIGNAL,  /* front to supervisor: pass this signal on */
};

struct message {
	enum word word;
	int value;
};

struct run {
	const char *name;
	char **command;
	sigset_t former_mask;
	struct sigaction former_chld;
	struct run_cgroup cgroup;
	int socket;  /* this side's end */
	int signals; /* signalfd */
	pid_t pid;   /* front: the supervisor's; supervisor: the command's, 0 once reaped */
	pid_t front; /* supervisor only */
};

static const struct option_spec no_options[] = {{.name = NULL}};

static const struct command_spec spec = {
	.name = "run",
	.usage = "[--] NAME [--] COMMAND [ARGUMENT…]",
	.about = "Run COMMAND as the writer NAME: every process it starts, detached ones "
		 "too, is\n"
		 "that writer in every workspace. NAME is 1 to 32 of A-Z a-z 0-9 . _ - and "
		 "does\n"
		 "not begin with -. Runs of one NAME after each other are one writer; a "
		 "second\n"
		 "one beside a running one is the writer NAME-PID.\n\n"
		 "STOMP_AGENT=NAME is set for COMMAND. Where a cgroup (version 2) may be "
		 "made, the\n"
		 "tree also gets one of its own, stomp-NAME-PID, so that nothing escapes.\n"
		 "Signals are passed on, Ctrl-C and Ctrl-Z work as without it. It returns "
		 "when\n"
		 "COMMAND ends; what COMMAND left running stays supervised in the "
		 "background.\n\n"
		 "The exit status is COMMAND's, 128 and the number of the signal that "
		 "ended it\n"
		 "(SIGINT ends this command too, so that a shell's loop stops), 127 when "
		 "there is\n"
		 "no such command, 126 when it cannot be started, 2 for a wrong command "
		 "line.",
	.example = "  stomp run alice -- bash          # a shell as the writer alice\n"
		   "  stomp run ci -- make -j4         # a build as the writer ci",
	.options = no_options,
};

static void say(const struct run *run, enum word word, int value)
{
	struct message m = {word, value};

	/* When the other side is gone there is nobody to tell. */
	(void)!send(run->socket, &m, sizeof(m), MSG_NOSIGNAL);
}

/* False once the other side has closed. */
static bool hear(const struct run *run, struct message *m)
{
	ssize_t n;

	do
		n = recv(run->socket, m, sizeof(*m), 0);
	while (n < 0 && errno == EINTR);
	return n == sizeof(*m);
}

/* What would end or stop us comes through a descriptor instead. */
static void relayed_signals(sigset_t *set)
{
	static const int signals[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP,
		SIGTTIN, SIGTTOU, SIGCONT, SIGUSR1, SIGUSR2, SIGCHLD};

	sigemptyset(set);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(set, signals[i]);
}

static int open_signals(void)
{
	sigset_t set;

	relayed_signals(&set);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static bool wait_for_either(const struct run *run, bool *signal_came, bool *word_came)
{
	struct pollfd fds[] = {
		{.fd = run->signals, .events = POLLIN},
		{.fd = run->socket, .events = POLLIN}, /* -1: the other side is gone */
	};

	while (poll(fds, ARRAY_SIZE(fds), -1) < 0)
		if (errno != EINTR)
			return false;
	*signal_came = fds[0].revents;
	*word_came = fds[1].revents;
	return true;
}

static void exec_command(const struct run *run)
{
	int err;

	/* Until the exec has replaced us, this must not look like a second launcher. */
	prctl(PR_SET_NAME, "stomp-run");
	run_cgroup_enter(&run->cgroup);
	sigaction(SIGCHLD, &run->former_chld, NULL);
	sigprocmask(SIG_SETMASK, &run->former_mask, NULL);
	if (setenv("STOMP_AGENT", run->name, 1) == 0)
		execvp(run->command[0], run->command);
	err = errno;
	say(run, WORD_FAILED, err);
	_exit(err == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_EXEC);
}

/* The supervisor outlives the command: it must hold nothing whose closing others wait
 * for (a pipe, a lock, a mount that is its working directory). */
static void let_go(struct run *run)
{
	int fd = fcntl(run->socket, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		_exit(EXIT_CANNOT_EXEC);
	if (fd != 3 && dup3(fd, 3, O_CLOEXEC) < 0)
		_exit(EXIT_CANNOT_EXEC);
	run->socket = 3;
	close_range(4, ~0U, 0);
	fd = open("/dev/null", O_RDWR);
	for (int i = 0; i < 3; i++)
		if (fd < 0)
			close(i);
		else
			dup2(fd, i);
	if (fd > 3)
		close(fd);
	(void)!chdir("/");
	run->signals = open_signals();
	if (run->signals < 0)
		_exit(EXIT_CANNOT_EXEC);
}

/* Takes in who ended. False when nobody of the tree is left. */
static bool reap(struct run *run)
{
	int status = 0, ended = -1;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0) {
		if (pid != run->pid)
			continue;
		if (WIFSTOPPED(status)) {
			say(run, WORD_STOPPED, 0);
		} else if (WIFCONTINUED(status)) {
			if (getppid() == run->front) /* it stopped with the command */
				kill(run->front, SIGCONT);
		} else {
			ended = status;
			run->pid = 0;
		}
	}
	if (pid < 0)
		run_cgroup_remove(&run->cgroup);
	if (ended >= 0)
		say(run, pid < 0 ? WORD_LAST : WORD_ENDED, ended);
	return pid == 0;
}

static void supervise(struct run *run)
{
	struct signalfd_siginfo si;
	bool signal_came, word_came;
	struct message m;

	while (wait_for_either(run, &signal_came, &word_came)) {
		/* Only SIGCHLD matters here: what the terminal sends reaches the command
		 * by itself, and what is sent to the front comes as a word. */
		if (signal_came && read(run->signals, &si, sizeof(si)) == sizeof(si) &&
			si.ssi_signo == SIGCHLD && !reap(run))
			return;
		if (word_came && !hear(run, &m)) {
			close(run->socket);
			run->socket = -1;
		} else if (word_came && m.word == WORD_SIGNAL && run->pid > 0) {
			kill(run->pid, m.value);
		}
	}
}

static void supervisor(struct run *run)
{
	char comm[24]; /* the kernel keeps 15, enough for any pid */

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_NAME, "stomp");
	run_cgroup_make(&run->cgroup, run->name, getpid());
	run->pid = fork();
	if (run->pid == 0)
		exec_command(run);
	if (run->pid < 0) {
		say(run, WORD_FAILED, errno);
		say(run, WORD_LAST, EXIT_CANNOT_EXEC << 8);
		run_cgroup_remove(&run->cgroup);
		_exit(EXIT_CANNOT_EXEC);
	}
	snprintf(comm, sizeof(comm), "stomp:%d", (int)run->pid);
	prctl(PR_SET_NAME, comm);
	let_go(run);
	supervise(run);
	_exit(0);
}

/* The command's end as ours. */
static int finish(int status)
{
	sigset_t set;

	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	if (WTERMSIG(status) == SIGINT) {
		signal(SIGINT, SIG_DFL);
		sigemptyset(&set);
		sigaddset(&set, SIGINT);
		raise(SIGINT);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
	}
	return EXIT_SIGNALED + WTERMSIG(status);
}

/* Job control: whoever waits for us must see what the command does. When we go on, in the
 * foreground again, so must the command: an interactive shell has a process group of its
 * own that the one above knows nothing of. */
static void stop_too(void)
{
	auto_close int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	pid_t foreground = tty < 0 ? -1 : tcgetpgrp(tty);

	kill(getpid(), SIGSTOP);
	if (foreground > 0 && foreground != getpgrp() && tcgetpgrp(tty) == getpgrp())
		(void)tcsetpgrp(tty, foreground);
}

/* A word from the supervisor; true with *code once the command has ended. */
static bool front_heard(struct run *run, const struct message *m, int *code)
{
	switch (m->word) {
	case WORD_FAILED:
		fprintf(stderr, "stomp run: cannot start %s: %s\n", run->command[0],
			strerror(m->value));
		return false;
	case WORD_STOPPED:
		stop_too();
		return false;
	case WORD_LAST:
		/* Gone before we are: the next run of that name is the same writer. */
		while (waitpid(run->pid, NULL, 0) < 0 && errno == EINTR)
			;
		*code = finish(m->value);
		return true;
	case WORD_ENDED:
		*code = finish(m->value);
		return true;
	case WORD_SIGNAL:
		break;
	}
	return false;
}

static int front(struct run *run)
{
	struct signalfd_siginfo si;
	bool signal_came, word_came;
	struct message m;
	int code;

	while (wait_for_either(run, &signal_came, &word_came)) {
		if (signal_came && read(run->signals, &si, sizeof(si)) == sizeof(si)) {
			/* From the terminal (SI_KERNEL) the command has it already. */
			bool sent = si.ssi_code <= 0 || si.ssi_signo == SIGCONT;

			if (si.ssi_signo != SIGCHLD && sent)
				say(run, WORD_SIGNAL, (int)si.ssi_signo);
		}
		if (!word_came)
			continue;
		if (!hear(run, &m)) {
			fputs("stomp run: the supervisor was killed; the command may still "
			      "be running\n",
				stderr);
			return STOMP_FAILED;
		}
		if (front_heard(run, &m, &code))
			return code;
	}
	return STOMP_FAILED;
}

static int start(struct run *run)
{
	struct sigaction by_default = {.sa_handler = SIG_DFL};
	int ends[2];
	sigset_t set;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		goto failed;
	prctl(PR_SET_NAME, "stomp-run");
	relayed_signals(&set);
	sigprocmask(SIG_BLOCK, &set, &run->former_mask);
	sigaction(SIGCHLD, &by_default, &run->former_chld); /* it may come ignored */
	run->front = getpid();
	run->pid = fork();
	if (run->pid < 0)
		goto failed;
	run->socket = ends[run->pid ? 0 : 1];
	close(ends[run->pid ? 1 : 0]);
	if (run->pid == 0)
		supervisor(run);
	run->signals = open_signals();
	if (run->signals < 0)
		goto failed;
	return front(run);
failed:
	fprintf(stderr, "stomp run: cannot start a supervisor: %s\n", strerror(errno));
	return STOMP_FAILED;
}

/* As program_is_launcher() reads the line again from outside. */
int cmd_run(int argc, char **argv)
{
	struct run run = {0};
	auto_options options = {0};
	int i = 1;

	if (i < argc && strcmp(argv[i], "--") == 0) {
		i++;
	} else if (i < argc && argv[i][0] == '-') {
		char *one[] = {argv[0], argv[i], NULL};
		int r = options_parse(&spec, 2, one, &options); /* --help, or a wrong one */

		if (r != OPTIONS_GO_ON)
			return r;
	}
	if (i >= argc)
		return options_wrong(&spec, "say as whom to run, and what");
	if (!writer_name_valid(argv[i]))
		return options_wrong(&spec,
			"\"%s\" cannot be a writer's name: use 1 to 32 of A-Z a-z 0-9 . _ "
			"-, "
			"no - first, and not \"unknown\" or \"stompfs\"",
			argv[i]);
	run.name = argv[i++];
	if (i < argc && strcmp(argv[i], "--") == 0)
		i++;
	if (i >= argc)
		return options_wrong(&spec, "say what to run as %s", run.name);
	run.command = argv + i;
	fflush(NULL);
	return start(&run);
}
