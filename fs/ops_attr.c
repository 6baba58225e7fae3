#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "fs/creds.h"
#include "fs/external.h"
#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/pending.h"
#include "fs/session.h"
#include "fs/vtree.h"

/* ---- getattr ---- */

/* S7: the process whose change is pending sees its own size, nobody else does. */
/* asked: the handle that the question came through, if any: fstat(2) names none. */
static void show_pending_size(
	struct op *op, struct inode *inode, const struct handle *asked, struct stat *st)
{
	struct file *f;
	struct handle *h;

	if (!__atomic_load_n(&inode->has_pending, __ATOMIC_ACQUIRE))
		return;
	f = file_lock_of(op->ws, inode);
	if (!f)
		return;
	if (f->pending)
		list_for_each (h, &f->handles, node)
			if (h->writable && (!asked || asked == h) &&
				h->by->serial == op_by(op)->serial &&
				pending_is_of(f->pending, h->by->writer))
				st->st_size = (off_t)pending_size(f->pending);
	file_unlock(f);
	file_put(op->ws, f);
}

static void reply_attr(
	struct op *op, struct inode *inode, const struct handle *asked, struct stat *st)
{
	show_pending_size(op, inode, asked, st);
	fuse_reply_attr(op->req, st, attr_timeout(op->ws, inode));
	op_end(op);
}

static void do_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct op op = op_begin(req, NULL);
	struct inode *inode;
	struct stat st;
	int r;

	if (vtree_has(id)) {
		vtree_getattr(req, id);
		return;
	}
	inode = inode_of(op.ws, id);
	r = inode_stat(op.ws, inode, &st);
	if (r < 0)
		op_reply_err(&op, -r);
	else
		reply_attr(&op, inode, fi ? handle_of(fi) : NULL, &st);
}

/* ---- setattr: size ---- */

static int resize(struct op *op, struct inode *inode, struct handle *h, off_t size)
{
	auto_close int fd = -1;

	if (h) {
		int own = handle_fd(op->ws, h);

		if (own < 0)
			return own;
		creds_drop_privilege_bits(op, inode, own);
		return ftruncate(own, size) < 0 ? -errno : 0;
	}
	fd = inode_open(op->ws, inode, O_WRONLY);
	if (fd < 0)
		return fd;
	creds_drop_privilege_bits(op, inode, fd);
	return ftruncate(fd, size) < 0 ? -errno : 0;
}

/* The file's lock is held. 0, GATE_PARKED, or -errno. */
static int resize_guarded(struct op *op, struct inode *inode, struct handle *h,
	struct file *f, const struct buf *path)
{
	off_t size = op->attr.st_size;
	struct change c = change_of(op, f, inode, h, CHANGE_BLIND, "truncate", path);
	int r;

	c.never_waits = true;
	if (h && size == 0)
		c.shape = CHANGE_TRUNCATING; /* the new content is to come through h */
	if (h && pending_fd(f, h) >= 0 && h->fence == FENCE_NONE)
		return ftruncate(pending_fd(f, h), size) < 0 ? -errno : 0;
	r = gate_enter(&c);
	if (r < 0 || r == GATE_PARKED)
		return r;
	if (r == GATE_PENDING) {
		r = pending_begin(&c, true);
	} else {
		session_will_resize(op->ws, f, (uint64_t)size);
		c.noted = true;
		r = resize(op, inode, h, size);
	}
	gate_leave(&c, r);
	return r;
}

static int set_size(struct op *op, struct inode *inode, struct handle *h)
{
	struct workspace *ws = op->ws;
	auto_buf path = {0};
	struct file *f;
	struct stat st;
	int r;

	if (inode_is_detached(inode) && !h)
		return -ESTALE;
	inode = inode_current(inode);
	if ((h && !h->guarded) || !S_ISREG(inode->type))
		return resize(op, inode, h, op->attr.st_size);
	gate_prepare(op->ws, inode, h ? h->by : op_by(op));
	f = file_lock_of(op->ws, inode);
	if (!f)
		return -ENOMEM;
	if (inode_path(inode, &path) < 0) { /* under the lock: no name goes now */
		r = h && h->fence != FENCE_NONE ? -ESTALE
						: resize(op, inode, h, op->attr.st_size);
		file_unlock(f);
		file_put(ws, f);
		return r;
	}
	/* Late ftruncate to the length that is there already: nothing to refuse. */
	if (h && h->fence == FENCE_NONE && !f->pending &&
		inode_stat(op->ws, inode, &st) == 0 && st.st_size == op->attr.st_size &&
		st.st_size > 0) {
		r = 0;
		creds_drop_privilege_bits(op, inode, h->fd);
		park_leave_queue(op);
	} else {
		r = resize_guarded(op, inode, h, f, &path);
	}
	file_unlock(f); /* a parked op may be gone from here on */
	file_put(ws, f);
	return r;
}

