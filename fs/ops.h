/*
 * ops.h - one function per FUSE operation, by subject; and what they share.
 *
 * Each thin function describes what is wanted, and every change goes through the gate.
 * Entry points take FUSE's own arguments and answer their request.
 */
#ifndef STOMP_FS_OPS_H
#define STOMP_FS_OPS_H

#include "fs/gate.h"
#include "fs/handle.h"
#include "fs/inode.h"
#include "fs/op.h"
#include "fs/workspace.h"

/* The name that no real file of the root may have. */
#define STOMP_NAME ".stomp"

static inline bool is_stomp_entry(fuse_ino_t parent, const char *name)
{
	return parent == FUSE_ROOT_ID && __builtin_strcmp(name, STOMP_NAME) == 0;
}

/* The last part of a path: the name, where the op that had it may be gone. */
static inline const char *path_name(const struct buf *path)
{
	const char *slash = __builtin_strrchr(path->data, '/');

	return slash ? slash + 1 : path->data;
}

void ops_install_entry(struct fuse_lowlevel_ops *ops);	/* lookup, forget, statfs */
void ops_install_attr(struct fuse_lowlevel_ops *ops);	/* getattr, setattr, xattrs */
void ops_install_open(struct fuse_lowlevel_ops *ops);	/* open, create, release */
void ops_install_io(struct fuse_lowlevel_ops *ops);	/* read, write, fallocate … */
void ops_install_close(struct fuse_lowlevel_ops *ops);	/* flush, fsync */
void ops_install_names(struct fuse_lowlevel_ops *ops);	/* mkdir, mknod, symlink, link */
void ops_install_remove(struct fuse_lowlevel_ops *ops); /* unlink, rmdir */
void ops_install_rename(struct fuse_lowlevel_ops *ops);
void ops_install_dir(struct fuse_lowlevel_ops *ops); /* opendir, readdir(plus) … */

/* Answer with an entry, whose lookup count the kernel then holds. Ends op. */
void op_reply_entry(struct op *op, struct inode *inode, const struct stat *st);
void entry_fill(struct workspace *ws, struct inode *inode, const struct stat *st,
	struct fuse_entry_param *e);
/* How long the kernel may keep what it is told of this inode. */
double attr_timeout(struct workspace *ws, struct inode *inode);

/* Replies of a virtual or detached id. */
static inline bool op_refuse_virtual(fuse_req_t req, fuse_ino_t id)
{
	if (!((id & 1) && id != FUSE_ROOT_ID))
		return false;
	fuse_reply_err(req, EPERM);
	return true;
}

/* V3: a folder of that name, which was st, is gone, as of seq (0: now). No lock is held. */
must_check int record_rmdir(struct op *op, struct inode *parent, const char *name,
	const struct buf *path, const struct stat *st, uint64_t seq);

/* A file or symlink loses a name: by unlink, or to what has no content (a pipe, say) and is
 * renamed onto it. */
struct removal {
	struct op *op;
	struct inode *parent, *inode;
	const char *name;
	const struct buf *path;
	nlink_t nlink;
	const char *asked;
	int (*act)(struct removal *rm); /* does it to the backing */
	void *ctx;
};

/* One of several names of inode is gone, its head was lost: what was changed under that
 * name is told under the next one, so that it is not taken for a change round the mount.
 * Where no other name is known yet, there is nobody to tell it. f is the inode's file,
 * locked. */
must_check int record_other_name(struct op *op, struct file *f, struct inode *inode,
	const struct buf *path, const struct head *lost);

/* Through the gate. 0, GATE_PARKED, or -errno. No lock is held. */
must_check int remove_name(struct removal *rm);

/* A change of what handle h has open, or of inode by path; path in *path. */
struct change change_of(struct op *op, struct file *f, struct inode *inode,
	struct handle *h, enum change_shape shape, const char *asked,
	const struct buf *path);

#endif
