#include "fs/closing.h"
#include "fs/external.h"
#include "fs/gate_internal.h"
#include "fs/inode.h"
#include "fs/pending.h"
#include "fs/refuse.h"
#include "fs/session.h"
#include "fs/workspace.h"

static int refuse_held(struct change *c, struct writer *holder, enum reason reason)
{
	struct refusal_info info = {.reason = reason, .holder = holder};

	stale_consume(&c->file->seen, c->by, c->attempt_ns, c->file->rule.settle_ns);
	return refuse(c, &info);
}

/* L3: what may not wait for the lease. A waiting write or truncate would keep the kernel's
 * lock on the inode and with it stop the holder. */
static bool fails_at_once(const struct change *c)
{
	return c->never_waits || c->nonblock || c->file->rule.wait_ns == 0;
}

/* Another holds it, or others are first in the queue: wait in order, or refuse (L3). */
static int wait_or_refuse(struct change *c, struct writer *holder, int64_t lapses_ns)
{
	const int64_t release_ns = NS_PER_S; /* far more than it ever takes */
	struct file *f = c->file;
	struct op *op = c->op;
	int64_t limit_ns = f->rule.wait_ns, deadline;
	int r;

	if (op && op->wait.deadlocked)
		return refuse_held(c, holder, REASON_DEADLOCK);
	if (!op || op->timed_out)
		return refuse_held(c, holder, REASON_HELD);
	if (fails_at_once(c)) {
		/* L2: the holder has closed it, which this request has overtaken. Stores of
		 * a mapping have pages locked and cannot wait. */
		if (holder != f->lease.holder || op->fi.writepage ||
			!closing_lease(c->ws, f))
			return refuse_held(c, holder, REASON_HELD);
		op->wait.shielded = c->never_waits;
		limit_ns = release_ns;
	}
	deadline = op->wait.deadline_ns ? op->wait.deadline_ns
					: workspace_now(c->ws) + limit_ns;
	r = park_wait(op, f, c->by->writer, holder, deadline, lapses_ns);
	if (r == -EDEADLK)
		return refuse_held(c, holder, REASON_DEADLOCK);
	if (r == -EUSERS) /* too many of this user's wait: as with O_NONBLOCK (L3) */
		return refuse_held(c, holder, REASON_HELD);
	return r < 0 ? r : GATE_PARKED;
}

/* L5: the old holder's work becomes his version, marked incomplete. */
static int settle_old_session(struct change *c)
{
	struct file *f = c->file;
	int r;

	if (!f->session.by || f->session.by->writer == c->by->writer)
		return 0;
	if (f->pending) {
		struct change old = *c;

		old.by = f->session.by;
		old.handle = NULL;
		old.op = NULL;
		old.asked = "write";
		pending_abandon(&old, c->by->writer);
		if (!f->session.by)
			return 0; /* that was all of it */
	}
	if (!f->session.by)
		return 0; /* the abandoned change was all there was */
	/* What he has closed is whole, though its release was overtaken. */
	r = session_finish(c->ws, f, closing_session(c->ws, f) ? 0 : VERSION_INCOMPLETE);
	return r;
}

/* `track`: versions, no refusals; whoever writes takes the session over. */
static int enter_tracked(struct change *c)
{
	struct file *f = c->file;
	int64_t now = workspace_now(c->ws);
	int r = 0;

	c->known =
		(struct knowledge){.base_seq = f->head.content.seq, .read_current = true};
	if (f->session.by && f->session.by->writer != c->by->writer)
		r = session_finish(c->ws, f, VERSION_INCOMPLETE);
	if (r < 0)
		return r;
	if (f->lease.holder != c->by->writer) {
		uint64_t epoch;

		r = journal_next_epoch(c->ws->journal, &epoch);
		if (r < 0)
			return r;
		lease_grant(&f->lease, c->by->writer, epoch, now, f->rule.ttl_ns);
	}
	if (c->handle)
		c->handle->epoch = f->lease.epoch;
	return session_begin(c->ws, c);
}

static int check_mode(struct change *c)
{
	struct refusal_info info = {.reason = REASON_FROZEN};

	if (c->file->rule.mode == MODE_FROZEN)
		return refuse(c, &info);
	info.reason = REASON_APPEND_ONLY;
	if (c->file->rule.mode == MODE_APPEND && c->shape != CHANGE_APPEND && c->inode)
		return refuse(c, &info);
	return 0;
}

/* An explicit lease of another on any name that the file has (L9, L10). */
static struct writer *blocked_by_claim(struct change *c, int64_t now, int64_t *until)
{
	struct claims *claims = c->ws->claims;
	struct writer *blocker =
		claims_blocker(claims, c->path, c->path_len, c->by->writer, now, until);

	if (blocker || !c->inode || claims_none(claims))
		return blocker;
	pthread_mutex_lock(&c->inode->lock);
	for (struct link_name *l = c->inode->links; l && !blocker; l = l->next) {
		auto_buf path = {0};

		if (inode_child_path(l->parent, l->name, &path) == 0)
			blocker = claims_blocker(
				claims, path.data, path.len, c->by->writer, now, until);
	}
	pthread_mutex_unlock(&c->inode->lock);
	return blocker;
}

