#include "cli/content.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/copy.h"

#define CONTENT_MAX ((size_t)256 << 20)

int content_open(const struct workspace *ws, const char *relative, uint64_t number)
{
	auto_buf name = {0};
	int fd;

	buf_printf(&name, "history/%s/%llu", relative, (unsigned long long)number);
	if (buf_failed(&name))
		return -ENOMEM;
	fd = openat(ws->stomp_fd, name.data, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int content_read_fd(int fd, struct buf *out)
{
	char chunk[65536];
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			buf_append(out, chunk, (size_t)n);
		if (out->len > CONTENT_MAX)
			return -EFBIG;
	}
	buf_append(out, "", 0);
	return buf_failed(out) ? -ENOMEM : 0;
}

int content_read(
	const struct workspace *ws, const char *relative, uint64_t number, struct buf *out)
{
	auto_close int fd = content_open(ws, relative, number);

	return fd < 0 ? fd : content_read_fd(fd, out);
}

static int absolute_path(const struct workspace *ws, const char *relative, struct buf *out)
{
	buf_printf(out, "%s/%s", strcmp(ws->root, "/") == 0 ? "" : ws->root, relative);
	return buf_failed(out) ? -ENOMEM : 0;
}

int content_read_current(const struct workspace *ws, const char *relative, struct buf *out)
{
	auto_buf path = {0};
	auto_close int fd = -1;
	char target[4096];
	ssize_t n;
	int r = absolute_path(ws, relative, &path);

	if (r < 0)
		return r;
	n = readlink(path.data, target, sizeof(target));
	if (n >= 0) {
		buf_append(out, target, (size_t)n);
		return buf_failed(out) ? -ENOMEM : 0;
	}
	fd = open(path.data, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : content_read_fd(fd, out);
}

int content_make_folder(const struct workspace *ws, const char *relative)
{
	const char *end = relative;
	auto_buf path = {0};

	while (*end) {
		auto_free char *folder = NULL;
		int r;

		end += strcspn(end, "/");
		folder = strndup(relative, (size_t)(end - relative));
		buf_reset(&path);
		r = folder ? absolute_path(ws, folder, &path) : -ENOMEM;
		if (r < 0)
			return r;
		if (mkdir(path.data, 0777) == 0)
			fprintf(stderr, "made the folder %s\n", folder);
		else if (errno != EEXIST)
			return -errno;
		end += *end == '/';
	}
	return 0;
}

static int make_folder_of(const struct workspace *ws, const char *relative)
{
	const char *slash = strrchr(relative, '/');
	auto_free char *folder = strndup(relative, slash ? (size_t)(slash - relative) : 0);

	return folder ? content_make_folder(ws, folder) : -ENOMEM;
}

/* A file opened for its new content: in place where it is there, else made. */
static int open_target(const struct put *put, const char *path, mode_t mode)
{
	const int flags = O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY;
	int fd = put->only_new ? -1 : open(path, flags | O_TRUNC);

	if (fd < 0 && (put->only_new || errno == ENOENT))
		fd = open(path, flags | O_CREAT | O_EXCL, mode & 0777);
	return fd < 0 ? -errno : fd;
}

static int put_file(const struct put *put, const char *path, int from, mode_t mode)
{
	auto_close int to = open_target(put, path, mode);
	bool read_failed;
	struct stat st;
	int r;

	if (to < 0)
		return to;
	r = copy_all(from, to, &read_failed);
	if (r < 0)
		return r;
	if (!put->keeps_mode && fstat(to, &st) == 0 &&
		(st.st_mode & 07777) != (mode & 07777) && fchmod(to, mode & 07777) != 0 &&
		errno != EPERM)
		return -errno;
	/* The verdict on the content may come as late as the flush (S7). */
	return close(steal_fd(&to)) == 0 ? 0 : -errno;
}

/* A symbolic link is put back as a new one beside, renamed into place. */
static int put_link(const struct put *put, const char *path, int from)
{
	auto_buf target = {0}, temporary = {0};
	int r = content_read_fd(from, &target);

	if (r < 0)
		return r;
	if (put->only_new)
		return symlink(target.data, path) == 0 ? 0 : -errno;
	buf_printf(&temporary, "%s.stomp-%d", path, (int)getpid());
	if (buf_failed(&temporary))
		return -ENOMEM;
	if (symlink(target.data, temporary.data) != 0)
		return -errno;
	if (rename(temporary.data, path) == 0)
		return 0;
	r = -errno;
	unlink(temporary.data);
	return r;
}

static mode_t version_mode(const struct version_entry *v, int fd)
{
	char *end = NULL;
	unsigned long mode = v->mode ? strtoul(v->mode, &end, 8) : 0;
	struct stat st;

	if (end && end != v->mode && !*end)
		return (mode_t)mode & 07777;
	return fstat(fd, &st) == 0 ? st.st_mode & 07777 : 0644;
}

static int explain_put(
	const struct workspace *ws, const char *command, const struct put *put, int r)
{
	if (r == 0)
		return STOMP_DONE;
	if (r != -ELOOP)
		return workspace_explain(ws, command, put->path, put->relative, r);
	fprintf(stderr,
		"stomp %s: %s is a symbolic link now and what shall be there is a file; "
		"remove the link first\n",
		command, put->path);
	return STOMP_NO;
}

int content_put_fd(const struct workspace *ws, const char *command, const char *path,
	const char *relative, int from, mode_t new_mode)
{
	const struct put put = {.path = path, .relative = relative, .keeps_mode = true};
	auto_buf target = {0};
	int r = absolute_path(ws, relative, &target);

	if (r == 0)
		r = make_folder_of(ws, relative);
	if (r == 0)
		r = put_file(&put, target.data, from, new_mode);
	return explain_put(ws, command, &put, r);
}

int content_put(const struct workspace *ws, const char *command, const struct put *put)
{
	const struct version_entry *v = put->version;
	auto_close int from = content_open(ws, put->source, v->number);
	auto_buf path = {0};
	int r;

	if (from < 0) {
		fprintf(stderr, "stomp %s: version %llu of %s cannot be read: %s\n",
			command, (unsigned long long)v->number, put->source,
			strerror(-from));
		return STOMP_FAILED;
	}
	r = absolute_path(ws, put->relative, &path);
	if (r == 0)
		r = make_folder_of(ws, put->relative);
	if (r == 0 && strcmp(v->kind, "symlink") == 0)
		r = put_link(put, path.data, from);
	else if (r == 0)
		r = put_file(put, path.data, from, version_mode(v, from));
	return explain_put(ws, command, put, r);
}
