#include "cli/restore_at.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/content.h"
#include "cli/copy.h"
#include "cli/versions.h"

#define LEFT_SHOWN 20

/* One name, then and now. */
struct pair {
	struct restore *r;
	struct buf then;     /* below .stomp/ */
	struct buf now;	     /* absolute */
	struct buf relative; /* of now, in the workspace; what messages say */
	struct stat was, is;
	bool there; /* is: something is there */
};

/* Folders still to visit, as suffixes below the path that was asked for. */
struct walk {
	struct restore *r;
	const char *relative, *then;
	struct buf target; /* absolute, of the path that was asked for */
	struct buf todo,
		modes; /* suffixes, each with its NUL; modes: to be set in the end */
};

void restore_done(struct restore *r)
{
	buf_done(&r->left);
}

static void pair_done(struct pair *p)
{
	buf_done(&p->then);
	buf_done(&p->now);
	buf_done(&p->relative);
}

#define auto_pair __attribute__((cleanup(pair_done))) struct pair

static void put_joined(struct buf *out, const char *folder, const char *suffix)
{
	buf_printf(out, "%s%s%s", folder, *folder && *suffix ? "/" : "", suffix);
}

static int pair_init(struct pair *p, const struct walk *w, const char *suffix)
{
	*p = (struct pair){.r = w->r};
	buf_printf(&p->then, "at/%s/", w->r->moment);
	put_joined(&p->then, w->then, suffix);
	put_joined(&p->now, w->target.data, suffix);
	put_joined(&p->relative, w->r->to ? w->target.data : w->relative, suffix);
	if (buf_failed(&p->then) || buf_failed(&p->now) || buf_failed(&p->relative))
		return -ENOMEM;
	p->there = lstat(p->now.data, &p->is) == 0;
	return p->there || errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
}

static void say(const struct pair *p, const char *what)
{
	auto_buf name = {0};

	buf_put_name(&name, p->relative.data, p->relative.len);
	printf("%s%s  %s\n", p->r->dry_run ? "would be " : "", what, name.data ?: "");
	p->r->n_changed++;
}

static void failed(const struct pair *p, int error)
{
	int code;

	p->r->n_failed++;
	if (p->r->to)
		code = report_errno(p->r->command, p->relative.data, error);
	else
		code = workspace_explain(
			p->r->ws, p->r->command, p->relative.data, p->relative.data, error);
	(void)code; /* the others are tried all the same */
}

/* ---- removing ---- */

/* Nobody is seen reading a link: its history is opened instead (S5). */
static void look_at_link(const struct restore *r, const char *path)
{
	auto_versions list = {0};
	auto_free char *relative = NULL;
	auto_buf text = {0};
	const struct version_entry *v;

	if (r->to || workspace_path(r->ws, r->command, path, &relative) != STOMP_DONE ||
		versions_read(r->ws, relative, &text, &list) < 0)
		return;
	v = versions_content_before(&list, NULL);
	if (v && versions_find(&list, relative, v->number) == v) {
		int fd = content_open(r->ws, relative, v->number);

		if (fd >= 0)
			close(fd);
	}
}

/* S6: whoever has not read it does not know what he removes. */
static void look_at(const struct restore *r, const char *path, bool is_link)
{
	auto_close int fd = -1;
	char byte;

	if (is_link) {
		look_at_link(r, path);
		return;
	}
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	(void)!read(fd, &byte, fd < 0 ? 0 : 1);
}

static int remove_file(const struct restore *r, const char *path, const struct stat *st)
{
	look_at(r, path, S_ISLNK(st->st_mode));
	return unlink(path) < 0 ? -errno : 0;
}

static void push(struct buf *stack, const char *folder, const char *name)
{
	put_joined(stack, folder, name);
	buf_putc(stack, '\0');
}

/* The one on top, the caller's to free; NULL: none is left, or memory. */
static char *pop(struct buf *stack)
{
	size_t at;

	if (buf_failed(stack) || !stack->len)
		return NULL;
	for (at = stack->len - 1; at > 0 && stack->data[at - 1]; at--)
		;
	stack->len = at;
	return strdup(stack->data + at);
}

