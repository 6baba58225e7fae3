#include "fs/state.h"
#include "fs/vtree_internal.h"

#include <fcntl.h>
#include <string.h>

static void uncount_handle(struct vtree *v, uid_t uid)
{
	__atomic_sub_fetch(&v->n_handles, 1, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&v->shares[uid % VTREE_SHARES].handles, 1, __ATOMIC_RELAXED);
}

/* Bounded for all, and for each user, so that nobody's open files keep the others out. */
static int count_handle(struct vtree *v, uid_t uid)
{
	uint32_t all = __atomic_add_fetch(&v->n_handles, 1, __ATOMIC_RELAXED);
	uint32_t own = __atomic_add_fetch(
		&v->shares[uid % VTREE_SHARES].handles, 1, __ATOMIC_RELAXED);

	if (all <= VTREE_HANDLES_MAX &&
		(uid == 0 || own <= VTREE_HANDLES_MAX / VTREE_SHARE))
		return 0;
	uncount_handle(v, uid);
	return -ENFILE;
}

int vhandle_new(fuse_req_t req, fuse_ino_t id, struct vhandle **out)
{
	struct workspace *ws = workspace_of(req);
	struct vtree *v = ws->vtree;
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	struct vhandle *h;
	int r;

	r = count_handle(v, caller->uid);
	if (r < 0)
		return r;
	h = calloc(1, sizeof(*h));
	if (!h) {
		uncount_handle(v, caller->uid);
		return -ENOMEM;
	}
	h->uid = caller->uid;
	h->vtree = v;
	h->node = vnode_of(id);
	h->fd = -1;
	pthread_mutex_init(&h->lock, NULL);
	h->by = identity_take(ws->identity, caller->pid, caller->uid, caller->gid);
	*out = h;
	return 0;
}

struct vhandle *vhandle_free(struct vhandle *h)
{
	struct vtree *v;

	if (!h)
		return NULL;
	v = h->vtree;
	__atomic_sub_fetch(&v->text_bytes, h->counted, __ATOMIC_RELAXED);
	__atomic_sub_fetch(
		&v->shares[h->uid % VTREE_SHARES].text_bytes, h->counted, __ATOMIC_RELAXED);
	uncount_handle(v, h->uid);
	process_put(v->ws->identity, h->by);
	events_close(h);
	buf_done(&h->text);
	if (h->fd >= 0)
		close(h->fd);
	pthread_mutex_destroy(&h->lock);
	free(h);
	return NULL;
}

int vhandle_count_text(struct vhandle *h)
{
	uint64_t *share = &h->vtree->shares[h->uid % VTREE_SHARES].text_bytes;
	uint64_t total, own;

	assert(!h->counted); /* once, at open: what is counted does not grow later */
	if (buf_failed(&h->text))
		return -ENOMEM;
	h->counted = h->text.cap;
	total = __atomic_add_fetch(&h->vtree->text_bytes, h->counted, __ATOMIC_RELAXED);
	own = __atomic_add_fetch(share, h->counted, __ATOMIC_RELAXED);
	if (h->uid != 0 && own > VTREE_TEXT_TOTAL / VTREE_SHARE)
		return -ENOMEM;
	return total > VTREE_TEXT_TOTAL ? -ENOMEM : 0;
}

/* The kernel asks for permission too, but only where the mount says so. */
static bool may_read(fuse_req_t req, const struct vnode *node)
{
	uid_t uid = fuse_req_ctx(req)->uid;

	return (node->kind != V_CONFLICT_THEIRS && node->kind != V_CONFLICT_MERGED) ||
	       uid == 0 || uid == node->file.uid;
}

static int fill(struct vhandle *h, struct fuse_file_info *fi)
{
	struct workspace *ws = h->vtree->ws;
	const struct vreader reader = {.ws = ws, .node = h->node, .by = h->by};
	vrender_fn *render = vtree_renderer(h->node);

	if (h->node->kind == V_CONFLICT_MERGED) {
		int r = conflicts_merge(ws, h->node, h->by, &h->text);

		fi->direct_io = 1;
		return r ?: vhandle_count_text(h);
	}
	if (h->node->kind == V_AT_FILE)
		return at_open(h, fi);
	if (h->node->kind == V_EVENTS_TEXT || h->node->kind == V_EVENTS_JSON)
		return events_open(h, fi);
	if (h->node->kind != V_CTL && !render)
		return history_open(ws, h->node, h->by, &h->fd);
	fi->direct_io = 1; /* its size is known to the handle alone */
	if (render)
		render(&reader, &h->text);
	else
		buf_puts(&h->text, ctl_usage());
	return vhandle_count_text(h);
}

