/*
 * external.h - changes made round the mount: found, recorded, never adopted in silence.
 *
 * The backing may have been changed before the mount, after a crash, or by somebody who
 * reaches it otherwise. Whenever a path is opened or changed and no session is on it, what
 * is there is held against its newest version: size, modification time and mode first,
 * the content where those differ. What differs becomes a version of kind external, which
 * has no author and which nobody knows until he has read it (S2).
 *
 * Not seen: a change that leaves size and modification time exactly as they were.
 *
 * All calls with the file's lock held, its head loaded. They may block on disk.
 */
#ifndef STOMP_FS_EXTERNAL_H
#define STOMP_FS_EXTERNAL_H

#include <stdbool.h>
#include <sys/stat.h>

#include "fs/file.h"

enum external_effort {
	EXTERNAL_GLANCE, /* for a reader: a large file is not read; readers know from then
			    on what is there, and whoever changes it records it */
	EXTERNAL_LOOK,	 /* before a change: whatever it takes */
};

enum external_answer {
	EXTERNAL_NONE = 0,  /* it is as its newest version says */
	EXTERNAL_FOUND = 1, /* it is not; recorded, or noted (EXTERNAL_GLANCE) */
};

/* The same at a glance, without a path and mostly without a cost: true where
 * external_check() would find nothing, and then *size is that of the file. */
bool external_is_as_known(struct workspace *ws, struct file *f, int64_t *size);

/* f->inode against the head. *st: of a file or symlink, where its name leads, as it was
 * found. -ESTALE: its name leads to another inode or to none (that is
 * recorded): look the path up again. -errno of the journal, of the backing. */
must_check int external_check(struct workspace *ws, struct file *f, const char *path,
	size_t len, enum external_effort effort, struct stat *st);

/* Nothing is at name in parent, as the kernel says: a file that ought to be there was
 * removed round the mount. Answers as above. */
must_check int external_check_missing(struct workspace *ws, struct file *f,
	struct inode *parent, const char *name, const char *path, size_t len);

/* What the mount itself did to the file's times since its newest version. */
void external_touched(struct file *f, const struct stat *st);

#endif
