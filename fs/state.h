/*
 * state.h - what .stomp shows of leases, and the commands of ctl that change them.
 *
 * The seam between the virtual folder (which formats) and the gate (which knows).
 * Thread-safe; rows are copies taken under a file's lock for a moment.
 */
#ifndef STOMP_FS_STATE_H
#define STOMP_FS_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct workspace;
struct process;
struct op;

struct lease_row {
	const char *path; /* of the file, or the pattern of an explicit lease */
	size_t path_len;
	const char *writer;
	uint64_t epoch;
	int64_t expires_ns; /* from now; negative: lapsed */
	unsigned handles;   /* writable handles of the holder */
	bool is_explicit;
	const char *reason;	    /* or NULL */
	const char *const *waiting; /* names, in order of arrival */
	unsigned n_waiting;
};

typedef void lease_row_fn(const struct lease_row *row, void *ctx);

/* Every lease that is held (lapsed ones included) and every explicit one. */
void state_each_lease(struct workspace *ws, lease_row_fn *fn, void *ctx);
unsigned state_count_leases(struct workspace *ws);

/* The process opened a version from the history: it means to work from it knowing what
 * the path holds now, so its next change there is fresh (V8, S5). */
void state_observe_history(
	struct workspace *ws, const char *path, size_t len, struct process *p);

/* Explicit leases (L9). paths: n NUL-terminated workspace paths or patterns. All or
 * none. -EAGAIN: another holds one, *why says which; -ENOENT: the caller holds none. */
int state_lease_acquire(struct workspace *ws, struct process *p, char *const *paths,
	unsigned n, int64_t ttl_ns, const char *reason, struct buf *why);
int state_lease_renew(struct workspace *ws, struct process *p, char *const *paths,
	unsigned n, int64_t ttl_ns, struct buf *why);
int state_lease_release(struct workspace *ws, struct process *p, char *const *paths,
	unsigned n, struct buf *why);
int state_lease_break(struct workspace *ws, struct process *p, char *const *paths,
	unsigned n, struct buf *why);

/* Closed files whose release is still on its way from the kernel: record them now, so
 * that whoever reads the history after a close() finds it told. What is captured behind is
 * waited for (behind.h), but no longer than wait_ms for all of it. */
void state_settle(struct workspace *ws, unsigned wait_ms);
enum { SETTLE_WAIT_MS = 200 };

/* Every finished session has its version, and the journal is on stable storage. */
int state_checkpoint(struct workspace *ws);

#endif
