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

		pthread_mutex_lock(&f->lock);
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

static void *keep_house(void *arg)
{
	struct workspace *ws = arg;

	for (;;) {
		int64_t next = take_checkpoints(ws), now = workspace_now(ws);
		struct timespec until = {0};

		/* Intents whose versions are written go even if nobody comes by: after a
		 * crash what they speak of must be told from later changes. */
		retire_written(ws);
		if ((next != INT64_MAX || !retire_is_idle(ws)) && next > now + NS_PER_S)
			next = now + NS_PER_S;

		clock_gettime(CLOCK_MONOTONIC, &until);
		if (next != INT64_MAX) {
			int64_t wait = next - workspace_now(ws);

			wait = wait < NS_PER_MS ? NS_PER_MS : wait;
			wait += until.tv_sec * NS_PER_S + until.tv_nsec;
			until.tv_sec = wait / NS_PER_S;
			until.tv_nsec = wait % NS_PER_S;
		}
		pthread_mutex_lock(&ws->sessions_lock);
		if (!ws->housekeeper->stopping) {
			/* A new session is due no earlier than its checkpoint interval; it
			 * wakes us only to be looked at. */
			if (next == INT64_MAX)
				pthread_cond_wait(&ws->sessions_cond, &ws->sessions_lock);
			else
				pthread_cond_timedwait(
					&ws->sessions_cond, &ws->sessions_lock, &until);
		}
		if (ws->housekeeper->stopping) {
			pthread_mutex_unlock(&ws->sessions_lock);
			return NULL;
		}
		pthread_mutex_unlock(&ws->sessions_lock);
	}
}

int housekeeper_new(struct workspace *ws, struct housekeeper **out)
{
	struct housekeeper *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	*out = h;
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
		pthread_mutex_lock(&files[i]->lock);
		(void)!session_finish(ws, files[i], VERSION_INCOMPLETE);
		pthread_mutex_unlock(&files[i]->lock);
		file_put(ws, files[i]);
	}
	free(files);
}
