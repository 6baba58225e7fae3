#include "fs/housekeeper.h"

#include <time.h>

#include "fs/file.h"
#include "fs/retire.h"
#include "fs/session.h"

struct housekeeper {
	pthread_t thread;
	bool stopping; /* sessions_lock */
};

struct file **sessions_snapshot(struct workspace *ws, size_t *n)
{
	struct file **files = NULL, *f;
	size_t room = 0;

	*n = 0;
	pthread_mutex_lock(&ws->sessions_lock);
	list_for_each (f, &ws->sessions, session.node)
		room++;
	if (room)
		files = calloc(room, sizeof(struct file *));
	if (files)
		list_for_each (f, &ws->sessions, session.node) {
			file_ref(f);
			files[(*n)++] = f;
		}
	pthread_mutex_unlock(&ws->sessions_lock);
	return files;
}

/* Take the checkpoints that are due; returns when the next one is. */
static int64_t take_checkpoints(struct workspace *ws)
{
	int64_t next = INT64_MAX;
	struct file **files;
	size_t n;

	files = sessions_snapshot(ws, &n);
	for (size_t i = 0; i < n; i++) {
		struct file *f = files[i];
		auto_names *names = names_hold(&ws->names);

		pthread_mutex_lock(&f->lock);
		if (f->behind) /* that is one */
			f->session.checkpoint_ns = workspace_now(ws) + NS_PER_S;
		if (f->session.by && workspace_now(ws) >= f->session.checkpoint_ns &&
			session_checkpoint(ws, f, VERSION_CHECKPOINT) < 0)
			f->session.checkpoint_ns = workspace_now(ws) + NS_PER_S;
		if (f->session.by && f->session.checkpoint_ns < next)
			next = f->session.checkpoint_ns;
		pthread_mutex_unlock(&f->lock);
		file_put(ws, f);
	}
	free(files);
	return next;
}

/* Sleep until the housekeeper is wanted at until_ns, or earlier; sessions_lock is held. */
static void sleep_until(struct workspace *ws, int64_t until_ns)
{
	struct timespec until;
	int64_t ns;

	if (until_ns == INT64_MAX) {
		pthread_cond_wait(&ws->sessions_cond, &ws->sessions_lock);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	ns = until_ns - workspace_now(ws);
	ns = ns < NS_PER_MS ? NS_PER_MS : ns;
	ns += until.tv_sec * NS_PER_S + until.tv_nsec;
	until.tv_sec = ns / NS_PER_S;
	until.tv_nsec = ns % NS_PER_S;
	pthread_cond_timedwait(&ws->sessions_cond, &ws->sessions_lock, &until);
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/*
 * Sessions come and go by the thousand and few live to their checkpoint: who opens one
 * wakes the housekeeper only when that is due before he would look anyway. What opens while
 * he looks sees sessions_look_ns at "never", so that he looks again.
 */
static void *keep_house(void *arg)
{
	struct workspace *ws = arg;

	pthread_mutex_lock(&ws->sessions_lock);
	while (!ws->housekeeper->stopping) {
		int64_t next;

		ws->sessions_look_ns = INT64_MAX;
		pthread_mutex_unlock(&ws->sessions_lock);
		next = take_checkpoints(ws);
		/* Intents whose versions are written go even if nobody comes by: after a
		 * crash what they speak of must be told from later changes. */
		retire_written(ws);
		if (next != INT64_MAX || !retire_is_idle(ws))
			next = earlier(next, workspace_now(ws) + NS_PER_S);
		pthread_mutex_lock(&ws->sessions_lock);
		ws->sessions_look_ns = earlier(next, ws->sessions_look_ns);
		if (!ws->housekeeper->stopping)
			sleep_until(ws, ws->sessions_look_ns);
	}
	pthread_mutex_unlock(&ws->sessions_lock);
	return NULL;
}

int housekeeper_new(struct workspace *ws, struct housekeeper **out)
{
	struct housekeeper *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	*out = h;
	ws->sessions_look_ns = INT64_MAX;
	if (pthread_create(&h->thread, NULL, keep_house, ws)) {
		*out = NULL;
		free(h);
		return -EAGAIN;
	}
	return 0;
}

struct housekeeper *housekeeper_free(struct workspace *ws, struct housekeeper *h)
{
	if (!h)
		return NULL;
	pthread_mutex_lock(&ws->sessions_lock);
	h->stopping = true;
	pthread_cond_signal(&ws->sessions_cond);
	pthread_mutex_unlock(&ws->sessions_lock);
	pthread_join(h->thread, NULL);
	free(h);
	return NULL;
}

void sessions_finish_all(struct workspace *ws)
{
	struct file **files;
	size_t n;

	files = sessions_snapshot(ws, &n);
	for (size_t i = 0; i < n; i++) {
		auto_names *names = names_hold(&ws->names);

		pthread_mutex_lock(&files[i]->lock);
		(void)!session_finish(ws, files[i], VERSION_INCOMPLETE);
		pthread_mutex_unlock(&files[i]->lock);
		file_put(ws, files[i]);
	}
	free(files);
}
