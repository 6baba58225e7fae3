#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mounts.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/programs.h"
#include "cli/undo_back.h"
#include "cli/workspace.h"

enum { OPT_O, OPT_FOREGROUND, OPT_SUPERVISE };

static const struct option_spec options[] = {
	[OPT_O] = {"options", 'o', "OPTS", "mount options, as stompfs(8) lists them", true},
	[OPT_FOREGROUND] = {"foreground", 'f', NULL, "stay in the foreground", false},
	[OPT_SUPERVISE] = {"supervise", 0, NULL,
		"start the daemon again by itself when it dies", false},
	{0}};

static const struct command_spec spec = {
	.name = "mount",
	.usage = "DIR [MOUNTPOINT] [--supervise] [-o OPTS] [-f]",
	.about =
		"Make DIR a workspace: mount stompfs over DIR itself (nothing can go "
		"round it\n"
		"then), or at MOUNTPOINT. A dead mount that a killed daemon left there is\n"
		"replaced. Shells that already stand in DIR must enter it again: cd "
		"\"$PWD\".",
	.example = "  stomp mount ~/project\n"
		   "  stomp mount ~/project -o refusal=EBUSY,show\n"
		   "  stomp mount ~/project --supervise",
	.options = options,
	.min_args = 1,
	.max_args = 2,
};

/* What is mounted at this point already: a dead mount is the daemon's to replace, anything
 * alive is a refusal. STOMP_DONE: the way is free. */
static int check_point(const char *point, bool *dead)
{
	auto_mounts list = {0};
	int r = mounts_read(&list);

	if (r < 0)
		return report_errno(spec.name, "/proc/self/mountinfo", r);
	*dead = false;
	if (!mount_is_stompfs(mounts_find(&list, point)))
		return STOMP_DONE;
	r = mount_alive(point);
	*dead = r == -ENOTCONN || r == -ECONNABORTED;
	if (*dead)
		return STOMP_DONE;
	if (r == -ETIMEDOUT) {
		fprintf(stderr,
			"stomp mount: a mount at %s is there and does not answer; "
			"`stomp umount --lazy %s` takes it away\n",
			point, point);
		return STOMP_FAILED;
	}
	fprintf(stderr, "stomp mount: %s is mounted already (`stomp status %s`)\n", point,
		point);
	return STOMP_NO;
}

/* Below a workspace that answers, a second one would only guard what is guarded. */
static int check_not_inside(const char *point)
{
	auto_workspace ws = {.stomp_fd = -1};

	if (workspace_find(&ws, point) != 0)
		return STOMP_DONE;
	fprintf(stderr, "stomp mount: %s is inside the workspace %s already\n", point,
		ws.root);
	return STOMP_NO;
}

static int check_folder(const char *given, const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return report_errno(spec.name, given, -errno);
	if (!S_ISDIR(st.st_mode)) {
		fprintf(stderr, "stomp mount: %s is not a folder\n", given);
		return STOMP_USAGE;
	}
	return STOMP_DONE;
}

static int resolve_point(const char *given, char **point)
{
	int r = path_resolve(given, point);

	if (r == 0)
		r = mount_resolve(point);
	return r < 0 ? report_errno(spec.name, given, r) : STOMP_DONE;
}

static int start(const char *dir, const char *point, const struct options *o)
{
	char program[PATH_MAX];
	const char *argv[10] = {program, dir, point};
	int n = 3, r;

	if (!program_stompfs(program, sizeof(program))) {
		fprintf(stderr, "stomp mount: the program stompfs is not beside stomp, not "
				"in libexec and "
				"not in PATH; was it installed?\n");
		return STOMP_FAILED;
	}
	if (o->values[OPT_O]) {
		argv[n++] = "-o";
		argv[n++] = o->values[OPT_O];
	}
	if (o->values[OPT_SUPERVISE]) {
		argv[n++] = "-o";
		argv[n++] = "supervise";
	}
	if (o->values[OPT_FOREGROUND]) {
		argv[n++] = "-f";
		execv(program, (char *const *)argv);
		return report_errno(spec.name, program, -errno);
	}
	r = program_run(argv);
	if (r < 0)
		return report_errno(spec.name, program, r);
	if (r != 0)
		return r == 1 || r >= 128 ? STOMP_FAILED : r;
	printf("mounted: %s (shells that stand in it already: cd \"$PWD\")\n", point);
	return STOMP_DONE;
}

/* All files or none: an undo that was cut short (with the daemon, or by a kill) is nobody's
 * to finish. What stands in the way of that is told, and is no failure of the mount. */
static void take_back_undos(const char *point)
{
	auto_workspace ws = {.stomp_fd = -1};
	unsigned n;

	if (workspace_find(&ws, point) == 0)
		(void)!undo_take_back_interrupted(&ws, &n);
}

int cmd_mount(int argc, char **argv)
{
	auto_options o = {0};
	auto_free char *dir = NULL, *point = NULL;
	bool dead = false;
	int r = options_parse(&spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	r = resolve_point(o.args[0], &dir) ?: resolve_point(o.args[o.n_args - 1], &point);
	if (r == STOMP_DONE)
		r = check_point(point, &dead);
	if (r == STOMP_DONE && !dead)
		r = check_folder(o.args[0], dir)
			    ?: check_folder(o.args[o.n_args - 1], point);
	if (r == STOMP_DONE && !dead)
		r = check_not_inside(dir);
	if (r == STOMP_DONE)
		r = start(dir, point, &o);
	if (r == STOMP_DONE)
		take_back_undos(point);
	return r;
}
