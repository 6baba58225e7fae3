#include "cli/unmounted.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/mounts.h"
#include "cli/cli.h"

int unmounted_find(const char *command, const char *given, struct workspace *ws, char **dir)
{
	int r = path_resolve(given, dir);

	if (r == 0)
		r = mount_resolve(dir);
	if (r < 0)
		return report_errno(command, given, r);
	r = workspace_find(ws, *dir);
	if (r == -ENOTCONN) {
		fprintf(stderr,
			"stomp %s: the daemon of %s is gone; `stomp umount %s` first\n",
			command, *dir, *dir);
		return STOMP_NO;
	}
	return r == 0 ? STOMP_DONE : STOMP_NO_WORKSPACE;
}

static int take_lock(struct unmounted *f, const char *command, const char *dir)
{
	char at[PATH_MAX] = "";

	f->lock_fd = openat(f->stomp_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (f->lock_fd < 0)
		return report_errno(command, dir, -errno);
	if (flock(f->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return STOMP_DONE;
	(void)!pread(f->lock_fd, at, sizeof(at) - 1, 0); /* where its daemon mounted it */
	fprintf(stderr,
		"stomp %s: %s is served by a daemon, mounted elsewhere%s%s; `stomp umount` "
		"its mount first\n",
		command, dir, *at ? ", at " : "", at);
	return STOMP_NO;
}

int unmounted_lock(struct unmounted *f, const char *command, const char *dir)
{
	*f = UNMOUNTED_NONE;
	f->root_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->root_fd < 0)
		return report_errno(command, dir, -errno);
	f->stomp_fd = openat(
		f->root_fd, ".stomp", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (f->stomp_fd >= 0)
		return take_lock(f, command, dir);
	if (errno != ENOENT)
		return report_errno(command, dir, -errno);
	fprintf(stderr, "stomp %s: %s has no history: it was never mounted\n", command,
		dir);
	return STOMP_NO_WORKSPACE;
}

void unmounted_done(struct unmounted *f)
{
	if (f->lock_fd >= 0)
		close(f->lock_fd);
	if (f->stomp_fd >= 0)
		close(f->stomp_fd);
	if (f->root_fd >= 0)
		close(f->root_fd);
	*f = UNMOUNTED_NONE;
}
