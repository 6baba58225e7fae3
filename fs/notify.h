/*
 * notify.h - telling the kernel that what it caches has changed.
 *
 * Invalidations block on the kernel's own locks, so none is sent from a thread that
 * serves a request: a thread of its own sends them, in order, from a bounded queue.
 */
#ifndef STOMP_FS_NOTIFY_H
#define STOMP_FS_NOTIFY_H

#include "fs/workspace.h"

must_check int notifier_new(struct workspace *ws, struct notifier **out);
struct notifier *notifier_free(struct notifier *n);

/* Attributes only. */
void notify_attr(struct workspace *ws, const struct inode *inode);
/* The same before this returns: that takes none of the kernel's locks. The inode's number
 * must be held by the request that is served. */
void notify_attr_now(struct workspace *ws, const struct inode *inode);
/* Attributes and cached pages. */
void notify_content(struct workspace *ws, const struct inode *inode);
/* The name in parent means something else now. */
void notify_entry(struct workspace *ws, const struct inode *parent, const char *name);

/* Write back and drop the pages of inode, and return when that is done. The caller
 * serves a request but holds no lock: its pages may come in as writes meanwhile. */
void notify_flush_pages(struct workspace *ws, const struct inode *inode);

/* What inode stands for was changed through it. Where it was left behind (inode_detach(),
 * inode_twin()) the kernel has looked after its pages and size, and not after those of the
 * inode that the path has now: drop them, and return when that is done. No lock may be
 * held.
 */
void notify_successor(struct workspace *ws, struct inode *inode);

/* Run fn(ctx) after everything queued so far was sent. */
void notify_then(struct workspace *ws, void (*fn)(void *ctx), void *ctx);

#endif
