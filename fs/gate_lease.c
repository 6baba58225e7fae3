#include "fs/gate_internal.h"

#include "fs/closing.h"
#include "fs/inode.h"
#include "fs/notify.h"
#include "fs/pending.h"
#include "fs/procscan.h"
#include "fs/session.h"
#include "fs/workspace.h"

bool gate_holds(const struct file *f, const struct handle *h)
{
	return h->fence == FENCE_NONE && f->lease.holder == h->by->writer &&
	       h->epoch == f->lease.epoch && h->epoch;
}

bool gate_has_writable_handle(const struct file *f, const struct writer *w)
{
	const struct handle *h;

	list_for_each (h, &f->handles, node)
		if (h->writable && h->fence == FENCE_NONE && h->by->writer == w)
			return true;
	return false;
}

static void fence(struct handle *h, enum fence why, const struct writer *by, uint64_t epoch)
{
	if (!h->writable || h->fence != FENCE_NONE)
		return;
	h->fence = why;
	h->fenced_by = by->name;
	h->fenced_by_epoch = epoch;
}

void gate_fence_others(struct file *f, const struct writer *w)
{
	struct handle *h;

	list_for_each (h, &f->handles, node)
		if (h->by->writer != w)
			fence(h, FENCE_REPLACED, w, f->lease.epoch);
}

/* L5: every handle of the old holder, for ever. */
static void fence_old_holder(
	struct file *f, const struct writer *from, const struct writer *by, uint64_t epoch)
{
	struct handle *h;

	list_for_each (h, &f->handles, node)
		if (from && h->by->writer == from)
			fence(h, FENCE_TAKEOVER, by, epoch);
}

void gate_prepare(struct workspace *ws, struct inode *inode, const struct process *by)
{
	struct file *f;
	struct handle *h;
	bool others = false;

	if (__atomic_load_n(&inode->mappable, __ATOMIC_ACQUIRE) == 0)
		return;
	f = file_lock_to_look(ws, inode);
	if (!f)
		return;
	list_for_each (h, &f->handles, node)
		others |= h->mappable && h->by->writer != by->writer &&
			  workspace_now(ws) >= f->lease.expires_ns;
	file_unlock(f);
	file_put(ws, f);
	if (others)
		notify_flush_pages(ws, inode);
}

/* ---- the end of a lease ---- */

static bool holder_is_alive(struct workspace *ws, const struct file *f)
{
	const struct handle *h;
	bool any = false;

	list_for_each (h, &f->handles, node) {
		if (!h->writable || h->by->writer != f->lease.holder)
			continue;
		any = true;
		if (process_alive(ws->identity, h->by))
			return true;
	}
	if (!any)
		return true; /* a lease that lingers, or an act under way */
	/* Whoever opened it is gone; a child of his may have it still. */
	return !f->inode || procscan_has_open(ws, f->lease.holder, f->inode->ino, true);
}

static void end_lease(struct workspace *ws, struct file *f)
{
	lease_end(&f->lease);
	f->linger_ns = 0;
	park_wake(ws, f);
}

void gate_maybe_end_lease(struct workspace *ws, struct file *f)
{
	struct writer *holder = f->lease.holder;

	if (!holder) {
		park_wake(ws, f);
		return;
	}
	if (gate_has_writable_handle(f, holder))
		return;
	if (session_finish(ws, f, 0) < 0)
		return; /* not recorded yet: the next change of the file tries again */
	if (f->rule.linger_ns > 0 && !f->linger_ns) {
		f->linger_ns = workspace_now(ws) + f->rule.linger_ns;
		lease_linger(&f->lease, workspace_now(ws), f->rule.linger_ns);
		return;
	}
	end_lease(ws, f);
}

/* L2: it ends early when nobody of the holder that had the file open is alive. */
int gate_end_lease_of_the_dead(struct change *c)
{
	struct file *f = c->file;
	bool closed;
	int r;

	if (!f->lease.holder || f->lease.holder == c->by->writer ||
		holder_is_alive(c->ws, f))
		return 0;
	closed = f->session.by && closing_session(c->ws, f);
	r = session_finish(c->ws, f, closed ? 0 : VERSION_INCOMPLETE);
	if (r == 0)
		end_lease(c->ws, f);
	return r;
}

