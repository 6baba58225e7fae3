#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "fs/creds.h"
#include "fs/external.h"
#include "fs/ops.h"
#include "fs/session.h"

/* A version of a name that is not the end of a write session (V3): what happened to a
 * folder, a symlink, a further link. f is locked. */
static int record_name(struct op *op, struct file *f, const struct buf *path,
	const struct stat *st, struct version *v, struct capture *content)
{
	int r = file_load_head(op->ws, f, path->data, path->len);

	if (r == 0)
		r = session_record(
			op->ws, f, op_by(op), path->data, path->len, st, v, content);
	if (r == 0)
		session_await_row(op->ws, v->seq);
	return r;
}

/* Does the policy record what happens at this path? V7: refuse while it cannot. */
static int may_record(struct op *op, struct file *f, const struct buf *path, bool *records)
{
	*records = file_rule(op->ws, f, path->data, path->len)->mode != MODE_PASS;
	return *records ? journal_health(op->ws->journal) : 0;
}

/* ---- mkdir, mknod, symlink: something new under a free name ---- */

typedef int make_fn(struct op *op, int dirfd);

static mode_t mode_to_make(const struct op *op, int dirfd)
{
	return creds_mode(op->ws, op->req, inode_of(op->ws, op->ino), dirfd, op->mode);
}

static int make_dir(struct op *op, int dirfd)
{
	return mkdirat(dirfd, op->name, mode_to_make(op, dirfd)) < 0 ? -errno : 0;
}

static int make_node(struct op *op, int dirfd)
{
	return mknodat(dirfd, op->name, mode_to_make(op, dirfd), op->rdev) < 0 ? -errno : 0;
}

static int make_symlink(struct op *op, int dirfd)
{
	return symlinkat(op->target, dirfd, op->name) < 0 ? -errno : 0;
}

static int make_as_caller(struct op *op, struct inode *parent, make_fn *make,
	struct inode **inode, struct stat *st)
{
	int dirfd = inode_fd_get(op->ws, parent);
	struct creds creds;
	int r;

	if (dirfd < 0)
		return dirfd;
	r = creds_assume(op->ws, op->req, &creds);
	if (r == 0) {
		r = make(op, dirfd);
		creds_restore(&creds);
	}
	inode_fd_put(parent);
	return r < 0 ? r : inode_lookup(op->ws, parent, op->name, inode, st);
}

static int make_recorded(struct op *op, struct inode *parent, struct file *f,
	const struct buf *path, make_fn *make, struct version *v, struct inode **inode,
	struct stat *st)
{
	struct capture content = CAPTURE_NONE;
	struct change c = change_of(op, f, NULL, NULL, CHANGE_BLIND, "create", path);
	int r;

	c.parent = parent;
	c.name = op->name;
	r = gate_enter(&c);

	if (r < 0 || r == GATE_PARKED)
		return r;
	r = make_as_caller(op, parent, make, inode, st);
	if (r == 0 && c.guarded) {
		if (v->kind == VERSION_SYMLINK)
			r = journal_capture_bytes(op->target, strlen(op->target), &content);
		else if (v->kind == VERSION_WRITE)
			r = journal_capture_bytes("", 0, &content);
		if (r == 0)
			r = record_name(op, f, path, st, v,
				v->kind == VERSION_MKDIR ? NULL : &content);
		capture_done(&content);
		if (S_ISREG((*inode)->type) || S_ISLNK((*inode)->type))
			file_attach(op->ws, f, *inode);
	}
	c.removes = true; /* its version is recorded: the session has nothing to add */
	gate_leave(&c, r);
	return r;
}

static void make_new(struct op *op, make_fn *make, enum version_kind kind)
{
	struct workspace *ws = op->ws;
	auto_names *names = names_hold(&ws->names);
	struct inode *parent = inode_of(ws, op->ino), *inode = NULL;
	struct version v = {.kind = kind};
	auto_buf path = {0};
	struct file *f;
	struct stat st;
	int r = inode_child_path(parent, op->name, &path);

	f = r == 0 ? file_of_name(op->ws, parent, op->name) : NULL;
	if (!f) {
		op_reply_err(op, r < 0 ? -r : ENOMEM);
		return;
	}
	pthread_mutex_lock(&f->lock);
	r = make_recorded(op, parent, f, &path, make, &v, &inode, &st);
	file_give_back(ws, f, parent, path_name(&path)); /* op may be gone from here on */
	if (r == GATE_PARKED)
		return;
	if (r < 0)
		op_reply_err(op, -r);
	else
		op_reply_entry(op, inode, &st);
}

static void run_mkdir(struct op *op)
{
	make_new(op, make_dir, VERSION_MKDIR);
}

static void run_symlink(struct op *op)
{
	make_new(op, make_symlink, VERSION_SYMLINK);
}

