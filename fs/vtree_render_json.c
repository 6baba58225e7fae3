#include <string.h>
#include <sys/utsname.h>

#include "fs/checker.h"
#include "fs/op.h"
#include "fs/refuse.h"
#include "fs/state.h"
#include "fs/vtree_internal.h"

/* docs/STOMP-FOLDER.md says what each document holds; the first key is its schema. */

static void status_counts(struct workspace *ws, struct buf *out)
{
	json_number(out, "writers", vdoc_count_writers(ws));
	json_number(out, "leases", state_count_leases(ws));
	json_number(out, "waiting", park_count(ws->park));
	json_number(out, "open_handles",
		__atomic_load_n(&ws->counters.open_handles, __ATOMIC_RELAXED));
	json_number(out, "inodes", __atomic_load_n(&ws->inodes.count, __ATOMIC_RELAXED));
}

void vdoc_status_json(const struct vreader *r, struct buf *out)
{
	struct workspace *ws = r->ws;
	struct journal_figures f;
	struct utsname uts = {0};
	auto_buf health = {0}, transport = {0};

	uname(&uts);
	uring_describe(ws, &transport);
	journal_figures(ws->journal, &f);
	vdoc_health(&f, &health);
	buf_puts(out, "{\"schema\":\"stompfs/status/1\"");
	json_string(out, "version", STOMPFS_VERSION);
	json_string(out, "mountpoint", ws->options.mountpoint);
	json_number(out, "pid", (uint64_t)getpid());
	json_time(out, "since", ws->mounted_wall_ns);
	json_bytes(out, "health", health.data, health.len);
	status_counts(ws, out);
	json_number(out, "refusals", f.refusals);
	json_number(out, "conflicts", f.conflicts);
	json_number(out, "versions", f.versions);
	json_number(out, "journal_bytes", f.database_bytes);
	json_number(out, "stored_bytes", f.stored_bytes);
	json_number(out, "used_bytes", f.used_bytes);
	json_number(out, "max_bytes", f.max_bytes);
	json_number(out, "queued", f.queued);
	json_key(out, "interrupted_undos");
	buf_putc(out, '[');
	sets_interrupted(ws, NULL, out);
	buf_putc(out, ']');
	json_string(out, "libfuse", fuse_pkgversion());
	json_string(out, "kernel", uts.release);
	json_bool(out, "passthrough", __atomic_load_n(&ws->passthrough, __ATOMIC_RELAXED));
	json_bool(out, "dio_mmap", ws->dio_mmap);
	json_bytes(out, "transport", transport.data, transport.len);
	json_number(out, "supervisor", (uint64_t)ws->supervised.supervisor);
	json_number(out, "restarts", ws->supervised.generation);
	json_string(out, "last_end",
		ws->supervised.generation ? ws->supervised.last_end : NULL);
	buf_puts(out, "}\n");
}

void vdoc_fsck_json(const struct vreader *r, struct buf *out)
{
	buf_puts(out, "{\"schema\":\"stompfs/fsck/1\"");
	checker_json(r->ws->checker, out);
	buf_puts(out, "}\n");
}

void vdoc_me_json(const struct vreader *r, struct buf *out)
{
	const struct process *p = r->by;
	auto_buf explain = {0};

	process_explain(r->ws->identity, p, &explain);
	buf_puts(out, "{\"schema\":\"stompfs/me/1\"");
	json_string(out, "writer", p->writer->name);
	json_string(out, "rule", writer_rule_name(p->rule));
	json_signed(out, "pid", p->pid);
	json_number(out, "uid", p->uid);
	json_bool(out, "mind", p->is_mind);
	json_bool(out, "viewer", p->is_viewer);
	json_string(out, "command", p->command ?: p->comm);
	json_bytes(out, "explain", explain.len ? explain.data : "", explain.len);
	buf_puts(out, "}\n");
}

/* ---- writers, leases ---- */

struct writer_rows {
	struct json_rows rows;
	struct workspace *ws;
};

static void put_writer(const struct writer *w, uint32_t n_processes, void *ctx)
{
	struct writer_rows *t = ctx;
	struct buf *b = t->rows.out;
	int64_t age_ns =
		workspace_now(t->ws) - __atomic_load_n(&w->last_seen_ns, __ATOMIC_RELAXED);

	if (!vdoc_was_here(w, n_processes) || !json_rows_next(&t->rows))
		return;
	buf_putc(b, '{');
	json_string(b, "name", w->name);
	json_string(b, "rule", writer_rule_name(w->rule));
	json_signed(b, "pid", w->pid);
	json_number(b, "uid", w->uid);
	json_number(b, "processes", n_processes);
	json_number(b, "writes", __atomic_load_n(&w->n_writes, __ATOMIC_RELAXED));
	json_number(b, "refusals", __atomic_load_n(&w->n_refusals, __ATOMIC_RELAXED));
	json_signed(b, "last_seen_ms", (age_ns > 0 ? age_ns : 0) / NS_PER_MS);
	buf_putc(b, '}');
}

