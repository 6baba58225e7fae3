#include "fs/vtree_internal.h"

#include <string.h>

/* conflicts/ID/info for a person or a language model; info.json, conflicts.json and
 * conflicts.ndjson for a program (docs/STOMP-FOLDER.md). */

static void put_row(struct buf *out, const char *name)
{
	buf_printf(out, "\n%-9s ", name);
}

static void put_who(struct buf *out, const char *name)
{
	if (name) {
		buf_puts(out, " by ");
		buf_put_name(out, name, strlen(name));
	}
}

static void put_sides(const struct refusal *r, uint64_t newest, int merges, struct buf *out)
{
	if (r->base_number) {
		put_row(out, "base");
		buf_printf(out, "version %llu, which they were made from",
			(unsigned long long)r->base_number);
	}
	if (r->current_number) {
		put_row(out, "ours");
		buf_printf(out, "version %llu", (unsigned long long)r->current_number);
		put_who(out, r->current_writer);
		buf_puts(out, ", which was there at the time");
	}
	put_row(out, "theirs");
	buf_puts(out, "the bytes that were refused (");
	put_size(out, r->size);
	buf_putc(out, ')');
	if (merges == 1) {
		put_row(out, "merged");
		buf_printf(out,
			"both: what base and theirs differ by, in version %llu, the newest",
			(unsigned long long)newest);
	}
	buf_putc(out, '\n');
}

static void put_ways(const struct refusal *r, int merges, struct buf *out)
{
	unsigned long long id = r->id;

	if (r->resolved_seq) {
		put_row(out, "resolved");
		buf_put_time(out, r->resolved_ns);
		put_who(out, r->resolved_by);
		buf_printf(out, ": %s\n", r->resolved_how ?: "?");
		return;
	}
	buf_printf(out,
		"\nTo see it:     stomp conflicts show %llu\nTo resolve it, one of\n", id);
	if (merges == 1)
		buf_printf(out, "  stomp resolve %llu --merged   write what is in merged\n",
			id);
	buf_printf(out,
		"  stomp resolve %llu --file F   write F, which you have made of them\n"
		"  stomp resolve %llu --theirs   write what was refused\n"
		"  stomp resolve %llu --ours     leave the file as it is now\n"
		"Without the tool: write the file, then the line `resolve %llu file` to "
		".stomp/ctl.\n",
		id, id, id, id);
}

/* A conflict to be told of, and where to. */
struct telling {
	struct workspace *ws;
	struct buf *out;
};

static int put_info(const struct refusal *r, void *ctx)
{
	const struct telling *t = ctx;
	struct buf *out = t->out;
	const char *text = r->text ?: "";
	uint64_t newest = 0;
	int merges = conflicts_can_merge(t->ws, r, &newest);

	buf_puts(out, text);
	if (*text && text[strlen(text) - 1] != '\n')
		buf_putc(out, '\n');
	put_row(out, "file");
	buf_put_name(out, r->path, r->path_len);
	put_row(out, "when");
	buf_put_time(out, r->time_ns);
	put_row(out, "asked");
	buf_puts(out, r->asked);
	put_who(out, r->author.name);
	buf_printf(out, " (pid %d, uid %u)\n", (int)r->author.pid, (unsigned)r->author.uid);
	put_sides(r, newest, merges, out);
	put_ways(r, merges, out);
	return 1;
}

static void put_error(struct buf *out, int r)
{
	if (r < 0)
		buf_printf(
			out, "The history cannot be read now: %s.\n", strerrordesc_np(-r));
}

void vdoc_conflict_info(const struct vreader *r, struct buf *out)
{
	struct telling t = {.ws = r->ws, .out = out};

	put_error(out, journal_refusal(r->ws->journal, r->node->number, put_info, &t));
}

/* ---- JSON ---- */

static void json_resolved(struct buf *b, const struct refusal *r)
{
	json_key(b, "resolved");
	if (!r->resolved_seq) {
		buf_puts(b, "null");
		return;
	}
	buf_putc(b, '{');
	json_time(b, "time", r->resolved_ns);
	json_string(b, "by", r->resolved_by);
	json_string(b, "how", r->resolved_how);
	buf_putc(b, '}');
}

