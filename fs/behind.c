#include "fs/behind.h"

#include <pthread.h>
#include <string.h>

#include "fs/capture.h"
#include "fs/inode.h"
#include "fs/names.h"
#include "fs/notify.h"
#include "fs/session.h"
#include "fs/workspace.h"

enum {
	THREADS = 2,
	WAITING_MAX = 64,
};

enum stage { WAITS, RUNS, TAKEN_BACK };

struct behind {
	/* The file's lock: */
	enum stage stage;
	unsigned refs; /* the file's, the thread's, and those of who waits */
	pthread_cond_t ended;
	/* Set at begin: */
	struct workspace *ws;
	struct file *file;   /* counted */
	struct inode *inode; /* counted: it must not lose its file meanwhile */
	struct capture_plan plan;
	struct buf path;
	uint64_t seq; /* 0: what is there is not what it was given for */
	int64_t begun_ns, time_ns;
	/* The thread's, then that of who records it: */
	bool captured;
	struct capture content;
	struct list node; /* capturer.lock */
};

struct capturer {
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;
	struct list queue;
	unsigned n_waiting;
	bool stopping;
	pthread_t threads[THREADS]; /* nobody's after they were started */
	unsigned n_threads;
};

/* The file's lock is held. */
static void unref(struct behind *b)
{
	if (--b->refs > 0)
		return;
	capture_done(&b->content);
	capture_plan_done(&b->plan);
	buf_done(&b->path);
	pthread_cond_destroy(&b->ended);
	free(b);
}

/* Names are held by now, or path and seq are of one moment of the past (behind_stamp()).
 * The session ends, or goes on where its release is yet to come. If the journal fails, it
 * stays, and the next change of the file tries again. */
static void record(struct behind *b)
{
	struct file *f = b->file;

	f->behind = NULL;
	f->recording = b;
	(void)!session_checkpoint(b->ws, f, 0);
	f->recording = NULL;
	if (b->seq && f->head.content.seq == b->seq)
		f->head.content.made_ns = b->begun_ns;
	gate_maybe_end_lease(b->ws, f);
	pthread_cond_broadcast(&b->ended);
	unref(b); /* the file's */
}

/* ---- the thread ---- */

/* What was captured is what was there at begin, and nobody has touched it since. */
static void capture_now(struct behind *b)
{
	struct stat st;

	if (capture_run(b->ws, &b->plan, &b->content) < 0)
		return;
	b->captured = fstat(b->plan.fd, &st) == 0 && capture_same_file(&st, &b->plan.st);
	if (b->captured)
		return;
	capture_done(&b->content);
	b->seq = 0;
}

static void run(struct behind *b)
{
	struct workspace *ws = b->ws;
	struct inode *inode = b->inode;
	struct file *f = b->file;
	auto_names *names = NULL;

	pthread_mutex_lock(&f->lock);
	if (b->stage == WAITS) {
		b->stage = RUNS;
		pthread_mutex_unlock(&f->lock);
		capture_now(b);
		names = names_hold(&ws->names);
		pthread_mutex_lock(&f->lock);
		assert(f->behind == b && f->session.by); /* who changes it waits */
		record(b);
	}
	unref(b);
	pthread_mutex_unlock(&f->lock);
	file_put(ws, f);
	inode_put(ws, inode);
	__atomic_fetch_sub(&ws->counters.captures_under_way, 1, __ATOMIC_RELAXED);
}

static void *capture_thread(void *arg)
{
	struct capturer *c = arg;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		struct behind *b;

		while (list_empty(&c->queue) && !c->stopping)
			pthread_cond_wait(&c->wake, &c->lock);
		if (list_empty(&c->queue))
			break;
		b = list_first(&c->queue, struct behind, node);
		list_remove(&b->node);
		c->n_waiting--;
		pthread_mutex_unlock(&c->lock);
		run(b);
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

int capturer_new(struct capturer **out)
{
	struct capturer *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wake, NULL);
	list_init(&c->queue);
	while (c->n_threads < THREADS &&
		pthread_create(&c->threads[c->n_threads], NULL, capture_thread, c) == 0)
		c->n_threads++;
	*out = c;
	if (c->n_threads > 0)
		return 0;
	*out = capturer_free(c);
	return -EAGAIN;
}

