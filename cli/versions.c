#include "cli/versions.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

void version_parse(struct version_entry *v, struct json_object *o)
{
	*v = (struct version_entry){
		.seq = (uint64_t)json_number(o, "seq", 0),
		.number = (uint64_t)json_number(o, "number", 0),
		.epoch = (uint64_t)json_number(o, "epoch", 0),
		.base = (uint64_t)json_number(o, "base", 0),
		.size = (uint64_t)json_number(o, "size", 0),
		.from_number = (uint64_t)json_number(o, "from_number", 0),
		.pid = (uint64_t)json_number(o, "pid", 0),
		.time = json_text(o, "time", ""),
		.path = json_text(o, "path", ""),
		.kind = json_text(o, "kind", ""),
		.writer = json_text(o, "writer", NULL),
		.mode = json_text(o, "mode", NULL),
		.content = json_text(o, "content", NULL),
		.from_path = json_text(o, "from_path", NULL),
		.command = json_text(o, "command", NULL),
		.flags = json_list(o, "flags"),
		.json = o,
	};
}

/* The rows of the document, which the list takes over also when this fails. */
static int parse_rows(struct version_list *list)
{
	struct json_object *rows = json_list(list->json, "versions");
	const char *schema = json_text(list->json, "schema", "");

	if (!rows || strncmp(schema, "stompfs/log/", strlen("stompfs/log/")) != 0)
		return -EBADMSG;
	list->n = json_object_array_length(rows);
	list->entries = calloc(list->n + 1, sizeof(*list->entries));
	if (!list->entries)
		return -ENOMEM;
	for (size_t i = 0; i < list->n; i++)
		version_parse(&list->entries[i], json_object_array_get_idx(rows, i));
	return 0;
}

int versions_parse(struct version_list *list, const char *text)
{
	int r;

	*list = (struct version_list){.json = json_tokener_parse(text)};
	r = parse_rows(list);
	if (r < 0)
		versions_done(list);
	return r;
}

void versions_done(struct version_list *list)
{
	free(list->entries);
	json_object_put(list->json);
	*list = (struct version_list){0};
}

int versions_read(const struct workspace *ws, const char *relative, struct buf *text,
	struct version_list *list)
{
	return versions_read_newest(ws, relative, 0, text, list);
}

int versions_read_newest(const struct workspace *ws, const char *relative, uint64_t newest,
	struct buf *text, struct version_list *list)
{
	auto_buf name = {0};
	int r;

	*list = (struct version_list){0};
	if (relative && *relative)
		buf_printf(&name, "history/%s/", relative);
	buf_puts(&name, "log");
	if (newest && name.len > strlen("log"))
		buf_printf(&name, "-%llu", (unsigned long long)newest);
	buf_puts(&name, ".json");
	if (buf_failed(&name))
		return -ENOMEM;
	r = workspace_read(ws, name.data, text);
	if (r == -ENOENT && newest) /* the daemon may be older than that name */
		return versions_read(ws, relative, text, list);
	if (r == -ENOTDIR)
		r = -ENOENT;
	return r < 0 ? r : versions_parse(list, text->data ?: "");
}

/* One table of a set: what is before that seq, 0: the newest. */
static int read_set_table(const struct workspace *ws, uint64_t id, uint64_t before,
	struct json_object **table)
{
	auto_buf name = {0}, text = {0};

	buf_printf(&name, "sets/%llu", (unsigned long long)id);
	if (before)
		buf_printf(&name, "-%llu", (unsigned long long)before);
	buf_puts(&name, ".json");
	return buf_failed(&name) ? -ENOMEM
				 : workspace_json(ws, name.data, "log", &text, table);
}

/* The rows of a further table, put behind those of the first; *least is the seq of the
 * last. */
