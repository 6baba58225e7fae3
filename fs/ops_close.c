/* flush and fsync: where a writer hears what became of his change. */
#include "fs/durability.h"
#include "fs/ops.h"
#include "fs/pending.h"
#include "fs/procscan.h"
#include "fs/session.h"
#include "fs/vtree.h"

/* The verdict of what is pending through this handle, where it can be heard. *tells: the
 * kernel is being told of something that the caller must not overtake. */
static int resolve(
	struct workspace *ws, struct handle *h, fuse_req_t req, bool is_close, bool *tells)
{
	struct op op = {.ws = ws, .by = h->by, .req = req};
	auto_names *names = NULL;
	auto_buf path = {0};
	struct change c;
	struct file *f;
	int r = 0;

	*tells = false;
	if (!h->guarded || !h->writable)
		return 0;
	names = names_hold(&ws->names);
	f = file_lock_of(ws, h->inode);
	if (!f)
		return -ENOMEM;
	if (pending_fd(f, h) >= 0 && inode_path(inode_current(h->inode), &path) == 0) {
		c = change_of(&op, f, f->inode, h, CHANGE_TRUNCATING, "close", &path);
		/* A close of one descriptor of several (a child's, a dup) is no end yet. */
		if (!is_close || !procscan_has_open(ws, h->by->writer, f->inode->ino, true))
			r = pending_resolve(&c, true);
	} else if (f->session.by && f->session.dirty && gate_holds(f, h)) {
		*tells = session_mark_closed(ws, f, handle_fd(ws, h));
	}
	h->flushed = true;
	*tells |= h->mappable && h->fence == FENCE_REFUSED;
	file_unlock(f);
	file_put(ws, f);
	return r;
}

/* Where a mapping may have shown what was refused, now or by an msync before, its pages go
 * before the caller hears; and where the mtime was raised, nobody sees the old one after.
 */
static void reply_verdict(fuse_req_t req, bool tells, int r)
{
	if (!tells || !op_reply_after_notes(workspace_of(req), req, r))
		fuse_reply_err(req, -r);
}

static void do_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct workspace *ws = workspace_of(req);
	bool tells;
	int r;

	if (vtree_has(id)) {
		fuse_reply_err(req, 0);
		return;
	}
	r = resolve(ws, handle_of(fi), req, true, &tells);
	/* Back-pressure, where who writes feels it and nobody else does: the kernel holds
	 * no lock of a file or a folder here, and neither do we. */
	if (r == 0 && handle_of(fi)->guarded && handle_of(fi)->writable)
		journal_await_room(ws->journal);
	if (r == 0)
		r = durable_close(ws, handle_of(fi));
	reply_verdict(req, tells, r);
}

static void do_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
	struct workspace *ws = workspace_of(req);
	struct handle *h;
	bool tells;
	int r;

	if (vtree_has(id)) {
		fuse_reply_err(req, 0);
		return;
	}
	h = handle_of(fi);
	r = resolve(ws, h, req, false, &tells);
	if (r == 0)
		r = durable_file(ws, h, datasync);
	reply_verdict(req, tells, r);
}

void ops_install_close(struct fuse_lowlevel_ops *ops)
{
	ops->flush = do_flush;
	ops->fsync = do_fsync;
}
