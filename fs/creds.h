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
#include <sys/stat.h>

struct inode;
struct op;
struct workspace;

struct creds {
	bool changed;
};

/* Become the caller of req: fsuid, fsgid, supplementary groups. -errno. */
int creds_assume(struct workspace *ws, fuse_req_t req, struct creds *saved);
void creds_restore(struct creds *saved);

/* The mode to make something with in a folder: the caller's umask taken off, unless the
 * folder has a default ACL, which takes its place. dirfd: the folder, may be O_PATH. */
mode_t creds_mode(
	struct workspace *ws, fuse_req_t req, struct inode *folder, int dirfd, mode_t mode);
/* The attribute was set or removed: what is remembered of it is not so any more. */
void creds_xattr_changed(struct inode *inode, const char *name);

/* POSIX: what an ordinary user writes or cuts loses suid, and sgid where the group may
 * execute it or the caller is not in it; what root does keeps them. To be called before the
 * change, through fd; the kernel is told before this returns. */
void creds_drop_privilege_bits(struct op *op, struct inode *inode, int fd);
/* Would a write by the caller take such bits away? */
bool creds_write_drops_bits(fuse_req_t req, const struct stat *st);

#endif
