/*
 * lineage.h - files that no inode has at the moment, kept by the place of their name.
 *
 * What is known of a path (its lease, who read what, its current version) outlives the
 * inode that carried it: a file that is unlinked and created anew is one file (S10), and
 * an inode the kernel forgot comes back with its memory. Keyed by the parent folder's
 * device and inode number and the name. Bounded; the oldest are forgotten, which is the
 * safe side. Thread-safe.
 */
#ifndef STOMP_FS_LINEAGE_H
#define STOMP_FS_LINEAGE_H

#include <pthread.h>
#include <stdint.h>

#include "base/list.h"
#include "base/table.h"

struct file;

enum { LINEAGES_MAX = 1 << 18 };

struct lineages {
	pthread_mutex_t lock;
	struct table table;
	struct list by_age;
	uint64_t count; /* also read without the lock */
};

must_check int lineages_init(struct lineages *l);
void lineages_done(struct lineages *l);

/* Park the file under that name; it takes the caller's reference. */
void lineages_park(struct lineages *l, uint64_t dev, uint64_t ino, const char *name,
	struct file *file);

/* Take it back (with its reference), or NULL. */
struct file *lineages_take(
	struct lineages *l, uint64_t dev, uint64_t ino, const char *name);

#endif
