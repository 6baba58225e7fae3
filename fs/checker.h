/*
 * checker.h - a check of the journal while it is served (stomp fsck on a mount).
 *
 * One at a time, in a thread of its own that reads at a bounded rate; `.stomp/fsck` and
 * its twin show how far it is and what it found. It mends nothing. Thread-safe.
 */
#ifndef STOMP_FS_CHECKER_H
#define STOMP_FS_CHECKER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct workspace;
struct checker;

enum { CHECKER_RATE_MIB = 32 }; /* read per second, where nothing else is asked for */

must_check int checker_new(struct workspace *ws, struct checker **out);
struct checker *checker_free(struct checker *c); /* ends a check that runs */

/* rate_mib: 0: unbounded. -EALREADY: one runs; -EAGAIN: no thread. */
must_check int checker_start(struct checker *c, bool scrub, uint64_t rate_mib);

void checker_text(struct checker *c, struct buf *out);
/* Keys of an object that is open. */
void checker_json(struct checker *c, struct buf *out);

#endif
