#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "fs/creds.h"
#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/pending.h"
#include "fs/refuse.h"
#include "fs/session.h"
#include "fs/vtree.h"

/* ---- read ---- */

/* Where a handle reads: its writer's shadow while a change of it is pending, the old
 * copy once its inode was left to old mappings, else the file. */
static int reading_fd(struct workspace *ws, struct handle *h, bool is_call)
{
	int fd = -1;

	/* read(2) through direct io names its caller's descriptor table, a page fault does
	 * not: only that belongs to the old mapping. */
	if (inode_is_orphan(h->inode) && !is_call)
		return h->inode->orphan_fd;
	if (h->guarded && h->writable &&
		__atomic_load_n(&inode_current(h->inode)->has_pending, __ATOMIC_ACQUIRE)) {
		struct file *f = file_lock_of(ws, h->inode);

		fd = f ? pending_fd(f, h) : -1;
		if (fd >= 0)
			fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (f) {
			file_unlock(f);
			file_put(ws, f);
		}
	}
	return fd >= 0 ? fd : handle_fd(ws, h);
}

static void reply_read_into(fuse_req_t req, void *room, size_t size, int fd, off_t offset)
{
	ssize_t n;

	do
		n = pread(fd, room, size, offset);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_buf(req, room, (size_t)n);
}

static void do_read(
	fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct workspace *ws = workspace_of(req);
	struct fuse_bufvec data = FUSE_BUFVEC_INIT(size);
	struct inode *inode;
	struct handle *h;
	int fd, shadow = -1;
	void *room;

	if (vtree_has(id)) {
		vtree_read(req, fi, size, offset);
		return;
	}
	h = handle_of(fi);
	inode = h->inode;
	inode_ref(inode); /* once it is answered, the handle may be released */
	count(ws, reads);
	count_add(ws, bytes_read, size);
	/* A page that is read beside a write might keep the old bytes: the write looks at
	 * these two and drops the pages again. */
	__atomic_fetch_add(&inode->cached_reads, 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&inode->cached_read_seq, 1, __ATOMIC_SEQ_CST);
	fd = reading_fd(ws, h, fi->lock_owner != 0);
	if (fd < 0) {
		fuse_reply_err(req, -fd);
		goto out;
	}
	shadow = fd != h->fd && fd != inode->orphan_fd ? fd : -1;
	room = uring_room(ws->uring, size);
	if (room) {
		reply_read_into(req, room, size, fd, offset);
	} else {
		data.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
		data.buf[0].fd = fd;
		data.buf[0].pos = offset;
		fuse_reply_data(req, &data, 0);
	}
out:
	__atomic_fetch_sub(&inode->cached_reads, 1, __ATOMIC_SEQ_CST);
	if (shadow >= 0)
		close(shadow);
	inode_put(ws, inode);
}

/* ---- write ---- */

/* Among numbers of bytes what GATE_PARKED is among answers: the op is not ours any more. */
enum { BYTES_PARKED = INT_MIN };

