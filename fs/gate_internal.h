/*
 * gate_internal.h - what the parts of the gate share: gate.c (the way in and out),
 * gate_lease.c (who holds, who is fenced), gate_judge.c (fresh or stale).
 *
 * All calls with the file's lock held.
 */
#ifndef STOMP_FS_GATE_INTERNAL_H
#define STOMP_FS_GATE_INTERNAL_H

#include "fs/gate.h"

/* Grant or renew the lease after answer; fences the old holder, leaves old mappings
 * behind. -ESTALE: the path has a fresh inode now, to be looked up again. */
must_check int gate_take_lease(struct change *c, enum lease_answer answer, int64_t now_ns);

/* L2: it ends early when nobody of the holder that had the file open is alive. */
must_check int gate_end_lease_of_the_dead(struct change *c);

/* S2–S6. 0: goes ahead; 1: its bytes must wait for their verdict; -errno: refused. */
must_check int gate_judge(struct change *c);

#endif
