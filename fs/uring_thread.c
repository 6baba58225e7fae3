/* One thread with a ring: lends entries, runs libfuse on what comes. */
#include <poll.h>
#include <sched.h>
#include <string.h>

#include "base/log.h"
#include "fs/uring_internal.h"
#include "fs/wire.h"

static char tag_stop, tag_bell; /* addresses only */

/* ---- what is submitted ---- */

static struct io_uring_sqe *next_sqe(struct ring_thread *t)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&t->ring);

	if (!sqe) { /* as many as fit are prepared already */
		io_uring_submit(&t->ring);
		sqe = io_uring_get_sqe(&t->ring);
	}
	assert(sqe);
	return sqe;
}

void ring_lend(struct ring_thread *t, struct entry *e)
{
	struct io_uring_sqe *sqe = next_sqe(t);
	struct cmd_request cmd = {
		.commit_id = e->commit_id, .queue = (uint16_t)e->queue->id};

	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, 0, NULL, 0, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->cmd_op = CMD_COMMIT_AND_FETCH;
	if (!e->commit_id) {
		sqe->cmd_op = CMD_REGISTER;
		sqe->addr = (uintptr_t)e->iov;
		sqe->len = ARRAY_SIZE(e->iov);
	}
	memcpy((char *)sqe + offsetof(struct io_uring_sqe, cmd), &cmd, sizeof(cmd));
	io_uring_sqe_set_data(sqe, e);
	t->n_lent++;
}

static void listen_to(struct ring_thread *t, int fd, void *tag)
{
	struct io_uring_sqe *sqe = next_sqe(t);

	io_uring_prep_poll_add(sqe, fd, POLLIN);
	io_uring_sqe_set_data(sqe, tag);
}

/* ---- requests ---- */

/* Its answer finds the entry by t->current, as long as it comes in here. */
static void run_libfuse(struct ring_thread *t, void *request, size_t size)
{
	struct fuse_buf buf = {.mem = request, .size = size};

	wire_received(t->u->ws, request);
	fuse_session_process_buf(t->u->ws->session, &buf);
}

/* Where libfuse expects a request in one piece: before the payload there is room for the
 * parts that come apart. NULL: the kernel sent nonsense. */
static void *assemble(struct entry *e, size_t *size)
{
	const struct entry_header *header = e->iov[0].iov_base;
	struct fuse_in_header in;
	size_t fixed;
	char *request;

	memcpy(&in, header->in_out, sizeof(in));
	if (in.len < sizeof(in) + header->payload_size ||
		in.len - sizeof(in) - header->payload_size > OP_AREA ||
		header->payload_size > e->iov[1].iov_len)
		return NULL;
	fixed = in.len - sizeof(in) - header->payload_size;
	request = (char *)e->iov[1].iov_base - fixed - sizeof(in);
	memcpy(request, &in, sizeof(in));
	memcpy(request + sizeof(in), header->op_in, fixed);
	*size = in.len;
	return request;
}

static void answer_nonsense(struct ring_thread *t, struct entry *e)
{
	struct fuse_out_header out = {
		.len = sizeof(out), .error = -EIO, .unique = e->unique};
	struct iovec iov = {&out, sizeof(out)};

	(void)!uring_reply(t->u, &iov, 1);
}

/* True: it was answered by another thread meanwhile. Else whoever answers finds the entry
 * without a thread. */
static bool leave(struct entry *e)
{
	bool answered;

	pthread_mutex_lock(&e->queue->lock);
	answered = e->answered;
	e->answered = false;
	e->left = !answered;
	pthread_mutex_unlock(&e->queue->lock);
	return answered;
}

static bool was_interrupted(struct uring *u, const struct fuse_in_header *in)
{
	return (__atomic_load_n(&u->n_interrupts, __ATOMIC_SEQ_CST) &&
		       uring_was_interrupted(u, in->unique)) ||
	       uring_has_signal(u->ws, (pid_t)in->pid);
}

