#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/conflict.h"
#include "cli/content.h"
#include "cli/options.h"
#include "cli/words.h"

/* The words of a ctl line, in the order of the options below. */
enum { OPT_OURS, OPT_THEIRS, OPT_MERGED, OPT_FILE, WAYS };

static const char *const ways[WAYS] = {"ours", "theirs", "merged", "file"};

static const struct option_spec options[] = {
	[OPT_OURS] = {"ours", 0, NULL, "leave the file as it is now", false},
	[OPT_THEIRS] = {"theirs", 0, NULL, "write what was refused", false},
	[OPT_MERGED] = {"merged", 0, NULL, "write both changes, merged", false},
	[OPT_FILE] = {"file", 'f', "F", "write F, which you have made of them", false},
	{0}};

static const struct command_spec spec = {
	.name = "resolve",
	.usage = "ID --ours|--theirs|--merged|--file F [DIR]",
	.about =
		"Settle the conflict ID (stomp conflicts). What is written is a version "
		"like any\nother: it is refused where another writer is changing the file, "
		"and can be rolled\nback. F may be the file itself, once you have put it "
		"right.",
	.example = "  stomp conflicts show 31\n"
		   "  stomp resolve 31 --merged",
	.options = options,
	.min_args = 1,
	.max_args = 2,
};

/* The one way that was given, or -1. */
static int find_way(const struct options *o)
{
	int way = -1;

	for (int i = 0; i < WAYS; i++) {
		if (o->values[i] && way >= 0)
			return -1;
		if (o->values[i])
			way = i;
	}
	return way;
}

static int say_resolved(const struct conflict *c, struct json_object *resolved)
{
	auto_buf when = {0};

	version_when(&when, json_text(resolved, "time", ""));
	fprintf(stderr, "stomp resolve: conflict %llu was resolved before: %s, by %s, %s\n",
		(unsigned long long)c->id, json_text(resolved, "how", "?"),
		json_text(resolved, "by", "?"), when.data ?: "");
	return STOMP_NO;
}

static int say_unmergeable(const struct conflict *c)
{
	fprintf(stderr,
		"stomp resolve: conflict %llu does not merge: both have changed the same "
		"lines of\n%s, or it is not text of which the origin is known.\n"
		"`stomp conflicts show %llu` shows both; write what is right to a file F, "
		"then\nstomp resolve %llu --file F\n",
		(unsigned long long)c->id, c->path, (unsigned long long)c->id,
		(unsigned long long)c->id);
	return STOMP_NO;
}

static bool stat_target(
	const struct workspace *ws, const struct conflict *c, struct stat *st)
{
	auto_buf path = {0};

	buf_printf(&path, "%s/%s", strcmp(ws->root, "/") == 0 ? "" : ws->root, c->relative);
	return !buf_failed(&path) && lstat(path.data, st) == 0;
}

/* The mode of a file that has to be made anew: what it had. */
static mode_t old_mode(const struct workspace *ws, const struct conflict *c)
{
	static const char *const sides[] = {"ours", "base"};

	for (size_t i = 0; i < ARRAY_SIZE(sides); i++) {
		auto_close int fd = conflict_open(ws, c, sides[i]);
		struct stat st;

		if (fd >= 0 && fstat(fd, &st) == 0)
			return st.st_mode & 0777;
	}
	return 0644;
}

