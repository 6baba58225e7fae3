#include "fs/supervise.h"

#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mounts.h"
#include "fs/daemon.h"
#include "fs/workspace.h"

enum {
	FAILURES_MAX = 5, /* in a row, of daemons that never came to serve */
	QUICK_MS = 2000,  /* a daemon that lived less is not started again at once */
	DELAY_STEP_MS = 100,
	DELAY_MAX_MS = 2000,
	INC_EPOCH_MINOR = 44, /* of the protocol, that of Linux 6.16 */
};

struct supervisor {
	const char *mountpoint;
	int report_fd, signals, channel;
	pid_t child;
	int fuse_fd;
	size_t init_size;
	char init[SUPERVISE_INIT_MAX];
	bool no_handover;
	bool told;     /* by the daemon that runs: it serves */
	bool stopping; /* we were asked to end */
	unsigned generation, failures, quick;
	int64_t started_ns;
};

static sigset_t our_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	return set;
}

/* ---- what the daemon tells: its connection ---- */

union control {
	struct cmsghdr header;
	char room[CMSG_SPACE(sizeof(int))];
};

void supervise_tell(const struct supervised *s, int fuse_fd)
{
	struct iovec part = {(void *)s->init, s->init_size};
	union control control = {0};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fuse_fd, sizeof(fuse_fd));
	if (sendmsg(s->channel, &message, MSG_NOSIGNAL) < 0)
		log_warn("the supervisor is gone (%m): nobody will start the daemon again");
}

/* False: the daemon's end of the channel is closed. */
static bool hear(struct supervisor *s)
{
	struct iovec part = {s->init, sizeof(s->init)};
	union control control = {0};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(s->channel, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;

	if (!c || c->cmsg_type != SCM_RIGHTS)
		return false;
	s->init_size = (size_t)n;
	if (s->fuse_fd >= 0)
		close(s->fuse_fd);
	memcpy(&s->fuse_fd, CMSG_DATA(c), sizeof(s->fuse_fd));
	s->told = true;
	s->failures = 0;
	if (s->report_fd >= 0) {
		daemon_cut_terminal(s->report_fd);
		s->report_fd = -1;
	}
	return true;
}

/* Can the kernel be told to look every name up again? */
static bool can_go_on(const struct supervisor *s)
{
	struct fuse_in_header header;
	struct fuse_init_in in;

	if (s->no_handover || s->fuse_fd < 0 ||
		s->init_size < sizeof(header) + 2 * sizeof(uint32_t))
		return false;
	memcpy(&in, s->init + sizeof(header), 2 * sizeof(uint32_t));
	return in.major > FUSE_KERNEL_VERSION ||
	       (in.major == FUSE_KERNEL_VERSION && in.minor >= INC_EPOCH_MINOR);
}

/* ---- the daemon's life ---- */

/* 1 in the daemon, 0 in the supervisor, -errno. */
static int start(struct supervisor *s, struct supervised *out)
{
	sigset_t set = our_signals();
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	s->told = false;
	s->started_ns = clock_boot_ns(clock_system());
	s->child = fork();
	if (s->child < 0) {
		int r = -errno;

		close(ends[0]);
		close(ends[1]);
		return r;
	}
	if (s->child > 0) {
		close(ends[1]);
		s->channel = ends[0];
		return 0;
	}
	close(ends[0]);
	close(s->signals);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	out->supervisor = getppid();
	out->channel = ends[1];
	out->generation = s->generation;
	out->fuse_fd = s->fuse_fd;
	out->init_size = s->init_size;
	memcpy(out->init, s->init, s->init_size);
	return 1;
}

/* A signal for us: what ends the daemon goes on to it. */
static void take_signal(struct supervisor *s)
{
	struct signalfd_siginfo info;

	if (read(s->signals, &info, sizeof(info)) != sizeof(info) ||
		info.ssi_signo == SIGCHLD)
		return;
	s->stopping = true;
	if (s->child > 0)
		kill(s->child, (int)info.ssi_signo);
}

/* Until the daemon has ended; its status. */
static int watch(struct supervisor *s)
{
	int status;

	for (;;) {
		struct pollfd fds[2] = {
			{.fd = s->signals, .events = POLLIN},
			{.fd = s->channel, .events = POLLIN},
		};
		pid_t ended = waitpid(s->child, &status, WNOHANG);

		if (ended == s->child || (ended < 0 && errno != EINTR))
			break;
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents && !hear(s)) {
			close(s->channel);
			s->channel = -1;
		}
		if (fds[0].revents)
			take_signal(s);
	}
	s->child = 0;
	if (s->channel >= 0) {
		while (s->channel >= 0 && hear(s)) /* what it said before it died */
			;
		close(s->channel);
		s->channel = -1;
	}
	return status;
}

