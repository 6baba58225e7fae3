#include "fs/names.h"

#include <stdint.h>

/* glibc's default lets a reader in again while a writer waits, which nesting needs. */
void names_init(struct names_lock *n)
{
	for (unsigned i = 0; i < NAMES_STRIPES; i++)
		pthread_rwlock_init(&n->stripes[i].lock, NULL);
}

void names_done(struct names_lock *n)
{
	for (unsigned i = 0; i < NAMES_STRIPES; i++)
		pthread_rwlock_destroy(&n->stripes[i].lock);
}

/* Threads are told apart by where the kernel put their stacks. */
static unsigned stripe_of_thread(void)
{
	const uint64_t golden = 0x9e3779b97f4a7c15ULL;

	return (unsigned)(((uintptr_t)pthread_self() * golden) >> 32) % NAMES_STRIPES;
}

pthread_rwlock_t *names_hold(struct names_lock *n)
{
	pthread_rwlock_t *lock = &n->stripes[stripe_of_thread()].lock;
	int r = pthread_rwlock_rdlock(lock);

	assert(r == 0);
	return lock;
}

void names_let_go(pthread_rwlock_t *held)
{
	pthread_rwlock_unlock(held);
}

/* All of them at once; else all but the first that somebody holds are given back. */
static pthread_rwlock_t *take_all(struct names_lock *n)
{
	for (unsigned i = 0; i < NAMES_STRIPES; i++) {
		if (pthread_rwlock_trywrlock(&n->stripes[i].lock) == 0)
			continue;
		for (unsigned k = 0; k < i; k++)
			pthread_rwlock_unlock(&n->stripes[k].lock);
		return &n->stripes[i].lock;
	}
	return NULL;
}

void names_move(struct names_lock *n)
{
	pthread_rwlock_t *held;

	while ((held = take_all(n))) {
		/* Wait for that one alone. */
		pthread_rwlock_wrlock(held);
		pthread_rwlock_unlock(held);
	}
}

void names_moved(struct names_lock *n)
{
	for (unsigned i = 0; i < NAMES_STRIPES; i++)
		pthread_rwlock_unlock(&n->stripes[i].lock);
}
