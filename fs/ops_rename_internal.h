/*
 * ops_rename_internal.h - one rename(2), between the files that carry it out: ops_rename.c
 * (both ends, files through the gate), ops_rename_folders.c, and ops_rename_special.c for
 * what has no content: pipes, sockets, devices.
 */
#ifndef STOMP_FS_OPS_RENAME_INTERNAL_H
#define STOMP_FS_OPS_RENAME_INTERNAL_H

#include "fs/ops.h"

/* Both ends of one rename. */
struct end {
	struct inode *parent, *inode; /* inode: NULL where nothing is; a lookup is held */
	const char *name;
	struct stat st;
	struct buf path;
	struct file *file; /* counted and locked */
};

struct rename {
	struct op *op;
	struct workspace *ws;
	unsigned flags;
	struct end from, to;
	struct head lost; /* what to's name had, where the file there has others */
	bool deferred;	  /* the op is parked: it may be gone */
};

/* The backing's renameat2(2). */
must_check int rename_backing(struct rename *rn);
/* The inodes' names, after the backing has done it. */
void rename_swap_names(struct rename *rn);

static inline bool is_guardable(const struct inode *inode)
{
	return inode && (S_ISREG(inode->type) || S_ISLNK(inode->type));
}

static inline bool is_of_folders(const struct rename *rn)
{
	return (rn->from.inode && S_ISDIR(rn->from.inode->type)) ||
	       (rn->to.inode && S_ISDIR(rn->to.inode->type));
}

/* Through the gate, with both ends' files. from is a file or symlink; to is one, or nothing
 * that a history would tell of, whatever is there in the backing. 0, GATE_PARKED, -errno.
 */
must_check int rename_guarded(struct rename *rn);

/* At least one end is a folder, pipe, socket or device. The same answers. */
must_check int rename_special(struct rename *rn);

/* Of folders, with what is below them (a file may change places with one). No names are
 * held. -ERESTART: another rename has changed a path meanwhile, nothing has happened. */
must_check int rename_folders(struct rename *rn);

#endif
