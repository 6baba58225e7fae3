/*
 * The park: requests that wait for a lease, without a thread of their own.
 *
 *   running --park_wait--> parked --(lease free | lapse | deadline | interrupt)--> queued
 *   queued --runner--> running (again from the start) | answered EINTR
 *
 * One watcher thread sleeps until the nearest deadline, a holder's death, or a wake-up;
 * a few runners run what became ready, so that a blocking act stops nobody's timer.
 * A parked request is owned by the park; park.lock guards the lists. Lock order:
 * file.lock before park.lock.
 */
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "fs/file.h"
#include "fs/handle.h"
#include "fs/op.h"

enum { RUNNERS = 4, MAX_WATCHED = 64 };

struct park {
	struct workspace *ws;
	pthread_mutex_t lock;
	pthread_cond_t ready_cond;
	struct list parked; /* waiter.parked, in order of arrival */
	struct list ready;  /* waiter.parked: to be run */
	uint64_t n_parked;  /* also read without the lock */
	int wake_fd;
	bool stopping;
	pthread_t watcher, runners[RUNNERS];
	unsigned n_runners;
};

static struct op *op_of(struct waiter *w)
{
	return container_of(w, struct op, wait);
}

static void poke(struct park *p)
{
	uint64_t one = 1;

	(void)!write(p->wake_fd, &one, sizeof(one));
}

/* park.lock held */
static void make_ready(struct park *p, struct waiter *w)
{
	list_remove(&w->parked);
	list_append(&p->ready, &w->parked);
	__atomic_fetch_sub(&p->n_parked, 1, __ATOMIC_RELAXED);
	pthread_cond_signal(&p->ready_cond);
}

static bool is_parked(const struct park *p, const struct waiter *w)
{
	const struct waiter *other;

	list_for_each (other, &p->parked, parked)
		if (other == w)
			return true;
	return false;
}

/* libfuse calls this with its own lock held: only leave a mark and poke the watcher. */
static void on_interrupt(fuse_req_t req, void *data)
{
	struct op *op = data;

	(void)req;
	__atomic_store_n(&op->wait.interrupted, true, __ATOMIC_RELEASE);
	poke(op->ws->park);
}

/* Does from wait, directly or through others, for to? park.lock held. */
static bool waits_for(
	const struct park *p, const struct writer *from, const struct writer *to, int depth)
{
	const struct waiter *w;

	if (from == to)
		return true;
	if (depth == 0)
		return false;
	list_for_each (w, &p->parked, parked)
		if (w->writer == from && waits_for(p, w->holder, to, depth - 1))
			return true;
	return false;
}

int park_wait(struct op *op, struct file *file, struct writer *by, struct writer *holder,
	int64_t deadline_ns, int64_t lapses_ns)
{
	enum { MAX_CYCLE = 8 };
	struct park *p = op->ws->park;
	struct op *own = op->on_heap ? op : op_copy(op);
	struct waiter *w;
	uid_t uid;

	if (!own)
		return -ENOMEM;
	w = &own->wait;
	uid = fuse_req_ctx(own->req)->uid;
	if (!w->file && !w->shielded &&
		!shares_has_room(&own->ws->shares, SHARE_WAITS, uid)) {
		if (own != op)
			op_free_copies(own);
		return -EUSERS;
	}
	/* Before anybody can run and answer it. An interrupt that comes at once leaves its
	 * mark, and the last poke below makes the watcher look. */
	if (own != op && !own->wait.shielded)
		fuse_req_interrupt_func(own->req, on_interrupt, own);
	pthread_mutex_lock(&p->lock);
	if (p->stopping || waits_for(p, holder, by, MAX_CYCLE)) {
		pthread_mutex_unlock(&p->lock);
		if (own != op) {
			fuse_req_interrupt_func(own->req, NULL, NULL);
			op_free_copies(own);
		}
		return -EDEADLK;
	}
	w->writer = by;
	w->holder = holder;
	w->deadline_ns = deadline_ns;
	w->lapses_ns = lapses_ns;
	if (w->file && w->file != file)
		park_leave_queue(own); /* a rename has come to wait for its other end */
	if (!w->file) {
		file_ref(file);
		w->file = file;
		w->uid = uid;
		shares_add(&own->ws->shares, SHARE_WAITS, uid);
		if (!w->began_ns)
			w->began_ns = workspace_now(own->ws);
		list_append(&file->waiters, &w->node);
		count(own->ws, waits);
	}
	list_append(&p->parked, &w->parked);
	__atomic_fetch_add(&p->n_parked, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&p->lock);
	poke(p);
	return 0;
}

