#include "fs/state.h"

#include <string.h>
#include <time.h>

#include "fs/behind.h"
#include "fs/closing.h"
#include "fs/gate.h"
#include "fs/housekeeper.h"
#include "fs/session.h"
#include "fs/workspace.h"

enum { MAX_WAITING = 32 };

/* ---- finding a file by its path ---- */

/* Walk from the root. *inode gets a lookup (or NULL), *parent one too, *name points into
 * path. -ENOENT: a folder on the way is not there. */
static int walk(struct workspace *ws, char *path, struct inode **parent,
	struct inode **inode, char **name)
{
	struct inode *at = ws->root_inode, *next;
	struct stat st;
	char *part, *rest = path;
	int r = 0;

	*inode = NULL;
	part = strsep(&rest, "/");
	while (rest) {
		r = *part ? inode_lookup(ws, at, part, &next, &st) : -EINVAL;
		if (at != ws->root_inode)
			inode_forget(ws, at, 1);
		if (r < 0)
			return r;
		at = next;
		part = strsep(&rest, "/");
	}
	*parent = at;
	*name = part;
	r = inode_lookup(ws, at, part, inode, &st);
	return r == -ENOENT ? 0 : r;
}

static void walk_done(struct workspace *ws, struct inode *parent, struct inode *inode)
{
	if (inode)
		inode_forget(ws, inode, 1);
	if (parent && parent != ws->root_inode)
		inode_forget(ws, parent, 1);
}

typedef int file_fn(struct workspace *ws, struct file *f, const char *path, void *ctx);

/* Call fn with the locked file of a path, whether something is there now or not. 0 when
 * there is no such folder, or it is a folder. */
static int with_file(struct workspace *ws, const char *path, file_fn *fn, void *ctx)
{
	auto_free char *copy = strdup(path);
	struct inode *parent = NULL, *inode;
	struct file *f;
	char *name;
	int r;

	if (!copy)
		return -ENOMEM;
	r = walk(ws, copy, &parent, &inode, &name);
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r < 0 || (inode && !S_ISREG(inode->type) && !S_ISLNK(inode->type))) {
		walk_done(ws, parent, inode);
		return r;
	}
	f = inode ? file_lock_of(ws, inode) : file_of_name(ws, parent, name);
	if (f && !inode)
		pthread_mutex_lock(&f->lock);
	if (!f) {
		walk_done(ws, parent, inode);
		return -ENOMEM;
	}
	r = fn(ws, f, path, ctx);
	file_give_back(ws, f, parent, name);
	walk_done(ws, parent, inode);
	return r;
}

/* A session's file, once it is not captured behind. */
static void lock_settled(struct workspace *ws, struct file *f)
{
	pthread_mutex_lock(&f->lock);
	while (f->behind)
		behind_settle(ws, f);
}

/* ---- what is held ---- */

struct waiting {
	const struct file *file;
	const char *names[MAX_WAITING];
	unsigned n;
};

static void collect_waiting(const struct waiter *w, void *ctx)
{
	struct waiting *waiting = ctx;

	if (w->file == waiting->file && waiting->n < MAX_WAITING)
		waiting->names[waiting->n++] = w->writer->name;
}

/* L2: what was closed is held no more, though its release is still on its way; unless its
 * content is yet to be captured. The file is locked. */
static bool is_held(struct workspace *ws, const struct file *f)
{
	return f->lease.holder && f->inode && (f->behind || !closing_lease(ws, f));
}

static void show_lease(struct workspace *ws, struct file *f, lease_row_fn *fn, void *ctx)
{
	struct waiting waiting = {.file = f};
	auto_buf path = {0};
	struct lease_row row = {0};
	struct handle *h;

	pthread_mutex_lock(&f->lock);
	if (!is_held(ws, f) || inode_path(f->inode, &path) < 0) {
		pthread_mutex_unlock(&f->lock);
		return;
	}
	row.writer = f->lease.holder->name;
	row.epoch = f->lease.epoch;
	row.expires_ns = f->lease.expires_ns - workspace_now(ws);
	list_for_each (h, &f->handles, node)
		row.handles += h->writable && h->fence == FENCE_NONE &&
			       h->by->writer == f->lease.holder;
	park_each(ws->park, collect_waiting, &waiting);
	pthread_mutex_unlock(&f->lock);
	row.path = path.data;
	row.path_len = path.len;
	row.waiting = waiting.names;
	row.n_waiting = waiting.n;
	fn(&row, ctx);
}

