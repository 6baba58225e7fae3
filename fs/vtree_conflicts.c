#include "fs/vtree_internal.h"

#include <stdio.h>
#include <string.h>

#include "fs/state.h"
#include "policy/merge.h"

/*
 * conflicts/ID: a refusal whose bytes were kept, until it is resolved (S11). The listing
 * has what is unresolved; by its number a resolved one can still be looked into, so that
 * resolving destroys nothing.
 *
 *   base     the version that the refused writer knew
 *   ours     the version that was there at the refusal
 *   theirs   the refused bytes
 *   merged   what base and theirs differ by, brought into what the path holds now: not
 *            into ours, or resolving would undo what came after
 *
 * The refused bytes, and so the merge, are in reach of their writer's user and root
 * alone: nobody else has ever seen them.
 */

static const struct {
	const char *name;
	enum vkind kind;
} sides[] = {
	{"info", V_CONFLICT_INFO},
	{"info.json", V_CONFLICT_INFO_JSON},
	{"base", V_CONFLICT_BASE},
	{"ours", V_CONFLICT_OURS},
	{"theirs", V_CONFLICT_THEIRS},
	{"merged", V_CONFLICT_MERGED},
};

/* What this file needs of a refusal, copied. */
struct kept {
	struct vfile theirs;
	struct buf path;
	uint64_t base, current;
};

#define auto_kept __attribute__((cleanup(kept_done))) struct kept

static void kept_done(struct kept *k)
{
	buf_done(&k->path);
}

static int copy_kept(const struct refusal *r, void *ctx)
{
	struct kept *k = ctx;

	if (!r->kept)
		return 0;
	k->theirs = (struct vfile){
		.content = r->content,
		.content_id = r->content_id,
		.size = r->size,
		.mode = 0400,
		.uid = r->author.uid,
		.mtime_ns = r->time_ns,
	};
	k->base = r->base_number;
	k->current = r->current_number;
	buf_reset(&k->path);
	buf_append(&k->path, r->path, r->path_len);
	return buf_failed(&k->path) ? -ENOMEM : 1;
}

/* 1: found, and its bytes were kept; 0; -errno. */
static int find_kept(struct workspace *ws, uint64_t id, struct kept *k)
{
	int r = journal_refusal(ws->journal, id, copy_kept, k);

	return r == -ENOENT ? 0 : r;
}

/* The version of the path that a side shows; 1, 0, -errno. */
static int find_side(
	struct workspace *ws, const struct kept *k, enum vkind kind, struct vfile *file)
{
	uint64_t number = kind == V_CONFLICT_BASE ? k->base : k->current;
	struct version_row row;
	int r;

	if (!number)
		return 0;
	r = journal_version(ws->journal, k->path.data, k->path.len, number, &row);
	if (r <= 0)
		return r;
	r = row.v.has_content;
	vfile_of_version(file, &row.v);
	version_row_done(&row);
	return r;
}

/* ---- the merge ---- */

