/*
 * housekeeper.h - what time alone brings about: checkpoints of long sessions (V1).
 *
 * One thread, asleep until a session is due.
 */
#ifndef STOMP_FS_HOUSEKEEPER_H
#define STOMP_FS_HOUSEKEEPER_H

#include "fs/workspace.h"

struct file;

must_check int housekeeper_new(struct workspace *ws, struct housekeeper **out);
struct housekeeper *housekeeper_free(struct workspace *ws, struct housekeeper *h);

/* References to the files that have an open session now; free() the array after putting
 * each. NULL when there are none or no memory. */
struct file **sessions_snapshot(struct workspace *ws, size_t *n);

/* The mount is going: every session that is still open ends with what is there. */
void sessions_finish_all(struct workspace *ws);

#endif
