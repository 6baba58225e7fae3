/*
 * inode.h - the inodes the kernel knows of, and how to reach them in the backing.
 *
 * An inode is found by (device, inode number) in a sharded table. It reaches its file
 * through an O_PATH descriptor, which is opened by parent and name when it is first needed
 * (a folder's at once) and verified by number; when there are too many, idle ones are
 * closed. Its names are kept, so that a
 * path can be told at any time without asking the backing.
 *
 * Thread-safe. Lock order: inode.lock of a child before that of its parent; inode.lock
 * and shard locks are leaves otherwise. Errors are -errno.
 */
#ifndef STOMP_FS_INODE_H
#define STOMP_FS_INODE_H

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/table.h"

struct file;
struct workspace;

/* One name of an inode; the first one lives inside the inode. */
struct link_name {
	struct inode *parent; /* counted */
	char *name;
	struct link_name *next;
};

struct inode {
	struct table_node by_key; /* shard lock */
	uint64_t dev, ino;
	uint64_t born;	  /* a folder's: tells it from a later one of the same number */
	uint64_t refs;	  /* atomic: the kernel's lookups count as one, children, handles */
	uint64_t nlookup; /* shard lock */
	mode_t type;	  /* S_IFMT bits */
	pthread_mutex_t lock;
	/* lock: */
	int fd;		   /* O_PATH, or -1 while closed to save descriptors */
	uint32_t fd_users; /* while not 0, fd stays */
	struct link_name *links;
	struct file *file; /* counted; regular files and symlinks, made when first needed */
	uint32_t passing, cached; /* descriptors that keep it in a mode (passthrough.h) */
	int backing_id;		  /* 0: the kernel has none */
	/* Set once, read anywhere (atomics): */
	bool detached;		 /* left to what has it open: opens answer ESTALE */
	int orphan_fd;		 /* detached for old mappings (L6): where those go; or -1 */
	struct inode *successor; /* detached: the inode that the path has now; a lookup */
	/* A cached read that runs beside a write could keep old bytes (atomics): */
	uint32_t cached_reads, cached_read_seq;
	uint32_t mappable;    /* open handles that may carry a shared writable mapping */
	int gone_opener;      /* thread whose open found no name any more; atomic */
	bool has_pending;     /* file.pending is set: its writer sees another size */
	uint32_t default_acl; /* of a folder: creds.c; atomic */
};

enum { INODE_SHARDS = 64 };

struct inode_table {
	struct {
		pthread_mutex_t lock;
		struct table table;
	} shards[INODE_SHARDS];
	uint64_t count; /* atomics */
	uint64_t open_fds;
	uint64_t max_fds;
	uint32_t evict_at; /* shard where the last eviction ended */
};

must_check int inode_table_init(struct inode_table *t, uint64_t max_fds);
void inode_table_done(struct workspace *ws);

/* The root; fd moves in. */
must_check int inode_root_new(struct workspace *ws, int fd, struct inode **out);

/* FUSE's node id and back. The root is 1; ids of the virtual folder are odd. */
fuse_ino_t inode_id(const struct workspace *ws, const struct inode *inode);
struct inode *inode_of(const struct workspace *ws, fuse_ino_t id);

/* Find or add what name is in parent; nlookup is raised by one. *st is filled. */
must_check int inode_lookup(struct workspace *ws, struct inode *parent, const char *name,
	struct inode **out, struct stat *st);
/* Add a file that was just made (or opened) as fd, an O_PATH or other descriptor that
 * moves in; name NULL: it has none yet (O_TMPFILE). */
must_check int inode_add(struct workspace *ws, struct inode *parent, const char *name,
	int fd, struct inode **out, struct stat *st);
/* The inode of that key if it is known; counted, no lookup. */
struct inode *inode_find(struct workspace *ws, uint64_t dev, uint64_t ino);

void inode_ref(struct inode *inode);
void inode_put(struct workspace *ws, struct inode *inode); /* NULL does nothing */
void inode_forget(struct workspace *ws, struct inode *inode, uint64_t nlookup);

/* Its last name is about to go: see to it that it can be reached without. */
void inode_keep(struct workspace *ws, struct inode *inode);

/* Borrow the O_PATH descriptor until inode_fd_put(). */
must_check int inode_fd_get(struct workspace *ws, struct inode *inode);
void inode_fd_put(struct inode *inode);

/* Open the file itself (through /proc/self/fd, so no path is walked again). O_NOATIME, for
 * our own reading, which nobody is to notice: where it is ours to ask for. */
must_check int inode_open(struct workspace *ws, struct inode *inode, int flags);
must_check int inode_stat(struct workspace *ws, struct inode *inode, struct stat *st);

/* Names. */
void inode_link_add(struct inode *inode, struct inode *parent, const char *name);
void inode_link_remove(
	struct workspace *ws, struct inode *inode, struct inode *parent, const char *name);
bool inode_has_links(struct inode *inode);
bool inode_has_several_links(struct inode *inode);
/* The path below the root, of its first name; -ENOENT when it has no name any more. */
must_check int inode_path(struct inode *inode, struct buf *out);
/* Its first name and where that is: *parent is counted, *name malloc'ed. -ENOENT: none. */
must_check int inode_first_name(struct inode *inode, struct inode **parent, char **name);
/* The path of name in parent. */
must_check int inode_child_path(struct inode *parent, const char *name, struct buf *out);

/* Old mappings keep this inode, with a copy of the content; its successor, a fresh inode
 * of the same backing file, has the path and the open handles. -errno when that cannot
 * be had. f is its file, locked: the successor has it from its first moment, the rest of
 * moving it over (file_attach()) is the caller's. */
must_check int inode_detach(struct workspace *ws, struct inode *inode, struct file *f);
/* As inode_detach(), but what has the old inode open goes on with the backing file itself:
 * for who cannot share the old one's mode (passthrough.h). Locks, which the kernel has by
 * inode, do not reach from the one to the other. */
must_check int inode_twin(struct workspace *ws, struct inode *inode, struct file *f);
/* The inode that stands for this one's path and handles now. */
struct inode *inode_current(struct inode *inode);

static inline bool inode_is_detached(const struct inode *inode)
{
	return __atomic_load_n(&inode->detached, __ATOMIC_ACQUIRE);
}

/* Old mappings of it go to a copy (L6). */
static inline bool inode_is_orphan(const struct inode *inode)
{
	return inode_is_detached(inode) && inode->orphan_fd >= 0;
}

#endif