static int read_content(struct workspace *ws, const struct vfile *f, struct buf *out)
{
	const struct version v = {
		.has_content = true,
		.content = f->content,
		.content_id = f->content_id,
		.size = f->size,
	};
	auto_close int fd = -1;
	char chunk[16384];
	int r = journal_version_content(ws->journal, &v, &fd);

	while (r == 0 && out->len < f->size) {
		ssize_t n = pread(fd, chunk, sizeof(chunk), (off_t)out->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		buf_append(out, chunk, (size_t)n);
		if (buf_failed(out))
			return -ENOMEM;
	}
	return r;
}

/* What the path holds now; 1, 0: no file, -errno. */
static int find_newest(
	struct workspace *ws, const struct kept *k, struct vfile *file, uint64_t *number)
{
	struct version_row row;
	int r = journal_head(ws->journal, k->path.data, k->path.len, &row);

	if (r <= 0)
		return r;
	r = row.v.has_content && !S_ISLNK(row.v.mode);
	*number = row.v.number;
	vfile_of_version(file, &row.v);
	version_row_done(&row);
	return r;
}

static struct content content_of(const struct buf *b)
{
	return (struct content){.data = b->data, .size = b->len};
}

static int merge_files(struct workspace *ws, const struct vfile *base,
	const struct vfile *current, const struct vfile *new, struct buf *out)
{
	auto_buf b = {0}, c = {0}, n = {0};
	struct content before, now, wanted;
	enum merge_answer answer;
	int r;

	if (base->size > VTREE_MERGE_MAX || current->size > VTREE_MERGE_MAX ||
		new->size > VTREE_MERGE_MAX)
		return 0;
	r = read_content(ws, base, &b) ?: read_content(ws, current, &c)
						  ?: read_content(ws, new, &n);
	if (r < 0)
		return r;
	before = content_of(&b);
	now = content_of(&c);
	wanted = content_of(&n);
	r = merge_lines(&before, &now, &wanted, &answer, out);
	return r < 0 ? r : answer == MERGE_CLEAN;
}

/* 1: merged cleanly into version *newest of the path; 0: there is no such merge. */
static int try_merge(
	struct workspace *ws, const struct kept *k, struct buf *out, uint64_t *newest)
{
	struct vfile base = {0}, current = {0};
	int r;

	*newest = 0;
	r = find_newest(ws, k, &current, newest);
	if (r == 1)
		r = find_side(ws, k, V_CONFLICT_BASE, &base);
	return r == 1 ? merge_files(ws, &base, &current, &k->theirs, out) : r;
}

int conflicts_can_merge(struct workspace *ws, const struct refusal *refusal, uint64_t *into)
{
	auto_kept k = {0};
	auto_buf merged = {0};
	int r = copy_kept(refusal, &k);

	return r == 1 ? try_merge(ws, &k, &merged, into) : r;
}

int conflicts_merge(
	struct workspace *ws, const struct vnode *node, struct process *by, struct buf *out)
{
	auto_kept k = {0};
	uint64_t known, newest;
	int r;

	/* First this, then the look at what is there: whatever lands in between is in the
	 * merge, and never taken for known without being in it. */
	state_observe_history(ws, node->path, node->path_len, by);
	known = journal_last_seq(ws->journal);
	r = find_kept(ws, node->number, &k); /* waits for rows that are queued */
	if (r == 1 && !journal_is_written(ws->journal, known))
		return -EBUSY;
	if (r == 1)
		r = try_merge(ws, &k, out, &newest);
	return r == 1 ? 0 : (r ?: -ENOENT);
}

/* ---- names ---- */

static int resolve_side(
	struct workspace *ws, const struct kept *k, enum vkind kind, struct vspec *out)
{
	auto_buf merged = {0};
	uint64_t newest;

	out->kind = kind;
	if (kind == V_CONFLICT_BASE || kind == V_CONFLICT_OURS)
		return find_side(ws, k, kind, &out->file);
	out->file = k->theirs;
	return kind == V_CONFLICT_MERGED ? try_merge(ws, k, &merged, &newest) : 1;
}

/* A number as conflicts/ lists it; 0: it is none. */
static uint64_t parse_id(const char *name)
{
	char *end;
	unsigned long long id;

	if (*name < '1' || *name > '9' || strlen(name) > 19)
		return 0;
	id = strtoull(name, &end, 10);
	return *end ? 0 : id;
}

int conflicts_resolve(struct workspace *ws, const struct vnode *parent, const char *name,
	struct vspec *out)
{
	auto_kept k = {0};
	uint64_t id = parent->kind == V_CONFLICT ? parent->number : parse_id(name);
	int r = id ? find_kept(ws, id, &k) : 0;

	out->number = id;
	if (r == 1 && parent->kind == V_CONFLICTS) {
		out->kind = V_CONFLICT;
		out->file = k.theirs;
	} else if (r == 1) {
		r = 0;
		for (unsigned i = 0; i < ARRAY_SIZE(sides); i++)
			if (!strcmp(sides[i].name, name))
				r = resolve_side(ws, &k, sides[i].kind, out);
	}
	if (r == 1)
		buf_append(&out->path, k.path.data, k.path.len);
	return r == 1 ? 0 : (r ?: -ENOENT);
}

/* ---- listing ---- */

struct conflict_listing {
	vlist_fn *add;
	void *ctx;
};

static int list_conflict(const struct refusal *r, void *ctx)
{
	const struct conflict_listing *l = ctx;
	char name[24];
	int len;

	len = snprintf(name, sizeof(name), "%llu", (unsigned long long)r->id);
	return l->add(l->ctx, name, (size_t)len, V_CONFLICT, r->id) ? 0 : 1;
}

int conflicts_list(struct workspace *ws, const struct vnode *node, vlist_fn *add, void *ctx)
{
	struct conflict_listing l = {.add = add, .ctx = ctx};
	auto_kept k = {0};
	struct vspec spec = {0};
	int r;

	if (node->kind == V_CONFLICTS)
		return journal_conflicts(ws->journal, CONFLICTS_UNRESOLVED, VTREE_ROWS_MAX,
			list_conflict, &l);
	r = find_kept(ws, node->number, &k);
	for (unsigned i = 0; r == 1 && i < ARRAY_SIZE(sides); i++) {
		int side = resolve_side(ws, &k, sides[i].kind, &spec);

		if (side == 1)
			add(ctx, sides[i].name, strlen(sides[i].name), sides[i].kind,
				node->number);
		else if (side < 0)
			r = side;
	}
	return r < 0 ? r : 0;
}

/* ---- ctl ---- */

/* Whose conflict it is, copied. */
struct owner {
	struct buf path, writer;
	uid_t uid;
};

#define auto_owner __attribute__((cleanup(owner_done))) struct owner

static void owner_done(struct owner *o)
{
	buf_done(&o->path);
	buf_done(&o->writer);
}

static int copy_owner(const struct refusal *r, void *ctx)
{
	struct owner *o = ctx;

	buf_append(&o->path, r->path, r->path_len);
	buf_puts(&o->writer, r->author.name ?: "-");
	o->uid = r->author.uid;
	return buf_failed(&o->path) || buf_failed(&o->writer) ? -ENOMEM : 0;
}

static bool may_resolve(const struct process *by, const struct owner *o)
{
	return by->uid == 0 || by->uid == o->uid ||
	       !strcmp(by->writer->name, o->writer.data);
}

static void announce(
	struct workspace *ws, const struct resolution *r, const struct owner *o)
{
	auto_buf text = {0};
	struct event e = {
		.time_ns = r->time_ns,
		.kind = "resolve",
		.path = o->path.data,
		.path_len = o->path.len,
		.writer = r->by,
		.number = r->id,
	};

	buf_printf(&text, "conflict %llu of %s resolved by %s: %s",
		(unsigned long long)r->id, o->writer.data, r->by, r->how);
	e.text = text.data;
	if (journal_next_seq(ws->journal, &e.seq) == 0)
		(void)!journal_event(ws->journal, &e);
}

static int explain(int answer, uint64_t id, struct buf *why)
{
	if (answer == RESOLVE_AGAIN) {
		buf_printf(why, "conflict %llu was resolved before; its info says how",
			(unsigned long long)id);
		return -EALREADY;
	}
	buf_printf(why, "there is no conflict %llu; ls .stomp/conflicts lists them",
		(unsigned long long)id);
	return -ENOENT;
}

int conflicts_settle(struct workspace *ws, struct process *by, uint64_t id, const char *how,
	struct buf *answer, struct buf *why)
{
	auto_owner o = {0};
	struct resolution mark = {
		.id = id,
		.time_ns = clock_wall_ns(ws->clock),
		.by = by->writer->name,
		.how = how,
	};
	int r = journal_refusal(ws->journal, id, copy_owner, &o);

	if (r == -ENOENT)
		return explain(RESOLVE_NONE, id, why);
	if (r == 0 && !may_resolve(by, &o)) {
		buf_printf(why, "conflict %llu is another user's (writer %s)",
			(unsigned long long)id, o.writer.data);
		return -EPERM;
	}
	if (r == 0)
		r = journal_next_seq(ws->journal, &mark.seq);
	if (r == 0)
		r = journal_resolve(ws->journal, &mark);
	if (r)
		return r < 0 ? r : explain(r, id, why);
	announce(ws, &mark, &o);
	json_number(answer, "id", id);
	json_bytes(answer, "path", o.path.data, o.path.len);
	json_string(answer, "how", how);
	return 0;
}
