#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "fs/behind.h"
#include "fs/creds.h"
#include "fs/external.h"
#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/pending.h"
#include "fs/session.h"
#include "fs/vtree.h"
#include "fs/wire.h"

struct change change_of(struct op *op, struct file *f, struct inode *inode,
	struct handle *h, enum change_shape shape, const char *asked,
	const struct buf *path)
{
	return (struct change){
		.ws = op->ws,
		.op = op,
		.by = h ? h->by : op_by(op), /* W3: who opened it */
		.file = f,
		.inode = inode,
		.handle = h,
		.shape = shape,
		.asked = asked,
		.path = path->data ? path->data : "",
		.path_len = path->len,
		.intent = INTENT_WRITE,
		.new_fd = -1,
	};
}

/* ---- open ---- */

static void reply_open(struct op *op, struct handle *h)
{
	struct workspace *ws = op->ws;

	handle_describe(ws, h, &op->fi);
	if (wire_reply_open(op->req, &op->fi, h->backing_id) < 0)
		handle_discard(ws, h);
	op_end(op);
}

/* Answer with the handle, or -errno; no lock is held. */
static void answer_open(struct op *op, struct handle *h, int r)
{
	if (r == 0)
		reply_open(op, h);
	else
		op_reply_err(op, -r);
}

static uid_t uid_of(const struct op *op)
{
	return fuse_req_ctx(op->req)->uid;
}

/* Before anything is done: who has his share of open files gets no more. */
static bool refuse_one_more(fuse_req_t req)
{
	struct shares *shares = &workspace_of(req)->shares;

	if (shares_has_room(shares, SHARE_FILES, fuse_req_ctx(req)->uid))
		return false;
	fuse_reply_err(req, ENFILE);
	return true;
}

static void open_unguarded(struct op *op, struct inode *inode)
{
	struct handle *h;
	struct stat st;
	int r = handle_new(op->ws, inode, NULL, NULL, uid_of(op), -1, op->fi.flags, &h);

	if (r == 0) {
		h->drops_bits = h->writable && fuse_req_ctx(op->req)->uid != 0 &&
				inode_stat(op->ws, inode, &st) == 0 &&
				creds_write_drops_bits(op->req, &st);
		/* Where the kernel reads and writes by itself, no descriptor of ours is
		 * needed. */
		r = passthrough_choose(op->ws, h, op->fi.flags);
		if (r == 0 && (h->io != IO_PASS || (op->fi.flags & O_TRUNC)))
			r = handle_open_fd(op->ws, h, op->fi.flags & O_TRUNC);
		if (r == 0 && (op->fi.flags & O_TRUNC))
			creds_drop_privilege_bits(op, inode, h->fd);
		if (r < 0)
			handle_discard(op->ws, h);
	}
	answer_open(op, h, r);
}

/* S7: an O_TRUNC that passed becomes real here; a pending one does not touch the file. */
static int truncate_now(struct change *c, const struct handle *h)
{
	auto_close int own = -1;
	struct stat st;

	if (fstat(h->fd, &st) < 0)
		return -errno;
	c->noted = true;
	creds_drop_privilege_bits(c->op, c->inode, h->fd);
	if (st.st_size == 0)
		return 0;
	session_will_resize(c->ws, c->file, 0);
	if (h->writable)
		return ftruncate(h->fd, 0) < 0 ? -errno : 0;
	own = inode_open(c->ws, c->inode, O_WRONLY); /* O_RDONLY | O_TRUNC */
	if (own < 0)
		return own;
	return ftruncate(own, 0) < 0 ? -errno : 0;
}

/* The gate has let the open through: the file is locked. 0, or -errno. */
static int open_entered(struct op *op, struct change *c, int answer, struct handle **out)
{
	bool truncates = op->fi.flags & O_TRUNC;
	int r = handle_new(
		op->ws, c->inode, c->file, c->by, uid_of(op), -1, op->fi.flags, out);

	if (r < 0)
		return r;
	r = handle_open_fd(op->ws, *out, 0);
	if (r == 0)
		r = passthrough_choose(op->ws, *out, op->fi.flags);
	if (r < 0)
		;
	else if (answer == GATE_PENDING)
		r = pending_begin(c, true);
	else if (truncates)
		r = truncate_now(c, *out);
	if (r < 0) {
		handle_remove(*out);
		return r;
	}
	if (gate_holds(c->file, *out) || c->file->lease.holder == c->by->writer)
		(*out)->epoch = c->file->lease.epoch;
	return 0;
}

