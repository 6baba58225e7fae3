/*
 * gate.h - the one way any change takes.
 *
 *   identify → decide → record the intent → act → record the outcome → wake, reply
 *
 * An operation describes its change, calls gate_enter() with the file locked, acts on
 * the backing when told to go, and calls gate_leave(). Between the two the file's lock
 * is held: the epoch check and the act are one step (L7).
 *
 * States of a file and who moves it (kill -9 at each arrow: journal/intent.h):
 *
 *   quiet --gate_enter--> changing --act--> dirty --session_finish--> quiet
 *     intent OPEN before the act; the version row queued before the intent is freed; the
 *     next change of the file waits where that version is neither written nor kept
 *     (journal/ring.h), so nothing overwrites what a crash would still need to find on
 *     disk (V4).
 */
#ifndef STOMP_FS_GATE_H
#define STOMP_FS_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "fs/file.h"
#include "fs/handle.h"
#include "fs/op.h"
#include "policy/stale.h"

enum gate_answer {
	GATE_GO = 0,	    /* act, then gate_leave() */
	GATE_UNGUARDED = 1, /* `pass`: act; gate_leave() does nothing but unlock */
	GATE_PARKED = 2,    /* the request waits; return without touching it */
	GATE_PENDING = 3,   /* go, but the bytes must wait for their verdict (S7) */
};

struct change {
	struct workspace *ws;
	struct op *op;	       /* NULL: never waits */
	struct process *by;    /* who; through a handle, who opened it (W3); borrowed */
	struct file *file;     /* locked by the caller */
	struct inode *inode;   /* what is there now; NULL: nothing */
	struct handle *handle; /* through which it comes; NULL: by path */
	enum change_shape shape;
	const char *asked; /* "open", "write", "rename", … for messages */
	const char *path;
	size_t path_len;
	struct inode *parent; /* no inode: where it is to be, and as what; else NULL */
	const char *name;
	enum intent_kind intent;
	struct inode *moved; /* INTENT_RENAME: the inode that is to be at to_path */
	const char *from_path, *to_path; /* INTENT_RENAME */
	size_t from_path_len, to_path_len;
	int new_fd;	    /* CHANGE_WHOLE: the content that is to be there. -1: the gate
			       opens what is moved when it asks, the caller closes */
	bool keeps_content; /* neither overwrites nor removes: no base needed (link, mode)
			     */
	bool never_waits;   /* not an open, rename or unlink (L3) */
	bool nonblock;	    /* refuse at once instead of waiting */
	bool removes;	    /* unlink, rename away: there will be no content */
	/* out: */
	int64_t attempt_ns; /* when it was attempted: what was read within settle before
			     * belongs to it, however long it waits and is tested (S1) */
	struct knowledge known;
	bool guarded;
	bool has_st; /* st is the inode's as the gate was entered, and no session on it */
	struct stat st;
	/* set by who acts, before he does: */
	bool noted; /* the session was told which bytes change (session_will_…) */
};

/* Before locking: write back what others have stored through mappings of the inode, so
 * that a take-over finds it. Blocks; no lock may be held. */
void gate_prepare(struct workspace *ws, struct inode *inode, const struct process *by);

/* Positive answers above; -errno: refused, recorded and explained (or the journal
 * failed), the file is as it was and still locked. */
must_check int gate_enter(struct change *c);

/* The act is done (result 0) or failed. Keeps the session open while the holder has
 * writable handles; else finishes it. The lock stays with the caller. */
void gate_leave(struct change *c, int result);

/* A process opened the file for reading: what it may count as having seen (S1). */
void gate_observe(struct workspace *ws, struct file *f, struct process *p);

/* Is this handle's epoch the current one? Cheap; file.lock held. */
bool gate_holds(const struct file *f, const struct handle *h);

/* Has w a handle that can write and is not fenced? */
bool gate_has_writable_handle(const struct file *f, const struct writer *w);

/* The lease ends when nobody of the holder has the file open for writing any more. */
void gate_maybe_end_lease(struct workspace *ws, struct file *f);

/* No folder is renamed or removed from under what another has asked for ahead (L9, L10).
 * 0, or the -errno of a refusal (recorded). No lock is held. */
must_check int gate_check_folder(struct op *op, const struct buf *path, const char *asked);

/* Break whatever lease the file has, fencing its holder (L9). The lock is held. */
void gate_break(struct workspace *ws, struct file *f, const struct process *by);

/* w has removed or replaced what the others have open: what they would still write could
 * reach nobody. */
void gate_fence_others(struct file *f, const struct writer *w);

#endif
