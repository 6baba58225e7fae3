/*
 * undo_back.h - the change set of an undo, and taking back one that was cut short.
 *
 * An undo is a set that is begun by name: as long as it is open, what its process changes
 * is in it. So whatever a kill left of it (of the command, of the daemon, at whichever
 * step) is exactly the rows of an open set, and taking back is an undo of that. That can be
 * cut short itself: the set is still open then, and holds its own reversals too. No
 * threads. Messages go to stderr.
 */
#ifndef STOMP_CLI_UNDO_BACK_H
#define STOMP_CLI_UNDO_BACK_H

#include "cli/undo_plan.h"

/* As a plan is freed at the end of its scope. */
static inline void cleanup_plan(struct undo_plan **p)
{
	undo_plan_free(*p);
}

#define auto_plan __attribute__((cleanup(cleanup_plan))) struct undo_plan

/* A line of ctl that answers with a set. -errno after a message. */
must_check int undo_ctl(const struct workspace *ws, const char *line, uint64_t *id);

/* The set ends; how: "done", "back". */
must_check int undo_end(const struct workspace *ws, uint64_t id, const char *how);

/* What cannot be taken back, and why; how many. */
size_t undo_tell_reasons(const struct undo_file *files, size_t n);

/* Take back what an undo has done so far; its set ends. */
must_check int undo_take_back(const struct workspace *ws, uint64_t id, bool has_leases);

/* Every undo whose process is gone, *n of them. STOMP_DONE, also where there was none;
 * STOMP_NO where something could not be. */
must_check int undo_take_back_interrupted(const struct workspace *ws, unsigned *n);

#endif