static int open_for_change(struct op *op, struct inode *inode, struct file *f,
	const struct buf *path, struct handle **out)
{
	int flags = op->fi.flags;
	struct change c = change_of(op, f, inode, NULL, CHANGE_BLIND, "open", path);
	int answer, r;

	if (flags & O_TRUNC)
		c.shape = handle_may_write(flags) ? CHANGE_TRUNCATING : CHANGE_BLIND;
	else if (flags & O_APPEND)
		c.shape = CHANGE_APPEND;
	else
		c.keeps_content = true; /* what it writes is judged when it writes */
	c.nonblock = flags & O_NONBLOCK;
	answer = gate_enter(&c);
	if (answer < 0 || answer == GATE_PARKED)
		return answer;
	r = open_entered(op, &c, answer, out);
	if (r == 0 && (*out)->readable && !(flags & O_TRUNC))
		gate_observe(op->ws, f, op_by(op));
	c.keeps_content = !(flags & O_TRUNC);
	gate_leave(&c, r);
	if (r < 0 && *out) {
		handle_free(op->ws, *out);
		*out = NULL;
	}
	return r;
}

/* What a reader is about to see must have a version, for he knows it from then on. He
 * reads all the same where the journal cannot say. -ESTALE: the path has another inode. */
static int find_outside(struct op *op, struct inode *inode, struct file *f,
	struct buf *path, bool *changed, int64_t *size)
{
	struct stat st;
	int r = 0;

	*changed = false;
	if (external_is_as_known(op->ws, f, size))
		return 0;
	*size = -1;
	if (!path->data)
		r = inode_path(inode, path);
	if (r == 0)
		r = file_load_head(op->ws, f, path->data, path->len);
	if (r == 0)
		r = external_check(op->ws, f, path->data, path->len, EXTERNAL_GLANCE, &st);
	*changed = r == EXTERNAL_FOUND;
	return r == -ESTALE ? r : 0;
}

static int open_for_reading(struct op *op, struct inode *inode, struct file *f,
	struct buf *path, struct handle **out)
{
	bool changed;
	int64_t size;
	int r = find_outside(op, inode, f, path, &changed, &size);

	/* V1: once this one is open as well, nobody can tell whether the earlier one is
	 * closed. Where it cannot be recorded now, it is with the next. */
	if (r == 0 && handle_may_write(op->fi.flags))
		(void)!session_settle(op->ws, f);
	if (r == 0)
		r = handle_new(
			op->ws, inode, f, op_by(op), uid_of(op), -1, op->fi.flags, out);
	if (r < 0)
		return r;
	(*out)->drop_pages = changed;
	(*out)->size_seen = size;
	(*out)->shuns_passing = f->opened_for_both;
	r = passthrough_choose(op->ws, *out, op->fi.flags);
	if (r == 0 && !handle_opens_later(op->ws, *out))
		r = handle_open_fd(op->ws, *out, 0);
	if (r < 0) {
		handle_remove(*out);
		handle_free(op->ws, *out);
		*out = NULL;
		return r;
	}
	gate_observe(op->ws, f, op_by(op));
	return 0;
}

/* What could be mapped shared and writable cannot join descriptors through which the kernel
 * reads by itself: it gets an inode of its own, which the kernel finds after an ESTALE. */
static int leave_to_readers(struct op *op, struct file *f, struct inode *inode)
{
	if ((op->fi.flags & O_ACCMODE) != O_RDWR)
		return 0;
	/* From now on no reader gets in his way again: ESTALE would reach the caller. */
	f->opened_for_both = true;
	if (!passthrough_excludes_mapping(inode))
		return 0;
	if (inode_twin(op->ws, inode, f) < 0)
		return -ENOMEM;
	count(op->ws, twins);
	file_attach(op->ws, f, inode->successor);
	notify_attr(op->ws, inode);
	return -ESTALE;
}

