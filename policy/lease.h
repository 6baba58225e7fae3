/*
 * lease.h - the right of one writer to change one file, with its fencing epoch (L1–L5).
 *
 * Pure state: no clock, no lock (the file's lock guards a lease), no memory of its own.
 *
 *   FREE --grant--> HELD --ttl passes--> LAPSED --grant to another--> HELD (new epoch)
 *                    ^ \--end--> FREE      | \--end--> FREE
 *                    \----renew (same epoch)/
 */
#ifndef STOMP_POLICY_LEASE_H
#define STOMP_POLICY_LEASE_H

#include <stdbool.h>
#include <stdint.h>

struct writer;

struct lease {
	struct writer *holder; /* NULL: free */
	uint64_t epoch;	       /* of the holder; of the last one when free */
	int64_t expires_ns;    /* boot clock */
};

enum lease_answer {
	LEASE_FREE,   /* nobody holds it: grant with a fresh epoch */
	LEASE_OURS,   /* the asker holds it, lapsed or not: renew (L4) */
	LEASE_LAPSED, /* another's, but its time is over: grant is a take-over (L5) */
	LEASE_HELD,   /* another's: wait or refuse (L3) */
};

enum lease_answer lease_ask(const struct lease *l, const struct writer *w, int64_t now_ns);
void lease_grant(
	struct lease *l, struct writer *w, uint64_t epoch, int64_t now_ns, int64_t ttl_ns);
void lease_renew(struct lease *l, int64_t now_ns, int64_t ttl_ns);
/* The last handle is closed: it ends linger from now, if that is sooner. */
void lease_linger(struct lease *l, int64_t now_ns, int64_t linger_ns);
void lease_end(struct lease *l);

#endif
