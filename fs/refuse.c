#include "fs/refuse.h"

#include <string.h>

#include "fs/session.h"
#include "fs/workspace.h"

/* The second try comes at once, but on a busy machine "at once" can take a while. */
enum { RING_SIZE = 256 };
static const int64_t SECOND_TRY_NS = 5 * NS_PER_S;

struct kept_refusal {
	struct refusal r; /* strings in text */
	struct buf text;  /* all strings, NUL-separated */
	pid_t tid;	  /* of the thread that was refused */
	int64_t at_ns;	  /* boot clock */
	bool seen_twice;  /* the kernel's second try was answered */
};

struct refusal_ring {
	pthread_mutex_t lock;
	uint64_t count; /* ever */
	struct kept_refusal ring[RING_SIZE];
};

int refusals_new(struct refusal_ring **out)
{
	struct refusal_ring *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	pthread_mutex_init(&r->lock, NULL);
	*out = r;
	return 0;
}

struct refusal_ring *refusals_free(struct refusal_ring *r)
{
	if (!r)
		return NULL;
	for (int i = 0; i < RING_SIZE; i++)
		buf_done(&r->ring[i].text);
	pthread_mutex_destroy(&r->lock);
	free(r);
	return NULL;
}

int refusals_each(struct refusal_ring *r, const char *writer, refusal_fn *fn, void *ctx)
{
	int result = 0;

	pthread_mutex_lock(&r->lock);
	for (uint64_t i = 0; i < RING_SIZE && i < r->count && !result; i++) {
		const struct refusal *x = &r->ring[(r->count - 1 - i) % RING_SIZE].r;

		if (x->id && (!writer || strcmp(x->author.name, writer) == 0))
			result = fn(x, ctx);
	}
	pthread_mutex_unlock(&r->lock);
	return result;
}

/* Remember a copy of x; its strings go into one buffer. */
static void ring_add(
	struct refusal_ring *ring, const struct refusal *x, pid_t tid, int64_t now)
{
	struct kept_refusal *k;
	const char **strings[9];
	size_t at[ARRAY_SIZE(strings)], n = 0;

	pthread_mutex_lock(&ring->lock);
	k = &ring->ring[ring->count++ % RING_SIZE];
	buf_reset(&k->text);
	k->r = *x;
	k->tid = tid;
	k->at_ns = now;
	k->seen_twice = false;
	strings[n++] = &k->r.path;
	strings[n++] = &k->r.asked;
	strings[n++] = &k->r.reason;
	strings[n++] = &k->r.author.name;
	strings[n++] = &k->r.author.rule;
	strings[n++] = &k->r.author.command;
	strings[n++] = &k->r.current_writer;
	strings[n++] = &k->r.holder;
	strings[n++] = &k->r.hunks;
	for (size_t i = 0; i < n; i++) {
		size_t len = !*strings[i] ? 0 : i == 0 ? x->path_len : strlen(*strings[i]);

		at[i] = k->text.len;
		buf_append(&k->text, *strings[i], len);
		buf_putc(&k->text, '\0');
	}
	buf_puts(&k->text, x->text);
	if (buf_failed(&k->text)) {
		k->text.failed = false;
		k->r.id = 0; /* the journal has it all the same */
	} else {
		size_t text_at = k->text.len - strlen(x->text);

		for (size_t i = 0; i < n; i++)
			if (*strings[i])
				*strings[i] = k->text.data + at[i];
		k->r.text = k->text.data + text_at;
	}
	pthread_mutex_unlock(&ring->lock);
}

/* The kernel tries open, rename and unlink once more after ESTALE: one refusal (S11). */
static int second_try(
	struct refusal_ring *ring, const struct change *c, pid_t tid, int64_t now)
{
	int error = 0;

	if (c->handle || !c->op)
		return 0;
	pthread_mutex_lock(&ring->lock);
	for (uint64_t i = 0; i < RING_SIZE && i < ring->count; i++) {
		struct kept_refusal *k = &ring->ring[(ring->count - 1 - i) % RING_SIZE];

		if (now - k->at_ns > SECOND_TRY_NS)
			break;
		if (k->tid != tid || k->seen_twice || k->r.error != ESTALE ||
			k->r.path_len != c->path_len || strcmp(k->r.asked, c->asked) != 0 ||
			memcmp(k->r.path, c->path, c->path_len) != 0)
			continue;
		k->seen_twice = true;
		error = k->r.error;
		break;
	}
	pthread_mutex_unlock(&ring->lock);
	return error;
}

