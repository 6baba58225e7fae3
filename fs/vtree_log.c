#include <string.h>

#include "fs/vtree_internal.h"

/* .stomp/log and history/PATH/log: what happened, newest first. */

/* Grants, releases and waits are the daily round; these are news. */
static bool is_news(const struct event *e)
{
	static const char *const kinds[] = {"takeover", "break", "recover", "external",
		"merge", "overwrite", "policy", "resolve", "lost"};

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		if (e->kind && !strcmp(e->kind, kinds[i]))
			return true;
	return false;
}

enum { NEWS_AMONG = 2000 }; /* events looked through for news */

/* Lines from several sources, put in order by their seq: vlines.index. */
struct line {
	uint64_t seq;
	size_t at, len;
};

static void begin_line(struct vlines *l, uint64_t seq)
{
	struct line line = {.seq = seq, .at = l->text.len};

	buf_append(&l->index, &line, sizeof(line));
	l->n++;
}

static void end_line(struct vlines *l)
{
	struct line line;
	char *last;

	if (l->index.failed || l->text.failed)
		return;
	buf_putc(&l->text, '\n');
	last = l->index.data + l->index.len - sizeof(line);
	memcpy(&line, last, sizeof(line));
	line.len = l->text.len - line.at;
	memcpy(last, &line, sizeof(line));
}

static int by_seq_newest_first(const void *a, const void *b)
{
	const struct line *x = a, *y = b;

	return (x->seq < y->seq) - (x->seq > y->seq);
}

/* The newest max lines, as columns under the heading. */
static void put_lines(struct vlines *l, const char *heading, unsigned max, struct buf *out)
{
	const struct line *line = (const void *)l->index.data;
	auto_buf rows = {0};

	rows.failed = l->text.failed || l->index.failed;
	buf_puts(&rows, heading);
	if (l->n && !rows.failed)
		qsort(l->index.data, l->n, sizeof(*line), by_seq_newest_first);
	for (unsigned i = 0; i < l->n && i < max && !rows.failed; i++)
		buf_append(&rows, l->text.data + line[i].at, line[i].len);
	put_columns(out, &rows);
	buf_done(&l->text);
	buf_done(&l->index);
}

static void put_name(struct buf *b, const char *name)
{
	if (name)
		buf_put_name(b, name, strlen(name));
	else
		buf_putc(b, '-');
}

/* The first line of a message. */
static void put_first_line(struct buf *b, const char *text)
{
	if (text)
		buf_put_name(b, text, strcspn(text, "\n"));
}

/* ---- versions as text ---- */

static void put_notes(struct buf *b, const struct version *v)
{
	const char *name, *sep = "";
	uint32_t bit;

	for (unsigned i = 0; (name = version_flag_name(i, &bit)); i++)
		if (v->flags & bit) {
			buf_printf(b, "%s%s", sep, name);
			sep = ", ";
		}
	if (v->from_path) {
		buf_printf(b, "%s%s ", sep, v->kind == VERSION_DELETE ? "to" : "from");
		buf_put_name(b, v->from_path, v->from_path_len);
		if (v->from_number)
			buf_printf(b, "@%llu", (unsigned long long)v->from_number);
		sep = ", ";
	}
	if (v->base_number && v->base_number + 1 != v->number)
		buf_printf(b, "%smade from %llu", sep, (unsigned long long)v->base_number);
}

int vlines_add_version(const struct version *v, void *ctx)
{
	struct vlines *l = ctx;
	struct buf *b = &l->text;

	begin_line(l, v->seq);
	buf_put_time(b, v->time_ns);
	buf_putc(b, '\t');
	buf_put_name(b, v->path, v->path_len);
	buf_printf(b, "@%llu\t%s\t", (unsigned long long)v->number,
		version_kind_name(v->kind));
	put_name(b, v->author.name);
	buf_putc(b, '\t');
	if (v->has_content)
		put_size(b, v->size);
	else
		buf_putc(b, '-');
	buf_putc(b, '\t');
	put_notes(b, v);
	end_line(l);
	return l->n >= VTREE_ROWS_MAX || l->text.len > VTREE_DOCUMENT_MAX / 4;
}

static int add_event(const struct event *e, void *ctx)
{
	struct vlines *l = ctx;
	struct buf *b = &l->text;

	if (!is_news(e))
		return 0;
	begin_line(l, e->seq);
	buf_put_time(b, e->time_ns);
	buf_putc(b, '\t');
	if (e->path)
		buf_put_name(b, e->path, e->path_len);
	else
		buf_putc(b, '-');
	buf_printf(b, "\t%s\t", e->kind);
	put_name(b, e->writer);
	buf_puts(b, "\t-\t");
	put_first_line(b, e->text);
	end_line(l);
	return 0;
}

