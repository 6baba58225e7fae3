#include "fs/passthrough.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/ioctl.h>

#include "fs/handle.h"
#include "fs/inode.h"
#include "fs/workspace.h"

/* Of kernel headers since 6.9. */
struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define DEV_IOC_BACKING_OPEN _IOW(229, 1, struct backing_map)
#define DEV_IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

/* Backing files that the kernel keeps open while nobody has them open. Each pins an inode
 * of the backing in memory. */
enum { MAX_IDLE_BACKINGS = 16384 };

static bool available(const struct workspace *ws)
{
	return __atomic_load_n(&ws->passthrough, __ATOMIC_RELAXED);
}

/* inode.lock is held. 0: it cannot be had. */
static int backing_open(struct workspace *ws, struct inode *inode)
{
	struct backing_map map = {.fd = inode->fd};
	int id;

	if (inode->backing_id)
		return inode->backing_id;
	if (map.fd < 0)
		return 0;
	id = ioctl(fuse_session_fd(ws->session), DEV_IOC_BACKING_OPEN, &map);
	if (id > 0) {
		__atomic_store_n(&inode->backing_id, id, __ATOMIC_RELAXED);
		__atomic_fetch_add(&ws->backings, 1, __ATOMIC_RELAXED);
		return id;
	}
	/* Without privilege, or on a backing that is stacked too deep: never. */
	if (errno == EPERM || errno == ELOOP || errno == EOPNOTSUPP || errno == ENOTTY)
		__atomic_store_n(&ws->passthrough, false, __ATOMIC_RELAXED);
	return 0;
}

static void backing_close(struct workspace *ws, struct inode *inode)
{
	uint32_t id = (uint32_t)inode->backing_id;

	if (!id)
		return;
	__atomic_store_n(&inode->backing_id, 0, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&ws->backings, 1, __ATOMIC_RELAXED);
	/* After the mount is gone the kernel has let go by itself. */
	(void)ioctl(fuse_session_fd(ws->session), DEV_IOC_BACKING_CLOSE, &id);
}

bool passthrough_excludes_mapping(struct inode *inode)
{
	bool excludes;

	pthread_mutex_lock(&inode->lock);
	excludes = inode->passing > 0;
	pthread_mutex_unlock(&inode->lock);
	return excludes;
}

/* What the libraries of databases write at the head of their files: their readers lock what
 * they have open for reading only. */
static const struct {
	size_t at, len;
	const char *bytes;
} databases[] = {
	{0, 15, "SQLite format 3"},
	{0, 8, "TDB file"},
	{0, 3, "\xce\x9a\x57"}, /* gdbm */
	{0, 3, "\xcd\x9a\x57"},
	{0, 3, "\xcf\x9a\x57"},
	{12, 4, "\x62\x31\x05\x00"}, /* Berkeley DB: btree, hash */
	{12, 4, "\x61\x15\x06\x00"},
};

static bool is_database(struct workspace *ws, struct inode *inode)
{
	auto_close int fd = inode_open(ws, inode, O_RDONLY | O_NOATIME);
	char head[16];

	if (fd < 0 || pread(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head))
		return true; /* who knows */
	for (size_t i = 0; i < ARRAY_SIZE(databases); i++)
		if (memcmp(head + databases[i].at, databases[i].bytes, databases[i].len) ==
			0)
			return true;
	return false;
}

/* A reader's file: large enough, and none whose readers lock it? Asked once per backing id;
 * the handle keeps the inode's descriptor open. */
static bool is_worth_it(struct workspace *ws, const struct handle *h)
{
	int64_t size = h->size_seen;
	struct stat st;

	if (!h->guarded || __atomic_load_n(&h->inode->backing_id, __ATOMIC_RELAXED))
		return true;
	if (h->writable || !available(ws) || h->shuns_passing || !S_ISREG(h->inode->type))
		return false;
	if (size < 0)
		size = fstatat(h->inode->fd, "", &st, AT_EMPTY_PATH) == 0 ? st.st_size : 0;
	return size >= PASSTHROUGH_MIN_BYTES && !is_database(ws, h->inode);
}

/* inode.lock is held. */
static enum io_mode mode_of(struct workspace *ws, struct inode *inode,
	const struct handle *h, int flags, bool worth_it)
{
	bool is_file = S_ISREG(inode->type);
	bool may_pass = inode->passing ||
			(available(ws) && is_file && !inode->cached && !h->shuns_passing &&
				inode->fd >= 0 &&
				!h->drops_bits); /* the kernel would write as we */

	if (h->guarded && h->writable) {
		if (h->mappable)
			return ws->dio_mmap ? IO_DIRECT : IO_CACHED;
		return inode->passing ? IO_PASS_DIRECT : IO_DIRECT;
	}
	if (may_pass && (worth_it || inode->passing) && backing_open(ws, inode))
		return IO_PASS;
	return (flags & O_DIRECT) ? IO_DIRECT : IO_CACHED;
}

int passthrough_choose(struct workspace *ws, struct handle *h, int flags)
{
	struct inode *inode = h->inode;
	enum io_mode mode;
	bool counts_as_cached, worth_it = is_worth_it(ws, h);
	int r = 0;

	pthread_mutex_lock(&inode->lock);
	mode = mode_of(ws, inode, h, flags, worth_it);
	/* A mapping of a direct one is of cached pages. And the kernel may come to know of
	 * a later passing open before it knows of this one. */
	counts_as_cached = mode == IO_CACHED || mode == IO_DIRECT;
	if (inode->passing && mode != IO_PASS && mode != IO_PASS_DIRECT) {
		r = -ESTALE;
	} else {
		inode->passing += mode == IO_PASS || mode == IO_PASS_DIRECT;
		inode->cached += counts_as_cached;
		h->counted_as_cached = counts_as_cached;
		h->io = mode;
		h->backing_id =
			mode == IO_PASS || mode == IO_PASS_DIRECT ? inode->backing_id : 0;
	}
	pthread_mutex_unlock(&inode->lock);
	if (r == 0 && mode == IO_PASS)
		count(ws, passthrough_opens);
	return r;
}

void passthrough_release(struct workspace *ws, struct handle *h)
{
	struct inode *inode = h->inode;

	if (h->io == IO_NONE)
		return;
	pthread_mutex_lock(&inode->lock);
	if (h->io == IO_PASS || h->io == IO_PASS_DIRECT) {
		assert(inode->passing > 0);
		inode->passing--;
	}
	if (h->counted_as_cached) {
		assert(inode->cached > 0);
		inode->cached--;
	}
	if (inode->backing_id && !inode->passing &&
		(__atomic_load_n(&ws->backings, __ATOMIC_RELAXED) > MAX_IDLE_BACKINGS ||
			!inode->links))
		backing_close(ws, inode);
	pthread_mutex_unlock(&inode->lock);
	h->io = IO_NONE;
}

void passthrough_forget(struct workspace *ws, struct inode *inode)
{
	backing_close(ws, inode);
}

void passthrough_drop_all(struct workspace *ws, int any_file)
{
	struct backing_map map = {.fd = any_file};
	int last = ioctl(fuse_session_fd(ws->session), DEV_IOC_BACKING_OPEN, &map);

	/* The kernel counts upwards. */
	for (uint32_t id = 1; last > 0 && id <= (uint32_t)last; id++)
		(void)ioctl(fuse_session_fd(ws->session), DEV_IOC_BACKING_CLOSE, &id);
}