struct capturer *capturer_free(struct capturer *c)
{
	if (!c)
		return NULL;
	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	pthread_cond_broadcast(&c->wake);
	pthread_mutex_unlock(&c->lock);
	for (unsigned i = 0; i < c->n_threads; i++)
		pthread_join(c->threads[i], NULL);
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock);
	free(c);
	return NULL;
}

/* ---- begin ---- */

static bool enqueue(struct capturer *c, struct behind *b)
{
	bool room;

	pthread_mutex_lock(&c->lock);
	room = c->n_waiting < WAITING_MAX && !c->stopping;
	if (room) {
		list_append(&c->queue, &b->node);
		c->n_waiting++;
		pthread_cond_signal(&c->wake);
	}
	pthread_mutex_unlock(&c->lock);
	return room;
}

static int prepare(struct workspace *ws, struct file *f, struct behind *b)
{
	bool raised = false;
	int r = inode_path(f->inode, &b->path);

	if (r == 0)
		r = file_load_head(ws, f, b->path.data, b->path.len);
	if (r == 0)
		r = capture_prepare(ws, f, true, &b->plan, &raised);
	if (r == 0)
		r = journal_next_seq(ws->journal, &b->seq);
	if (raised)
		notify_attr(ws, f->inode);
	return r;
}

/* Only what was closed whole: its intent says so, and recovery takes it for that. */
static bool is_complete(const struct file *f)
{
	return f->session.by && f->session.dirty && f->session.closed && !f->pending &&
	       f->inode && S_ISREG(f->inode->type);
}

bool behind_begin(struct workspace *ws, struct file *f)
{
	struct behind *b;

	if (f->behind)
		return true;
	if (!is_complete(f) || !capture_is_large(ws, f))
		return false;
	b = calloc(1, sizeof(*b));
	if (!b)
		return false;
	*b = (struct behind){.ws = ws,
		.begun_ns = workspace_now(ws),
		.time_ns = clock_wall_ns(ws->clock),
		.file = f,
		.inode = f->inode,
		.refs = 1,
		.plan = {.fd = -1},
		.content = CAPTURE_NONE};
	clock_cond_init(&b->ended);
	list_init(&b->node);
	if (prepare(ws, f, b) < 0) {
		unref(b);
		return false;
	}
	b->refs = 2;
	file_ref(f);
	inode_ref(f->inode);
	f->behind = b;
	count(ws, captures_under_way);
	if (enqueue(ws->capturer, b)) {
		count(ws, captures_behind);
		return true;
	}
	__atomic_fetch_sub(&ws->counters.captures_under_way, 1, __ATOMIC_RELAXED);
	f->behind = NULL;
	file_put(ws, f);	 /* not the last: the caller holds one, */
	inode_put(ws, b->inode); /* and a handle or the file's name the other */
	b->refs = 1;
	unref(b);
	return false;
}

void behind_settle(struct workspace *ws, struct file *f)
{
	struct behind *b = f->behind;

	count(ws, captures_waited_for);
	if (b->stage == WAITS) { /* the thread will find that there is nothing to do */
		b->stage = TAKEN_BACK;
		record(b);
		return;
	}
	b->refs++;
	while (f->behind == b)
		pthread_cond_wait(&b->ended, &f->lock);
	unref(b);
}

void behind_await(struct file *f, const struct timespec *until)
{
	struct behind *b = f->behind;

	b->refs++;
	while (f->behind == b &&
		pthread_cond_timedwait(&b->ended, &f->lock, until) != ETIMEDOUT)
		;
	unref(b);
}

/* ---- for who records it ---- */

uint64_t behind_seq(const struct file *f)
{
	return f->behind->seq;
}

bool behind_take(struct file *f, struct stat *st, struct capture *out)
{
	struct behind *b = f->recording;

	if (!b || !b->captured)
		return false;
	*st = b->plan.st;
	*out = b->content;
	b->content = CAPTURE_NONE;
	b->captured = false;
	return true;
}

void behind_stamp(const struct file *f, struct version *v, const char *path, size_t len)
{
	const struct behind *b = f->recording;

	/* Where a folder above was renamed meanwhile, something else had that path then. */
	if (!b || !b->seq || b->path.len != len || memcmp(b->path.data, path, len) != 0)
		return;
	v->seq = b->seq;
	v->time_ns = b->time_ns;
}