static void run_mknod(struct op *op)
{
	make_new(op, make_node, VERSION_WRITE);
}

/* Sockets, pipes and devices have no content to guard. */
static void run_mknod_special(struct op *op)
{
	struct inode *inode;
	struct stat st;
	int r = make_as_caller(op, inode_of(op->ws, op->ino), make_node, &inode, &st);

	if (r < 0)
		op_reply_err(op, -r);
	else
		op_reply_entry(op, inode, &st);
}

static bool refuse_name(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (op_refuse_virtual(req, parent))
		return true;
	if (!is_stomp_entry(parent, name))
		return false;
	fuse_reply_err(req, EEXIST);
	return true;
}

static void do_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct op op = op_begin(req, run_mkdir);

	if (refuse_name(req, parent, name))
		return;
	op.ino = parent;
	op.name = name;
	op.mode = mode;
	run_mkdir(&op);
}

static void do_symlink(
	fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct op op = op_begin(req, run_symlink);

	if (refuse_name(req, parent, name))
		return;
	op.ino = parent;
	op.name = name;
	op.target = target;
	run_symlink(&op);
}

static void do_mknod(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	bool regular = S_ISREG(mode) || !(mode & S_IFMT);
	struct op op = op_begin(req, regular ? run_mknod : run_mknod_special);

	if (refuse_name(req, parent, name))
		return;
	op.ino = parent;
	op.name = name;
	op.mode = mode;
	op.rdev = rdev;
	op.run(&op);
}

/* ---- link ---- */