static int errno_of(const struct change *c, enum reason reason)
{
	/* The policy may change it while we look. */
	int other = __atomic_load_n(&c->by->writer->refusal_errno, __ATOMIC_RELAXED);

	if (!other)
		other = c->ws->options.refusal_errno;

	switch (reason) {
	case REASON_HELD:
	case REASON_DEADLOCK:
		if (other)
			return other;		    /* S14 */
		return c->handle ? ESTALE : EAGAIN; /* S13: never EAGAIN to a write */
	case REASON_STALE:
	case REASON_TAKEN:
	case REASON_FENCED:
		return other ? other : ESTALE;
	case REASON_FROZEN:
		return EROFS;
	case REASON_APPEND_ONLY:
		return EPERM;
	}
	assert(!"every reason has an errno");
	return EIO;
}

static const char *reason_name(enum reason reason)
{
	static const char *const names[] = {
		[REASON_HELD] = "held",
		[REASON_DEADLOCK] = "deadlock",
		[REASON_STALE] = "stale",
		[REASON_TAKEN] = "fenced",
		[REASON_FENCED] = "fenced",
		[REASON_FROZEN] = "frozen",
		[REASON_APPEND_ONLY] = "append",
	};

	return names[reason];
}

static const char *error_name(int error)
{
	switch (error) {
	case EAGAIN:
		return "EAGAIN";
	case ESTALE:
		return "ESTALE";
	case EBUSY:
		return "EBUSY";
	case EROFS:
		return "EROFS";
	case EPERM:
		return "EPERM";
	default:
		return "EIO";
	}
}

