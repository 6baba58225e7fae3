#include <fcntl.h>
#include <string.h>

#include "fs/durability.h"
#include "fs/ops.h"
#include "fs/session.h"

/* Unlink and rmdir check no owner rules here: default_permissions has done it. */
static int remove_backing(struct op *op, struct inode *parent, int flags)
{
	int dirfd = inode_fd_get(op->ws, parent), r;

	if (dirfd < 0)
		return dirfd;
	r = unlinkat(dirfd, op->name, flags) < 0 ? -errno : 0;
	inode_fd_put(parent);
	return r;
}

/* The last name is gone: the file stands for a path where nothing is. */
static int remove_last(struct removal *rm, struct file *f)
{
	struct op *op = rm->op;
	struct version v = {
		.kind = VERSION_DELETE,
		.epoch = f->lease.epoch,
		.base_number = f->head.number,
	};
	int r = rm->act(rm);

	if (r < 0)
		return r;
	gate_fence_others(f, op_by(op)->writer);
	inode_link_remove(op->ws, rm->inode, rm->parent, rm->name);
	(void)!file_leave_inode(op->ws, f);
	return session_record(
		op->ws, f, op_by(op), rm->path->data, rm->path->len, NULL, &v, NULL);
}

/* One of several names is gone: its path has an end, the file goes on under another. */
static int remove_one_of_several(struct removal *rm, struct file *f)
{
	struct op *op = rm->op;
	const struct buf *path = rm->path;
	struct version v = {.kind = VERSION_DELETE, .epoch = f->lease.epoch};
	struct file *name = file_of_name(op->ws, rm->parent, rm->name);
	const struct head lost = f->head;
	int r;

	if (!name)
		return -ENOMEM;
	pthread_mutex_lock(&name->lock);
	/* What f has told of this name is in the journal, not in what was parked. */
	r = journal_wait(op->ws->journal, f->submitted_seq);
	if (r == 0)
		r = journal_wait(op->ws->journal, name->submitted_seq);
	name->head.loaded = false;
	if (r == 0)
		r = file_load_head(op->ws, name, path->data, path->len);
	if (r == 0)
		r = rm->act(rm);
	if (r == 0) {
		inode_link_remove(op->ws, rm->inode, rm->parent, rm->name);
		r = session_record(
			op->ws, name, op_by(op), path->data, path->len, NULL, &v, NULL);
	}
	if (r == 0)
		r = record_other_name(op, f, rm->inode, path, &lost);
	file_unlock(name);
	file_park(op->ws, name, rm->parent, rm->name);
	return r;
}

static int remove_locked(struct removal *rm, struct file *f)
{
	struct op *op = rm->op;
	struct change c =
		change_of(op, f, rm->inode, NULL, CHANGE_BLIND, rm->asked, rm->path);
	int r;

	inode_keep(op->ws, rm->inode);
	c.intent = INTENT_UNLINK;
	c.removes = true;
	r = gate_enter(&c);
	if (r < 0 || r == GATE_PARKED)
		return r;
	if (r == GATE_UNGUARDED) {
		r = rm->act(rm);
		if (r == 0)
			inode_link_remove(op->ws, rm->inode, rm->parent, rm->name);
		return r;
	}
	r = session_checkpoint(op->ws, f, 0);
	if (r == 0)
		r = rm->nlink > 1 ? remove_one_of_several(rm, f) : remove_last(rm, f);
	gate_leave(&c, r);
	return r;
}

int remove_name(struct removal *rm)
{
	struct workspace *ws = rm->op->ws;
	struct inode *parent = rm->parent;
	struct rule rule;
	struct file *f;
	int r;

	gate_prepare(ws, rm->inode, op_by(rm->op));
	f = file_lock_of(ws, rm->inode);
	if (!f)
		return -ENOMEM;
	r = remove_locked(rm, f);
	if (r == 0 && !f->inode) {
		file_ref(f);
		file_park(ws, f, parent, rm->name);
	}
	rule = f->rule;
	file_unlock(f); /* a parked op may be gone from here on */
	file_put(ws, f);
	return r ? r : durable_name(ws, parent, &rule);
}

