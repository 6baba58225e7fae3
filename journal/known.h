/*
 * known.h - which paths may have a history, told without asking the database.
 *
 * Most files of a tree were never changed under the mount, and each is asked for when it
 * is first opened. A Bloom filter of the paths that have rows answers "none" for those; one
 * in a hundred or so is asked for in vain. It is filled by a thread of its own after the
 * journal is open, so that opening does not take longer with more history; until then
 * everything may be known. What is appended later is added before its row is queued.
 *
 * A path below a folder that was renamed has its history elsewhere: the targets of renames
 * are in the filter too, as folders.
 *
 * Thread-safe; no call blocks but known_done().
 */
#ifndef STOMP_JOURNAL_KNOWN_H
#define STOMP_JOURNAL_KNOWN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct journal;

struct known {
	_Atomic uint64_t *words; /* NULL: everything may be known */
	uint64_t mask;		 /* of a bit's number */
	atomic_bool ready, stopping;
	bool thread_runs;
	pthread_t thread;
};

/* Without memory or a thread it stays as it is: everything may be known. */
void known_init(struct known *k, struct journal *j);
void known_done(struct known *k);

void known_add(struct known *k, const char *path, size_t len);
void known_add_folder(struct known *k, const char *path, size_t len);

bool known_may_have(struct known *k, const char *path, size_t len);

#endif
