#include "fs/session.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "fs/behind.h"
#include "fs/capture.h"
#include "fs/closing.h"
#include "fs/contents.h"
#include "fs/external.h"
#include "fs/handle.h"
#include "fs/inode.h"
#include "fs/notify.h"
#include "fs/policy_file.h"
#include "fs/retire.h"
#include "fs/workspace.h"

static int64_t mtime_ns(const struct stat *st)
{
	return st->st_mtim.tv_sec * NS_PER_S + st->st_mtim.tv_nsec;
}

struct author author_of(const struct process *p)
{
	if (!p)
		return (struct author){0};
	return (struct author){
		.name = p->writer->name,
		.uid = p->writer->uid,
		.pid = p->pid,
		.start_ns = p->start_ns,
		.rule = writer_rule_name(p->rule),
		.command = p->command,
		.root_pid = p->root_pid,
		.root_start_ns = p->root_start_ns,
	};
}

bool session_raise_mtime(int fd, const struct head *head, struct stat *st)
{
	int64_t floor = head->mtime_ns + NS_PER_MS;
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};

	if (!head->exists || !head->mtime_ns || mtime_ns(st) > head->mtime_ns)
		return false;
	times[1].tv_sec = floor / NS_PER_S;
	times[1].tv_nsec = floor % NS_PER_S;
	if (futimens(fd, times) < 0)
		return false;
	st->st_mtim = times[1];
	return true;
}

/* Kinds that bring content of their author's; the others keep what was there. */
static bool makes_content(enum version_kind kind)
{
	return kind == VERSION_WRITE || kind == VERSION_REPLACE || kind == VERSION_DELETE ||
	       kind == VERSION_SYMLINK || kind == VERSION_INITIAL ||
	       kind == VERSION_EXTERNAL;
}

static void head_advance(struct workspace *ws, struct file *f, const struct process *p,
	const struct version *v)
{
	struct head *h = &f->head;
	bool same = h->exists && !h->gone && h->has_hash && v->has_content &&
		    h->size == v->size && hash128_equal(h->hash, v->content);

	/* Put there anew with the same bytes, it is still the content it was: nobody who
	 * knew it has missed anything. */
	if (makes_content(v->kind) && !same) {
		h->content.seq = v->seq;
		h->content.made_ns = workspace_now(ws);
		h->content.author = p ? p->writer : NULL;
		h->outside = v->kind == VERSION_EXTERNAL || (v->flags & VERSION_OUTSIDE);
		/* Of two writers, and neither has seen it, or of nobody here: it is no
		 * one's own. */
		if ((v->flags & VERSION_MERGED) || h->outside)
			h->content.author = identity_daemon(ws->identity)->writer;
	}
	h->loaded = h->exists = true;
	h->gone = v->kind == VERSION_DELETE;
	h->number = h->last_number = v->number;
	h->seq = v->seq;
	h->has_hash = v->has_content;
	h->hash = v->content;
	h->size = v->size;
	h->mode = v->mode;
	h->uid = v->uid;
	h->gid = v->gid;
	/* S12 is about contents: a new mode, and the mtime may still be set as before. */
	if (v->kind != VERSION_MODE)
		h->previous_mtime_ns = h->mtime_ns;
	if (v->mtime_ns)
		h->mtime_ns = v->mtime_ns;
}

int session_record(struct workspace *ws, struct file *f, const struct process *p,
	const char *path, size_t path_len, const struct stat *st, struct version *v,
	struct capture *content)
{
	int r = file_load_head(ws, f, path, path_len);