static void pause_before_restart(struct supervisor *s)
{
	struct pollfd stop = {.fd = s->signals, .events = POLLIN};
	int64_t lived_ms = (clock_boot_ns(clock_system()) - s->started_ns) / NS_PER_MS;
	unsigned delay_ms;

	s->quick = s->told && lived_ms >= QUICK_MS ? 0 : s->quick + 1;
	if (s->quick < 2)
		return;
	delay_ms = (s->quick - 1) * DELAY_STEP_MS;
	if (poll(&stop, 1, delay_ms < DELAY_MAX_MS ? (int)delay_ms : DELAY_MAX_MS) > 0)
		take_signal(s);
}

static void say_how(int status, char text[64])
{
	if (WIFSIGNALED(status))
		snprintf(text, 64, "signal %d (%s)", WTERMSIG(status),
			strsignal(WTERMSIG(status)));
	else
		snprintf(text, 64, "exit code %d", WEXITSTATUS(status));
}

/* The connection ends, if it has not, and the dead mount goes. */
static int take_mount_away(struct supervisor *s)
{
	int r;

	if (s->fuse_fd >= 0)
		close(s->fuse_fd);
	s->fuse_fd = -1;
	s->init_size = 0;
	r = mount_detach_dead(s->mountpoint);
	return r < 0 ? r : 0;
}

/* The daemon has ended. True: another one shall go on; else *code is ours to end with. */
static bool shall_go_on(struct supervisor *s, int status, int *code)
{
	*code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	if (WIFEXITED(status) && *code == 0)
		return false; /* unmounted */
	if (s->stopping) {
		(void)!take_mount_away(s);
		return false;
	}
	if (s->generation == 0 && !s->told)
		return false; /* it has said why it cannot mount */
	s->failures = s->told ? 0 : s->failures + 1;
	if (s->failures >= FAILURES_MAX || s->generation == GENERATION_MAX) {
		log_error("%s: the daemon cannot be started; `stomp mount %s` tries again "
			  "and says why",
			s->mountpoint, s->mountpoint);
		return false;
	}
	return true;
}

static int prepare_next(struct supervisor *s, int status, struct supervised *out)
{
	say_how(status, out->last_end);
	out->last_end_wall_ns = clock_wall_ns(clock_system());
	log_warn("%s: the daemon ended with %s; it is started again", s->mountpoint,
		out->last_end);
	s->generation++;
	pause_before_restart(s);
	return !s->stopping && can_go_on(s) ? 0 : take_mount_away(s);
}

int supervise(struct supervised *out, const struct options *options, int report_fd)
{
	sigset_t set = our_signals();
	struct supervisor s = {
		.mountpoint = options->mountpoint,
		.no_handover = options->no_handover,
		.report_fd = report_fd,
		.channel = -1,
		.fuse_fd = -1,
	};
	int r;

	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	s.signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (s.signals < 0)
		return -errno;
	while ((r = start(&s, out)) == 0) {
		int status = watch(&s), code;

		if (!shall_go_on(&s, status, &code))
			exit(code);
		if (prepare_next(&s, status, out) < 0)
			log_error("%s: the dead mount cannot be taken away", s.mountpoint);
		if (s.stopping)
			exit(0);
	}
	return r < 0 ? r : 0;
}
