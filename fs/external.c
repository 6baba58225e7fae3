#include "fs/external.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/gate.h"
#include "fs/inode.h"
#include "fs/notify.h"
#include "fs/session.h"
#include "fs/workspace.h"

/* Read whole where a reader waits for it. */
enum { GLANCE_MAX_BYTES = 4 << 20 };

enum likeness { SAME, OTHER_MODE, OTHER_CONTENT, UNREAD };

static int64_t mtime_ns(const struct stat *st)
{
	return st->st_mtim.tv_sec * NS_PER_S + st->st_mtim.tv_nsec;
}

void external_touched(struct file *f, const struct stat *st)
{
	f->head.seen_mtime_ns = mtime_ns(st);
}

/* ---- the name ---- */

/* The inode's first name; *parent is counted, *name the caller's. -ESTALE: none. */
static int first_name(struct inode *inode, struct inode **parent, char **name)
{
	int r = -ESTALE;

	pthread_mutex_lock(&inode->lock);
	if (inode->links) {
		*name = strdup(inode->links->name);
		r = *name ? 0 : -ENOMEM;
	}
	if (r == 0) {
		*parent = inode->links->parent;
		inode_ref(*parent);
	}
	pthread_mutex_unlock(&inode->lock);
	return r;
}

/* 1: something is there, and *st tells what; 0: nothing. */
static int stat_name(
	struct workspace *ws, struct inode *parent, const char *name, struct stat *st)
{
	int dirfd = inode_fd_get(ws, parent), r = 1;

	if (dirfd < 0)
		return dirfd;
	if (fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW) < 0)
		r = errno == ENOENT ? 0 : -errno;
	inode_fd_put(parent);
	return r;
}

static int record_removal(
	struct workspace *ws, struct file *f, const char *path, size_t len)
{
	struct version v = {
		.kind = VERSION_DELETE,
		.flags = VERSION_OUTSIDE,
		.base_number = f->head.number,
	};

	return session_record(ws, f, NULL, path, len, NULL, &v, NULL);
}

/* The name was taken from the inode round the mount: the history stays with the path, what
 * is open with the inode that nobody finds any more. */
static int part(struct workspace *ws, struct file *f, struct inode *parent,
	const char *name, bool missing, const char *path, size_t len)
{
	struct inode *inode = f->inode;
	int r = session_finish(ws, f, VERSION_INCOMPLETE);

	if (r < 0)
		return r;
	if (inode_has_several_links(inode)) {
		inode_link_remove(ws, inode, parent, name); /* its other name stays */
		notify_entry(ws, parent, name);
		return -ESTALE;
	}
	gate_fence_others(f, identity_daemon(ws->identity)->writer);
	r = file_leave_inode(ws, f);
	if (r < 0)
		return r;
	inode_link_remove(ws, inode, parent, name);
	notify_entry(ws, parent, name);
	gate_maybe_end_lease(ws, f);
	if (missing && f->head.exists && !f->head.gone)
		r = record_removal(ws, f, path, len);
	file_ref(f);
	file_park(ws, f, parent, name);
	return r < 0 ? r : -ESTALE;
}

/* 0: the inode's name still leads to it, and *st is what it is. */
static int check_name(
	struct workspace *ws, struct file *f, const char *path, size_t len, struct stat *st)
{
	auto_free char *name = NULL;
	struct inode *parent;
	int r = first_name(f->inode, &parent, &name);

	if (r < 0)
		return r;
	r = stat_name(ws, parent, name, st);
	if (r == 1 && st->st_ino == f->inode->ino && st->st_dev == f->inode->dev)
		r = 0;
	else if (r >= 0)
		r = f->pending ? 0 : part(ws, f, parent, name, r == 0, path, len);
	inode_put(ws, parent);
	return r;
}

/* ---- the content ---- */

static int compare_bytes(struct workspace *ws, struct file *f)
{
	auto_close int fd = inode_open(ws, f->inode, O_RDONLY | O_NOATIME);
	struct hash128 hash;
	uint64_t size;
	int r = fd < 0 ? fd : digest_fd(fd, &hash, &size);

	if (r < 0)
		return r;
	return size == f->head.size && hash128_equal(hash, f->head.hash) ? SAME
									 : OTHER_CONTENT;
}

static int compare_target(struct workspace *ws, struct file *f)
{
	char target[PATH_MAX];
	struct hash128 hash;
	int at = inode_fd_get(ws, f->inode);
	ssize_t n;

	if (at < 0)
		return at;
	n = readlinkat(at, "", target, sizeof(target));
	inode_fd_put(f->inode);
	if (n < 0)
		return -errno;
	hash = hash128_bytes(target, (size_t)n);
	return hash128_equal(hash, f->head.hash) ? SAME : OTHER_CONTENT;
}

/* enum likeness, or -errno. */
static int compare(struct workspace *ws, struct file *f, const struct stat *st,
	enum external_effort effort)
{
	const struct head *h = &f->head;
	int64_t mtime = mtime_ns(st);

	if (h->gone)
		return OTHER_CONTENT;
	if (!h->has_hash)
		return SAME; /* of a version without content nothing is known */
	if (S_ISLNK(st->st_mode))
		return compare_target(ws, f);
	if ((uint64_t)st->st_size != h->size)
		return OTHER_CONTENT;
	if (mtime != h->mtime_ns && mtime != h->seen_mtime_ns) {
		int r;

		if (effort == EXTERNAL_GLANCE && st->st_size > GLANCE_MAX_BYTES)
			return UNREAD;
		r = compare_bytes(ws, f);
		if (r != SAME)
			return r;
		external_touched(f, st);
	}
	/* A file of several names has a history for each: its mode may be in another's. */
	return st->st_mode == h->mode || st->st_nlink > 1 ? SAME : OTHER_MODE;
}

