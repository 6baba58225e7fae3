/*
 * dirstash.h - listings that are read in several requests, where folders are not opened.
 *
 * A kernel that does without OPENDIR names no handle when it reads a folder. Where one
 * answer does not hold all, the stream waits here, by folder and by the offset at which it
 * goes on; what would have to be sought anew (or has changed under a seek) goes on where
 * it was. A bounded number is kept, the oldest goes first: whoever comes back for one that
 * is gone begins anew and seeks.
 *
 * Thread-safe; its lock is a leaf. A stream in here belongs to the stash, one that was
 * taken to the taker.
 */
#ifndef STOMP_FS_DIRSTASH_H
#define STOMP_FS_DIRSTASH_H

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdint.h>

#include "base/list.h"

typedef void dir_stream_free(void *stream);

struct dir_stash {
	pthread_mutex_t lock;
	struct list streams; /* oldest first; lock */
	uint32_t count;	     /* atomic */
};

void dir_stash_init(struct dir_stash *s);
void dir_stash_done(struct dir_stash *s);

/* The stream of a folder that stands at an offset, or NULL. */
void *dir_stash_take(struct dir_stash *s, fuse_ino_t folder, off_t at);
/* Without memory the stream is freed. */
void dir_stash_put(struct dir_stash *s, fuse_ino_t folder, off_t at, void *stream,
	dir_stream_free *fn);
/* The folder's id is about to stand for nothing. */
void dir_stash_forget(struct dir_stash *s, fuse_ino_t folder);

#endif
