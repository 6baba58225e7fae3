#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/moment.h"
#include "cli/cli.h"
#include "cli/content.h"
#include "cli/options.h"
#include "cli/restore_at.h"
#include "cli/words.h"

enum { OPT_AT, OPT_TO, OPT_EXACT, OPT_DRY_RUN };

static const struct option_spec options[] = {
	[OPT_AT] = {"at", 0, "WHEN", "as it was then: a time, -15m, an epoch, @N", false},
	[OPT_TO] = {"to", 0, "DIR", "put it into DIR instead", false},
	[OPT_EXACT] = {"exact", 0, NULL, "remove what was not there then", false},
	[OPT_DRY_RUN] = {"dry-run", 'n', NULL, "say what would be done, do nothing", false},
	{0}};

static const struct command_spec spec = {
	.name = "restore",
	.usage = "PATH... [--at WHEN [--to DIR] [--exact] [--dry-run]]",
	.about = "Without --at: bring back what was deleted, its newest content before "
		 "that, with\n"
		 "its mode, at the same place. What is there is left alone.\n"
		 "With --at: make files, links and whole folders what they were at a "
		 "moment: a time\n"
		 "(10:32, 2026-11-24T10:32:05), a span back (-15m), an epoch (57) or a "
		 "version of the\n"
		 "file (@3). What is the same is not touched; what was made since stays, "
		 "and is\n"
		 "listed, unless --exact removes it. It is a change like any other: it can "
		 "be\n"
		 "refused, and is a version that can be gone back from.",
	.example = "  stomp restore src              # after rm -rf src\n"
		   "  stomp restore src --at -15m --dry-run\n"
		   "  stomp restore src/a.c --at @3 --to /tmp/old",
	.options = options,
	.min_args = 1,
	.max_args = -1,
};

static bool is_there(const struct workspace *ws, const char *relative)
{
	auto_buf path = {0};
	struct stat st;

	buf_printf(&path, "%s/%s", ws->root, relative);
	return !buf_failed(&path) && lstat(path.data, &st) == 0;
}

static void say_done(
	const char *path, const struct version_entry *gone, const struct version_entry *v)
{
	auto_buf text = {0};

	buf_printf(&text, "%s is back: ", path);
	version_describe(&text, v);
	if (version_is_delete(gone)) {
		buf_printf(&text, "; %s %s it, ", gone->writer ?: "somebody",
			gone->from_path ? "renamed" : "deleted");
		version_when(&text, gone->time);
	}
	printf("%s\n", text.data ?: path);
	if (version_is_delete(gone) && gone->from_path)
		printf("(the renamed one is still there: %s)\n", gone->from_path);
}

/* A file that is gone: its newest content. STOMP_DONE or the code to exit with. */
static int restore_file(const struct workspace *ws, const char *path, const char *relative,
	const struct version_list *list, const struct version_entry *v)
{
	struct put put = {
		.path = path, .relative = relative, .version = v, .only_new = true};

	put.source = versions_find(list, relative, v->number) == v ? relative : v->path;
	return content_put(ws, spec.name, &put);
}

/* ---- a whole folder ---- */

/* What one process deleted below a folder, and how far bringing it back has come. */
struct tree {
	const struct workspace *ws;
	const struct version_entry *gone; /* the rmdir */
	struct buf stack;		  /* paths still to visit, each with its NUL */
	unsigned n_files, n_failed;
};

static void push(struct tree *t, const char *folder, const char *name)
{
	buf_printf(&t->stack, "%s%s%s", folder, *folder ? "/" : "", name);
	buf_putc(&t->stack, '\0');
}

/* The path on top, the caller's to free; NULL: none is left, or memory. */
static char *pop(struct tree *t)
{
	size_t at;

	if (buf_failed(&t->stack) || !t->stack.len)
		return NULL;
	for (at = t->stack.len - 1; at > 0 && t->stack.data[at - 1]; at--)
		;
	t->stack.len = at;
	return strdup(t->stack.data + at);
}

