#include <string.h>
#include <sys/utsname.h>

#include "fs/checker.h"
#include "fs/op.h"
#include "fs/refuse.h"
#include "fs/state.h"
#include "fs/vtree_internal.h"

/* The documents for a person or a language model; vtree_render_json.c has their twins. */

/* Long before anything is refused, and when it is. */
static void put_ceiling(const struct journal_figures *f, struct buf *out)
{
	bool full = f->used_bytes >= f->max_bytes;

	buf_printf(out, "The history takes %llu %% of what it may (",
		(unsigned long long)(f->used_bytes / (f->max_bytes / 100 + 1)));
	put_size(out, f->used_bytes);
	buf_puts(out, " of journal_max=");
	put_size(out, f->max_bytes);
	buf_puts(out, full ? "): changes are refused with ENOSPC." : ").");
	buf_puts(out, " `stomp gc` lets go of what the policy's keep= no longer wants; a "
		      "shorter keep=, fewer pins or a larger -o journal_max make room.");
}

void vdoc_health(const struct journal_figures *figures, struct buf *out)
{
	if (figures->max_bytes && figures->used_bytes > figures->max_bytes / 4 * 3) {
		put_ceiling(figures, out);
		return;
	}
	switch (-figures->health) {
	case 0:
		buf_puts(out, "ok");
		break;
	case ENOSPC:
	case EDQUOT:
		buf_puts(out,
			"The history cannot be written: the disk is full. Changes are "
			"refused until there is room; make some on the file system of "
			"this folder, or let old versions go (`stomp gc`).");
		break;
	case EROFS:
		buf_puts(out,
			"The history cannot be written: its file system is read-only. "
			"Changes are refused until it is writable again.");
		break;
	case EUCLEAN:
		buf_puts(out,
			"The history is damaged: its database is not what was written. "
			"Changes are refused; `stomp umount`, then `stomp fsck --repair`, "
			"which saves what can be read, then mount again.");
		break;
	default:
		buf_puts(out, "The history cannot be written (");
		put_errno_name(out, -figures->health);
		buf_puts(out, "). Changes are refused meanwhile; see the system's log for "
			      "errors of the disk.");
	}
}

bool vdoc_was_here(const struct writer *w, uint32_t n_processes)
{
	return n_processes || __atomic_load_n(&w->n_writes, __ATOMIC_RELAXED) ||
	       __atomic_load_n(&w->n_refusals, __ATOMIC_RELAXED) ||
	       (w->pid && w->rule != WRITER_DAEMON);
}

static void count_writer(const struct writer *w, uint32_t n_processes, void *ctx)
{
	*(unsigned *)ctx += vdoc_was_here(w, n_processes);
}

unsigned vdoc_count_writers(struct workspace *ws)
{
	unsigned n = 0;

	identity_each_writer(ws->identity, count_writer, &n);
	return n;
}

void vdoc_fsck(const struct vreader *r, struct buf *out)
{
	checker_text(r->ws->checker, out);
}

/* ---- status ---- */

enum { STATUS_LEASES = 3, STATUS_REFUSALS = 3 };

struct status {
	struct buf out;
	unsigned n;
};

/* What was gathered, under its heading. */
static void status_part(struct status *s, const char *heading, struct buf *out)
{
	if (s->out.len)
		buf_printf(out, "\n%s\n%s", heading, s->out.data);
	out->failed |= s->out.failed;
	buf_done(&s->out);
	s->n = 0;
}

static void status_lease(const struct lease_row *row, void *ctx)
{
	struct status *s = ctx;

	if (s->n++ >= STATUS_LEASES)
		return;
	buf_puts(&s->out, "  ");
	put_clipped(&s->out, row->path, row->path_len, 34);
	buf_puts(&s->out, "  held by ");
	put_clipped(&s->out, row->writer, strlen(row->writer), 20);
	if (row->expires_ns > 0) {
		buf_puts(&s->out, " for ");
		buf_put_span(&s->out, row->expires_ns);
	} else {
		buf_puts(&s->out, ", lapsed");
	}
	buf_putc(&s->out, '\n');
}

