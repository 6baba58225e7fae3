#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

#include "base/mounts.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/programs.h"
#include "cli/show.h"
#include "cli/terminal.h"
#include "cli/workspace.h"

#define CHECKS_MAX 24
#define NOFILE_ENOUGH 65536
#define SPACE_FAIL_BYTES (64ULL << 20)
#define SPACE_WARN_BYTES (1ULL << 30)

enum { OPT_JSON };

static const struct option_spec options[] = {
	[OPT_JSON] = {"json", 0, NULL, "as JSON (schema stompfs/doctor/1)", false}, {0}};

static const struct command_spec spec = {
	.name = "doctor",
	.usage = "[DIR] [--json]",
	.about = "Look at everything a mount needs, and at the workspace that holds DIR "
		 "(default:\n"
		 "the current folder). One line each: ok, warn or fail, and what to do. "
		 "Exit\n"
		 "code 1 when something fails.",
	.example = "  stomp doctor ~/project",
	.options = options,
	.max_args = 1,
};

enum state { CHECK_OK, CHECK_WARN, CHECK_FAIL };

static const char *const state_names[] = {"ok", "warn", "fail"};

struct check {
	const char *name;
	enum state state;
	struct buf found, todo;
};

struct checks {
	struct check rows[CHECKS_MAX];
	size_t n;
};

#define auto_checks __attribute__((cleanup(checks_done))) struct checks

static void checks_done(struct checks *c)
{
	for (size_t i = 0; i < c->n; i++) {
		buf_done(&c->rows[i].found);
		buf_done(&c->rows[i].todo);
	}
}

static void add(struct checks *c, const char *name, enum state state, const char *todo,
	const char *fmt, ...) printf_like(5, 6);

/* todo: what to do about it; NULL where there is nothing to do. */
static void add(struct checks *c, const char *name, enum state state, const char *todo,
	const char *fmt, ...)
{
	struct check *row;
	va_list ap;

	if (c->n == CHECKS_MAX)
		return;
	row = &c->rows[c->n++];
	*row = (struct check){.name = name, .state = state};
	va_start(ap, fmt);
	buf_vprintf(&row->found, fmt, ap);
	va_end(ap);
	if (todo)
		buf_puts(&row->todo, todo);
}

static void check_device(struct checks *c)
{
	auto_close int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		add(c, "/dev/fuse", CHECK_OK, NULL, "can be opened");
	else if (errno == ENOENT)
		add(c, "/dev/fuse", CHECK_FAIL,
			"modprobe fuse; in a container: --device /dev/fuse --cap-add "
			"SYS_ADMIN",
			"does not exist");
	else
		add(c, "/dev/fuse", CHECK_FAIL,
			"chmod 0666 /dev/fuse as root, or mount as root",
			"cannot be opened: %s", strerror(errno));
}

static void check_fusermount(struct checks *c)
{
	char path[PATH_MAX];
	struct stat st;

	if (!program_in_path("fusermount3", path, sizeof(path))) {
		add(c, "fusermount3", geteuid() == 0 ? CHECK_OK : CHECK_FAIL,
			geteuid() == 0 ? NULL : "install the package fuse3",
			geteuid() == 0 ? "not installed; as root it is not needed"
				       : "not installed; without it only root can mount");
		return;
	}
	if (geteuid() != 0 && stat(path, &st) == 0 && !(st.st_mode & S_ISUID))
		add(c, "fusermount3", CHECK_WARN, "reinstall the package fuse3",
			"%s is not setuid root", path);
	else
		add(c, "fusermount3", CHECK_OK, NULL, "%s", path);
}

static void check_kernel(struct checks *c)
{
	unsigned major = 0, minor = 0;
	struct utsname u;

	uname(&u);
	if (sscanf(u.release, "%u.%u", &major, &minor) != 2 || major < 5 ||
		(major == 5 && minor < 6))
		add(c, "kernel", CHECK_FAIL, "use Linux 5.6 or newer", "%s has no openat2",
			u.release);
	else if (major < 6 || (major == 6 && minor < 6))
		add(c, "kernel", CHECK_WARN, "Linux 6.6 or newer lets them be mapped",
			"%s cannot share mappings of guarded files that are written",
			u.release);
	else
		add(c, "kernel", CHECK_OK, NULL, "%s", u.release);
}

