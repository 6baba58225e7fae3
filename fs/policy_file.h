/*
 * policy_file.h - the policy file of a workspace, .stomp-policy in its root (P1).
 *
 * Read at the mount, and again whenever it has changed through it. A bad line leaves the
 * policy that was in force in force; why is said in the log and in the events.
 */
#ifndef STOMP_FS_POLICY_FILE_H
#define STOMP_FS_POLICY_FILE_H

#include "fs/workspace.h"

#define POLICY_FILE RULES_FILE

/* At the mount. Where the file cannot be used the built-in policy is in force; why is said.
 * -ENOMEM. */
must_check int policy_file_load(struct workspace *ws);

/* path has a new version: reload if it is the policy. May be called with a file's lock;
 * the work is done later on the notifier's thread. */
void policy_file_changed(struct workspace *ws, const char *path, size_t len);

/* Free every policy that was in force. */
void policy_file_done(struct workspace *ws);

#endif
