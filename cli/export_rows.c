#include "cli/export_rows.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/words.h"

/* Rows are told as they were written. One may come after one of a greater seq, whose
 * writer was quicker to queue it; never by as much as this. */
enum { REORDER_MAX = 1 << 16 };

void export_rows_done(struct export_rows *rows)
{
	report_names_done(&rows->names);
	free(rows->rows);
	*rows = (struct export_rows){0};
}

static int take(struct export_rows *rows, const char *text, uint32_t *name)
{
	int64_t n = report_names_take(&rows->names, text ?: "");

	*name = n < 0 ? 0 : (uint32_t)n;
	return n < 0 ? (int)n : 0;
}

static int take_path(struct export_rows *rows, struct json_object *row, const char *key,
	const char *word_key, uint32_t *name)
{
	const char *word = json_text(row, word_key, NULL);
	auto_free char *path = word ? word_unescape(word) : NULL;

	if (word && !path)
		return -ENOMEM;
	return take(rows, path ?: json_text(row, key, ""), name);
}

static int take_flags(struct export_rows *rows, struct json_object *row, uint32_t *name)
{
	struct json_object *list = json_list(row, "flags");
	auto_buf text = {0};

	for (size_t i = 0; list && i < json_object_array_length(list); i++)
		buf_printf(&text, "%s%s", i ? ", " : "",
			json_object_get_string(json_object_array_get_idx(list, i)));
	return buf_failed(&text) ? -ENOMEM : take(rows, text.data, name);
}

/* False: it is nothing that git would know of. */
static bool read_kind(struct json_object *row, enum export_kind *kind)
{
	static const struct {
		const char *name;
		enum export_kind kind;
	} kinds[] = {{"write", EXPORT_CONTENT}, {"replace", EXPORT_CONTENT},
		{"link", EXPORT_CONTENT}, {"symlink", EXPORT_CONTENT},
		{"external", EXPORT_CONTENT}, {"move", EXPORT_CAME}, {"mode", EXPORT_MODE},
		{"delete", EXPORT_GONE}, {"rename", EXPORT_FOLDER}};
	const char *what = json_text(row, "what", ""), *name = json_text(row, "kind", "");

	if (strcmp(what, "event") == 0 || strcmp(json_text(row, "type", ""), "folder") == 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		*kind = kinds[i].kind;
		if (strcmp(name, kinds[i].name) == 0)
			return true;
	}
	return false;
}

static struct export_row *add(struct export_rows *rows)
{
	if (rows->n == rows->room) {
		size_t room = rows->room ? rows->room * 2 : 1024;
		void *more = reallocarray(rows->rows, room, sizeof(*rows->rows));

		if (!more)
			return NULL;
		rows->rows = more;
		rows->room = room;
	}
	return &rows->rows[rows->n++];
}

static int take_row(struct export_rows *rows, struct json_object *json, uint64_t seq)
{
	struct export_row *row;
	enum export_kind kind;

	if (!read_kind(json, &kind))
		return 0;
	row = add(rows);
	if (!row)
		return -ENOMEM;
	*row = (struct export_row){
		.seq = seq,
		.set = (uint64_t)json_number(json, "set", 0),
		.time_ms = word_time_ms(json_text(json, "time", "")),
		.kind = kind,
	};
	return take_path(rows, json, "path", "word", &row->path)
		       ?: take_path(rows, json, "from_path", "from_word", &row->from)
		       ?: take(rows, json_text(json, "writer", ""), &row->writer)
		       ?: take(rows, json_text(json, "command", ""), &row->command)
		       ?: take_flags(rows, json, &row->flags);
}

struct reading {
	struct export_rows *rows;
	uint64_t last;
	struct buf line; /* what came of it so far */
	bool ended;
};

static int take_line(struct reading *in)
{
	auto_json *json = json_tokener_parse(in->line.data ?: "");
	uint64_t seq = (uint64_t)json_number(json, "seq", 0);

	if (!json)
		return -EBADMSG;
	buf_reset(&in->line);
	in->ended = seq > in->last + REORDER_MAX;
	return seq > in->last ? 0 : take_row(in->rows, json, seq);
}

static int take_bytes(struct reading *in, const char *data, size_t n)
{
	int r = 0;

	while (n > 0 && r == 0 && !in->ended) {
		const char *newline = memchr(data, '\n', n);
		size_t part = newline ? (size_t)(newline - data) : n;

		buf_append(&in->line, data, part);
		if (buf_failed(&in->line))
			return -ENOMEM;
		part += newline != NULL;
		r = newline ? take_line(in) : 0;
		data += part;
		n -= part;
	}
	return r;
}

static int by_seq(const void *a, const void *b)
{
	const struct export_row *x = a, *y = b;

	if (x->seq != y->seq)
		return x->seq < y->seq ? -1 : 1;
	return (x->path > y->path) - (x->path < y->path);
}

int export_rows_read(
	struct export_rows *rows, const struct workspace *ws, uint64_t after, uint64_t last)
{
	struct reading in = {.rows = rows, .last = last};
	auto_buf name = {0};
	auto_close int fd = -1;
	char data[1 << 16];
	uint32_t none;
	int r = take(rows, "", &none); /* is 0 */

	buf_printf(&name, "events/%llu.json", (unsigned long long)after);
	if (r < 0 || buf_failed(&name))
		return -ENOMEM;
	/* Without waiting: what is asked for has been written. */
	fd = openat(ws->stomp_fd, name.data, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	while (r == 0 && !in.ended) {
		ssize_t n = read(fd, data, sizeof(data));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			r = -errno;
		if (n <= 0)
			break;
		r = take_bytes(&in, data, (size_t)n);
	}
	buf_done(&in.line);
	if (r == 0 && rows->n)
		qsort(rows->rows, rows->n, sizeof(*rows->rows), by_seq);
	return r;
}