	if (r == 0 && !v->seq)
		r = journal_next_seq(ws->journal, &v->seq);
	if (r < 0)
		return r;
	v->path = path;
	v->path_len = path_len;
	v->number = f->head.last_number + 1;
	if (!v->time_ns)
		v->time_ns = clock_wall_ns(ws->clock);
	if (p)
		v->author = author_of(p);
	if (st) {
		v->mode = st->st_mode;
		v->uid = st->st_uid;
		v->gid = st->st_gid;
		v->mtime_ns = mtime_ns(st);
	}
	if (content) {
		v->has_content = true;
		v->content = content->hash;
		v->size = content->size;
	}
	r = journal_append(ws->journal, v, content);
	if (r < 0)
		return r;
	head_advance(ws, f, p, v);
	/* Whoever has looked at the file himself may say more. */
	f->witness.seq = 0;
	session_will_change_all(f);
	f->submitted_seq = v->seq;
	policy_file_changed(ws, path, path_len);
	if (p && makes_content(v->kind) &&
		!(v->flags & VERSION_MERGED)) { /* S1: whoever makes a version knows it */
		observe_made(&f->seen, actor_mind(p->writer->id), v->seq);
		observe_made(&f->seen, actor_process(p->serial), v->seq);
	}
	return 0;
}

void session_await_row(struct workspace *ws, uint64_t seq)
{
	(void)!journal_keep(ws->journal, seq);
}

int session_record_found(struct workspace *ws, struct file *f, const char *path,
	size_t path_len, struct version *v)
{
	struct capture content = CAPTURE_NONE;
	bool raised = false;
	struct stat st;
	int r = capture_file(ws, f, v->kind != VERSION_INITIAL, &st, &content, &raised);

	if (r < 0)
		return r;
	r = session_record(ws, f, NULL, path, path_len, &st, v, &content);
	capture_done(&content);
	if (r == 0)
		capture_witness(f, &st);
	if (raised)
		notify_attr(ws, f->inode);
	return r;
}

int session_record_initial(
	struct workspace *ws, struct file *f, const char *path, size_t path_len)
{
	struct version v = {.kind = VERSION_INITIAL};

	if (!f->inode || (f->head.exists && !f->head.gone))
		return 0;
	if (!S_ISREG(f->inode->type) && !S_ISLNK(f->inode->type))
		return 0;
	return session_record_found(ws, f, path, path_len, &v);
}

/* Which number the writer's base has; for the record and for people. */
static uint64_t base_number_of(
	struct workspace *ws, const struct file *f, const struct change *c)
{
	if (!f->head.exists)
		return 0;
	if (c->known.base_seq >= f->head.content.seq)
		return f->head.number;
	return contents_base_number(ws, c->path, c->path_len, c->known.base_seq);
}

static int note_intent(struct workspace *ws, struct file *f, const struct change *c)
{
	const struct inode *subject = c->moved ? c->moved : c->inode;
	struct author author = author_of(c->by);
	struct intent intent = {
		.kind = c->intent,
		.path = c->from_path ? c->from_path : c->path,
		.path_len = c->from_path ? c->from_path_len : c->path_len,
		.to_path = c->to_path,
		.to_path_len = c->to_path_len,
		.dev = subject ? subject->dev : 0,
		.ino = subject ? subject->ino : 0,
		.epoch = f->lease.epoch,
		.base_number = f->session.base_number,
		.seq = journal_last_seq(ws->journal), /* names are held */
		.writer = author.name,
		.rule = author.rule,
		.command = author.command,
		.uid = author.uid,
		.pid = author.pid,
		.start_ns = author.start_ns,
	};

	return retire_begin(ws, &intent, &f->session.slot);
}

static void session_open(struct workspace *ws, struct file *f, struct change *c)
{
	f->session.by = process_ref(c->by);
	f->session.epoch = f->lease.epoch;
	f->session.dirty = false;
	f->session.checkpoint_ns = workspace_now(ws) + f->rule.checkpoint_ns;
	file_ref(f);
	pthread_mutex_lock(&ws->sessions_lock);
	list_append(&ws->sessions, &f->session.node);
	if (f->session.checkpoint_ns < ws->sessions_look_ns) {
		ws->sessions_look_ns = f->session.checkpoint_ns; /* once is enough */
		pthread_cond_signal(&ws->sessions_cond);
	}
	pthread_mutex_unlock(&ws->sessions_lock);
}

