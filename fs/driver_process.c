#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "fs/driver.h"
#include "fs/driver_internal.h"

enum {
	MAX_PROCESSES = 256, /* more than there are in all when it begins */
	MAX_OPEN_FILES = 1024,
	DEATH_NS = 2 * 1000000000, /* how long a killed process may take to die */
};

/* All that the child needs, made before the fork: between fork and exec nothing may take
 * a lock, as another thread may have held it. */
struct child {
	const struct driver_process *process;
	const char *argv[4], *envp[5];
	int null_fd, said_fd;
	pid_t parent;
	rlim_t cpu_s, n_processes;
};

static _Noreturn void give_up(const char *what)
{
	const char *reason = strerrordesc_np(errno) ?: "";
	const struct iovec said[] = {{(void *)what, strlen(what)}, {(void *)": ", 2},
		{(void *)reason, strlen(reason)}};

	if (writev(STDERR_FILENO, said, ARRAY_SIZE(said)) < 0)
		_exit(DRIVER_NOT_RUN);
	_exit(DRIVER_NOT_RUN);
}

static bool limit(int resource, rlim_t value)
{
	struct rlimit l;

	if (getrlimit(resource, &l) < 0)
		return false;
	l.rlim_max = value < l.rlim_max ? value : l.rlim_max;
	l.rlim_cur = l.rlim_max;
	return setrlimit(resource, &l) == 0;
}

/* Straight to the kernel: libc's functions would change the identity of all threads, by
 * means that are not there in a child. */
static void drop_privileges(const struct driver_process *p)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

	if (p->change_identity &&
		(syscall(SYS_setgroups, 0, NULL) < 0 ||
			syscall(SYS_setresgid, p->gid, p->gid, p->gid) < 0 ||
			syscall(SYS_setresuid, p->uid, p->uid, p->uid) < 0))
		give_up("its identity cannot be changed to the writer's");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
		syscall(SYS_capset, &header, none) < 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		give_up("its privileges cannot be dropped");
}

static _Noreturn void run_child(const struct child *c)
{
	struct sigaction normal = {.sa_handler = SIG_DFL};
	sigset_t none;
	int error;

	for (int s = 1; s < NSIG; s++)
		sigaction(s, &normal, NULL);
	/* First: it may be one of 0 to 2. */
	error = fchdir(c->process->folder_fd) < 0 ? errno : 0;
	if (dup2(c->said_fd, STDERR_FILENO) < 0 || dup2(c->null_fd, STDIN_FILENO) < 0 ||
		dup2(c->null_fd, STDOUT_FILENO) < 0)
		_exit(DRIVER_NOT_RUN);
	errno = error;
	if (error || setsid() < 0)
		give_up("its folder cannot be entered");
	if (syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0) < 0)
		give_up("the daemon's files cannot be closed");
	umask(077);
	if (!limit(RLIMIT_CPU, c->cpu_s) || !limit(RLIMIT_FSIZE, DRIVER_MAX_RESULT) ||
		!limit(RLIMIT_NPROC, c->n_processes) || !limit(RLIMIT_CORE, 0) ||
		!limit(RLIMIT_NOFILE, MAX_OPEN_FILES))
		give_up("its bounds cannot be set");
	drop_privileges(c->process);
	/* After the change of identity, which would clear it. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != c->parent)
		_exit(DRIVER_NOT_RUN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve("/bin/sh", (char *const *)c->argv, (char *const *)c->envp);
	give_up("/bin/sh cannot be run");
}

/* RLIMIT_NPROC counts all of the user's, also those that are no business of ours: a bound
 * above what there is in all can only stop what it makes more. */
static rlim_t count_processes(void)
{
	auto_close int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	char text[128];
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	const char *slash;

	text[n > 0 ? n : 0] = '\0';
	slash = strchr(text, '/');
	return slash ? strtoul(slash + 1, NULL, 10) : 32768;
}

/* A descriptor that is not one of 0 to 2, where the child will put its own. */
static int above_stdio(int fd)
{
	int moved;

	if (fd < 0 || fd > STDERR_FILENO)
		return fd < 0 ? -errno : fd;
	moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	moved = moved < 0 ? -errno : moved;
	close(fd);
	return moved;
}

