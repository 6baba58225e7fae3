#include "fs/uring.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "fs/uring_internal.h"

/* ---- answers ---- */

/* Into e, where the kernel takes it from. What was composed there stays. */
static void put_answer(struct entry *e, const struct iovec *iov, int count)
{
	struct entry_header *header = e->iov[0].iov_base;
	struct fuse_out_header out = *(const struct fuse_out_header *)iov[0].iov_base;
	char *payload = e->iov[1].iov_base;
	size_t used = 0;

	for (int i = 1; i < count && out.error == 0; i++) {
		if (iov[i].iov_len > e->iov[1].iov_len - used) {
			out.error = -EIO;
			used = 0;
			break;
		}
		if (iov[i].iov_len && iov[i].iov_base != payload + used)
			memcpy(payload + used, iov[i].iov_base, iov[i].iov_len);
		used += iov[i].iov_len;
	}
	memcpy(header->in_out, &out, sizeof(out));
	header->payload_size = (uint32_t)used;
}

static struct ring_thread *this_thread(const struct uring *u, uint64_t unique)
{
	struct ring_thread *t;

	if (!u || uring_phase(u) == PREPARING)
		return NULL;
	t = pthread_getspecific(u->self);
	if (!t || !t->current ||
		__atomic_load_n(&t->current->unique, __ATOMIC_RELAXED) != unique)
		return NULL;
	return t;
}

/* The answer is there. It goes with the next wait of this thread, at once after a READ: of
 * that, operations know that the kernel has it when they are told so. */
static void answered(struct ring_thread *t)
{
	struct entry *e = t->current;

	__atomic_store_n(&e->unique, 0, __ATOMIC_SEQ_CST);
	t->answer = ANSWERED;
	if (t->reads) {
		t->answer = ANSWERED_AND_LENT;
		ring_lend(t, e);
		io_uring_submit(&t->ring);
	}
}

/* Requests that wait without a thread are few, and such answers rare. */
static bool reply_from_outside(struct uring *u, const struct iovec *iov, int count)
{
	uint64_t unique = ((const struct fuse_out_header *)iov[0].iov_base)->unique;
	bool found = false;

	for (unsigned i = 0; i < u->n_queues && !found; i++) {
		struct queue *q = &u->queues[i];
		struct entry *e;

		pthread_mutex_lock(&q->lock);
		list_for_each (e, &q->entries, node) {
			if (__atomic_load_n(&e->unique, __ATOMIC_SEQ_CST) != unique)
				continue;
			found = true;
			put_answer(e, iov, count);
			__atomic_store_n(&e->unique, 0, __ATOMIC_SEQ_CST);
			if (e->left)
				queue_return(q, e);
			else
				e->answered = true;
			e->left = false;
			break;
		}
		pthread_mutex_unlock(&q->lock);
	}
	return found;
}

bool uring_reply(struct uring *u, const struct iovec *iov, int count)
{
	uint64_t unique = ((const struct fuse_out_header *)iov[0].iov_base)->unique;
	struct ring_thread *t = this_thread(u, unique);

	if (t) {
		put_answer(t->current, iov, count);
		answered(t);
		return true;
	}
	if (!u || !unique || uring_phase(u) == PREPARING)
		return false;
	return reply_from_outside(u, iov, count);
}

ssize_t uring_splice(struct uring *u, int pipe_fd, size_t size)
{
	struct ring_thread *t = u ? pthread_getspecific(u->self) : NULL;
	struct fuse_out_header out;
	struct iovec iov[2] = {{&out, sizeof(out)}};
	size_t got = 0;

	/* libfuse splices from the thread that it was called in. */
	if (!t || !t->current || t->answer != NOT_ANSWERED)
		return 0;
	iov[1] = t->current->iov[1];
	if (size < sizeof(out) || size - sizeof(out) > iov[1].iov_len ||
		read(pipe_fd, &out, sizeof(out)) != sizeof(out)) {
		errno = EIO;
		return -1;
	}
	while (got < size - sizeof(out)) {
		ssize_t n = read(
			pipe_fd, (char *)iov[1].iov_base + got, size - sizeof(out) - got);

		if (n <= 0) {
			errno = EIO;
			return -1;
		}
		got += (size_t)n;
	}
	iov[1].iov_len = got;
	(void)!uring_reply(u, iov, 2);
	return (ssize_t)size;
}

