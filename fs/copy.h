/*
 * copy.h - copying content between descriptors, holes and all; and shadow files.
 *
 * Blocks on disk. Errors are -errno.
 */
#ifndef STOMP_FS_COPY_H
#define STOMP_FS_COPY_H

#include "base/cleanup.h"

/* An unnamed file in the shadow folder. */
must_check int copy_shadow_new(int shadow_fd);

/* Make to's content that of from: a reflink where the backing has it, else a copy that
 * keeps holes. Who reads to meanwhile finds old bytes or new ones, and never a shorter file
 * than either. */
must_check int copy_content(int from, int to);

#endif
