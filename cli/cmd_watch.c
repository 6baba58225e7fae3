#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/versions.h"

enum { OPT_SINCE, OPT_WRITER, OPT_JSON };

static const struct option_spec options[] = {
	[OPT_SINCE] = {"since", 's', "SEQ|CURSOR",
		"begin behind that number, or behind the line that bore that cursor",
		false},
	[OPT_WRITER] = {"writer", 'w', "NAME", "only what this writer did", false},
	[OPT_JSON] = {"json", 0, NULL, "an object per line", false},
	{0}};

static const struct command_spec spec = {
	.name = "watch",
	.usage = "[PATH…] [--since SEQ|CURSOR] [--writer NAME] [--json]",
	.about = "What happens in the workspace, a line each as it happens: versions, "
		 "renames\n"
		 "of folders, refusals, leases asked for, taken over and broken, conflicts "
		 "that\n"
		 "were settled. Every line bears a cursor: --since CURSOR goes on behind "
		 "it and misses nothing, "
		 "however\n"
		 "the watching ended. Without --since: from now on. PATH: only it and what "
		 "is\n"
		 "below. It ends when the workspace is unmounted.",
	.example = "  stomp watch src\n"
		   "  stomp watch --json --since 0 | jq -r .path",
	.options = options,
	.max_args = -1,
};

struct watch {
	struct workspace ws;
	const char *writer;
	bool json;
	struct buf paths;  /* NUL-terminated, as JSON spells them, one behind the other */
	struct buf cursor; /* of the last line that was read */
	struct buf line;   /* what came of the next one */
};

static void watch_done(struct watch *w)
{
	buf_done(&w->paths);
	buf_done(&w->cursor);
	buf_done(&w->line);
	workspace_close(&w->ws);
}

#define auto_watch __attribute__((cleanup(watch_done))) struct watch

static bool is_below(const char *path, const char *folder)
{
	size_t n = strlen(folder);

	return path && strncmp(path, folder, n) == 0 && (!n || !path[n] || path[n] == '/');
}

static bool is_wanted(const struct watch *w, struct json_object *row)
{
	const char *end = w->paths.data + w->paths.len;

	if (w->writer && strcmp(json_text(row, "writer", ""), w->writer) != 0)
		return false;
	if (!w->paths.len)
		return true;
	for (const char *path = w->paths.data; path < end; path += strlen(path) + 1)
		if (is_below(json_text(row, "path", NULL), path) ||
			is_below(json_text(row, "from_path", NULL), path))
			return true;
	return false;
}

static void print_text(struct json_object *row)
{
	const char *from = json_text(row, "from_path", NULL);
	const char *text = json_text(row, "text", NULL);
	auto_buf when = {0};

	version_when(&when, json_text(row, "time", ""));
	printf("%s  %s  %s  %s  %s", json_text(row, "cursor", "?"), when.data ?: "",
		json_text(row, "writer", "-"), json_text(row, "kind", "?"),
		json_text(row, "path", "-"));
	if (strcmp(json_text(row, "what", ""), "version") == 0)
		printf("@%lld", (long long)json_number(row, "number", 0));
	if (from)
		printf("  %s %s",
			strcmp(json_text(row, "kind", ""), "delete") == 0 ? "now" : "was",
			from);
	if (text && *text)
		printf("  %s", text);
	putchar('\n');
}

static int take_line(struct watch *w)
{
	auto_json *row = json_tokener_parse(w->line.data ?: "");
	const char *cursor = json_text(row, "cursor", NULL);

	if (!cursor)
		return -EBADMSG;
	buf_reset(&w->cursor);
	buf_puts(&w->cursor, cursor);
	if (is_wanted(w, row)) {
		if (w->json)
			puts(w->line.data);
		else
			print_text(row);
	}
	buf_reset(&w->line);
	return buf_failed(&w->cursor) ? -ENOMEM : 0;
}

static int take_bytes(struct watch *w, const char *data, size_t n)
{
	while (n > 0) {
		const char *newline = memchr(data, '\n', n);
		size_t part = newline ? (size_t)(newline - data) : n;
		int r = 0;

		buf_append(&w->line, data, part);
		if (buf_failed(&w->line))
			return -ENOMEM;
		if (newline) {
			r = take_line(w);
			part++;
		}
		if (r < 0)
			return r;
		data += part;
		n -= part;
	}
	return fflush(stdout) == 0 ? 0 : -errno;
}

/* Until the end: 0, or why it ended. */
static int follow(struct watch *w)
{
	auto_buf name = {0};
	auto_close int fd = -1;
	char data[1 << 16];

	buf_printf(&name, "%s/.stomp/events/%s.json", w->ws.root, w->cursor.data);
	if (buf_failed(&name))
		return -ENOMEM;
	fd = open(name.data, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	buf_reset(&w->line);
	for (;;) {
		ssize_t n = read(fd, data, sizeof(data));
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		r = take_bytes(w, data, (size_t)n);
		if (r < 0)
			return r;
	}
}

static int explain(const struct watch *w, int error)
{
	if (error == -ENOENT)
		fprintf(stderr,
			"stomp watch: --since takes a number (of `stomp log --json`: seq) "
			"or "
			"a cursor of a line, not %s\n",
			w->cursor.data);
	else
		fprintf(stderr, "stomp watch: %s: %s; go on with --since %s\n", w->ws.root,
			strerror(-error), w->cursor.data);
	return error == -ENOENT ? STOMP_USAGE : STOMP_FAILED;
}

static int watch(struct watch *w)
{
	auto_buf before = {0};
	int r;

	/* A daemon that was started again knows no file opened before: go on from there,
	 * as long as that leads on. */
	for (;;) {
		buf_reset(&before);
		buf_puts(&before, w->cursor.data);
		r = follow(w);
		if (r != -ESTALE && r != -ENOTCONN && r != -ECONNABORTED && r != -EIO &&
			r != -EBADF)
			break;
		if (buf_failed(&before) || strcmp(before.data, w->cursor.data) == 0)
			break;
	}
	return r < 0 ? explain(w, r) : STOMP_DONE;
}

int cmd_watch(int argc, char **argv)
{
	auto_options o = {0};
	auto_watch w = {.ws = {.stomp_fd = -1}};
	int r = options_parse(&spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	w.writer = o.values[OPT_WRITER];
	w.json = o.values[OPT_JSON] != NULL;
	buf_puts(&w.cursor, o.values[OPT_SINCE] ?: "new");
	r = workspace_enter(&w.ws, spec.name, o.n_args ? o.args[0] : NULL, NULL);
	for (int i = 0; i < o.n_args && r == STOMP_DONE; i++) {
		auto_free char *relative = NULL;

		r = workspace_path(&w.ws, spec.name, o.args[i], &relative);
		if (r != STOMP_DONE)
			break;
		json_put_name(&w.paths, relative);
		buf_putc(&w.paths, '\0');
	}
	if (r != STOMP_DONE)
		return r;
	if (buf_failed(&w.paths) || buf_failed(&w.cursor))
		return report_errno(spec.name, w.ws.root, -ENOMEM);
	return watch(&w);
}
