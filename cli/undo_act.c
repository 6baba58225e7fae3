#include "cli/undo_act.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "cli/content.h"
#include "cli/copy.h"
#include "cli/words.h"

enum { LINE_MAX_BYTES = 4000, LEASE_TTL_S = 15 };

static int absolute(const struct workspace *ws, const char *path, struct buf *out)
{
	buf_printf(out, "%s/%s", strcmp(ws->root, "/") == 0 ? "" : ws->root, path);
	return buf_failed(out) ? -ENOMEM : 0;
}

/* Have seen what is there now: opening a version is knowing its path (S5). */
static int know(const struct workspace *ws, const struct node *n)
{
	int fd;

	if (!n->exists || !n->hash)
		return 0;
	fd = content_open(ws, n->path, n->number);
	if (fd == -ENOENT) /* it has its number from a name that it had before */
		return 0;
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int write_content(const struct workspace *ws, const struct node *n, int to)
{
	auto_close int from = -1;
	bool read_failed;

	if (n->made) {
		const char *data = n->made->data ?: "";
		size_t left = n->made->len;

		while (left > 0) {
			ssize_t written = write(to, data, left);

			if (written < 0 && errno != EINTR)
				return -errno;
			if (written > 0) {
				data += written;
				left -= (size_t)written;
			}
		}
		return 0;
	}
	from = content_open(ws, n->source, n->number);
	return from < 0 ? from : copy_all(from, to, &read_failed);
}

static int set_owner(int fd, const struct node *n)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if ((st.st_uid != n->uid || st.st_gid != n->gid) &&
		fchown(fd, n->uid, n->gid) < 0 && geteuid() == 0)
		return -errno;
	return fchmod(fd, n->mode) < 0 ? -errno : 0;
}

/* Extended attributes of what is replaced, as far as they may be set. */
static void copy_attributes(const char *from, int to)
{
	char names[4096], value[4096];
	ssize_t n = llistxattr(from, names, sizeof(names));

	for (const char *name = names; n > 0 && name < names + n;
		name += strlen(name) + 1) {
		ssize_t size = lgetxattr(from, name, value, sizeof(value));

		if (size >= 0)
			(void)!fsetxattr(to, name, value, (size_t)size, 0);
	}
}