/* ---- setattr: the rest ---- */

static void times_wanted(const struct op *op, struct timespec times[2])
{
	times[0].tv_nsec = times[1].tv_nsec = UTIME_OMIT;
	if (op->to_set & FUSE_SET_ATTR_ATIME_NOW)
		times[0].tv_nsec = UTIME_NOW;
	else if (op->to_set & FUSE_SET_ATTR_ATIME)
		times[0] = op->attr.st_atim;
	if (op->to_set & FUSE_SET_ATTR_MTIME_NOW)
		times[1].tv_nsec = UTIME_NOW;
	else if (op->to_set & FUSE_SET_ATTR_MTIME)
		times[1] = op->attr.st_mtim;
}

/* S12: whatever is asked for, a version's mtime stays above that of the one before. */
static void raise_times(const struct file *f, struct timespec *mtime)
{
	int64_t floor = f->session.by && f->session.dirty ? f->head.mtime_ns
							  : f->head.previous_mtime_ns;
	int64_t wanted = mtime->tv_sec * NS_PER_S + mtime->tv_nsec;

	if (!f->head.exists || !floor || wanted > floor)
		return;
	wanted = floor + NS_PER_MS;
	mtime->tv_sec = wanted / NS_PER_S;
	mtime->tv_nsec = wanted % NS_PER_S;
}

static int set_file_times(
	struct op *op, struct inode *inode, const char *proc_path, struct timespec times[2])
{
	struct file *f = file_lock_of(op->ws, inode);
	auto_buf path = {0};
	bool was_closed;
	int r;

	if (!f)
		return -ENOMEM;
	if (inode_path(inode_current(inode), &path) == 0)
		(void)!file_load_head(op->ws, f, path.data, path.len);
	if (times[1].tv_nsec != UTIME_OMIT && times[1].tv_nsec != UTIME_NOW)
		raise_times(f, &times[1]);
	was_closed = f->session.closed;
	session_mark_open(op->ws, f); /* as what it was closed is no longer so */
	r = utimensat(op->ws->proc_fd, proc_path, times, 0) < 0 ? -errno : 0;
	if (was_closed) {
		auto_close int fd = inode_open(op->ws, inode, O_RDONLY);

		session_mark_closed(op->ws, f, fd);
	}
	file_unlock(f);
	file_put(op->ws, f);
	return r;
}

