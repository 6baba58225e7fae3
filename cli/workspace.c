#include "cli/workspace.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"

/* Append the names of rest to the absolute path in out, reading . and .. as text. */
static void append_lexical(struct buf *out, const char *rest)
{
	while (*rest) {
		size_t n = strcspn(rest, "/");

		if (n == 2 && memcmp(rest, "..", 2) == 0) {
			while (out->len > 0 && out->data[--out->len] != '/')
				;
			out->data[out->len] = '\0';
		} else if (n > 0 && !(n == 1 && rest[0] == '.')) {
			buf_putc(out, '/');
			buf_append(out, rest, n);
		}
		rest += n + (rest[n] == '/');
	}
}

/* True when the path ends in a name, not in . or .. */
static bool ends_in_name(const char *path)
{
	const char *last = strrchr(path, '/');

	last = last ? last + 1 : path;
	return *last && strcmp(last, ".") != 0 && strcmp(last, "..") != 0;
}

int path_resolve(const char *path, char **absolute)
{
	auto_free char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);
	auto_buf whole = {0}, out = {0};
	size_t cut;

	if (path[0] != '/') {
		if (!cwd)
			return -errno;
		if (cwd[0] != '/') /* "(unreachable)/…" after a lazy unmount */
			return -ENOENT;
		buf_printf(&whole, "%s/", cwd);
	}
	buf_puts(&whole, path);
	while (whole.len > 1 && whole.data[whole.len - 1] == '/')
		whole.data[--whole.len] = '\0';
	if (buf_failed(&whole))
		return -ENOMEM;
	cut = whole.len;
	if (ends_in_name(whole.data))
		cut = (size_t)(strrchr(whole.data, '/') - whole.data);
	for (;;) {
		auto_free char *head = strndup(whole.data, cut);
		auto_free char *real = head ? realpath(*head ? head : "/", NULL) : NULL;

		/* Not only ENOENT: below a dead mount or a closed folder the rest of
		 * the path is taken as text too. */
		if (real || cut == 0) {
			buf_puts(&out, real && strcmp(real, "/") != 0 ? real : "");
			break;
		}
		while (cut > 0 && whole.data[--cut] != '/')
			;
	}
	append_lexical(&out, whole.data + cut);
	if (out.len == 0)
		buf_putc(&out, '/');
	*absolute = buf_take(&out, NULL);
	return *absolute ? 0 : -ENOMEM;
}

static int read_fd(int fd, struct buf *out)
{
	char chunk[65536];
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			buf_append(out, chunk, (size_t)n);
	}
	buf_append(out, "", 0);
	return buf_failed(out) ? -ENOMEM : 0;
}