/* Without the brace at its end: info.json says more. */
static void begin_conflict(struct buf *b, const struct refusal *r, bool with_schema,
	const struct process *reader)
{
	buf_putc(b, '{');
	if (with_schema)
		json_string(b, "schema", "stompfs/conflict/1");
	json_number(b, "id", r->id);
	json_time(b, "time", r->time_ns);
	json_bytes(b, "path", r->path, r->path_len);
	json_word(b, "word", r->path, r->path_len);
	json_string(b, "asked", r->asked);
	json_string(b, "reason", r->reason);
	json_key(b, "errno");
	buf_putc(b, '"');
	put_errno_name(b, r->error);
	buf_putc(b, '"');
	json_string(b, "writer", r->author.name);
	json_signed(b, "pid", r->author.pid);
	json_number(b, "uid", r->author.uid);
	json_string(b, "command", r->author.command);
	json_number(b, "base", r->base_number);
	json_number(b, "current", r->current_number);
	json_string(b, "current_writer", r->current_writer);
	json_number(b, "size", r->size);
	json_string(b, "hunks", r->hunks);
	json_refusal_text(b, r, reader);
	json_resolved(b, r);
}

static int put_info_json(const struct refusal *r, void *ctx)
{
	const struct telling *t = ctx;
	struct buf *out = t->out;
	uint64_t newest = 0;
	int merges = conflicts_can_merge(t->ws, r, &newest);

	begin_conflict(out, r, true, NULL);
	json_number(out, "newest", newest);
	json_bool(out, "merges", merges == 1);
	buf_puts(out, "}\n");
	return 1;
}

void vdoc_conflict_info_json(const struct vreader *r, struct buf *out)
{
	struct telling t = {.ws = r->ws, .out = out};
	int e = journal_refusal(r->ws->journal, r->node->number, put_info_json, &t);

	if (e < 0) {
		buf_puts(out, "{\"schema\":\"stompfs/conflict/1\"");
		json_string(out, "error", strerrordesc_np(-e));
		buf_puts(out, "}\n");
	}
}

static int put_conflict(const struct refusal *r, void *ctx)
{
	struct json_rows *rows = ctx;

	if (!json_rows_next(rows))
		return 1;
	begin_conflict(rows->out, r, false, rows->reader);
	buf_putc(rows->out, '}');
	return 0;
}

void vdoc_conflicts_json(const struct vreader *r, struct buf *out)
{
	struct journal *j = r->ws->journal;
	struct json_rows rows;
	int e;

	buf_puts(out, "{\"schema\":\"stompfs/conflicts/1\"");
	json_rows_begin(&rows, out, "conflicts");
	rows.reader = r->by;
	e = journal_conflicts(j, CONFLICTS_UNRESOLVED, 0, put_conflict, &rows);
	json_rows_end(&rows);
	json_rows_begin(&rows, out, "resolved");
	rows.reader = r->by;
	if (e >= 0)
		e = journal_conflicts(
			j, CONFLICTS_RESOLVED, VTREE_LOG_ROWS, put_conflict, &rows);
	json_rows_end(&rows);
	if (e < 0)
		json_string(out, "error", strerrordesc_np(-e));
	buf_puts(out, "}\n");
}

static int put_line(const struct refusal *r, void *ctx)
{
	const struct json_rows *lines = ctx;
	struct buf *out = lines->out;

	/* A line is whole or not there. */
	if (out->len > VTREE_DOCUMENT_MAX / 2)
		return 1;
	begin_conflict(out, r, true, lines->reader);
	buf_puts(out, "}\n");
	return 0;
}

void vdoc_conflicts_ndjson(const struct vreader *r, struct buf *out)
{
	struct json_rows lines = {.out = out, .reader = r->by};
	int e = journal_conflicts(
		r->ws->journal, CONFLICTS_UNRESOLVED, VTREE_ROWS_MAX, put_line, &lines);

	if (e < 0) {
		buf_puts(out, "{\"schema\":\"stompfs/conflict/1\"");
		json_string(out, "error", strerrordesc_np(-e));
		buf_puts(out, "}\n");
	}
}