static int status_refusal(const struct refusal *r, void *ctx)
{
	struct status *s = ctx;

	if (s->n++ >= STATUS_REFUSALS)
		return 1;
	buf_puts(&s->out, "  ");
	buf_put_time(&s->out, r->time_ns);
	buf_puts(&s->out, "  ");
	put_clipped(&s->out, r->path, r->path_len, 26);
	buf_puts(&s->out, "  ");
	put_clipped(&s->out, r->author.name ?: "-", strlen(r->author.name ?: "-"), 16);
	buf_printf(&s->out, "  %s\n", r->reason);
	return 0;
}

static void status_mount(struct workspace *ws, struct buf *out)
{
	const char *where = ws->options.mountpoint;
	int64_t age_ns = workspace_now(ws) - ws->mounted_ns;
	struct utsname uts = {0};

	uname(&uts);
	buf_puts(out, "mount     ");
	put_clipped(out, where, strlen(where), 68);
	buf_puts(out, "\nsince     ");
	buf_put_time(out, ws->mounted_wall_ns);
	buf_puts(out, " (");
	buf_put_span(out, age_ns);
	buf_printf(out, "), pid %d\nversions  stompfs %s, libfuse %s, kernel %.32s\n",
		(int)getpid(), STOMPFS_VERSION, fuse_pkgversion(), uts.release);
	buf_puts(out, "requests  by ");
	uring_describe(ws, out);
	buf_putc(out, '\n');
	if (ws->supervised.supervisor)
		buf_printf(out, "restarts  %u, by supervisor %d", ws->supervised.generation,
			(int)ws->supervised.supervisor);
	if (ws->supervised.generation) {
		buf_puts(out, "; the last ");
		buf_put_time(out, ws->supervised.last_end_wall_ns);
		buf_printf(out, ", after %s", ws->supervised.last_end);
	}
	if (ws->supervised.supervisor)
		buf_putc(out, '\n');
}

static void status_figures(
	struct workspace *ws, const struct journal_figures *f, struct buf *out)
{
	uint64_t open = __atomic_load_n(&ws->counters.open_handles, __ATOMIC_RELAXED);
	uint64_t inodes = __atomic_load_n(&ws->inodes.count, __ATOMIC_RELAXED);

	buf_printf(out, "writers   seen since the mount: %u\n", vdoc_count_writers(ws));
	buf_printf(out, "leases    %u, requests waiting: %llu\n", state_count_leases(ws),
		(unsigned long long)park_count(ws->park));
	buf_printf(out, "files     %llu open, %llu known to the kernel\n",
		(unsigned long long)open, (unsigned long long)inodes);
	buf_printf(out, "history   versions: %llu, refusals: %llu, content: ",
		(unsigned long long)f->versions, (unsigned long long)f->refusals);
	put_size(out, f->content_bytes);
	buf_puts(out, ", stored in ");
	put_size(out, f->stored_bytes);
	buf_printf(out, "\nconflicts %llu unresolved%s", (unsigned long long)f->conflicts,
		f->conflicts ? " (stomp conflicts, ls .stomp/conflicts)" : "");
	buf_puts(out, "\njournal   ");
	put_size(out, f->database_bytes);
	buf_printf(out,
		", rows queued: %llu, history in use: ", (unsigned long long)f->queued);
	put_size(out, f->used_bytes);
	if (f->max_bytes) {
		buf_puts(out, " of at most ");
		put_size(out, f->max_bytes);
	}
	buf_putc(out, '\n');
}

/* All files or none: until it is taken back, the tree is neither. The number of lines. */
static unsigned status_undo(struct workspace *ws, struct buf *out)
{
	auto_buf which = {0};

	if (!sets_interrupted(ws, &which, NULL))
		return 0;
	buf_printf(out, "undo      %s, was cut short: `stomp undo` takes it back\n",
		which.data ?: "?");
	out->failed |= which.failed;
	return 1;
}

