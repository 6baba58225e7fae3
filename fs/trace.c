#include "fs/trace.h"

#include <stdlib.h>

#include "base/digest.h"
#include "fs/file.h"
#include "fs/workspace.h"

/* Few files have any of this. */
struct extra {
	struct lease lease;
	int64_t linger_ns;
	struct witness witness;
};

struct trace {
	struct current content;
	uint64_t submitted_seq;
	int64_t seen_mtime_ns;
	struct extra *extra; /* or NULL */
	bool must_sync, several, outside, checked, opened_for_both;
	uint16_t n_known;
	struct known_by known[]; /* the one who came last is last */
};

static bool lingers(const struct lease *l, int64_t now_ns)
{
	return l->holder && l->expires_ns > now_ns;
}

/* 0, also where there is nothing to keep. */
static int keep_extra(struct trace *t, const struct file *f, int64_t now_ns)
{
	bool large = f->witness.seq && f->witness.size > DIGEST_FLAT_MAX;

	if (!large && !lingers(&f->lease, now_ns))
		return 0;
	t->extra = calloc(1, sizeof(*t->extra));
	if (!t->extra)
		return -ENOMEM;
	if (large)
		t->extra->witness = f->witness;
	if (lingers(&f->lease, now_ns)) {
		t->extra->lease = f->lease;
		t->extra->linger_ns = f->linger_ns;
	}
	return 0;
}

struct trace *trace_new(const struct file *f, int64_t now_ns)
{
	struct known_by known[TRACE_ACTORS_MAX];
	unsigned n = observe_settled(
		&f->seen, now_ns, f->rule.settle_ns, known, TRACE_ACTORS_MAX);
	struct trace *t = malloc(sizeof(*t) + n * sizeof(t->known[0]));

	assert(!f->session.by && !f->pending && !f->inode);
	if (!t)
		return NULL;
	*t = (struct trace){
		.content = f->head.content,
		.submitted_seq = f->submitted_seq,
		.seen_mtime_ns = f->head.seen_mtime_ns,
		.must_sync = f->must_sync,
		.several = f->head.several,
		.outside = f->head.outside,
		.checked = f->head.checked,
		.opened_for_both = f->opened_for_both,
		.n_known = (uint16_t)n,
	};
	for (unsigned i = 0; i < n; i++)
		t->known[i] = known[i];
	if (keep_extra(t, f, now_ns) < 0)
		return trace_free(t);
	return t;
}

struct trace *trace_free(struct trace *t)
{
	if (t)
		free(t->extra);
	free(t);
	return NULL;
}

void trace_recall(const struct trace *t, struct file *f)
{
	f->head.content = t->content;
	f->head.seen_mtime_ns = t->seen_mtime_ns;
	f->head.several = t->several;
	f->head.outside = t->outside;
	f->head.checked = t->checked;
	f->submitted_seq = t->submitted_seq;
	f->must_sync = t->must_sync;
	f->opened_for_both = t->opened_for_both;
	for (unsigned i = 0; i < t->n_known; i++)
		observe_made(&f->seen, t->known[i].actor, t->known[i].seq);
	if (!t->extra)
		return;
	f->lease = t->extra->lease;
	f->linger_ns = t->extra->linger_ns;
	f->witness = t->extra->witness;
}

size_t trace_size(const struct trace *t)
{
	return sizeof(*t) + t->n_known * sizeof(t->known[0]) +
	       (t->extra ? sizeof(*t->extra) : 0);
}

bool trace_may_go(struct workspace *ws, const struct trace *t, int64_t now_ns)
{
	if (t->extra && lingers(&t->extra->lease, now_ns))
		return false;
	/* Who begins anew does not know for which rows to wait (V4). */
	return t->must_sync ? journal_is_synced(ws->journal, t->submitted_seq)
			    : journal_is_written(ws->journal, t->submitted_seq);
}