/* The name that led here went to another file while this request was on its way: ESTALE
 * makes the kernel walk the path again. Who comes again with the same inode has it from
 * elsewhere (/proc/self/fd) and means it. */
static bool overtaken_by_removal(struct op *op, struct inode *inode)
{
	int tid = fuse_req_ctx(op->req)->pid;

	if (__atomic_exchange_n(&inode->gone_opener, tid, __ATOMIC_RELAXED) != tid)
		return true;
	__atomic_store_n(&inode->gone_opener, 0, __ATOMIC_RELAXED);
	return false;
}

static void open_nameless(struct op *op, struct inode *inode)
{
	if (handle_may_write(op->fi.flags) && overtaken_by_removal(op, inode))
		op_reply_err(op, ESTALE);
	else
		open_unguarded(op, inode);
}

/* A holder whose lease has lapsed may store through a mapping: whoever opens the file to
 * write takes it over at once, so that his own mapping is of the inode that counts (L6). */
static bool takes_over_mappings(struct op *op, const struct file *f)
{
	const struct handle *h;

	if (!handle_may_write(op->fi.flags) || !f->lease.holder ||
		f->rule.mode == MODE_TRACK ||
		lease_ask(&f->lease, op_by(op)->writer, workspace_now(op->ws)) !=
			LEASE_LAPSED)
		return false;
	list_for_each (h, &f->handles, node)
		if (h->mappable && h->by->writer == f->lease.holder)
			return true;
	return false;
}

/* f is locked, and so are its names. 0 and *h, GATE_PARKED, or -errno. */
static int open_guarded(struct op *op, struct inode *inode, struct file *f,
	struct buf *path, struct handle **h)
{
	bool changes = (op->fi.flags & O_TRUNC) || (op->fi.flags & O_ACCMODE) == O_WRONLY;
	int r = leave_to_readers(op, f, inode);

	if (r < 0)
		return r;
	changes |= takes_over_mappings(op, f);
	r = changes ? open_for_change(op, inode, f, path, h)
		    : open_for_reading(op, inode, f, path, h);
	/* The kernel takes a truncating open for done and thinks the file empty. */
	if (*h && f->pending)
		notify_attr(op->ws, inode);
	return r;
}

/* f is locked, so no name goes now. The rule for it, and its path where somebody will ask
 * for that: readers of a file whose rule is known do not. -errno: it has no name. */
static int look_up_rule(
	struct op *op, struct inode *inode, struct file *f, struct buf *path)
{
	int r;

	if (!handle_may_write(op->fi.flags) && !(op->fi.flags & O_TRUNC) &&
		file_rule_is_known(op->ws, f))
		return inode_has_links(inode) ? 0 : -ENOENT;
	r = inode_path(inode, path);
	if (r == 0)
		file_rule(op->ws, f, path->data, path->len);
	return r;
}

static void open_by_path(struct op *op)
{
	struct workspace *ws = op->ws;
	struct inode *inode = inode_of(ws, op->ino);
	struct handle *h = NULL;
	auto_buf path = {0};
	struct file *f;
	int r;

	if (inode_is_detached(inode)) {
		op_reply_err(op, ESTALE); /* the kernel looks the path up again */
		return;
	}
	if (!S_ISREG(inode->type)) {
		open_unguarded(op, inode);
		return;
	}
	gate_prepare(ws, inode, op_by(op));
	f = handle_may_write(op->fi.flags) || (op->fi.flags & O_TRUNC)
		    ? file_lock_of(ws, inode)
		    : file_lock_to_look(ws, inode);
	if (!f) {
		op_reply_err(op, ENOMEM);
		return;
	}
	if (f->inode != inode) { /* while this one waited for the lock */
		park_leave_queue(op);
		file_unlock(f);
		file_put(ws, f);
		op_reply_err(op, ESTALE);
		return;
	}
	r = look_up_rule(op, inode, f, &path);
	if (r < 0 || f->rule.mode == MODE_PASS) {
		park_leave_queue(op);
		file_unlock(f);
		file_put(ws, f);
		if (r < 0)
			open_nameless(op, inode);
		else
			open_unguarded(op, inode);
		return;
	}
	r = open_guarded(op, inode, f, &path, &h);
	file_unlock(f); /* a parked op may be gone from here on */
	file_put(ws, f);
	if (r != GATE_PARKED)
		answer_open(op, h, r);
}

