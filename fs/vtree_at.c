#include "fs/vtree_internal.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/moment.h"
#include "fs/creds.h"
#include "fs/file.h"
#include "fs/state.h"

/*
 * at/MOMENT/…: the tree as it was at a moment, which is a seq of the journal. What the
 * journal tells of a path is what was there; what it knows nothing of, then or later, has
 * not changed since, so what is there now was there then. Such a *live* file may be changed
 * for the first time while somebody reads it here: its content of before is in the journal
 * by then (V2), so that each read is checked afterwards, and done again from there.
 *
 * A moment never changes, and so the kernel may keep what it is told of it; not of what
 * the policy passes, whose changes nobody records.
 */

enum { PAST_TIMEOUT_S = 3600, FLOAT_TIMEOUT_MAX_S = 60, RECENT_NS = 2 * NS_PER_S };

/* ---- which moment ---- */

/* How long a word stands for the same seq: what floats may lag by a tenth of its age. */
static double timeout_of(const struct moment *m, int64_t now_ns)
{
	double tenth = (double)m->span_ns / (10 * (double)NS_PER_S);

	if (m->kind == MOMENT_SEQ)
		return PAST_TIMEOUT_S;
	if (m->kind == MOMENT_EPOCH)
		return 1; /* its writer may still be at work under it */
	if (m->floats)
		return tenth < FLOAT_TIMEOUT_MAX_S ? tenth : FLOAT_TIMEOUT_MAX_S;
	return now_ns - m->wall_ns > RECENT_NS ? PAST_TIMEOUT_S : 0;
}

int vtree_moment_seq(struct workspace *ws, const struct moment *m, uint64_t *seq)
{
	uint64_t last = journal_last_seq(ws->journal);

	switch (m->kind) {
	case MOMENT_EPOCH:
		return journal_seq_at_epoch(ws->journal, m->number, seq);
	case MOMENT_SEQ:
		*seq = m->number;
		return m->number <= last ? 0 : -ENOENT;
	case MOMENT_TIME:
		break;
	}
	return journal_seq_at_time(ws->journal, m->wall_ns, seq);
}

static int resolve_moment(struct workspace *ws, const char *name, struct vspec *out)
{
	int64_t now_ns = clock_wall_ns(ws->clock);
	struct moment m;
	int r;

	if (!moment_parse(name, now_ns, &m))
		return -ENOENT;
	r = vtree_moment_seq(ws, &m, &out->number);
	if (r < 0)
		return r;
	r = at_find(ws, out->number, "", 0, out);
	out->timeout_s = timeout_of(&m, now_ns);
	return r;
}

/* ---- what is there now ---- */

int at_open_live(struct workspace *ws, const char *path, int flags)
{
	struct open_how how = {
		.flags = (unsigned)(flags | O_NOFOLLOW | O_CLOEXEC),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int root = inode_fd_get(ws, ws->root_inode), fd;

	if (root < 0)
		return root;
	fd = (int)syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof(how));
	fd = fd < 0 ? -errno : fd;
	inode_fd_put(ws->root_inode);
	return fd;
}

bool at_is_new(struct workspace *ws, const struct stat *st)
{
	struct inode *inode = inode_find(ws, st->st_dev, st->st_ino);
	struct file *f = NULL;
	bool is_new = false;

	if (!inode)
		return false;
	pthread_mutex_lock(&inode->lock);
	if (inode->file) {
		f = inode->file;
		file_ref(f);
	}
	pthread_mutex_unlock(&inode->lock);
	if (f) {
		pthread_mutex_lock(&f->lock);
		is_new = f->session.by && (!f->head.exists || f->head.gone);
		file_unlock(f);
		file_put(ws, f);
	}
	inode_put(ws, inode);
	return is_new;
}

static int64_t mtime_ns(const struct stat *st)
{
	return st->st_mtim.tv_sec * NS_PER_S + st->st_mtim.tv_nsec;
}

static void vfile_of_stat(struct vfile *f, const struct stat *st)
{
	*f = (struct vfile){
		.size = (uint64_t)st->st_size,
		.mode = st->st_mode & 01777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.mtime_ns = mtime_ns(st),
	};
}

/* How long the kernel may keep what is told of a file that has no history. */
static double live_timeout(struct workspace *ws, const char *path, size_t len, bool folder)
{
	const struct rules *rules = __atomic_load_n(&ws->rules, __ATOMIC_ACQUIRE);
	struct rule rule;

	if (!len)
		return 0;
	rules_lookup(rules, path, len, folder, &rule);
	return rule.mode == MODE_PASS ? 0 : ws->cache_s;
}

static int find_live(struct workspace *ws, const char *path, size_t len, struct vspec *out)
{
	auto_close int fd = at_open_live(ws, path, O_PATH);
	struct stat st;

	if (fd < 0)
		return fd == -ENOTDIR || fd == -ELOOP ? -ENOENT : fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		out->kind = V_AT_FOLDER;
	else if (S_ISLNK(st.st_mode))
		out->kind = V_AT_LINK;
	else if (S_ISREG(st.st_mode) && !at_is_new(ws, &st))
		out->kind = V_AT_FILE;
	else
		return -ENOENT; /* pipes, sockets and devices have no past */
	vfile_of_stat(&out->file, &st);
	out->timeout_s = live_timeout(ws, path, len, S_ISDIR(st.st_mode));
	return 0;
}

