/*
 * strategy.h - what happens to a stale change, as the file's rule says (M).
 *
 * The same base, ours, theirs and policy give the same bytes, everywhere. Called with
 * the file's lock held; a driver may take as long as its timeout.
 */
#ifndef STOMP_FS_STRATEGY_H
#define STOMP_FS_STRATEGY_H

#include "fs/gate.h"

enum strategy_answer {
	STRATEGY_MERGED = 0, /* new_fd holds the merged bytes, both changes kept */
	STRATEGY_REFUSE = 1, /* as `reject`: refused, all sides kept */
};

/* Could a stale change of this file still go ahead? */
bool strategy_may_merge(const struct rule *rule);

/* Is it certain already that this much of the new content will not merge? Drivers are not
 * asked for that. */
bool strategy_conflicts(
	struct change *c, const struct knowledge *known, int new_fd, uint64_t new_size);

/* Tell of a change that has gone ahead by the file's strategy, with both writers. */
void strategy_announce(struct change *c);

/* Merge the change's content, in new_fd (read and write), with what is there. why: for
 * the refusal, where it comes to that. -errno. */
must_check int strategy_merge(
	struct change *c, const struct knowledge *known, int new_fd, struct buf *why);

#endif
