#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/content.h"
#include "cli/options.h"
#include "cli/words.h"

static const struct command_spec spec = {
	.name = "restore",
	.usage = "PATH",
	.about = "Bring back a file that was deleted: its newest content before that, with "
		 "its\n"
		 "mode, at the same place. Folders that are gone are made again. A file "
		 "that is\n"
		 "there is left alone (that is what rollback is for).",
	.example = "  stomp restore src/a.c\n"
		   "  stomp restore src              # after rm -rf src",
	.min_args = 1,
	.max_args = 1,
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

int cmd_restore(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	auto_versions list = {0};
	auto_free char *relative = NULL;
	const struct version_entry *v;
	int r = options_parse(&spec, argc, argv, &o);
	const char *path;

	if (r != OPTIONS_GO_ON)
		return r;
	path = o.args[0];
	r = workspace_enter(&ws, spec.name, path, &relative);
	if (r == STOMP_DONE && is_there(&ws, relative))
		return explain_there(path);
	if (r == STOMP_DONE)
		r = versions_enter(&ws, spec.name, path, relative, &list);
	if (r != STOMP_DONE)
		return r;
	if (strcmp(list.entries[0].kind, "rmdir") == 0)
		return restore_folder(&ws, path, relative, &list.entries[0]);
	v = versions_content_before(&list, NULL);
	if (!v) {
		fprintf(stderr, "stomp restore: no content of %s is recorded\n", path);
		return STOMP_NO;
	}
	r = restore_file(&ws, path, relative, &list, v);
	if (r == STOMP_DONE)
		say_done(path, &list.entries[0], v);
	return r;
}
