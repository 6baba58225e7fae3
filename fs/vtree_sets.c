#include "fs/vtree_internal.h"

#include <stdio.h>
#include <string.h>

#include "fs/session.h"
#include "fs/state.h"
#include "fs/vtree_ctl.h"

/*
 * sets/: what each writer did in one go. sets/log lists them, sets/ID has the changes of
 * one. A table has its bounds: sets/log-ID.json and sets/ID-SEQ.json go on with what comes
 * before that set, that seq. An undo is a set too; it is begun and ended by lines of ctl,
 * and everything that the process which wrote the first line changes in between is in it.
 */

enum { SET_COMMANDS_MAX = 20, SETS_LISTED = 200, SETS_IN_JSON = 2000, SETS_NEW = 30 };

/* A row of vmoves. */
struct move {
	uint64_t seq, set_id;
	int64_t time_ns;
	size_t from, from_len, to, to_len; /* places in the text */
};

/* ---- names ---- */

static int found_set(const struct change_set *set, void *ctx)
{
	return 1;
}

/* A number and what follows it; false: there is none. */
static bool read_number(const char **text, uint64_t *number)
{
	char *end;

	errno = 0;
	if (**text < '1' || **text > '9')
		return false;
	*number = strtoull(*text, &end, 10);
	*text = end;
	return errno == 0;
}

/* "log", "log.json", "log-ID.json": out->number is the ID, 0 for none. */
static int resolve_log(const char *rest, struct vspec *out)
{
	out->kind = *rest ? V_SETS_LOG_JSON : V_SETS_LOG;
	if (*rest == '-' && (rest++, !read_number(&rest, &out->number)))
		return -ENOENT;
	return !*rest || !strcmp(rest, ".json") ? 0 : -ENOENT;
}

int sets_resolve(struct workspace *ws, const char *name, struct vspec *out)
{
	uint64_t before = 0;

	if (!strncmp(name, "log", 3))
		return resolve_log(name + 3, out);
	if (!strcmp(name, "new.json")) {
		out->kind = V_SETS_NEW_JSON;
		return 0;
	}
	if (!read_number(&name, &out->number))
		return -ENOENT;
	if (*name == '-' && (name++, !read_number(&name, &before)))
		return -ENOENT;
	if (before)
		buf_printf(&out->path, "%llu", (unsigned long long)before);
	if (buf_failed(&out->path))
		return -ENOMEM;
	if ((*name || before) && strcmp(name, ".json") != 0)
		return -ENOENT;
	out->kind = *name ? V_SET_JSON : V_SET;
	switch (journal_sets(ws->journal, out->number, NULL, 1, found_set, NULL)) {
	case 1:
		return 0;
	case 0:
		return -ENOENT;
	default:
		return -EIO;
	}
}

struct names {
	vlist_fn *add;
	void *ctx;
};

static int list_set(const struct change_set *set, void *ctx)
{
	const struct names *names = ctx;
	char name[32];

	for (int json = 0; json < 2; json++) {
		int n = snprintf(name, sizeof(name), "%llu%s", (unsigned long long)set->id,
			json ? ".json" : "");

		if (!names->add(names->ctx, name, (size_t)n, json ? V_SET_JSON : V_SET,
			    set->id))
			return 1;
	}
	return 0;
}

int sets_list(struct workspace *ws, vlist_fn *add, void *ctx)
{
	struct names names = {add, ctx};

	if (!add(ctx, "log", 3, V_SETS_LOG, 0) ||
		!add(ctx, "log.json", 8, V_SETS_LOG_JSON, 0) ||
		!add(ctx, "new.json", 8, V_SETS_NEW_JSON, 0))
		return 0;
	return journal_sets(ws->journal, 0, NULL, SETS_LISTED, list_set, &names);
}

/* ---- one set, in a line and as JSON ---- */

/* Does the process that has begun it still live? */
static bool is_under_way(struct workspace *ws, const struct change_set *set)
{
	const struct author *a = &set->author;
	struct process *p = identity_take(ws->identity, a->pid, a->uid, (gid_t)-1);
	bool alive =
		p->serial && p->start_ns == a->start_ns && process_alive(ws->identity, p);

	process_put(ws->identity, p);
	return alive;
}

/* Of an undo how far it came; NULL: it is none. */
static const char *undo_state(struct workspace *ws, const struct change_set *set)
{
	switch (set->state) {
	case SET_OPEN:
		return is_under_way(ws, set) ? "under way" : "interrupted";
	case SET_DONE:
		return "done";
	case SET_BACK:
		return "taken back";
	case SET_PLAIN:
	case SET_CLOSED:
		break;
	}
	return NULL;
}

struct interrupted {
	struct workspace *ws;
	struct buf *text, *json;
	unsigned n;
};

