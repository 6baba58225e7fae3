/*
 * shares.h - how much of what all share one user has: open files, requests that wait.
 *
 * Each user but root is bounded, so that who opens or waits without end takes neither the
 * descriptors nor the park of the others. Users are counted by their uid modulo SHARES.
 * What is counted may overshoot a bound by the requests that are being handled, since it
 * is looked at before anything is done and counted with what was done.
 *
 * Thread-safe: relaxed atomics; the bounds are set once, before the mount.
 */
#ifndef STOMP_FS_SHARES_H
#define STOMP_FS_SHARES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { SHARES = 1024, SHARES_WAITS_DEFAULT = 1024 };

enum share_kind { SHARE_FILES, SHARE_WAITS, SHARE_KINDS };

struct shares {
	uint32_t used[SHARES][SHARE_KINDS];
	uint64_t refused[SHARE_KINDS];
	uint32_t most[SHARE_KINDS]; /* of one user */
};

static inline void shares_add(struct shares *s, enum share_kind kind, uid_t uid)
{
	__atomic_fetch_add(&s->used[uid % SHARES][kind], 1, __ATOMIC_RELAXED);
}

static inline void shares_sub(struct shares *s, enum share_kind kind, uid_t uid)
{
	__atomic_fetch_sub(&s->used[uid % SHARES][kind], 1, __ATOMIC_RELAXED);
}

/* May that user have one more? What may not is counted. */
static inline bool shares_has_room(struct shares *s, enum share_kind kind, uid_t uid)
{
	if (uid == 0 || __atomic_load_n(&s->used[uid % SHARES][kind], __ATOMIC_RELAXED) <
				s->most[kind])
		return true;
	__atomic_fetch_add(&s->refused[kind], 1, __ATOMIC_RELAXED);
	return false;
}

#endif
