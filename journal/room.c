/*
 * room.c - back-pressure: who waits until the queue has room.
 */
#include "journal/internal.h"

/* Writers wait for room where they close; what they have to record then finds room again as
 * large, so that nobody waits for the disk in the midst of a change, with locks held. */
enum { LIMIT_TO_CLOSE = 1, LIMIT_TO_RECORD = 2 };

static bool queue_full(const struct journal *j, size_t cost, unsigned limit)
{
	if (j->n_queue + j->n_batch == 0)
		return false; /* one that is larger than the whole queue */
	return j->n_queue + j->n_batch >= QUEUE_MAX_ROWS * limit ||
	       j->queue_bytes + cost > j->queue_max_bytes * limit;
}

/* Lock held. */
static void wait_for_commit(struct journal *j)
{
	j->in_a_hurry++;
	writer_wake(j);
	pthread_cond_wait(&j->room, &j->lock);
	j->in_a_hurry--;
}

void room_look(struct journal *j)
{
	atomic_store(&j->crowded,
		queue_full(j, 0, LIMIT_TO_CLOSE) || !list_empty(&j->room_waits));
}

int room_wait(struct journal *j, const struct item *item, enum queue_policy policy)
{
	bool waited = false;

	for (;;) {
		int health = atomic_load(&j->health);

		/* What tells of refusals may not fill the room that versions need. */
		if (policy == QUEUE_DROP_WHEN_FAILING && health &&
			j->n_queue + j->n_batch >= QUEUE_MAX_ROWS / 2)
			return health;
		if (!queue_full(j, item->cost, LIMIT_TO_RECORD))
			return 0;
		if (policy == QUEUE_DROP_WHEN_FAILING && health)
			return health;
		j->backpressure_waits += !waited;
		waited = true;
		wait_for_commit(j);
	}
}

void journal_await_room(struct journal *j)
{
	struct list turn;

	if (!atomic_load(&j->crowded))
		return;
	list_init(&turn);
	pthread_mutex_lock(&j->lock);
	list_append(&j->room_waits, &turn);
	/* In order of arrival: who fills the queue as fast as it empties keeps nobody out.
	 * While the journal fails the gate has its own answer (V7). */
	if (j->room_waits.next != &turn || queue_full(j, 0, LIMIT_TO_CLOSE))
		j->backpressure_waits++;
	j->n_room_waits++;
	while (!atomic_load(&j->health) &&
		(j->room_waits.next != &turn || queue_full(j, 0, LIMIT_TO_CLOSE)))
		wait_for_commit(j);
	j->n_room_waits--;
	list_remove(&turn);
	room_look(j);
	pthread_cond_broadcast(&j->room); /* the next one's turn */
	pthread_mutex_unlock(&j->lock);
}
