#include <string.h>
#include <sys/statvfs.h>

#include "fs/ops.h"
#include "fs/vtree.h"

double attr_timeout(struct workspace *ws, struct inode *inode)
{
	if (__atomic_load_n(&inode->has_pending, __ATOMIC_ACQUIRE) ||
		inode_is_detached(inode))
		return 0;
	return ws->cache_s;
}

void entry_fill(struct workspace *ws, struct inode *inode, const struct stat *st,
	struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){
		.ino = inode_id(ws, inode),
		.attr = *st,
		.attr_timeout = attr_timeout(ws, inode),
		.entry_timeout = ws->cache_s,
	};
}

void op_reply_entry(struct op *op, struct inode *inode, const struct stat *st)
{
	struct fuse_entry_param e;

	entry_fill(op->ws, inode, st, &e);
	if (fuse_reply_entry(op->req, &e) < 0)
		inode_forget(op->ws, inode, 1); /* the caller is gone */
	op_end(op);
}

static void reply_missing(struct op *op)
{
	struct fuse_entry_param e = {.entry_timeout = op->ws->cache_s};

	fuse_reply_entry(op->req, &e); /* the kernel may remember that it is not there */
	op_end(op);
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct op op = op_begin(req, NULL);
	struct inode *inode;
	struct stat st;
	int r;

	if (vtree_has(parent)) {
		vtree_lookup(req, parent, name);
		return;
	}
	if (is_stomp_entry(parent, name)) {
		vtree_lookup_top(req);
		return;
	}
	count(op.ws, lookups);
	r = inode_lookup(op.ws, inode_of(op.ws, parent), name, &inode, &st);
	if (r == -ENOENT)
		reply_missing(&op);
	else if (r < 0)
		op_reply_err(&op, -r);
	else
		op_reply_entry(&op, inode, &st);
}

static void forget_one(struct workspace *ws, fuse_ino_t id, uint64_t n)
{
	if (id == FUSE_ROOT_ID)
		return; /* the root stays */
	if (vtree_has(id))
		vtree_forget(ws, id, n);
	else
		inode_forget(ws, inode_of(ws, id), n);
}

static void do_forget(fuse_req_t req, fuse_ino_t id, uint64_t nlookup)
{
	forget_one(workspace_of(req), id, nlookup);
	fuse_reply_none(req);
}

static void do_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < n; i++)
		forget_one(workspace_of(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void do_statfs(fuse_req_t req, fuse_ino_t id)
{
	struct workspace *ws = workspace_of(req);
	struct statvfs st;
	int fd;

	(void)id;
	fd = inode_fd_get(ws, ws->root_inode);
	if (fd < 0) {
		fuse_reply_err(req, -fd);
		return;
	}
	if (fstatvfs(fd, &st) < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_statfs(req, &st);
	inode_fd_put(ws->root_inode);
}

void ops_install_entry(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = do_lookup;
	ops->forget = do_forget;
	ops->forget_multi = do_forget_multi;
	ops->statfs = do_statfs;
}
