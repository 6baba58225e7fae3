/*
 * procscan.h - what /proc knows of who has a file of the mount open or mapped.
 *
 * Walks all processes, so it is for rare moments only: a holder whose opener died (L2),
 * somebody else's writable handle at a grant (L6). Where a process may not be looked
 * into, the answer is the safe one: yes.
 */
#ifndef STOMP_FS_PROCSCAN_H
#define STOMP_FS_PROCSCAN_H

#include <stdbool.h>
#include <stdint.h>

struct file;
struct workspace;
struct writer;

/* Learn the device number of the mount, once it is there; -ENOENT. */
int procscan_find_mount(struct workspace *ws);

/* Does any process of w have the file with that inode number open (for writing)? */
bool procscan_has_open(
	struct workspace *ws, const struct writer *w, uint64_t ino, bool for_writing);

/* Does any process map it shared? Of those that may not be looked into only the ones count
 * whose writer has f open; f is locked. */
bool procscan_is_mapped(struct workspace *ws, const struct file *f, uint64_t ino);

#endif
