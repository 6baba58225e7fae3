/*
 * lineage.h - files that no inode has at the moment, kept by the place of their name.
 *
 * What is known of a path (its lease, who read what, its current version) outlives the
 * inode that carried it: a file that is unlinked and created anew is one file (S10), and
 * an inode the kernel forgot comes back with its memory. Keyed by the parent folder's
 * device and inode number and the name.
 *
 *   file --park--> whole --LINEAGES_WHOLE newer ones--> trace (trace.h) --> forgotten
 *                    \----------------take--------------/
 *
 * Bounded by bytes (-o remember=). The oldest traces are forgotten, but for those of which
 * the journal does not know enough yet and those whose lease lingers: the queue of rows is
 * bounded, and so is a lease. Of what was forgotten nobody counts as having read it, which
 * is the safe side; who made it and what it is called now, the journal tells.
 *
 * Thread-safe; the lock is a leaf.
 */
#ifndef STOMP_FS_LINEAGE_H
#define STOMP_FS_LINEAGE_H

#include <pthread.h>
#include <stdint.h>

#include "base/list.h"
#include "base/table.h"

struct file;
struct workspace;

enum {
	LINEAGES_WHOLE = 1024,
	LINEAGES_MOMENTS = 64,
	LINEAGES_DEFAULT_MIB = 16,
	LINEAGES_MIN_KIB = 64,
};

/* Up to that seq all was made before that time (boot clock). */
struct lineage_moment {
	uint64_t seq;
	int64_t at_ns;
};

struct lineages {
	pthread_mutex_t lock;
	struct table table;
	struct list whole, traces; /* oldest first */
	uint64_t max_bytes, mounted_seq;
	uint32_t n_moments;
	struct lineage_moment moments[LINEAGES_MOMENTS];
	/* Also read without the lock: */
	uint64_t count, n_whole, bytes, forgotten;
};

/* The journal is open, and recovered. max_bytes: for traces and names. */
must_check int lineages_init(struct workspace *ws, uint64_t max_bytes);
void lineages_done(struct lineages *l);

/* Park the file under that name; it takes the caller's reference. */
void lineages_park(struct workspace *ws, uint64_t dev, uint64_t ino, const char *name,
	struct file *file);

/* Take it back (with its reference), or NULL. */
struct file *lineages_take(
	struct workspace *ws, uint64_t dev, uint64_t ino, const char *name);

/* For a file that is read from the journal: the version of that seq was made before that
 * time. Later than it was is the safe side (S2). */
int64_t lineages_made_before(struct workspace *ws, uint64_t seq);

#endif
