/*
 * durability.h - what survives a power cut, and from when on (V4, `durability=`).
 *
 * fsync(2) holds content, name, version and who made it on stable storage: the file and,
 * where it is new, its folder; the intents that speak of what has no version yet; and the
 * versions that the journal has been given. After it, the session's intent stays until its
 * version is on stable storage, not merely written (fs/retire.h).
 *
 * No lock is held. They block on disk. -errno of whatever could not be made durable.
 */
#ifndef STOMP_FS_DURABILITY_H
#define STOMP_FS_DURABILITY_H

#include "fs/handle.h"
#include "policy/rules.h"

/* fsync(2) or fdatasync(2) through h. */
must_check int durable_file(struct workspace *ws, struct handle *h, bool datasync);

/* At close, where the policy says durability=close and h has written. */
must_check int durable_close(struct workspace *ws, struct handle *h);

/* fsync(2) of a folder that is open as fd: its names, and what happened to them. */
must_check int durable_folder(struct workspace *ws, int fd, bool datasync);

/* A name in parent was made, taken away or given to another file, and rule is of the path:
 * with durability=close that holds now. */
must_check int durable_name(
	struct workspace *ws, struct inode *parent, const struct rule *rule);

#endif
