#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "fs/dirstash.h"
#include "fs/durability.h"
#include "fs/ops.h"
#include "fs/vtree.h"

struct dir_handle {
	DIR *dir;
	pthread_mutex_t lock; /* one reader of the stream at a time */
	off_t offset;	      /* where the stream stands */
	struct dirent *entry; /* read, but did not fit */
	bool is_root, at_end;
};

/* The stream's own offsets are below this one, given to .stomp with -o show. */
#define STOMP_OFFSET ((off_t)INT64_MAX)

static struct dir_handle *dir_of(const struct fuse_file_info *fi)
{
	return (struct dir_handle *)(uintptr_t)ID_OF_GENERATION(fi->fh);
}

static void dir_free(void *stream)
{
	struct dir_handle *d = stream;

	closedir(d->dir);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static int dir_new(struct workspace *ws, fuse_ino_t id, struct dir_handle **out)
{
	int fd = inode_open(ws, inode_of(ws, id), O_RDONLY | O_DIRECTORY);
	struct dir_handle *d;

	if (fd < 0)
		return fd;
	d = calloc(1, sizeof(*d));
	if (d)
		d->dir = fdopendir(fd);
	if (!d || !d->dir) {
		free(d);
		close(fd);
		return -ENOMEM;
	}
	pthread_mutex_init(&d->lock, NULL);
	d->is_root = id == FUSE_ROOT_ID;
	*out = d;
	return 0;
}

static void do_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct workspace *ws = workspace_of(req);
	struct dir_handle *d;
	int r;

	/* Nothing depends on it: the kernel will not ask again, and keeps listings until a
	 * change of the folder's own. */
	if (ws->no_opendir) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	if (vtree_has(id)) {
		vtree_opendir(req, id, fi);
		return;
	}
	r = dir_new(ws, id, &d);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	fi->fh = workspace_id(ws, d); /* the root has the same id for every daemon */
	fi->cache_readdir = 0;
	if (fuse_reply_open(req, fi) < 0)
		dir_free(d);
}

static void do_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	if (vtree_has(id)) {
		vtree_releasedir(req, fi);
		return;
	}
	dir_free(dir_of(fi));
	fuse_reply_err(req, 0);
}

static void do_fsyncdir(
	fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
	struct workspace *ws = workspace_of(req);
	int r = 0;

	if (!vtree_has(id)) {
		auto_close int own = -1;
		int fd;

		if (!fi->fh)
			own = inode_open(ws, inode_of(ws, id), O_RDONLY | O_DIRECTORY);
		fd = fi->fh ? dirfd(dir_of(fi)->dir) : own;
		r = fd < 0 ? fd : durable_folder(ws, fd, datasync);
	}
	fuse_reply_err(req, -r);
}

static bool is_dot(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

struct filling {
	fuse_req_t req;
	struct workspace *ws;
	struct inode *dir;
	char *out;
	size_t room, used;
	bool plus;
};

/* One entry; false when it does not fit. */
static bool put_entry(struct filling *f, const char *name, const struct stat *st,
	off_t next, struct inode *inode)
{
	size_t n;

	if (f->plus) {
		struct fuse_entry_param e = {.attr = *st};

		if (inode)
			entry_fill(f->ws, inode, st, &e);
		n = fuse_add_direntry_plus(
			f->req, f->out + f->used, f->room - f->used, name, &e, next);
	} else {
		n = fuse_add_direntry(
			f->req, f->out + f->used, f->room - f->used, name, st, next);
	}
	if (n > f->room - f->used)
		return false;
	f->used += n;
	return true;
}

/* readdirplus counts as a lookup of every entry that the kernel takes. */
static bool put_real(struct filling *f, const struct dirent *entry, off_t next)
{
	struct stat st = {
		.st_ino = entry->d_ino,
		.st_mode = (mode_t)entry->d_type << 12,
	};
	struct inode *inode = NULL;

	if (f->plus && !is_dot(entry->d_name) &&
		inode_lookup(f->ws, f->dir, entry->d_name, &inode, &st) < 0)
		return true; /* it went away meanwhile */
	if (put_entry(f, entry->d_name, &st, next, inode))
		return true;
	if (inode)
		inode_forget(f->ws, inode, 1);
	return false;
}

static bool is_hidden(const struct dir_handle *d, const char *name)
{
	return d->is_root && strcmp(name, STOMP_NAME) == 0;
}

/* Our own folder comes last, where it is to be listed at all. */
static void put_stomp(struct filling *f, const struct dir_handle *d)
{
	struct stat st = {0};

	if (!d->is_root || !f->ws->options.show)
		return;
	vtree_top_stat(f->ws, &st);
	(void)put_entry(f, STOMP_NAME, &st, STOMP_OFFSET, NULL);
}

static int fill(struct filling *f, struct dir_handle *d, off_t offset)
{
	if (offset == STOMP_OFFSET) {
		d->at_end = true;
		return 0;
	}
	d->at_end = false;
	if (offset != d->offset) {
		seekdir(d->dir, offset);
		d->entry = NULL;
		d->offset = offset;
	}
	for (;;) {
		off_t next;

		if (!d->entry) {
			errno = 0;
			d->entry = readdir(d->dir);
			if (!d->entry && errno)
				return f->used ? 0 : -errno;
			if (!d->entry) {
				d->at_end = f->used == 0;
				put_stomp(f, d);
				return 0;
			}
		}
		next = d->entry->d_off;
		if (!is_hidden(d, d->entry->d_name) && !put_real(f, d->entry, next))
			return 0;
		d->entry = NULL;
		d->offset = next;
	}
}

/* The stream to read from: of the handle, or, where there are none, the one that stands at
 * the offset, or a new one. */
static int stream_for(struct workspace *ws, fuse_ino_t id, off_t offset,
	const struct fuse_file_info *fi, struct dir_handle **out)
{
	*out = dir_of(fi);
	if (!*out && offset)
		*out = dir_stash_take(&ws->dir_stash, id, offset);
	return *out ? 0 : dir_new(ws, id, out);
}

static void stream_done(struct workspace *ws, fuse_ino_t id, struct dir_handle *d,
	const struct fuse_file_info *fi)
{
	if (fi->fh)
		return;
	if (d->at_end)
		dir_free(d);
	else
		dir_stash_put(&ws->dir_stash, id, d->offset, d, dir_free);
}

static void read_dir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
	struct fuse_file_info *fi, bool plus)
{
	struct workspace *ws = workspace_of(req);
	struct filling f = {.req = req, .ws = ws, .room = size, .plus = plus};
	auto_free char *out = malloc(size);
	struct dir_handle *d;
	int r;

	if (!out) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	f.out = out;
	f.dir = inode_of(f.ws, id);
	r = stream_for(ws, id, offset, fi, &d);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	pthread_mutex_lock(&d->lock);
	r = fill(&f, d, offset);
	pthread_mutex_unlock(&d->lock);
	stream_done(ws, id, d, fi);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_buf(req, f.out, f.used);
}

static void do_readdir(
	fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	if (vtree_has(id))
		vtree_readdir(req, id, size, offset, fi);
	else
		read_dir(req, id, size, offset, fi, false);
}

static void do_readdirplus(
	fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	if (vtree_has(id))
		vtree_readdirplus(req, id, size, offset, fi);
	else
		read_dir(req, id, size, offset, fi, true);
}

void ops_install_dir(struct fuse_lowlevel_ops *ops)
{
	ops->opendir = do_opendir;
	ops->releasedir = do_releasedir;
	ops->fsyncdir = do_fsyncdir;
	ops->readdir = do_readdir;
	ops->readdirplus = do_readdirplus;
}
