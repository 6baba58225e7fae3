/*
 * retire.h - intents that may be freed once their version is kept or written (V4).
 *
 * A version row is queued before its intent is given up; until it is kept or written, a
 * crash still needs the intent. Thread-safe.
 */
#ifndef STOMP_FS_RETIRE_H
#define STOMP_FS_RETIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct retire;
struct workspace;

must_check int retire_new(struct retire **out);
struct retire *retire_free(struct retire *r);

/* Free slot when the row seq is written, or (synced: fsync was answered) is on stable
 * storage; INTENT_NONE does nothing. */
void retire_slot(struct workspace *ws, uint32_t slot, uint64_t seq, bool synced);

/* Nothing waits to be freed. */
bool retire_is_idle(struct workspace *ws);

/* Free what is written by now. */
void retire_written(struct workspace *ws);

/* Take a slot for an intent; waits for rows to be written when all are taken. */
struct intent;
must_check int retire_begin(
	struct workspace *ws, const struct intent *intent, uint32_t *slot);

#endif