static int write_in_place(
	const struct workspace *ws, const struct node *n, const char *path)
{
	auto_close int fd = open(path, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
	int r = fd < 0 ? -errno : write_content(ws, n, fd);

	if (r == 0)
		r = set_owner(fd, n);
	return r < 0 ? r : close(steal_fd(&fd)) < 0 ? -errno : 0;
}

/* A file of another name beside path, and that name. */
static int name_beside(const char *path, struct buf *name)
{
	const char *slash = strrchr(path, '/');

	buf_append(name, path, (size_t)(slash + 1 - path));
	buf_printf(name, ".stomp-undo-%d", (int)getpid());
	return buf_failed(name) ? -ENOMEM : 0;
}

static int write_beside(const struct workspace *ws, const struct node *n, const char *path,
	const char *beside)
{
	auto_close int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : write_content(ws, n, fd);

	if (r == 0) {
		copy_attributes(path, fd);
		r = set_owner(fd, n);
	}
	return r < 0 ? r : close(steal_fd(&fd)) < 0 ? -errno : 0;
}

static int link_beside(const struct workspace *ws, const struct node *n, const char *beside)
{
	auto_buf target = {0};
	auto_close int from = content_open(ws, n->source, n->number);
	int r = from < 0 ? from : content_read_fd(from, &target);

	if (r < 0)
		return r;
	return symlink(target.data, beside) < 0 ? -errno : 0;
}

static int put(
	const struct workspace *ws, const struct node *n, const char *path, bool is_new)
{
	auto_buf beside = {0};
	struct stat st;
	int r = name_beside(path, &beside);

	if (r < 0)
		return r;
	if (!is_new && n->type == NODE_FILE && lstat(path, &st) == 0 &&
		S_ISREG(st.st_mode) && st.st_nlink > 1)
		return write_in_place(ws, n, path);
	r = n->type == NODE_LINK ? link_beside(ws, n, beside.data)
				 : write_beside(ws, n, path, beside.data);
	if (r == 0 && renameat2(AT_FDCWD, beside.data, AT_FDCWD, path,
			      is_new ? RENAME_NOREPLACE : 0) < 0)
		r = -errno;
	if (r < 0)
		unlink(beside.data);
	return r;
}

static int make_folder(const struct node *n, const char *path)
{
	if (mkdir(path, 0700) < 0)
		return errno == EEXIST ? 0 : -errno;
	if (chown(path, n->uid, n->gid) < 0 && geteuid() == 0)
		return -errno;
	return chmod(path, n->mode) < 0 ? -errno : 0;
}

static int change_attributes(const struct undo_file *f, const char *path)
{
	if ((f->from.uid != f->to.uid || f->from.gid != f->to.gid) &&
		lchown(path, f->to.uid, f->to.gid) < 0)
		return -errno;
	if (f->from.mode != f->to.mode && f->to.type != NODE_LINK &&
		chmod(path, f->to.mode) < 0)
		return -errno;
	return 0;
}

static int make_anew(
	const struct workspace *ws, const struct undo_file *f, const char *path)
{
	switch (f->to.type) {
	case NODE_FOLDER:
		return make_folder(&f->to, path);
	case NODE_FILE:
	case NODE_LINK:
		return put(ws, &f->to, path, true);
	case NODE_OTHER:
		break;
	}
	return -EOPNOTSUPP;
}

int undo_act(const struct workspace *ws, const struct undo_file *f)
{
	auto_buf from = {0}, to = {0};
	int r = absolute(ws, f->from.path, &from) ?: absolute(ws, f->to.path, &to);

	if (r == 0)
		r = know(ws, &f->from);
	if (r < 0)
		return r;
	if (!f->to.exists && f->from.type == NODE_FOLDER)
		return rmdir(from.data) < 0 ? -errno : 0;
	if (!f->to.exists)
		return unlink(from.data) < 0 ? -errno : 0;
	if (!f->from.exists)
		return make_anew(ws, f, to.data);
	if (strcmp(f->from.path, f->to.path) != 0 &&
		renameat2(AT_FDCWD, from.data, AT_FDCWD, to.data, RENAME_NOREPLACE) < 0)
		return -errno;
	if (f->to.type != f->from.type || !node_same_content(&f->from, &f->to))
		return put(ws, &f->to, to.data, false);
	return change_attributes(f, to.data);
}

/* ---- leases ---- */

/* A path as a pattern that matches it alone, as one word of ctl. */
static void put_pattern(struct buf *line, const char *path)
{
	auto_buf pattern = {0};

	for (; *path; path++) {
		if (strchr("*?[\\", *path))
			buf_putc(&pattern, '\\');
		buf_putc(&pattern, *path);
	}
	buf_putc(line, ' ');
	word_escape(line, pattern.data ?: "", pattern.len);
	line->failed |= pattern.failed;
}

struct leases {
	const struct workspace *ws;
	const char *verb;
	struct buf line, *why;
	int r;
};

static void send_line(struct leases *l)
{
	auto_buf answer = {0};
	auto_json *json = NULL;
	size_t empty = strlen(l->verb);

	if (l->line.len > empty && l->r == 0)
		l->r = buf_failed(&l->line) ? -ENOMEM
					    : workspace_ctl(l->ws, l->line.data, &answer);
	if (l->r < 0 && l->why && !l->why->len) {
		json = json_tokener_parse(answer.data ?: "");
		buf_puts(l->why, json_text(json, "error", strerror(-l->r)));
	}
	if (!l->why)
		l->r = 0; /* giving back goes on, whatever is held no more */
	buf_reset(&l->line);
	buf_puts(&l->line, l->verb);
}

static void add_path(struct leases *l, const char *path)
{
	auto_buf word = {0};

	put_pattern(&word, path);
	if (l->line.len + word.len > LINE_MAX_BYTES)
		send_line(l);
	buf_append(&l->line, word.data ?: "", word.len);
	l->line.failed |= word.failed;
}

static int each_path(const struct workspace *ws, const char *verb,
	const struct undo_file *files, size_t n, struct buf *why)
{
	struct leases l = {.ws = ws, .verb = verb, .why = why};

	buf_puts(&l.line, verb);
	for (size_t i = 0; i < n && l.r == 0; i++) {
		const struct undo_file *f = &files[i];

		if (f->reason)
			continue;
		add_path(&l, f->from.path);
		if (strcmp(f->from.path, f->to.path) != 0)
			add_path(&l, f->to.path);
	}
	send_line(&l);
	buf_done(&l.line);
	return l.r;
}

int undo_leases_acquire(const struct workspace *ws, const struct undo_file *files, size_t n,
	struct buf *why)
{
	auto_buf verb = {0};
	int r;

	buf_printf(&verb, "lease acquire ttl=%ds reason=undo", (int)LEASE_TTL_S);
	r = buf_failed(&verb) ? -ENOMEM : each_path(ws, verb.data, files, n, why);
	if (r < 0)
		undo_leases_release(ws, files, n);
	return r;
}

void undo_leases_release(
	const struct workspace *ws, const struct undo_file *files, size_t n)
{
	/* Where none is held, there is nothing to give back. */
	(void)each_path(ws, "lease release", files, n, NULL);
}