struct claim_show {
	struct workspace *ws;
	lease_row_fn *fn;
	void *ctx;
	unsigned n;
};

static void show_claim(const struct claim *claim, void *ctx)
{
	struct claim_show *show = ctx;
	struct lease_row row = {
		.path = claim->pattern,
		.path_len = strlen(claim->pattern),
		.writer = claim->holder->name,
		.epoch = claim->epoch,
		.expires_ns = claim->expires_ns - workspace_now(show->ws),
		.is_explicit = true,
		.reason = claim->reason,
	};

	show->n++;
	if (show->fn)
		show->fn(&row, show->ctx);
}

void state_each_lease(struct workspace *ws, lease_row_fn *fn, void *ctx)
{
	struct claim_show show = {.ws = ws, .fn = fn, .ctx = ctx};
	struct file **files;
	size_t n;

	files = sessions_snapshot(ws, &n);
	for (size_t i = 0; i < n; i++) {
		show_lease(ws, files[i], fn, ctx);
		file_put(ws, files[i]);
	}
	free(files);
	claims_each(ws->claims, show_claim, &show);
}

unsigned state_count_leases(struct workspace *ws)
{
	struct claim_show show = {.ws = ws};
	struct file **files;
	size_t n_files;
	unsigned n = 0;

	files = sessions_snapshot(ws, &n_files);
	for (size_t i = 0; i < n_files; i++) {
		pthread_mutex_lock(&files[i]->lock);
		n += is_held(ws, files[i]);
		pthread_mutex_unlock(&files[i]->lock);
		file_put(ws, files[i]);
	}
	free(files);
	claims_each(ws->claims, show_claim, &show);
	return n + show.n;
}

/* ---- history ---- */

static int know_current(struct workspace *ws, struct file *f, const char *path, void *ctx)
{
	const struct process *p = ctx;
	int r = file_load_head(ws, f, path, strlen(path));

	if (r == 0 && f->head.exists)
		observe_made(&f->seen, actor_process(p->serial), f->head.content.seq);
	return r;
}

void state_observe_history(
	struct workspace *ws, const char *path, size_t len, struct process *p)
{
	auto_free char *copy = strndup(path, len);

	if (copy)
		(void)!with_file(ws, copy, know_current, p);
}

/* ---- explicit leases ---- */

struct asking {
	const struct process *by;
	struct buf *why;
};

static void say_held(struct buf *why, const char *path, const struct writer *holder)
{
	buf_put_name(why, path, strlen(path));
	buf_printf(why, " is held by %s", holder->name);
}

/* A lapsed lease of another is taken over, a live one is in the way. */
static int take_if_lapsed(struct workspace *ws, struct file *f, const char *path, void *ctx)
{
	struct asking *asking = ctx;

	switch (lease_ask(&f->lease, asking->by->writer, workspace_now(ws))) {
	case LEASE_HELD:
		say_held(asking->why, path, f->lease.holder);
		return -EAGAIN;
	case LEASE_LAPSED:
		gate_break(ws, f, asking->by);
		return 0;
	case LEASE_FREE:
	case LEASE_OURS:
		break;
	}
	return 0;
}

/* Is a file that pattern (or folder) covers being changed by another right now? */
static int check_sessions(struct workspace *ws, const char *pattern, struct asking *asking)
{
	struct file **files;
	size_t n;
	int r = 0;

	files = sessions_snapshot(ws, &n);
	for (size_t i = 0; i < n; i++) {
		struct file *f = files[i];
		auto_names *names = names_hold(&ws->names);
		auto_buf path = {0};

		lock_settled(ws, f);
		if (r == 0 && f->inode && inode_path(f->inode, &path) == 0 &&
			claim_covers(pattern, path.data, path.len))
			r = take_if_lapsed(ws, f, path.data, asking);
		pthread_mutex_unlock(&f->lock);
		file_put(ws, f);
	}
	free(files);
	return r;
}

static int check_free(struct workspace *ws, const char *pattern, struct asking *asking)
{
	int64_t until;
	struct writer *blocker = claims_blocker(ws->claims, pattern, strlen(pattern),
		asking->by->writer, workspace_now(ws), &until);

	if (!blocker)
		blocker = claims_covered(
			ws->claims, pattern, asking->by->writer, workspace_now(ws));

	if (blocker) {
		say_held(asking->why, pattern, blocker);
		return -EAGAIN;
	}
	return check_sessions(ws, pattern, asking);
}

