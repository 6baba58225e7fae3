#include "fs/pending.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/contents.h"
#include "fs/copy.h"
#include "fs/notify.h"
#include "fs/refuse.h"
#include "fs/retire.h"
#include "fs/session.h"
#include "fs/strategy.h"
#include "fs/workspace.h"

enum { MAX_HUNK_LINES = 12 };

struct pending {
	int fd;
	char name[48]; /* in .stomp/shadow */
	const struct writer *writer;
	struct knowledge known;
	bool truncated;
	bool has_data;	 /* something arrived */
	uint64_t filled; /* bytes from offset 0 that have arrived without a gap */
	uint64_t tested; /* filled, at the last test */
	unsigned writes;
};

/* When the process began, on the wall clock that versions have. */
static int64_t began_wall_ns(const struct change *c)
{
	return clock_wall_ns(c->ws->clock) - (workspace_now(c->ws) - c->by->start_ns);
}

/* Has a made from b? A line of b, one of the first few that say anything, is in a. */
static bool shares_a_line(const struct content *a, const struct content *b)
{
	enum { LINES_TRIED = 64, SAYS_SOMETHING = 4 };
	const char *at = b->data, *end;

	if (a->size > LOST_UPDATE_MAX_BYTES || b->size > LOST_UPDATE_MAX_BYTES)
		return true; /* what is compared by block has no lines */
	if (!b->size)
		return false;
	end = at + b->size;
	for (int i = 0; i < LINES_TRIED && at < end; i++) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((stop ? stop : end) - at);

		if (len >= SAYS_SOMETHING && a->size && memmem(a->data, a->size, at, len))
			return true;
		at += len + 1;
	}
	return false;
}

static int test_version(struct change *c, const struct contents *t, const struct version *v,
	bool complete, struct lost_update_result *result)
{
	auto_contents older = {0};
	auto_close int fd = -1;
	int r = v->has_content ? journal_version_content(c->ws->journal, v, &fd) : 0;

	if (r == 0 && fd >= 0)
		r = contents_map_base(&older, fd);
	if (r < 0 || fd < 0 || !shares_a_line(&t->new, &older.base))
		return r; /* a text of its own: it brings nothing of that version back */
	return lost_update_test(&older.base, true, &t->current, &t->new, complete, result);
}

/* Nothing is known of what the writer has read (the daemon was restarted, or has
 * forgotten): it may hold any version that was current while its process ran. If the
 * change brings one of those back, it is a stomp; else it stays what it was found. */
static int test_older_versions(struct change *c, const struct contents *t, bool complete,
	struct lost_update_result *result)
{
	enum { MAX_OLDER = 16 };
	uint64_t number = c->file->head.number;
	int64_t began = began_wall_ns(c), next_ns = INT64_MAX;

	for (int i = 0; i < MAX_OLDER && number > 0; i++, number--) {
		struct lost_update_result older;
		struct version_row row = {0};
		int r = journal_version(c->ws->journal, c->path, c->path_len, number, &row);

		if (r <= 0)
			return r;
		if (next_ns < began) { /* replaced before the process began */
			version_row_done(&row);
			return 0;
		}
		next_ns = row.v.time_ns;
		older = (struct lost_update_result){.verdict = LOST_UPDATE_KEPT};
		if (number < c->file->head.number)
			r = test_version(c, t, &row.v, complete, &older);
		version_row_done(&row);
		if (r < 0)
			return r;
		if (older.verdict == LOST_UPDATE_REVERTED && !older.n_overlapping) {
			*result = older;
			return 0;
		}
	}
	return 0;
}

static int test_contents(struct change *c, const struct knowledge *known, int new_fd,
	uint64_t new_size, bool complete, struct lost_update_result *result,
	struct buf *hunks)
{
	auto_contents t = {0};
	int r = contents_open(c, known, new_fd, new_size, &t);

	if (r == 0)
		r = lost_update_test(
			&t.base, t.known_base, &t.current, &t.new, complete, result);
	if (r == 0 && !t.known_base && result->verdict == LOST_UPDATE_OVERLAPPING)
		r = test_older_versions(c, &t, complete, result);
	if (r == 0 && hunks && !stale_test_passes(result->verdict, known->read_current) &&
		result->verdict != LOST_UPDATE_UNDECIDED)
		r = lost_update_describe(t.known_base ? &t.base : NULL, &t.current, &t.new,
			MAX_HUNK_LINES, hunks);
	return r;
}

int pending_test(
	struct change *c, int new_fd, struct lost_update_result *result, struct buf *hunks)
{
	return test_contents(c, &c->known, new_fd, UINT64_MAX, true, result, hunks);
}