static void add_incident(const struct incident *i, void *ctx)
{
	struct vlines *l = ctx;
	struct buf *b = &l->text;

	begin_line(l, i->seq);
	buf_put_time(b, i->time_ns);
	buf_putc(b, '\t');
	if (i->n_files > 1)
		buf_printf(b, "%u files", i->n_files);
	else
		buf_put_name(b, i->files->path, i->files->len);
	buf_puts(b, "\trefused\t");
	put_name(b, i->writer);
	buf_puts(b, "\t-\t");
	if (i->n_files > 1) {
		put_incident(b, i);
	} else {
		buf_printf(b, "refusal %llu: %s, %s", (unsigned long long)i->last_id,
			i->asked, i->reason);
		if (i->because) {
			buf_puts(b, ", because of ");
			put_name(b, i->because);
		}
	}
	end_line(l);
}

static void put_error(struct buf *out, int r)
{
	if (r < 0)
		buf_printf(
			out, "The history cannot be read now: %s.\n", strerrordesc_np(-r));
}

static const char heading[] = "TIME\tFILE\tWHAT\tWRITER\tSIZE\tNOTES\n";

void vlines_print(struct vlines *lines, unsigned max, struct buf *out)
{
	put_lines(lines, heading, max, out);
}

void vdoc_log(const struct vreader *r, struct buf *out)
{
	const struct log_filter filter = {.limit = VTREE_LOG_ROWS};
	struct journal *j = r->ws->journal;
	struct vlines l = {0};
	int e = journal_log(j, &filter, vlines_add_version, &l);

	if (e >= 0)
		e = incidents_each(r->ws, add_incident, &l);
	if (e >= 0)
		e = journal_events(j, 0, NEWS_AMONG, NULL, add_event, &l);
	put_lines(&l, heading, VTREE_LOG_ROWS, out);
	put_error(out, e);
}

static struct log_filter own_history(const struct vreader *r)
{
	uint64_t newest = r->node->number; /* log-20; 0: log */

	return (struct log_filter){
		.path = r->node->path,
		.path_len = r->node->path_len,
		.follow = true,
		.limit = newest && newest <= VTREE_ROWS_MAX ? newest : VTREE_ROWS_MAX + 1,
	};
}

void vdoc_versions(const struct vreader *r, struct buf *out)
{
	const struct log_filter filter = own_history(r);
	struct vlines l = {0};
	int e = journal_log(r->ws->journal, &filter, vlines_add_version, &l);

	put_lines(&l, heading, VTREE_ROWS_MAX, out);
	put_error(out, e);
}

/* ---- and as JSON ---- */

static void json_flags(struct buf *b, uint32_t flags)
{
	const char *name;
	uint32_t bit;

	json_key(b, "flags");
	buf_putc(b, '[');
	for (unsigned i = 0; (name = version_flag_name(i, &bit)); i++)
		if (flags & bit) {
			json_next(b);
			buf_put_json_str(b, name);
		}
	buf_putc(b, ']');
}

static void json_type(struct buf *b, mode_t mode)
{
	const char *type = NULL;

	if (mode & S_IFMT)
		type = S_ISREG(mode)   ? "file"
		       : S_ISLNK(mode) ? "symlink"
		       : S_ISDIR(mode) ? "folder"
				       : "other";
	json_string(b, "type", type);
}

void json_path(
	struct buf *b, const char *key, const char *word_key, const char *path, size_t len)
{
	bool plain = true;

	json_bytes(b, key, path, len);
	for (size_t i = 0; path && i < len; i++)
		plain = plain && path[i] > ' ' && path[i] < 0x7f && path[i] != '\\';
	if (!plain)
		json_word(b, word_key, path, len);
}

void json_version(struct buf *b, const struct version *v)
{
	char hex[33];

	if (v->has_content)
		hash128_hex(v->content, hex);
	buf_putc(b, '{');
	json_number(b, "seq", v->seq);
	json_time(b, "time", v->time_ns);
	json_path(b, "path", "word", v->path, v->path_len);
	json_number(b, "number", v->number);
	json_string(b, "kind", version_kind_name(v->kind));
	json_string(b, "writer", v->author.name);
	json_number(b, "epoch", v->epoch);
	json_number(b, "base", v->base_number);
	json_number(b, "size", v->size);
	json_type(b, v->mode);
	json_key(b, "mode");
	buf_printf(b, "\"%04o\"", (unsigned)(v->mode & 07777));
	json_number(b, "uid", v->uid);
	json_number(b, "gid", v->gid);
	json_string(b, "content", v->has_content ? hex : NULL);
	json_flags(b, v->flags);
	json_path(b, "from_path", "from_word", v->from_path, v->from_path_len);
	json_number(b, "from_number", v->from_number);
	json_string(b, "rule", v->author.rule);
	json_signed(b, "pid", v->author.pid);
	json_string(b, "command", v->author.command);
	json_number(b, "set", v->set_id);
}

static int put_version(const struct version *v, void *ctx)
{
	struct json_rows *rows = ctx;

	if (!json_rows_next(rows))
		return 1;
	json_version(rows->out, v);
	buf_putc(rows->out, '}');
	return 0;
}

/* Events and incidents, in one order. */
struct news {
	struct json_rows *rows;
	struct buf text, index; /* incidents as objects, and a struct line for each */
	unsigned n, told;
};