void park_leave_queue(struct op *op)
{
	struct waiter *w = &op->wait;
	struct file *f = w->file;

	if (!f)
		return;
	list_remove(&w->node);
	w->file = NULL;
	shares_sub(&op->ws->shares, SHARE_WAITS, w->uid);
	file_put(op->ws, f); /* not the last one: the caller has it locked */
}

bool park_must_queue(const struct file *file, const struct op *op)
{
	if (list_empty(&file->waiters))
		return false;
	return !op || list_first(&file->waiters, struct waiter, node) != &op->wait;
}

void park_wake(struct workspace *ws, struct file *file)
{
	struct park *p = ws->park;
	struct waiter *w;

	if (list_empty(&file->waiters))
		return;
	w = list_first(&file->waiters, struct waiter, node);
	pthread_mutex_lock(&p->lock);
	if (is_parked(p, w))
		make_ready(p, w);
	pthread_mutex_unlock(&p->lock);
}

void park_new_holder(struct workspace *ws, struct file *file, struct writer *holder)
{
	enum { MAX_CYCLE = 8 };
	struct park *p = ws->park;
	struct waiter *w, *tmp;

	if (list_empty(&file->waiters))
		return;
	pthread_mutex_lock(&p->lock);
	list_for_each_safe (w, tmp, &p->parked, parked) {
		if (w->file != file || w->writer == holder)
			continue;
		w->holder = holder;
		w->deadlocked = waits_for(p, holder, w->writer, MAX_CYCLE);
		if (w->deadlocked)
			make_ready(p, w);
	}
	pthread_mutex_unlock(&p->lock);
}

/* ---- runners ---- */

/* Its signal ended the wait (L3). */
static void answer_interrupted(struct op *op)
{
	struct file *f = op->wait.file;
	struct workspace *ws = op->ws;

	file_ref(f);
	pthread_mutex_lock(&f->lock);
	park_leave_queue(op);
	if (!f->lease.holder || workspace_now(ws) >= f->lease.expires_ns)
		park_wake(ws, f); /* it may have been the turn of this one */
	pthread_mutex_unlock(&f->lock);
	file_put(ws, f);
	op_reply_err(op, EINTR);
}

static void run_ready(struct op *op)
{
	struct waiter *w = &op->wait;

	if (__atomic_load_n(&w->interrupted, __ATOMIC_ACQUIRE) || op->ws->park->stopping)
		answer_interrupted(op);
	else
		op->run(op);
}

static void *runner(void *arg)
{
	struct park *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct waiter *w;

		while (list_empty(&p->ready) && !p->stopping)
			pthread_cond_wait(&p->ready_cond, &p->lock);
		if (list_empty(&p->ready))
			break;
		w = list_first(&p->ready, struct waiter, parked);
		list_remove(&w->parked);
		pthread_mutex_unlock(&p->lock);
		run_ready(op_of(w));
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* ---- watcher ---- */

/* Everything whose time has come; returns when to look again. park.lock held. */
static int64_t make_due_ready(struct park *p, int64_t now)
{
	int64_t next = INT64_MAX;
	struct waiter *w, *tmp;

	list_for_each_safe (w, tmp, &p->parked, parked) {
		int64_t due = w->deadline_ns < w->lapses_ns ? w->deadline_ns : w->lapses_ns;

		if (now >= w->deadline_ns)
			op_of(w)->timed_out = true;
		if (now >= due || p->stopping ||
			__atomic_load_n(&w->interrupted, __ATOMIC_ACQUIRE))
			make_ready(p, w);
		else if (due < next)
			next = due;
	}
	return next;
}

/* Pidfds of the processes that keep the awaited files open: their death is an event, not
 * something to poll for (L2). */
static unsigned watch_holders(struct park *p, struct pollfd *fds)
{
	struct file *files[MAX_WATCHED];
	struct waiter *w;
	unsigned n_files = 0, n = 0;

	pthread_mutex_lock(&p->lock);
	list_for_each (w, &p->parked, parked) {
		if (n_files == MAX_WATCHED)
			break;
		file_ref(w->file);
		files[n_files++] = w->file;
	}
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < n_files; i++) {
		struct file *f = files[i];
		struct handle *h;

		pthread_mutex_lock(&f->lock);
		list_for_each (h, &f->handles, node) {
			int fd;

			if (n == MAX_WATCHED || !h->writable ||
				h->by->writer != f->lease.holder ||
				!process_alive(p->ws->identity, h->by))
				continue;
			fd = process_pidfd(p->ws->identity, h->by);
			if (fd >= 0)
				fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
		}
		pthread_mutex_unlock(&f->lock);
		file_put(p->ws, f);
	}
	return n;
}