static void session_close(struct workspace *ws, struct file *f)
{
	pthread_mutex_lock(&ws->sessions_lock);
	list_remove(&f->session.node);
	pthread_mutex_unlock(&ws->sessions_lock);
	process_put(ws->identity, f->session.by);
	f->session.by = NULL;
	f->session.dirty = false;
	f->session.judged = false;
	f->session.merged = false;
	f->session.closed = f->session.synced = false;
	f->session.slot = INTENT_NONE;
	session_will_change_all(f);
	file_put(ws, f); /* not the last: the caller holds one */
}

bool session_mark_closed(struct workspace *ws, struct file *f, int fd)
{
	struct stat st;
	bool raised;

	if (fstat(fd, &st) < 0)
		return false;
	/* As it will be recorded (S12). */
	raised = session_raise_mtime(fd, &f->head, &st);
	if (raised)
		notify_attr(ws, f->inode);
	intents_mark_closed(ws->intents, f->session.slot, &st);
	f->session.closed = true;
	return raised;
}

void session_mark_open(struct workspace *ws, struct file *f)
{
	if (f->session.closed)
		intents_mark_open(ws->intents, f->session.slot);
	f->session.closed = false;
}

/* V4: what a crash would have to find on disk must be in the journal before it is
 * overwritten. */
static int await_earlier(struct workspace *ws, struct file *f)
{
	bool sync = f->must_sync && !journal_is_synced(ws->journal, f->submitted_seq);
	int r = sync ? journal_sync(ws->journal, f->submitted_seq)
		     : journal_keep(ws->journal, f->submitted_seq);

	if (r == 0)
		f->must_sync = false;
	return r;
}

int session_settle(struct workspace *ws, struct file *f)
{
	if (!f->session.by || !f->session.dirty || !closing_session(ws, f))
		return 0;
	return session_checkpoint(ws, f, 0);
}

/* V1, V4: the writer has closed what it wrote before; what follows is another session. */
static int join_session(struct workspace *ws, struct file *f)
{
	int r;

	if (!f->session.dirty || !closing_session(ws, f))
		return 0;
	r = session_checkpoint(ws, f, 0);
	f->must_sync |= f->session.synced;
	return r < 0 ? r : await_earlier(ws, f);
}

/* What is there now, before the first change. */
static void look_at_file(struct workspace *ws, struct file *f, const struct change *c)
{
	struct stat st = c->st;

	if (!c->inode || (!c->has_st && inode_stat(ws, c->inode, &st) < 0))
		return;
	capture_begin(f, &st);
	/* S12: a touch since the newest version is what readers have seen of it. */
	if (f->head.mtime_ns && mtime_ns(&st) > f->head.mtime_ns)
		f->head.mtime_ns = mtime_ns(&st);
}

int session_begin(struct workspace *ws, struct change *c)
{
	struct file *f = c->file;
	int r = journal_health(ws->journal);

	if (r < 0)
		return r; /* V7: refused before it happens */
	if (f->session.by) {
		assert(f->session.by->writer == c->by->writer);
		/* It was opened before; only now is known what it builds on. */
		if (!c->keeps_content && !f->session.dirty && !f->session.judged)
			f->session.base_number = base_number_of(ws, f, c);
		r = join_session(ws, f);
		if (r == 0 && !c->keeps_content)
			session_mark_open(ws, f);
		return r;
	}
	r = await_earlier(ws, f);
	if (r < 0)
		return r;
	if (c->inode && (!f->head.exists || f->head.gone)) { /* V2 */
		r = session_record_initial(ws, f, c->path, c->path_len);
		if (r == 0)
			r = journal_keep(ws->journal, f->submitted_seq);
		if (r < 0)
			return r;
	}
	look_at_file(ws, f, c);
	f->session.base_number = base_number_of(ws, f, c);
	r = note_intent(ws, f, c);
	if (r < 0)
		return r;
	session_open(ws, f, c);
	return 0;
}

void session_cancel(struct workspace *ws, struct file *f)
{
	if (!f->session.by)
		return;
	intents_end(ws->intents, f->session.slot);
	session_close(ws, f);
}

