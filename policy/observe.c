#include "policy/observe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/*
 * Two young reads are enough: the first of a version counts from its own time on, a
 * later read of the same version adds nothing, and of several young versions the oldest
 * is the first to settle while the newest is the one a test may ask for.
 */
struct observation {
	uint64_t actor;
	uint64_t known; /* settled, or made by the actor itself */
	struct {
		uint64_t seq;
		int64_t at_ns;
	} young[2]; /* seq 0: empty; young[0] is the older */
	int64_t used_ns;
};

void observations_done(struct observations *o)
{
	free(o->list);
	*o = (struct observations){0};
}

static struct observation *find(const struct observations *o, uint64_t actor)
{
	for (size_t i = 0; i < o->count; i++)
		if (o->list[i].actor == actor)
			return &o->list[i];
	return NULL;
}

static struct observation *oldest(const struct observations *o)
{
	struct observation *old = &o->list[0];

	for (size_t i = 1; i < o->count; i++)
		if (o->list[i].used_ns < old->used_ns)
			old = &o->list[i];
	return old;
}

static struct observation *find_or_add(struct observations *o, uint64_t actor)
{
	struct observation *ob = find(o, actor);

	if (ob)
		return ob;
	if (o->count >= (o->most ? o->most : OBSERVE_ACTORS)) {
		ob = oldest(o);
	} else {
		if (o->count == o->room) {
			uint16_t room = o->room ? (uint16_t)(o->room * 2) : 2;
			struct observation *list = realloc(o->list, room * sizeof(*list));

			if (!list)
				return NULL;
			o->list = list;
			o->room = room;
		}
		ob = &o->list[o->count++];
	}
	*ob = (struct observation){.actor = actor};
	return ob;
}

/* What has settled by now is known for good: its place is for the young again. */
static void settle(struct observation *ob, int64_t now_ns, int64_t settle_ns)
{
	unsigned n = 0;

	for (int i = 0; i < 2; i++) {
		if (!ob->young[i].seq)
			continue;
		if (now_ns - ob->young[i].at_ns <= settle_ns)
			ob->young[n++] = ob->young[i];
		else if (ob->young[i].seq > ob->known)
			ob->known = ob->young[i].seq;
	}
	memset(&ob->young[n], 0, (2 - n) * sizeof(ob->young[0]));
}

void observe_read(struct observations *o, uint64_t actor, uint64_t seq, int64_t now_ns,
	int64_t settle_ns)
{
	struct observation *ob = find_or_add(o, actor);

	if (!ob)
		return;
	ob->used_ns = now_ns;
	settle(ob, now_ns, settle_ns);
	if (seq <= ob->known || seq == ob->young[0].seq || seq == ob->young[1].seq)
		return;
	if (!ob->young[0].seq) {
		ob->young[0].seq = seq;
		ob->young[0].at_ns = now_ns;
		return;
	}
	/* Both taken: the newer one is replaced, the older goes on settling. */
	ob->young[1].seq = seq;
	ob->young[1].at_ns = now_ns;
}

void observe_made(struct observations *o, uint64_t actor, uint64_t seq)
{
	struct observation *ob = find_or_add(o, actor);

	if (!ob)
		return;
	ob->known = seq;
	memset(ob->young, 0, sizeof(ob->young));
}

uint64_t observe_base(
	const struct observations *o, uint64_t actor, int64_t now_ns, int64_t settle_ns)
{
	const struct observation *ob = find(o, actor);
	uint64_t base;

	if (!ob)
		return 0;
	base = ob->known;
	for (int i = 0; i < 2; i++)
		if (ob->young[i].seq > base && now_ns - ob->young[i].at_ns > settle_ns)
			base = ob->young[i].seq;
	return base;
}

uint64_t observe_newest(const struct observations *o, uint64_t actor)
{
	const struct observation *ob = find(o, actor);
	uint64_t newest;

	if (!ob)
		return 0;
	newest = ob->known;
	for (int i = 0; i < 2; i++)
		if (ob->young[i].seq > newest)
			newest = ob->young[i].seq;
	return newest;
}

void observe_attempt(
	struct observations *o, uint64_t actor, int64_t now_ns, int64_t settle_ns)
{
	struct observation *ob = find(o, actor);

	if (!ob)
		return;
	ob->known = observe_base(o, actor, now_ns, settle_ns);
	memset(ob->young, 0, sizeof(ob->young));
	ob->used_ns = now_ns;
}

/* The place among those taken so far, sorted by time; who has none of the max is let go. */
static unsigned insert_by_time(const struct observation **taken, unsigned n, unsigned max,
	const struct observation *ob)
{
	unsigned at = n;

	if (n == max && ob->used_ns < taken[0]->used_ns)
		return n;
	if (n == max) {
		memmove(taken, taken + 1, (n - 1) * sizeof(*taken));
		at = --n;
	}
	while (at > 0 && taken[at - 1]->used_ns > ob->used_ns) {
		taken[at] = taken[at - 1];
		at--;
	}
	taken[at] = ob;
	return n + 1;
}

unsigned observe_settled(const struct observations *o, int64_t now_ns, int64_t settle_ns,
	struct known_by *out, unsigned max)
{
	enum { MOST = 64 };
	const struct observation *taken[MOST];
	unsigned n = 0;

	assert(max > 0 && max <= MOST);
	for (size_t i = 0; i < o->count; i++)
		if (observe_base(o, o->list[i].actor, now_ns, settle_ns))
			n = insert_by_time(taken, n, max, &o->list[i]);
	for (unsigned i = 0; i < n; i++)
		out[i] = (struct known_by){taken[i]->actor,
			observe_base(o, taken[i]->actor, now_ns, settle_ns)};
	return n;
}
