#include "fs/capture.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "fs/behind.h"
#include "fs/handle.h"
#include "fs/inode.h"
#include "fs/session.h"
#include "fs/workspace.h"

/* From here on a capture takes a millisecond. */
enum { CAPTURE_LARGE = 1024 * 1024 };

/* A descriptor that reads what f->inode is, of a handle that is open or is just being
 * released; it stays the handle's. -1: none does. */
static int borrow_fd(const struct file *f)
{
	const struct handle *h = f->closing;

	if (h && h->reads_back && h->inode == f->inode)
		return h->fd;
	list_for_each (h, &f->handles, node)
		if (h->reads_back && h->inode == f->inode)
			return h->fd;
	return -1;
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

void capture_witness(struct file *f, const struct stat *st)
{
	f->witness = (struct witness){
		.seq = f->head.seq,
		.dev = st->st_dev,
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.mtime = st->st_mtim,
		.ctime = st->st_ctim,
	};
}

/* Is the file still what its newest version was captured from? */
static bool capture_agrees(const struct file *f, const struct stat *st)
{
	const struct witness *w = &f->witness;

	return w->seq && w->seq == f->head.seq && f->head.exists && !f->head.gone &&
	       f->head.has_hash && f->head.size == w->size && w->dev == st->st_dev &&
	       w->ino == st->st_ino && w->size == (uint64_t)st->st_size &&
	       same_time(w->mtime, st->st_mtim) && same_time(w->ctime, st->st_ctim);
}

void capture_follow(struct file *f)
{
	dirty_begin(&f->session.ranges, f->head.size);
	f->session.base_seq = f->head.seq;
}

/* Large enough that copying it would cost more than reading it. */
static bool may_be_the_head(const struct file *f, const struct stat *st)
{
	return f->head.exists && !f->head.gone && f->head.has_hash &&
	       S_ISREG(st->st_mode) && f->head.size == (uint64_t)st->st_size &&
	       f->head.size > DIGEST_FLAT_MAX;
}

void capture_begin(struct file *f, const struct stat *st)
{
	f->session.unverified = false;
	if (capture_agrees(f, st))
		capture_follow(f);
	else
		f->session.unverified = may_be_the_head(f, st);
}

struct opener {
	struct workspace *ws;
	struct inode *inode;
};

static int open_opener(void *ctx)
{
	const struct opener *o = ctx;

	return o->inode ? inode_open(o->ws, o->inode, O_RDONLY | O_NOATIME) : -ENOENT;
}

/* Nobody here has seen it captured (an earlier daemon did): is it what its newest version
 * says? Asked once, before its first change. */
static void verify(struct workspace *ws, struct file *f)
{
	auto_close int fd = -1;
	struct hash128 digest;
	uint64_t size;

	if (!f->session.unverified)
		return;
	f->session.unverified = false;
	if (f->session.dirty || !f->inode)
		return;
	fd = inode_open(ws, f->inode, O_RDONLY | O_NOATIME);
	if (fd >= 0 && digest_fd(fd, &digest, &size) == 0 && size == f->head.size &&
		hash128_equal(digest, f->head.hash))
		capture_follow(f);
}

void session_will_write(struct workspace *ws, struct file *f, uint64_t at, uint64_t len)
{
	struct opener o = {ws, f->inode};

	verify(ws, f);
	dirty_note(&f->session.ranges, at, len, open_opener, &o);
}

void session_will_resize(struct workspace *ws, struct file *f, uint64_t size)
{
	struct opener o = {ws, f->inode};

	if (size > 0)
		verify(ws, f);
	dirty_resize(&f->session.ranges, size, open_opener, &o);
}

void session_will_change_all(struct file *f)
{
	f->session.unverified = false;
	dirty_all(&f->session.ranges);
}

/* ---- captures ---- */

static void count_capture(struct workspace *ws, const struct capture *c)
{
	count(ws, captures);
	if (capture_is_patch(c))
		count(ws, captures_partial);
	else
		count(ws, captures_whole);
	count_add(ws, bytes_captured, capture_bytes(c));
}

bool capture_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	       a->st_size == b->st_size && same_time(a->st_mtim, b->st_mtim) &&
	       same_time(a->st_ctim, b->st_ctim);
}

