#include "fs/retire.h"

#include <pthread.h>

#include "fs/workspace.h"

struct entry {
	uint64_t seq;
	uint32_t slot;
	bool synced; /* the row must be on stable storage */
};

/* A ring in order of queueing, which is nearly the order of writing. */
struct retire {
	pthread_mutex_t lock;
	uint32_t head, count;
	struct entry ring[INTENT_SLOTS];
};

int retire_new(struct retire **out)
{
	struct retire *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	pthread_mutex_init(&r->lock, NULL);
	*out = r;
	return 0;
}

struct retire *retire_free(struct retire *r)
{
	if (r)
		pthread_mutex_destroy(&r->lock);
	free(r);
	return NULL;
}

static bool may_end(struct workspace *ws, const struct entry *e)
{
	return e->synced ? journal_is_synced(ws->journal, e->seq)
			 : journal_is_kept(ws->journal, e->seq);
}

bool retire_is_idle(struct workspace *ws)
{
	struct retire *r = ws->retire;
	bool idle;

	pthread_mutex_lock(&r->lock);
	idle = r->count == 0;
	pthread_mutex_unlock(&r->lock);
	return idle;
}

void retire_written(struct workspace *ws)
{
	struct retire *r = ws->retire;

	pthread_mutex_lock(&r->lock);
	while (r->count && may_end(ws, &r->ring[r->head])) {
		intents_end(ws->intents, r->ring[r->head].slot);
		r->head = (r->head + 1) % INTENT_SLOTS;
		r->count--;
	}
	pthread_mutex_unlock(&r->lock);
}

void retire_slot(struct workspace *ws, uint32_t slot, uint64_t seq, bool synced)
{
	struct retire *r = ws->retire;

	if (slot == INTENT_NONE)
		return;
	pthread_mutex_lock(&r->lock);
	assert(r->count < INTENT_SLOTS); /* as many places as there are slots */
	r->ring[(r->head + r->count) % INTENT_SLOTS] =
		(struct entry){.seq = seq, .slot = slot, .synced = synced};
	r->count++;
	pthread_mutex_unlock(&r->lock);
	if (synced)
		journal_sync_soon(ws->journal, seq);
	retire_written(ws);
}

static struct entry oldest(struct retire *r)
{
	struct entry e = {0};

	pthread_mutex_lock(&r->lock);
	if (r->count)
		e = r->ring[r->head];
	pthread_mutex_unlock(&r->lock);
	return e;
}

int retire_begin(struct workspace *ws, const struct intent *intent, uint32_t *slot)
{
	int r = intents_begin(ws->intents, intent, slot);

	if (r != -ENOSPC)
		return r;
	retire_written(ws);
	r = intents_begin(ws->intents, intent, slot);
	while (r == -ENOSPC) {
		struct entry e = oldest(ws->retire);
		int w;

		if (!e.seq)
			return -ENFILE; /* that many files are being written right now */
		w = e.synced ? journal_sync(ws->journal, e.seq)
			     : journal_keep(ws->journal, e.seq);
		if (w < 0)
			return w;
		retire_written(ws);
		r = intents_begin(ws->intents, intent, slot);
	}
	return r;
}