/* ---- what was there ---- */

static int find_version(const struct version *v, struct vspec *out)
{
	if (v->kind == VERSION_MKDIR || v->kind == VERSION_RMDIR || S_ISDIR(v->mode))
		out->kind = V_AT_FOLDER;
	else if (!v->has_content)
		return -ENOENT;
	else if (v->kind == VERSION_SYMLINK || S_ISLNK(v->mode))
		out->kind = V_AT_LINK;
	else
		out->kind = V_AT_FILE;
	vfile_of_version(&out->file, v);
	out->file.mode = v->mode & 01777;
	out->timeout_s = PAST_TIMEOUT_S;
	return 0;
}

static bool is_ours(const char *path, size_t len)
{
	return len >= 6 && memcmp(path, ".stomp", 6) == 0 && (len == 6 || path[6] == '/');
}

int at_find(
	struct workspace *ws, uint64_t seq, const char *path, size_t len, struct vspec *out)
{
	struct past past;
	int r;

	if (!len)
		return find_live(ws, "", 0, out);
	if (is_ours(path, len))
		return -ENOENT;
	r = journal_past(ws->journal, path, len, seq, &past);
	if (r < 0)
		return r;
	if (r == PAST_ABSENT)
		r = -ENOENT;
	else if (r == PAST_VERSION)
		r = find_version(&past.row.v, out);
	else
		r = find_live(ws, past.now, past.now_len, out);
	past_done(&past);
	return r;
}

int at_resolve(struct workspace *ws, const struct vnode *parent, const char *name,
	struct vspec *out)
{
	struct buf *path = &out->path;

	if (parent->kind == V_AT)
		return resolve_moment(ws, name, out);
	if (parent->path_len + strlen(name) + 1 > VTREE_PATH_MAX)
		return -ENAMETOOLONG;
	buf_append(path, parent->path, parent->path_len);
	if (path->len)
		buf_putc(path, '/');
	buf_puts(path, name);
	if (buf_failed(path))
		return -ENOMEM;
	out->number = parent->number;
	return at_find(ws, out->number, path->data, path->len, out);
}

void at_stat(enum vkind kind, const struct vfile *file, struct stat *st)
{
	st->st_mode = file->mode;
	if (kind == V_AT_FOLDER)
		st->st_mode |= S_IFDIR;
	else if (kind == V_AT_LINK)
		st->st_mode = S_IFLNK | 0777;
	else
		st->st_mode |= S_IFREG;
	st->st_uid = file->uid;
	st->st_gid = file->gid;
	st->st_size = (off_t)file->size;
	st->st_blocks = vfile_blocks(file);
}

/* ---- who may ---- */

int at_path_of_today(
	struct workspace *ws, const struct vnode *node, char **path, size_t *len)
{
	if (node->path_len)
		return journal_past_path(
			ws->journal, node->path, node->path_len, node->number, path, len);
	*path = strdup("");
	*len = 0;
	return *path ? 1 : -ENOMEM;
}

int live_access(fuse_req_t req, const char *path, int access_mode)
{
	struct workspace *ws = workspace_of(req);
	auto_close int fd = -1;
	struct creds creds;
	int r;

	if (!ws->root || fuse_req_ctx(req)->uid == 0)
		return 0; /* else the kernel has let in nobody but the daemon's own user */
	r = creds_assume(ws, req, &creds);
	if (r < 0)
		return r;
	fd = at_open_live(ws, path, O_PATH); /* asks each folder on the way */
	if (fd >= 0 && access_mode &&
		syscall(SYS_faccessat2, fd, "", access_mode, AT_EMPTY_PATH | AT_EACCESS) <
			0)
		r = -errno;
	creds_restore(&creds);
	if (fd == -EACCES || fd == -EPERM || r == -EPERM)
		return -EACCES;
	return fd == -ENOTDIR || fd == -ELOOP ? -ENOENT : (fd < 0 ? fd : r);
}

int live_permits(fuse_req_t req, const char *path, int access_mode)
{
	int r = live_access(req, path, access_mode);

	/* What is no more is nobody's secret but by the mode it had. */
	return r == -ENOENT ? 0 : r;
}

int at_permits(fuse_req_t req, const struct vnode *node, int access_mode)
{
	struct workspace *ws = workspace_of(req);
	auto_free char *path = NULL;
	size_t len;
	int r;

	if (!ws->root || fuse_req_ctx(req)->uid == 0)
		return 0;
	r = at_path_of_today(ws, node, &path, &len);
	return r < 0 ? r : live_permits(req, path, access_mode);
}

/* ---- content ---- */

