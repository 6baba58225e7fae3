#include "fs/notify.h"

#include <string.h>

enum what { SAY_ATTR, SAY_CONTENT, SAY_ENTRY, RUN };

struct note {
	struct list node;
	enum what what;
	fuse_ino_t id;
	void (*fn)(void *ctx);
	void *ctx;
	char name[];
};

struct notifier {
	struct workspace *ws;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct list
		notes; /* one per change that the daemon makes behind the kernel's back */
	bool stopping;
	pthread_t thread;
};

static void say(struct workspace *ws, const struct note *note)
{
	struct fuse_session *se = ws->session;

	switch (note->what) {
	case SAY_ATTR:
		fuse_lowlevel_notify_inval_inode(se, note->id, -1, 0);
		break;
	case SAY_CONTENT:
		fuse_lowlevel_notify_inval_inode(se, note->id, 0, 0);
		break;
	case SAY_ENTRY:
		fuse_lowlevel_notify_inval_entry(
			se, note->id, note->name, strlen(note->name));
		break;
	case RUN:
		note->fn(note->ctx);
		return;
	}
	count(ws, invalidations);
}

static void *notifier_loop(void *arg)
{
	struct notifier *n = arg;

	pthread_mutex_lock(&n->lock);
	for (;;) {
		struct note *note;

		while (list_empty(&n->notes) && !n->stopping)
			pthread_cond_wait(&n->cond, &n->lock);
		if (list_empty(&n->notes))
			break;
		note = list_first(&n->notes, struct note, node);
		list_remove(&note->node);
		pthread_mutex_unlock(&n->lock);
		say(n->ws, note);
		free(note);
		pthread_mutex_lock(&n->lock);
	}
	pthread_mutex_unlock(&n->lock);
	return NULL;
}

int notifier_new(struct workspace *ws, struct notifier **out)
{
	struct notifier *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->ws = ws;
	pthread_mutex_init(&n->lock, NULL);
	pthread_cond_init(&n->cond, NULL);
	list_init(&n->notes);
	if (pthread_create(&n->thread, NULL, notifier_loop, n)) {
		free(n);
		return -EAGAIN;
	}
	*out = n;
	return 0;
}

struct notifier *notifier_free(struct notifier *n)
{
	if (!n)
		return NULL;
	pthread_mutex_lock(&n->lock);
	n->stopping = true;
	pthread_cond_signal(&n->cond);
	pthread_mutex_unlock(&n->lock);
	pthread_join(n->thread, NULL);
	pthread_cond_destroy(&n->cond);
	pthread_mutex_destroy(&n->lock);
	free(n);
	return NULL;
}

/* Without memory the note is lost and the kernel learns it when its cache times out. */
static bool enqueue(struct workspace *ws, const struct note *what, const char *name)
{
	size_t size = name ? strlen(name) + 1 : 0;
	struct note *note = malloc(sizeof(*note) + size);

	if (!note)
		return false;
	*note = *what;
	if (name)
		memcpy(note->name, name, size);
	pthread_mutex_lock(&ws->notifier->lock);
	list_append(&ws->notifier->notes, &note->node);
	pthread_cond_signal(&ws->notifier->cond);
	pthread_mutex_unlock(&ws->notifier->lock);
	return true;
}

void notify_attr(struct workspace *ws, const struct inode *inode)
{
	struct note note = {.what = SAY_ATTR, .id = inode_id(ws, inode)};

	(void)enqueue(ws, &note, NULL);
}

void notify_attr_now(struct workspace *ws, const struct inode *inode)
{
	/* -1: no pages */
	(void)fuse_lowlevel_notify_inval_inode(ws->session, inode_id(ws, inode), -1, 0);
}

void notify_content(struct workspace *ws, const struct inode *inode)
{
	struct note note = {.what = SAY_CONTENT, .id = inode_id(ws, inode)};

	(void)enqueue(ws, &note, NULL);
}

void notify_entry(struct workspace *ws, const struct inode *parent, const char *name)
{
	struct note note = {.what = SAY_ENTRY, .id = inode_id(ws, parent)};

	(void)enqueue(ws, &note, name);
}

void notify_then(struct workspace *ws, void (*fn)(void *ctx), void *ctx)
{
	struct note note = {.what = RUN, .fn = fn, .ctx = ctx};

	if (!enqueue(ws, &note, NULL))
		fn(ctx);
}

struct flush {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void flush_done(void *ctx)
{
	struct flush *f = ctx;

	pthread_mutex_lock(&f->lock);
	f->done = true;
	pthread_cond_signal(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

void notify_flush_pages(struct workspace *ws, const struct inode *inode)
{
	struct flush f = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};

	notify_content(ws, inode);
	notify_then(ws, flush_done, &f);
	pthread_mutex_lock(&f.lock);
	while (!f.done)
		pthread_cond_wait(&f.cond, &f.lock);
	pthread_mutex_unlock(&f.lock);
}

void notify_successor(struct workspace *ws, struct inode *inode)
{
	struct inode *current = inode_current(inode);

	if (current != inode)
		notify_flush_pages(ws, current);
}
