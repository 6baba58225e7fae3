#include "cli/programs.h"

#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

static bool is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

bool program_in_path(const char *name, char *path, size_t size)
{
	const char *dir = getenv("PATH") ?: "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

	while (*dir) {
		size_t n = strcspn(dir, ":");

		if (n &&
			(size_t)snprintf(path, size, "%.*s/%s", (int)n, dir, name) < size &&
			is_program(path))
			return true;
		dir += n + (dir[n] == ':');
	}
	return false;
}

bool program_stompfs(char *path, size_t size)
{
	static const char *const places[] = {"stompfs", "../fs/stompfs",
		"../libexec/stompfs", "../libexec/stompfs/stompfs"};
	char own[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);
	char *slash;

	if (n > 0) {
		own[n] = '\0';
		slash = strrchr(own, '/');
		if (slash)
			*slash = '\0';
		for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
			if ((size_t)snprintf(path, size, "%s/%s", own, places[i]) < size &&
				is_program(path))
				return true;
		}
	}
	return program_in_path("stompfs", path, size);
}

int program_run(const char *const *argv)
{
	extern char **environ;
	int status, r;
	pid_t pid;

	r = posix_spawn(&pid, argv[0], NULL, NULL, (char *const *)argv, environ);
	if (r != 0)
		return -r;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
