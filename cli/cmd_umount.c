#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "base/mounts.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/programs.h"
#include "cli/workspace.h"

#define USERS_MAX 10
#define EXIT_WAIT_MS 30000
#define COPIES_WAIT_MS 5000 /* before we look who else has the mount */

enum { OPT_LAZY };

static const struct option_spec options[] = {
	[OPT_LAZY] = {"lazy", 'l', NULL, "also while in use, or when it does not answer",
		false},
	{0}};

static const struct command_spec spec = {
	.name = "umount",
	.usage = "DIR [--lazy]",
	.about = "Unmount the workspace at DIR and wait until its daemon has written "
		 "everything\n"
		 "and ended. While a program uses it, it says which one (exit code 1), "
		 "also\n"
		 "where that is a container with a copy of the mount.",
	.example = "  stomp umount ~/project",
	.options = options,
	.min_args = 1,
	.max_args = 1,
};

static bool is_below(const char *path, const char *point)
{
	size_t n = strlen(point);

	return strncmp(path, point, n) == 0 && (!path[n] || path[n] == '/');
}

static bool link_is_below(int dir, const char *name, const char *point)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);

	if (n < 0)
		return false;
	target[n] = '\0';
	return is_below(target, point);
}

static bool has_open_file(int process, const char *point)
{
	int fd = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_dir DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;

	while (dir && (e = readdir(dir))) {
		if (link_is_below(fd, e->d_name, point))
			return true;
	}
	return false;
}

/* How a process uses the mount, or NULL. */
static const char *use_of(int process, const char *point)
{
	if (link_is_below(process, "cwd", point))
		return "stands in it";
	if (link_is_below(process, "root", point))
		return "has its root in it";
	if (link_is_below(process, "exe", point))
		return "runs from it";
	return has_open_file(process, point) ? "has a file of it open" : NULL;
}

static void print_process(int process, const char *pid, const char *use)
{
	auto_close int comm = openat(process, "comm", O_RDONLY | O_CLOEXEC);
	char name[64] = "?";
	ssize_t size = comm < 0 ? 0 : read(comm, name, sizeof(name) - 1);

	if (size > 0)
		name[size] = '\0';
	fprintf(stderr, "  %s %.*s: %s\n", pid, (int)strcspn(name, "\n"), name, use);
}

