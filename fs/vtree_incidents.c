#include "fs/vtree_internal.h"

#include <string.h>

/*
 * One `git checkout .` over a hundred unseen edits is a hundred refusals and one event.
 * Refusals of one writer's one program, none longer than INCIDENT_GAP_NS after the one
 * before, that are about several files are told as one incident; the journal and
 * refusals.json keep each.
 */

#define INCIDENT_GAP_NS (2 * NS_PER_S)

enum { INCIDENT_NAMES = 5 }; /* of the files, in one line of text */

/* Places in text; 0 stands for "none". */
struct row {
	uint64_t seq, id;
	int64_t time_ns;
	size_t path, path_len, asked, reason, because;
	size_t next; /* an older one of the same run, by place plus one */
};

/* Refusals of one program, newest first. */
struct run {
	int64_t oldest_ns;
	size_t first, last; /* rows, by place plus one */
	size_t writer, command;
	unsigned n;
	pid_t pid;
};

struct incidents {
	struct buf text, rows, runs;
	size_t n_rows, n_runs;
};

static struct row *row_at(struct incidents *in, size_t place)
{
	return (struct row *)(void *)in->rows.data + place - 1;
}

static struct run *run_at(struct incidents *in, size_t i)
{
	return (struct run *)(void *)in->runs.data + i;
}

static size_t keep(struct incidents *in, const char *s, size_t len)
{
	size_t at;

	if (!s)
		return 0;
	if (!in->text.len)
		buf_putc(&in->text, '\0');
	at = in->text.len;
	buf_append(&in->text, s, len);
	buf_putc(&in->text, '\0');
	return at;
}

static size_t keep_text(struct incidents *in, const char *s)
{
	return keep(in, s, s ? strlen(s) : 0);
}

static const char *text_at(const struct incidents *in, size_t at)
{
	return at ? in->text.data + at : NULL;
}

