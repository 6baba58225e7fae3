/*
 * recover.h - after a crash of the daemon: what was being changed gets its version (V4).
 *
 * Runs before the mount, single-threaded. Time is proportional to what was in flight.
 */
#ifndef STOMP_FS_RECOVER_H
#define STOMP_FS_RECOVER_H

#include "fs/workspace.h"

/* *recovered: how many versions were written. -errno of the journal. */
must_check int recover(struct workspace *ws, int root_fd, unsigned *recovered);

#endif