static int link_backing(struct op *op, struct inode *inode, struct inode *parent)
{
	int from = inode_fd_get(op->ws, inode), to;
	char path[64];
	int r = 0;

	if (from < 0)
		return from;
	to = inode_fd_get(op->ws, parent);
	if (to < 0) {
		inode_fd_put(inode);
		return to;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", from);
	/* The magic link names a symlink itself only by AT_EMPTY_PATH. */
	if (S_ISLNK(inode->type))
		r = linkat(from, "", to, op->new_name, AT_EMPTY_PATH);
	else
		r = linkat(AT_FDCWD, path, to, op->new_name, AT_SYMLINK_FOLLOW);
	r = r < 0 ? -errno : 0;
	inode_fd_put(parent);
	inode_fd_put(inode);
	return r;
}

/* A name for what had none (O_TMPFILE): to its readers the file is created now. */
static int name_unnamed(struct op *op, struct inode *inode, struct inode *parent,
	struct file *f, const struct buf *path)
{
	struct version v = {.kind = VERSION_WRITE};
	struct capture content = CAPTURE_NONE;
	auto_close int fd = inode_open(op->ws, inode, O_RDONLY | O_NOATIME);
	struct stat st;
	int r = fd < 0 ? fd : link_backing(op, inode, parent);

	if (r < 0)
		return r;
	inode_link_add(inode, parent, op->new_name);
	r = fstat(fd, &st) < 0 ? -errno : journal_capture(op->ws->journal, fd, &content);
	if (r == 0)
		r = record_name(op, f, path, &st, &v, &content);
	capture_done(&content);
	file_attach(op->ws, f, inode);
	return r;
}

/* What the file is now, with its history begun (V2), for the version of a further name.
 * No lock is held. */
static int prepare_source(struct op *op, struct inode *inode, struct head *out)
{
	auto_buf from = {0};
	struct file *f;
	struct stat st;
	int r = 0;

	if (!S_ISREG(inode->type))
		return 0;
	f = file_lock_of(op->ws, inode); /* shared by all its names (L10) */
	if (!f)
		return -ENOMEM;
	if (inode_path(inode, &from) == 0 &&
		file_rule(op->ws, f, from.data, from.len)->mode != MODE_PASS) {
		r = file_load_head(op->ws, f, from.data, from.len);
		if (r == 0)
			r = external_check(
				op->ws, f, from.data, from.len, EXTERNAL_LOOK, &st);
		if (r >= 0)
			r = session_record_initial(op->ws, f, from.data, from.len);
		if (r == 0)
			r = journal_wait(op->ws->journal, f->submitted_seq);
	}
	*out = f->head;
	file_unlock(f);
	file_put(op->ws, f);
	return r;
}

/* A symlink has another name: there it is as if it were made now (V3). */
static int name_symlink(
	struct op *op, struct inode *inode, struct file *f, const struct buf *path)
{
	struct version v = {.kind = VERSION_SYMLINK};
	struct capture content = CAPTURE_NONE;
	char target[PATH_MAX];
	int at = inode_fd_get(op->ws, inode), r;
	struct stat st;
	ssize_t n;

	if (at < 0)
		return at;
	n = readlinkat(at, "", target, sizeof(target));
	r = n < 0 || fstatat(at, "", &st, AT_EMPTY_PATH) < 0 ? -errno : 0;
	inode_fd_put(inode);
	if (r == 0)
		r = journal_capture_bytes(target, (size_t)n, &content);
	if (r == 0)
		r = record_name(op, f, path, &st, &v, &content);
	capture_done(&content);
	return r;
}

static int name_again(struct op *op, struct inode *inode, struct inode *parent,
	struct file *f, const struct buf *path, const struct head *source)
{
	struct version v = {.kind = VERSION_LINK};
	auto_buf from = {0};
	struct stat st;
	int r = link_backing(op, inode, parent);

	if (r < 0)
		return r;
	(void)!inode_path(inode, &from);
	inode_link_add(inode, parent, op->new_name);
	if (S_ISLNK(inode->type))
		return name_symlink(op, inode, f, path);
	if (!S_ISREG(inode->type) || inode_stat(op->ws, inode, &st) < 0)
		return 0;
	v.from_path = from.data;
	v.from_path_len = from.len;
	v.from_number = source->number;
	v.has_content = source->has_hash;
	v.content = source->hash;
	v.size = source->size;
	return record_name(op, f, path, &st, &v, NULL);
}

/* Is that what the inode contains now? */
static bool has_content(struct workspace *ws, struct inode *inode, const struct head *head)
{
	auto_close int fd = inode_open(ws, inode, O_RDONLY | O_NOATIME);
	struct hash128 hash;
	uint64_t size;

	return head->has_hash && fd >= 0 && digest_fd(fd, &hash, &size) == 0 &&
	       size == head->size && hash128_equal(hash, head->hash);
}

int record_other_name(struct op *op, struct file *f, struct inode *inode,
	const struct buf *path, const struct head *lost)
{
	struct version v = {
		.kind = VERSION_LINK,
		.from_path = path->data,
		.from_path_len = path->len,
		.from_number = lost->number,
		.has_content = true,
		.content = lost->hash,
		.size = lost->size,
	};
	auto_buf other = {0};
	struct stat st;
	int r;

	if (!S_ISREG(inode->type) || !lost->exists || lost->gone || !lost->has_hash ||
		inode_path(inode, &other) < 0 ||
		file_rule(op->ws, f, other.data, other.len)->mode == MODE_PASS)
		return 0;
	/* What the other name was told, was by a file of its own. */
	r = journal_wait(op->ws->journal, journal_last_seq(op->ws->journal));
	if (r == 0)
		r = file_load_head(op->ws, f, other.data, other.len);
	if (r < 0 || !f->head.exists ||
		(f->head.size == lost->size && hash128_equal(f->head.hash, lost->hash)) ||
		!has_content(op->ws, inode, lost) || inode_stat(op->ws, inode, &st) < 0)
		return r;
	return session_record(op->ws, f, op_by(op), other.data, other.len, &st, &v, NULL);
}

static void run_link(struct op *op)
{
	auto_names *names = names_hold(&op->ws->names);
	struct inode *inode = inode_of(op->ws, op->ino);
	struct inode *parent = inode_of(op->ws, op->new_parent);
	bool unnamed = !inode_has_links(inode), records;
	struct head source = {0};
	auto_buf path = {0};
	struct file *f;
	struct stat st;
	int r = inode_child_path(parent, op->new_name, &path);

	if (r == 0)
		r = gate_check_folder(op, &path, "link"); /* a name asked for ahead (L9) */
	if (r == 0 && !unnamed)
		r = prepare_source(op, inode, &source);
	f = r == 0 ? file_of_name(op->ws, parent, op->new_name) : NULL;
	if (!f) {
		op_reply_err(op, r < 0 ? -r : ENOMEM);
		return;
	}
	pthread_mutex_lock(&f->lock);
	r = may_record(op, f, &path, &records);
	if (r == 0 && !records) {
		r = link_backing(op, inode, parent);
		if (r == 0)
			inode_link_add(inode, parent, op->new_name);
	} else if (r == 0) {
		r = unnamed ? name_unnamed(op, inode, parent, f, &path)
			    : name_again(op, inode, parent, f, &path, &source);
	}
	file_unlock(f);
	if (f->inode)
		file_put(op->ws, f);
	else
		file_park(op->ws, f, parent, op->new_name);
	if (r == 0)
		r = inode_lookup(op->ws, parent, op->new_name, &inode, &st);
	if (r < 0)
		op_reply_err(op, -r);
	else
		op_reply_entry(op, inode, &st);
}

static void do_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent, const char *name)
{
	struct op op = op_begin(req, run_link);

	if (op_refuse_virtual(req, id) || refuse_name(req, parent, name))
		return;
	op.ino = id;
	op.new_parent = parent;
	op.new_name = name;
	run_link(&op);
}

void ops_install_names(struct fuse_lowlevel_ops *ops)
{
	ops->mkdir = do_mkdir;
	ops->mknod = do_mknod;
	ops->symlink = do_symlink;
	ops->link = do_link;
}