void *uring_room(struct uring *u, size_t size)
{
	struct ring_thread *t = u ? pthread_getspecific(u->self) : NULL;

	if (!t || !t->current || t->answer != NOT_ANSWERED ||
		size > t->current->iov[1].iov_len)
		return NULL;
	return t->current->iov[1].iov_base;
}

/* ---- beginning and end ---- */

/* Such as "0-3,8". Returns the highest one plus 1, 0: cannot be read. */
static unsigned read_cpus(const char *path, cpu_set_t *set)
{
	FILE *f = fopen(path, "re");
	unsigned from, to, end = 0;
	int c = ',';

	CPU_ZERO(set);
	while (f && c == ',' && fscanf(f, "%u", &from) == 1) {
		to = from;
		c = fgetc(f);
		if (c == '-' && fscanf(f, "%u", &to) == 1)
			c = fgetc(f);
		for (unsigned i = from; i <= to && i < CPU_SETSIZE; i++)
			CPU_SET(i, set);
		end = to + 1;
	}
	if (f)
		(void)fclose(f);
	return end;
}

static int start_threads(struct uring *u)
{
	bool offline = false;
	int r = 0;

	for (unsigned i = 0; i < u->n_queues && r == 0; i++) {
		if (u->queues[i].online)
			r = ring_thread_start(u, &u->queues[i], true);
		else
			offline = true;
	}
	if (r == 0 && offline)
		r = ring_thread_start(u, NULL, false);
	pthread_mutex_lock(&u->lock);
	while (u->n_starting)
		pthread_cond_wait(&u->cond, &u->lock);
	if (r == 0)
		r = -u->failure;
	pthread_mutex_unlock(&u->lock);
	return r;
}

static int open_queues(struct uring *u)
{
	cpu_set_t possible, online;
	unsigned n = read_cpus("/sys/devices/system/cpu/possible", &possible);

	(void)read_cpus("/sys/devices/system/cpu/online", &online);
	if (!n || n > CPU_SETSIZE)
		return -ENOSYS;
	u->queues = calloc(n, sizeof(*u->queues));
	if (!u->queues)
		return -ENOMEM;
	for (; u->n_queues < n; u->n_queues++) {
		struct queue *q = &u->queues[u->n_queues];
		int r = queue_init(q, u, u->n_queues);

		if (r < 0) {
			queue_done(q);
			return r;
		}
		q->online = CPU_ISSET(u->n_queues, &online);
	}
	return 0;
}

static int uring_new(struct workspace *ws, size_t payload_size, struct uring **out)
{
	struct uring *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return -ENOMEM;
	u->ws = ws;
	u->payload_size = payload_size;
	u->device_fd = fuse_session_fd(ws->session);
	u->kickers.jobs_in = u->kickers.jobs_out = -1;
	list_init(&u->threads);
	pthread_mutex_init(&u->lock, NULL);
	pthread_cond_init(&u->cond, NULL);
	u->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (u->stop_fd < 0 || pthread_key_create(&u->self, NULL)) {
		r = u->stop_fd < 0 ? -errno : -EAGAIN;
		if (u->stop_fd >= 0)
			close(u->stop_fd);
		pthread_cond_destroy(&u->cond);
		pthread_mutex_destroy(&u->lock);
		free(u);
		return r;
	}
	r = kickers_init(&u->kickers);
	r = r < 0 ? r : open_queues(u);
	r = r < 0 ? r : start_threads(u);
	if (r < 0) {
		uring_stop(u);
		uring_free(u);
		return r;
	}
	*out = u;
	return 0;
}