static ssize_t write_all(int fd, const char *data, size_t size, off_t offset)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pwrite(fd, data + done, size - done, offset + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return done ? (ssize_t)done : -errno;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* The write is answered after the pages were dropped that may hold old bytes: those read
 * beside it (raced), and those of the inode that the path has now, where it came through
 * one that was left behind: the kernel knows of neither. Of its own inode a cached write
 * has pages locked, so that one is left alone. */
static bool reply_after_invalidation(
	struct op *op, struct inode *inode, bool raced, ssize_t size)
{
	struct inode *current = inode_current(inode);

	if (raced)
		notify_content(op->ws, inode);
	if (current != inode)
		notify_content(op->ws, current);
	return op_reply_after_notes(op->ws, op->req, size);
}

/* What was stored through a mapping has its place, whatever the descriptor is like. */
static bool is_append(const struct op *op, const struct handle *h)
{
	return h->append && !op->fi.writepage;
}

/* O_APPEND of the backing's descriptor would move it to the end. */
static ssize_t write_stored(const struct op *op, const struct handle *h)
{
	auto_close int fd = inode_open(op->ws, h->inode, O_WRONLY);

	return fd < 0 ? fd : write_all(fd, op->data, op->size, op->offset);
}

/* An orphan, or a file that nothing guards any more or yet. */
static ssize_t write_unguarded(struct op *op, struct handle *h)
{
	int fd = handle_fd(op->ws, h);

	if (fd < 0)
		return fd;
	if (!h->privilege_dropped) {
		creds_drop_privilege_bits(op, h->inode, fd);
		h->privilege_dropped = true; /* looked at once */
	}
	if (h->append && op->fi.writepage)
		return write_stored(op, h);
	return write_all(fd, op->data, op->size, op->offset);
}

static enum change_shape write_shape(const struct op *op, const struct handle *h)
{
	if (is_append(op, h))
		return CHANGE_APPEND;
	return op->offset == 0 ? CHANGE_REWRITING : CHANGE_BLIND;
}

static ssize_t write_pending(struct change *c)
{
	struct op *op = c->op;
	ssize_t n =
		write_all(pending_fd(c->file, c->handle), op->data, op->size, op->offset);
	int r;

	if (n <= 0)
		return n;
	lease_renew(&c->file->lease, workspace_now(op->ws), c->file->rule.ttl_ns);
	r = pending_wrote(c, (uint64_t)op->offset, (size_t)n);
	return r < 0 ? r : n;
}

/* Stores through a mapping come without a caller, through any descriptor that can write
 * this inode: they are the holder's if he can have one (see gate_prepare). */
static bool is_holders_mapping(const struct op *op, const struct file *f)
{
	const struct handle *h;

	if (!op->fi.writepage || !f->lease.holder || !f->session.by)
		return false;
	list_for_each (h, &f->handles, node)
		if (h->mappable && h->fence == FENCE_NONE &&
			h->by->writer == f->lease.holder)
			return true;
	return false;
}

/* The lease is held and its session has been judged: no need to ask again. */
static bool may_write_on(const struct file *f, const struct handle *h, bool appends)
{
	return gate_holds(f, h) && f->session.by && (f->session.judged || appends);
}

/* V6. What is appended lies behind all that was there, wherever the kernel thinks that is.
 */
static void note_write(const struct op *op, const struct handle *h, struct file *f)
{
	session_will_write(
		op->ws, f, is_append(op, h) ? INT64_MAX : (uint64_t)op->offset, op->size);
}

/* f is locked. The bytes written, BYTES_PARKED, or -errno. */
static ssize_t write_guarded(struct op *op, struct handle *h, struct file *f)
{
	auto_buf path = {0};
	struct change c;
	ssize_t n;
	int r;

	if ((may_write_on(f, h, is_append(op, h)) || is_holders_mapping(op, f)) &&
		!f->pending) {
		r = journal_health(op->ws->journal);
		if (r < 0)
			return r; /* V7 */
		session_mark_open(op->ws, f);
		note_write(op, h, f);
		n = write_unguarded(op, h);
		if (n > 0)
			f->session.dirty = true;
		h->flushed = false;
		/* L2: pages that are written back tell of stores made some time ago. */
		if (!op->fi.writepage)
			lease_renew(&f->lease, workspace_now(op->ws), f->rule.ttl_ns);
		return n;
	}
	if (inode_path(inode_current(h->inode), &path) <
		0) { /* unlinked: nobody else can see it */
		if (h->fence == FENCE_NONE)
			return write_unguarded(op, h);
		buf_puts(&path, "(removed)");
	}
	c = change_of(op, f, f->inode, h, write_shape(op, h), "write", &path);
	c.never_waits = true;
	if (pending_fd(f, h) >= 0 && h->fence == FENCE_NONE) {
		n = write_pending(&c);
		return n;
	}
	r = gate_enter(&c);
	if (r < 0 || r == GATE_PARKED)
		return r < 0 ? r : BYTES_PARKED;
	if (r == GATE_PENDING) {
		r = pending_begin(&c, false);
		n = r < 0 ? r : write_pending(&c);
	} else {
		note_write(op, h, f);
		c.noted = true;
		n = write_unguarded(op, h);
	}
	gate_leave(&c, n < 0 ? (int)n : 0);
	return n;
}

static void run_write(struct op *op)
{
	struct handle *h = handle_of(&op->fi);
	struct workspace *ws = op->ws;
	struct inode *inode = h->inode;
	uint32_t reads_before = __atomic_load_n(&inode->cached_read_seq, __ATOMIC_SEQ_CST);
	bool raced = __atomic_load_n(&inode->cached_reads, __ATOMIC_SEQ_CST) > 0, left;
	ssize_t n;

	count(op->ws, writes);
	if (inode_is_orphan(inode) && op->fi.writepage) {
		/* L6: what an old mapping stores reaches nobody */
		n = write_all(inode->orphan_fd, op->data, op->size, op->offset);
	} else if (!h->guarded) {
		n = write_unguarded(op, h);
	} else {
		auto_names *names = NULL;
		struct file *f;

		/* Through the page cache the page is locked now: flushing would wait for
		 * us. */
		if (handle_is_direct(h) && !op->fi.writepage && h->mappable)
			gate_prepare(op->ws, inode, h->by);
		names = names_hold(&ws->names);
		f = file_lock_of(op->ws, inode);
		n = f ? write_guarded(op, h, f) : -ENOMEM;
		if (f) {
			file_unlock(f);
			file_put(ws, f);
		}
	}
	if (n == BYTES_PARKED)
		return;
	if (n < 0) {
		if (op->fi.writepage)
			notify_content(
				op->ws, inode); /* the pages show what is not there */
		op_reply_err(op, (int)-n);
		return;
	}
	count_add(op->ws, bytes_written, (uint64_t)n);
	raced |= reads_before != __atomic_load_n(&inode->cached_read_seq, __ATOMIC_SEQ_CST);
	raced = raced && handle_is_direct(h);
	/* An old mapping's stores reach nobody, but where the inode is a twin's. */
	left = inode_is_detached(inode) && !(inode_is_orphan(inode) && op->fi.writepage);
	if (left && op->fi.writepage) /* pages of it are locked: nobody waits */
		notify_content(op->ws, inode_current(inode));
	if (!(raced || left) || op->fi.writepage ||
		!reply_after_invalidation(op, inode, raced, n))
		fuse_reply_write(op->req, (size_t)n);
	op_end(op);
}

static void do_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t size,
	off_t offset, struct fuse_file_info *fi)
{
	struct op op = op_begin(req, run_write);

	if (vtree_has(id)) {
		vtree_write(req, fi, data, size);
		return;
	}
	op.ino = id;
	op.data = data;
	op.size = size;
	op.offset = offset;
	op.fi = *fi;
	run_write(&op);
}

