#include "fs/closing.h"

#include <sched.h>

#include "fs/file.h"
#include "fs/handle.h"
#include "fs/inode.h"
#include "fs/procscan.h"
#include "fs/workspace.h"

enum closing { NONE, STILL_OPEN, CLOSE_HEARD, ON_ITS_WAY };

/* What is known of the writer's handles: of those that wrote, or of all that could. */
static enum closing closing_of(const struct file *f, const struct writer *w, bool wrote)
{
	enum closing closing = NONE;
	const struct handle *h;

	list_for_each (h, &f->handles, node) {
		if (!(wrote ? h->epoch != 0 : h->writable) || h->fence != FENCE_NONE ||
			h->by->writer != w)
			continue;
		if (!h->flushed)
			return STILL_OPEN;
		if (!__atomic_load_n(&h->releasing, __ATOMIC_ACQUIRE))
			closing = CLOSE_HEARD;
		else if (closing == NONE)
			closing = ON_ITS_WAY;
	}
	return closing;
}

/* The kernel sends the release before the closer's next system call, so another of our
 * threads has it, or is just about to. */
static enum closing wait_a_moment(const struct file *f, const struct writer *w, bool wrote)
{
	enum { YIELDS = 16 };
	enum closing closing = closing_of(f, w, wrote);

	for (int i = 0; i < YIELDS && closing == CLOSE_HEARD; i++) {
		sched_yield();
		closing = closing_of(f, w, wrote);
	}
	return closing;
}

bool closing_session(struct workspace *ws, const struct file *f)
{
	const struct writer *w = f->session.by ? f->session.by->writer : NULL;
	enum closing closing;

	if (!w)
		return false; /* there is none */
	closing = wait_a_moment(f, w, true);
	if (closing != CLOSE_HEARD)
		return closing != STILL_OPEN;
	/* A close of one descriptor of several (a child's, a dup)? */
	return !f->inode || !procscan_has_open(ws, w, f->inode->ino, true);
}

static bool may_be_mapped(const struct file *f)
{
	const struct handle *h;

	list_for_each (h, &f->handles, node)
		if (h->mappable && h->by->writer == f->lease.holder)
			return true;
	return false;
}

bool closing_lease(struct workspace *ws, const struct file *f)
{
	const struct writer *w = f->lease.holder;
	enum closing closing;

	if (!w)
		return false;
	closing = wait_a_moment(f, w, false);
	if (closing != CLOSE_HEARD)
		return closing == ON_ITS_WAY;
	return f->inode && !procscan_has_open(ws, w, f->inode->ino, true) &&
	       !(may_be_mapped(f) && procscan_is_mapped(ws, f, f->inode->ino));
}
