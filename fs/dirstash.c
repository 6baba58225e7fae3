#include "fs/dirstash.h"

#include <stdlib.h>

enum { MAX_STREAMS = 64 };

struct stashed {
	struct list node;
	fuse_ino_t folder;
	off_t at;
	void *stream;
	dir_stream_free *fn;
};

void dir_stash_init(struct dir_stash *s)
{
	pthread_mutex_init(&s->lock, NULL);
	list_init(&s->streams);
	s->count = 0;
}

static struct stashed *unlink_entry(struct dir_stash *s, struct stashed *e)
{
	list_remove(&e->node);
	__atomic_fetch_sub(&s->count, 1, __ATOMIC_RELAXED);
	return e;
}

static void entry_free(struct stashed *e)
{
	if (!e)
		return;
	e->fn(e->stream);
	free(e);
}

void dir_stash_done(struct dir_stash *s)
{
	while (!list_empty(&s->streams))
		entry_free(unlink_entry(s, list_first(&s->streams, struct stashed, node)));
	pthread_mutex_destroy(&s->lock);
}

void *dir_stash_take(struct dir_stash *s, fuse_ino_t folder, off_t at)
{
	struct stashed *e, *tmp;
	void *stream = NULL;

	pthread_mutex_lock(&s->lock);
	list_for_each_safe (e, tmp, &s->streams, node)
		if (e->folder == folder && e->at == at) {
			stream = unlink_entry(s, e)->stream;
			free(e);
			break;
		}
	pthread_mutex_unlock(&s->lock);
	return stream;
}

void dir_stash_put(
	struct dir_stash *s, fuse_ino_t folder, off_t at, void *stream, dir_stream_free *fn)
{
	struct stashed *e = malloc(sizeof(*e)), *oldest = NULL;

	if (!e) {
		fn(stream);
		return;
	}
	*e = (struct stashed){.folder = folder, .at = at, .stream = stream, .fn = fn};
	list_init(&e->node);
	pthread_mutex_lock(&s->lock);
	if (s->count >= MAX_STREAMS)
		oldest = unlink_entry(s, list_first(&s->streams, struct stashed, node));
	list_append(&s->streams, &e->node);
	__atomic_fetch_add(&s->count, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&s->lock);
	entry_free(oldest);
}

void dir_stash_forget(struct dir_stash *s, fuse_ino_t folder)
{
	struct stashed *e, *tmp;
	struct list gone;

	if (__atomic_load_n(&s->count, __ATOMIC_RELAXED) == 0)
		return;
	list_init(&gone);
	pthread_mutex_lock(&s->lock);
	list_for_each_safe (e, tmp, &s->streams, node)
		if (e->folder == folder)
			list_append(&gone, &unlink_entry(s, e)->node);
	pthread_mutex_unlock(&s->lock);
	list_for_each_safe (e, tmp, &gone, node)
		entry_free(e);
}