static int add_interrupted(const struct change_set *set, void *ctx)
{
	struct interrupted *in = ctx;

	if (is_under_way(in->ws, set))
		return 0;
	if (in->text && !in->n) {
		buf_printf(in->text, "%llu, of ", (unsigned long long)set->id);
		put_clipped(in->text, set->what ?: "?", strlen(set->what ?: "?"), 17);
	}
	if (in->json) {
		json_next(in->json);
		buf_putc(in->json, '{');
		json_number(in->json, "set", set->id);
		json_string(in->json, "writer", set->author.name);
		json_string(in->json, "what", set->what);
		buf_putc(in->json, '}');
	}
	in->n++;
	return 0;
}

unsigned sets_interrupted(struct workspace *ws, struct buf *text, struct buf *json)
{
	struct interrupted in = {.ws = ws, .text = text, .json = json};

	if (journal_sets_open(ws->journal, add_interrupted, &in) < 0)
		return in.n; /* the health says why */
	if (text && in.n > 1)
		buf_printf(text, ", and %u more", in.n - 1);
	return in.n;
}

static int add_command(const char *command, uint64_t n_changes, void *ctx)
{
	struct buf *b = ctx;

	json_next(b);
	buf_put_json(b, command, strlen(command));
	return 0;
}

static void json_set(struct workspace *ws, struct buf *b, const struct change_set *set)
{
	buf_putc(b, '{');
	json_number(b, "id", set->id);
	json_string(b, "writer", set->author.name);
	json_time(b, "from", set->first_ns);
	json_time(b, "to", set->last_ns);
	json_number(b, "first_seq", set->first_seq);
	json_number(b, "last_seq", set->last_seq);
	json_number(b, "files", set->n_files);
	json_number(b, "changes", set->n_changes);
	json_string(b, "undo", undo_state(ws, set));
	json_number(b, "undo_of", set->undo_of);
	json_string(b, "what", set->what);
	json_signed(b, "pid", set->author.pid);
	json_key(b, "commands");
	buf_putc(b, '[');
	if (journal_set_commands(ws->journal, set->id, SET_COMMANDS_MAX, add_command, b) <
		0)
		b->failed = true;
	buf_puts(b, "]}");
}

struct rendering {
	struct workspace *ws;
	struct buf *out;
	struct json_rows rows;
	const struct vmoves *moves;
	uint64_t first_seq;
	bool found;
};

static int put_set_row(const struct change_set *set, void *ctx)
{
	struct rendering *r = ctx;

	if (r->rows.n == SETS_IN_JSON)
		r->rows.truncated = true;
	if (r->rows.truncated || !json_rows_next(&r->rows))
		return 1;
	json_set(r->ws, r->out, set);
	return 0;
}

static void put_sets(const struct vreader *reader, struct buf *out, uint64_t limit)
{
	struct rendering r = {.ws = reader->ws, .out = out};
	int e;

	buf_puts(out, "{\"schema\":\"stompfs/sets/1\"");
	json_rows_begin(&r.rows, out, "sets");
	e = journal_sets_before(reader->ws->journal, reader->node->number ?: UINT64_MAX,
		limit, put_set_row, &r);
	json_rows_end(&r.rows);
	if (e < 0)
		json_string(out, "error", strerrordesc_np(-e));
	buf_puts(out, "}\n");
}

void vdoc_sets_json(const struct vreader *reader, struct buf *out)
{
	put_sets(reader, out, SETS_IN_JSON + 1);
}

void vdoc_sets_new_json(const struct vreader *reader, struct buf *out)
{
	put_sets(reader, out, SETS_NEW);
}

static int add_command_text(const char *command, uint64_t n_changes, void *ctx)
{
	struct buf *b = ctx;

	size_t size = strlen(command);

	if (b->len)
		buf_puts(b, "; ");
	if (size > 40)
		for (size = 37; size && (command[size] & 0xc0) == 0x80;)
			size--; /* not within a character */
	buf_put_name(b, command, size);
	if (command[size])
		buf_puts(b, "…");
	return b->len > 80;
}

static int put_set_line(const struct change_set *set, void *ctx)
{
	struct rendering *r = ctx;
	const char *undo = undo_state(r->ws, set);
	struct buf *b = r->out;
	auto_buf commands = {0};

	if (journal_set_commands(r->ws->journal, set->id, 3, add_command_text, &commands) <
		0)
		b->failed = true;
	buf_printf(b, "%llu\t", (unsigned long long)set->id);
	buf_put_name(b, set->author.name, strlen(set->author.name));
	buf_putc(b, '\t');
	buf_put_time(b, set->first_ns);
	buf_putc(b, '\t');
	buf_put_span(b, set->last_ns - set->first_ns);
	buf_printf(b, "\t%llu\t%llu\t", (unsigned long long)set->n_files,
		(unsigned long long)set->n_changes);
	if (undo && set->what) {
		buf_puts(b, "undo of ");
		buf_put_name(b, set->what, strlen(set->what));
		buf_printf(b, " (%s)", undo);
	} else {
		buf_append(b, commands.data ?: "", commands.len);
	}
	buf_putc(b, '\n');
	b->failed |= commands.failed;
	r->found = true;
	return 0;
}