static int join_table(struct json_object *first, struct json_object *table, uint64_t *least)
{
	struct json_object *rows = json_list(table, "versions");
	struct json_object *all = json_list(first, "versions");
	size_t n = rows ? json_object_array_length(rows) : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);

		*least = (uint64_t)json_number(row, "seq", 0);
		if (all != rows && json_object_array_add(all, json_object_get(row)) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* The folders it renamed: whole in the table that has no versions. */
static int take_moves(const struct workspace *ws, uint64_t id, struct json_object *first)
{
	auto_json *table = NULL;
	struct json_object *moves;
	int r = read_set_table(ws, id, 1, &table);

	moves = r < 0 ? NULL : json_list(table, "moves");
	if (moves)
		json_object_object_add(first, "moves", json_object_get(moves));
	return r;
}

int versions_read_set(
	const struct workspace *ws, uint64_t id, uint64_t enough, struct version_list *list)
{
	uint64_t least = 0;
	bool more;
	int r;

	*list = (struct version_list){0};
	r = read_set_table(ws, id, 0, &list->json);
	if (r == 0 && !json_list(list->json, "versions"))
		r = -EBADMSG;
	if (r == 0)
		r = join_table(list->json, list->json, &least);
	more = r == 0 && json_flag(list->json, "truncated");
	if (more)
		r = take_moves(ws, id, list->json);
	while (r == 0 && more &&
		(!enough || json_object_array_length(json_list(list->json, "versions")) <
				    enough)) {
		auto_json *table = NULL;
		uint64_t before = least;

		r = read_set_table(ws, id, before, &table);
		r = r ?: join_table(list->json, table, &least);
		more = r == 0 && json_flag(table, "truncated") && least < before;
		if (r == 0 && !more)
			json_object_object_del(list->json, "truncated");
	}
	r = r ?: parse_rows(list);
	if (r < 0)
		versions_done(list);
	return r;
}

int versions_enter(const struct workspace *ws, const char *command, const char *path,
	const char *relative, struct version_list *list)
{
	auto_buf text = {0};
	int r;

	if (!*relative) {
		fprintf(stderr, "stomp %s: %s is the workspace itself; name a file in it\n",
			command, path);
		return STOMP_USAGE;
	}
	r = versions_read(ws, relative, &text, list);
	if (r == 0 && list->n > 0)
		return STOMP_DONE;
	if (r < 0 && r != -ENOENT)
		return report_errno(command, path, r);
	fprintf(stderr,
		"stomp %s: no version of %s is recorded: nobody has changed it through the "
		"mount\n",
		command, path);
	return STOMP_NO;
}

const struct version_entry *versions_find(
	const struct version_list *list, const char *relative, uint64_t number)
{
	auto_buf name = {0};

	json_put_name(&name, relative);
	for (size_t i = 0; i < list->n; i++) {
		const struct version_entry *v = &list->entries[i];

		if (v->number == number && strcmp(v->path, name.data ?: "") == 0)
			return v;
	}
	return NULL;
}

const struct version_entry *versions_content_before(
	const struct version_list *list, const struct version_entry *entry)
{
	size_t i = entry ? (size_t)(entry - list->entries) + 1 : 0;

	for (; i < list->n; i++) {
		if (version_has_content(&list->entries[i]))
			return &list->entries[i];
	}
	return NULL;
}

bool version_is_delete(const struct version_entry *v)
{
	return strcmp(v->kind, "delete") == 0 || strcmp(v->kind, "rmdir") == 0;
}

bool version_has_content(const struct version_entry *v)
{
	return v->content && !version_is_delete(v) && strcmp(v->kind, "mkdir") != 0;
}

/* ISO 8601 in UTC to local time; false where it is none. */
static bool parse_time(const char *iso, struct tm *local)
{
	struct tm utc = {0};
	time_t t;

	if (!strptime(iso, "%Y-%m-%dT%H:%M:%S", &utc))
		return false;
	t = timegm(&utc);
	return localtime_r(&t, local) != NULL;
}

void version_when(struct buf *out, const char *iso)
{
	time_t now = time(NULL);
	struct tm today, then;
	char text[32];

	if (!localtime_r(&now, &today) || !parse_time(iso, &then)) {
		buf_puts(out, iso);
		return;
	}
	if (then.tm_year == today.tm_year && then.tm_yday == today.tm_yday)
		strftime(text, sizeof(text), "%H:%M:%S", &then);
	else if (then.tm_year == today.tm_year)
		strftime(text, sizeof(text), "%b %e %H:%M", &then);
	else
		strftime(text, sizeof(text), "%Y-%m-%d", &then);
	buf_puts(out, text);
}

void version_describe(struct buf *out, const struct version_entry *v)
{
	buf_printf(out, "version %llu (%s, ", (unsigned long long)v->number,
		v->writer ?: "from before the first change");
	version_when(out, v->time);
	buf_putc(out, ')');
}

int versions_missing(const struct version_list *list, const char *command, const char *path,
	const char *relative, uint64_t number)
{
	auto_buf name = {0};
	uint64_t least = UINT64_MAX, most = 0;

	json_put_name(&name, relative);
	for (size_t i = 0; i < list->n; i++) {
		const struct version_entry *v = &list->entries[i];

		if (strcmp(v->path, name.data ?: "") != 0)
			continue;
		least = v->number < least ? v->number : least;
		most = v->number > most ? v->number : most;
	}
	fprintf(stderr, "stomp %s: %s has no version %llu", command, path,
		(unsigned long long)number);
	if (most)
		fprintf(stderr, "; it has %llu to %llu (`stomp log %s` lists them)",
			(unsigned long long)least, (unsigned long long)most, path);
	fputc('\n', stderr);
	return STOMP_NO;
}