/* One screen: at most 24 lines. */
void vdoc_status(const struct vreader *r, struct buf *out)
{
	struct workspace *ws = r->ws;
	struct journal_figures figures;
	struct status s = {0};
	unsigned undo_lines;

	journal_figures(ws->journal, &figures);
	buf_puts(out, "health    ");
	vdoc_health(&figures, out);
	buf_putc(out, '\n');
	status_mount(ws, out);
	status_figures(ws, &figures, out);
	undo_lines = status_undo(ws, out);
	state_each_lease(ws, status_lease, &s);
	status_part(&s, "leases now (all: .stomp/leases)", out);
	s.n = undo_lines; /* for which a refusal makes room */
	refusals_each(ws->refusals, NULL, status_refusal, &s);
	status_part(
		&s, "last refusals (yours: .stomp/why, all: .stomp/refusals.json)", out);
	buf_puts(out, "\nWhat this folder is: .stomp/README\n");
}

/* ---- me, why ---- */

static const char *rule_in_words(enum writer_rule rule)
{
	switch (rule) {
	case WRITER_MOUNT:
		return "this mount belongs to one writer (-o writer=NAME)";
	case WRITER_RUN:
		return "you were started by `stomp run NAME -- CMD`";
	case WRITER_AGENT:
		return "a known agent program is among the ancestors of your process";
	case WRITER_VARIABLE:
		return "a variable in the environment of your process names an agent";
	case WRITER_TERMINAL:
		return "your process belongs to a terminal session";
	case WRITER_ANCESTOR:
		return "by the topmost ancestor of your process";
	case WRITER_DAEMON:
		return "stompfs itself";
	case WRITER_UNKNOWN:
		break;
	}
	return "your process could not be looked up";
}

void vdoc_me(const struct vreader *r, struct buf *out)
{
	const struct process *p = r->by;
	const char *command = p->command ?: p->comm;

	buf_puts(out, "You are known here as ");
	buf_put_name(out, p->writer->name, strlen(p->writer->name));
	buf_printf(out, ".\n\nwhy       %s (rule \"%s\")\n", rule_in_words(p->rule),
		writer_rule_name(p->rule));
	buf_printf(out, "process   %d, uid %u: ", (int)p->pid, (unsigned)p->uid);
	buf_put_name(out, command, strlen(command));
	buf_puts(out, "\nreads     ");
	if (p->is_mind)
		buf_puts(out,
			"this process is the writer itself: what it reads, the writer "
			"knows\n");
	else if (p->is_viewer)
		buf_puts(out,
			"this program shows content to the writer: what it reads, the "
			"writer knows\n");
	else
		buf_puts(out, "what this program reads counts for its own changes alone\n");
	buf_puts(out, "\nHow you were recognized:\n");
	process_explain(r->ws->identity, p, out);
	if (out->len && out->data[out->len - 1] != '\n')
		buf_putc(out, '\n');
	buf_puts(out,
		"\nAll processes of one writer act as one. If this is not who you are, "
		"start your\nprogram with a name of its own: stomp run NAME -- CMD\n");
}

struct own {
	refusal_fn *fn;
	void *ctx;
	int n;
};

static int own_refusal(const struct refusal *r, void *ctx)
{
	struct own *own = ctx;

	if (own->n >= VTREE_WHY_ROWS)
		return 1;
	own->n++;
	return own->fn(r, own->ctx);
}

int vdoc_own_refusals(const struct vreader *r, refusal_fn *fn, void *ctx)
{
	const char *writer = r->by->writer->name;
	struct own own = {.fn = fn, .ctx = ctx};
	int e = refusals_each(r->ws->refusals, writer, own_refusal, &own);

	if (own.n == 0) /* perhaps from before this mount */
		e = journal_refusals(
			r->ws->journal, writer, VTREE_WHY_ROWS, own_refusal, &own);
	return e < 0 ? e : own.n;
}

static int put_why(const struct refusal *r, void *ctx)
{
	struct buf *out = ctx;
	const char *text = r->text ?: "";
	size_t len = strlen(text);

	while (len && text[len - 1] == '\n')
		len--;
	if (!len) {
		buf_put_name(out, r->path, r->path_len);
		buf_printf(out, ": %s refused, %s (refusal %llu)", r->asked, r->reason,
			(unsigned long long)r->id);
	}
	buf_append(out, text, len);
	buf_puts(out, "\n\n");
	return out->len > VTREE_DOCUMENT_MAX / 2;
}