bool capture_is_large(struct workspace *ws, struct file *f)
{
	struct stat st;
	uint64_t size;

	if (inode_stat(ws, f->inode, &st) < 0)
		return false;
	size = (uint64_t)st.st_size;
	if (size >= CAPTURE_LARGE && f->session.base_seq == f->head.seq)
		size = dirty_bytes(&f->session.ranges, size);
	return size >= CAPTURE_LARGE;
}

/* fd: a descriptor of the file, which stays whose it is. */
static int plan_with(
	struct file *f, int fd, bool raise, struct capture_plan *plan, bool *raised)
{
	if (fd < 0)
		return fd;
	if (fstat(fd, &plan->st) < 0)
		return -errno;
	if (raise && session_raise_mtime(fd, &f->head, &plan->st)) {
		*raised = true;
		if (fstat(fd, &plan->st) < 0) /* its ctime as well */
			return -errno;
	}
	plan->base = (struct capture_base){.seq = f->head.seq, .hash = f->head.hash};
	plan->partial = f->session.base_seq == f->head.seq &&
			dirty_base(&f->session.ranges, &plan->base, &plan->extents);
	plan->fd = fd;
	return 0;
}

int capture_prepare(struct workspace *ws, struct file *f, bool raise,
	struct capture_plan *plan, bool *raised)
{
	auto_close int fd = inode_open(ws, f->inode, O_RDONLY | O_NOATIME);
	int r;

	*plan = (struct capture_plan){.fd = -1};
	r = plan_with(f, fd, raise, plan, raised);
	if (r == 0)
		(void)steal_fd(&fd);
	return r;
}

int capture_run(struct workspace *ws, const struct capture_plan *plan, struct capture *out)
{
	return plan->partial
		       ? journal_capture_change(ws->journal, plan->fd, &plan->base, out)
		       : journal_capture(ws->journal, plan->fd, out);
}

void capture_plan_done(struct capture_plan *plan)
{
	if (plan->fd >= 0)
		close(plan->fd);
	free(plan->extents);
	*plan = (struct capture_plan){.fd = -1};
}

static int capture_link(
	struct workspace *ws, struct inode *inode, struct stat *st, struct capture *out)
{
	char target[PATH_MAX];
	int at = inode_fd_get(ws, inode), r;
	ssize_t n;

	if (at < 0)
		return at;
	r = fstat(at, st) < 0 ? -errno : 0;
	n = readlinkat(at, "", target, sizeof(target));
	if (n < 0)
		r = -errno;
	inode_fd_put(inode);
	return r < 0 ? r : journal_capture_bytes(target, (size_t)n, out);
}

/* All at once, so the descriptor may be a handle's. */
static int capture_now(struct workspace *ws, struct file *f, bool raise, struct stat *st,
	struct capture *out, bool *raised)
{
	struct capture_plan plan = {.fd = -1};
	int fd = borrow_fd(f), r;

	r = fd < 0 ? capture_prepare(ws, f, raise, &plan, raised)
		   : plan_with(f, fd, raise, &plan, raised);
	if (r == 0) {
		*st = plan.st;
		r = capture_run(ws, &plan, out);
	}
	if (plan.fd == fd)
		plan.fd = -1; /* it stays the handle's */
	capture_plan_done(&plan);
	return r;
}

int capture_file(struct workspace *ws, struct file *f, bool raise, struct stat *st,
	struct capture *out, bool *raised)
{
	int r = 0;

	*raised = false;
	if (S_ISLNK(f->inode->type))
		return capture_link(ws, f->inode, st, out);
	if (!behind_take(f, st, out))
		r = capture_now(ws, f, raise, st, out, raised);
	if (r == 0)
		count_capture(ws, out);
	return r;
}
