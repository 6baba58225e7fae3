/*
 * collector.h - retention at work on a mount (V9): what `keep=` lets go of, in the
 * background, and at once for `stomp gc`.
 *
 * A thread of its own that asks the journal for one small step after the other
 * (journal/gc.h) and sleeps between them, so that nobody who writes waits for more than
 * one. The first pass comes COLLECTOR_FIRST_S after the mount, then one each
 * COLLECTOR_PAUSE_S; earlier where the history nears its ceiling. Thread-safe.
 */
#ifndef STOMP_FS_COLLECTOR_H
#define STOMP_FS_COLLECTOR_H

#include <stdbool.h>

#include "base/buf.h"

struct workspace;
struct collector;

enum { COLLECTOR_FIRST_S = 300, COLLECTOR_PAUSE_S = 3600, COLLECTOR_TIGHT_S = 60 };

must_check int collector_new(struct workspace *ws, struct collector **out);
struct collector *collector_free(struct collector *c); /* ends a pass that runs */

/* A pass now, without sleeping. -EALREADY: one that somebody asked for runs. */
must_check int collector_start(struct collector *c, bool dry_run);

void collector_text(struct collector *c, struct buf *out);
/* Keys of an object that is open. */
void collector_json(struct collector *c, struct buf *out);

#endif