static void announce(struct workspace *ws, struct file *f, const char *path, size_t len,
	const char *kind, const struct writer *by, const struct writer *from)
{
	auto_buf text = {0};
	struct event e = {
		.time_ns = clock_wall_ns(ws->clock),
		.kind = kind,
		.path = path,
		.path_len = len,
		.writer = by ? by->name : NULL,
		.epoch = f->lease.epoch,
		.number = f->head.number,
	};

	buf_put_name(&text, path, len);
	buf_printf(&text, ": lease of %s %s by %s", from ? from->name : "nobody",
		kind[0] == 'b' ? "broken" : "taken over", by ? by->name : "stompfs");
	e.text = text.data;
	if (journal_next_seq(ws->journal, &e.seq) == 0)
		(void)!journal_event(ws->journal, &e);
}

void gate_break(struct workspace *ws, struct file *f, const struct process *by)
{
	struct writer *holder = f->lease.holder;
	auto_buf path = {0};
	struct handle *h;

	if (!holder)
		return;
	if (f->inode && inode_path(f->inode, &path) == 0)
		announce(ws, f, path.data, path.len, "break", by->writer, holder);
	list_for_each (h, &f->handles, node)
		if (h->by->writer == holder)
			fence(h, FENCE_BREAK, by->writer, f->lease.epoch);
	if (f->pending) {
		struct change c = {
			.ws = ws,
			.by = f->session.by,
			.file = f,
			.inode = f->inode,
			.asked = "write",
			.path = path.data ? path.data : "?",
			.path_len = path.data ? path.len : 1,
		};

		pending_abandon(&c, by->writer);
		if (!f->lease.holder)
			return; /* its session is over, and with it the lease */
	}
	if (session_finish(ws, f, VERSION_INCOMPLETE) < 0)
		return; /* the handles are fenced; the rest when the journal works again */
	end_lease(ws, f);
}

/* The path gets a fresh inode, old mappings stay behind on the old one (L6). */
static int leave_mappings_behind(struct change *c)
{
	struct workspace *ws = c->ws;
	struct inode *inode = c->inode;
	int r = inode_detach(ws, inode, c->file);

	if (r < 0)
		return r;
	count(ws, forks);
	file_attach(ws, c->file, inode->successor);
	c->inode = inode->successor;
	pthread_mutex_lock(&inode->lock);
	for (struct link_name *link = inode->links; link; link = link->next)
		notify_entry(ws, link->parent, link->name);
	pthread_mutex_unlock(&inode->lock);
	notify_attr(ws, inode);
	return 0;
}

/* May somebody but w, who gets the lease now, store into this inode through a mapping? */
static bool others_may_store(struct change *c, const struct writer *from)
{
	const struct handle *h;
	bool others = false;

	if (!c->inode || c->removes || c->shape == CHANGE_WHOLE)
		return false; /* what they map goes with the old inode */
	if (__atomic_load_n(&c->inode->mappable, __ATOMIC_ACQUIRE) == 0)
		return false;
	list_for_each (h, &c->file->handles, node) {
		if (!h->mappable || h->by->writer == c->by->writer || h->inode != c->inode)
			continue; /* those of an older inode were left behind before */
		if (h->by->writer == from)
			return true; /* L6: his handles are fenced, and so are his mappings
				      */
		others = true;
	}
	return others && procscan_is_mapped(c->ws, c->file, c->inode->ino);
}

int gate_take_lease(struct change *c, enum lease_answer answer, int64_t now)
{
	struct file *f = c->file;
	struct writer *from = f->lease.holder;
	bool left_behind = false;
	uint64_t epoch;
	int r;

	f->linger_ns = 0;
	if (answer == LEASE_OURS) {
		lease_renew(&f->lease, now, f->rule.ttl_ns); /* L4: same epoch */
		return 0;
	}
	r = journal_next_epoch(c->ws->journal, &epoch);
	if (r < 0)
		return r;
	if (others_may_store(c, from)) {
		r = leave_mappings_behind(c);
		if (r < 0)
			return r;
		left_behind = !c->handle || c->handle->mappable;
	}
	fence_old_holder(f, from, c->by->writer, epoch);
	lease_grant(&f->lease, c->by->writer, epoch, now, f->rule.ttl_ns);
	f->linger_ns = 0;
	count(c->ws, grants);
	park_new_holder(c->ws, f, c->by->writer);
	if (answer == LEASE_LAPSED) {
		count(c->ws, takeovers);
		announce(c->ws, f, c->path, c->path_len, "takeover", c->by->writer, from);
	}
	if (!left_behind)
		return 0;
	/* By path: the kernel looks it up again and finds the fresh inode. Through a handle
	 * that may be mapped itself: it has to be opened again. */
	lease_end(&f->lease);
	return -ESTALE;
}
