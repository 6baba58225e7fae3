/*
 * vtree.h - the virtual folder .stomp/ (D): nodes, their content, and the ctl file.
 *
 * Node ids of this folder are odd (except 1, the root of the mount). Content is made
 * when a file is opened and stays with the handle. Reading never takes a file's lock for
 * longer than copying a few words, and never waits for a lease; it waits at most 200 ms
 * for the journal. Thread-safe. Each call answers its request.
 *
 * Whatever else is asked of such a node (link, xattr, lock, …) is the caller's to turn
 * down: EPERM where it would change something, else what a file system without the
 * feature answers.
 */
#ifndef STOMP_FS_VTREE_H
#define STOMP_FS_VTREE_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

struct workspace;
struct vtree;

/* ws->vtree is to be set to *out. -ENOMEM. */
int vtree_new(struct workspace *ws, struct vtree **out);
/* After the session loop ended: nodes the kernel never forgot go as well. */
struct vtree *vtree_free(struct vtree *v);

static inline bool vtree_has(fuse_ino_t id)
{
	return (id & 1) && id != FUSE_ROOT_ID;
}

/* The entry .stomp of the root. */
void vtree_lookup_top(fuse_req_t req);
/* st of .stomp itself, for readdir with -o show. */
void vtree_top_stat(struct workspace *ws, struct stat *st);

void vtree_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void vtree_forget(struct workspace *ws, fuse_ino_t id, uint64_t nlookup);
void vtree_getattr(fuse_req_t req, fuse_ino_t id);
/* Truncation of ctl is allowed and does nothing; the rest is EPERM. */
void vtree_setattr(fuse_req_t req, fuse_ino_t id, struct stat *attr, int to_set);
void vtree_readlink(fuse_req_t req, fuse_ino_t id);
void vtree_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void vtree_read(fuse_req_t req, struct fuse_file_info *fi, size_t size, off_t offset);
void vtree_write(fuse_req_t req, struct fuse_file_info *fi, const char *data, size_t size);
/* SEEK_DATA and SEEK_HOLE. */
void vtree_lseek(fuse_req_t req, struct fuse_file_info *fi, off_t offset, int whence);
void vtree_release(fuse_req_t req, struct fuse_file_info *fi);
void vtree_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void vtree_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
	struct fuse_file_info *fi);
/* The same names, without attributes: it counts no lookups. */
void vtree_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
	struct fuse_file_info *fi);
void vtree_releasedir(fuse_req_t req, struct fuse_file_info *fi);

/* Those who read events/ and what wakes them; ws->journal must be open. */
struct feeds;
must_check int feeds_new(struct workspace *ws, struct feeds **out);
/* Whoever waits gets the end of the file, now and from now on. */
void feeds_stop(struct feeds *f);
struct feeds *feeds_free(struct feeds *f);

#endif
