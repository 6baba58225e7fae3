#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/blame.h"
#include "cli/cli.h"
#include "cli/content.h"
#include "cli/options.h"
#include "cli/terminal.h"
#include "cli/words.h"

enum { OPT_LINES, OPT_AT, OPT_JSON };

static const struct option_spec options[] = {
	[OPT_LINES] = {"lines", 'L', "A,B", "lines A to B alone", false},
	[OPT_AT] = {"at", 0, "N", "of version N instead of the newest", false},
	[OPT_JSON] = {"json", 0, NULL, "as JSON (schema stompfs/blame/1)", false},
	{0}};

static const struct command_spec spec = {
	.name = "blame",
	.usage = "FILE [-L A,B] [--at N] [--json]",
	.about = "For each line of FILE the version that brought it: its number, who wrote "
		 "it,\n"
		 "when, and by which command; across renames and saves by rename. "
		 "Lines that\n"
		 "were there before the mount say so. The newest version is looked at, not "
		 "what\n"
		 "somebody is writing at this moment.",
	.example = "  stomp blame src/a.c -L 40,60   # then: stomp diff src/a.c@6 "
		   "src/a.c@7",
	.options = options,
	.min_args = 1,
	.max_args = 1,
};

struct range {
	uint64_t first, last;
};

static bool parse_range(const char *word, struct range *range)
{
	auto_free char *copy = strdup(word);
	char *comma = copy ? strchr(copy, ',') : NULL;

	range->last = UINT64_MAX;
	if (!copy)
		return false;
	if (comma)
		*comma = '\0';
	if (!word_count(copy, &range->first))
		return false;
	if (!comma)
		range->last = range->first;
	else if (comma[1] && !word_count(comma + 1, &range->last))
		return false;
	return range->first <= range->last;
}

/* ---- reading all versions ---- */

struct source {
	const struct workspace *ws;
	const char *relative, *name; /* name: as JSON spells it */
	const char *folder_path;     /* of which folder_fd is */
	int folder_fd;		     /* history/PATH */
};

