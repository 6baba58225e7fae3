/*
 * driver.h - the strategy driver:NAME (M): a command from the policy merges a file.
 *
 * The command runs under /bin/sh -c in a private folder with the three contents in it:
 *
 *   %O  base: what the writer knew; empty when it knew nothing
 *   %A  current: what is there; the command puts the merged content here
 *   %B  new: what the writer wants to put there
 *   %P  the file's path in the workspace, quoted for the shell; also $STOMP_PATH
 *   %L  7, the usual length of a conflict marker
 *   %%  %
 *
 * as git's merge drivers have them. %O, %A and %B are plain names in the current folder.
 * The environment is PATH, HOME (which does not exist), LANG (C.UTF-8) and STOMP_PATH;
 * stdin and stdout are /dev/null, the first KiB of stderr is kept, nothing else is open.
 *
 * It runs with the writer's uid and gid, no supplementary groups, no capabilities and
 * no_new_privs; for uid 0 as nobody (65534): never with the daemon's privileges. A daemon
 * that is not root cannot change identity, and has none to give away: there it is the
 * daemon's. CPU time, the size of files and the number of processes are bounded. It is a
 * session of its own and killed with its process group at the timeout and at its end (what
 * it left in the background); when the daemon dies, the shell alone is. A process that
 * makes itself a session of its own is not in that group: only the bounds hold for it.
 *
 * Thread-safe; blocks until the command has ended, at most timeout and two seconds. The
 * command must not use the mount: the file it is asked about is being changed. SIGCHLD
 * must not be ignored in the daemon. Needs Linux 5.9.
 */
#ifndef STOMP_FS_DRIVER_H
#define STOMP_FS_DRIVER_H

#include <stdint.h>
#include <sys/types.h>

#include "policy/lost_update.h"

enum { DRIVER_MAX_RESULT = 64 << 20 };

enum driver_answer {
	DRIVER_MERGED = 0,   /* *merged has got the result */
	DRIVER_CONFLICT = 1, /* exit 1 to 127; or conflict markers are in the result */
};

/* $TMPDIR or /tmp as a folder for driver_run(); -errno. To be called before the workspace
 * is mounted over: later the path might lead through the mount. */
must_check int driver_folder_open(void);

/* Removes what private folders a daemon that was killed has left in a folder that no
 * other daemon uses, as .stomp/shadow. */
void driver_folder_sweep(int folder_fd);

/*
 * base NULL: unknown. folder_fd: where the private folder is made, from
 * driver_folder_open(); or .stomp/shadow, where the command then can use relative names
 * only. The private folder is gone when this returns.
 *
 * Answers an enum driver_answer; -ETIMEDOUT; -EIO: the command was killed, exited with 128
 * or more, could not be run, or its result is none (gone, no plain file, not the
 * command's own, above DRIVER_MAX_RESULT); -ENOMEM; -errno of making the folder. Unless it
 * is DRIVER_MERGED, *merged is as it was, and *why has got a line for a person, without a
 * newline, with what the command said on stderr.
 */
must_check int driver_run(const char *command, int64_t timeout_ns,
	const struct content *base, const struct content *current,
	const struct content *new, const char *path, uid_t uid, gid_t gid, int folder_fd,
	struct buf *merged, struct buf *why);

#endif