/* What would be loaded now; stomp itself is not linked with it. */
static void check_libfuse(struct checks *c)
{
	static const char *const names[] = {"libfuse3.so.4", "libfuse3.so.3"};
	const char *(*version)(void) = NULL;
	void *library = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(names) && !library; i++)
		library = dlopen(names[i], RTLD_LAZY | RTLD_LOCAL);
	if (library)
		*(void **)&version = dlsym(library, "fuse_pkgversion");
	if (!version)
		add(c, "libfuse", CHECK_FAIL, "install the package libfuse3-3 (or fuse3)",
			"no libfuse 3 is installed");
	else if (strverscmp(version(), "3.14") < 0)
		add(c, "libfuse", CHECK_FAIL, "use 3.14 or newer", "%s is too old",
			version());
	else
		add(c, "libfuse", CHECK_OK, NULL, "%s", version());
	if (library)
		dlclose(library);
}

static void check_daemon(struct checks *c)
{
	char path[PATH_MAX];

	if (program_stompfs(path, sizeof(path)))
		add(c, "stompfs", CHECK_OK, NULL, "%s", path);
	else
		add(c, "stompfs", CHECK_FAIL,
			"install it beside stomp, or put it into PATH",
			"the program is not found");
}

static bool allows_other(void)
{
	FILE *f = fopen("/etc/fuse.conf", "re");
	char line[256];
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		const char *word = line + strspn(line, " \t");

		found = strncmp(word, "user_allow_other", 16) == 0 &&
			strspn(word + 16, " \t\n") == strlen(word + 16);
	}
	if (f)
		fclose(f);
	return found;
}

static void check_allow_other(struct checks *c)
{
	if (geteuid() == 0)
		add(c, "allow_other", CHECK_OK, NULL,
			"root may share a mount with other users");
	else if (allows_other())
		add(c, "allow_other", CHECK_OK, NULL,
			"user_allow_other is in /etc/fuse.conf");
	else
		add(c, "allow_other", CHECK_WARN,
			"to share a workspace with other users: a line user_allow_other in "
			"/etc/fuse.conf",
			"only you will see what you mount");
}

static void check_files(struct checks *c)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	if (limit.rlim_max < NOFILE_ENOUGH && geteuid() != 0)
		add(c, "open files", CHECK_WARN,
			"raise it (ulimit -Hn 1048576, or nofile in limits.conf) for large "
			"trees",
			"at most %llu", (unsigned long long)limit.rlim_max);
	else
		add(c, "open files", CHECK_OK, NULL, "up to %llu",
			(unsigned long long)limit.rlim_max);
}

/* Every stompfs mount we see; a dead one is in everybody's way. False where the path
 * lies in one that does not answer: asking it more would hang. */
static bool check_mounts(struct checks *c, const char *absolute)
{
	auto_mounts list = {0};
	size_t alive = 0;
	bool answers = true;

	if (mounts_read(&list) < 0)
		return true;
	for (size_t i = 0; i < list.n; i++) {
		const char *point = list.rows[i].point;
		auto_buf todo = {0};
		int r;

		if (!mount_is_stompfs(&list.rows[i]))
			continue;
		r = mount_alive(point);
		alive += r == 0;
		if (r == -ENOTCONN || r == -ECONNABORTED) {
			buf_printf(&todo,
				"stomp mount %s mounts it again (stomp umount %s only "
				"clears it)",
				point, point);
			add(c, "mounts", CHECK_FAIL, todo.data, "the daemon of %s is gone",
				point);
		} else if (r == -ETIMEDOUT) {
			buf_printf(&todo, "stomp umount --lazy %s", point);
			add(c, "mounts", CHECK_FAIL, todo.data, "%s does not answer",
				point);
			answers &= strncmp(absolute, point, strlen(point)) != 0;
		}
	}
	if (alive)
		add(c, "mounts", CHECK_OK, NULL, "%zu that answer", alive);
	return answers;
}