static void run(struct ring_thread *t, struct entry *e)
{
	const struct entry_header *header = e->iov[0].iov_base;
	struct fuse_in_header in;
	void *request;
	size_t size = 0;

	memcpy(&in, header->in_out, sizeof(in));
	e->commit_id = header->commit_id;
	__atomic_store_n(&e->unique, in.unique, __ATOMIC_SEQ_CST);
	count(t->u->ws, uring_requests);
	request = assemble(e, &size);
	t->answer = NOT_ANSWERED;
	t->reads = in.opcode == FUSE_READ;
	t->current = e;
	if (request)
		run_libfuse(t, request, size);
	else
		answer_nonsense(t, e);
	t->current = NULL;
	if (t->answer == NOT_ANSWERED && was_interrupted(t->u, &in))
		uring_interrupt(t->u, in.unique);
}

static void handle(struct ring_thread *t, struct entry *e)
{
	struct queue *q = e->queue;
	bool own = t->queue == q;
	int idle = own ? __atomic_sub_fetch(&q->n_idle, 1, __ATOMIC_RELAXED)
		       : __atomic_load_n(&q->n_idle, __ATOMIC_RELAXED);

	if (idle <= 0)
		queue_call_spare(q);
	run(t, e);
	if (t->answer == NOT_ANSWERED && !leave(e))
		return; /* it is parked, and may be answered by now */
	if (own)
		__atomic_fetch_add(&q->n_idle, 1, __ATOMIC_RELAXED);
	if (t->answer != ANSWERED_AND_LENT)
		ring_lend(t, e);
}

/* ---- the thread ---- */

/* The kernel gave an entry back without a request. */
static void lost(struct ring_thread *t, struct entry *e, int error)
{
	bool registering = e->commit_id == 0;

	if (t->queue == e->queue)
		__atomic_fetch_sub(&e->queue->n_idle, 1, __ATOMIC_RELAXED);
	if (error == ENOTCONN || error == ECONNABORTED || error == ECANCELED) {
		t->over = true; /* unmounted */
	} else if (registering) {
		if (!__atomic_exchange_n(&t->u->refused, true, __ATOMIC_RELAXED))
			log_warn("io_uring: the kernel refuses the buffers (%s); "
				 "requests come by /dev/fuse",
				strerror(error));
		t->over = true;
	} else {
		log_error("io_uring: an answer was not taken: %s", strerror(error));
	}
}

/* No other thread could be started: give back all that waits. */
static void answer_bell(struct ring_thread *t)
{
	struct entry *e;
	uint64_t rung;

	(void)!read(t->queue->bell_fd, &rung, sizeof(rung));
	listen_to(t, t->queue->bell_fd, &tag_bell);
	pthread_mutex_lock(&t->queue->lock);
	while ((e = queue_take(t->queue)))
		ring_lend(t, e);
	pthread_mutex_unlock(&t->queue->lock);
}

static void take_events(struct ring_thread *t)
{
	struct io_uring_cqe *cqe;

	while (!t->over && io_uring_peek_cqe(&t->ring, &cqe) == 0) {
		void *data = io_uring_cqe_get_data(cqe);
		int r = cqe->res;

		io_uring_cqe_seen(&t->ring, cqe);
		if (data == &tag_stop) {
			t->over = true;
		} else if (data == &tag_bell) {
			answer_bell(t);
		} else {
			t->n_lent--;
			if (io_uring_sq_ready(&t->ring)) /* an answer need not wait */
				io_uring_submit(&t->ring);
			if (r < 0)
				lost(t, data, -r);
			else
				handle(t, data);
		}
	}
}

static void lend_offline(struct ring_thread *t)
{
	for (unsigned i = 0; i < t->u->n_queues; i++) {
		struct queue *q = &t->u->queues[i];
		struct entry *e;

		pthread_mutex_lock(&q->lock);
		e = q->online ? NULL : queue_take(q);
		if (e) { /* this thread is not the queue's own */
			__atomic_fetch_sub(&q->n_idle, 1, __ATOMIC_RELAXED);
			ring_lend(t, e);
		}
		pthread_mutex_unlock(&q->lock);
	}
}

