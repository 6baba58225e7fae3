/* Signals of those who wait: what tells us of them, and what does not. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/uring_internal.h"

/*
 * They come by /dev/fuse and may overtake their requests. libfuse then answers EAGAIN, upon
 * which the kernel sends them again, but not where it looks for requests of the ring.
 */
void uring_interrupt(struct uring *u, uint64_t unique)
{
	struct {
		struct fuse_in_header header;
		struct fuse_interrupt_in in;
	} request = {
		.header = {.len = sizeof(request),
			.opcode = FUSE_INTERRUPT,
			.unique = unique | 1},
		.in = {.unique = unique},
	};
	struct fuse_buf buf = {.mem = &request, .size = sizeof(request)};

	fuse_session_process_buf(u->ws->session, &buf);
}

/* Old ones belong to requests that were answered first. uring.lock held. */
static void forget_old(struct uring *u)
{
	int64_t now = workspace_now(u->ws);
	unsigned kept = 0;

	for (unsigned i = 0; i < u->n_interrupts; i++)
		if (now - u->interrupts[i].when_ns < 2 * NS_PER_S)
			u->interrupts[kept++] = u->interrupts[i];
	if (kept == REMEMBERED) {
		memmove(u->interrupts, u->interrupts + 1,
			(kept - 1) * sizeof(*u->interrupts));
		kept--;
	}
	__atomic_store_n(&u->n_interrupts, kept, __ATOMIC_SEQ_CST);
}

bool uring_was_interrupted(struct uring *u, uint64_t unique)
{
	bool found = false;

	pthread_mutex_lock(&u->lock);
	forget_old(u);
	for (unsigned i = 0; i < u->n_interrupts && !found; i++)
		if (u->interrupts[i].unique == unique) {
			u->interrupts[i].when_ns = 0;
			found = true;
		}
	pthread_mutex_unlock(&u->lock);
	return found;
}

static bool is_in_flight(struct uring *u, uint64_t unique)
{
	bool found = false;

	for (unsigned i = 0; i < u->n_queues && !found; i++) {
		struct entry *e;

		pthread_mutex_lock(&u->queues[i].lock);
		list_for_each (e, &u->queues[i].entries, node)
			if (__atomic_load_n(&e->unique, __ATOMIC_SEQ_CST) == unique)
				found = true;
		pthread_mutex_unlock(&u->queues[i].lock);
	}
	return found;
}

bool uring_unheard(struct uring *u, uint64_t unique)
{
	if (!u || uring_phase(u) == PREPARING)
		return false;
	/* First remembered, then looked for; the request is first noted, then asked about:
	 * one of both sees the other. */
	pthread_mutex_lock(&u->lock);
	forget_old(u);
	u->interrupts[u->n_interrupts] =
		(struct interrupt){.unique = unique, .when_ns = workspace_now(u->ws)};
	__atomic_fetch_add(&u->n_interrupts, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&u->lock);
	if (is_in_flight(u, unique) && uring_was_interrupted(u, unique))
		uring_interrupt(u, unique);
	return true;
}

/* ---- signals of which no INTERRUPT tells ---- */

/* A number of /proc/PID/status. */
static uint64_t field(const char *status, const char *name, int base)
{
	const char *at = strstr(status, name);

	return at ? strtoull(at + strlen(name), NULL, base) : 0;
}

bool uring_has_signal(const struct workspace *ws, pid_t thread)
{
	char name[32], status[4096];
	auto_close int fd = -1;
	uint64_t pending;
	ssize_t n;

	if (thread <= 0)
		return false; /* of a pid namespace that is not below ours */
	snprintf(name, sizeof(name), "%d/status", (int)thread);
	fd = openat(ws->proc_fd, name, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, status, sizeof(status) - 1);
	if (n <= 0)
		return false;
	status[n] = '\0';
	pending = field(status, "\nSigPnd:", 16);
	/* What is meant for the process goes to its first thread, where that can wait for
	 * it. */
	if (field(status, "\nTgid:", 10) == (uint64_t)thread)
		pending |= field(status, "\nShdPnd:", 16);
	return pending & ~field(status, "\nSigBlk:", 16);
}
