/*
 * wire_stale.h - requests that speak of what an earlier daemon gave out (supervise.h).
 *
 * Pure: looks at one request as it came from the kernel. Thread-safe.
 */
#ifndef STOMP_FS_WIRE_STALE_H
#define STOMP_FS_WIRE_STALE_H

#include <stddef.h>

#include "base/cleanup.h"

enum {
	STALE_NOT = 0,	/* it speaks of this daemon's things only */
	STALE_DROP = 1, /* nobody waits for an answer */
	STALE_DONE = 2, /* to be answered with success: what is closed is closed */
};

/* One of the above, or the -errno to answer with: -ESTALE for an older daemon's node or
 * handle; -ECONNABORTED where an older daemon had taken the request and may have done
 * it. Forgets in a batch that are not ours are taken out of it. */
must_check int stale_check(unsigned generation, void *request, size_t size);

#endif