static int act_unlink(struct removal *rm)
{
	return remove_backing(rm->op, rm->parent, 0);
}

static void run_unlink(struct op *op)
{
	struct workspace *ws = op->ws;
	auto_names *names = names_hold(&ws->names);
	struct inode *parent = inode_of(ws, op->ino), *inode;
	auto_buf path = {0};
	struct removal rm = {
		.op = op,
		.parent = parent,
		.name = op->name,
		.path = &path,
		.asked = "unlink",
		.act = act_unlink,
	};
	struct stat st;
	int r = inode_lookup(ws, parent, op->name, &inode, &st);

	if (r < 0) {
		op_reply_err(op, -r);
		return;
	}
	if (S_ISREG(inode->type) || S_ISLNK(inode->type)) {
		r = inode_child_path(parent, op->name, &path);
		rm.inode = inode;
		rm.nlink = st.st_nlink;
		if (r == 0)
			r = remove_name(&rm);
	} else {
		inode_keep(ws, inode);
		r = remove_backing(op, parent, 0);
		if (r == 0)
			inode_link_remove(op->ws, inode, parent, op->name);
	}
	inode_forget(ws, inode, 1);
	if (r == GATE_PARKED)
		return;
	op_reply_err(op, -r);
}

static void do_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct op op = op_begin(req, run_unlink);

	if (op_refuse_virtual(req, parent))
		return;
	if (is_stomp_entry(parent, name)) {
		fuse_reply_err(req, EPERM);
		return;
	}
	op.ino = parent;
	op.name = name;
	run_unlink(&op);
}

int record_rmdir(struct op *op, struct inode *parent, const char *name,
	const struct buf *path, const struct stat *st, uint64_t seq)
{
	struct version v = {.kind = VERSION_RMDIR, .seq = seq};
	struct file *f = file_of_name(op->ws, parent, name);
	int r = 0;

	if (!f)
		return -ENOMEM;
	pthread_mutex_lock(&f->lock);
	if (file_rule(op->ws, f, path->data, path->len)->mode != MODE_PASS) {
		r = file_load_head(op->ws, f, path->data, path->len);
		if (r == 0)
			r = session_record(
				op->ws, f, op_by(op), path->data, path->len, st, &v, NULL);
		if (r == 0)
			session_await_row(op->ws, v.seq);
	}
	file_unlock(f);
	file_park(op->ws, f, parent, name);
	return r;
}

static void do_rmdir(fuse_req_t req, fuse_ino_t parent_id, const char *name)
{
	struct op op = op_begin(req, NULL);
	auto_names *names = names_hold(&op.ws->names);
	struct inode *parent, *inode;
	auto_buf path = {0};
	struct stat st;
	int r;

	if (op_refuse_virtual(req, parent_id))
		return;
	if (is_stomp_entry(parent_id, name)) {
		fuse_reply_err(req, EPERM);
		return;
	}
	op.name = name;
	parent = inode_of(op.ws, parent_id);
	r = inode_lookup(op.ws, parent, name, &inode, &st);
	if (r == 0) {
		r = journal_health(op.ws->journal);
		if (r == 0)
			r = inode_child_path(parent, name, &path);
		if (r == 0)
			r = gate_check_folder(&op, &path, "unlink");
		if (r == 0)
			r = remove_backing(&op, parent, AT_REMOVEDIR);
		if (r == 0) {
			inode_link_remove(op.ws, inode, parent, name);
			r = record_rmdir(&op, parent, name, &path, &st, 0);
		}
		inode_forget(op.ws, inode, 1);
	}
	op_reply_err(&op, -r);
}

void ops_install_remove(struct fuse_lowlevel_ops *ops)
{
	ops->unlink = do_unlink;
	ops->rmdir = do_rmdir;
}
