/*
 * mounts.h - which stompfs mounts there are, and whether they answer.
 *
 * Reads /proc/self/mountinfo. mount_alive() asks the mount itself, in a child that is
 * given up after two seconds, so that a hung daemon does not hang the caller. For
 * processes with one thread. Errors are -errno.
 */
#ifndef STOMP_BASE_MOUNTS_H
#define STOMP_BASE_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct mount_row {
	char *point; /* absolute; the kernel's octal escapes undone */
	char *type;  /* "fuse.stompfs", "ext4" */
};

struct mount_list {
	struct mount_row *rows; /* in the order of mounting */
	size_t n;
};

#define auto_mounts __attribute__((cleanup(mounts_done))) struct mount_list

must_check int mounts_read(struct mount_list *list);
void mounts_done(struct mount_list *list);

/* The topmost mount at exactly this absolute path, or NULL. */
const struct mount_row *mounts_find(const struct mount_list *list, const char *point);

/* The absolute path as mountinfo has it: a last name that is a link is followed, unless
 * something is mounted right there (it may be dead or hang). In place; -errno. */
must_check int mount_resolve(char **path);

bool mount_is_stompfs(const struct mount_row *row);

/* 0 it answers; -ENOTCONN its daemon is gone; -ETIMEDOUT it does not answer; -errno. */
int mount_alive(const char *point);

/* Take the topmost mount at point away, also while it is in use: by ourselves, else by
 * fusermount3. */
must_check int mount_detach(const char *point);

/* Take away every stompfs on top at point whose daemon is gone; how many there were.
 * -ETIMEDOUT: one does not answer. */
must_check int mount_detach_dead(const char *point);

/* The same, but what is beneath does not come to light: of dead mounts one is left. 1:
 * there is one; 0: there is none. */
must_check int mount_detach_dead_but_one(const char *point);

#endif
