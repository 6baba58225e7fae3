/*
 * ring.h - versions that are queued, where kill -9 does not reach them (V4).
 *
 * A mapped file, "queue": a version that is put here with its content survives the death of
 * the daemon without a system call, so nobody has to wait for its row. Room is given back
 * in the order it was taken, as rows are written.
 *
 *   put ----------> kept --row committed--> released
 *   kill -9 inside put:     the record's check does not fit: the version was not queued
 * yet, its intent tells of it (journal/intent.h) kill -9 while kept:     the next daemon
 * queues it again kill -9 before release: the same; its row is there already and is not
 * written twice
 *
 * What finds no room, or is too large, is not kept: whoever would overwrite what it tells
 * of waits for its row. Not thread-safe: the queue's lock guards it.
 */
#ifndef STOMP_JOURNAL_RING_H
#define STOMP_JOURNAL_RING_H

#include "journal/item.h"

struct ring;

enum { RING_CONTENT_MAX = 128 * 1024 };

/* Opens or creates it. -EBUSY: another has it open; -EPROTO: of another format, and what is
 * in it is left alone. */
must_check int ring_open(struct ring **out, int dirfd);
void ring_close(struct ring *r); /* NULL does nothing */

/* What the last daemon left, in order; the items are the caller's. */
typedef void ring_fn(struct item *item, void *ctx);
must_check int ring_replay(struct ring *r, ring_fn *fn, void *ctx);

/* Keep a version; item->kept_until is set. False: it is not kept. */
bool ring_put(struct ring *r, struct item *item);

/* All that was kept up to that place is written. */
void ring_release(struct ring *r, uint64_t until);

/*
 * The file of a folder that nobody has open. damaged: records that were put whole
 * and whose check does not fit now; replaying ends at the first. With repair they are
 * passed over from then on, and so no longer in the way of those behind them.
 */
enum ring_state {
	RING_SOUND, /* or not there */
	RING_OTHER, /* of another format; left alone */
	RING_BROKEN /* its header is damaged; with repair moved aside as queue.damaged */
};

struct ring_sums {
	enum ring_state state;
	uint64_t kept, damaged; /* records */
};

must_check int ring_check(int dirfd, bool repair, struct ring_sums *sums);

#endif