/* What did not happen, in the past participle. */
static const char *not_done(const char *asked)
{
	static const struct {
		const char *asked, *done;
	} words[] = {
		{"rename", "renamed"},
		{"replace", "replaced"},
		{"unlink", "removed"},
		{"truncate", "truncated"},
		{"create", "created"},
		{"link", "linked"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(words[i].asked, asked) == 0)
			return words[i].done;
	return "written";
}

static void put_held(struct buf *b, const struct change *c, const struct refusal_info *info)
{
	const struct file *f = c->file;
	int64_t now = workspace_now(c->ws);

	buf_printf(b, "%s is changing it (lease epoch %llu, ", info->holder->name,
		(unsigned long long)f->lease.epoch);
	if (f->lease.holder == info->holder && f->lease.expires_ns > now) {
		buf_puts(b, "for at most ");
		buf_put_span(b, f->lease.expires_ns - now);
		buf_puts(b, " more unless it goes on writing). ");
	} else {
		buf_puts(b, "asked for ahead). ");
	}
	if (info->reason == REASON_DEADLOCK)
		buf_printf(b,
			"It waits for a file of yours at the same time, so waiting would "
			"not "
			"help: finish or close your own files first, then try again.");
	else if (c->handle)
		buf_puts(b, "Close the file, open it again, and redo your change.");
	else
		buf_puts(b,
			"Try again in a moment; `stomp lease list` shows who holds what.");
}

static void put_stale(
	struct buf *b, const struct change *c, const struct refusal_info *info)
{
	const struct head *h = &c->file->head;
	const char *who = h->outside	      ? "somebody outside the mount"
			  : h->content.author ? h->content.author->name
					      : "somebody";

	buf_printf(b, "%s %s it ", who, h->gone ? "removed" : "changed");
	buf_put_span(b, workspace_now(c->ws) - h->content.made_ns);
	buf_printf(b, " ago (version %llu", (unsigned long long)h->number);
	if (info->test && info->test->first_line && !info->test->by_block) {
		buf_printf(b, ", line%s %u",
			info->test->first_line == info->test->last_line ? "" : "s",
			info->test->first_line);
		if (info->test->last_line > info->test->first_line)
			buf_printf(b, "-%u", info->test->last_line);
	}
	buf_puts(b, "); ");
	if (info->base_number)
		buf_printf(b, "you last read version %llu. ",
			(unsigned long long)info->base_number);
	else
		buf_puts(b, "you have not read that version. ");
	buf_puts(b, "Read the file again, then redo your change.");
	if (info->kept)
		buf_puts(b, " What you wrote is kept (see below).");
}

static void put_fenced(struct buf *b, const struct change *c)
{
	const struct handle *h = c->handle;
	const char *who = h->fenced_by ? h->fenced_by : "somebody";

	switch (h->fence) {
	case FENCE_BREAK:
		buf_printf(b, "%s broke your lease. ", who);
		break;
	case FENCE_REPLACED:
		buf_printf(b, "%s replaced or removed it after you had opened it. ", who);
		break;
	case FENCE_REFUSED:
		buf_puts(b, "your change through this descriptor was refused before. ");
		break;
	case FENCE_TAKEOVER:
	case FENCE_NONE:
		buf_printf(b,
			"%s took it over (lease epoch %llu) after you had opened it. ", who,
			(unsigned long long)h->fenced_by_epoch);
		break;
	}
	buf_puts(b,
		"This descriptor can no longer write: open the file again, read it, then "
		"redo your change.");
}

static void put_message(struct buf *b, const struct change *c,
	const struct refusal_info *info, uint64_t id, int error)
{
	buf_put_name(b, c->path, c->path_len);
	buf_printf(b, ": not %s. ", not_done(c->asked));
	switch (info->reason) {
	case REASON_HELD:
	case REASON_DEADLOCK:
		put_held(b, c, info);
		break;
	case REASON_STALE:
		put_stale(b, c, info);
		break;
	case REASON_TAKEN:
		buf_printf(b,
			"%s took your lease before your change was complete. Read the file "
			"again, then redo your change.",
			info->holder->name);
		break;
	case REASON_FENCED:
		put_fenced(b, c);
		break;
	case REASON_FROZEN:
		buf_puts(b,
			"The policy says mode=frozen for this path: nobody may change it. "
			"`stomp policy check` names the line.");
		break;
	case REASON_APPEND_ONLY:
		buf_puts(b,
			"The policy says mode=append for this path: only opening it with "
			"O_APPEND (>>) is allowed.");
		break;
	}
	buf_printf(b, " (refusal %llu, %s)", (unsigned long long)id, error_name(error));
	if (info->kept)
		buf_printf(b,
			"\n  what you wrote: .stomp/conflicts/%llu/theirs"
			"\n  to bring it in: stomp conflicts show %llu",
			(unsigned long long)id, (unsigned long long)id);
	if (info->hunks)
		buf_printf(b, "\n%s", info->hunks);
}

static void count_refusal(struct workspace *ws, struct writer *w, enum reason reason)
{
	__atomic_fetch_add(&w->n_refusals, 1, __ATOMIC_RELAXED);
	if (reason == REASON_STALE)
		count(ws, refused_stale);
	else if (reason == REASON_FENCED || reason == REASON_TAKEN)
		count(ws, refused_fenced);
	else if (reason == REASON_DEADLOCK)
		count(ws, deadlocks);
	else
		count(ws, refused_held);
}

static void announce(struct workspace *ws, const struct refusal *x)
{
	struct event e = {
		.time_ns = x->time_ns,
		.kind = "refuse",
		.path = x->path,
		.path_len = x->path_len,
		.writer = x->author.name,
		.epoch = x->epoch,
		.number = x->id,
		.text = x->text,
	};

	if (journal_next_seq(ws->journal, &e.seq) == 0)
		(void)!journal_event(ws->journal, &e);
}

int refuse(struct change *c, const struct refusal_info *info)
{
	struct workspace *ws = c->ws;
	pid_t tid = c->op ? fuse_req_ctx(c->op->req)->pid : 0;
	int64_t now = workspace_now(ws);
	int again = second_try(ws->refusals, c, tid, now);
	auto_buf text = {0}, hunks = {0};
	struct refusal x = {
		.time_ns = clock_wall_ns(ws->clock),
		.path = c->path,
		.path_len = c->path_len,
		.asked = c->asked,
		.reason = reason_name(info->reason),
		.error = errno_of(c, info->reason),
		.author = author_of(c->by),
		.base_number = info->base_number,
		.current_number = c->file->head.number,
		.epoch = c->file->lease.holder ? c->file->lease.epoch : 0,
		.current_writer = c->file->head.content.author && !c->file->head.outside
					  ? c->file->head.content.author->name
					  : NULL,
		.holder = info->holder ? info->holder->name : NULL,
		.kept = info->kept != NULL,
	};

	if (again)
		return -again;
	count_refusal(ws, c->by->writer, info->reason);
	if (journal_next_refusal(ws->journal, &x.id) < 0 ||
		journal_next_seq(ws->journal, &x.seq) < 0)
		return -x.error;
	put_message(&text, c, info, x.id, x.error);
	if (info->test && info->test->first_line)
		buf_printf(&hunks, "%s %u-%u", info->test->by_block ? "blocks" : "lines",
			info->test->first_line, info->test->last_line);
	x.text = buf_failed(&text) ? "not written" : text.data;
	x.hunks = hunks.data;
	if (info->kept) {
		x.content = info->kept->hash;
		x.size = info->kept->size;
	}
	ring_add(ws->refusals, &x, tid, now);
	(void)!journal_refuse(ws->journal, &x, info->kept);
	announce(ws, &x);
	return -x.error;
}