/* A table of the moment does not wait for what is being recorded. */
static bool tells_of_history(const struct vnode *node)
{
	vrender_fn *render = vtree_renderer(node);

	if (node->kind == V_DOCUMENT)
		return render == vdoc_log || render == vdoc_log_json;
	return node->kind != V_CTL;
}

void vtree_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	const struct vnode *node = vnode_of(id);
	bool writes = (fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC);
	struct vhandle *h = NULL;
	int r;

	state_settle(workspace_of(req), tells_of_history(node) ? SETTLE_WAIT_MS : 0);
	if (vkind_is_folder(node->kind))
		r = -EISDIR;
	else if (writes && node->kind != V_CTL)
		r = node->kind == V_AT_FILE ? -EROFS : -EPERM;
	else if (!may_read(req, node))
		r = -EACCES;
	else
		r = node->kind == V_AT_FILE   ? at_permits(req, node, R_OK)
		    : node->kind == V_VERSION ? live_permits(req, node->path, R_OK)
					      : 0;
	if (r == 0)
		r = vhandle_new(req, id, &h);
	if (r == 0)
		r = fill(h, fi);
	if (r < 0) {
		vhandle_free(h);
		fuse_reply_err(req, -r);
		return;
	}
	fi->fh = (uintptr_t)h;
	if (fuse_reply_open(req, fi) < 0)
		vhandle_free(h);
}

/*
 * A part of the text, as a copy of its own: once the reader has its answer it may close
 * the file, and the handle be gone, before the call that answered it returns.
 *
 * The answer of ctl is a stream: the file offset stands behind what was written, so it
 * says nothing about how much of the answer was read.
 */
static char *copy_text(struct vhandle *h, size_t size, off_t offset, size_t *copied)
{
	bool stream = h->node->kind == V_CTL;
	size_t at, n = 0;
	char *copy;

	pthread_mutex_lock(&h->lock);
	at = stream ? h->answered : (size_t)offset;
	if (at < h->text.len)
		n = h->text.len - at < size ? h->text.len - at : size;
	copy = malloc(n ?: 1);
	if (copy && n)
		memcpy(copy, h->text.data + at, n);
	if (copy && stream)
		h->answered += n;
	pthread_mutex_unlock(&h->lock);
	*copied = n;
	return copy;
}

void vtree_read(fuse_req_t req, struct fuse_file_info *fi, size_t size, off_t offset)
{
	struct vhandle *h = vhandle_of(fi);
	char *copy;
	size_t n;

	if (h->node->kind == V_AT_FILE) {
		at_read(req, h, size, offset);
		return;
	}
	if (h->feed) {
		events_read(req, h, size, !(fi->flags & O_NONBLOCK));
		return;
	}
	if (h->fd >= 0) {
		struct fuse_bufvec content = FUSE_BUFVEC_INIT(size);

		content.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
		content.buf[0].fd = h->fd;
		content.buf[0].pos = offset;
		fuse_reply_data(req, &content, 0);
		return;
	}
	copy = copy_text(h, size, offset, &n);
	if (copy)
		fuse_reply_buf(req, copy, n);
	else
		fuse_reply_err(req, ENOMEM);
	free(copy);
}

void vtree_write(fuse_req_t req, struct fuse_file_info *fi, const char *data, size_t size)
{
	struct vhandle *h = vhandle_of(fi);
	auto_buf answer = {0};
	int r;

	if (h->node->kind != V_CTL) {
		fuse_reply_err(req, EPERM); /* it was not opened for writing */
		return;
	}
	r = ctl_execute(req, h->by, data, size, &answer);
	pthread_mutex_lock(&h->lock);
	buf_done(&h->text);
	h->answered = 0;
	if (!buf_failed(&answer))
		h->text.data = buf_take(&answer, &h->text.len);
	pthread_mutex_unlock(&h->lock);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_write(req, size);
}

void vtree_lseek(fuse_req_t req, struct fuse_file_info *fi, off_t offset, int whence)
{
	struct vhandle *h = vhandle_of(fi);
	off_t size, r;

	if (h->fd >= 0) {
		if (h->node->kind == V_AT_FILE)
			r = at_lseek(h, offset, whence);
		else if ((r = lseek(h->fd, offset, whence)) < 0) /* nobody uses its own */
			r = -errno;
		if (r < 0)
			fuse_reply_err(req, (int)-r);
		else
			fuse_reply_lseek(req, r);
		return;
	}
	pthread_mutex_lock(&h->lock);
	size = (off_t)h->text.len;
	pthread_mutex_unlock(&h->lock);
	if (offset < 0 || offset >= size)
		fuse_reply_err(req, ENXIO);
	else
		fuse_reply_lseek(req, whence == SEEK_HOLE ? size : offset);
}

void vtree_release(fuse_req_t req, struct fuse_file_info *fi)
{
	vhandle_free(vhandle_of(fi));
	fuse_reply_err(req, 0);
}