static int set_claims(struct workspace *ws, struct process *p, char *const *paths,
	unsigned n, int64_t ttl_ns, const char *reason)
{
	for (unsigned i = 0; i < n; i++) {
		struct claim claim = {
			.pattern = paths[i],
			.holder = p->writer,
			.expires_ns = workspace_now(ws) + ttl_ns,
			.reason = reason,
		};
		int r = journal_next_epoch(ws->journal, &claim.epoch);

		if (r == 0)
			r = claims_set(ws->claims, &claim);
		if (r < 0) {
			while (i-- > 0)
				claims_drop(ws->claims, paths[i], p->writer);
			return r;
		}
	}
	return 0;
}

/* L9: rare, and asked for by somebody; the leases of the daily round are not recorded. */
static void announce_claims(struct workspace *ws, const struct process *p,
	char *const *paths, unsigned n, const char *kind, const char *how)
{
	for (unsigned i = 0; i < n; i++) {
		auto_buf text = {0};
		struct event e = {
			.time_ns = clock_wall_ns(ws->clock),
			.kind = kind,
			.path = paths[i],
			.path_len = strlen(paths[i]),
			.writer = p->writer->name,
		};

		buf_put_name(&text, paths[i], strlen(paths[i]));
		buf_printf(&text, ": %s", how);
		e.text = text.data;
		if (journal_next_seq(ws->journal, &e.seq) == 0)
			(void)!journal_event(ws->journal, &e);
	}
}

static void announce_hold(struct workspace *ws, const struct process *p, char *const *paths,
	unsigned n, int64_t ttl_ns, const char *reason)
{
	auto_buf how = {0};

	buf_puts(&how, "held ahead for ");
	buf_put_span(&how, ttl_ns);
	if (reason && *reason) {
		buf_puts(&how, ": ");
		buf_put_name(&how, reason, strlen(reason));
	}
	announce_claims(ws, p, paths, n, "hold", how.data ?: "held ahead");
}

int state_lease_acquire(struct workspace *ws, struct process *p, char *const *paths,
	unsigned n, int64_t ttl_ns, const char *reason, struct buf *why)
{
	struct asking asking = {.by = p, .why = why};
	int r = 0;

	pthread_mutex_lock(&ws->explicit_lock);
	for (unsigned i = 0; i < n && r == 0; i++)
		r = check_free(ws, paths[i], &asking);
	if (r == 0)
		r = set_claims(ws, p, paths, n, ttl_ns, reason);
	/* Whoever has come between the check and the claim was first. */
	for (unsigned i = 0, set = r == 0; i < n && set && r == 0; i++) {
		r = check_sessions(ws, paths[i], &asking);
		for (unsigned k = 0; r < 0 && k < n; k++)
			claims_drop(ws->claims, paths[k], p->writer);
	}
	if (r == 0) /* within the lock: told in the order in which it was */
		announce_hold(ws, p, paths, n, ttl_ns, reason);
	pthread_mutex_unlock(&ws->explicit_lock);
	return r;
}

struct owned {
	const char *pattern;
	const struct writer *holder;
	const char *reason;
	bool found;
};

static void find_owned(const struct claim *claim, void *ctx)
{
	struct owned *owned = ctx;

	owned->found |= claim->holder == owned->holder &&
			strcmp(claim->pattern, owned->pattern) == 0;
}

static int check_owned(struct workspace *ws, struct process *p, char *const *paths,
	unsigned n, struct buf *why)
{
	for (unsigned i = 0; i < n; i++) {
		struct owned owned = {.pattern = paths[i], .holder = p->writer};

		claims_each(ws->claims, find_owned, &owned);
		if (owned.found)
			continue;
		buf_printf(why, "%s holds no explicit lease on ", p->writer->name);
		buf_put_name(why, paths[i], strlen(paths[i]));
		return -ENOENT;
	}
	return 0;
}

int state_lease_renew(struct workspace *ws, struct process *p, char *const *paths,
	unsigned n, int64_t ttl_ns, struct buf *why)
{
	int r;

	pthread_mutex_lock(&ws->explicit_lock);
	r = check_owned(ws, p, paths, n, why);
	if (r == 0)
		r = set_claims(ws, p, paths, n, ttl_ns, NULL);
	if (r == 0)
		announce_hold(ws, p, paths, n, ttl_ns, NULL);
	pthread_mutex_unlock(&ws->explicit_lock);
	return r;
}

