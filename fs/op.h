/*
 * op.h - one request on its way through the gate, able to wait without a thread.
 *
 * An operation is a struct op on the stack of a FUSE worker. When the gate parks it, it
 * is copied to the heap and the worker goes on; the park runs it again from the start,
 * on a thread of its own, when the lease is free, its wait is over, or it was
 * interrupted (then it is answered EINTR at once).
 */
#ifndef STOMP_FS_OP_H
#define STOMP_FS_OP_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "fs/workspace.h"

struct op;
struct file;
struct park;

/* While parked: file.lock guards node; the park's lock the rest. */
struct waiter {
	struct list node;   /* file.waiters */
	struct list parked; /* park's list; empty while it runs */
	struct file *file;  /* counted; NULL: not waiting */
	uid_t uid;	    /* whose waits it is one of, while file is set */
	struct writer *writer, *holder;
	int64_t began_ns, lapses_ns; /* began_ns: the first time it had to wait; 0: never */
	int64_t deadline_ns; /* of the whole wait, whatever it waits for; 0: none yet */
	bool interrupted;
	bool shielded;	 /* no signal ends it: a write or truncate, for a moment */
	bool deadlocked; /* whom it waits for has come to wait for it */
};

typedef void op_fn(struct op *op);

struct op {
	fuse_req_t req;
	struct workspace *ws;
	op_fn *run;
	struct process *by; /* counted, once somebody asked */
	bool on_heap;
	bool timed_out; /* it has waited as long as it may */
	struct waiter wait;
	/* What was asked; names and data are borrowed from the request until parked. */
	fuse_ino_t ino, new_parent;
	const char *name, *new_name, *target;
	int flags;
	mode_t mode;
	dev_t rdev;
	struct stat attr;
	int to_set;
	bool has_fi;
	struct fuse_file_info fi;
	const void *data;
	size_t size;
	off_t offset;
	/* copy_file_range: */
	fuse_ino_t ino_in;
	struct fuse_file_info fi_in;
	off_t offset_in;
};

/* Begin an operation: fills ws and req. */
struct op op_begin(fuse_req_t req, op_fn *run);

/* The calling process (taken once). */
struct process *op_by(struct op *op);

/* The operation was answered: drop what it holds, its place in a queue too. No lock may
 * be held. */
void op_end(struct op *op);

/* A copy on the heap that owns its strings and data, for waiting; NULL: no memory. */
struct op *op_copy(const struct op *op);
/* Free such a copy without answering. */
void op_free_copies(struct op *copy);

/* Answers, each ending the operation. No lock may be held. */
void op_reply_err(struct op *op, int positive_errno);

/* Answer req once the kernel has been told all that it is to be told by now: bytes written,
 * -errno, or 0 for what is no write. Ends no operation. False: no memory, not answered. */
bool op_reply_after_notes(struct workspace *ws, fuse_req_t req, ssize_t result);

/* ---- the park ---- */

must_check int park_new(struct workspace *ws, struct park **out);
/* Answers everybody EINTR, ends its threads. */
struct park *park_free(struct park *p);

/* Park op, which is by's, on file, whose lock is held (and stays held; so is that of the
 * file it waited for before, if that is another); holder is whom it waits for.
 * 0: parked, the caller must not touch op any more. -EDEADLK: they wait for each other.
 * -EUSERS: its user has too many that wait (shares.h). -ENOMEM. */
must_check int park_wait(struct op *op, struct file *file, struct writer *by,
	struct writer *holder, int64_t deadline_ns, int64_t lapses_ns);

/* Somebody else holds the lease of file now: whoever waits for it waits for him. Those
 * whom he waits for himself are told at once. file.lock held. */
void park_new_holder(struct workspace *ws, struct file *file, struct writer *holder);

/* The op runs again and is through with waiting on its file; file.lock held. */
void park_leave_queue(struct op *op);

/* True when others wait for this file and op is not the first of them. */
bool park_must_queue(const struct file *file, const struct op *op);

/* The lease of file may be had: run the first waiter. file.lock held. */
void park_wake(struct workspace *ws, struct file *file);

/* Explicit leases have changed: let everybody look again. */
void park_recheck(struct park *p);

/* For .stomp: calls fn per waiting request. */
typedef void park_fn(const struct waiter *w, void *ctx);
void park_each(struct park *p, park_fn *fn, void *ctx);
uint64_t park_count(struct park *p);

#endif
