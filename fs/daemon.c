#include "fs/daemon.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/log.h"

/* The parent: until the child reports, or is gone. */
static int wait_for_child(pid_t child, int from_child, const char *mountpoint)
{
	auto_free char *status_path = NULL;
	struct stat st;
	char byte;
	int status;

	if (read(from_child, &byte, 1) == 1) {
		if (asprintf(&status_path, "%s/.stomp/status", mountpoint) < 0)
			return 1;
		if (stat(status_path, &st) == 0)
			return 0;
		log_error("%s is mounted but does not answer: %m", mountpoint);
		return 1;
	}
	/* It has said why on standard error. */
	if (waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status))
		return WEXITSTATUS(status);
	return 1;
}

int daemon_start(const char *mountpoint)
{
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child < 0)
		return -errno;
	if (child > 0) {
		close(ends[1]);
		_exit(wait_for_child(child, ends[0], mountpoint));
	}
	close(ends[0]);
	setsid();
	return ends[1];
}

void daemon_cut_terminal(int report_fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	log_setup("stompfs", LOG_LEVEL_WARN, true);
	close(report_fd);
	(void)!chdir("/");
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		close(null);
	}
}

void daemon_ready(int report_fd)
{
	bool waited = write(report_fd, "", 1) == 1;

	daemon_cut_terminal(report_fd);
	if (!waited)
		log_warn("nobody waits for this mount any more");
}
