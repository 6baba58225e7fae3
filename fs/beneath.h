/*
 * beneath.h - a dead mount is replaced without a moment in which the bare folder lies open.
 *
 * As long as a mount whose daemon was killed covers its folder, nothing can be changed
 * there unguarded. So it stays until the new one is in its place: the folder is opened as
 * it is beneath, the new mount attached between the two (Linux 6.5), and the dead one taken
 * away last. Needs CAP_SYS_ADMIN; without that, on older kernels and for mount options that
 * are not known here, the caller takes the dead mount away first.
 *
 * For a process with one thread. Errors are -errno, and nothing has changed.
 */
#ifndef STOMP_FS_BENEATH_H
#define STOMP_FS_BENEATH_H

#include <fuse_lowlevel.h>

#include "base/cleanup.h"

/* The folder beneath the topmost mount at that path, with what is mounted in it: a tree of
 * our own that nobody else sees (an O_PATH descriptor, as open_tree() gives it). */
must_check int beneath_open(const char *path);

/* Attach a new stompfs beneath the topmost mount at that path, with the options of args.
 * Returns the descriptor of its connection. -ENOTSUP: an option is not known here. */
must_check int beneath_mount(
	const char *path, const struct fuse_args *args, const char *source);

#endif
