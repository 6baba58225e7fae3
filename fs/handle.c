#include "fs/handle.h"

#include <stdlib.h>

#include "fs/gate.h"
#include "fs/inode.h"
#include "fs/workspace.h"

/* The inode is found already, direct io is between the caller and us, and truncation is the
 * gate's to decide. */
int handle_backing_flags(int flags)
{
	return flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_DIRECT | O_NOFOLLOW |
			       O_NONBLOCK | O_CLOEXEC | O_TMPFILE);
}

int handle_new(struct workspace *ws, struct inode *inode, struct file *f,
	struct process *by, uid_t uid, int fd, int flags, struct handle **out)
{
	struct handle *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	/* Held as long as the handle lives: fd may have to be made from it when the file
	 * has no name any more. */
	r = inode_fd_get(ws, inode);
	if (r < 0) {
		free(h);
		return r;
	}
	list_init(&h->node);
	inode_ref(inode);
	h->inode = inode;
	h->uid = uid;
	h->fd = fd;
	h->size_seen = -1;
	h->flags = handle_backing_flags(flags);
	h->writable = handle_may_write(flags);
	h->readable = (flags & O_ACCMODE) != O_WRONLY;
	h->append = flags & O_APPEND;
	if (f) {
		h->guarded = true;
		h->by = process_ref(by);
		h->mappable = h->writable && h->readable;
		if (h->mappable)
			__atomic_fetch_add(&inode->mappable, 1, __ATOMIC_RELEASE);
		list_append(&f->handles, &h->node);
	}
	count(ws, opens);
	count(ws, open_handles);
	shares_add(&ws->shares, SHARE_FILES, uid);
	*out = h;
	return 0;
}

/* What is written through a guarded handle is captured when it is released: with a
 * descriptor that reads as well nothing has to be opened for that. */
static int open_to_read_back(struct workspace *ws, struct handle *h, int more_flags)
{
	int flags = (h->flags & ~O_ACCMODE) | O_RDWR | O_NOATIME, fd;

	if (!ws->root || !h->guarded || h->readable)
		return -EPERM;
	fd = inode_open(ws, h->inode, flags | more_flags);
	h->reads_back = fd >= 0;
	return fd;
}

void handle_reads_back(struct handle *h)
{
	int flags = h->fd < 0 ? -1 : fcntl(h->fd, F_GETFL);

	h->reads_back = flags >= 0 && (flags & O_ACCMODE) == O_RDWR && !h->readable &&
			fcntl(h->fd, F_SETFL, flags | O_NOATIME) == 0;
}

int handle_open_fd(struct workspace *ws, struct handle *h, int more_flags)
{
	int fd = open_to_read_back(ws, h, more_flags);
	int none = -1;

	if (fd < 0) /* the backing may not let us */
		fd = inode_open(ws, h->inode, h->flags | more_flags);
	if (fd < 0)
		return fd;
	if (!__atomic_compare_exchange_n(
		    &h->fd, &none, fd, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		close(fd); /* another thread was quicker */
	return 0;
}

int handle_fd(struct workspace *ws, struct handle *h)
{
	int fd = __atomic_load_n(&h->fd, __ATOMIC_ACQUIRE);
	int r;

	if (fd >= 0)
		return fd;
	r = handle_open_fd(ws, h, 0);
	return r < 0 ? r : __atomic_load_n(&h->fd, __ATOMIC_ACQUIRE);
}

bool handle_opens_later(const struct workspace *ws, const struct handle *h)
{
	return h->io == IO_PASS || (h->io == IO_CACHED && !h->writable && ws->root);
}

void handle_describe(struct workspace *ws, struct handle *h, struct fuse_file_info *fi)
{
	(void)ws;
	fi->fh = (uintptr_t)h;
	/* A guarded write must be refused before any page shows it: direct io. Where the
	 * kernel cannot map direct-io files, those that may be mapped stay cached. */
	fi->direct_io = handle_is_direct(h);
	fi->keep_cache = h->io == IO_CACHED && !h->drop_pages;
	fi->noflush = !(h->guarded && h->writable);
}

void handle_remove(struct handle *h)
{
	list_remove(&h->node);
	if (h->mappable)
		__atomic_fetch_sub(&h->inode->mappable, 1, __ATOMIC_RELEASE);
	h->mappable = false;
}

void handle_free(struct workspace *ws, struct handle *h)
{
	passthrough_release(ws, h);
	if (h->fd >= 0)
		close(h->fd);
	inode_fd_put(h->inode);
	process_put(ws->identity, h->by);
	inode_put(ws, h->inode);
	__atomic_fetch_sub(&ws->counters.open_handles, 1, __ATOMIC_RELAXED);
	shares_sub(&ws->shares, SHARE_FILES, h->uid);
	free(h);
}

void handle_discard(struct workspace *ws, struct handle *h)
{
	if (h->guarded) {
		struct file *f = file_lock_of(ws, h->inode);

		handle_remove(h);
		gate_maybe_end_lease(ws, f);
		file_unlock(f);
		file_put(ws, f);
	}
	handle_free(ws, h);
}
