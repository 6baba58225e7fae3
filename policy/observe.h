/*
 * observe.h - what each reader of one file last saw of it (S1, S2).
 *
 * A small bounded list per file; an actor is a process or a writer's mind. Versions are
 * told apart by their seq, so an observation is just the seq that was current when the
 * file was opened for reading. No threads of its own (the file's lock guards it), no
 * clock of its own. When the list is full the oldest actor is forgotten, which is the
 * safe side: its next change has to prove more.
 */
#ifndef STOMP_POLICY_OBSERVE_H
#define STOMP_POLICY_OBSERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OBSERVE_ACTORS = 128, OBSERVE_MIN_ACTORS = 8, OBSERVE_MAX_ACTORS = 4096 };

struct observation;

/* What of an observation outlives its settling. */
struct known_by {
	uint64_t actor, seq;
};

struct observations {
	struct observation *list;
	uint16_t count, room;
	uint16_t most; /* actors remembered; 0: OBSERVE_ACTORS. The policy's to set */
};

/* Actors: a process by its serial, a mind by its writer's id. */
static inline uint64_t actor_process(uint64_t serial)
{
	return serial << 1;
}

static inline uint64_t actor_mind(uint32_t writer_id)
{
	return (uint64_t)writer_id << 1 | 1;
}

void observations_done(struct observations *o);

/* The actor opened the file for reading while version seq was current. Without memory
 * the observation is lost (the safe side). */
void observe_read(struct observations *o, uint64_t actor, uint64_t seq, int64_t now_ns,
	int64_t settle_ns);

/* The actor made version seq itself: known at once and for good. */
void observe_made(struct observations *o, uint64_t actor, uint64_t seq);

/* The newest seq that the actor read more than settle ago, or made; 0: none. */
uint64_t observe_base(
	const struct observations *o, uint64_t actor, int64_t now_ns, int64_t settle_ns);

/* The newest seq the actor read at all, however young; 0: none. */
uint64_t observe_newest(const struct observations *o, uint64_t actor);

/* The actor attempts a change now: what it read within settle belongs to the attempt and
 * observes nothing, then or later. */
void observe_attempt(
	struct observations *o, uint64_t actor, int64_t now_ns, int64_t settle_ns);

/* What is known for good, of the max actors who came last, the last one last; how many
 * were told. observe_made() of each gives the same bases again. */
unsigned observe_settled(const struct observations *o, int64_t now_ns, int64_t settle_ns,
	struct known_by *out, unsigned max);

#endif
