/*
 * daemon.h - becoming a daemon only once the mount answers.
 *
 * The parent waits: it exits 0 when the child says that the mount is up and it answers,
 * and non-zero when the child ends before. Nothing else (no thread, no lock) may exist
 * when daemon_start() is called.
 */
#ifndef STOMP_FS_DAEMON_H
#define STOMP_FS_DAEMON_H

#include "base/cleanup.h"

/* In the child: the descriptor to report to. In the parent it does not return. */
must_check int daemon_start(const char *mountpoint);

/* The mount is being served: let the parent see for itself and go; cut the terminal. */
void daemon_ready(int report_fd);

/* The same for a supervisor, whose daemon has reported. */
void daemon_cut_terminal(int report_fd);

#endif