static int read_version(struct source *s, const struct version_entry *v, struct buf *out)
{
	auto_close int fd = -1;
	char number[24];

	if (!s->folder_path || strcmp(s->folder_path, v->path) != 0) {
		auto_buf name = {0};
		bool own = strcmp(v->path, s->name) == 0;

		buf_printf(&name, "history/%s", own ? s->relative : v->path);
		if (buf_failed(&name))
			return -ENOMEM;
		if (s->folder_fd >= 0)
			close(s->folder_fd);
		s->folder_fd = openat(
			s->ws->stomp_fd, name.data, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (s->folder_fd < 0)
			return -errno;
		s->folder_path = v->path;
	}
	snprintf(number, sizeof(number), "%llu", (unsigned long long)v->number);
	fd = openat(s->folder_fd, number, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : content_read_fd(fd, out);
}

static bool is_text_version(const struct version_entry *v)
{
	return version_has_content(v) && strcmp(v->kind, "symlink") != 0;
}

/* Feed the file's own versions, oldest first. What is not kept any more is passed over:
 * its lines are those of the next version. */
static int feed_all(
	struct source *s, const struct version_list *list, const bool *own, struct blame *b)
{
	const char *newest = NULL;
	int r = 0;

	for (size_t i = list->n; i-- > 0 && r == 0;) {
		const struct version_entry *v = &list->entries[i];
		auto_buf content = {0};

		if (!own[i] || !is_text_version(v) ||
			(newest && strcmp(newest, v->content) == 0))
			continue;
		r = read_version(s, v, &content);
		if (r == -ENOENT) {
			r = 0;
			continue;
		}
		if (r == 0)
			r = blame_feed(b, &content, (uint32_t)i);
		newest = v->content;
	}
	return r;
}

/* ---- telling ---- */

static void put_clipped(char *out, size_t width, const char *text)
{
	size_t n = 0;

	for (; *text && n < width; text++)
		out[n++] = *text < ' ' ? ' ' : *text;
	if (*text && n > 2)
		memset(out + n - 2, '.', 2);
	out[n] = '\0';
}

static void print_line(const struct blame *b, const struct version_list *list, uint32_t i,
	const struct output *o)
{
	const struct version_entry *v = list->n ? &list->entries[b->origins[i]] : NULL;
	uint32_t size = line_size(&b->lines, i);
	const char *text = line_text(&b->lines, i);
	bool newline = size && text[size - 1] == '\n';
	char writer[17], command[29];
	auto_buf when = {0};

	if (v && v->writer) {
		put_clipped(writer, sizeof(writer) - 1, v->writer);
		put_clipped(command, sizeof(command) - 1, v->command ?: "");
		version_when(&when, v->time);
		fprintf(o->f, "%s@%-4llu%s %s%-16s%s %-12s %-28s",
			output_on(o, COLOUR_YELLOW), (unsigned long long)v->number,
			output_off(o, COLOUR_YELLOW), output_on(o, COLOUR_CYAN), writer,
			output_off(o, COLOUR_CYAN), when.data ?: "", command);
	} else {
		fprintf(o->f, "%-5s %-58s", "-",
			v && strcmp(v->kind, "external") == 0 ? "changed outside the mount"
							      : "before the mount");
	}
	fprintf(o->f, " %4u) ", i + 1);
	fwrite(text, 1, size - newline, o->f);
	fputc('\n', o->f);
}

static void add_text(struct json_object *o, const char *key, const char *text)
{
	json_object_object_add(o, key, text ? json_object_new_string(text) : NULL);
}

static int print_json(const struct blame *b, const struct version_list *list,
	const char *name, const struct range *range)
{
	auto_json *json = json_object_new_object();
	struct json_object *rows = json_object_new_array();

	add_text(json, "schema", "stompfs/blame/1");
	add_text(json, "path", name);
	json_object_object_add(json, "lines", rows);
	for (uint32_t i = 0; i < b->lines.n; i++) {
		const struct version_entry *v =
			list->n ? &list->entries[b->origins[i]] : NULL;
		struct json_object *o;
		auto_buf text = {0};
		uint32_t size = line_size(&b->lines, i);

		if (i + 1 < range->first || i + 1 > range->last)
			continue;
		o = json_object_new_object();
		size -= line_text(&b->lines, i)[size - 1] == '\n';
		buf_append(&text, line_text(&b->lines, i), size);
		json_object_object_add(o, "line", json_object_new_int64(i + 1));
		json_object_object_add(
			o, "version", json_object_new_int64(v ? (int64_t)v->number : 0));
		add_text(o, "path", v ? v->path : name);
		add_text(o, "kind", v ? v->kind : "initial");
		add_text(o, "writer", v ? v->writer : NULL);
		add_text(o, "time", v ? v->time : NULL);
		add_text(o, "command", v ? v->command : NULL);
		json_object_object_add(o, "text",
			json_object_new_string_len(text.data ?: "", (int)text.len));
		json_object_array_add(rows, o);
	}
	puts(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN));
	return STOMP_DONE;
}

static int print_all(
	const struct blame *b, const struct version_list *list, const struct range *range)
{
	struct output out;

	output_begin(&out, true);
	for (uint32_t i = 0; i < b->lines.n; i++)
		if (i + 1 >= range->first && i + 1 <= range->last)
			print_line(b, list, i, &out);
	return output_end(&out);
}

/* ---- a file ---- */

/* Nobody has changed it: all of it is from before. */
static int feed_current(const struct workspace *ws, const char *relative, struct blame *b)
{
	auto_buf content = {0};
	int r = content_read_current(ws, relative, &content);

	return r < 0 ? r : blame_feed(b, &content, 0);
}

static int blame_file(const struct workspace *ws, const char *path, const char *relative,
	uint64_t at, struct version_list *list, struct blame *b)
{
	auto_buf text = {0}, name = {0};
	auto_free bool *own = NULL;
	struct source s = {.ws = ws, .relative = relative, .folder_fd = -1};
	int r = versions_read(ws, relative, &text, list);

	json_put_name(&name, relative);
	s.name = name.data ?: "";
	if (r < 0 && r != -ENOENT)
		return report_errno(spec.name, path, r);
	own = calloc(list->n + 1, sizeof(*own));
	if (!own || buf_failed(&name))
		return report_errno(spec.name, path, -ENOMEM);
	if (!blame_own_line(list, s.name, at, own))
		return versions_missing(list, spec.name, path, relative, at);
	if (r == 0)
		r = feed_all(&s, list, own, b);
	if (s.folder_fd >= 0)
		close(s.folder_fd);
	if (r == -ENOENT || (r == 0 && !b->origins)) {
		versions_done(list);
		r = feed_current(ws, relative, b);
	}
	if (r < 0)
		return report_errno(spec.name, path, r);
	if (b->content.len && memchr(b->content.data, '\0', b->content.len)) {
		fprintf(stderr, "stomp blame: %s is no text\n", path);
		return STOMP_NO;
	}
	return STOMP_DONE;
}

int cmd_blame(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	auto_versions list = {0};
	auto_blame b = {0};
	auto_free char *relative = NULL;
	struct range range = {1, UINT64_MAX};
	auto_buf name = {0};
	uint64_t at = 0;
	const char *word;
	int r = options_parse(&spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	word = o.values[OPT_AT];
	if (word && !word_count(word + (*word == '@'), &at))
		return options_wrong(
			&spec, "--at takes the number of a version, not %s", word);
	if (o.values[OPT_LINES] && !parse_range(o.values[OPT_LINES], &range))
		return options_wrong(
			&spec, "-L takes lines as 10,20, not %s", o.values[OPT_LINES]);
	r = workspace_enter(&ws, spec.name, o.args[0], &relative);
	if (r == STOMP_DONE)
		r = blame_file(&ws, o.args[0], relative, at, &list, &b);
	if (r != STOMP_DONE)
		return r;
	json_put_name(&name, relative);
	if (o.values[OPT_JSON])
		return print_json(&b, &list, name.data ?: "", &range);
	return print_all(&b, &list, &range);
}
