/*
 * Making the kernel look into a queue.
 *
 * Requests for which there is no entry wait in the kernel. It looks for them when an answer
 * comes, but not when a new entry does: where the entries of all others are parked, a new
 * one would stay empty beside requests that wait for it, among them perhaps the close that
 * the parked ones wait for. So after each new entry something is asked of our own mount on
 * the CPU of that queue; the answer to it brings the others along.
 *
 * When another request takes that entry first and is parked, the question waits as well,
 * and its thread with it; the next new entry then needs another thread. They end with the
 * connection, so they are joined only after it.
 */
#include <sched.h>
#include <sys/vfs.h>

#include "fs/uring_internal.h"

static struct queue *take_kicked(struct uring *u)
{
	for (unsigned i = 0; i < u->n_queues; i++)
		if (u->queues[i].n_kicks) {
			u->queues[i].n_kicks--;
			u->n_kicks--;
			return &u->queues[i];
		}
	return NULL;
}

static void *kicker(void *arg)
{
	struct uring *u = arg;

	pthread_mutex_lock(&u->lock);
	for (;;) {
		struct statfs ignored;
		struct queue *q;

		while (u->phase != STOPPING && !u->n_kicks) {
			u->n_idle_kickers++;
			pthread_cond_wait(&u->kick_cond, &u->lock);
			u->n_idle_kickers--;
		}
		if (u->phase == STOPPING)
			break;
		q = take_kicked(u);
		if (!q)
			continue;
		pthread_mutex_unlock(&u->lock);
		ring_stay_on(q->id);
		(void)!statfs(u->ws->options.mountpoint, &ignored);
		pthread_mutex_lock(&u->lock);
	}
	pthread_mutex_unlock(&u->lock);
	return NULL;
}

void uring_kick(struct queue *q)
{
	struct uring *u = q->u;

	pthread_mutex_lock(&u->lock);
	q->n_kicks++;
	u->n_kicks++;
	if (u->n_kicks > u->n_idle_kickers && u->n_kickers < KICKERS_MAX &&
		u->phase == RUNNING &&
		pthread_create(&u->kickers[u->n_kickers], NULL, kicker, u) == 0)
		u->n_kickers++;
	pthread_cond_signal(&u->kick_cond);
	pthread_mutex_unlock(&u->lock);
}

void uring_join_kickers(struct uring *u)
{
	for (unsigned i = 0; i < u->n_kickers; i++)
		pthread_join(u->kickers[i], NULL);
}