/* As far as /proc tells us. */
static void print_users(const char *point)
{
	auto_dir DIR *proc = opendir("/proc");
	const struct dirent *e;
	int n = 0;

	while (proc && n < USERS_MAX && (e = readdir(proc))) {
		auto_close int process = -1;
		const char *use;

		if (e->d_name[0] < '0' || e->d_name[0] > '9')
			continue;
		process = openat(dirfd(proc), e->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		use = process < 0 ? NULL : use_of(process, point);
		if (!use)
			continue;
		print_process(process, e->d_name, use);
		n++;
	}
	if (!n)
		fprintf(stderr,
			"  (no process that we may see; as root more can be seen)\n");
}

/* ---- the mount in other mount namespaces ---- */

static bool sees_device(int process, dev_t device)
{
	auto_close int fd = openat(process, "mountinfo", O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	auto_free char *line = NULL;
	bool found = false;
	size_t room = 0;

	if (!f)
		return false;
	fd = -1; /* closed with f */
	while (!found && getline(&line, &room, f) > 0) {
		unsigned major, minor;

		found = sscanf(line, "%*d %*d %u:%u", &major, &minor) == 2 &&
			makedev(major, minor) == device;
	}
	fclose(f);
	return found;
}

/* Of each namespace that has it one process; how many, as far as /proc tells us. */
static int print_copies(dev_t device, const char *point)
{
	auto_dir DIR *proc = opendir("/proc");
	ino_t seen[USERS_MAX];
	const struct dirent *e;
	int n = 0;

	while (proc && n < USERS_MAX && (e = readdir(proc))) {
		auto_close int process = -1;
		bool known = false;
		struct stat ns;

		if (e->d_name[0] < '0' || e->d_name[0] > '9')
			continue;
		process = openat(dirfd(proc), e->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (process < 0 || fstatat(process, "ns/mnt", &ns, 0) < 0)
			continue;
		for (int i = 0; i < n; i++)
			known |= seen[i] == ns.st_ino;
		if (known || !sees_device(process, device))
			continue;
		if (n == 0)
			fprintf(stderr,
				"stomp umount: %s is unmounted here; its daemon goes on "
				"for "
				"who has a copy of\nthe mount, and ends with the last of "
				"them:\n",
				point);
		print_process(process, e->d_name, "has it in its mount namespace");
		seen[n++] = ns.st_ino;
	}
	return n;
}

/* In another pid namespace the number may be somebody else's here. */
static bool is_stompfs(int64_t pid)
{
	auto_buf path = {0};
	auto_close int fd = -1;
	char comm[16] = "";

	buf_printf(&path, "/proc/%lld/comm", (long long)pid);
	fd = pid > 0 && !buf_failed(&path) ? open(path.data, O_RDONLY | O_CLOEXEC) : -1;
	return fd >= 0 && read(fd, comm, sizeof(comm)) > 0 &&
	       strncmp(comm, "stompfs\n", 8) == 0;
}

/* The daemon that answers there, as a pidfd; -1 where it cannot be known. */
static int daemon_of(const char *point)
{
	auto_workspace ws = {.stomp_fd = -1};
	auto_buf text = {0};
	auto_json *json = NULL;
	int64_t pid;

	if (workspace_find(&ws, point) < 0 || strcmp(ws.root, point) != 0 ||
		workspace_json(&ws, "status.json", "status", &text, &json) < 0)
		return -1;
	/* A supervisor ends last. */
	pid = json_number(json, "supervisor", 0) ?: json_number(json, "pid", 0);
	return is_stompfs(pid) ? (int)syscall(SYS_pidfd_open, (pid_t)pid, 0) : -1;
}

static int do_umount(const char *point, bool lazy)
{
	char program[PATH_MAX];
	int r;

	if (umount2(point, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return 0;
	r = -errno;
	if (r != -EPERM)
		return r;
	if (!program_in_path("fusermount3", program, sizeof(program)))
		return r;
	if (lazy)
		r = program_run(
			(const char *const[]){program, "-u", "-z", "--", point, NULL});
	else
		r = program_run((const char *const[]){program, "-u", "--", point, NULL});
	/* It said itself what is wrong; being in use is by far the commonest. */
	return r == 0 ? 0 : r < 0 ? r : -EBUSY;
}

static int check_mounted(const char *given, const char *point)
{
	auto_mounts list = {0};
	auto_workspace ws = {.stomp_fd = -1};
	const struct mount_row *row;
	int r = mounts_read(&list);

	if (r < 0)
		return report_errno(spec.name, "/proc/self/mountinfo", r);
	row = mounts_find(&list, point);
	if (mount_is_stompfs(row))
		return STOMP_DONE;
	if (row)
		fprintf(stderr, "stomp umount: the mount at %s is no workspace, but %s\n",
			given, row->type);
	else if (workspace_find(&ws, point) == 0)
		fprintf(stderr,
			"stomp umount: %s is inside the workspace; its root is %s\n", given,
			ws.root);
	else
		fprintf(stderr, "stomp umount: nothing is mounted at %s\n", given);
	return STOMP_NO_WORKSPACE;
}

static bool ends_within(int daemon, int ms)
{
	struct pollfd end = {.fd = daemon, .events = POLLIN};
	int n;

	do
		n = poll(&end, 1, ms);
	while (n < 0 && errno == EINTR);
	return n != 0;
}

/* device: of the mount, 0: not known. */
static int wait_for_end(int daemon, dev_t device, const char *point)
{
	if (ends_within(daemon, COPIES_WAIT_MS))
		return STOMP_DONE;
	if (device && print_copies(device, point) > 0)
		return STOMP_NO;
	if (ends_within(daemon, EXIT_WAIT_MS - COPIES_WAIT_MS))
		return STOMP_DONE;
	fprintf(stderr,
		"stomp umount: %s is unmounted, but its daemon still writes after %d s; do "
		"not "
		"kill it\n",
		point, EXIT_WAIT_MS / 1000);
	return STOMP_FAILED;
}

int cmd_umount(int argc, char **argv)
{
	auto_options o = {0};
	auto_free char *point = NULL;
	auto_close int daemon = -1;
	struct stat st = {0};
	bool lazy;
	int r = options_parse(&spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	lazy = o.values[OPT_LAZY];
	r = path_resolve(o.args[0], &point);
	if (r == 0)
		r = mount_resolve(&point);
	if (r < 0)
		return report_errno(spec.name, o.args[0], r);
	r = check_mounted(o.args[0], point);
	if (r != STOMP_DONE)
		return r;
	daemon = lazy || mount_alive(point) < 0 ? -1 : daemon_of(point);
	if (daemon >= 0 && stat(point, &st) < 0)
		st.st_dev = 0;
	r = do_umount(point, lazy);
	if (r == -EBUSY) {
		fprintf(stderr, "stomp umount: %s is in use:\n", o.args[0]);
		print_users(point);
		return STOMP_NO;
	}
	if (r < 0)
		return report_errno(spec.name, o.args[0], r);
	return daemon < 0 ? STOMP_DONE : wait_for_end(daemon, st.st_dev, point);
}