static int open_unchanged(struct workspace *ws, const char *path, int *fd)
{
	struct stat st;

	*fd = at_open_live(ws, path, O_RDONLY | O_NONBLOCK);
	if (*fd < 0)
		return *fd;
	if (fstat(*fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? 0 : -ENOENT;
}

/* Opens what the node is: *live tells whether that is a file of today. */
static int open_past(struct workspace *ws, const struct vnode *node, int *fd, bool *live)
{
	struct past past;
	int r = journal_past(ws->journal, node->path, node->path_len, node->number, &past);

	*live = r == PAST_UNCHANGED;
	if (r == PAST_ABSENT)
		r = -ENOENT;
	else if (r == PAST_VERSION)
		r = journal_version_content(ws->journal, &past.row.v, fd);
	else if (r == PAST_UNCHANGED)
		r = open_unchanged(ws, past.now, fd);
	past_done(&past);
	return r;
}

int at_open(struct vhandle *h, struct fuse_file_info *fi)
{
	struct workspace *ws = h->vtree->ws;
	const struct vnode *node = h->node;
	int r;

	h->checked_seq = 0; /* the first read looks whether it is live still */
	r = open_past(ws, node, &h->fd, &h->live);
	if (r < 0)
		return r;
	if (h->live)
		fi->keep_cache = live_timeout(ws, node->path, node->path_len, false) > 0;
	else
		fi->keep_cache = 1;
	/* As with history/: who opens what was means to work from it (V8, S5). What never
	 * changed has no other version that one could miss. */
	if (!h->live)
		state_observe_history(ws, node->path, node->path_len, h->by);
	return 0;
}

/* The live file has been changed: go on with what it was. h->lock is held. */
static int leave_live(struct vhandle *h)
{
	auto_close int fd = -1;
	uint64_t seq = journal_last_seq(h->vtree->ws->journal);
	bool live;
	int r = open_past(h->vtree->ws, h->node, &fd, &live);

	if (r < 0)
		return r;
	if (!live) {
		close(h->fd);
		h->fd = steal_fd(&fd);
		h->live = false;
	}
	h->checked_seq = seq;
	return 0;
}

/* n bytes, or -errno. What is read is what was there even if the file changes now. */
static ssize_t read_live(struct vhandle *h, char *data, size_t size, off_t offset)
{
	ssize_t n;
	int r = 0;

	pthread_mutex_lock(&h->lock);
	n = pread(h->fd, data, size, offset);
	n = n < 0 ? -errno : n;
	if (h->live && journal_last_seq(h->vtree->ws->journal) != h->checked_seq) {
		r = leave_live(h);
		if (r == 0 && !h->live) {
			n = pread(h->fd, data, size, offset);
			n = n < 0 ? -errno : n;
		}
	}
	pthread_mutex_unlock(&h->lock);
	return r < 0 ? r : n;
}

void at_read(fuse_req_t req, struct vhandle *h, size_t size, off_t offset)
{
	auto_free char *data = malloc(size ?: 1);
	ssize_t n = data ? read_live(h, data, size, offset) : -ENOMEM;

	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_buf(req, data, (size_t)n);
}

off_t at_lseek(struct vhandle *h, off_t offset, int whence)
{
	off_t at;
	int r = 0;

	pthread_mutex_lock(&h->lock);
	at = lseek(h->fd, offset, whence);
	at = at < 0 ? -errno : at;
	if (h->live && journal_last_seq(h->vtree->ws->journal) != h->checked_seq) {
		r = leave_live(h);
		if (r == 0 && !h->live) {
			at = lseek(h->fd, offset, whence);
			at = at < 0 ? -errno : at;
		}
	}
	pthread_mutex_unlock(&h->lock);
	return r < 0 ? r : at;
}

static int read_target(int fd, uint64_t size, struct buf *out)
{
	char target[PATH_MAX];
	ssize_t n;

	if (size > sizeof(target))
		return -EIO;
	n = pread(fd, target, size, 0);
	if (n < 0)
		return -errno;
	buf_append(out, target, (size_t)n);
	return 0;
}

static int read_live_target(struct workspace *ws, const char *path, struct buf *out)
{
	auto_close int fd = at_open_live(ws, path, O_PATH);
	char target[PATH_MAX];
	ssize_t n = fd < 0 ? -1 : readlinkat(fd, "", target, sizeof(target));

	if (fd < 0 || n < 0)
		return fd < 0 ? fd : -errno;
	buf_append(out, target, (size_t)n);
	return 0;
}

int at_readlink(struct workspace *ws, const struct vnode *node, struct buf *out)
{
	auto_close int fd = -1;
	struct past past;
	int r = journal_past(ws->journal, node->path, node->path_len, node->number, &past);

	if (r == PAST_ABSENT)
		r = -ENOENT;
	else if (r == PAST_UNCHANGED)
		r = read_live_target(ws, past.now, out);
	else if (r == PAST_VERSION)
		r = journal_version_content(ws->journal, &past.row.v, &fd)
			    ?: read_target(fd, past.row.v.size, out);
	past_done(&past);
	return r;
}
