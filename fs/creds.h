/*
 * creds.h - acting as the caller where the backing decides by who acts (creation).
 *
 * Per thread, by raw system calls: the C library's wrappers would change every thread.
 * A no-op where the daemon is not root, or the caller is.
 */
#ifndef STOMP_FS_CREDS_H
#define STOMP_FS_CREDS_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

struct workspace;

struct creds {
	bool changed;
};

/* Become the caller of req: fsuid, fsgid, supplementary groups. -errno. */
int creds_assume(struct workspace *ws, fuse_req_t req, struct creds *saved);
void creds_restore(struct creds *saved);

/* The mode to make something with in a folder: the caller's umask taken off, unless the
 * folder has a default ACL, which takes its place. dirfd may be an O_PATH one. */
mode_t creds_mode(struct workspace *ws, fuse_req_t req, int dirfd, mode_t mode);

#endif