static int set_times(struct op *op, struct inode *inode, const char *proc_path)
{
	struct timespec times[2] = {{0}};

	times_wanted(op, times);
	if (S_ISREG(inode->type))
		return set_file_times(op, inode, proc_path, times);
	if (S_ISLNK(inode->type)) { /* /proc/self/fd of a symlink's O_PATH would follow it
				     */
		int fd = inode_fd_get(op->ws, inode), r;

		if (fd < 0)
			return fd;
		r = utimensat(fd, "", times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0
			    ? -errno
			    : 0;
		inode_fd_put(inode);
		return r;
	}
	return utimensat(op->ws->proc_fd, proc_path, times, 0) < 0 ? -errno : 0;
}

static int set_owner(struct op *op, int fd)
{
	uid_t uid = op->to_set & FUSE_SET_ATTR_UID ? op->attr.st_uid : (uid_t)-1;
	gid_t gid = op->to_set & FUSE_SET_ATTR_GID ? op->attr.st_gid : (gid_t)-1;

	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno
										   : 0;
}

static int set_mode_owner_times(struct op *op, struct inode *inode)
{
	int fd = inode_fd_get(op->ws, inode), r = 0;
	char path[32];

	if (fd < 0)
		return fd;
	snprintf(path, sizeof(path), "self/fd/%d", fd);
	if (op->to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		r = set_owner(op, fd);
	if (r == 0 && (op->to_set & FUSE_SET_ATTR_MODE) && !S_ISLNK(inode->type))
		r = fchmodat(op->ws->proc_fd, path, op->attr.st_mode & 07777, 0) < 0
			    ? -errno
			    : 0;
	if (r == 0 && (op->to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)))
		r = set_times(op, inode, path);
	inode_fd_put(inode);
	return r;
}

/* V3: a change of mode or owner is a version, unless an open session will tell it. */
static int record_mode(struct op *op, struct inode *inode, bool before)
{
	auto_buf path = {0};
	struct version v = {.kind = VERSION_MODE};
	struct file *f;
	struct stat st;
	int r = 0;

	inode = inode_current(inode);
	if (!S_ISREG(inode->type))
		return 0;
	f = file_lock_of(op->ws, inode);
	if (!f)
		return -ENOMEM;
	if (inode_path(inode, &path) < 0 ||
		file_rule(op->ws, f, path.data, path.len)->mode == MODE_PASS)
		goto out;
	r = journal_health(op->ws->journal);
	if (r == 0)
		r = file_load_head(op->ws, f, path.data, path.len);
	if (r < 0 || (f->session.by && f->session.dirty))
		goto out;
	if (before) { /* V2 */
		r = external_check(op->ws, f, path.data, path.len, EXTERNAL_LOOK, &st);
		if (r >= 0)
			r = session_record_initial(op->ws, f, path.data, path.len);
		goto out;
	}
	r = inode_stat(op->ws, inode, &st);
	if (r < 0 || (st.st_mode == f->head.mode && st.st_uid == f->head.uid &&
			     st.st_gid == f->head.gid))
		goto out;
	v.has_content = f->head.has_hash;
	v.content = f->head.hash;
	v.size = f->head.size;
	v.base_number = f->head.number;
	r = session_record(op->ws, f, op_by(op), path.data, path.len, &st, &v, NULL);
	if (r == 0)
		session_await_row(op->ws, v.seq);
out:
	file_unlock(f);
	file_put(op->ws, f);
	return r;
}

/* f is that of the folder's name, and locked. */
static int record_folder_locked(struct op *op, struct file *f, const struct buf *path,
	const struct stat *was, const struct stat *st)
{
	struct version before = {.kind = VERSION_INITIAL}, v = {.kind = VERSION_MODE};
	struct journal *j = op->ws->journal;
	struct past past;
	int r;

	if (file_rule(op->ws, f, path->data, path->len)->mode == MODE_PASS)
		return 0;
	/* What is parked by that name may be of another folder, which was renamed since. */
	f->head.loaded = false;
	r = journal_past(j, path->data, path->len, journal_last_seq(j), &past);
	if (r >= 0 && r != PAST_VERSION) /* V2 */
		r = session_record(
			op->ws, f, NULL, path->data, path->len, was, &before, NULL);
	past_done(&past);
	if (r >= 0)
		r = session_record(
			op->ws, f, op_by(op), path->data, path->len, st, &v, NULL);
	if (r == 0)
		session_await_row(op->ws, v.seq);
	return r < 0 ? r : 0;
}

/* V3 for a folder, which has no session: its history is that of its name. */
static int record_folder_mode(struct op *op, struct inode *inode, const struct stat *was)
{
	struct inode *parent = NULL;
	auto_free char *name = NULL;
	auto_buf path = {0};
	struct file *f;
	struct stat st;
	int r = inode_stat(op->ws, inode, &st);

	if (r < 0 || (st.st_mode == was->st_mode && st.st_uid == was->st_uid &&
			     st.st_gid == was->st_gid))
		return r;
	r = inode_first_name(inode, &parent, &name);
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* the root, or a folder that is gone */
	r = inode_child_path(parent, name, &path);
	f = r == 0 ? file_of_name(op->ws, parent, name) : NULL;
	if (f) {
		pthread_mutex_lock(&f->lock);
		r = record_folder_locked(op, f, &path, was, &st);
		file_unlock(f);
		file_park(op->ws, f, parent, name);
	} else if (r == 0) {
		r = -ENOMEM;
	}
	inode_put(op->ws, parent);
	return r;
}

static int change_mode_owner_times(struct op *op, struct inode *inode)
{
	const int ownership = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
	bool folder = S_ISDIR(inode->type) && (op->to_set & ownership);
	struct stat was;
	int r = folder ? inode_stat(op->ws, inode, &was) : 0;

	if (r == 0 && folder)
		r = journal_health(op->ws->journal); /* V7 */
	if (r == 0)
		r = set_mode_owner_times(op, inode);
	if (r == 0 && folder)
		r = record_folder_mode(op, inode, &was);
	return r;
}

/* 0 and *st, GATE_PARKED, or -errno. */
static int set_attributes(
	struct op *op, struct inode *inode, struct handle *h, struct stat *st)
{
	auto_names *names = names_hold(&op->ws->names);
	const int ownership = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
	int r = 0;

	if (op->to_set & FUSE_SET_ATTR_SIZE) {
		r = set_size(op, inode, h);
		if (r == GATE_PARKED)
			return r;
	}
	if (r == 0 && (op->to_set & ownership))
		r = record_mode(op, inode, true);
	if (r == 0 && (op->to_set & ~FUSE_SET_ATTR_SIZE))
		r = change_mode_owner_times(op, inode);
	if (r == 0 && (op->to_set & ownership))
		r = record_mode(op, inode, false);
	return r ?: inode_stat(op->ws, inode, st);
}

static void run_setattr(struct op *op)
{
	struct inode *inode = inode_of(op->ws, op->ino);
	struct handle *h = op->has_fi ? handle_of(&op->fi) : NULL;
	struct stat st;
	int r = set_attributes(op, inode, h, &st);

	if (r == GATE_PARKED)
		return;
	if (r < 0) {
		op_reply_err(op, -r);
		return;
	}
	notify_successor(op->ws, inode);
	reply_attr(op, inode, h, &st);
}

static void do_setattr(fuse_req_t req, fuse_ino_t id, struct stat *attr, int to_set,
	struct fuse_file_info *fi)
{
	struct op op = op_begin(req, run_setattr);

	if (vtree_has(id)) {
		vtree_setattr(req, id, attr, to_set);
		return;
	}
	op.ino = id;
	op.attr = *attr;
	op.to_set = to_set;
	op.has_fi = fi != NULL;
	if (fi)
		op.fi = *fi;
	run_setattr(&op);
}

static void do_readlink(fuse_req_t req, fuse_ino_t id)
{
	struct workspace *ws = workspace_of(req);
	char target[PATH_MAX + 1];
	struct inode *inode;
	ssize_t n;
	int fd;

	if (vtree_has(id)) {
		vtree_readlink(req, id);
		return;
	}
	inode = inode_of(ws, id);
	fd = inode_fd_get(ws, inode);
	if (fd < 0) {
		fuse_reply_err(req, -fd);
		return;
	}
	n = readlinkat(fd, "", target, PATH_MAX);
	if (n < 0) {
		fuse_reply_err(req, errno);
	} else {
		target[n] = '\0';
		fuse_reply_readlink(req, target);
	}
	inode_fd_put(inode);
}

/* ---- extended attributes ---- */

/* The path that names the inode for the xattr calls; -errno. It ends at the inode also
 * where that is a symlink: /proc's links lead to what is open, and no further. */
static int xattr_path(struct workspace *ws, struct inode *inode, char path[64])
{
	int fd = inode_fd_get(ws, inode);

	if (fd >= 0)
		snprintf(path, 64, "/proc/self/fd/%d", fd);
	return fd < 0 ? fd : 0;
}

static void do_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
	struct workspace *ws = workspace_of(req);
	auto_free char *value = NULL;
	struct inode *inode;
	char path[64];
	ssize_t n;
	int r;

	if (vtree_has(id)) {
		fuse_reply_err(req, ENODATA);
		return;
	}
	inode = inode_of(ws, id);
	r = xattr_path(ws, inode, path);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	value = malloc(size ? size : 1);
	n = value ? getxattr(path, name, size ? value : NULL, size) : -1;
	r = n < 0 ? (value ? errno : ENOMEM) : 0;
	/* ls -l asks for a label of every file; of a file system without labels it asks
	 * once. */
	if (r == ENODATA && !ws->selinux && strcmp(name, "security.selinux") == 0)
		r = ENOTSUP;
	inode_fd_put(inode);
	if (r)
		fuse_reply_err(req, r);
	else if (size)
		fuse_reply_buf(req, value, (size_t)n);
	else
		fuse_reply_xattr(req, (size_t)n);
}

