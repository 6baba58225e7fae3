#include "cli/report_write.h"

#include <string.h>
#include <time.h>

#include "base/clock.h"

/* "<" is told by its number, so that nothing in it can end the script element or begin
 * a comment; control bytes and what is no UTF-8 buf_put_json takes care of. */
void report_put_text(struct buf *out, const char *text, size_t size)
{
	auto_buf json = {0};
	const char *s, *next;

	buf_put_json(&json, text, size);
	if (buf_failed(&json)) {
		out->failed = true;
		return;
	}
	for (s = json.data; (next = strchr(s, '<')); s = next + 1) {
		buf_append(out, s, (size_t)(next - s));
		buf_puts(out, "\\u003c");
	}
	buf_puts(out, s);
}

static void put_key(struct buf *out, const char *key)
{
	buf_printf(out, ",\n\"%s\":", key);
}

static void put_names(struct buf *out, const struct report_names *names)
{
	put_key(out, "names");
	buf_putc(out, '[');
	for (uint32_t i = 0; i < names->n; i++) {
		if (i)
			buf_putc(out, ',');
		report_put_text(out, names->texts[i], strlen(names->texts[i]));
	}
	buf_putc(out, ']');
}

enum column {
	TIME,
	KIND,
	WRITER,
	PATH,
	NUMBER,
	WHAT,
	COMMAND,
	TEXT,
	SET,
	SIZE,
	FROM_PATH,
	FROM_NUMBER,
	REFUSALS,
	RESOLVED,
	SEQ,
	COLUMNS
};

static const char *const column_names[COLUMNS] = {
	[TIME] = "time",
	[KIND] = "kind",
	[WRITER] = "writer",
	[PATH] = "path",
	[NUMBER] = "number",
	[WHAT] = "what",
	[COMMAND] = "command",
	[TEXT] = "text",
	[SET] = "set",
	[SIZE] = "size",
	[FROM_PATH] = "from_path",
	[FROM_NUMBER] = "from_number",
	[REFUSALS] = "refusals",
	[RESOLVED] = "resolved",
	[SEQ] = "seq",
};

static int64_t value_of(const struct report_event *e, enum column column)
{
	switch (column) {
	case TIME:
		return e->time_ms;
	case KIND:
		return e->kind;
	case WRITER:
		return e->writer;
	case PATH:
		return e->path;
	case NUMBER:
		return (int64_t)e->number;
	case WHAT:
		return e->what;
	case COMMAND:
		return e->command;
	case TEXT:
		return e->text;
	case SET:
		return (int64_t)e->set;
	case SIZE:
		return e->has_content ? (int64_t)e->size : -1;
	case FROM_PATH:
		return e->from_path;
	case FROM_NUMBER:
		return (int64_t)e->from_number;
	case REFUSALS:
		return e->refusals;
	case RESOLVED:
		return e->resolved;
	case SEQ:
		return (int64_t)e->seq;
	case COLUMNS:
		break;
	}
	return 0;
}

/* A column: the first value, then what each is more than the one before. Most are a
 * digit or two so. */
static void put_column(struct buf *out, const struct report *r, enum column column)
{
	int64_t last = 0;

	put_key(out, column_names[column]);
	buf_putc(out, '[');
	for (size_t i = 0; i < r->n; i++) {
		int64_t value = value_of(&r->events[i], column);

		buf_printf(out, "%s%lld", i ? "," : "", (long long)(value - last));
		last = value;
	}
	buf_putc(out, ']');
}

static void put_undos(struct buf *out, const struct report *r)
{
	put_key(out, "undos");
	buf_putc(out, '{');
	for (size_t i = 0; i < r->n_undos; i++) {
		buf_printf(out, "%s\"%llu\":", i ? "," : "",
			(unsigned long long)r->undos[i].set);
		report_put_text(out, r->undos[i].what, strlen(r->undos[i].what));
	}
	buf_putc(out, '}');
}

static void put_span(struct buf *out, const struct report *r, const struct workspace *ws)
{
	int64_t now_ms = clock_wall_ns(clock_system()) / NS_PER_MS;

	buf_puts(out, "{\"schema\":\"stompfs/report/1\"");
	put_key(out, "version");
	report_put_text(out, STOMPFS_VERSION, strlen(STOMPFS_VERSION));
	put_key(out, "workspace");
	report_put_text(out, ws->root, strlen(ws->root));
	put_key(out, "made");
	buf_printf(out, "%lld", (long long)now_ms);
	put_key(out, "since");
	buf_printf(out, "%lld", (long long)r->since_ms);
	put_key(out, "until");
	buf_printf(out, "%lld", (long long)(r->until_ms < now_ms ? r->until_ms : now_ms));
	put_key(out, "notes");
	report_put_text(out, r->notes.data ?: "", r->notes.len);
}

int report_write(const struct report *report, const struct workspace *ws, struct buf *out)
{
	int r;

	buf_puts(out, report_page_before);
	put_span(out, report, ws);
	put_names(out, &report->names);
	put_undos(out, report);
	for (int column = 0; column < COLUMNS; column++)
		put_column(out, report, (enum column)column);
	put_key(out, "diffs");
	r = report_put_diffs(report, ws, out);
	buf_puts(out, "}\n");
	buf_puts(out, report_page_after);
	return r < 0 ? r : buf_failed(out) ? -ENOMEM : 0;
}