static void run_open(struct op *op)
{
	auto_names *names = names_hold(&op->ws->names);

	open_by_path(op);
}

static void do_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct op op = op_begin(req, run_open);

	if (vtree_has(id)) {
		vtree_open(req, id, fi);
		return;
	}
	if (refuse_one_more(req))
		return;
	op.ino = id;
	op.fi = *fi;
	run_open(&op);
}

/* ---- create ---- */

/* Make the file in the backing as the caller; *fd to write through, *at O_PATH. */
static int create_backing(struct op *op, struct inode *parent, int *fd, int *at)
{
	int flags = handle_backing_flags(op->fi.flags) | O_CLOEXEC, dirfd, r;
	struct creds creds;

	/* Who makes a file may open it in any way: what is written is captured with it. */
	if ((flags & O_ACCMODE) == O_WRONLY)
		flags = (flags & ~O_ACCMODE) | O_RDWR;

	dirfd = inode_fd_get(op->ws, parent);
	if (dirfd < 0)
		return dirfd;
	r = creds_assume(op->ws, op->req, &creds);
	if (r == 0) {
		mode_t mode = creds_mode(op->ws, op->req, parent, dirfd, op->mode);

		if (op->fi.flags & __O_TMPFILE)
			*fd = openat(dirfd, ".", flags | O_TMPFILE, mode);
		else
			*fd = openat(dirfd, op->name, flags | O_CREAT | O_EXCL, mode);
		r = *fd < 0 ? -errno : 0;
		creds_restore(&creds);
	}
	if (r == 0) {
		char path[64];

		snprintf(path, sizeof(path), "self/fd/%d", *fd);
		*at = openat(op->ws->proc_fd, path, O_PATH | O_CLOEXEC);
		if (*at < 0) {
			r = -errno;
			close(*fd);
		}
	}
	inode_fd_put(parent);
	/* It was made round the mount, or by a request that overtook this one: ESTALE
	 * makes the kernel look again and open what is there. */
	if (r == -EEXIST && !(op->fi.flags & O_EXCL))
		r = -ESTALE;
	return r;
}

static void reply_create(
	struct op *op, struct inode *inode, const struct stat *st, struct handle *h)
{
	struct fuse_entry_param e;

	entry_fill(op->ws, inode, st, &e);
	handle_describe(op->ws, h, &op->fi);
	if (wire_reply_create(op->req, &e, &op->fi, h->backing_id) < 0) {
		handle_discard(op->ws, h);
		inode_forget(op->ws, inode, 1);
	}
	op_end(op);
}

/* The new file, its inode and a handle. f: NULL where nothing guards it. */
static int create_entered(struct op *op, struct inode *parent, struct file *f,
	struct inode **inode, struct stat *st, struct handle **h)
{
	bool named = !(op->fi.flags & __O_TMPFILE);
	int fd = -1, at = -1, r = create_backing(op, parent, &fd, &at);

	if (r < 0)
		return r;
	r = inode_add(op->ws, parent, named ? op->name : NULL, at, inode, st);
	if (r < 0) {
		close(fd);
		return r;
	}
	if (f)
		file_attach(op->ws, f, *inode);
	r = handle_new(
		op->ws, *inode, f, f ? op_by(op) : NULL, uid_of(op), fd, op->fi.flags, h);
	if (r < 0) {
		close(fd);
		inode_forget(op->ws, *inode, 1);
		return r;
	}
	if (f) {
		(*h)->epoch = f->lease.epoch;
		handle_reads_back(*h);
	}
	r = passthrough_choose(op->ws, *h, op->fi.flags);
	if (r < 0) { /* a number of the backing's that came back at once */
		if (f)
			handle_remove(*h);
		handle_free(op->ws, *h);
		inode_forget(op->ws, *inode, 1);
	}
	return r;
}

static void create_unguarded(struct op *op, struct inode *parent)
{
	struct inode *inode;
	struct handle *h;
	struct stat st;
	int r = create_entered(op, parent, NULL, &inode, &st, &h);

	if (r < 0)
		op_reply_err(op, -r);
	else
		reply_create(op, inode, &st, h);
}

