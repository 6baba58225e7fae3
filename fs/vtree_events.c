#include "fs/vtree_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/*
 * events/: everything as it is recorded, a line each, as a stream that waits for more.
 *
 *   events/new     from now on
 *   events/N       what has a seq above N, then on
 *   events/V-E-M   from behind the line that bore this cursor
 *
 * A reader has a place in the journal and at most one batch of text; it takes more once
 * that was read. So one that is slow, or stands still, costs nobody anything and misses
 * nothing. A read that finds nothing new waits as a bare request; one thread for all of
 * them looks again when the journal has committed, or when a reader was interrupted.
 *
 * Lock order: vhandle.lock before feeds.lock. Nobody is answered with feeds.lock held.
 */

enum {
	FEEDS_MAX = 256,
	FEED_BATCH_ROWS = 256,
	FEED_BATCH_BYTES = 64 * 1024, /* a batch ends with the row that exceeds it */
};

struct feed {
	struct feed_place at; /* behind the last row in text */
	uint64_t after_seq;   /* earlier ones are not wanted */
	bool json;
	struct buf text;
	size_t taken; /* of text */
};

/* A request that waits. */
struct feed_wait {
	struct list link; /* feeds.waits; feeds.lock */
	fuse_req_t req;
	struct vhandle *h; /* open as long as the request is not answered */
	struct feeds *feeds;
	size_t size;
	bool interrupted; /* atomic */
};

struct feeds {
	struct workspace *ws;
	unsigned n; /* atomic */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct list waits;
	uint64_t commits; /* lock */
	bool look;	  /* there is reason to look at those who wait; lock */
	bool looking;	  /* the thread is at it, waits is not all of them; lock */
	bool stopping;	  /* lock */
	bool runs;
	pthread_t thread;
};

/* ---- lines ---- */

static void put_cursor(struct buf *b, const struct feed_place *at)
{
	buf_printf(b, "%" PRIu64 "-%" PRIu64 "-%" PRIu64, at->version, at->event, at->move);
}

static void json_end(struct buf *b, const char *what, const struct feed_place *at)
{
	json_string(b, "what", what);
	json_key(b, "cursor");
	buf_putc(b, '"');
	put_cursor(b, at);
	buf_puts(b, "\"}\n");
}

static void json_row(struct buf *b, const struct feed_row *row, const struct feed_place *at)
{
	const struct event *e = row->event;
	const struct feed_move *m = row->move;

	if (row->version) {
		json_version(b, row->version);
		json_end(b, "version", at);
		return;
	}
	buf_putc(b, '{');
	json_number(b, "seq", row->seq);
	json_time(b, "time", e ? e->time_ns : m->time_ns);
	if (e) {
		json_string(b, "kind", e->kind);
		json_path(b, "path", "word", e->path, e->path_len);
		json_string(b, "writer", e->writer);
		json_number(b, "epoch", e->epoch);
		json_number(b, "number", e->number);
		/* The rest may quote a file that the reader may not read. */
		json_bytes(b, "text", e->text, e->text ? strcspn(e->text, "\n") : 0);
	} else {
		json_string(b, "kind", "rename");
		json_path(b, "path", "word", m->to, m->to_len);
		json_path(b, "from_path", "from_word", m->from, m->from_len);
		json_string(b, "writer", m->writer);
		json_number(b, "set", m->set_id);
	}
	json_end(b, e ? "event" : "folder", at);
}

static void put_name_or_dash(struct buf *b, const char *name, size_t len)
{
	if (name)
		buf_put_name(b, name, len);
	else
		buf_putc(b, '-');
}

static void text_row(struct buf *b, const struct feed_row *row, const struct feed_place *at)
{
	const struct version *v = row->version;
	const struct event *e = row->event;
	const struct feed_move *m = row->move;
	const char *writer = v ? v->author.name : e ? e->writer : m->writer;

	put_cursor(b, at);
	buf_putc(b, '\t');
	buf_put_time(b, v ? v->time_ns : e ? e->time_ns : m->time_ns);
	buf_putc(b, '\t');
	put_name_or_dash(b, writer, writer ? strlen(writer) : 0);
	buf_printf(b, "\t%s\t", v ? version_kind_name(v->kind) : e ? e->kind : "rename");
	if (v) {
		buf_put_name(b, v->path, v->path_len);
		buf_printf(b, "@%" PRIu64, v->number);
	} else if (e) {
		put_name_or_dash(b, e->path, e->path_len);
		buf_putc(b, '\t');
		if (e->text)
			buf_put_name(b, e->text, strcspn(e->text, "\n"));
	} else {
		buf_put_name(b, m->to, m->to_len);
		buf_puts(b, "\twas ");
		buf_put_name(b, m->from, m->from_len);
	}
	buf_putc(b, '\n');
}

struct batch {
	struct feed *feed;
	unsigned n;
};

static int add_row(const struct feed_row *row, const struct feed_place *at, void *ctx)
{
	struct batch *batch = ctx;
	struct feed *f = batch->feed;

	if (row->seq <= f->after_seq)
		return 0;
	(f->json ? json_row : text_row)(&f->text, row, at);
	return ++batch->n >= FEED_BATCH_ROWS || f->text.len >= FEED_BATCH_BYTES;
}

