/*
 * unmounted.h - the folder of a workspace that nothing serves: what fsck and gc work on
 * themselves, with the daemon's own lock held.
 *
 * Whoever has the lock may look at and change everything in .stomp/; a daemon that wants to
 * start waits a moment for it, then says that the folder is in use. No threads.
 */
#ifndef STOMP_CLI_UNMOUNTED_H
#define STOMP_CLI_UNMOUNTED_H

#include <sys/types.h>

#include "base/cleanup.h"
#include "cli/workspace.h"

struct unmounted {
	int root_fd, stomp_fd, lock_fd;
};

#define UNMOUNTED_NONE ((struct unmounted){-1, -1, -1})
#define auto_unmounted __attribute__((cleanup(unmounted_done))) struct unmounted

/* Is it mounted? STOMP_DONE: yes, at ws. STOMP_NO_WORKSPACE, without a message: nothing
 * serves it, and *dir is the folder (malloc'ed). Another code to exit with after a message:
 * a dead mount is in the way. */
must_check int unmounted_find(
	const char *command, const char *given, struct workspace *ws, char **dir);

/* Open the folder and take the lock. STOMP_DONE, or the code to exit with after a message:
 * it has no history, a daemon has it, errors. */
must_check int unmounted_lock(struct unmounted *f, const char *command, const char *dir);
void unmounted_done(struct unmounted *f);

#endif
