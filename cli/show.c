#include "cli/show.h"

#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/terminal.h"

/* A file of .stomp/ that every workspace has could not be read. */
static int report_file(const char *command, const char *name, int error)
{
	auto_buf shown = {0};

	buf_printf(&shown, ".stomp/%s", name);
	if (error == -EBADMSG)
		fprintf(stderr,
			"stomp %s: %s is not what this version of stomp understands; are "
			"stomp "
			"and the daemon of one version? (stomp doctor)\n",
			command, shown.data ?: name);
	else
		report_errno(command, shown.data ?: name, error);
	return STOMP_FAILED;
}

int show_file(const struct workspace *ws, const char *command, const char *name,
	const char *empty)
{
	auto_buf text = {0};
	struct output out;
	int r = workspace_read(ws, name, &text);

	if (r < 0)
		return report_file(command, name, r);
	output_begin(&out, true);
	fputs(text.len ? text.data : empty, out.f);
	return output_end(&out);
}

int show_json_text(const char *text)
{
	struct output out;
	size_t n = 0;

	output_begin(&out, true);
	for (; text[n]; n++)
		fputc(text[n], out.f);
	if (!n || text[n - 1] != '\n')
		fputc('\n', out.f);
	return output_end(&out);
}

int show_json(const struct workspace *ws, const char *command, const char *name,
	const char *schema)
{
	auto_buf text = {0};
	auto_json *json = NULL;
	int r = workspace_json(ws, name, schema, &text, &json);

	return r < 0 ? report_file(command, name, r) : show_json_text(text.data);
}

int show_json_rows(struct json_object *json, const char *key, uint64_t limit)
{
	struct json_object *rows = json_list(json, key);
	size_t n = rows ? json_object_array_length(rows) : 0;

	if (limit && n > limit)
		json_object_array_del_idx(rows, limit, n - limit);
	return show_json_text(json_object_to_json_string_ext(
		json, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

void put_size(struct buf *out, uint64_t size)
{
	static const char units[] = "KMGTPE";
	double v = (double)size;
	int unit = -1;

	if (size < 10000) {
		buf_printf(out, "%llu", (unsigned long long)size);
		return;
	}
	while (v >= 1000 && unit < (int)sizeof(units) - 2) {
		v /= 1024;
		unit++;
	}
	buf_printf(out, v < 99.95 ? "%.1f%c" : "%.0f%c", v, units[unit]);
}

int show_ctl_failure(const char *command, const struct workspace *ws,
	const struct buf *answer, int error)
{
	auto_json *json = json_tokener_parse(answer->data ?: "");

	if (!json)
		return report_errno(command, ws->root, error);
	fprintf(stderr, "stomp %s: %s\n", command,
		json_text(json, "error", strerror(-error)));
	return error == -EINVAL || error == -E2BIG ? STOMP_USAGE : STOMP_NO;
}
