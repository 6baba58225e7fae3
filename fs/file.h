/*
 * file.h - what the workspace knows of one file: lease, history head, readers, session.
 *
 * A file stands for the path's history, not for an inode: when a save by rename brings
 * a new inode, the file goes over to it (S10). Hard links of one inode share it (L10).
 *
 * file.lock guards every field not marked otherwise. It is held over the epoch check
 * and the write it guards (L7). Lock order: two file locks by address; file.lock before
 * inode.lock; never while replying or invalidating.
 */
#ifndef STOMP_FS_FILE_H
#define STOMP_FS_FILE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/list.h"
#include "fs/dirty.h"
#include "journal/journal.h"
#include "policy/identity.h"
#include "policy/lease.h"
#include "policy/observe.h"
#include "policy/rules.h"
#include "policy/stale.h"

struct behind;
struct inode;
struct workspace;
struct pending;

/* The current version of the path. */
struct head {
	bool loaded;
	bool several;	     /* one of several names' (L10): path says whose */
	struct hash128 path; /* of the path that the numbers are of */
	bool exists;	     /* there is a version row; number and seq are valid */
	bool gone;	     /* the newest version is a delete */
	uint64_t number, seq;
	uint64_t last_number; /* the path's highest, also where its folder was renamed away
			       */
	struct current content; /* who made the content, and when (MOVE, MODE keep it) */
	bool has_hash;
	struct hash128 hash;
	uint64_t size;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	int64_t mtime_ns, previous_mtime_ns; /* S12: 0 when there is no such version */
	/* external.h: */
	bool outside;		/* the content was put there round the mount */
	bool checked;		/* what is there was held against it, once at least */
	int64_t seen_mtime_ns;	/* of the file when it was last known to be this version */
	uint64_t noticed_seq;	/* of a version that is yet to be recorded; 0: none */
	uint64_t noticed_epoch; /* workspace.rule_epoch at that time */
};

/* What the file was when its newest version was captured: while it still is that, nobody
 * has changed it behind our back. */
struct witness {
	uint64_t seq; /* of the version; 0: none */
	uint64_t dev, ino, size;
	struct timespec mtime, ctime;
};

/* From a writer's first change to the release of its last writable handle (V1). */
struct session {
	struct list node;   /* workspace.sessions; sessions_lock */
	struct process *by; /* counted; NULL: no session */
	bool dirty;	    /* something changed since the last version */
	bool merged;	    /* what was put there is of two writers */
	bool judged;	    /* a change of it was found fresh, or has passed its test */
	bool closed;	    /* the intent says so */
	bool synced;	    /* fsync was answered: the intent stays until the row lasts */
	uint64_t epoch, base_number;
	uint32_t slot;	       /* the intent */
	int64_t checkpoint_ns; /* when it is due, boot clock */
	struct dirty ranges;   /* what changed since the version base_seq */
	uint64_t base_seq;
	bool unverified; /* nobody knows yet whether the file was its newest version */
};

struct file {
	uint64_t refs; /* atomic */
	pthread_mutex_t lock;
	struct inode *inode; /* borrowed; NULL: nothing is there, or it is parked */
	struct lease lease;
	int64_t linger_ns; /* not used while a handle is open */
	struct head head;
	uint64_t submitted_seq; /* the newest row handed to the journal */
	bool must_sync;		/* and that of a session that was fsynced: on stable storage
				   before anything overwrites what it tells of */
	struct observations seen;
	struct witness witness;
	struct session session;
	struct list handles; /* struct handle.node: every open handle */
	struct list waiters; /* struct waiter.node: in order of arrival (L3) */
	struct pending *pending;
	const struct handle *closing; /* being released, off the list; else NULL */
	struct behind *behind;	  /* its session's content is captured behind; or NULL */
	struct behind *recording; /* that which is being recorded; or NULL */
	bool opened_for_both;	  /* once at least for reading and writing: passthrough.h */
	bool merging;		  /* the change under way has been merged */
	struct rule rule;
	uint64_t rule_epoch;
};

must_check int file_new(struct file **out);
void file_ref(struct file *f);
void file_put(struct workspace *ws, struct file *f); /* NULL does nothing */
/* The same when all ends: handles that the kernel never released go with it. */
void file_end(struct workspace *ws, struct file *f);

/* The file of an inode, made or taken from the parked ones if need be; counted. NULL:
 * no memory. */
struct file *file_of(struct workspace *ws, struct inode *inode);

/* The same, locked; the inode may change its file while one waits for the lock, hence
 * the check again. */
struct file *file_lock_of(struct workspace *ws, struct inode *inode);
/* The same for who neither changes it nor needs its newest version recorded: the others
 * wait while it is captured behind (behind.h). */
struct file *file_lock_to_look(struct workspace *ws, struct inode *inode);
void file_unlock(struct file *f);

/* The file of a name where nothing is now: a parked one or a new one; counted, with no
 * inode. NULL: no memory. */
struct file *file_of_name(struct workspace *ws, struct inode *parent, const char *name);

/* Move the file over to an inode (NULL: to none). The file's lock is held. */
void file_attach(struct workspace *ws, struct file *f, struct inode *inode);

/* Its inode is about to stand for something else (removed, replaced, or left to old
 * mappings): f comes off it, its open handles go to a file of their own. The lock of f
 * is held. -ENOMEM: nothing happened. */
must_check int file_leave_inode(struct workspace *ws, struct file *f);

/* Move every handle of from to to (both locked), rebinding those that hold its lease. */
void file_move_handles(struct file *from, struct file *to);

/* Two files change inodes: so do the handles (both locked). */
void file_swap_handles(struct file *a, struct file *b);

/* Park it under the name in parent; the caller's reference goes. */
void file_park(
	struct workspace *ws, struct file *f, struct inode *parent, const char *name);

/* Done with a file of file_of_name(), or one that may have lost its inode: unlock it, keep
 * it under the name if no inode has it, and let the caller's reference go. */
void file_give_back(
	struct workspace *ws, struct file *f, struct inode *parent, const char *name);

/* The rule for its path, looked up again when it may have changed. */
const struct rule *file_rule(
	struct workspace *ws, struct file *f, const char *path, size_t len);

/* Is file->rule what file_rule() would find? */
bool file_rule_is_known(struct workspace *ws, const struct file *f);

/* Read the newest version of path from the journal, once, and what was remembered of it on
 * top of that (trace.h); again where the file was last
 * asked for under another path (it has several names, or a folder was renamed): each has
 * numbers of its own, the content and who knows it are one (L10). -errno. */
must_check int file_load_head(
	struct workspace *ws, struct file *f, const char *path, size_t len);

#endif
