/*
 * refuse.h - from verdicts to the errno and the words a caller sees (S11, S13, S14).
 *
 * The only place that knows either. Thread-safe.
 */
#ifndef STOMP_FS_REFUSE_H
#define STOMP_FS_REFUSE_H

#include "fs/gate.h"

enum reason {
	REASON_HELD,	 /* another holds the lease, and the wait is over */
	REASON_DEADLOCK, /* two writers wait for each other */
	REASON_STALE,	 /* somebody else changed it since */
	REASON_TAKEN,	 /* the lease was taken before the verdict came */
	REASON_FENCED,	 /* this handle's lease was taken over */
	REASON_FROZEN,
	REASON_APPEND_ONLY,
};

struct refusal_info {
	enum reason reason;
	const struct writer *holder;	       /* HELD, DEADLOCK, FENCED */
	const struct lost_update_result *test; /* STALE by content; or NULL */
	const char *hunks;		       /* text of the hunks at stake, or NULL */
	uint64_t base_number;		       /* 0: it never read the file */
	struct capture *kept;		       /* refused bytes; moved; or NULL */
};

/* Records the refusal and returns the -errno for the caller. file.lock held. */
must_check int refuse(struct change *c, const struct refusal_info *info);

/* The newest refusals in memory, for .stomp/why at once. */
must_check int refusals_new(struct refusal_ring **out);
struct refusal_ring *refusals_free(struct refusal_ring *r);

/* Newest first; writer NULL: everybody's. */
int refusals_each(struct refusal_ring *r, const char *writer, refusal_fn *fn, void *ctx);

#endif
