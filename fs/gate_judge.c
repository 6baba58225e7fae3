#include "fs/gate_internal.h"

#include <fcntl.h>

#include "fs/behind.h"
#include "fs/closing.h"
#include "fs/contents.h"
#include "fs/inode.h"
#include "fs/notify.h"
#include "fs/pending.h"
#include "fs/refuse.h"
#include "fs/session.h"
#include "fs/strategy.h"
#include "fs/workspace.h"
#include "policy/blind.h"

/* What is to be renamed onto the path, once its bytes matter. -errno. */
static int new_content(struct change *c)
{
	if (c->new_fd < 0 && c->moved && S_ISREG(c->moved->type))
		c->new_fd = inode_open(c->ws, c->moved, O_RDONLY | O_NOATIME);
	return c->new_fd;
}

static int refuse_stale(
	struct change *c, const struct lost_update_result *test, const char *hunks)
{
	struct refusal_info info = {
		.reason = REASON_STALE,
		.test = test,
		.hunks = hunks,
		.base_number = contents_base_number(
			c->ws, c->path, c->path_len, c->known.base_seq),
	};
	struct capture kept = CAPTURE_NONE;
	int r;

	stale_consume(&c->file->seen, c->by, c->attempt_ns, c->file->rule.settle_ns);
	if (c->shape == CHANGE_WHOLE && new_content(c) >= 0 &&
		journal_capture(c->ws->journal, c->new_fd, &kept) == 0)
		info.kept = &kept;
	r = refuse(c, &info);
	capture_done(&kept);
	return r;
}

/* What is to be renamed onto a changed file is merged with that first (M). 0: done. */
static int merge_arrival(struct change *c, struct buf *hunks)
{
	auto_close int fd = -1;

	if (!strategy_may_merge(&c->file->rule) || !c->moved)
		return STRATEGY_REFUSE;
	fd = inode_open(c->ws, c->moved, O_RDWR | O_NOATIME);
	if (fd < 0)
		return fd;
	notify_content(c->ws, c->moved);
	return strategy_merge(c, &c->known, fd, hunks);
}

/* S2–S6. 0: goes ahead; 1: its bytes must wait for their verdict; -errno: refused. */
int gate_judge(struct change *c)
{
	struct file *f = c->file;
	struct lost_update_result result;
	auto_buf hunks = {0};
	enum judgement j;
	int r;

	c->known =
		(struct knowledge){.base_seq = f->head.content.seq, .read_current = true};
	if (c->keeps_content || f->head.gone || !c->inode)
		return 0;
	if (f->session.by && f->session.by->writer == c->by->writer &&
		(f->session.judged || f->session.dirty))
		return 0; /* nobody else can have changed it since */
	j = stale_judge(&f->head.content, &f->seen, c->by, c->shape, c->attempt_ns,
		f->rule.settle_ns, &c->known);
	if (j == JUDGE_FRESH)
		return 0;
	if (j == JUDGE_STALE && f->rule.strategy == STRATEGY_LAST_WRITER) {
		strategy_announce(c); /* accepted, versioned, reported */
		return 0;
	}
	/* Where stale changes are merged, the content to come is waited for. */
	if (j == JUDGE_STALE &&
		!(c->shape == CHANGE_TRUNCATING && strategy_may_merge(&f->rule)))
		return refuse_stale(c, NULL, NULL);
	if (c->shape != CHANGE_WHOLE)
		return 1;
	if (S_ISLNK(c->inode->type)) /* S6: a target is no text that could be compared */
		return refuse_stale(c, NULL, NULL);
	r = pending_test(c, new_content(c), &result, &hunks);
	if (r < 0)
		return r;
	if (result.verdict == LOST_UPDATE_KEPT || result.verdict == LOST_UPDATE_SAME)
		return 0;
	r = merge_arrival(c, &hunks);
	if (r <= 0)
		return r;
	if (stale_test_passes(result.verdict, c->known.read_current))
		return 0;
	return refuse_stale(c, &result, hunks.data);
}

void gate_observe(struct workspace *ws, struct file *f, struct process *p)
{
	int64_t now = workspace_now(ws);
	uint64_t seq;

	/* S1: what somebody else has not finished is not observed; once his lease has
	 * lapsed, what is there becomes a version first. */
	if (!f->behind && f->session.by && f->session.by->writer != p->writer &&
		f->session.dirty) {
		bool closed = closing_session(ws, f); /* its release is on its way */

		if (!closed && f->lease.holder && now < f->lease.expires_ns)
			return;
		if (!(closed && behind_begin(ws, f)) &&
			session_checkpoint(ws, f, closed ? 0 : VERSION_INCOMPLETE) < 0)
			return;
	}
	/* A head that was never asked for is older than anything made from now on. */
	seq = f->head.loaded ? f->head.content.seq : journal_last_seq(ws->journal);
	if (f->head.noticed_seq)
		seq = f->head.noticed_seq;
	if (f->behind)
		seq = behind_seq(f);
	if (!seq)
		seq = 1;
	f->seen.most = rules_observations(__atomic_load_n(&ws->rules, __ATOMIC_ACQUIRE));
	if (!process_reads_blindly(p))
		observe_read(
			&f->seen, actor_process(p->serial), seq, now, f->rule.settle_ns);
	if (p->is_mind || p->is_viewer)
		observe_read(
			&f->seen, actor_mind(p->writer->id), seq, now, f->rule.settle_ns);
}
