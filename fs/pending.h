/*
 * pending.h - changes whose bytes wait for their verdict (S4, S7).
 *
 * A writer that is not fresh but may be carrying the others' work writes into a shadow
 * file. Everybody else goes on seeing the file as it was. The verdict comes with the
 * first write that decides it, else at fsync or close, at the latest when the last
 * handle goes.
 *
 *   none --pending_begin--> pending --pass--> copied into the file, session dirty --> none
 *                                   \--stale--> bytes kept, handles refused --------> none
 *   kill -9 while pending: the shadow is unnamed or swept; the file was never touched.
 *   kill -9 while copying: the intent (INTENT_COMMIT) names the shadow; recovery copies
 *   it again.
 *
 * All calls with the file's lock held.
 */
#ifndef STOMP_FS_PENDING_H
#define STOMP_FS_PENDING_H

#include "fs/gate.h"

struct pending;

/* truncated: the new content starts empty; else it starts as what is there. */
must_check int pending_begin(struct change *c, bool truncated);

/* Is this handle writing into the file's shadow? Then its descriptor, else -1. */
int pending_fd(const struct file *f, const struct handle *h);

/* n bytes arrived: maybe they decide. 0, or the -errno of a refusal (recorded). */
must_check int pending_wrote(struct change *c, uint64_t offset, size_t n);

/* Decide now. data_only: leave it undecided when no byte has arrived yet (a flush
 * before any data is no verdict). 0, or the -errno of a refusal (recorded). */
must_check int pending_resolve(struct change *c, bool data_only);

/* Give it up unheard: by took the lease over, or broke it. The bytes are kept. */
void pending_abandon(struct change *c, const struct writer *by);

/* The lost-update test of new_fd as the whole content of a path (rename onto). *pass,
 * and a refusal's details in *info (strings in *hunks). */
must_check int pending_test(
	struct change *c, int new_fd, struct lost_update_result *result, struct buf *hunks);

uint64_t pending_size(const struct pending *p);
bool pending_is_of(const struct pending *p, const struct writer *w);

#endif
