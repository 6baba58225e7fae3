/*
 * moment.h - a moment of the past, as people and programs write it.
 *
 *   57                           an epoch
 *   seq:1234                     after that row of the journal
 *   now  -15m  -1h30m  -2d       from now back: s, m (or min), h, d, w
 *   2026-11-24                   the beginning of that day
 *   2026-11-24T10:32             the beginning of that minute
 *   2026-11-24T10:32:05          to the end of that second, as logs show times cut off
 *   2026-11-24T10:32:05.123      to the end of that fraction
 *   10:32, 10:32:05              the last time that a clock showed that
 *
 * A blank may stand for the T. Local time, or that of a Z, +01:00 or -0800 at the end.
 * Pure but for the time zone; thread-safe.
 */
#ifndef STOMP_BASE_MOMENT_H
#define STOMP_BASE_MOMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

enum moment_kind { MOMENT_TIME, MOMENT_EPOCH, MOMENT_SEQ };

struct moment {
	enum moment_kind kind;
	uint64_t number; /* the epoch, the seq */
	int64_t wall_ns; /* TIME: everything up to then, itself included */
	bool floats;	 /* the same word is another moment later on */
	int64_t span_ns; /* floats: how long ago it was */
};

/* now_ns: the wall clock. False: it names no moment, or one that is yet to come. */
bool moment_parse(const char *word, int64_t now_ns, struct moment *out);

/* A word for just this moment, which floats no more: an epoch, or a time in UTC. */
void moment_put(struct buf *out, const struct moment *m);

#endif