static const char sets_heading[] = "SET\tWRITER\tFROM\tFOR\tFILES\tCHANGES\tCOMMANDS\n";

void vdoc_sets(const struct vreader *reader, struct buf *out)
{
	auto_buf rows = {0};
	struct rendering r = {.ws = reader->ws, .out = &rows};
	int e;

	buf_puts(&rows, sets_heading);
	e = journal_sets(reader->ws->journal, 0, NULL, SETS_LISTED, put_set_line, &r);
	put_columns(out, &rows);
	if (e < 0)
		buf_printf(out, "The change sets cannot be read now: %s.\n",
			strerrordesc_np(-e));
}

/* ---- what a set changed ---- */

void vdoc_set(const struct vreader *reader, struct buf *out)
{
	struct journal *j = reader->ws->journal;
	auto_buf rows = {0};
	struct rendering r = {.ws = reader->ws, .out = &rows};
	struct vlines lines = {0};
	int e;

	buf_puts(&rows, sets_heading);
	e = journal_sets(j, reader->node->number, NULL, 1, put_set_line, &r);
	put_columns(out, &rows);
	buf_putc(out, '\n');
	if (e >= 0)
		e = journal_set_log(
			j, reader->node->number, UINT64_MAX, vlines_add_version, &lines);
	vlines_print(&lines, VTREE_ROWS_MAX, out);
	if (e < 0)
		buf_printf(out, "The set cannot be read now: %s.\n", strerrordesc_np(-e));
}

static int add_move(uint64_t seq, uint64_t set_id, int64_t time_ns, const char *from,
	size_t from_len, const char *to, size_t to_len, void *ctx)
{
	struct vmoves *m = ctx;
	struct move move = {.seq = seq,
		.set_id = set_id,
		.time_ns = time_ns,
		.from = m->text.len,
		.from_len = from_len,
		.to = m->text.len + from_len,
		.to_len = to_len};

	buf_append(&m->text, from, from_len);
	buf_append(&m->text, to, to_len);
	buf_append(&m->rows, &move, sizeof(move));
	return m->rows.len > VTREE_ROWS_MAX * sizeof(move) ? -E2BIG : 0;
}

static bool is_below(const struct buf *path, const char *folder, size_t len)
{
	return path->len >= len && !memcmp(path->data, folder, len) &&
	       (path->len == len || path->data[len] == '/');
}

/* What the path of that time is called by now, as far as folders were renamed. */
static void put_now(
	const struct vmoves *m, uint64_t seq, const char *was, size_t len, struct buf *path)
{
	buf_append(path, was, len);
	for (size_t at = 0; at < m->rows.len && !buf_failed(path);
		at += sizeof(struct move)) {
		auto_buf after = {0};
		struct move move;

		memcpy(&move, m->rows.data + at, sizeof(move));
		if (move.seq <= seq ||
			!is_below(path, m->text.data + move.from, move.from_len))
			continue;
		buf_append(&after, m->text.data + move.to, move.to_len);
		buf_append(&after, path->data + move.from_len, path->len - move.from_len);
		buf_reset(path);
		buf_append(path, after.data ?: "", after.len);
		path->failed |= after.failed;
	}
}

static void json_one_now(struct buf *b, const char *key, const struct vmoves *m,
	uint64_t seq, const char *was, size_t len)
{
	auto_buf now = {0};

	put_now(m, seq, was, len, &now);
	if (now.len != len || memcmp(now.data, was, len) != 0)
		json_word(b, key, now.data, now.len);
	b->failed |= now.failed;
}

int vmoves_load(struct workspace *ws, uint64_t after_seq, struct vmoves *m)
{
	int r = journal_moves(ws->journal, after_seq, add_move, m);

	if (r == 0 && (buf_failed(&m->text) || buf_failed(&m->rows)))
		r = -ENOMEM;
	return r;
}

void vmoves_done(struct vmoves *m)
{
	buf_done(&m->text);
	buf_done(&m->rows);
}

void json_now(struct buf *b, const struct vmoves *m, const struct version *v)
{
	if (!m->rows.len)
		return;
	json_one_now(b, "now", m, v->seq, v->path, v->path_len);
	if (v->from_path)
		json_one_now(b, "from_now", m, v->seq, v->from_path, v->from_path_len);
}

