/*
 * workspace.h - everything one mount knows, handed to every operation.
 *
 * Fields set before the session loop starts never change after; the others say what
 * guards them.
 */
#ifndef STOMP_FS_WORKSPACE_H
#define STOMP_FS_WORKSPACE_H

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "fs/dirstash.h"
#include "fs/inode.h"
#include "fs/lineage.h"
#include "fs/names.h"
#include "fs/shares.h"
#include "fs/supervise.h"
#include "fs/uring.h"
#include "journal/intent.h"
#include "journal/journal.h"
#include "policy/claims.h"
#include "policy/identity.h"
#include "policy/rules.h"

struct park;
struct notifier;
struct vtree;
struct feeds;
struct refusal_ring;
struct retire;
struct old_rules;
struct checker;
struct collector;
struct capturer;
struct housekeeper;

struct options {
	char *source, *mountpoint; /* absolute */
	char *writer;		   /* W1a: -o writer=NAME */
	bool foreground, debug;
	bool show;	     /* .stomp is listed */
	bool supervise;	     /* a process of ours starts the daemon again */
	bool no_handover;    /* as on a kernel where a connection cannot be taken over */
	bool allow_other;    /* root, or user_allow_other */
	bool no_passthrough; /* the kernel shall not read the backing by itself */
	bool over_dead;	     /* a dead mount is at mountpoint, to be replaced (beneath.h) */
	bool noatime, nodiratime; /* the kernel's own, which the backing must keep too */
	bool no_dio_mmap;      /* behave as on a kernel that cannot map direct-io files */
	int refusal_errno;     /* EBUSY where both refusals shall read so (S14), else 0 */
	unsigned journal_mode; /* of the .stomp folder of the backing */
	uint64_t journal_max_bytes;	 /* 0: no ceiling */
	uint64_t remember_bytes;	 /* for names that are not in use: lineage.h */
	uint32_t user_files, user_waits; /* of one user: shares.h; 0: not given */
	enum uring_wish uring;
	int64_t ttl_ns, wait_ns, linger_ns, settle_ns,
		checkpoint_ns; /* -1: as the policy */
};

/* Counters for .stomp/metrics; relaxed atomics. */
struct counters {
	uint64_t lookups, opens, reads, writes, bytes_read, bytes_written;
	uint64_t grants, takeovers, waits, deadlocks, refused_held, refused_stale;
	uint64_t refused_fenced, captures, captures_partial, captures_whole, bytes_captured,
		captures_behind, captures_under_way, captures_waited_for, merges,
		pending_changes, forks, invalidations;
	uint64_t open_handles, passthrough_opens, twins, uring_requests;
};

/* Requests of the kernel by opcode; those of a higher one count as the last. */
enum { OPCODES = 64 };

#define count(ws, what) __atomic_fetch_add(&(ws)->counters.what, 1, __ATOMIC_RELAXED)
#define count_add(ws, what, n)                                                             \
	__atomic_fetch_add(&(ws)->counters.what, (n), __ATOMIC_RELAXED)

struct workspace {
	struct options options;
	struct supervised supervised;
	struct fuse_session *session;
	const struct clock *clock;
	int64_t mounted_ns, mounted_wall_ns;
	int stomp_fd;  /* the backing's .stomp */
	int shadow_fd; /* .stomp/shadow: pending and orphaned content */
	int proc_fd;   /* /proc */
	int driver_fd; /* where merge drivers get their files, reachable without the mount
			*/
	unsigned mount_major, mount_minor; /* the device of the mount itself */
	bool root;			   /* the daemon may act as its callers */
	bool over_itself; /* nothing can go round the mount: long cache times are exact */
	uint64_t init_unique, init_offered; /* wire.c, while INIT is under way */
	uint64_t wire_order;		    /* wire.c, under a race detector only */
	bool dio_mmap;			    /* direct-io handles can be mapped shared */
	bool no_opendir;		    /* the kernel does without: see do_opendir() */
	bool acl;	  /* the backing has POSIX ACLs: the kernel asks for them */
	bool selinux;	  /* the kernel runs with it: files without a label are asked for */
	bool passthrough; /* the kernel reads the backing by itself; atomic, goes off once
			   */
	uint64_t backings;	   /* backing files that the kernel has from us; atomic */
	struct uring *uring;	   /* set before INIT is answered; or NULL */
	const char *uring_refusal; /* why not */
	double cache_s;

	struct inode_table inodes;
	struct inode *root_inode;
	struct names_lock names;
	struct lineages lineages;
	struct shares shares;
	struct dir_stash dir_stash;
	struct journal *journal;
	struct intents *intents;
	struct identity *identity;
	struct claims *claims;
	struct rules *rules;	     /* atomic; never freed while mounted */
	struct old_rules *old_rules; /* the notifier's thread */
	uint64_t rule_epoch;	     /* bumped when a path may match another rule; atomic */
	struct park *park;
	struct notifier *notifier;
	struct vtree *vtree;
	struct feeds *feeds;
	struct checker *checker;
	struct collector *collector;
	struct capturer *capturer;
	struct refusal_ring *refusals;
	struct retire *retire;
	struct counters counters;
	uint64_t requests[OPCODES]; /* relaxed atomics */

	pthread_mutex_t sessions_lock;
	pthread_cond_t
		sessions_cond;	  /* one is due earlier, or the housekeeper shall stop */
	int64_t sessions_look_ns; /* when the housekeeper looks next; sessions_lock */
	struct list sessions;	  /* files with an open write session; sessions_lock */
	struct housekeeper *housekeeper;
	pthread_mutex_t explicit_lock; /* acquiring explicit leases is all or none */
};

static inline struct workspace *workspace_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* What the kernel is given for an address of ours: it says which daemon gave it out. */
static inline uint64_t workspace_id(const struct workspace *ws, const void *of)
{
	uint64_t id = (uintptr_t)of;

	assert(ID_OF_GENERATION(id) == id);
	return id | (uint64_t)ws->supervised.generation << GENERATION_SHIFT;
}

static inline int64_t workspace_now(const struct workspace *ws)
{
	return clock_boot_ns(ws->clock);
}

#endif
