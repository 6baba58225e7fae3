/*
 * names.h - paths that stand still while they are used.
 *
 * A rename of a folder changes the path of everything below it. Whoever works out a path
 * and then asks the journal by it, or has a change recorded under it, holds the names
 * meanwhile: a version never gets a seq after the rename and a path from before it, which
 * would be nobody's history, and its file a stranger's (V1, V3).
 *
 *   hold ... let go     any number of threads, also by one thread again within its own
 *   move ... moved      one thread, with nobody holding
 *
 * There is no lock that all changes share: a holder takes one of many, the mover all of
 * them, and holds none while it waits for one. So a holder that takes long (a large
 * capture) delays the renames of folders and nothing else. Order: names before any file's
 * lock; the mover takes no file's lock. While names are held, the caller may wait for the
 * journal and for the kernel to write back a file's pages, not for its locks on folders,
 * which it has while a rename is under way.
 */
#ifndef STOMP_FS_NAMES_H
#define STOMP_FS_NAMES_H

#include <pthread.h>

#include "base/cleanup.h"

enum { NAMES_STRIPES = 32 };

struct names_lock {
	struct {
		_Alignas(64) pthread_rwlock_t lock;
	} stripes[NAMES_STRIPES];
};

void names_init(struct names_lock *n);
void names_done(struct names_lock *n);

/* Names are held; what is returned is for names_let_go(), of the same thread. */
must_check pthread_rwlock_t *names_hold(struct names_lock *n);
void names_let_go(pthread_rwlock_t *held);

void names_move(struct names_lock *n);
void names_moved(struct names_lock *n);

static inline void cleanup_names(pthread_rwlock_t **held)
{
	if (*held)
		names_let_go(*held);
}

/* Held until the end of the scope. */
#define auto_names __attribute__((cleanup(cleanup_names), unused)) pthread_rwlock_t

#endif