static int begin(const struct child *c, pid_t *pid, int *pidfd)
{
	sigset_t all, before;
	int r = 0;

	/* No handler of ours may run in the child, nor where the thread is between. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	*pid = fork();
	if (*pid == 0)
		run_child(c);
	if (*pid < 0)
		r = -errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r < 0)
		return r;
	*pidfd = (int)syscall(SYS_pidfd_open, *pid, 0);
	if (*pidfd >= 0)
		return 0;
	r = -errno;
	kill(*pid, SIGKILL);
	waitpid(*pid, NULL, 0);
	return r;
}

static void hear(int fd, struct driver_end *end, bool *open)
{
	char text[4096];
	ssize_t n = read(fd, text, sizeof(text));
	size_t room = sizeof(end->said) - end->n_said, kept = n > 0 ? (size_t)n : 0;

	if (kept > room)
		kept = room;
	memcpy(end->said + end->n_said, text, kept);
	end->n_said += kept;
	*open = n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* Until the process has ended (true), or the time has come. What it says is taken all the
 * while, also what is not kept: it must not wait for a reader. */
static bool wait_until(int pidfd, int said_fd, int64_t until_ns, struct driver_end *end)
{
	struct pollfd fds[] = {
		{.fd = pidfd, .events = POLLIN}, {.fd = said_fd, .events = POLLIN}};

	for (;;) {
		int64_t left = until_ns - clock_boot_ns(clock_system());
		struct timespec t = {.tv_sec = left > 0 ? left / NS_PER_S : 0,
			.tv_nsec = left > 0 ? left % NS_PER_S : 0};
		int n = ppoll(fds, 2, &t, NULL);
		bool open = true;

		if (n > 0 && fds[1].revents)
			hear(said_fd, end, &open);
		if (!open)
			fds[1].fd = -1;
		if (n > 0 && fds[0].revents)
			return true;
		if (left <= 0)
			return false;
	}
}

/* A process that is stuck in the kernel (on the mount itself, say) is left to die when it
 * can; somebody must be there to take notice. */
static void *reap(void *arg)
{
	waitpid((pid_t)(intptr_t)arg, NULL, 0);
	return NULL;
}

static void reap_later(pid_t pid)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_create(&thread, &attr, reap, (void *)(intptr_t)pid);
	pthread_attr_destroy(&attr);
}

/* What is left in the pipe of a process that has ended. */
static void hear_rest(int said_fd, struct driver_end *end)
{
	size_t before;
	bool open = true;

	do {
		before = end->n_said;
		hear(said_fd, end, &open);
	} while (open && end->n_said > before);
}

/* Its end: by itself or at the timeout, and that of its group. The group is killed while
 * the process is not yet reaped, so that its number is nobody else's. */
static int await(
	pid_t pid, int pidfd, int said_fd, int64_t until_ns, struct driver_end *end)
{
	siginfo_t info = {0};

	end->timed_out = !wait_until(pidfd, said_fd, until_ns, end);
	if (end->timed_out) {
		kill(pid, SIGKILL); /* it may not lead its group yet */
		kill(-pid, SIGKILL);
		until_ns = clock_boot_ns(clock_system()) + DEATH_NS;
		if (!wait_until(pidfd, said_fd, until_ns, end)) {
			reap_later(pid);
			return 0;
		}
	}
	kill(-pid, SIGKILL);
	hear_rest(said_fd, end);
	if (waitid(P_PIDFD, pidfd, &info, WEXITED) < 0)
		return -errno;
	if (info.si_code == CLD_EXITED)
		end->exit_code = info.si_status;
	else
		end->signal = info.si_status;
	return 0;
}

static int run(struct child *c, int said_fd, int *said_by_child_fd, struct driver_end *end)
{
	int64_t now_ns = clock_boot_ns(clock_system()), timeout_ns = c->process->timeout_ns;
	auto_close int pidfd = -1;
	pid_t pid;
	int r;

	if (timeout_ns > INT64_MAX - now_ns)
		timeout_ns = INT64_MAX - now_ns;
	r = begin(c, &pid, &pidfd);
	close(*said_by_child_fd);
	*said_by_child_fd = -1;
	return r < 0 ? r : await(pid, pidfd, said_fd, now_ns + timeout_ns, end);
}

int driver_process_run(const struct driver_process *p, struct driver_end *end)
{
	auto_close int null_fd = -1, said_fd = -1, child_said_fd = -1;
	auto_free char *command = strdup(p->command), *path = NULL;
	int fds[2];

	*end = (struct driver_end){0};
	if (!command || asprintf(&path, "STOMP_PATH=%s", p->path) < 0) {
		path = NULL; /* it is undefined then */
		return -ENOMEM;
	}
	struct child c = {.process = p,
		.argv = {"sh", "-c", command, NULL},
		.envp = {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/nonexistent",
			"LANG=C.UTF-8", path, NULL},
		.parent = getpid(),
		.cpu_s = (p->timeout_ns > 0 ? (rlim_t)(p->timeout_ns / NS_PER_S) : 0) + 1,
		.n_processes = count_processes() + MAX_PROCESSES};
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	said_fd = fds[0];
	c.said_fd = child_said_fd = above_stdio(fds[1]);
	c.null_fd = null_fd = above_stdio(open("/dev/null", O_RDWR | O_CLOEXEC));
	if (child_said_fd < 0 || null_fd < 0)
		return child_said_fd < 0 ? child_said_fd : null_fd;
	if (fcntl(said_fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	return run(&c, said_fd, &child_said_fd, end);
}