/* Does a workspace answer at ws->root? */
static int try_root(struct workspace *ws)
{
	auto_buf name = {0}, text = {0};
	auto_json *json = NULL;

	buf_printf(&name, "%s/.stomp", strcmp(ws->root, "/") == 0 ? "" : ws->root);
	if (buf_failed(&name))
		return -ENOMEM;
	ws->stomp_fd = open(name.data, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (ws->stomp_fd < 0)
		return -errno;
	return workspace_json(ws, "status.json", "status", &text, &json);
}

/* The mount at this root is there, but nobody answers behind it. */
static bool is_dead(int error)
{
	return error == -ENOTCONN || error == -ECONNABORTED;
}

static int set_root(struct workspace *ws, char **root)
{
	free(ws->root);
	ws->root = steal_ptr(*root);
	return 0;
}

int workspace_find(struct workspace *ws, const char *absolute)
{
	auto_free char *dead = NULL, *denied = NULL;

	*ws = (struct workspace){.root = strdup(absolute), .stomp_fd = -1};
	if (!ws->root)
		return -ENOMEM;
	for (;;) {
		char *slash = strrchr(ws->root, '/');
		int r = try_root(ws);

		if (dead && !is_dead(r))
			return set_root(ws, &dead) ?: -ENOTCONN;
		if (r == 0)
			return 0;
		if (ws->stomp_fd >= 0)
			close(ws->stomp_fd);
		ws->stomp_fd = -1;
		if (is_dead(r)) {
			free(dead);
			dead = strdup(ws->root);
		} else if (r == -EACCES && !denied) {
			denied = strdup(ws->root);
		}
		if (strcmp(ws->root, "/") == 0)
			break;
		slash[slash == ws->root] = '\0';
	}
	return denied ? set_root(ws, &denied) ?: -EACCES : -ENOENT;
}

void workspace_close(struct workspace *ws)
{
	if (ws->root && ws->stomp_fd >= 0)
		close(ws->stomp_fd);
	free(ws->root);
	*ws = (struct workspace){.stomp_fd = -1};
}

/* A folder at or above the path that has a journal but is not mounted now. */
static bool find_unmounted(const char *absolute, struct buf *found)
{
	auto_free char *dir = strdup(absolute);

	while (dir) {
		auto_buf name = {0};
		struct stat st;
		char *slash = strrchr(dir, '/');

		buf_printf(&name, "%s/.stomp", dir);
		if (!buf_failed(&name) && stat(name.data, &st) == 0 &&
			S_ISDIR(st.st_mode)) {
			buf_puts(found, dir);
			return !buf_failed(found);
		}
		if (!slash || slash == dir)
			return false;
		*slash = '\0';
	}
	return false;
}

static int explain_none(
	const struct workspace *ws, const char *command, const char *absolute, int error)
{
	auto_buf unmounted = {0};

	if (error == -ENOTCONN)
		fprintf(stderr,
			"stomp %s: the mount at %s is dead: its daemon is gone.\n"
			"`stomp mount %s` takes it away and mounts it again.\n",
			command, ws->root, ws->root);
	else if (error == -EACCES)
		fprintf(stderr,
			"stomp %s: %s may not be looked into (permission denied). Where it "
			"is\n"
			"somebody else's workspace, they can share it: -o allow_other.\n",
			command, ws->root);
	else if (error != -ENOENT)
		return report_errno(command, absolute, error);
	else if (find_unmounted(absolute, &unmounted))
		fprintf(stderr,
			"stomp %s: the workspace %s is not mounted: nothing is guarded "
			"now.\n"
			"`stomp mount %s` mounts it.\n",
			command, unmounted.data, unmounted.data);
	else
		fprintf(stderr,
			"stomp %s: %s is not inside a mounted workspace.\n"
			"`stomp mount DIR` makes DIR one.\n",
			command, absolute);
	return STOMP_NO_WORKSPACE;
}

bool workspace_is_beneath(const struct workspace *ws)
{
	auto_free char *cwd = getcwd(NULL, 0);
	size_t n = strlen(ws->root);
	struct stat here, there;

	if (!cwd || strncmp(cwd, ws->root, n) != 0 || (cwd[n] && cwd[n] != '/'))
		return false;
	return stat(".", &here) == 0 && stat(cwd, &there) == 0 &&
	       here.st_dev != there.st_dev;
}

static void warn_beneath(const struct workspace *ws)
{
	if (workspace_is_beneath(ws))
		fprintf(stderr, "note: this shell entered the folder before it was mounted "
				"and stands "
				"beneath\nthe mount, where nothing is guarded. cd \"$PWD\" "
				"brings it into "
				"the workspace.\n");
}

int workspace_path(
	const struct workspace *ws, const char *command, const char *path, char **relative)
{
	auto_free char *absolute = NULL;
	size_t n = strcmp(ws->root, "/") == 0 ? 0 : strlen(ws->root);
	int r = path_resolve(path, &absolute);

	if (r < 0)
		return report_errno(command, path, r);
	if (strncmp(absolute, ws->root, n) != 0 || (absolute[n] && absolute[n] != '/')) {
		fprintf(stderr, "stomp %s: %s is outside the workspace %s\n", command, path,
			ws->root);
		return STOMP_USAGE;
	}
	*relative = strdup(absolute[n] ? absolute + n + 1 : "");
	return *relative ? STOMP_DONE : report_errno(command, path, -ENOMEM);
}

int workspace_enter(
	struct workspace *ws, const char *command, const char *path, char **relative)
{
	auto_free char *absolute = NULL;
	int r = path_resolve(path ?: ".", &absolute);

	if (r < 0)
		return report_errno(command, path ?: "the current folder", r);
	r = workspace_find(ws, absolute);
	if (r < 0)
		return explain_none(ws, command, absolute, r);
	warn_beneath(ws);
	return relative ? workspace_path(ws, command, path ?: ".", relative) : STOMP_DONE;
}

int workspace_read(const struct workspace *ws, const char *name, struct buf *out)
{
	auto_close int fd = openat(ws->stomp_fd, name, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : read_fd(fd, out);
}

int workspace_json(const struct workspace *ws, const char *name, const char *schema,
	struct buf *text, struct json_object **out)
{
	auto_buf expected = {0};
	auto_json *json = NULL;
	int r = workspace_read(ws, name, text);

	if (r < 0)
		return r;
	buf_printf(&expected, "stompfs/%s/", schema);
	json = json_tokener_parse(text->data ?: "");
	if (buf_failed(&expected) ||
		strncmp(json_text(json, "schema", ""), expected.data, expected.len) != 0)
		return -EBADMSG;
	*out = steal_ptr(json);
	return 0;
}

int workspace_ctl(const struct workspace *ws, const char *line, struct buf *answer)
{
	auto_close int fd = openat(ws->stomp_fd, "ctl", O_RDWR | O_CLOEXEC);
	size_t size = strlen(line);
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return -errno;
	do
		n = write(fd, line, size);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		r = -errno;
	else if ((size_t)n != size)
		r = -EIO;
	/* The sentence of a refused line is a help, not a must. */
	return read_fd(fd, answer) < 0 && r == 0 ? -EIO : r;
}

bool is_refusal(int error)
{
	return error == -EAGAIN || error == -ESTALE || error == -EBUSY;
}

int workspace_explain(const struct workspace *ws, const char *command, const char *path,
	const char *relative, int error)
{
	auto_buf text = {0}, name = {0};
	auto_json *json = NULL;
	struct json_object *list, *newest;

	if (!is_refusal(error))
		return report_errno(command, path, error);
	json_put_name(&name, relative);
	list = workspace_json(ws, "why.json", "refusals", &text, &json) < 0
		       ? NULL
		       : json_list(json, "refusals");
	newest = list && json_object_array_length(list) ? json_object_array_get_idx(list, 0)
							: NULL;
	if (!newest || strcmp(json_text(newest, "path", ""), name.data ?: "") != 0) {
		report_errno(command, path, error);
		fprintf(stderr, "(`stomp why` says what was refused to you, and why)\n");
		return STOMP_NO;
	}
	fprintf(stderr, "stomp %s: %s\n", command, json_text(newest, "text", ""));
	return STOMP_NO;
}

int report_errno(const char *command, const char *path, int error)
{
	auto_buf shown = {0};

	buf_put_name(&shown, path, strlen(path));
	fprintf(stderr, "stomp %s: %s: %s\n", command, shown.data ?: "", strerror(-error));
	return is_refusal(error) || error == -ENOENT ? STOMP_NO : STOMP_FAILED;
}