static void create_by_path(struct op *op)
{
	struct workspace *ws = op->ws;
	struct inode *parent = inode_of(ws, op->ino), *inode;
	auto_buf path = {0};
	struct handle *h;
	struct change c;
	struct stat st;
	struct file *f;
	int r;

	if ((op->fi.flags & __O_TMPFILE) || inode_child_path(parent, op->name, &path) < 0) {
		create_unguarded(op, parent);
		return;
	}
	f = file_of_name(op->ws, parent, op->name);
	if (!f) {
		op_reply_err(op, ENOMEM);
		return;
	}
	pthread_mutex_lock(&f->lock);
	c = change_of(op, f, NULL, NULL, CHANGE_TRUNCATING, "create", &path);
	c.parent = parent;
	c.name = op->name;
	c.nonblock = op->fi.flags & O_NONBLOCK;
	r = gate_enter(&c);
	if (r == GATE_UNGUARDED) {
		file_unlock(f);
		file_put(op->ws, f);
		create_unguarded(op, parent);
		return;
	}
	if (r == GATE_GO) {
		r = create_entered(op, parent, f, &inode, &st, &h);
		gate_leave(&c, r);
	}
	file_give_back(ws, f, parent, path_name(&path)); /* op may be gone from here on */
	if (r == GATE_PARKED)
		return;
	if (r < 0)
		op_reply_err(op, -r);
	else
		reply_create(op, inode, &st, h);
}

static void run_create(struct op *op)
{
	auto_names *names = names_hold(&op->ws->names);

	create_by_path(op);
}

static void do_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	struct fuse_file_info *fi)
{
	struct op op = op_begin(req, run_create);

	if (op_refuse_virtual(req, parent))
		return;
	if (is_stomp_entry(parent, name)) {
		fuse_reply_err(req, EEXIST);
		return;
	}
	if (refuse_one_more(req))
		return;
	op.ino = parent;
	op.name = name;
	op.mode = mode;
	op.fi = *fi;
	run_create(&op);
}

/* ---- release ---- */

/* The last one of a pending change is gone: now or never (S7). */
static void settle_pending(struct workspace *ws, struct file *f, struct handle *h)
{
	auto_buf path = {0};
	struct op none = {.ws = ws, .by = h->by};
	struct handle *other;
	struct change c;

	list_for_each (other, &f->handles, node)
		if (other->writable && pending_is_of(f->pending, other->by->writer))
			return;
	if (inode_path(inode_current(h->inode), &path) < 0)
		return;
	c = change_of(&none, f, f->inode, h, CHANGE_TRUNCATING, "close", &path);
	c.op = NULL;
	if (pending_is_of(f->pending, h->by->writer))
		(void)!pending_resolve(&c, false);
}

/* V1: the end of a session, where its content is large: nobody waits for that, but whoever
 * changes the file. */
static bool is_captured_behind(struct workspace *ws, struct file *f)
{
	if (f->behind)
		return true;
	return f->lease.holder && !gate_has_writable_handle(f, f->lease.holder) &&
	       behind_begin(ws, f);
}

/* The handle is of no use any more, and perhaps the lease neither. */
static void leave_file(struct workspace *ws, struct handle *h)
{
	auto_names *names = names_hold(&ws->names);
	struct file *f = file_lock_to_look(ws, h->inode);

	if (!f)
		return;
	handle_remove(h);
	f->closing = h;
	if (h->writable && f->pending)
		settle_pending(ws, f, h);
	if (h->writable && !is_captured_behind(ws, f))
		gate_maybe_end_lease(ws, f);
	f->closing = NULL;
	file_unlock(f);
	file_put(ws, f);
}

static void do_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct workspace *ws = workspace_of(req);
	struct handle *h;

	if (vtree_has(id)) {
		vtree_release(req, fi);
		return;
	}
	h = handle_of(fi);
	if (h->guarded)
		leave_file(ws, h);
	handle_free(ws, h);
	fuse_reply_err(req, 0);
}

void ops_install_open(struct fuse_lowlevel_ops *ops)
{
	ops->open = do_open;
	ops->create = do_create;
	ops->release = do_release;
}