/* What a folder holds: files go at once, folders onto the stack. */
static int remove_content(const struct restore *r, const char *path, struct buf *stack)
{
	auto_dir DIR *dir = opendir(path);
	const struct dirent *e;
	int code = dir ? 0 : -errno;

	while (code == 0 && (e = readdir(dir))) {
		auto_buf name = {0};
		struct stat st;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		buf_printf(&name, "%s/%s", path, e->d_name);
		if (buf_failed(&name))
			code = -ENOMEM;
		else if (lstat(name.data, &st) < 0)
			code = -errno;
		else if (S_ISDIR(st.st_mode))
			push(stack, path, e->d_name);
		else
			code = remove_file(r, name.data, &st);
	}
	return code;
}

static int remove_tree(const struct restore *r, const char *path)
{
	auto_buf todo = {0}, empty = {0};
	char *next;
	int code = 0;

	push(&todo, "", path);
	while (code == 0 && (next = pop(&todo))) {
		push(&empty, "", next);
		code = remove_content(r, next, &todo);
		free(next);
	}
	while (code == 0 && (next = pop(&empty))) { /* the deepest last, so first now */
		code = rmdir(next) < 0 ? -errno : 0;
		free(next);
	}
	return code ?: buf_failed(&todo) || buf_failed(&empty) ? -ENOMEM : 0;
}

static int remove_any(const struct pair *p)
{
	if (p->r->dry_run)
		return 0;
	return S_ISDIR(p->is.st_mode) ? remove_tree(p->r, p->now.data)
				      : remove_file(p->r, p->now.data, &p->is);
}

/* Something of another kind is in the way. A folder goes only where that was asked for. */
static int clear_way(struct pair *p)
{
	int r;

	if (!p->there || (p->is.st_mode & S_IFMT) == (p->was.st_mode & S_IFMT))
		return 0;
	if (S_ISDIR(p->is.st_mode) && !p->r->exact) {
		fprintf(stderr,
			"stomp %s: %s is a folder now and was none then; --exact "
			"removes it\n",
			p->r->command, p->relative.data);
		p->r->n_failed++;
		return 1;
	}
	r = remove_any(p);
	p->there = r < 0;
	return r;
}

/* ---- making ---- */