/* ---- changes that are not writes: fallocate, copy_file_range ---- */

typedef ssize_t act_fn(struct op *op, int fd);

/* Run act through the gate on handle h. What it returns, BYTES_PARKED, or -errno. */
static ssize_t change_through(struct op *op, struct handle *h, enum change_shape shape,
	const char *asked, act_fn *act)
{
	/* What else fallocate can do moves bytes about. */
	const int in_place =
		FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
	struct workspace *ws = op->ws;
	auto_names *names = NULL;
	struct file *f;
	auto_buf path = {0};
	struct change c;
	ssize_t n;
	int r;

	if (!h->guarded)
		return (n = handle_fd(op->ws, h)) < 0 ? n : act(op, (int)n);
	names = names_hold(&ws->names);
	gate_prepare(op->ws, h->inode, h->by);
	f = file_lock_of(op->ws, h->inode);
	if (!f)
		return -ENOMEM;
	if (inode_path(inode_current(h->inode), &path) < 0 && h->fence == FENCE_NONE) {
		n = act(op, h->fd);
		goto out;
	}
	c = change_of(op, f, f->inode, h, shape, asked, &path);
	c.never_waits = true;
	if (pending_fd(f, h) >= 0 && h->fence == FENCE_NONE) {
		n = act(op, pending_fd(f, h));
		if (n > 0) {
			r = pending_wrote(&c, (uint64_t)op->offset, (size_t)n);
			n = r < 0 ? r : n;
		}
		goto out;
	}
	if (!may_write_on(f, h, false)) {
		r = gate_enter(&c);
		n = r == GATE_PARKED ? BYTES_PARKED : r;
		if (n < 0)
			goto out;
		if (r == GATE_PENDING) {
			r = pending_begin(&c, false);
			n = r < 0 ? r : act(op, pending_fd(f, h));
			if (n > 0) {
				r = pending_wrote(&c, (uint64_t)op->offset, (size_t)n);
				n = r < 0 ? r : n;
			}
			gate_leave(&c, n < 0 ? (int)n : 0);
			goto out;
		}
	} else {
		session_mark_open(op->ws, f);
		c.guarded = true;
	}
	if (!(op->flags & ~in_place)) {
		session_will_write(ws, f, (uint64_t)op->offset, op->size);
		c.noted = true;
	}
	n = act(op, h->fd);
	gate_leave(&c, n < 0 ? (int)n : 0);
out:
	file_unlock(f);
	file_put(ws, f);
	return n;
}