/* ---- reading ---- */

/* Copy what there is into *out, malloc'ed: how much, 0: nothing yet. vhandle.lock held. */
static ssize_t take(struct feeds *all, struct feed *f, size_t size, char **out)
{
	struct feed_place at = f->at;
	size_t n;

	if (f->taken == f->text.len) {
		struct batch batch = {.feed = f};
		int r;

		buf_reset(&f->text);
		f->taken = 0;
		r = journal_feed(all->ws->journal, &f->at, add_row, &batch);
		if (r >= 0 && buf_failed(&f->text))
			r = -ENOMEM;
		if (r < 0) { /* nothing of it was told: it is told again */
			buf_done(&f->text);
			f->at = at;
			return r;
		}
	}
	n = f->text.len - f->taken < size ? f->text.len - f->taken : size;
	if (!n)
		return 0;
	*out = malloc(n);
	if (!*out)
		return -ENOMEM;
	memcpy(*out, f->text.data + f->taken, n);
	f->taken += n;
	return (ssize_t)n;
}

/* False: there is nothing to answer with yet. */
static bool answer(struct feeds *all, fuse_req_t req, struct vhandle *h, size_t size)
{
	auto_free char *data = NULL;
	ssize_t n;

	pthread_mutex_lock(&h->lock);
	n = take(all, h->feed, size, &data);
	pthread_mutex_unlock(&h->lock);
	if (n == 0 && size > 0)
		return false;
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_buf(req, data, (size_t)n);
	return true;
}

/* libfuse calls this with a lock of its own held. */
static void on_interrupt(fuse_req_t req, void *data)
{
	struct feed_wait *w = data;

	(void)req;
	__atomic_store_n(&w->interrupted, true, __ATOMIC_RELEASE);
	pthread_mutex_lock(&w->feeds->lock);
	w->feeds->look = true;
	pthread_cond_signal(&w->feeds->wake);
	pthread_mutex_unlock(&w->feeds->lock);
}

static uint64_t count_commits(struct feeds *all, bool *stopping)
{
	uint64_t commits;

	pthread_mutex_lock(&all->lock);
	commits = all->commits;
	*stopping = all->stopping;
	pthread_mutex_unlock(&all->lock);
	return commits;
}

static void park_read(struct feeds *all, fuse_req_t req, struct vhandle *h, size_t size,
	uint64_t commits_seen)
{
	struct feed_wait *w = calloc(1, sizeof(*w));
	bool stopping;

	if (!w) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	*w = (struct feed_wait){.req = req, .h = h, .feeds = all, .size = size};
	list_init(&w->link);
	fuse_req_interrupt_func(req, on_interrupt, w);
	pthread_mutex_lock(&all->lock);
	stopping = all->stopping; /* the thread may be gone */
	if (!stopping)
		list_append(&all->waits, &w->link);
	/* What was committed since this reader looked. */
	if (all->commits != commits_seen ||
		__atomic_load_n(&w->interrupted, __ATOMIC_ACQUIRE)) {
		all->look = true;
		pthread_cond_signal(&all->wake);
	}
	pthread_mutex_unlock(&all->lock);
	if (stopping) {
		fuse_reply_buf(req, NULL, 0);
		free(w);
	}
}

void events_read(fuse_req_t req, struct vhandle *h, size_t size, bool wait)
{
	struct feeds *all = h->vtree->ws->feeds;
	bool stopping;
	uint64_t commits = count_commits(all, &stopping);

	if (answer(all, req, h, size))
		return;
	if (stopping)
		fuse_reply_buf(req, NULL, 0);
	else if (!wait)
		fuse_reply_err(req, EAGAIN);
	else
		park_read(all, req, h, size, commits);
}

/* ---- those who wait ---- */

/* True: it was answered. */
static bool look_again(struct feeds *all, const struct feed_wait *w, bool stopping)
{
	if (__atomic_load_n(&w->interrupted, __ATOMIC_ACQUIRE)) {
		fuse_reply_err(w->req, EINTR);
		return true;
	}
	if (answer(all, w->req, w->h, w->size))
		return true;
	if (stopping)
		fuse_reply_buf(w->req, NULL, 0);
	return stopping;
}

/* feeds.lock held; given up meanwhile. Those who came since are looked at next time. */
static void look_at_all(struct feeds *all)
{
	struct list now;
	struct feed_wait *w, *tmp;
	bool stopping = all->stopping;

	all->look = false;
	all->looking = true;
	list_init(&now);
	list_for_each_safe (w, tmp, &all->waits, link) {
		list_remove(&w->link);
		list_append(&now, &w->link);
	}
	pthread_mutex_unlock(&all->lock);
	list_for_each_safe (w, tmp, &now, link) {
		if (!look_again(all, w, stopping))
			continue;
		list_remove(&w->link);
		free(w); /* once it is answered, no interrupt finds it */
	}
	pthread_mutex_lock(&all->lock);
	all->looking = false;
	list_for_each_safe (w, tmp, &now, link) {
		list_remove(&w->link);
		list_append(&all->waits, &w->link);
	}
}