static void json_incident(const struct incident *i, void *ctx)
{
	struct news *news = ctx;
	struct buf *b = &news->text;
	struct line line = {.seq = i->seq, .at = b->len};
	auto_buf text = {0};

	if (i->n_files < 2 || b->len > VTREE_DOCUMENT_MAX / 8)
		return; /* single refusals are in refusals.json */
	put_incident(&text, i);
	buf_putc(b, '{');
	json_number(b, "seq", i->seq);
	json_time(b, "time", i->time_ns);
	json_string(b, "kind", "incident");
	json_string(b, "path", NULL);
	json_string(b, "writer", i->writer);
	json_number(b, "epoch", 0);
	json_number(b, "number", i->first_id);
	json_bytes(b, "text", text.data ?: "", text.len);
	json_signed(b, "pid", i->pid);
	json_string(b, "command", i->command);
	json_number(b, "refusals", i->n_refusals);
	json_key(b, "files");
	buf_putc(b, '[');
	for (unsigned n = 0; n < i->n_files; n++) {
		json_next(b);
		buf_put_json(b, i->files[n].path, i->files[n].len);
	}
	buf_puts(b, "]}");
	line.len = b->len - line.at;
	buf_append(&news->index, &line, sizeof(line));
	news->n++;
	b->failed |= text.failed;
}

/* The incidents newer than seq that were not told yet. */
static void put_incidents(struct news *news, uint64_t seq)
{
	const struct line *line = (const void *)news->index.data;

	if (news->text.failed || news->index.failed) {
		news->rows->out->failed = true;
		return;
	}
	for (; news->told < news->n && line[news->told].seq > seq; news->told++) {
		if (news->rows->n >= VTREE_LOG_ROWS || !json_rows_next(news->rows))
			return;
		buf_append(news->rows->out, news->text.data + line[news->told].at,
			line[news->told].len);
	}
}

static int put_event(const struct event *e, void *ctx)
{
	struct news *news = ctx;
	struct json_rows *rows = news->rows;
	struct buf *b = rows->out;

	if (!is_news(e))
		return 0;
	put_incidents(news, e->seq);
	if (rows->n >= VTREE_LOG_ROWS || !json_rows_next(rows))
		return 1;
	buf_putc(b, '{');
	json_number(b, "seq", e->seq);
	json_time(b, "time", e->time_ns);
	json_string(b, "kind", e->kind);
	json_bytes(b, "path", e->path, e->path_len);
	json_string(b, "writer", e->writer);
	json_number(b, "epoch", e->epoch);
	json_number(b, "number", e->number);
	json_string(b, "text", e->text);
	buf_putc(b, '}');
	return 0;
}

static int put_news(struct workspace *ws, struct json_rows *rows)
{
	struct news news = {.rows = rows};
	int e = incidents_each(ws, json_incident, &news);

	if (news.n && !news.index.failed)
		qsort(news.index.data, news.n, sizeof(struct line), by_seq_newest_first);
	if (e >= 0)
		e = journal_events(ws->journal, 0, NEWS_AMONG, NULL, put_event, &news);
	if (e >= 0)
		put_incidents(&news, 0);
	buf_done(&news.text);
	buf_done(&news.index);
	return e;
}

void vdoc_log_json(const struct vreader *r, struct buf *out)
{
	const struct log_filter filter = {.limit = VTREE_LOG_ROWS};
	struct json_rows rows;
	int e;

	buf_puts(out, "{\"schema\":\"stompfs/log/1\"");
	json_rows_begin(&rows, out, "versions");
	e = journal_log(r->ws->journal, &filter, put_version, &rows);
	json_rows_end(&rows);
	json_rows_begin(&rows, out, "events");
	if (e >= 0)
		e = put_news(r->ws, &rows);
	json_rows_end(&rows);
	if (e < 0)
		json_string(out, "error", strerrordesc_np(-e));
	buf_puts(out, "}\n");
}

struct own_rows {
	struct json_rows rows;
	struct vmoves moves;
};

static int put_own_version(const struct version *v, void *ctx)
{
	struct own_rows *own = ctx;

	if (!json_rows_next(&own->rows))
		return 1;
	json_version(own->rows.out, v);
	json_now(own->rows.out, &own->moves, v);
	buf_putc(own->rows.out, '}');
	return 0;
}

void vdoc_versions_json(const struct vreader *r, struct buf *out)
{
	const struct log_filter filter = own_history(r);
	struct own_rows own = {0};
	int e = vmoves_load(r->ws, 0, &own.moves);

	buf_puts(out, "{\"schema\":\"stompfs/log/1\"");
	json_rows_begin(&own.rows, out, "versions");
	if (e >= 0)
		e = journal_log(r->ws->journal, &filter, put_own_version, &own);
	json_rows_end(&own.rows);
	if (e < 0)
		json_string(out, "error", strerrordesc_np(-e));
	buf_puts(out, "}\n");
	vmoves_done(&own.moves);
}