struct sought {
	struct hash128 hash;
	uint64_t size;
};

static int is_sought(const struct version *v, void *ctx)
{
	const struct sought *sought = ctx;

	return v->has_content && v->size == sought->size &&
	       hash128_equal(v->content, sought->hash);
}

/* S5: who knows what somebody else made, and puts back what was there before, has decided
 * so. Only asked when the journal has had these bytes before, which is rare. */
bool session_is_decision(struct workspace *ws, const struct file *f,
	const struct process *p, const char *path, size_t path_len,
	const struct capture *content)
{
	enum { VERSIONS_LOOKED_AT = 64 };
	struct sought sought = {content->hash, content->size};
	struct log_filter filter = {
		.path = path, .path_len = path_len, .limit = VERSIONS_LOOKED_AT};

	if (!p || !f->head.content.author || f->head.content.author == p->writer ||
		(f->head.has_hash && hash128_equal(f->head.hash, content->hash)) ||
		!journal_has_content(ws->journal, content->hash, content->size))
		return false;
	return journal_log(ws->journal, &filter, is_sought, &sought) == 1;
}

/* Does what was captured differ from the newest version in anything but its mode? */
static bool is_head(const struct file *f, const struct capture *content)
{
	return f->head.exists && !f->head.gone && f->head.has_hash &&
	       f->head.size == content->size && hash128_equal(f->head.hash, content->hash);
}

/* The version that tells of the session, if there is anything to tell. */
static int record_session(struct workspace *ws, struct file *f, const char *path,
	size_t path_len, uint32_t flags)
{
	struct version v = {
		.kind = VERSION_WRITE,
		.flags = flags | (f->session.merged ? VERSION_MERGED : 0),
		.epoch = f->session.epoch,
		.base_number = f->session.base_number,
	};
	struct capture content = CAPTURE_NONE;
	bool raised, same;
	struct stat st;
	int r = file_load_head(ws, f, path, path_len);

	r = r < 0 ? r : capture_file(ws, f, true, &st, &content, &raised);
	if (r < 0)
		return r;
	behind_stamp(f, &v, path, path_len);
	same = is_head(f, &content);
	if (same) {
		capture_done(&content);
		v.kind = VERSION_MODE;
		v.has_content = true;
		v.content = f->head.hash;
		v.size = f->head.size;
	} else if (session_is_decision(ws, f, f->session.by, path, path_len, &content)) {
		v.flags |= VERSION_DECISION;
	}
	if (!same || f->head.mode != st.st_mode) /* V1: no change, no version */
		r = session_record(ws, f, f->session.by, path, path_len, &st, &v,
			same ? NULL : &content);
	else
		external_touched(f, &st);
	capture_done(&content);
	if (r == 0) {
		capture_witness(f, &st);
		capture_follow(f);
	}
	if (raised)
		notify_attr(ws, f->inode);
	return r;
}

int session_checkpoint(struct workspace *ws, struct file *f, uint32_t flags)
{
	auto_buf path = {0};
	bool was_dirty = f->session.dirty;
	int r = 0;

	if (!f->session.by)
		return 0;
	if (f->session.dirty && f->inode && inode_path(f->inode, &path) == 0) {
		r = record_session(ws, f, path.data, path.len, flags);
		if (r < 0)
			return r; /* the session and its intent stay: tried again later */
	} else if (f->session.dirty) {
		dirty_all(&f->session.ranges);
	}
	f->session.dirty = false;
	if (was_dirty)
		f->session.base_number = f->head.number;
	f->session.checkpoint_ns = workspace_now(ws) + f->rule.checkpoint_ns;
	return 0;
}

int session_finish(struct workspace *ws, struct file *f, uint32_t flags)
{
	int r;

	if (!f->session.by)
		return 0;
	r = session_checkpoint(ws, f, flags);
	if (r < 0)
		return r;
	retire_slot(ws, f->session.slot, f->submitted_seq, f->session.synced);
	f->must_sync |= f->session.synced;
	session_close(ws, f);
	return 0;
}
