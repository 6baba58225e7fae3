/* A queue's entries, and which thread lends which. */
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "fs/uring_internal.h"

/* The header lies at the begin of a page; the payload begins the next one, with room
 * before it for what libfuse expects in one piece with it. */
enum { PAYLOAD_AT = 4096 };

static size_t entry_size(const struct uring *u)
{
	return PAYLOAD_AT + u->payload_size;
}

int queue_add_entry(struct queue *q)
{
	struct entry *e;
	char *memory;

	if (q->n_entries == QUEUE_ENTRIES)
		return -ENOSPC;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	memory = mmap(NULL, entry_size(q->u), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED) {
		free(e);
		return -ENOMEM;
	}
	(void)madvise(memory, entry_size(q->u), MADV_DONTFORK);
	e->queue = q;
	e->iov[0] = (struct iovec){memory, sizeof(struct entry_header)};
	e->iov[1] = (struct iovec){memory + PAYLOAD_AT, q->u->payload_size};
	list_append(&q->entries, &e->node);
	list_append(&q->returning, &e->returning);
	__atomic_fetch_add(&q->n_entries, 1, __ATOMIC_RELAXED); /* read for .stomp */
	return 0;
}

struct entry *queue_take(struct queue *q)
{
	struct entry *e;

	if (list_empty(&q->returning))
		return NULL;
	e = list_first(&q->returning, struct entry, returning);
	list_remove(&e->returning);
	if (q->n_wanted)
		q->n_wanted--; /* counted as idle when it was called */
	else
		__atomic_fetch_add(&q->n_idle, 1, __ATOMIC_RELAXED);
	return e;
}

struct entry *queue_wait(struct queue *q, bool may_end)
{
	struct entry *e = NULL;

	pthread_mutex_lock(&q->lock);
	while (uring_phase(q->u) == RUNNING && !(e = queue_take(q))) {
		bool needed =
			q->n_wanted || __atomic_load_n(&q->n_idle, __ATOMIC_RELAXED) <= 0;

		if (needed && queue_add_entry(q) == 0)
			continue;
		if (may_end && q->n_spare >= SPARE_THREADS)
			break;
		q->n_spare++;
		pthread_cond_wait(&q->cond, &q->lock);
		q->n_spare--;
		if (q->n_called)
			q->n_called--;
	}
	pthread_mutex_unlock(&q->lock);
	return e;
}

/* One that waits, each of them for one entry only, or a new one. q->lock held. */
static int call_thread(struct queue *q)
{
	if (q->n_spare == q->n_called)
		return ring_thread_start(q->u, q, false);
	q->n_called++;
	pthread_cond_signal(&q->cond);
	return 0;
}

void queue_call_spare(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	if (__atomic_load_n(&q->n_idle, __ATOMIC_RELAXED) <= 0 &&
		q->n_threads < QUEUE_THREADS) {
		q->n_wanted++;
		__atomic_fetch_add(&q->n_idle, 1, __ATOMIC_RELAXED);
		if (call_thread(q) < 0) {
			q->n_wanted--;
			__atomic_fetch_sub(&q->n_idle, 1, __ATOMIC_RELAXED);
		}
	}
	pthread_mutex_unlock(&q->lock);
}

void queue_return(struct queue *q, struct entry *e)
{
	uint64_t one = 1;

	list_append(&q->returning, &e->returning);
	if (call_thread(q) < 0)
		(void)!write(q->bell_fd, &one, sizeof(one));
}

int queue_init(struct queue *q, struct uring *u, unsigned id)
{
	q->u = u;
	q->id = id;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->cond, NULL);
	list_init(&q->entries);
	list_init(&q->returning);
	q->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return q->bell_fd < 0 ? -errno : queue_add_entry(q);
}

void queue_done(struct queue *q)
{
	struct entry *e, *tmp;

	list_for_each_safe (e, tmp, &q->entries, node) {
		munmap(e->iov[0].iov_base, entry_size(q->u));
		free(e);
	}
	if (q->bell_fd >= 0)
		close(q->bell_fd);
	pthread_cond_destroy(&q->cond);
	pthread_mutex_destroy(&q->lock);
}
