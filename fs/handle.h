/*
 * handle.h - one open file description.
 *
 * Fields are set at open, or guarded by the lock of its file as marked. Errors are
 * -errno.
 */
#ifndef STOMP_FS_HANDLE_H
#define STOMP_FS_HANDLE_H

#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "fs/passthrough.h"

struct file;
struct inode;
struct process;
struct workspace;

enum fence { FENCE_NONE, FENCE_TAKEOVER, FENCE_BREAK, FENCE_REPLACED, FENCE_REFUSED };

/* A guarded handle is always on the list of the file that its inode has now: find that
 * with file_lock_of(handle->inode). */
struct handle {
	struct list node;    /* file.handles; file.lock */
	struct inode *inode; /* counted */
	struct process *by;  /* counted: who opened it; NULL: unguarded */
	uid_t uid;	     /* whose open files it is one of: shares.h */
	bool guarded;	     /* on the list of its inode's file; else `pass` or special */
	int fd;		     /* the backing file; -1: not needed yet, see handle_fd() */
	int flags;	     /* to open that with */
	int64_t size_seen;   /* of the file, by who opened it just now; -1: not looked at */
	enum io_mode io;     /* passthrough.h; what it counts as is under inode.lock */
	bool counted_as_cached;
	bool shuns_passing; /* of a file that somebody opens for reading and writing */
	int backing_id;
	bool readable, writable, append;
	bool reads_back;	/* fd reads as well, without an access time: for captures */
	bool drop_pages;	/* what the kernel has cached was changed round the mount */
	bool mappable;		/* may carry a shared writable mapping */
	bool drops_bits;	/* a write by who opened it takes suid or sgid away */
	bool privilege_dropped; /* suid and sgid were looked at by a first write */
	bool releasing;		/* its RELEASE was read, though not yet handled; atomic */
	/* file.lock: */
	bool flushed;	  /* close was called, and nothing written since */
	uint64_t epoch;	  /* the lease it writes under; 0: none yet */
	enum fence fence; /* refused for ever, and why (L5) */
	uint64_t fenced_by_epoch;
	const char *fenced_by; /* writer's name; lives as long as the workspace */
};

static inline struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

static inline bool handle_may_write(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

/* Do its reads and writes come to us, with no page locked meanwhile? */
static inline bool handle_is_direct(const struct handle *h)
{
	return h->io == IO_DIRECT || h->io == IO_PASS_DIRECT;
}

/* What of a caller's flags goes to the backing. */
int handle_backing_flags(int flags);

/* A new handle on a file (its lock is held; NULL: nothing guards it). fd moves in; -1: it
 * is opened by handle_open_fd() or when it is needed. */
must_check int handle_new(struct workspace *ws, struct inode *inode, struct file *f,
	struct process *by, uid_t uid, int fd, int flags, struct handle **out);
/* May the backing file stay closed until a request needs it? Where the kernel reads by
 * itself, and where what it has in its page cache may be all that is ever asked for: not
 * without privilege, as by then the file's mode may have been taken away. io is chosen. */
bool handle_opens_later(const struct workspace *ws, const struct handle *h);
must_check int handle_open_fd(struct workspace *ws, struct handle *h, int more_flags);
/* fd was opened to read as well, though its caller only writes: may captures use it? */
void handle_reads_back(struct handle *h);
/* The backing file, opened if need be. */
must_check int handle_fd(struct workspace *ws, struct handle *h);

/* What the kernel is to be told of it. */
void handle_describe(struct workspace *ws, struct handle *h, struct fuse_file_info *fi);

/* Off its file's list (the lock is held if it is guarded), then free. */
void handle_remove(struct handle *h);
void handle_free(struct workspace *ws, struct handle *h);
/* Nobody was told of it: both, and what its writer held by it. No lock is held. */
void handle_discard(struct workspace *ws, struct handle *h);

#endif