static void serve(struct ring_thread *t)
{
	struct queue *q = t->queue;
	bool started = !t->is_first, fresh; /* nothing waits for the very first */

	listen_to(t, t->u->stop_fd, &tag_stop);
	if (t->is_first)
		listen_to(t, q->bell_fd, &tag_bell);
	if (!q)
		lend_offline(t);
	while (!t->over && uring_phase(t->u) == RUNNING) {
		if (q && !t->n_lent) {
			struct entry *e = queue_wait(q, !t->is_first);

			if (!e)
				break;
			fresh = !e->commit_id && started;
			ring_lend(t, e);
			if (fresh) {
				io_uring_submit(&t->ring);
				uring_kick(q);
			}
		}
		started = true;
		(void)io_uring_submit_and_wait(&t->ring, 1);
		take_events(t);
	}
}

void ring_stay_on(unsigned cpu)
{
	cpu_set_t set;

	if (cpu >= CPU_SETSIZE)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	/* Where we may not run there, anywhere does as well. */
	(void)pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

static int open_ring(struct ring_thread *t)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
	};
	int r = io_uring_queue_init_params(RING_SIZE, &t->ring, &params);

	if (r < 0)
		return r;
	(void)io_uring_ring_dontfork(&t->ring); /* children have no business there */
	r = io_uring_register_files(&t->ring, &t->u->device_fd, 1);
	if (r < 0) {
		io_uring_queue_exit(&t->ring);
		return r;
	}
	(void)io_uring_register_ring_fd(&t->ring); /* saves a little */
	return 0;
}

/* True: go on. */
static bool report(struct uring *u, int r)
{
	bool go;

	pthread_mutex_lock(&u->lock);
	u->n_starting--;
	if (r < 0 && !u->failure)
		u->failure = -r;
	pthread_cond_broadcast(&u->cond);
	while (u->phase == PREPARING)
		pthread_cond_wait(&u->cond, &u->lock);
	go = r == 0 && u->phase == RUNNING;
	pthread_mutex_unlock(&u->lock);
	return go;
}

static void *ring_thread(void *arg)
{
	struct ring_thread *t = arg;
	struct uring *u = t->u;
	struct queue *q = t->queue;
	int r;

	pthread_setspecific(u->self, t);
	if (q)
		ring_stay_on(q->id);
	r = open_ring(t);
	if (report(u, r))
		serve(t);
	if (r == 0)
		io_uring_queue_exit(&t->ring);
	if (q) {
		pthread_mutex_lock(&q->lock);
		q->n_threads--;
		pthread_mutex_unlock(&q->lock);
	}
	pthread_mutex_lock(&u->lock);
	t->ended = true;
	pthread_mutex_unlock(&u->lock);
	return NULL;
}

/* uring.lock held */
static void join_ended(struct uring *u)
{
	struct ring_thread *t, *tmp;

	list_for_each_safe (t, tmp, &u->threads, node)
		if (t->ended) {
			list_remove(&t->node);
			pthread_join(t->id, NULL);
			free(t);
		}
}

int ring_thread_start(struct uring *u, struct queue *q, bool is_first)
{
	struct ring_thread *t = calloc(1, sizeof(*t));
	int r = 0;

	if (!t)
		return -ENOMEM;
	t->u = u;
	t->queue = q;
	t->is_first = is_first;
	pthread_mutex_lock(&u->lock);
	join_ended(u);
	if (u->phase == STOPPING || pthread_create(&t->id, NULL, ring_thread, t)) {
		free(t);
		r = -EAGAIN;
	} else {
		u->n_starting++;
		list_append(&u->threads, &t->node);
		if (q)
			q->n_threads++;
	}
	pthread_mutex_unlock(&u->lock);
	return r;
}
