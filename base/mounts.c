#include "base/mounts.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { ALIVE_WAIT_MS = 2000, LAYERS_MAX = 16 };

void mounts_done(struct mount_list *list)
{
	for (size_t i = 0; i < list->n; i++) {
		free(list->rows[i].point);
		free(list->rows[i].type);
	}
	free(list->rows);
	*list = (struct mount_list){0};
}

/* \040 and its like, in place. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *c = text; *c; to++) {
		if (c[0] == '\\' && c[1] >= '0' && c[1] <= '3' && c[2] >= '0' &&
			c[2] <= '7' && c[3] >= '0' && c[3] <= '7') {
			*to = (char)((c[1] - '0') << 6 | (c[2] - '0') << 3 | (c[3] - '0'));
			c += 4;
		} else {
			*to = *c++;
		}
	}
	*to = '\0';
}

/* One line of mountinfo: "36 35 98:0 /root /point opts … - type source opts". */
static int add_row(struct mount_list *list, char *line)
{
	char *field = line, *point = NULL, *dash = strstr(line, " - ");
	struct mount_row *rows;

	for (int i = 0; field && i < 5; i++)
		point = strsep(&field, " ");
	if (!field || !dash)
		return 0;
	rows = reallocarray(list->rows, list->n + 1, sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	list->rows = rows;
	unescape(point);
	rows[list->n] = (struct mount_row){
		.point = strdup(point), .type = strndup(dash + 3, strcspn(dash + 3, " "))};
	list->n++;
	return rows[list->n - 1].point && rows[list->n - 1].type ? 0 : -ENOMEM;
}

int mounts_read(struct mount_list *list)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	auto_free char *line = NULL;
	size_t cap = 0;
	int r = 0;

	*list = (struct mount_list){0};
	if (!f)
		return -errno;
	while (r == 0 && getline(&line, &cap, f) > 0)
		r = add_row(list, line);
	fclose(f);
	if (r < 0)
		mounts_done(list);
	return r;
}

const struct mount_row *mounts_find(const struct mount_list *list, const char *point)
{
	for (size_t i = list->n; i-- > 0;) {
		if (strcmp(list->rows[i].point, point) == 0)
			return &list->rows[i];
	}
	return NULL;
}

int mount_resolve(char **path)
{
	auto_mounts list = {0};
	char *real;
	int r = mounts_read(&list);

	if (r < 0 || mounts_find(&list, *path))
		return r;
	real = realpath(*path, NULL);
	if (real) {
		free(*path);
		*path = real;
	}
	return 0;
}

bool mount_is_stompfs(const struct mount_row *row)
{
	return row && strcmp(row->type, "fuse.stompfs") == 0;
}

/* True once the child has ended; false when it did not in time, or cannot be watched. */
static bool ends_in_time(pid_t pid)
{
	auto_close int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd end = {.fd = fd, .events = POLLIN};
	int n;

	do
		n = poll(&end, 1, ALIVE_WAIT_MS);
	while (n < 0 && errno == EINTR);
	return fd >= 0 && n > 0;
}

int mount_alive(const char *point)
{
	const int unknown = 255;
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		struct statfs st;

		/* It may stay stuck when we are gone: nobody shall wait for its end of a
		 * pipe. */
		close_range(0, UINT_MAX, 0);
		/* Not stat(): the kernel answers that from its cache, for the dead too. */
		_exit(statfs(point, &st) == 0 ? 0 : errno < unknown ? errno : unknown);
	}
	if (!ends_in_time(pid)) {
		/* Not waited for: a request the daemon has taken cannot be interrupted. */
		kill(pid, SIGKILL);
		return -ETIMEDOUT;
	}
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

static int fusermount_detach(const char *point)
{
	extern char **environ;
	const char *argv[] = {"fusermount3", "-u", "-z", "--", point, NULL};
	int status;
	pid_t pid;
	int r = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)argv, environ);

	if (r != 0)
		return -r;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

int mount_detach(const char *point)
{
	int r = umount2(point, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 ? 0 : -errno;

	return r == -EPERM ? fusermount_detach(point) : r;
}

/* Of the layers at point, how many are stompfs, down to the first that is not. */
static int count_stompfs(const struct mount_list *list, const char *point)
{
	int n = 0;

	for (size_t i = list->n; i-- > 0;) {
		if (strcmp(list->rows[i].point, point) != 0)
			continue;
		if (!mount_is_stompfs(&list->rows[i]))
			break;
		n++;
	}
	return n;
}

/* How many were taken away; *left: a dead one is still there. */
static int detach_dead(const char *point, int keep, bool *left)
{
	*left = false;
	for (int n = 0; n < LAYERS_MAX; n++) {
		auto_mounts list = {0};
		int r = mounts_read(&list), layers;

		if (r < 0)
			return r;
		layers = count_stompfs(&list, point);
		if (layers == 0)
			return n;
		r = mount_alive(point);
		if (r == -ETIMEDOUT)
			return r;
		if (r != -ENOTCONN && r != -ECONNABORTED)
			return n;
		*left = layers <= keep;
		if (*left)
			return n;
		r = mount_detach(point);
		if (r < 0)
			return r;
	}
	return LAYERS_MAX;
}

int mount_detach_dead(const char *point)
{
	bool left;

	return detach_dead(point, 0, &left);
}

int mount_detach_dead_but_one(const char *point)
{
	bool left;
	int r = detach_dead(point, 1, &left);

	return r < 0 ? r : left;
}