/* A change through another of its names, of which this one's history does not tell (L10)?
 */
static bool known_by_another_name(
	struct workspace *ws, struct file *f, const struct stat *st)
{
	auto_close int fd = -1;
	struct hash128 hash;
	uint64_t size;

	if (st->st_nlink < 2 || !S_ISREG(st->st_mode))
		return false;
	fd = inode_open(ws, f->inode, O_RDONLY | O_NOATIME);
	return fd >= 0 && digest_fd(fd, &hash, &size) == 0 &&
	       journal_has_content(ws->journal, hash, size);
}

/* Readers are told a number that the version will have, whenever it is recorded. */
static int note(struct workspace *ws, struct file *f)
{
	if (f->head.noticed_seq)
		return EXTERNAL_NONE;
	f->head.noticed_epoch = __atomic_load_n(&ws->rule_epoch, __ATOMIC_ACQUIRE);
	return journal_next_seq(ws->journal, &f->head.noticed_seq) ?: EXTERNAL_FOUND;
}

/* The number given to readers, unless a folder was renamed since: rows that are older than
 * that are another path's. */
static uint64_t noticed_seq(struct workspace *ws, const struct file *f)
{
	return f->head.noticed_epoch == __atomic_load_n(&ws->rule_epoch, __ATOMIC_ACQUIRE)
		       ? f->head.noticed_seq
		       : 0;
}

static int record(struct workspace *ws, struct file *f, const char *path, size_t len,
	const struct stat *st, enum likeness likeness)
{
	struct version v = {
		.kind = VERSION_EXTERNAL,
		.base_number = f->head.number,
		.seq = noticed_seq(ws, f),
	};
	int64_t mounted_ns = f->head.content.made_ns;
	bool first = !f->head.checked;
	int r;

	if (likeness == OTHER_MODE) {
		v = (struct version){
			.kind = VERSION_MODE,
			.flags = VERSION_OUTSIDE,
			.base_number = f->head.number,
			.has_content = true,
			.content = f->head.hash,
			.size = f->head.size,
		};
		r = session_record(ws, f, NULL, path, len, st, &v, NULL);
	} else {
		r = session_record_found(ws, f, path, len, &v);
	}
	if (r < 0)
		return r;
	/* Nobody goes round a folder mounted over itself: it was so when it was mounted. */
	if (first && ws->over_itself && likeness == OTHER_CONTENT)
		f->head.content.made_ns = mounted_ns;
	f->head.noticed_seq = 0;
	if (f->inode)
		notify_content(ws, f->inode);
	return EXTERNAL_FOUND;
}

/* What the inode's first name leads to; false where that cannot be said at once. */
static bool stat_first_name(struct workspace *ws, struct inode *inode, struct stat *st)
{
	bool found = false;

	pthread_mutex_lock(&inode->lock); /* of the child before that of the parent */
	if (inode->links)
		found = stat_name(ws, inode->links->parent, inode->links->name, st) == 1;
	pthread_mutex_unlock(&inode->lock);
	return found;
}

bool external_is_as_known(struct workspace *ws, struct file *f, int64_t *size)
{
	const struct head *h = &f->head;
	struct stat st;

	if (!h->loaded || h->several || h->noticed_seq || !f->inode ||
		!stat_first_name(ws, f->inode, &st) || st.st_ino != f->inode->ino ||
		st.st_dev != f->inode->dev || st.st_nlink > 1)
		return false;
	*size = st.st_size;
	if (f->session.by || !h->exists)
		return true;
	return !h->gone && h->has_hash && (uint64_t)st.st_size == h->size &&
	       st.st_mode == h->mode &&
	       (mtime_ns(&st) == h->mtime_ns || mtime_ns(&st) == h->seen_mtime_ns);
}

int external_check(struct workspace *ws, struct file *f, const char *path, size_t len,
	enum external_effort effort, struct stat *st)
{
	int r, likeness;

	*st = (struct stat){0};

	if (!f->inode || (!S_ISREG(f->inode->type) && !S_ISLNK(f->inode->type)))
		return EXTERNAL_NONE;
	r = check_name(ws, f, path, len, st);
	/* While somebody is changing it, what is there is his. */
	if (r < 0 || f->session.by || !f->head.exists)
		return r;
	likeness = compare(ws, f, st, effort);
	if (likeness == OTHER_CONTENT && known_by_another_name(ws, f, st))
		likeness = SAME;
	if (likeness == OTHER_CONTENT && effort == EXTERNAL_GLANCE &&
		st->st_size > GLANCE_MAX_BYTES)
		likeness = UNREAD;
	if (likeness == SAME) {
		r = EXTERNAL_NONE;
		f->head.noticed_seq = 0;
	} else if (likeness == UNREAD) {
		r = note(ws, f);
	} else {
		r = likeness < 0 ? likeness : journal_health(ws->journal);
		if (r == 0)
			r = record(ws, f, path, len, st, (enum likeness)likeness);
	}
	f->head.checked |= r >= 0;
	return r;
}

int external_check_missing(struct workspace *ws, struct file *f, struct inode *parent,
	const char *name, const char *path, size_t len)
{
	struct stat st;
	int r;

	if (!f->head.exists || f->head.gone || f->session.by || f->inode)
		return EXTERNAL_NONE;
	r = stat_name(ws, parent, name, &st);
	if (r < 0)
		return r;
	if (r == 1)
		return EXTERNAL_NONE; /* it is there, and the act will say so */
	r = journal_health(ws->journal);
	if (r == 0)
		r = record_removal(ws, f, path, len);
	return r < 0 ? r : EXTERNAL_FOUND;
}
