#include "fs/inode.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "fs/copy.h"
#include "fs/file.h"
#include "fs/inode_internal.h"
#include "fs/passthrough.h"
#include "fs/workspace.h"

static uint64_t key_hash(uint64_t dev, uint64_t ino)
{
	return table_hash_u64(ino * 0x9e3779b97f4a7c15u ^ dev);
}

int inode_table_init(struct inode_table *t, uint64_t max_fds)
{
	*t = (struct inode_table){.max_fds = max_fds};
	for (int i = 0; i < INODE_SHARDS; i++) {
		pthread_mutex_init(&t->shards[i].lock, NULL);
		if (table_init(&t->shards[i].table) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* ---- memory ---- */

void inode_link_free(struct workspace *ws, struct link_name *link)
{
	inode_put(ws, link->parent);
	free(link->name);
	free(link);
}

static void inode_destroy(struct workspace *ws, struct inode *inode)
{
	struct link_name *link;

	if (inode->file) {
		struct file *f = inode->file;

		struct inode *self = inode;

		inode->file = NULL;
		pthread_mutex_lock(&f->lock);
		/* Whoever took it from where it is parked has set another by now. */
		__atomic_compare_exchange_n(
			&f->inode, &self, NULL, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
		pthread_mutex_unlock(&f->lock);
		file_put(ws, f);
	}
	while ((link = inode->links)) {
		inode->links = link->next;
		inode_link_free(ws, link);
	}
	passthrough_forget(ws, inode);
	if (S_ISDIR(inode->type))
		dir_stash_forget(&ws->dir_stash, inode_id(ws, inode));
	if (inode->fd >= 0) {
		close(inode->fd);
		__atomic_fetch_sub(&ws->inodes.open_fds, 1, __ATOMIC_RELAXED);
	}
	if (inode->orphan_fd >= 0)
		close(inode->orphan_fd);
	if (inode->successor)
		inode_forget(ws, inode->successor, 1);
	pthread_mutex_destroy(&inode->lock);
	__atomic_fetch_sub(&ws->inodes.count, 1, __ATOMIC_RELAXED);
	free(inode);
}

void inode_ref(struct inode *inode)
{
	__atomic_fetch_add(&inode->refs, 1, __ATOMIC_RELAXED);
}

static unsigned shard_of(uint64_t hash)
{
	return (hash >> 32) % INODE_SHARDS;
}

void inode_put(struct workspace *ws, struct inode *inode)
{
	uint64_t hash;
	unsigned s;

	if (!inode)
		return;
	/* The last reference is dropped under the shard lock: nobody can find it then. */
	for (uint64_t refs = __atomic_load_n(&inode->refs, __ATOMIC_RELAXED); refs > 1;)
		if (__atomic_compare_exchange_n(&inode->refs, &refs, refs - 1, true,
			    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			return;
	hash = key_hash(inode->dev, inode->ino);
	s = shard_of(hash);
	pthread_mutex_lock(&ws->inodes.shards[s].lock);
	if (__atomic_sub_fetch(&inode->refs, 1, __ATOMIC_ACQ_REL) > 0) {
		pthread_mutex_unlock(&ws->inodes.shards[s].lock);
		return;
	}
	if (!inode_is_detached(inode)) {
		/* Before another inode of this key can be made, which would find nothing
		 * parked and begin anew: without leases, readers, or rows still queued. */
		if (inode->file && inode->links) {
			file_ref(inode->file);
			file_park(
				ws, inode->file, inode->links->parent, inode->links->name);
		}
		table_remove(&ws->inodes.shards[s].table, &inode->by_key);
	}
	pthread_mutex_unlock(&ws->inodes.shards[s].lock);
	inode_destroy(ws, inode);
}

void inode_forget(struct workspace *ws, struct inode *inode, uint64_t nlookup)
{
	unsigned s = shard_of(key_hash(inode->dev, inode->ino));
	bool last;

	pthread_mutex_lock(&ws->inodes.shards[s].lock);
	assert(inode->nlookup >= nlookup);
	inode->nlookup -= nlookup;
	last = inode->nlookup == 0;
	pthread_mutex_unlock(&ws->inodes.shards[s].lock);
	if (last)
		inode_put(ws, inode);
}

/* When it was made, where the backing knows; else 0 for all. */
static uint64_t birth_of(int fd)
{
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &sx) < 0 ||
		!(sx.stx_mask & STATX_BTIME))
		return 0;
	return (uint64_t)sx.stx_btime.tv_sec * NS_PER_S + sx.stx_btime.tv_nsec;
}

static struct inode *inode_new(struct workspace *ws, int fd, const struct stat *st)
{
	struct inode *inode = calloc(1, sizeof(*inode));

	if (!inode)
		return NULL;
	pthread_mutex_init(&inode->lock, NULL);
	inode->dev = st->st_dev;
	inode->ino = st->st_ino;
	inode->type = st->st_mode & S_IFMT;
	inode->born = S_ISDIR(inode->type) ? birth_of(fd) : 0;
	inode->fd = fd;
	inode->orphan_fd = -1;
	inode->refs = 1;
	__atomic_fetch_add(&ws->inodes.count, 1, __ATOMIC_RELAXED);
	if (fd >= 0)
		__atomic_fetch_add(&ws->inodes.open_fds, 1, __ATOMIC_RELAXED);
	return inode;
}

int inode_root_new(struct workspace *ws, int fd, struct inode **out)
{
	struct inode *inode;
	struct stat st;
	uint64_t hash;

	if (fstat(fd, &st) < 0)
		return -errno;
	inode = inode_new(ws, fd, &st);
	if (!inode)
		return -ENOMEM;
	inode->nlookup = 1; /* the kernel holds the root for good */
	hash = key_hash(inode->dev, inode->ino);
	table_insert(&ws->inodes.shards[shard_of(hash)].table, &inode->by_key, hash);
	*out = inode;
	return 0;
}

fuse_ino_t inode_id(const struct workspace *ws, const struct inode *inode)
{
	return inode == ws->root_inode ? FUSE_ROOT_ID : workspace_id(ws, inode);
}

struct inode *inode_of(const struct workspace *ws, fuse_ino_t id)
{
	if (id == FUSE_ROOT_ID)
		return ws->root_inode;
	return (struct inode *)(uintptr_t)ID_OF_GENERATION(id);
}

/* ---- finding ---- */

static struct inode *shard_find(struct table *t, uint64_t hash, uint64_t dev, uint64_t ino)
{
	struct table_node *node;

	table_for_each (node, t, hash) {
		struct inode *inode = container_of(node, struct inode, by_key);

		if (inode->dev == dev && inode->ino == ino)
			return inode;
	}
	return NULL;
}

struct inode *inode_find(struct workspace *ws, uint64_t dev, uint64_t ino)
{
	uint64_t hash = key_hash(dev, ino);
	unsigned s = shard_of(hash);
	struct inode *inode;

	pthread_mutex_lock(&ws->inodes.shards[s].lock);
	inode = shard_find(&ws->inodes.shards[s].table, hash, dev, ino);
	if (inode)
		inode_ref(inode);
	pthread_mutex_unlock(&ws->inodes.shards[s].lock);
	return inode;
}

/* Find by key and count a lookup; NULL when it is not known. */
static struct inode *find_for_kernel(struct workspace *ws, const struct stat *st)
{
	uint64_t hash = key_hash(st->st_dev, st->st_ino);
	unsigned s = shard_of(hash);
	struct inode *inode;

	pthread_mutex_lock(&ws->inodes.shards[s].lock);
	inode = shard_find(&ws->inodes.shards[s].table, hash, st->st_dev, st->st_ino);
	/* An inode number that came back as another type is another file. */
	if (inode && inode->nlookup++ == 0)
		inode_ref(inode);
	pthread_mutex_unlock(&ws->inodes.shards[s].lock);
	return inode;
}

static bool shard_evict(struct workspace *ws, unsigned s, uint64_t *excess)
{
	struct table *t = &ws->inodes.shards[s].table;

	pthread_mutex_lock(&ws->inodes.shards[s].lock);
	for (size_t b = 0; b < t->n_buckets && *excess; b++)
		for (struct table_node *n = t->buckets[b]; n && *excess; n = n->next) {
			struct inode *inode = container_of(n, struct inode, by_key);

			/* Folders stay open: everything else is reopened through them. */
			if (S_ISDIR(inode->type) || pthread_mutex_trylock(&inode->lock))
				continue;
			if (inode->fd >= 0 && !inode->fd_users && inode->links) {
				close(inode->fd);
				__atomic_store_n(&inode->fd, -1, __ATOMIC_RELAXED);
				__atomic_fetch_sub(
					&ws->inodes.open_fds, 1, __ATOMIC_RELAXED);
				(*excess)--;
			}
			pthread_mutex_unlock(&inode->lock);
		}
	pthread_mutex_unlock(&ws->inodes.shards[s].lock);
	return *excess > 0;
}

/* Keep the number of open descriptors within bounds: close idle ones, an eighth at a
 * time. */
static void evict_fds(struct workspace *ws)
{
	struct inode_table *t = &ws->inodes;
	uint64_t excess = t->max_fds / 8 + 1;

	if (__atomic_load_n(&t->open_fds, __ATOMIC_RELAXED) < t->max_fds)
		return;
	for (int i = 0; i < INODE_SHARDS; i++) {
		uint32_t s = __atomic_fetch_add(&t->evict_at, 1, __ATOMIC_RELAXED);

		if (!shard_evict(ws, s % INODE_SHARDS, &excess))
			break;
	}
}

/* Put it into the table, or find that it is there already. fd moves in; -1: it is opened
 * when it is needed. */
static int add_known(struct workspace *ws, struct inode *parent, const char *name, int fd,
	const struct stat *st, struct inode **out)
{
	struct inode *fresh = inode_new(ws, fd, st), *known;
	uint64_t hash = key_hash(st->st_dev, st->st_ino);
	unsigned s = shard_of(hash);

	if (!fresh) {
		if (fd >= 0)
			close(fd);
		return -ENOMEM;
	}
	pthread_mutex_lock(&ws->inodes.shards[s].lock);
	known = shard_find(&ws->inodes.shards[s].table, hash, st->st_dev, st->st_ino);
	if (known) {
		if (known->nlookup++ == 0)
			inode_ref(known);
	} else {
		fresh->nlookup = 1;
		table_insert(&ws->inodes.shards[s].table, &fresh->by_key, hash);
	}
	pthread_mutex_unlock(&ws->inodes.shards[s].lock);
	if (known) {
		inode_destroy(ws, fresh);
		fresh = known;
	}
	if (name)
		inode_link_add(fresh, parent, name);
	*out = fresh;
	return 0;
}

int inode_add(struct workspace *ws, struct inode *parent, const char *name, int fd,
	struct inode **out, struct stat *st)
{
	evict_fds(ws);
	if (fstat(fd, st) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return add_known(ws, parent, name, fd, st, out);
}

/* A folder is opened at once: everything below it is reached through it. The rest is when
 * it is needed, by its name. */
static int lookup_new(struct workspace *ws, struct inode *parent, int dirfd,
	const char *name, struct inode **out, struct stat *st)
{
	int fd;

	if (!S_ISDIR(st->st_mode))
		return add_known(ws, parent, name, -1, st, out);
	fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return inode_add(ws, parent, name, fd, out, st);
}

int inode_lookup(struct workspace *ws, struct inode *parent, const char *name,
	struct inode **out, struct stat *st)
{
	int dirfd = inode_fd_get(ws, parent);
	struct inode *inode;
	int r = 0;

	if (dirfd < 0)
		return dirfd;
	if (fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW) < 0) {
		r = -errno;
		goto out;
	}
	inode = find_for_kernel(ws, st);
	if (inode && inode->type == (st->st_mode & S_IFMT)) {
		inode_link_add(inode, parent, name);
		*out = inode;
		goto out;
	}
	if (inode)
		inode_forget(ws, inode, 1);
	r = lookup_new(ws, parent, dirfd, name, out, st);
out:
	inode_fd_put(parent);
	return r;
}

/* ---- descriptors ---- */

int inode_reopen(struct workspace *ws, struct inode *inode)
{
	struct link_name *link = inode->links;
	struct stat st;
	int dirfd, fd, r = 0;

	if (!link)
		return -ESTALE;
	dirfd = inode_fd_get(ws, link->parent);
	if (dirfd < 0)
		return dirfd;
	fd = openat(dirfd, link->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		r = -errno;
	inode_fd_put(link->parent);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	if (fstat(fd, &st) < 0 || st.st_ino != inode->ino || st.st_dev != inode->dev) {
		close(fd);
		return -ESTALE; /* somebody went round the mount */
	}
	__atomic_store_n(&inode->fd, fd, __ATOMIC_RELAXED);
	__atomic_fetch_add(&ws->inodes.open_fds, 1, __ATOMIC_RELAXED);
	return 0;
}

void inode_keep(struct workspace *ws, struct inode *inode)
{
	pthread_mutex_lock(&inode->lock);
	if (inode->fd < 0)
		(void)!inode_reopen(ws, inode);
	pthread_mutex_unlock(&inode->lock);
}

int inode_fd_get(struct workspace *ws, struct inode *inode)
{
	int r = 0;

	if (__atomic_load_n(&inode->fd, __ATOMIC_RELAXED) < 0)
		evict_fds(ws); /* there may be one more in a moment */
	pthread_mutex_lock(&inode->lock);
	if (inode->fd < 0)
		r = inode_reopen(ws, inode);
	if (r == 0) {
		inode->fd_users++;
		r = inode->fd;
	}
	pthread_mutex_unlock(&inode->lock);
	return r;
}

void inode_fd_put(struct inode *inode)
{
	pthread_mutex_lock(&inode->lock);
	assert(inode->fd_users > 0);
	inode->fd_users--;
	pthread_mutex_unlock(&inode->lock);
}

int inode_open(struct workspace *ws, struct inode *inode, int flags)
{
	char path[32];
	int at = inode_fd_get(ws, inode);
	int fd;

	if (at < 0)
		return at;
	snprintf(path, sizeof(path), "self/fd/%d", at);
	flags = (flags & ~O_NOFOLLOW) | O_CLOEXEC;
	fd = openat(ws->proc_fd, path, flags);
	if (fd < 0 && errno == EPERM && (flags & O_NOATIME))
		fd = openat(ws->proc_fd, path, flags & ~O_NOATIME);
	if (fd < 0)
		fd = -errno;
	inode_fd_put(inode);
	return fd;
}

int inode_stat(struct workspace *ws, struct inode *inode, struct stat *st)
{
	int r = 0;

	r = inode_fd_get(ws, inode);
	if (r < 0)
		return r;
	r = fstatat(r, "", st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	inode_fd_put(inode);
	return r;
}

/* ---- detaching ---- */

struct inode *inode_current(struct inode *inode)
{
	while (inode_is_detached(inode))
		inode = inode->successor;
	return inode;
}

/* A second inode for the same backing file, to be found by its key from now on. */
static struct inode *successor_new(
	struct workspace *ws, struct inode *inode, struct file *f, unsigned s)
{
	struct inode *fresh;
	struct stat st;
	int fd;

	if (inode_stat(ws, inode, &st) < 0)
		return NULL;
	fd = inode_open(ws, inode, O_PATH);
	if (fd < 0)
		return NULL;
	fresh = inode_new(ws, fd, &st);
	if (!fresh) {
		close(fd);
		return NULL;
	}
	fresh->nlookup = 1; /* the old inode's */
	/* Before anybody can find it: he would make it a file of its own. */
	file_ref(f);
	fresh->file = f;
	pthread_mutex_lock(&inode->lock);
	for (struct link_name *l = inode->links; l; l = l->next)
		inode_link_add(fresh, l->parent, l->name);
	pthread_mutex_unlock(&inode->lock);
	pthread_mutex_lock(&ws->inodes.shards[s].lock);
	table_remove(&ws->inodes.shards[s].table, &inode->by_key);
	table_insert(&ws->inodes.shards[s].table, &fresh->by_key,
		key_hash(inode->dev, inode->ino));
	inode->successor = fresh;
	__atomic_store_n(&inode->detached, true, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&ws->inodes.shards[s].lock);
	return fresh;
}

int inode_detach(struct workspace *ws, struct inode *inode, struct file *f)
{
	unsigned s = shard_of(key_hash(inode->dev, inode->ino));
	auto_close int copy = -1;
	auto_close int from = inode_open(ws, inode, O_RDONLY | O_NOATIME);
	int r;

	assert(!inode_is_detached(inode));
	if (from < 0)
		return from;
	copy = copy_shadow_new(ws->shadow_fd);
	if (copy < 0)
		return copy;
	r = copy_content(from, copy);
	if (r < 0)
		return r;
	inode->orphan_fd = steal_fd(&copy);
	if (!successor_new(ws, inode, f, s)) {
		close(inode->orphan_fd);
		inode->orphan_fd = -1;
		return -ENOMEM;
	}
	return 0;
}

int inode_twin(struct workspace *ws, struct inode *inode, struct file *f)
{
	unsigned s = shard_of(key_hash(inode->dev, inode->ino));

	assert(!inode_is_detached(inode));
	return successor_new(ws, inode, f, s) ? 0 : -ENOMEM;
}

static void destroy_each(struct table_node *node, void *ctx)
{
	struct workspace *ws = ctx;
	struct inode *inode = container_of(node, struct inode, by_key);

	if (inode->file)
		file_end(ws, inode->file);
	for (struct link_name *link = inode->links, *next; link; link = next) {
		next = link->next;
		free(link->name);
		free(link);
	}
	if (inode->fd >= 0)
		close(inode->fd);
	if (inode->orphan_fd >= 0)
		close(inode->orphan_fd);
	pthread_mutex_destroy(&inode->lock);
	free(inode);
}

void inode_table_done(struct workspace *ws)
{
	/* The kernel has let go of everything; references among inodes no longer matter. */
	for (int i = 0; i < INODE_SHARDS; i++) {
		table_each(&ws->inodes.shards[i].table, destroy_each, ws);
		table_done(&ws->inodes.shards[i].table);
		pthread_mutex_destroy(&ws->inodes.shards[i].lock);
	}
}