/* trusted.* is for administrators alone: the backing shows it to us, whoever asks. Names in
 * place, each with its NUL; how many bytes are left. */
static size_t without_trusted(char *names, size_t n)
{
	size_t left = 0;

	for (size_t at = 0, len; at < n; at += len) {
		len = strlen(names + at) + 1;
		if (strncmp(names + at, "trusted.", 8) == 0)
			continue;
		memmove(names + left, names + at, len);
		left += len;
	}
	return left;
}

/* The names that the caller may know: how many bytes, or -errno. */
static ssize_t list_names(struct workspace *ws, fuse_req_t req, struct inode *inode,
	char names[XATTR_LIST_MAX])
{
	char path[64];
	ssize_t n;
	int r = xattr_path(ws, inode, path);

	if (r < 0)
		return r;
	n = listxattr(path, names, XATTR_LIST_MAX);
	r = n < 0 ? -errno : 0;
	inode_fd_put(inode);
	if (r < 0)
		return r;
	return fuse_req_ctx(req)->uid == 0 ? n : (ssize_t)without_trusted(names, (size_t)n);
}

static void do_listxattr(fuse_req_t req, fuse_ino_t id, size_t size)
{
	struct workspace *ws = workspace_of(req);
	auto_free char *names = NULL;
	ssize_t n = 0;

	if (!vtree_has(id)) {
		names = malloc(XATTR_LIST_MAX);
		n = names ? list_names(ws, req, inode_of(ws, id), names) : -ENOMEM;
	}
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else if (!size)
		fuse_reply_xattr(req, (size_t)n);
	else if ((size_t)n > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, names, (size_t)n);
}