void vdoc_writers_json(const struct vreader *r, struct buf *out)
{
	struct writer_rows t = {.ws = r->ws};

	buf_puts(out, "{\"schema\":\"stompfs/writers/1\"");
	json_rows_begin(&t.rows, out, "writers");
	identity_each_writer(r->ws->identity, put_writer, &t);
	json_rows_end(&t.rows);
	buf_puts(out, "}\n");
}

void json_lease(struct buf *b, const struct lease_row *row)
{
	buf_putc(b, '{');
	json_path(b, "path", "word", row->path, row->path_len);
	json_string(b, "writer", row->writer);
	json_number(b, "epoch", row->epoch);
	json_signed(b, "expires_ms", row->expires_ns / NS_PER_MS);
	json_number(b, "handles", row->handles);
	json_bool(b, "explicit", row->is_explicit);
	json_string(b, "reason", row->reason);
	json_key(b, "waiting");
	buf_putc(b, '[');
	for (unsigned i = 0; i < row->n_waiting; i++) {
		json_next(b);
		buf_put_json_str(b, row->waiting[i]);
	}
	buf_puts(b, "]}");
}

static void put_lease(const struct lease_row *row, void *ctx)
{
	struct json_rows *rows = ctx;

	if (json_rows_next(rows))
		json_lease(rows->out, row);
}

void vdoc_leases_json(const struct vreader *r, struct buf *out)
{
	struct json_rows rows;

	buf_puts(out, "{\"schema\":\"stompfs/leases/1\"");
	json_rows_begin(&rows, out, "leases");
	state_each_lease(r->ws, put_lease, &rows);
	json_rows_end(&rows);
	buf_puts(out, "}\n");
}

/* ---- refusals ---- */

void json_refusal_text(struct buf *b, const struct refusal *r, const struct process *reader)
{
	bool all = !reader || reader->uid == 0 || reader->uid == geteuid() ||
		   reader->uid == r->author.uid;

	if (all || !r->text)
		json_string(b, "text", r->text);
	else
		json_bytes(b, "text", r->text, strcspn(r->text, "\n"));
}

static int put_refusal(const struct refusal *r, void *ctx)
{
	struct json_rows *rows = ctx;
	struct buf *b = rows->out;

	if (!json_rows_next(rows))
		return 1;
	buf_putc(b, '{');
	json_number(b, "id", r->id);
	json_time(b, "time", r->time_ns);
	json_bytes(b, "path", r->path, r->path_len);
	json_string(b, "asked", r->asked);
	json_string(b, "reason", r->reason);
	json_key(b, "errno");
	buf_putc(b, '"');
	put_errno_name(b, r->error);
	buf_putc(b, '"');
	json_string(b, "writer", r->author.name);
	json_signed(b, "pid", r->author.pid);
	json_number(b, "base", r->base_number);
	json_number(b, "current", r->current_number);
	json_string(b, "current_writer", r->current_writer);
	json_string(b, "holder", r->holder);
	json_number(b, "epoch", r->epoch);
	json_string(b, "hunks", r->hunks);
	json_refusal_text(b, r, rows->reader);
	json_bool(b, "kept", r->kept);
	buf_putc(b, '}');
	return 0;
}

void vdoc_why_json(const struct vreader *r, struct buf *out)
{
	struct json_rows rows;
	int e;

	buf_puts(out, "{\"schema\":\"stompfs/refusals/1\"");
	json_rows_begin(&rows, out, "refusals");
	rows.reader = r->by;
	e = vdoc_own_refusals(r, put_refusal, &rows);
	json_rows_end(&rows);
	if (e < 0)
		json_string(out, "error", strerrordesc_np(-e));
	buf_puts(out, "}\n");
}

void vdoc_refusals_json(const struct vreader *r, struct buf *out)
{
	struct json_rows rows;
	int e;

	buf_puts(out, "{\"schema\":\"stompfs/refusals/1\"");
	json_rows_begin(&rows, out, "refusals");
	rows.reader = r->by;
	e = journal_refusals(r->ws->journal, NULL, VTREE_LOG_ROWS, put_refusal, &rows);
	json_rows_end(&rows);
	if (e < 0)
		json_string(out, "error", strerrordesc_np(-e));
	buf_puts(out, "}\n");
}