/* In history/ a path is a folder, and so is every name below it. */
static void push_below(struct tree *t, const char *relative)
{
	auto_buf name = {0};
	auto_dir DIR *dir = NULL;
	const struct dirent *e;
	int fd;

	buf_printf(&name, "history/%s", relative);
	fd = buf_failed(&name) ? -1
			       : openat(t->ws->stomp_fd, name.data,
					 O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	while (dir && (e = readdir(dir))) {
		struct stat st;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			S_ISDIR(st.st_mode))
			push(t, relative, e->d_name);
	}
}

static void restore_one(struct tree *t, const char *relative)
{
	auto_versions list = {0};
	auto_buf text = {0};
	const struct version_entry *newest, *v;
	int r;

	if (versions_read(t->ws, relative, &text, &list) < 0 || !list.n)
		return;
	newest = &list.entries[0];
	/* What was deleted before, or by others, stays deleted. */
	if (!version_is_delete(newest) || newest->from_path ||
		newest->pid != t->gone->pid ||
		strcmp(newest->writer ?: "", t->gone->writer ?: "") != 0 ||
		is_there(t->ws, relative))
		return;
	v = versions_content_before(&list, newest);
	if (strcmp(newest->kind, "rmdir") == 0)
		r = content_make_folder(t->ws, relative) < 0 ? STOMP_FAILED : STOMP_DONE;
	else if (v)
		r = restore_file(t->ws, relative, relative, &list, v);
	else
		return;
	t->n_failed += r != STOMP_DONE;
	t->n_files += r == STOMP_DONE && strcmp(newest->kind, "rmdir") != 0;
}

/* Everything that the process that removed the folder had deleted below it (rm -rf). */
static int restore_folder(const struct workspace *ws, const char *path,
	const char *relative, const struct version_entry *gone)
{
	struct tree t = {.ws = ws, .gone = gone};
	auto_buf when = {0};
	char *next;

	push(&t, "", relative);
	while ((next = pop(&t))) {
		restore_one(&t, next);
		push_below(&t, next);
		free(next);
	}
	buf_done(&t.stack);
	version_when(&when, gone->time);
	printf("%s is back with %u file%s, as %s deleted %s, %s\n", path, t.n_files,
		t.n_files == 1 ? "" : "s", gone->writer ?: "somebody",
		t.n_files == 1 ? "it" : "them", when.data ?: "");
	if (t.n_failed)
		fprintf(stderr, "stomp restore: %u could not be brought back (see above)\n",
			t.n_failed);
	return t.n_failed ? STOMP_NO : STOMP_DONE;
}

static int explain_there(const char *path)
{
	fprintf(stderr,
		"stomp restore: %s is there, not deleted; `stomp rollback %s@N` goes back "
		"to "
		"version N (`stomp log %s` lists them)\n",
		path, path, path);
	return STOMP_NO;
}

/* A path that is gone, as it was before. */
static int restore_deleted(const struct workspace *ws, const char *path)
{
	auto_versions list = {0};
	auto_free char *relative = NULL;
	const struct version_entry *v;
	int r = workspace_path(ws, spec.name, path, &relative);

	if (r == STOMP_DONE && is_there(ws, relative))
		return explain_there(path);
	if (r == STOMP_DONE)
		r = versions_enter(ws, spec.name, path, relative, &list);
	if (r != STOMP_DONE)
		return r;
	if (strcmp(list.entries[0].kind, "rmdir") == 0)
		return restore_folder(ws, path, relative, &list.entries[0]);
	v = versions_content_before(&list, NULL);
	if (!v) {
		fprintf(stderr, "stomp restore: no content of %s is recorded\n", path);
		return STOMP_NO;
	}
	r = restore_file(ws, path, relative, &list, v);
	if (r == STOMP_DONE)
		say_done(path, &list.entries[0], v);
	return r;
}

/* ---- at a moment ---- */

/* @N is of each path itself: the moment when that version was made. */
static int moment_of_version(const struct workspace *ws, const char *path,
	const char *relative, uint64_t number, struct buf *moment)
{
	auto_versions list = {0};
	const struct version_entry *v;
	int r = versions_enter(ws, spec.name, path, relative, &list);

	if (r != STOMP_DONE)
		return r;
	v = versions_find(&list, relative, number);
	if (!v)
		return versions_missing(&list, spec.name, path, relative, number);
	buf_printf(moment, "seq:%llu", (unsigned long long)v->seq);
	return buf_failed(moment) ? STOMP_FAILED : STOMP_DONE;
}

