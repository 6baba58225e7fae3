/*
 * passthrough.h - how the kernel reads and writes through an open file.
 *
 * Where kernel and privilege allow it (6.9, CAP_SYS_ADMIN), the kernel reads the backing
 * file itself: no request, no copy, one page cache. It wants all descriptors of an inode
 * to agree (PERF.md's table, measured again by tests/mount/test_passthrough.py):
 *
 *   PASS         reads, writes and mappings go to the backing
 *   PASS_DIRECT  mappings go there, reads and writes come to us
 *   DIRECT       reads and writes come to us; a mapping is of cached pages
 *   CACHED       through the page cache of the mount
 *
 *   inode is      may be joined by
 *   idle          any
 *   passing       PASS, PASS_DIRECT, all with one backing id
 *   cached        CACHED, DIRECT
 *   (to the kernel, DIRECT leaves it idle; but answers to two opens may overtake each
 * other, and PASS before DIRECT is an EIO)
 *
 * A guarded descriptor that can write is never PASS: each write meets the gate (L7). One
 * that can be mapped writable is neither PASS nor PASS_DIRECT, for stores through such a
 * mapping would never be seen. So a file open for reading by PASS cannot be opened so;
 * then the path gets another inode (inode_twin()), which the kernel finds after an ESTALE.
 *
 * Our count of an inode's descriptors is never below the kernel's: it is raised before the
 * open is answered and lowered by RELEASE. Thread-safe; inode.lock guards the counts.
 */
#ifndef STOMP_FS_PASSTHROUGH_H
#define STOMP_FS_PASSTHROUGH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct handle;
struct inode;
struct workspace;

enum io_mode { IO_NONE, IO_CACHED, IO_DIRECT, IO_PASS, IO_PASS_DIRECT };

/* A guarded file of fewer bytes is read through the page cache, which is as fast from the
 * second time on. Locks belong to an inode and do not reach a twin: so what is small (lock
 * files) and what a database's library has written never passes. */
enum { PASSTHROUGH_MIN_BYTES = 1 << 20 };

/* Would a descriptor that is mapped shared and writable find the inode passing? */
bool passthrough_excludes_mapping(struct inode *inode);

/* Choose the mode of h, count it in its inode, and set h->io and h->backing_id. The inode's
 * descriptor is in use (inode_fd_get()). -ESTALE: no mode fits what is open already; the
 * path must get another inode. */
must_check int passthrough_choose(struct workspace *ws, struct handle *h, int flags);
void passthrough_release(struct workspace *ws, struct handle *h);

/* The inode is about to be freed: the kernel lets go of its backing file. */
void passthrough_forget(struct workspace *ws, struct inode *inode);

/* An earlier daemon's backing files, which nobody can name any more: let the kernel close
 * those that are not open. any_file: a regular file. */
void passthrough_drop_all(struct workspace *ws, int any_file);

#endif