int state_lease_release(struct workspace *ws, struct process *p, char *const *paths,
	unsigned n, struct buf *why)
{
	int r;

	pthread_mutex_lock(&ws->explicit_lock);
	r = check_owned(ws, p, paths, n, why);
	for (unsigned i = 0; i < n && r == 0; i++)
		claims_drop(ws->claims, paths[i], p->writer);
	if (r == 0)
		announce_claims(ws, p, paths, n, "release", "given back");
	pthread_mutex_unlock(&ws->explicit_lock);
	park_recheck(ws->park);
	return r;
}

/* Fence whoever changes a file that the path or pattern covers. */
static bool break_sessions(struct workspace *ws, struct process *p, const char *pattern)
{
	bool any = false;
	struct file **files;
	size_t n;

	files = sessions_snapshot(ws, &n);
	for (size_t i = 0; i < n; i++) {
		struct file *f = files[i];
		auto_names *names = names_hold(&ws->names);
		auto_buf path = {0};

		lock_settled(ws, f);
		if (f->inode && inode_path(f->inode, &path) == 0 &&
			claim_covers(pattern, path.data, path.len)) {
			gate_break(ws, f, p);
			any = true;
		}
		pthread_mutex_unlock(&f->lock);
		file_put(ws, f);
	}
	free(files);
	return any;
}

static void announce_break(
	struct workspace *ws, struct process *p, const char *pattern, struct writer *holder)
{
	auto_buf text = {0};
	struct event e = {
		.time_ns = clock_wall_ns(ws->clock),
		.kind = "break",
		.path = pattern,
		.path_len = strlen(pattern),
		.writer = p->writer->name,
	};

	buf_put_name(&text, pattern, strlen(pattern));
	buf_printf(&text, ": explicit lease of %s broken by %s", holder->name,
		p->writer->name);
	e.text = text.data;
	if (journal_next_seq(ws->journal, &e.seq) == 0)
		(void)!journal_event(ws->journal, &e);
}

int state_lease_break(struct workspace *ws, struct process *p, char *const *paths,
	unsigned n, struct buf *why)
{
	for (unsigned i = 0; i < n; i++) {
		struct writer *holder = NULL;
		bool any =
			claims_break(ws->claims, paths[i], strlen(paths[i]), &holder) > 0;

		if (any)
			announce_break(ws, p, paths[i], holder);
		any |= break_sessions(ws, p, paths[i]);
		if (!any) {
			buf_puts(why, "nobody holds ");
			buf_put_name(why, paths[i], strlen(paths[i]));
			park_recheck(ws->park);
			return -ENOENT;
		}
	}
	park_recheck(ws->park);
	return 0;
}

static struct timespec in_ms(unsigned ms)
{
	struct timespec t;
	int64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &t);
	ns = t.tv_nsec + ms * NS_PER_MS;
	t.tv_sec += ns / NS_PER_S;
	t.tv_nsec = ns % NS_PER_S;
	return t;
}

void state_settle(struct workspace *ws, unsigned wait_ms)
{
	const struct timespec until = in_ms(wait_ms);
	struct file **files;
	size_t n;

	files = sessions_snapshot(ws, &n);
	for (size_t i = 0; i < n; i++) {
		struct file *f = files[i];
		auto_names *names = names_hold(&ws->names);

		pthread_mutex_lock(&f->lock);
		if (!f->behind && f->session.by && f->session.dirty &&
			closing_session(ws, f) && !behind_begin(ws, f))
			(void)!session_checkpoint(ws, f, 0);
		if (f->behind && wait_ms)
			behind_await(f, &until);
		pthread_mutex_unlock(&f->lock);
		file_put(ws, f);
	}
	free(files);
}

/* What was closed is recorded. */
static void settle_all(struct workspace *ws)
{
	struct file **files;
	size_t n;

	state_settle(ws, 0);
	files = sessions_snapshot(ws, &n);
	for (size_t i = 0; i < n; i++) {
		lock_settled(ws, files[i]);
		pthread_mutex_unlock(&files[i]->lock);
		file_put(ws, files[i]);
	}
	free(files);
}

int state_checkpoint(struct workspace *ws)
{
	settle_all(ws);
	return journal_sync(ws->journal, journal_last_seq(ws->journal));
}