static void check_space(struct checks *c, const char *dir)
{
	auto_buf shown = {0};
	struct statvfs st;
	uint64_t free_bytes;
	enum state state = CHECK_OK;

	if (statvfs(dir, &st) != 0) {
		add(c, "free space", CHECK_FAIL, NULL, "%s: %s", dir, strerror(errno));
		return;
	}
	free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	if (free_bytes < SPACE_FAIL_BYTES)
		state = CHECK_FAIL;
	else if (free_bytes < SPACE_WARN_BYTES)
		state = CHECK_WARN;
	put_size(&shown, free_bytes);
	add(c, "free space", state,
		state == CHECK_OK ? NULL
				  : "make room: where no version can be kept, changes are "
				    "refused (ENOSPC)",
		"%s for %s", shown.data ?: "?", dir);
}

static bool kernel_is(unsigned want_major, unsigned want_minor)
{
	unsigned major = 0, minor = 0;
	struct utsname u;

	uname(&u);
	return sscanf(u.release, "%u.%u", &major, &minor) == 2 &&
	       (major > want_major || (major == want_major && minor >= want_minor));
}

static void check_supervisor(struct checks *c, struct json_object *status)
{
	long long pid = (long long)json_number(status, "supervisor", 0);
	bool stays = kernel_is(6, 16); /* FUSE_NOTIFY_INC_EPOCH */

	if (!pid)
		add(c, "supervisor", CHECK_OK, NULL,
			"none: a daemon that ends is not started again (stomp mount "
			"--supervise)");
	else
		add(c, "supervisor", stays ? CHECK_OK : CHECK_WARN,
			stays ? NULL : "use Linux 6.16 or newer, which lets the mount stay",
			"process %lld, %lld restarts; the kernel %s", pid,
			(long long)json_number(status, "restarts", 0),
			stays ? "can forget what it knew (INC_EPOCH)" : "has no INC_EPOCH");
}

static void check_passthrough(struct checks *c, struct json_object *status)
{
	if (json_flag(status, "passthrough"))
		add(c, "passthrough", CHECK_OK, NULL,
			"the kernel reads the backing by itself");
	else
		add(c, "passthrough", CHECK_OK, NULL, "not in use: %s",
			kernel_is(6, 9) ? "-o no_passthrough, a daemon without "
					  "CAP_SYS_ADMIN, or a backing that cannot be "
					  "passed (reads come to the daemon)"
					: "it needs Linux 6.9 (reads come to the daemon)");
}

/* A history that outgrows what is left refuses every change before long (V7). */
static void check_journal_room(struct checks *c, const char *root, uint64_t used)
{
	auto_buf shown = {0}, left = {0};
	struct statvfs st;
	uint64_t free_bytes;

	if (statvfs(root, &st) != 0)
		return;
	free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	put_size(&shown, used);
	put_size(&left, free_bytes);
	add(c, "history size", used > free_bytes ? CHECK_WARN : CHECK_OK,
		used > free_bytes
			? "`stomp gc`, or a shorter keep= in the policy, makes room"
			: NULL,
		"%s, with %s free", shown.data ?: "?", left.data ?: "?");
}

static void check_undos(struct checks *c, struct json_object *status)
{
	struct json_object *undos = json_list(status, "interrupted_undos");

	for (size_t i = 0; undos && i < json_object_array_length(undos); i++) {
		struct json_object *undo = json_object_array_get_idx(undos, i);

		add(c, "undo", CHECK_WARN, "`stomp undo` takes back what it has done",
			"%lld, of %s by %s, was cut short: the tree is half undone",
			(long long)json_number(undo, "set", 0),
			json_text(undo, "what", "?"), json_text(undo, "writer", "?"));
	}
}