/* Why not, or NULL. */
static const char *obstacle(const struct workspace *ws)
{
	if (ws->options.uring == URING_OFF)
		return "it is not asked for (-o uring)";
	/* The kernel sends again only what was read from /dev/fuse: what a ring held would
	 * never be answered. */
	if (ws->supervised.supervisor)
		return "a supervised mount outlives its daemon, a ring does not: either "
		       "supervise or uring";
	if (!(ws->init_offered & WIRE_OVER_IO_URING))
		return "the kernel does not offer it: 6.14 or newer is needed, and Y in "
		       "/sys/module/fuse/parameters/enable_uring";
	return NULL;
}

bool uring_prepare(struct workspace *ws, size_t payload_size)
{
	int r;

	ws->uring_refusal = obstacle(ws);
	if (ws->uring_refusal) {
		if (ws->options.uring == URING_ON)
			log_warn("no io_uring: %s", ws->uring_refusal);
		return false;
	}
	r = uring_new(ws, payload_size, &ws->uring);
	if (r < 0) {
		ws->uring_refusal = "rings could not be set up";
		log_warn("no io_uring: rings could not be set up: %s%s", strerror(-r),
			r == -EPERM ? " (see /proc/sys/kernel/io_uring_disabled)" : "");
	}
	return r == 0;
}

static void set_phase(struct uring *u, enum phase phase)
{
	pthread_mutex_lock(&u->lock);
	__atomic_store_n(&u->phase, phase, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&u->cond);
	pthread_mutex_unlock(&u->lock);
}

void uring_start(struct uring *u)
{
	set_phase(u, RUNNING);
}

void uring_stop(struct uring *u)
{
	uint64_t one = 1;

	if (!u)
		return;
	set_phase(u, STOPPING);
	(void)!write(u->stop_fd, &one, sizeof(one));
	for (unsigned i = 0; i < u->n_queues; i++) {
		pthread_mutex_lock(&u->queues[i].lock);
		pthread_cond_broadcast(&u->queues[i].cond);
		pthread_mutex_unlock(&u->queues[i].lock);
	}
	pthread_mutex_lock(&u->lock);
	while (!list_empty(&u->threads)) {
		struct ring_thread *t = list_first(&u->threads, struct ring_thread, node);

		list_remove(&t->node);
		pthread_mutex_unlock(&u->lock);
		pthread_join(t->id, NULL);
		free(t);
		pthread_mutex_lock(&u->lock);
	}
	pthread_mutex_unlock(&u->lock);
}

struct uring *uring_free(struct uring *u)
{
	if (!u)
		return NULL;
	kickers_done(&u->kickers);
	for (unsigned i = 0; i < u->n_queues; i++)
		queue_done(&u->queues[i]);
	free(u->queues);
	close(u->stop_fd);
	pthread_key_delete(u->self);
	pthread_cond_destroy(&u->cond);
	pthread_mutex_destroy(&u->lock);
	free(u);
	return NULL;
}

void uring_describe(const struct workspace *ws, struct buf *out)
{
	const struct uring *u = ws->uring;
	unsigned n = 0;

	if (!u || __atomic_load_n(&u->refused, __ATOMIC_RELAXED)) {
		buf_puts(out, "/dev/fuse");
		if (ws->options.uring != URING_OFF)
			buf_printf(out, " (no io_uring: %s)",
				u ? "the kernel refused the buffers" : ws->uring_refusal);
		return;
	}
	for (unsigned i = 0; i < u->n_queues; i++)
		n += __atomic_load_n(&u->queues[i].n_entries, __ATOMIC_RELAXED);
	buf_printf(out, "io_uring (%u queues, %u buffers)", u->n_queues, n);
}