void park_recheck(struct park *p)
{
	struct waiter *w, *tmp;

	pthread_mutex_lock(&p->lock);
	list_for_each_safe (w, tmp, &p->parked, parked)
		make_ready(p, w);
	pthread_mutex_unlock(&p->lock);
}

static void *watcher(void *arg)
{
	struct park *p = arg;

	for (;;) {
		struct pollfd fds[MAX_WATCHED + 1];
		int64_t now = workspace_now(p->ws), next;
		bool stopping, died = false;
		uint64_t drained;
		unsigned n;
		int timeout_ms;

		pthread_mutex_lock(&p->lock);
		next = make_due_ready(p, now);
		stopping = p->stopping;
		pthread_mutex_unlock(&p->lock);
		if (stopping)
			return NULL;
		n = next == INT64_MAX ? 0 : watch_holders(p, fds);
		fds[n] = (struct pollfd){.fd = p->wake_fd, .events = POLLIN};
		timeout_ms = next == INT64_MAX ? -1 : (int)((next - now) / NS_PER_MS + 1);
		poll(fds, n + 1, timeout_ms);
		for (unsigned i = 0; i < n; i++) {
			died |= fds[i].revents != 0;
			close(fds[i].fd);
		}
		if (fds[n].revents)
			(void)!read(p->wake_fd, &drained, sizeof(drained));
		if (died)
			park_recheck(p); /* a process that held a lease is gone */
	}
}

int park_new(struct workspace *ws, struct park **out)
{
	struct park *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->ws = ws;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->ready_cond, NULL);
	list_init(&p->parked);
	list_init(&p->ready);
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->wake_fd < 0 || pthread_create(&p->watcher, NULL, watcher, p)) {
		if (p->wake_fd >= 0)
			close(p->wake_fd);
		free(p);
		return -EAGAIN;
	}
	for (; p->n_runners < RUNNERS; p->n_runners++)
		if (pthread_create(&p->runners[p->n_runners], NULL, runner, p))
			break;
	*out = p;
	return 0;
}

struct park *park_free(struct park *p)
{
	if (!p)
		return NULL;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_mutex_unlock(&p->lock);
	poke(p);
	pthread_join(p->watcher, NULL);
	pthread_mutex_lock(&p->lock);
	pthread_cond_broadcast(&p->ready_cond);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->n_runners; i++)
		pthread_join(p->runners[i], NULL);
	close(p->wake_fd);
	pthread_cond_destroy(&p->ready_cond);
	pthread_mutex_destroy(&p->lock);
	free(p);
	return NULL;
}

void park_each(struct park *p, park_fn *fn, void *ctx)
{
	struct waiter *w;

	pthread_mutex_lock(&p->lock);
	list_for_each (w, &p->parked, parked)
		fn(w, ctx);
	pthread_mutex_unlock(&p->lock);
}

uint64_t park_count(struct park *p)
{
	return __atomic_load_n(&p->n_parked, __ATOMIC_RELAXED);
}