static ssize_t act_fallocate(struct op *op, int fd)
{
	creds_drop_privilege_bits(op, inode_of(op->ws, op->ino), fd);
	return fallocate(fd, op->flags, op->offset, (off_t)op->size) < 0 ? -errno : 0;
}

static void run_fallocate(struct op *op)
{
	struct handle *h = handle_of(&op->fi);
	ssize_t r = change_through(op, h, CHANGE_BLIND, "fallocate", act_fallocate);

	if (r == BYTES_PARKED)
		return;
	if (r == 0 && (op->flags & FALLOC_FL_PUNCH_HOLE))
		notify_content(op->ws, h->inode);
	if (r == 0)
		notify_successor(op->ws, h->inode);
	op_reply_err(op, r < 0 ? (int)-r : 0);
}

static void do_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t offset,
	off_t length, struct fuse_file_info *fi)
{
	struct op op = op_begin(req, run_fallocate);

	if (op_refuse_virtual(req, id))
		return;
	op.ino = id;
	op.flags = mode;
	op.offset = offset;
	op.size = (size_t)length;
	op.fi = *fi;
	run_fallocate(&op);
}

static ssize_t act_copy(struct op *op, int fd)
{
	int from = handle_fd(op->ws, handle_of(&op->fi_in));
	off_t in = op->offset_in, out = op->offset;
	ssize_t n;

	if (from < 0)
		return from;
	creds_drop_privilege_bits(op, inode_of(op->ws, op->ino), fd);
	n = copy_file_range(from, &in, fd, &out, op->size, 0);
	return n < 0 ? -errno : n;
}

static void run_copy(struct op *op)
{
	struct handle *h = handle_of(&op->fi);
	ssize_t n = change_through(op, h, write_shape(op, h), "write", act_copy);

	if (n == BYTES_PARKED)
		return;
	if (n < 0) {
		op_reply_err(op, (int)-n);
		return;
	}
	if (__atomic_load_n(&h->inode->cached_read_seq, __ATOMIC_RELAXED))
		notify_content(op->ws, h->inode);
	notify_successor(op->ws, h->inode);
	fuse_reply_write(op->req, (size_t)n);
	op_end(op);
}

static void do_copy_file_range(fuse_req_t req, fuse_ino_t id_in, off_t offset_in,
	struct fuse_file_info *fi_in, fuse_ino_t id_out, off_t offset_out,
	struct fuse_file_info *fi_out, size_t size, int flags)
{
	struct op op = op_begin(req, run_copy);

	(void)flags;
	if (vtree_has(id_in) || vtree_has(id_out)) {
		fuse_reply_err(req, EXDEV); /* the caller copies by reading and writing */
		return;
	}
	op.ino_in = id_in;
	op.offset_in = offset_in;
	op.fi_in = *fi_in;
	op.ino = id_out;
	op.offset = offset_out;
	op.fi = *fi_out;
	op.size = size;
	run_copy(&op);
}

/* ---- lseek ---- */

static void do_lseek(
	fuse_req_t req, fuse_ino_t id, off_t offset, int whence, struct fuse_file_info *fi)
{
	struct inode *inode;
	off_t at;
	int fd;

	if (vtree_has(id)) {
		vtree_lseek(req, fi, offset, whence);
		return;
	}
	/* Where the backing has a hole there may be data that was stored through a mapping.
	 */
	inode = inode_of(workspace_of(req), id);
	if (__atomic_load_n(&inode->mappable, __ATOMIC_ACQUIRE) > 0)
		notify_flush_pages(workspace_of(req), inode);
	fd = handle_fd(workspace_of(req), handle_of(fi));
	at = fd < 0 ? -1 : lseek(fd, offset, whence);
	if (at >= 0)
		fuse_reply_lseek(req, at);
	else
		fuse_reply_err(req, fd < 0 ? -fd : errno);
}

void ops_install_io(struct fuse_lowlevel_ops *ops)
{
	ops->read = do_read;
	ops->write = do_write;
	ops->fallocate = do_fallocate;
	ops->copy_file_range = do_copy_file_range;
	ops->lseek = do_lseek;
}