static void check_workspace(struct checks *c, const char *absolute)
{
	auto_workspace ws = {.stomp_fd = -1};
	auto_buf text = {0}, stored = {0};
	auto_json *json = NULL;
	const char *health, *transport;

	if (workspace_find(&ws, absolute) < 0 ||
		workspace_json(&ws, "status.json", "status", &text, &json) < 0) {
		add(c, "workspace", CHECK_OK, NULL, "%s is not in a mounted one", absolute);
		return;
	}
	add(c, "workspace", CHECK_OK, NULL, "%s, stompfs %s with libfuse %s", ws.root,
		json_text(json, "version", "?"), json_text(json, "libfuse", "?"));
	transport = json_text(json, "transport", "/dev/fuse");
	add(c, "transport", strstr(transport, "no io_uring") ? CHECK_WARN : CHECK_OK,
		"mount without -o uring, or change what stands in its way",
		"requests come by %s", transport);
	if (strcmp(json_text(json, "version", ""), STOMPFS_VERSION) != 0)
		add(c, "version", CHECK_WARN, "unmount and mount again to use the new one",
			"stomp is %s, the daemon %s", STOMPFS_VERSION,
			json_text(json, "version", "?"));
	health = json_text(json, "health", "unknown");
	put_size(&stored, (uint64_t)json_number(json, "journal_bytes", 0));
	if (strcmp(health, "ok") == 0)
		add(c, "journal", CHECK_OK, NULL, "healthy; %lld versions, %s bytes",
			(long long)json_number(json, "versions", 0), stored.data ?: "?");
	else
		add(c, "journal", CHECK_FAIL,
			"until it is mended, changes are refused rather than made without "
			"a version",
			"%s", health);
	check_journal_room(c, ws.root, (uint64_t)json_number(json, "used_bytes", 0));
	check_undos(c, json);
	check_supervisor(c, json);
	check_passthrough(c, json);
	if (workspace_is_beneath(&ws))
		add(c, "this shell", CHECK_FAIL, "cd \"$PWD\"",
			"stands beneath the mount, where nothing is guarded");
}

static enum state worst(const struct checks *c)
{
	enum state state = CHECK_OK;

	for (size_t i = 0; i < c->n; i++)
		state = c->rows[i].state > state ? c->rows[i].state : state;
	return state;
}

static int print_checks(const struct checks *c)
{
	static const enum colour colours[] = {COLOUR_GREEN, COLOUR_YELLOW, COLOUR_RED};
	struct output out;

	output_begin(&out, false);
	for (size_t i = 0; i < c->n; i++) {
		const struct check *row = &c->rows[i];

		fprintf(out.f, "%s%-4s%s  %-12s %s\n", output_on(&out, colours[row->state]),
			state_names[row->state], output_off(&out, colours[row->state]),
			row->name, row->found.data ?: "");
		if (row->todo.len)
			fprintf(out.f, "%19s→ %s\n", "", row->todo.data);
	}
	return output_end(&out);
}

static int print_json(const struct checks *c)
{
	auto_buf out = {0};

	buf_printf(&out, "{\"schema\":\"stompfs/doctor/1\",\"result\":\"%s\",\"checks\":[",
		state_names[worst(c)]);
	for (size_t i = 0; i < c->n; i++) {
		const struct check *row = &c->rows[i];

		buf_printf(&out,
			"%s{\"name\":\"%s\",\"state\":\"%s\",\"found\":", i ? "," : "",
			row->name, state_names[row->state]);
		buf_put_json_str(&out, row->found.data ?: "");
		buf_puts(&out, ",\"todo\":");
		buf_put_json_str(&out, row->todo.data);
		buf_putc(&out, '}');
	}
	buf_puts(&out, "]}");
	return buf_failed(&out) ? STOMP_FAILED : show_json_text(out.data);
}

int cmd_doctor(int argc, char **argv)
{
	auto_options o = {0};
	auto_checks c = {0};
	auto_free char *absolute = NULL;
	int r = options_parse(&spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	r = path_resolve(o.n_args ? o.args[0] : ".", &absolute);
	if (r < 0)
		return report_errno(
			spec.name, o.n_args ? o.args[0] : "the current folder", r);
	check_device(&c);
	check_fusermount(&c);
	check_kernel(&c);
	check_libfuse(&c);
	check_daemon(&c);
	check_allow_other(&c);
	check_files(&c);
	if (check_mounts(&c, absolute)) {
		check_space(&c, absolute);
		check_workspace(&c, absolute);
	}
	r = o.values[OPT_JSON] ? print_json(&c) : print_checks(&c);
	if (r != STOMP_DONE)
		return r;
	return worst(&c) == CHECK_FAIL ? STOMP_NO : STOMP_DONE;
}