static bool is_same(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

/* A run is one process, or one command line over again (xargs, a tool's workers). */
static bool belongs(
	const struct incidents *in, const struct run *run, const struct refusal *r)
{
	int64_t gap_ns = run->oldest_ns - r->time_ns;

	if (gap_ns > INCIDENT_GAP_NS || gap_ns < -INCIDENT_GAP_NS)
		return false; /* the clock may have been set meanwhile */
	return is_same(text_at(in, run->writer), r->author.name) &&
	       (run->pid == r->author.pid ||
		       is_same(text_at(in, run->command), r->author.command));
}

static struct run *find_run(struct incidents *in, const struct refusal *r)
{
	for (size_t i = in->n_runs; i-- > 0;)
		if (belongs(in, run_at(in, i), r))
			return run_at(in, i);
	return NULL;
}

static struct run *add_run(struct incidents *in, const struct refusal *r)
{
	struct run run = {
		.writer = keep_text(in, r->author.name),
		.command = keep_text(in, r->author.command),
		.pid = r->author.pid,
	};

	buf_append(&in->runs, &run, sizeof(run));
	return buf_failed(&in->runs) ? NULL : run_at(in, in->n_runs++);
}

static int collect(const struct refusal *r, void *ctx)
{
	struct incidents *in = ctx;
	struct run *run = find_run(in, r);
	struct row row = {.seq = r->seq, .id = r->id, .time_ns = r->time_ns};

	if (!run && in->n_runs >= VTREE_LOG_ROWS)
		return 1;
	run = run ?: add_run(in, r);
	if (!run)
		return -ENOMEM;
	row.path = keep(in, r->path, r->path_len);
	row.path_len = r->path_len;
	row.asked = keep_text(in, r->asked);
	row.reason = keep_text(in, r->reason);
	row.because = keep_text(in, r->holder ?: r->current_writer);
	buf_append(&in->rows, &row, sizeof(row));
	if (buf_failed(&in->rows) || buf_failed(&in->text))
		return -ENOMEM;
	in->n_rows++;
	if (run->n++)
		row_at(in, run->last)->next = in->n_rows;
	else
		run->first = in->n_rows;
	run->last = in->n_rows;
	run->oldest_ns = r->time_ns;
	return 0;
}

/* ---- telling ---- */

static int by_path(const void *a, const void *b)
{
	const struct incident_file *x = a, *y = b;
	size_t n = x->len < y->len ? x->len : y->len;
	int r = memcmp(x->path, y->path, n);

	return r ? r : (x->len > y->len) - (x->len < y->len);
}

/* The files of a run, sorted, each once. */
static struct incident_file *files_of(
	struct incidents *in, const struct run *run, unsigned *n_files)
{
	struct incident_file *files = calloc(run->n, sizeof(*files));
	unsigned n = 0, kept = 0;

	for (size_t at = run->first; files && at; at = row_at(in, at)->next, n++)
		files[n] = (struct incident_file){
			.path = text_at(in, row_at(in, at)->path),
			.len = row_at(in, at)->path_len,
		};
	if (files)
		qsort(files, n, sizeof(*files), by_path);
	for (unsigned i = 0; i < n; i++)
		if (!kept || by_path(&files[kept - 1], &files[i]) != 0)
			files[kept++] = files[i];
	*n_files = kept;
	return files;
}

static struct incident incident_of(
	struct incidents *in, const struct run *run, const struct row *row)
{
	return (struct incident){
		.seq = row->seq,
		.time_ns = row->time_ns,
		.writer = text_at(in, run->writer),
		.command = text_at(in, run->command),
		.pid = run->pid,
		.asked = text_at(in, row->asked),
		.reason = text_at(in, row->reason),
		.because = text_at(in, row->because),
		.first_id = row->id,
		.last_id = row->id,
		.n_refusals = 1,
	};
}

/* The run as one, or each of its refusals: several of one file are tries, not a sweep. */
static int tell_run(struct incidents *in, const struct run *run, incident_fn *fn, void *ctx)
{
	unsigned n_files;
	auto_free struct incident_file *files = files_of(in, run, &n_files);
	struct incident told = incident_of(in, run, row_at(in, run->first));

	if (!files)
		return -ENOMEM;
	if (n_files > 1) {
		told.files = files;
		told.n_files = n_files;
		told.n_refusals = run->n;
		told.first_id = row_at(in, run->last)->id;
		fn(&told, ctx);
		return 0;
	}
	for (size_t at = run->first; at; at = row_at(in, at)->next) {
		told = incident_of(in, run, row_at(in, at));
		told.files = files;
		told.n_files = 1;
		fn(&told, ctx);
	}
	return 0;
}

int incidents_each(struct workspace *ws, incident_fn *fn, void *ctx)
{
	struct incidents in = {0};
	int r = journal_refusals(ws->journal, NULL, VTREE_ROWS_MAX, collect, &in);

	for (size_t i = 0; i < in.n_runs && r >= 0; i++)
		r = tell_run(&in, run_at(&in, i), fn, ctx);
	buf_done(&in.text);
	buf_done(&in.rows);
	buf_done(&in.runs);
	return r < 0 ? r : 0;
}

void put_incident(struct buf *b, const struct incident *i)
{
	buf_puts(b, "incident: ");
	if (i->command)
		buf_put_name(b, i->command, strlen(i->command));
	else
		buf_printf(b, "process %d", (int)i->pid);
	buf_puts(b, " (");
	buf_put_name(b, i->writer ?: "-", strlen(i->writer ?: "-"));
	buf_printf(b, ") was refused %u files: ", i->n_files);
	for (unsigned n = 0; n < i->n_files && n < INCIDENT_NAMES; n++) {
		buf_puts(b, n ? ", " : "");
		buf_put_name(b, i->files[n].path, i->files[n].len);
	}
	if (i->n_files > INCIDENT_NAMES)
		buf_puts(b, ", …");
}
