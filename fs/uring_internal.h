/*
 * uring_internal.h - between the files of the ring: the kernel's structures and ours.
 *
 * An entry is lent to the kernel, or handled by a thread, or its request waits without one
 * (parked), or it is answered and waits for a thread to give it back (returning).
 * Lock order: queue.lock, then uring.lock.
 */
#ifndef STOMP_FS_URING_INTERNAL_H
#define STOMP_FS_URING_INTERNAL_H

#include <liburing.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "fs/uring.h"
#include "fs/workspace.h"

/* The kernel's interface, of which older headers know nothing. */
enum { CMD_REGISTER = 1, CMD_COMMIT_AND_FETCH = 2, OP_AREA = 128 };

struct cmd_request {
	uint64_t flags, commit_id;
	uint16_t queue;
	uint8_t padding[6];
};

struct entry_header {
	char in_out[OP_AREA]; /* fuse_in_header; for the answer fuse_out_header */
	char op_in[OP_AREA];  /* the fixed part of the request */
	uint64_t flags, commit_id;
	uint32_t payload_size, padding;
	uint64_t reserved;
};

enum {
	QUEUE_THREADS = 64,   /* that may be handling requests of one queue */
	QUEUE_ENTRIES = 8192, /* more than ever park */
	SPARE_THREADS = 2,    /* without an entry, kept for the next one */
	RING_SIZE = 16,
	KICKERS_MAX = 16,
	REMEMBERED = 64, /* interrupts that came before their requests */
};

struct entry {
	struct list node;      /* queue.entries, for good; queue.lock */
	struct list returning; /* queue.returning; queue.lock */
	struct queue *queue;
	struct iovec iov[2]; /* header and payload */
	uint64_t unique;     /* of the request not yet answered, else 0; atomic */
	uint64_t commit_id;  /* 0: the kernel does not know the entry yet */
	bool left;	     /* its thread has gone on; queue.lock */
	bool answered;	     /* by another thread, before that; queue.lock */
};

struct queue {
	struct uring *u;
	unsigned id;
	bool online; /* else it has no threads until a request comes */
	pthread_mutex_t lock;
	pthread_cond_t cond; /* for threads without an entry */
	struct list entries, returning;
	unsigned n_entries, n_threads;
	unsigned n_spare;  /* threads that wait on cond */
	unsigned n_called; /* of them, woken but not awake yet */
	unsigned n_wanted; /* threads that shall lend an entry, counted in n_idle already */
	int n_idle;  /* threads that wait with an entry; atomic, changed in any state */
	int bell_fd; /* wakes the first thread, where no other can be had */
};

enum phase { PREPARING, RUNNING, STOPPING };

enum answer { NOT_ANSWERED, ANSWERED, ANSWERED_AND_LENT };

struct ring_thread {
	struct list node; /* uring.threads; uring.lock */
	struct uring *u;
	struct queue *queue; /* NULL: it lends for all that are offline */
	pthread_t id;
	struct io_uring ring;
	struct entry *current; /* whose request it runs */
	enum answer answer;    /* that it gave itself */
	bool reads;	       /* the request is a READ */
	unsigned n_lent;       /* entries that the kernel has through this ring */
	bool is_first;	       /* of its queue: never ends before the mount */
	bool over;
	bool ended; /* to be joined; uring.lock */
};

/* Processes that ask something of our own mount (uring_kick.c). */
struct kickers {
	int jobs_in, jobs_out; /* a pipe of CPU numbers */
	int *idle; /* shared with them; those that wait less the jobs not begun; atomic */
	pid_t pids[KICKERS_MAX];
	unsigned n;
};

struct interrupt {
	uint64_t unique;
	int64_t when_ns;
};

struct uring {
	struct workspace *ws;
	size_t payload_size;
	int device_fd, stop_fd;
	pthread_key_t self; /* the ring_thread */
	struct queue *queues;
	unsigned n_queues;

	pthread_mutex_t lock;
	pthread_cond_t cond;
	enum phase phase; /* atomic; changed under lock */
	struct list threads;
	unsigned n_starting, n_failed;
	int failure;		/* why the first failed, positive */
	struct kickers kickers; /* uring.lock */
	bool refused;		/* by the kernel, when registering; atomic */
	struct interrupt interrupts[REMEMBERED];
	unsigned n_interrupts; /* atomic; changed under lock */
};

static inline enum phase uring_phase(const struct uring *u)
{
	return __atomic_load_n(&u->phase, __ATOMIC_ACQUIRE);
}

/* uring_queue.c */
must_check int queue_init(struct queue *q, struct uring *u, unsigned id);
void queue_done(struct queue *q);
/* A new entry, as one that returns. q->lock held. */
must_check int queue_add_entry(struct queue *q);
/* An entry that returns, to be lent by the calling thread, or NULL. q->lock held. */
struct entry *queue_take(struct queue *q);
/* What the calling thread, which has none, shall lend: waits for it. NULL: the thread is
 * not needed any more. */
struct entry *queue_wait(struct queue *q, bool may_end);
/* Nobody waits in q for the next request: somebody shall. */
void queue_call_spare(struct queue *q);
/* The request of e was answered while no thread had it. q->lock held. */
void queue_return(struct queue *q, struct entry *e);

/* uring_interrupt.c */
/* Tell libfuse that the request was interrupted. */
void uring_interrupt(struct uring *u, uint64_t unique);
/* Was it, before it came? */
bool uring_was_interrupted(struct uring *u, uint64_t unique);
/* Has the thread a signal that it would take? The kernel tells nobody of one that comes
 * between the system call and the moment when its request is put into an entry; but then it
 * is pending from before the request was seen here. Not to be asked with a lock held. */
bool uring_has_signal(const struct workspace *ws, pid_t thread);

/* uring_kick.c */
/* A new entry was lent to q: let the kernel fill it with what waits already. */
void uring_kick(struct queue *q);
must_check int kickers_init(struct kickers *k);
/* Once the connection is closed: they may wait for it. */
void kickers_done(struct kickers *k);

/* uring_thread.c */
/* Run on this CPU only, where we may. */
void ring_stay_on(unsigned cpu);
/* A new thread of q (NULL: of all queues that are offline). Not while stopping. */
must_check int ring_thread_start(struct uring *u, struct queue *q, bool is_first);
/* Give e to the kernel with what it holds: nothing yet, or an answer. Its own thread. */
void ring_lend(struct ring_thread *t, struct entry *e);

#endif