static void *feeds_main(void *arg)
{
	struct feeds *all = arg;

	pthread_mutex_lock(&all->lock);
	for (;;) {
		while (!all->look && !all->stopping)
			pthread_cond_wait(&all->wake, &all->lock);
		look_at_all(all);
		if (all->stopping && !all->look && list_empty(&all->waits))
			break;
	}
	pthread_mutex_unlock(&all->lock);
	return NULL;
}

/* The journal's thread, which is not to wait for anything. */
static void on_commit(void *ctx)
{
	struct feeds *all = ctx;

	pthread_mutex_lock(&all->lock);
	all->commits++;
	if (!list_empty(&all->waits) || all->looking) {
		all->look = true;
		pthread_cond_signal(&all->wake);
	}
	pthread_mutex_unlock(&all->lock);
}

int feeds_new(struct workspace *ws, struct feeds **out)
{
	struct feeds *all = calloc(1, sizeof(*all));

	if (!all)
		return -ENOMEM;
	all->ws = ws;
	list_init(&all->waits);
	pthread_mutex_init(&all->lock, NULL);
	pthread_cond_init(&all->wake, NULL);
	*out = all;
	if (pthread_create(&all->thread, NULL, feeds_main, all))
		return -EAGAIN;
	all->runs = true;
	journal_on_commit(ws->journal, on_commit, all);
	return 0;
}

void feeds_stop(struct feeds *all)
{
	if (!all || !all->runs)
		return;
	journal_on_commit(all->ws->journal, NULL, NULL);
	pthread_mutex_lock(&all->lock);
	all->stopping = true;
	pthread_cond_signal(&all->wake);
	pthread_mutex_unlock(&all->lock);
	pthread_join(all->thread, NULL);
	all->runs = false;
}

struct feeds *feeds_free(struct feeds *all)
{
	if (!all)
		return NULL;
	feeds_stop(all);
	pthread_cond_destroy(&all->wake);
	pthread_mutex_destroy(&all->lock);
	free(all);
	return NULL;
}

/* ---- names and readers ---- */

static bool parse_number(const char **at, uint64_t *value)
{
	char *end;

	if (**at < '0' || **at > '9')
		return false;
	errno = 0;
	*value = strtoull(*at, &end, 10);
	*at = end;
	return errno == 0;
}

/* What the name says, without .json: a place, or a seq to find one by. */
static bool parse_from(const char *name, struct feed_place *at, uint64_t *seq)
{
	*at = (struct feed_place){0};
	*seq = INT64_MAX;
	if (!strcmp(name, "new"))
		return true;
	if (!parse_number(&name, &at->version))
		return false;
	if (!*name) {
		*seq = at->version;
		return true;
	}
	*seq = 0;
	return *name++ == '-' && parse_number(&name, &at->event) && *name++ == '-' &&
	       parse_number(&name, &at->move) && !*name;
}

int events_resolve(const char *name, struct vspec *out)
{
	size_t len = strlen(name);
	bool json = len > 5 && !strcmp(name + len - 5, ".json");
	struct feed_place at;
	uint64_t seq;

	if (len > 100)
		return -ENOENT;
	out->kind = json ? V_EVENTS_JSON : V_EVENTS_TEXT;
	buf_append(&out->path, name, json ? len - 5 : len);
	if (buf_failed(&out->path))
		return -ENOMEM;
	return parse_from(out->path.data, &at, &seq) ? 0 : -ENOENT;
}

int events_open(struct vhandle *h, struct fuse_file_info *fi)
{
	struct feeds *all = h->vtree->ws->feeds;
	bool by_seq = !strchr(h->node->path, '-');
	struct feed *f;
	uint64_t seq;
	int r = 0;

	if (__atomic_add_fetch(&all->n, 1, __ATOMIC_RELAXED) > FEEDS_MAX) {
		__atomic_sub_fetch(&all->n, 1, __ATOMIC_RELAXED);
		return -ENFILE;
	}
	f = calloc(1, sizeof(*f));
	h->feed = f; /* closed with the handle */
	if (!f) {
		__atomic_sub_fetch(&all->n, 1, __ATOMIC_RELAXED);
		return -ENOMEM;
	}
	if (!parse_from(h->node->path, &f->at, &seq))
		return -ENOENT;
	if (by_seq)
		r = journal_feed_from(all->ws->journal, seq, &f->at);
	f->after_seq = seq == INT64_MAX ? 0 : seq;
	f->json = h->node->kind == V_EVENTS_JSON;
	fi->direct_io = 1;
	fi->nonseekable = 1;
	return r;
}

void events_close(struct vhandle *h)
{
	if (!h->feed)
		return;
	__atomic_sub_fetch(&h->vtree->ws->feeds->n, 1, __ATOMIC_RELAXED);
	buf_done(&h->feed->text);
	free(h->feed);
	h->feed = NULL;
}
