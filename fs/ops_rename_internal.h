/*
 * ops_rename_internal.h - one rename(2), between the files that carry it out: ops_rename.c
 * (both ends, files through the gate) and ops_rename_folders.c.
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
	bool deferred; /* the op is parked: it may be gone */
};

/* The backing's renameat2(2). */
must_check int rename_backing(struct rename *rn);
/* The inodes' names, after the backing has done it. */
void rename_swap_names(struct rename *rn);

/* Of folders, with what is below them (a file may change places with one). No names are
 * held. -ERESTART: another rename has changed a path meanwhile, nothing has happened. */
must_check int rename_folders(struct rename *rn);

#endif
