/*
 * handle.h - one open file description.
 *
 * Fields are set at open, or guarded by the lock of its file as marked.
 */
#ifndef STOMP_FS_HANDLE_H
#define STOMP_FS_HANDLE_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct inode;
struct process;

enum fence { FENCE_NONE, FENCE_TAKEOVER, FENCE_BREAK, FENCE_REPLACED, FENCE_REFUSED };

/* A guarded handle is always on the list of the file that its inode has now: find that
 * with file_lock_of(handle->inode). */
struct handle {
	struct list node;    /* file.handles; file.lock */
	struct inode *inode; /* counted */
	struct process *by;  /* counted: who opened it; NULL: unguarded */
	bool guarded;	     /* on the list of its inode's file; else `pass` or special */
	int fd;		     /* the backing file */
	bool readable, writable, append;
	bool mappable;		/* may carry a shared writable mapping */
	bool direct;		/* direct io: no page is locked while it writes */
	bool privilege_dropped; /* suid and sgid were looked at by a first write */
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

#endif