/* What is to be written; -1 and *code set: nothing is, or it went wrong. */
static int open_source(const struct workspace *ws, const struct conflict *c, int way,
	const char *file, int *code)
{
	/* Opening a side of the conflict says to the mount that this process works from
	 * what the file holds now (S5), so theirs is opened for F as well. */
	int side = conflict_open(ws, c, way == OPT_MERGED ? "merged" : "theirs");
	struct stat st, target;
	int fd;

	if (side == -ENOENT && way == OPT_MERGED)
		*code = say_unmergeable(c);
	else if (side < 0)
		*code = report_errno(spec.name, c->path, side);
	if (side < 0 || way != OPT_FILE)
		return side < 0 ? -1 : side;
	close(side);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || S_ISDIR(st.st_mode)) {
		*code = report_errno(spec.name, file, fd < 0 ? -errno : -EISDIR);
	} else if (stat_target(ws, c, &target) && target.st_dev == st.st_dev &&
		   target.st_ino == st.st_ino) {
		*code = STOMP_DONE; /* it is there already; copied onto itself it is lost */
	} else {
		return fd;
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

static int mark(const struct workspace *ws, const struct conflict *c, int way)
{
	auto_buf line = {0}, answer = {0};
	auto_json *json = NULL;
	int r;

	buf_printf(&line, "resolve %llu %s\n", (unsigned long long)c->id, ways[way]);
	if (buf_failed(&line))
		return STOMP_FAILED;
	r = workspace_ctl(ws, line.data, &answer);
	if (r == 0)
		return STOMP_DONE;
	json = answer.len ? json_tokener_parse(answer.data) : NULL;
	fprintf(stderr, "stomp resolve: %s\n", json_text(json, "error", strerror(-r)));
	return r == -ENOENT || r == -EALREADY ? STOMP_NO : STOMP_FAILED;
}

/* The path as it can be typed from here. */
static void put_path(const struct workspace *ws, const struct conflict *c, struct buf *out)
{
	auto_free char *here = NULL;
	auto_buf path = {0};

	if (path_resolve(".", &here) < 0 || strcmp(here, ws->root) != 0)
		buf_printf(&path, "%s/", strcmp(ws->root, "/") == 0 ? "" : ws->root);
	buf_puts(&path, c->relative);
	if (!buf_failed(&path))
		word_quote(out, path.data);
}

static void say_done(
	const struct workspace *ws, const struct conflict *c, int way, bool was_there)
{
	static const char *const done[WAYS] = {
		[OPT_OURS] = "stays as it is",
		[OPT_THEIRS] = "is what was refused",
		[OPT_MERGED] = "has both changes now",
		[OPT_FILE] = "is what you made of it",
	};
	int64_t newest = json_number(c->info, "newest", 0);
	auto_buf path = {0};

	printf("conflict %llu is resolved: %s %s", (unsigned long long)c->id, c->path,
		done[way]);
	put_path(ws, c, &path);
	if (way != OPT_OURS && was_there && newest && !buf_failed(&path))
		printf("; undo: stomp rollback %s@%lld", path.data, (long long)newest);
	putchar('\n');
}

int cmd_resolve(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	auto_conflict c = {0};
	auto_close int from = -1;
	struct json_object *resolved = NULL;
	struct stat st;
	bool was_there;
	mode_t mode;
	int r = options_parse(&spec, argc, argv, &o), way;

	if (r != OPTIONS_GO_ON)
		return r;
	way = find_way(&o);
	if (way < 0)
		return options_wrong(
			&spec, "say how: one of --ours, --theirs, --merged, --file F");
	r = conflict_enter(spec.name, o.args[0], o.n_args > 1 ? o.args[1] : NULL, &ws, &c);
	if (r != STOMP_DONE)
		return r;
	if (json_object_object_get_ex(c.info, "resolved", &resolved) && resolved)
		return say_resolved(&c, resolved);
	was_there = stat_target(&ws, &c, &st);
	/* Before the source: what lands after that has been opened must not seem known. */
	mode = was_there ? st.st_mode : old_mode(&ws, &c);
	if (way != OPT_OURS)
		from = open_source(&ws, &c, way, o.values[OPT_FILE], &r);
	if (from >= 0)
		r = content_put_fd(&ws, spec.name, c.path, c.relative, from, mode);
	if (r == STOMP_DONE)
		r = mark(&ws, &c, way);
	if (r == STOMP_DONE)
		say_done(&ws, &c, way, was_there);
	return r;
}
