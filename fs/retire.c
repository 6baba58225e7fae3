#include "fs/retire.h"

#include <pthread.h>

#include "fs/workspace.h"

struct entry {
	uint64_t seq;
	uint32_t slot;
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

void retire_written(struct workspace *ws)
{
	struct retire *r = ws->retire;

	pthread_mutex_lock(&r->lock);
	while (r->count && journal_is_written(ws->journal, r->ring[r->head].seq)) {
		intents_end(ws->intents, r->ring[r->head].slot);
		r->head = (r->head + 1) % INTENT_SLOTS;
		r->count--;
	}
	pthread_mutex_unlock(&r->lock);
}

void retire_slot(struct workspace *ws, uint32_t slot, uint64_t seq)
{
	struct retire *r = ws->retire;

	if (slot == INTENT_NONE)
		return;
	pthread_mutex_lock(&r->lock);
	assert(r->count < INTENT_SLOTS); /* as many places as there are slots */
	r->ring[(r->head + r->count) % INTENT_SLOTS] =
		(struct entry){.seq = seq, .slot = slot};
	r->count++;
	pthread_mutex_unlock(&r->lock);
	retire_written(ws);
}

static uint64_t oldest_seq(struct retire *r)
{
	uint64_t seq;

	pthread_mutex_lock(&r->lock);
	seq = r->count ? r->ring[r->head].seq : 0;
	pthread_mutex_unlock(&r->lock);
	return seq;
}

int retire_begin(struct workspace *ws, const struct intent *intent, uint32_t *slot)
{
	int r = intents_begin(ws->intents, intent, slot);

	if (r != -ENOSPC)
		return r;
	retire_written(ws);
	r = intents_begin(ws->intents, intent, slot);
	while (r == -ENOSPC) {
		uint64_t seq = oldest_seq(ws->retire);
		int w;

		if (!seq)
			return -ENFILE; /* that many files are being written right now */
		w = journal_wait(ws->journal, seq);
		if (w < 0)
			return w;
		retire_written(ws);
		r = intents_begin(ws->intents, intent, slot);
	}
	return r;
}