void vdoc_why(const struct vreader *r, struct buf *out)
{
	int n = vdoc_own_refusals(r, put_why, out);

	if (n == 0)
		buf_puts(out, "No refusal so far: nothing of yours was turned away.\n");
	else if (n < 0)
		buf_printf(
			out, "The history cannot be read now: %s.\n", strerrordesc_np(-n));
}

/* ---- tables ---- */

struct rows {
	struct buf text;
	struct workspace *ws;
	unsigned n, left_out;
};

static bool rows_next(struct rows *rows)
{
	if (rows->n >= VTREE_ROWS_MAX || rows->text.len > VTREE_DOCUMENT_MAX / 4) {
		rows->left_out++;
		return false;
	}
	rows->n++;
	return true;
}

static void rows_print(struct rows *rows, struct buf *out, const char *none)
{
	if (rows->n)
		put_columns(out, &rows->text);
	else
		buf_puts(out, none);
	if (rows->left_out)
		buf_printf(out, "… and %u more\n", rows->left_out);
	buf_done(&rows->text);
}

static void put_writer(const struct writer *w, uint32_t n_processes, void *ctx)
{
	struct rows *rows = ctx;
	struct buf *b = &rows->text;
	int64_t seen_ns = __atomic_load_n(&w->last_seen_ns, __ATOMIC_RELAXED);

	if (!vdoc_was_here(w, n_processes) || !rows_next(rows))
		return;
	buf_put_name(b, w->name, strlen(w->name));
	buf_printf(b, "\t%s\t%d\t%u\t%u\t%llu\t%llu\t", writer_rule_name(w->rule),
		(int)w->pid, (unsigned)w->uid, (unsigned)n_processes,
		(unsigned long long)__atomic_load_n(&w->n_writes, __ATOMIC_RELAXED),
		(unsigned long long)__atomic_load_n(&w->n_refusals, __ATOMIC_RELAXED));
	buf_put_span(b, workspace_now(rows->ws) - seen_ns);
	buf_puts(b, " ago\n");
}

void vdoc_writers(const struct vreader *r, struct buf *out)
{
	struct rows rows = {.ws = r->ws};

	buf_puts(&rows.text,
		"WRITER\tRULE\tPID\tUID\tPROCESSES\tCHANGES\tREFUSALS\tLAST SEEN\n");
	identity_each_writer(r->ws->identity, put_writer, &rows);
	rows_print(&rows, out, "Nobody has been here since the mount.\n");
}

static void put_lease(const struct lease_row *row, void *ctx)
{
	struct rows *rows = ctx;
	struct buf *b = &rows->text;

	if (!rows_next(rows))
		return;
	buf_put_name(b, row->path, row->path_len);
	buf_putc(b, '\t');
	buf_put_name(b, row->writer, strlen(row->writer));
	buf_printf(b, "\t%llu\t", (unsigned long long)row->epoch);
	if (row->expires_ns > 0) {
		buf_puts(b, "in ");
		buf_put_span(b, row->expires_ns);
	} else {
		buf_puts(b, "lapsed");
	}
	buf_printf(b, "\t%u\t", row->handles);
	for (unsigned i = 0; i < row->n_waiting; i++) {
		buf_puts(b, i ? ", " : "");
		buf_put_name(b, row->waiting[i], strlen(row->waiting[i]));
	}
	buf_puts(b, row->n_waiting ? "\t" : "-\t");
	if (row->reason)
		buf_put_name(b, row->reason, strlen(row->reason));
	else
		buf_puts(b, row->is_explicit ? "asked for ahead" : "");
	buf_putc(b, '\n');
}

void vdoc_leases(const struct vreader *r, struct buf *out)
{
	struct rows rows = {.ws = r->ws};

	buf_puts(&rows.text, "PATH\tWRITER\tEPOCH\tENDS\tHANDLES\tWAITING\tREASON\n");
	state_each_lease(r->ws, put_lease, &rows);
	rows_print(&rows, out, "No lease: every file may be changed by anybody now.\n");
}

void vdoc_policy(const struct vreader *r, struct buf *out)
{
	rules_text(r->ws->rules, out);
}