static int restore_one_at(struct restore *r, const char *path, uint64_t number)
{
	auto_free char *relative = NULL;
	auto_buf moment = {0};
	int code = workspace_path(r->ws, spec.name, path, &relative);

	if (code == STOMP_DONE && number) {
		code = moment_of_version(r->ws, path, relative, number, &moment);
		r->moment = moment.data;
	}
	return code == STOMP_DONE ? restore_path(r, path, relative, relative) : code;
}

static int say_summary(const struct restore *r)
{
	printf("%u %s, %u the same", r->n_changed, r->dry_run ? "to change" : "changed",
		r->n_same);
	if (r->n_failed)
		printf(", %u not done (see above)", r->n_failed);
	putchar('\n');
	if (r->n_left) {
		printf("left alone, as made since then (--exact removes them):\n%s",
			r->left.data ?: "");
		if (r->n_left > 20)
			printf("  and %u more\n", r->n_left - 20);
	}
	return r->n_failed ? STOMP_NO : STOMP_DONE;
}

/* The folder of --to, absolute and there. */
static int make_target(const char *to, char **absolute)
{
	int r = path_resolve(to, absolute);

	if (r == 0 && mkdir(*absolute, 0777) < 0 && errno != EEXIST)
		r = -errno;
	return r < 0 ? report_errno(spec.name, to, r) : STOMP_DONE;
}

static int restore_at(const struct workspace *ws, const struct options *o, const char *word,
	uint64_t number)
{
	auto_free char *to = NULL;
	struct restore r = {
		.ws = ws,
		.command = spec.name,
		.moment = word,
		.dry_run = o->values[OPT_DRY_RUN],
		.exact = o->values[OPT_EXACT],
	};
	int code = STOMP_DONE, worst = STOMP_DONE;

	if (o->values[OPT_TO])
		code = make_target(o->values[OPT_TO], &to);
	if (code != STOMP_DONE)
		return code;
	r.to = to;
	for (int i = 0; i < o->n_args; i++) {
		code = restore_one_at(&r, o->args[i], number);
		worst = code > worst ? code : worst;
	}
	code = say_summary(&r);
	restore_done(&r);
	return code > worst ? code : worst;
}

/* The word of --at: *number for @N, else a word that floats no more. */
static int parse_at(const char *word, uint64_t *number, struct buf *moment)
{
	struct moment m;

	*number = 0;
	if (word[0] == '@' && word_count(word + 1, number))
		return OPTIONS_GO_ON;
	if (!moment_parse(word, clock_wall_ns(clock_system()), &m))
		return options_wrong(&spec,
			"--at takes a time that is past (10:32, 2026-11-24T10:32:05, "
			"-15m), an "
			"epoch (57) or a version (@3), not %s",
			word);
	moment_put(moment, &m);
	return buf_failed(moment) ? STOMP_FAILED : OPTIONS_GO_ON;
}

int cmd_restore(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	auto_buf moment = {0};
	uint64_t number;
	int r = options_parse(&spec, argc, argv, &o), worst = STOMP_DONE;
	const char *at = o.values[OPT_AT];

	if (r != OPTIONS_GO_ON)
		return r;
	if (!at && (o.values[OPT_TO] || o.values[OPT_EXACT] || o.values[OPT_DRY_RUN]))
		return options_wrong(
			&spec, "--to, --exact and --dry-run go with --at WHEN");
	if (at && (r = parse_at(at, &number, &moment)) != OPTIONS_GO_ON)
		return r;
	r = workspace_enter(&ws, spec.name, o.args[0], NULL);
	if (r != STOMP_DONE)
		return r;
	if (at)
		return restore_at(&ws, &o, moment.data, number);
	for (int i = 0; i < o.n_args; i++) {
		r = restore_deleted(&ws, o.args[i]);
		worst = r > worst ? r : worst;
	}
	return worst;
}