static int put_set_version(const struct version *v, void *ctx)
{
	struct rendering *r = ctx;

	if (!json_rows_next(&r->rows))
		return 1;
	json_version(r->out, v);
	json_now(r->out, r->moves, v);
	buf_putc(r->out, '}');
	return 0;
}

static void put_moves(const struct vmoves *m, uint64_t set_id, struct json_rows *rows)
{
	for (size_t at = 0; at < m->rows.len; at += sizeof(struct move)) {
		struct move move;

		memcpy(&move, m->rows.data + at, sizeof(move));
		if (move.set_id != set_id)
			continue;
		if (!json_rows_next(rows))
			return;
		buf_putc(rows->out, '{');
		json_number(rows->out, "seq", move.seq);
		json_word(rows->out, "from", m->text.data + move.from, move.from_len);
		json_word(rows->out, "to", m->text.data + move.to, move.to_len);
		json_one_now(
			rows->out, "now", m, move.seq, m->text.data + move.to, move.to_len);
		json_time(rows->out, "time", move.time_ns);
		buf_putc(rows->out, '}');
	}
}

static int put_set_head(const struct change_set *set, void *ctx)
{
	struct rendering *r = ctx;

	json_key(r->out, "set");
	json_set(r->ws, r->out, set);
	r->first_seq = set->first_seq;
	r->found = true;
	return 0;
}

void vdoc_set_json(const struct vreader *reader, struct buf *out)
{
	struct journal *j = reader->ws->journal;
	struct vmoves moves = {0};
	struct rendering r = {.ws = reader->ws, .out = out, .moves = &moves};
	uint64_t id = reader->node->number, before = UINT64_MAX;
	int e;

	if (reader->node->path_len)
		before = strtoull(reader->node->path, NULL, 10);
	buf_puts(out, "{\"schema\":\"stompfs/log/1\"");
	e = journal_sets(j, id, NULL, 1, put_set_head, &r);
	if (e >= 0 && r.found)
		e = vmoves_load(reader->ws, r.first_seq ? r.first_seq - 1 : 0, &moves);
	json_rows_begin(&r.rows, out, "versions");
	if (e >= 0)
		e = journal_set_log(j, id, before, put_set_version, &r);
	json_rows_end(&r.rows);
	json_rows_begin(&r.rows, out, "moves");
	put_moves(&moves, id, &r.rows);
	json_rows_end(&r.rows);
	if (e < 0)
		json_string(out, "error", strerrordesc_np(-e));
	buf_puts(out, "}\n");
	vmoves_done(&moves);
}

/* ---- ctl: undo begin, resume, end ---- */

struct asked {
	struct workspace *ws;
	const struct process *by;
	bool found, open, allowed, under_way;
};

static int look_at(const struct change_set *set, void *ctx)
{
	struct asked *a = ctx;

	a->found = true;
	a->open = set->state == SET_OPEN;
	a->allowed = a->by->uid == 0 || a->by->uid == set->author.uid;
	a->under_way = a->open && is_under_way(a->ws, set) && set->author.pid != a->by->pid;
	return 0;
}

static int check_open(
	struct workspace *ws, struct process *by, uint64_t id, struct buf *why)
{
	struct asked a = {.ws = ws, .by = by};
	int r = journal_sets(ws->journal, id, NULL, 1, look_at, &a);

	if (r < 0)
		return r;
	if (!a.found || !a.open) {
		buf_printf(why, "set %llu is no undo that is still open",
			(unsigned long long)id);
		return -ENOENT;
	}
	if (!a.allowed) {
		buf_printf(why,
			"undo %llu is another user's; only they and root can end it",
			(unsigned long long)id);
		return -EPERM;
	}
	if (a.under_way) {
		buf_printf(why, "undo %llu is under way in another process",
			(unsigned long long)id);
		return -EBUSY;
	}
	return 0;
}

int sets_execute(struct workspace *ws, struct process *by, const struct ctl_command *cmd,
	struct buf *answer, struct buf *why)
{
	const struct author author = author_of(by);
	uint64_t id = cmd->set;
	int r;

	if (cmd->verb == CTL_UNDO_BEGIN) {
		r = journal_set_begin(
			ws->journal, &author, cmd->set, cmd->of, cmd->what, &id);
	} else {
		state_settle(ws, SETTLE_WAIT_MS); /* what is finished belongs in it */
		r = check_open(ws, by, id, why);
		if (r == 0 && cmd->verb == CTL_UNDO_RESUME)
			r = journal_set_resume(ws->journal, id, &author);
		else if (r == 0)
			r = journal_set_end(ws->journal, id,
				!strcmp(cmd->how, "done") ? SET_DONE : SET_BACK);
	}
	if (r < 0)
		return r;
	json_number(answer, "set", id);
	json_number(answer, "seq", journal_last_seq(ws->journal));
	return 0;
}