int pending_begin(struct change *c, bool truncated)
{
	struct workspace *ws = c->ws;
	struct pending *p = calloc(1, sizeof(*p));
	int r = 0;

	if (!p)
		return -ENOMEM;
	assert(!c->file->pending);
	snprintf(p->name, sizeof(p->name), "pending-%llu",
		(unsigned long long)c->file->lease.epoch);
	p->fd = openat(ws->shadow_fd, p->name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (p->fd < 0) {
		r = -errno;
		free(p);
		return r;
	}
	if (!truncated) {
		auto_close int from = inode_open(ws, c->inode, O_RDONLY | O_NOATIME);

		r = from < 0 ? from : copy_content(from, p->fd);
	}
	if (r < 0) {
		unlinkat(ws->shadow_fd, p->name, 0);
		close(p->fd);
		free(p);
		return r;
	}
	p->writer = c->by->writer;
	p->known = c->known;
	p->truncated = truncated;
	c->file->pending = p;
	__atomic_store_n(&c->inode->has_pending, true, __ATOMIC_RELEASE);
	count(ws, pending_changes);
	return 0;
}

static void pending_drop(struct change *c)
{
	struct pending *p = c->file->pending;

	unlinkat(c->ws->shadow_fd, p->name, 0);
	close(p->fd);
	free(p);
	c->file->pending = NULL;
	if (c->file->inode) {
		__atomic_store_n(&c->file->inode->has_pending, false, __ATOMIC_RELEASE);
		notify_content(c->ws, c->file->inode); /* a mapping may have shown it */
	}
}

int pending_fd(const struct file *f, const struct handle *h)
{
	if (!f->pending || !h->writable || h->by->writer != f->pending->writer)
		return -1;
	return f->pending->fd;
}

uint64_t pending_size(const struct pending *p)
{
	struct stat st;

	return fstat(p->fd, &st) < 0 ? 0 : (uint64_t)st.st_size;
}

bool pending_is_of(const struct pending *p, const struct writer *w)
{
	return p->writer == w;
}

/* Refused: keep the bytes, close this way in for good, leave the file as it was. */
static int pending_refuse(struct change *c, const struct lost_update_result *test,
	const char *hunks, const struct writer *taken_by)
{
	struct pending *p = c->file->pending;
	struct capture kept = CAPTURE_NONE;
	struct refusal_info info = {
		.reason = taken_by ? REASON_TAKEN : REASON_STALE,
		.holder = taken_by,
		.test = test,
		.hunks = hunks,
	};
	struct handle *h;
	int r;

	if (p->has_data && journal_capture(c->ws->journal, p->fd, &kept) == 0)
		info.kept = &kept;
	info.base_number =
		contents_base_number(c->ws, c->path, c->path_len, p->known.base_seq);
	r = refuse(c, &info);
	capture_done(&kept);
	list_for_each (h, &c->file->handles, node)
		if (h->writable && h->by->writer == p->writer && h->fence == FENCE_NONE)
			h->fence = FENCE_REFUSED;
	pending_drop(c);
	session_cancel(c->ws, c->file);
	gate_maybe_end_lease(c->ws, c->file);
	return r;
}

static int commit_intent(struct change *c, uint32_t *slot)
{
	struct author author = author_of(c->by);
	struct intent intent = {
		.kind = INTENT_COMMIT,
		.path = c->path,
		.path_len = c->path_len,
		.dev = c->inode->dev,
		.ino = c->inode->ino,
		.epoch = c->file->lease.epoch,
		.base_number = c->file->session.base_number,
		.shadow = c->file->pending->name,
		.writer = author.name,
		.rule = author.rule,
		.command = author.command,
		.uid = author.uid,
		.pid = author.pid,
		.start_ns = author.start_ns,
	};

	return retire_begin(c->ws, &intent, slot);
}

/* Accepted: the bytes go into the file. */
static int pending_commit(struct change *c)
{
	auto_close int to = -1;
	uint32_t slot = INTENT_NONE;
	int r = commit_intent(c, &slot);

	if (r < 0)
		return r;
	session_will_change_all(c->file);
	to = inode_open(c->ws, c->inode, O_WRONLY);
	r = to < 0 ? to : copy_content(c->file->pending->fd, to);
	if (r < 0) {
		/* The old content is in the journal, the new one in the shadow: the intent
		 * stays, so that a restart can finish what could not be done now. */
		return r;
	}
	c->file->session.dirty = c->file->session.judged = true;
	c->file->session.merged = c->file->merging;
	c->file->merging = false;
	intents_end(c->ws->intents, slot);
	pending_drop(c);
	notify_content(c->ws, c->inode);
	return 0;
}

/* Does fd's content, as far as size, end with the line that other's ends with? */
static bool ends_alike(int fd, uint64_t size, int other, uint64_t other_size)
{
	enum { TAIL_BYTES = 256 };
	char a[TAIL_BYTES], b[TAIL_BYTES];
	size_t n = size < TAIL_BYTES ? (size_t)size : TAIL_BYTES;
	size_t m = other_size < TAIL_BYTES ? (size_t)other_size : TAIL_BYTES;
	const char *line;

	if (n < 2 || pread(fd, a, n, (off_t)(size - n)) != (ssize_t)n ||
		pread(other, b, m, (off_t)(other_size - m)) != (ssize_t)m)
		return false;
	line = memrchr(a, '\n', n - 1); /* where its last line begins */
	n -= line ? (size_t)(line + 1 - a) : 0;
	line = line ? line + 1 : a;
	return n > 2 && m >= n && memcmp(line, b + m - n, n) == 0;
}

/*
 * Is what has arrived taken for the whole? Most programs write a file in one write, and
 * only a refused write is sure to be heard. So one write is, if it is as long as what it
 * replaces, or if it ends as that does and is no block of a buffer's size, of which more
 * would follow.
 */
static bool enough_for_a_whole(const struct pending *p, struct change *c)
{
	enum { BLOCK_BYTES = 4096 };
	auto_close int base_fd = -1;
	auto_close int current_fd = -1;
	struct stat current, base;

	if (p->writes != 1 || inode_stat(c->ws, c->inode, &current) < 0)
		return false;
	if (p->filled >= (uint64_t)current.st_size)
		return true;
	if (journal_wait(c->ws->journal, c->file->submitted_seq) < 0 ||
		contents_open_base(c, p->known.base_seq, &base_fd) < 0)
		return false;
	if (base_fd >= 0 && fstat(base_fd, &base) == 0 &&
		p->filled >= (uint64_t)base.st_size)
		return true;
	if (p->filled % BLOCK_BYTES == 0 || p->filled < (uint64_t)current.st_size / 2)
		return false;
	current_fd = inode_open(c->ws, c->inode, O_RDONLY | O_NOATIME);
	return (current_fd >= 0 && ends_alike(p->fd, p->filled, current_fd,
					   (uint64_t)current.st_size)) ||
	       (base_fd >= 0 &&
		       ends_alike(p->fd, p->filled, base_fd, (uint64_t)base.st_size));
}

int pending_wrote(struct change *c, uint64_t offset, size_t n)
{
	struct pending *p = c->file->pending;
	struct lost_update_result result;
	auto_buf hunks = {0};
	bool whole;
	int r;

	p->has_data = true;
	p->writes++;
	if (offset <= p->filled && offset + n > p->filled)
		p->filled = offset + n;
	/* Each test looks at all there is: asked again whenever that has doubled. */
	if (p->filled < offset + n || p->filled < 2 * p->tested)
		return 0;
	p->tested = p->filled;
	whole = enough_for_a_whole(p, c);
	r = test_contents(c, &p->known, p->fd, p->filled, whole, &result, &hunks);
	if (r < 0)
		return r;
	if (result.verdict == LOST_UPDATE_UNDECIDED ||
		stale_test_passes(result.verdict, p->known.read_current) ||
		(strategy_may_merge(&c->file->rule) &&
			!(whole && strategy_conflicts(c, &p->known, p->fd, p->filled))))
		return 0; /* more may follow; the rest decides */
	return pending_refuse(c, &result, hunks.data, NULL);
}

int pending_resolve(struct change *c, bool data_only)
{
	struct pending *p = c->file->pending;
	struct lost_update_result result;
	auto_buf hunks = {0};
	int r;

	if (data_only && !p->has_data)
		return 0;
	r = test_contents(c, &p->known, p->fd, UINT64_MAX, true, &result, &hunks);
	if (r < 0)
		return r;
	if (result.verdict != LOST_UPDATE_KEPT && result.verdict != LOST_UPDATE_SAME) {
		r = strategy_merge(c, &p->known, p->fd, &hunks);
		if (r < 0)
			return r;
		if (r == STRATEGY_REFUSE &&
			!stale_test_passes(result.verdict, p->known.read_current))
			return pending_refuse(c, &result, hunks.data, NULL);
		return pending_commit(c);
	}
	if (result.verdict == LOST_UPDATE_SAME) {
		pending_drop(c); /* no change at all */
		return 0;
	}
	return pending_commit(c);
}

void pending_abandon(struct change *c, const struct writer *by)
{
	(void)!pending_refuse(c, NULL, NULL, by);
}
