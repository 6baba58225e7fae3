#include "policy/stale.h"

static uint64_t newer(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* S2: a process that began after the current version was made, and has read it, holds
 * nothing older. start_ns is the floor of a 10 ms tick, so "after" errs on the safe
 * side. */
static bool cannot_hold_older(
	const struct current *current, const struct process *p, uint64_t process_newest)
{
	return p->start_ns >= current->made_ns && process_newest >= current->seq;
}

enum judgement stale_judge(const struct current *current, const struct observations *seen,
	const struct process *p, enum change_shape shape, int64_t now_ns, int64_t settle_ns,
	struct knowledge *known)
{
	uint64_t self = actor_process(p->serial), mind = actor_mind(p->writer->id);
	uint64_t newest = observe_newest(seen, self);

	known->base_seq = newer(observe_base(seen, self, now_ns, settle_ns),
		observe_base(seen, mind, now_ns, settle_ns));
	known->read_current = newest >= current->seq;

	if (!current->author || current->author == p->writer) /* S3 */
		return JUDGE_FRESH;
	if (known->base_seq >= current->seq || cannot_hold_older(current, p, newest)) {
		known->base_seq = current->seq;
		return JUDGE_FRESH;
	}
	switch (shape) {
	case CHANGE_APPEND:
		return JUDGE_FRESH; /* S9 */
	case CHANGE_BLIND:
		return JUDGE_STALE; /* S6 */
	case CHANGE_TRUNCATING:
		return known->read_current ? JUDGE_TEST : JUDGE_STALE; /* S6 */
	case CHANGE_REWRITING:
	case CHANGE_WHOLE:
		return JUDGE_TEST; /* S4 */
	}
	assert(!"every shape is judged above");
	return JUDGE_STALE;
}

void stale_consume(struct observations *seen, const struct process *p, int64_t now_ns,
	int64_t settle_ns)
{
	observe_attempt(seen, actor_process(p->serial), now_ns, settle_ns);
	observe_attempt(seen, actor_mind(p->writer->id), now_ns, settle_ns);
}

bool stale_test_passes(enum lost_update verdict, bool read_current)
{
	switch (verdict) {
	case LOST_UPDATE_KEPT:
	case LOST_UPDATE_SAME:
		return true;
	case LOST_UPDATE_OVERLAPPING:
		return read_current;
	case LOST_UPDATE_REVERTED:
	case LOST_UPDATE_UNDECIDED:
		break;
	}
	return false;
}
