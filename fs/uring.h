/*
 * uring.h - requests over io_uring instead of reads and writes of /dev/fuse.
 *
 * The kernel (6.14) has a queue per CPU; each of our threads lends it one buffer (an
 * entry), gets a request in it, runs libfuse on that and gives buffer and answer back with
 * the system call that waits for the next request. INIT, FORGET, INTERRUPT and what we
 * tell the kernel by ourselves stay with libfuse's loop, which runs beside.
 *
 * A request that is parked keeps its entry but no thread (L3): its thread lends another
 * one. So entries grow with the waiters, and a queue never runs dry of them.
 *
 * Threads: uring_reply(), uring_splice() and uring_unheard() from any; the others from
 * where the session is set up and ended. Built without liburing there are only refusals.
 */
#ifndef STOMP_FS_URING_H
#define STOMP_FS_URING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/cleanup.h"

struct uring;
struct workspace;

/* A bit of the INIT request and reply. */
#define WIRE_OVER_IO_URING (1ULL << 41)

enum uring_wish { URING_OFF, URING_AUTO, URING_ON };

/* INIT is about to be answered: where it is wished for and offered, get threads, rings and
 * entries for payloads of so many bytes ready, as ws->uring. True: the answer shall say
 * yes and uring_start() must follow. False: ws->uring_refusal says why. */
bool uring_prepare(struct workspace *ws, size_t payload_size);

/* INIT has been answered with yes: the kernel holds all requests back until it has an
 * entry in every queue. */
void uring_start(struct uring *u);

/* End the threads, once those of libfuse have ended and before the session is unmounted:
 * the rings keep the connection open. Requests not answered yet will not be. */
void uring_stop(struct uring *u);
struct uring *uring_free(struct uring *u);

/* An answer as libfuse sends it. False: the request did not come over the ring. */
bool uring_reply(struct uring *u, const struct iovec *iov, int count);
/* The same out of a pipe: the bytes taken, -1 and errno, or 0: not over the ring. */
ssize_t uring_splice(struct uring *u, int pipe_fd, size_t size);

/* Where the answer of the request that this thread is handling may be composed, so that
 * it need not be copied: for requests that carry no data themselves. NULL: not on the
 * ring, or size is too large. */
void *uring_room(struct uring *u, size_t size);

/* libfuse does not know the request that was interrupted: it comes over the ring, later.
 * False: not ours. */
bool uring_unheard(struct uring *u, uint64_t unique);

/* The transport in use, in words. */
void uring_describe(const struct workspace *ws, struct buf *out);

#endif