/* Who keeps this writer from the lease: 0 nobody, else parked or refused. */
static int check_lease(struct change *c, enum lease_answer *answer, int64_t now)
{
	struct file *f = c->file;
	struct writer *blocker;
	int64_t until = INT64_MAX;
	int r = gate_end_lease_of_the_dead(c);

	if (r < 0)
		return r;
	*answer = lease_ask(&f->lease, c->by->writer, now);
	if (*answer == LEASE_HELD)
		return wait_or_refuse(c, f->lease.holder, f->lease.expires_ns);
	blocker = blocked_by_claim(c, now, &until);
	if (blocker)
		return wait_or_refuse(c, blocker, until);
	if (*answer != LEASE_OURS && park_must_queue(f, c->op)) {
		struct waiter *first = list_first(&f->waiters, struct waiter, node);

		return wait_or_refuse(c, first->writer, INT64_MAX);
	}
	return 0;
}

static int enter_guarded(struct change *c)
{
	struct refusal_info fenced = {.reason = REASON_FENCED};
	struct file *f = c->file;
	int64_t now = workspace_now(c->ws);
	enum lease_answer answer;
	int verdict, r;
	bool judged;

	c->attempt_ns = c->op && c->op->wait.began_ns ? c->op->wait.began_ns : now;
	if (c->handle && c->handle->fence != FENCE_NONE)
		return refuse(c, &fenced); /* L5: for ever */
	r = check_lease(c, &answer, now);
	if (r)
		return r;
	r = settle_old_session(c);
	if (r < 0)
		return r;
	verdict = gate_judge(c);
	if (verdict < 0)
		return verdict;
	r = gate_take_lease(c, answer, now);
	if (r < 0)
		return r;
	if (!c->keeps_content)
		stale_consume(&f->seen, c->by, c->attempt_ns, f->rule.settle_ns);
	judged = verdict == 0 && !c->keeps_content && c->shape != CHANGE_APPEND;
	if (c->handle) {
		c->handle->epoch = f->lease.epoch;
		c->handle->flushed = false;
	}
	r = session_begin(c->ws, c);
	if (r < 0) {
		gate_maybe_end_lease(c->ws, f);
		return r;
	}
	f->session.judged |= judged;
	f->session.merged |= f->merging; /* merged on its way in (rename onto) */
	f->merging = false;
	return verdict == 1 ? GATE_PENDING : GATE_GO;
}

/* A rename enters twice, and waits for one of its ends: its place there stays until that
 * end is decided. */
static void leave_queue(struct change *c)
{
	if (c->op && c->op->wait.file == c->file)
		park_leave_queue(c->op);
}

int gate_check_folder(struct op *op, const struct buf *path, const char *asked)
{
	struct workspace *ws = op->ws;
	struct refusal_info info = {.reason = REASON_HELD};
	struct writer *by = op_by(op)->writer;
	int64_t now = workspace_now(ws), until;
	struct change c = {
		.ws = ws,
		.op = op,
		.by = op_by(op),
		.asked = asked,
		.path = path->data,
		.path_len = path->len,
		.new_fd = -1,
	};
	int r;

	if (claims_none(ws->claims))
		return 0;
	info.holder = claims_blocker(ws->claims, path->data, path->len, by, now, &until);
	if (!info.holder)
		info.holder = claims_covered(ws->claims, path->data, by, now);
	if (!info.holder)
		return 0;
	r = file_new(&c.file); /* a refusal speaks of a file; a folder has none */
	if (r < 0)
		return r;
	r = refuse(&c, &info);
	file_put(ws, c.file);
	return r;
}

static int look_outside(struct change *c)
{
	bool quiet = !c->file->session.by;
	int r = external_check(c->ws, c->file, c->path, c->path_len, EXTERNAL_LOOK, &c->st);

	c->has_st = quiet && r == EXTERNAL_NONE && c->st.st_ino == c->inode->ino &&
		    c->st.st_dev == c->inode->dev;
	return r;
}

/* What happened to the path round the mount is recorded before anything else does. */
static int check_outside(struct change *c)
{
	int r = 0;

	if (c->inode && c->file->inode == c->inode)
		r = look_outside(c);
	else if (!c->inode && c->parent)
		r = external_check_missing(
			c->ws, c->file, c->parent, c->name, c->path, c->path_len);
	return r < 0 ? r : 0;
}

int gate_enter(struct change *c)
{
	const struct rule *rule = file_rule(c->ws, c->file, c->path, c->path_len);
	int r;

	assert(!c->file->behind); /* file_lock_of() has waited */
	c->guarded = rule->mode != MODE_PASS;
	if (!c->guarded) {
		leave_queue(c);
		return GATE_UNGUARDED;
	}
	r = journal_health(c->ws->journal);
	if (r == 0)
		r = file_load_head(c->ws, c->file, c->path, c->path_len);
	if (r == 0)
		r = check_outside(c);
	if (r == 0)
		r = check_mode(c);
	if (r == 0)
		r = rule->mode == MODE_TRACK ? enter_tracked(c) : enter_guarded(c);
	if (r != GATE_PARKED)
		leave_queue(c);
	if (r < 0)
		park_wake(c->ws, c->file); /* it is the next one's turn */
	return r;
}

void gate_leave(struct change *c, int result)
{
	struct file *f = c->file;

	if (!c->guarded)
		return;
	__atomic_fetch_add(&c->by->writer->n_writes, 1, __ATOMIC_RELAXED);
	/* A removal or a replacement has recorded its own version. */
	if (result == 0 && !c->keeps_content && !c->removes && c->shape != CHANGE_WHOLE &&
		!f->pending) {
		f->session.dirty = true;
		if (!c->noted)
			session_will_change_all(f);
	}
	if (result < 0 && f->session.by && !f->session.dirty &&
		!gate_has_writable_handle(f, f->lease.holder))
		session_cancel(c->ws, f);
	gate_maybe_end_lease(c->ws, f);
}