static bool is_same_file(const struct pair *p, int from)
{
	auto_close int fd = -1;

	if (!p->there || p->is.st_size != p->was.st_size)
		return false;
	fd = open(p->now.data, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd >= 0 && copy_is_same(from, fd);
}

/* Mode and, where we may, owner; then the time, which a version of later may hold up
 * (S12). */
static int set_attributes(const struct pair *p, bool times)
{
	const struct timespec both[2] = {p->was.st_mtim, p->was.st_mtim};
	const char *path = p->now.data;
	struct stat st;

	if (lstat(path, &st) < 0)
		return -errno;
	if (geteuid() == 0 && (st.st_uid != p->was.st_uid || st.st_gid != p->was.st_gid) &&
		lchown(path, p->was.st_uid, p->was.st_gid) < 0)
		return -errno;
	if (!S_ISLNK(st.st_mode) && (st.st_mode & 07777) != (p->was.st_mode & 07777) &&
		chmod(path, p->was.st_mode & 07777) < 0)
		return -errno;
	if (times && utimensat(AT_FDCWD, path, both, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

static int write_file(const struct pair *p, int from)
{
	const int flags = O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY;
	auto_close int to = -1;
	bool read_failed;
	struct stat st;
	int r;

	if (p->there)
		to = open(p->now.data, flags | O_TRUNC);
	else
		to = open(p->now.data, flags | O_CREAT | O_EXCL, p->was.st_mode & 0777);
	if (to < 0)
		return -errno;
	r = copy_all(from, to, &read_failed);
	if (r < 0)
		return r;
	if (fstat(to, &st) == 0 && (st.st_mode & 07777) != (p->was.st_mode & 07777) &&
		fchmod(to, p->was.st_mode & 07777) < 0)
		return -errno;
	/* The verdict on the content may come as late as the flush (S7). */
	return close(steal_fd(&to)) == 0 ? set_attributes(p, true) : -errno;
}

static int make_file(struct pair *p)
{
	auto_close int from =
		openat(p->r->ws->stomp_fd, p->then.data, O_RDONLY | O_CLOEXEC);
	bool same;
	int r;

	if (from < 0)
		return -errno;
	same = is_same_file(p, from);
	if (same && (p->is.st_mode & 07777) == (p->was.st_mode & 07777)) {
		p->r->n_same++;
		return 0;
	}
	r = p->r->dry_run ? 0 : same ? set_attributes(p, false) : write_file(p, from);
	if (r == 0)
		say(p, same ? "mode    " : p->there ? "restored" : "made    ");
	return r;
}

static ssize_t read_link(int dirfd, const char *path, char *target, size_t size)
{
	ssize_t n = readlinkat(dirfd, path, target, size - 1);

	if (n >= 0)
		target[n] = '\0';
	return n;
}

/* A link is made beside and renamed into its place. */
static int put_link(const struct pair *p, const char *target)
{
	auto_buf beside = {0};
	int r;

	if (!p->there)
		return symlink(target, p->now.data) < 0 ? -errno : set_attributes(p, true);
	buf_printf(&beside, "%s.stomp-%d", p->now.data, (int)getpid());
	if (buf_failed(&beside))
		return -ENOMEM;
	if (symlink(target, beside.data) < 0)
		return -errno;
	look_at_link(p->r, p->now.data);
	if (rename(beside.data, p->now.data) == 0)
		return set_attributes(p, true);
	r = -errno;
	unlink(beside.data);
	return r;
}

static int make_link(struct pair *p)
{
	char was[4096], is[4096];
	int r;

	if (read_link(p->r->ws->stomp_fd, p->then.data, was, sizeof(was)) < 0)
		return -errno;
	if (p->there && read_link(AT_FDCWD, p->now.data, is, sizeof(is)) >= 0 &&
		strcmp(was, is) == 0) {
		p->r->n_same++;
		return 0;
	}
	r = p->r->dry_run ? 0 : put_link(p, was);
	if (r == 0)
		say(p, p->there ? "restored" : "made    ");
	return r;
}

/* ---- folders ---- */

static void leave(struct pair *p)
{
	struct restore *r = p->r;

	if (r->n_left++ < LEFT_SHOWN) {
		buf_puts(&r->left, "  ");
		buf_put_name(&r->left, p->relative.data, p->relative.len);
		buf_putc(&r->left, '\n');
	}
}

/* A name that was not there then. */
static void extra(struct walk *w, const char *suffix)
{
	auto_pair p;
	int r = pair_init(&p, w, suffix);

	if (r == 0 && !p.there)
		return;
	if (r == 0 && !p.r->exact) {
		leave(&p);
		return;
	}
	if (r == 0)
		r = remove_any(&p);
	if (r < 0)
		failed(&p, r);
	else
		say(&p, "removed ");
}

static void each_extra(struct walk *w, const struct pair *p, const char *suffix)
{
	auto_dir DIR *dir = opendir(p->now.data);
	const struct dirent *e;

	while (dir && (e = readdir(dir))) {
		auto_buf then = {0}, below = {0};
		struct stat st;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
			(!*w->relative && !*suffix && !strcmp(e->d_name, ".stomp")))
			continue;
		put_joined(&then, p->then.data, e->d_name);
		put_joined(&below, suffix, e->d_name);
		if (!buf_failed(&then) && !buf_failed(&below) &&
			fstatat(w->r->ws->stomp_fd, then.data, &st, AT_SYMLINK_NOFOLLOW) <
				0 &&
			errno == ENOENT)
			extra(w, below.data);
	}
}

static int each_then(struct walk *w, const struct pair *p, const char *suffix)
{
	int fd = openat(
		w->r->ws->stomp_fd, p->then.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (!dir)
		return -errno;
	while ((e = readdir(dir)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			push(&w->todo, suffix, e->d_name);
	return 0;
}

static int make_folder(struct walk *w, struct pair *p, const char *suffix)
{
	bool dry = w->r->dry_run;

	if (!p->there && !dry && mkdir(p->now.data, (p->was.st_mode & 0777) | 0700) < 0)
		return -errno;
	if (!p->there)
		say(p, "made    ");
	else if ((p->is.st_mode & 07777) != (p->was.st_mode & 07777))
		say(p, "mode    ");
	if (!dry && (*suffix || *w->relative))
		push(&w->modes, "", suffix); /* last: it may forbid writing below it */
	if (p->there && !w->r->to)
		each_extra(w, p, suffix);
	return each_then(w, p, suffix);
}

static void restore_one(struct walk *w, const char *suffix)
{
	auto_pair p;
	int r = pair_init(&p, w, suffix);

	if (r == 0 &&
		fstatat(w->r->ws->stomp_fd, p.then.data, &p.was, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	if (r == 0)
		r = clear_way(&p);
	if (r == 1)
		return; /* it was told */
	if (r == 0 && S_ISDIR(p.was.st_mode))
		r = make_folder(w, &p, suffix);
	else if (r == 0 && S_ISLNK(p.was.st_mode))
		r = make_link(&p);
	else if (r == 0)
		r = make_file(&p);
	if (r < 0)
		failed(&p, r);
}

static void set_modes(struct walk *w)
{
	char *suffix;

	while ((suffix = pop(&w->modes))) {
		auto_pair p;
		int r = pair_init(&p, w, suffix);

		if (r == 0 && fstatat(w->r->ws->stomp_fd, p.then.data, &p.was,
				      AT_SYMLINK_NOFOLLOW) == 0)
			r = set_attributes(&p, false);
		if (r < 0)
			failed(&p, r);
		free(suffix);
	}
}

/* ---- a path ---- */

/* The folders above it that are gone, with the mode they had. */
static int make_parents(struct walk *w)
{
	for (const char *end = strchr(w->relative, '/'); end; end = strchr(end + 1, '/')) {
		auto_free char *parent = strndup(w->relative, (size_t)(end - w->relative));
		auto_buf now = {0}, then = {0};
		struct stat st = {.st_mode = 0755};

		buf_printf(&now, "%s/%s", w->r->ws->root, parent ?: "");
		buf_printf(&then, "at/%s/%s", w->r->moment, parent ?: "");
		if (!parent || buf_failed(&now) || buf_failed(&then))
			return -ENOMEM;
		if (w->r->dry_run || access(now.data, F_OK) == 0)
			continue;
		(void)!fstatat(w->r->ws->stomp_fd, then.data, &st, AT_SYMLINK_NOFOLLOW);
		if (mkdir(now.data, (st.st_mode & 0777) | 0300) < 0 && errno != EEXIST)
			return -errno;
		printf("made      %s\n", parent);
	}
	return 0;
}

static int find_target(struct walk *w, const char *path)
{
	const char *name = strrchr(w->relative, '/');
	const char *root = w->r->ws->root;
	int r = 0;

	if (!w->r->to) {
		buf_printf(&w->target, "%s/%s", strcmp(root, "/") ? root : "", w->relative);
		r = make_parents(w);
	} else {
		put_joined(&w->target, w->r->to, name ? name + 1 : w->relative);
	}
	if (buf_failed(&w->target))
		r = -ENOMEM;
	return r < 0 ? report_errno(w->r->command, path, r) : STOMP_DONE;
}

int restore_path(
	struct restore *r, const char *path, const char *relative, const char *then)
{
	struct walk w = {.r = r, .relative = relative, .then = then};
	auto_buf name = {0};
	struct stat st;
	char *next;
	int code;

	buf_printf(&name, "at/%s/%s", r->moment, then);
	if (buf_failed(&name))
		return STOMP_FAILED;
	if (fstatat(r->ws->stomp_fd, name.data, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		int error = -errno;

		if (error != -ENOENT && error != -ENOTDIR)
			return report_errno(r->command, path, error);
		fprintf(stderr,
			"stomp %s: %s was not there then (`stomp log %s` says since when "
			"it "
			"is)\n",
			r->command, path, path);
		return STOMP_NO;
	}
	code = find_target(&w, path);
	if (code == STOMP_DONE)
		push(&w.todo, "", "");
	while (code == STOMP_DONE && (next = pop(&w.todo))) {
		restore_one(&w, next);
		free(next);
	}
	set_modes(&w);
	buf_done(&w.target);
	buf_done(&w.todo);
	buf_done(&w.modes);
	return code;
}