/* As the caller: who sets an ACL and is not of the file's group loses its setgid bit, which
 * the backing sees to. */
static int set_acl(struct op *op, struct inode *inode, const char *path, const char *name,
	const void *value, size_t size, int flags)
{
	auto_names *names = names_hold(&op->ws->names);
	struct creds creds;
	int r = record_mode(op, inode, true);

	if (r == 0)
		r = creds_assume(op->ws, op->req, &creds);
	if (r < 0)
		return r;
	r = setxattr(path, name, value, size, flags) < 0 ? -errno : 0;
	creds_restore(&creds);
	return r ?: record_mode(op, inode, false);
}

static void do_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value,
	size_t size, int flags)
{
	struct op op = op_begin(req, NULL);
	struct inode *inode;
	char path[64];
	int r;

	if (op_refuse_virtual(req, id))
		return;
	inode = inode_of(op.ws, id);
	r = xattr_path(op.ws, inode, path);
	if (r == 0) {
		if (strcmp(name, "system.posix_acl_access") == 0)
			r = set_acl(&op, inode, path, name, value, size, flags);
		else
			r = setxattr(path, name, value, size, flags) < 0 ? -errno : 0;
		creds_xattr_changed(inode, name);
		inode_fd_put(inode);
	}
	op_reply_err(&op, -r);
}

static void do_removexattr(fuse_req_t req, fuse_ino_t id, const char *name)
{
	struct workspace *ws = workspace_of(req);
	struct inode *inode;
	char path[64];
	int r;

	if (op_refuse_virtual(req, id))
		return;
	inode = inode_of(ws, id);
	r = xattr_path(ws, inode, path);
	if (r == 0) {
		r = removexattr(path, name) < 0 ? -errno : 0;
		creds_xattr_changed(inode, name);
		inode_fd_put(inode);
	}
	fuse_reply_err(req, -r);
}

void ops_install_attr(struct fuse_lowlevel_ops *ops)
{
	ops->getattr = do_getattr;
	ops->setattr = do_setattr;
	ops->readlink = do_readlink;
	ops->getxattr = do_getxattr;
	ops->setxattr = do_setxattr;
	ops->listxattr = do_listxattr;
	ops->removexattr = do_removexattr;
}
