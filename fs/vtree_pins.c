/*
 * vtree_pins.c - gc, pins: what is collected, and the moments that are kept.
 */
#include <string.h>
#include <unistd.h>

#include "fs/collector.h"
#include "fs/state.h"
#include "fs/vtree_ctl.h"
#include "fs/vtree_internal.h"
#include "journal/gc.h"

void vdoc_gc(const struct vreader *r, struct buf *out)
{
	collector_text(r->ws->collector, out);
}

void vdoc_gc_json(const struct vreader *r, struct buf *out)
{
	buf_puts(out, "{\"schema\":\"stompfs/gc/1\"");
	collector_json(r->ws->collector, out);
	buf_puts(out, "}\n");
}

static int put_pin(const struct pin *p, void *ctx)
{
	struct buf *out = ctx;

	buf_printf(out, "%-20s seq:%-10llu ", p->name, (unsigned long long)p->seq);
	buf_put_time(out, p->time_ns);
	buf_printf(out, "  %s  ", p->writer ?: "-");
	if (p->path_len)
		buf_put_name(out, p->path, p->path_len);
	else
		buf_puts(out, "(everything)");
	buf_putc(out, '\n');
	return 0;
}

void vdoc_pins(const struct vreader *r, struct buf *out)
{
	int result = journal_pins(r->ws->journal, put_pin, out);

	if (result < 0)
		buf_printf(out, "pins could not be read: %s\n", strerror(-result));
	else if (!out->len)
		buf_puts(out, "Nothing is pinned. `stomp pin NAME [PATH…] [--at WHEN]` "
			      "keeps what was there then,\nwhatever the policy lets go.\n");
}

static int put_pin_json(const struct pin *p, void *ctx)
{
	struct json_rows *rows = ctx;

	if (!json_rows_next(rows))
		return 0;
	buf_putc(rows->out, '{');
	json_string(rows->out, "name", p->name);
	json_number(rows->out, "seq", p->seq);
	json_time(rows->out, "time", p->time_ns);
	json_string(rows->out, "writer", p->writer);
	json_bytes(rows->out, "path", p->path, p->path_len);
	buf_putc(rows->out, '}');
	return 0;
}

void vdoc_pins_json(const struct vreader *r, struct buf *out)
{
	struct json_rows rows;
	int result;

	buf_puts(out, "{\"schema\":\"stompfs/pins/1\"");
	json_rows_begin(&rows, out, "pins");
	result = journal_pins(r->ws->journal, put_pin_json, &rows);
	json_rows_end(&rows);
	if (result < 0)
		json_string(out, "error", strerror(-result));
	buf_puts(out, "}\n");
}

/* ---- ctl ---- */

static int moment_of(struct workspace *ws, const char *word, uint64_t *seq, struct buf *why)
{
	struct moment m;
	int r;

	if (!word) {
		*seq = journal_last_seq(ws->journal);
		return 0;
	}
	r = moment_parse(word, clock_wall_ns(ws->clock), &m) ? vtree_moment_seq(ws, &m, seq)
							     : -EINVAL;
	if (r == -EINVAL || r == -ENOENT) {
		buf_puts(why, "it is no moment, or one that is yet to come: as in -2h, "
			      "2026-11-24T10:32, 57 (an epoch)");
		return -EINVAL;
	}
	return r;
}

static int add_pins(struct workspace *ws, struct process *by, const struct ctl_command *cmd,
	struct buf *answer, struct buf *why)
{
	size_t n = cmd->n_paths ?: 1;
	auto_free struct pin *pins = calloc(n, sizeof(*pins));
	uint64_t seq;
	int r = pins ? moment_of(ws, cmd->at, &seq, why) : -ENOMEM;

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		pins[i] = (struct pin){
			.name = cmd->name,
			.seq = seq,
			.path = cmd->n_paths ? cmd->paths[i] : "",
			.path_len = cmd->n_paths ? strlen(cmd->paths[i]) : 0,
			.time_ns = clock_wall_ns(ws->clock),
			.writer = by->writer->name,
		};
	r = journal_pin(ws->journal, pins, n);
	if (r == PIN_AGAIN) {
		buf_printf(why,
			"%s is pinned already; `stomp pin --remove %s` first, or "
			"take another name",
			cmd->name, cmd->name);
		return -EEXIST;
	}
	if (r == PIN_FULL) {
		buf_printf(why,
			"more than %d paths are pinned; pin a folder, or remove "
			"pins (`stomp pin --list`)",
			PINS_MAX);
		return -ENOSPC;
	}
	json_number(answer, "seq", seq);
	return r;
}

struct owner {
	const char *name, *writer;
	bool found, ours;
};

static int find_owner(const struct pin *p, void *ctx)
{
	struct owner *o = ctx;

	if (strcmp(p->name, o->name) != 0)
		return 0;
	o->found = true;
	o->ours = p->writer && strcmp(p->writer, o->writer) == 0;
	return 1;
}

static int remove_pins(
	struct workspace *ws, struct process *by, const char *name, struct buf *why)
{
	struct owner o = {.name = name, .writer = by->writer->name};
	int r = journal_pins(ws->journal, find_owner, &o);

	if (r < 0)
		return r;
	if (o.found && !o.ours && by->uid != 0 && by->uid != geteuid()) {
		buf_puts(why, "another writer pinned it: only that one, root and who "
			      "mounted the workspace may remove it");
		return -EPERM;
	}
	r = journal_unpin(ws->journal, name);
	if (r == PIN_NONE) {
		buf_printf(why, "nothing is pinned as %s; .stomp/pins lists what is", name);
		return -ENOENT;
	}
	return r;
}

/* A word as a place in the journal, with everything before it written. */
static int tell_moment(
	struct workspace *ws, const char *word, struct buf *answer, struct buf *why)
{
	uint64_t seq, last;
	int r;

	state_settle(ws, SETTLE_WAIT_MS); /* what is closed by now is before now */
	last = journal_last_seq(ws->journal);
	r = moment_of(ws, word ?: "now", &seq, why);
	if (r < 0)
		return r;
	json_number(answer, "seq", word ? seq : last);
	json_number(answer, "last", last);
	return 0;
}

int pins_execute(struct workspace *ws, struct process *by, const struct ctl_command *cmd,
	struct buf *answer, struct buf *why)
{
	if (cmd->verb == CTL_MOMENT)
		return tell_moment(ws, cmd->at, answer, why);
	return cmd->verb == CTL_PIN ? add_pins(ws, by, cmd, answer, why)
				    : remove_pins(ws, by, cmd->name, why);
}
