#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "fs/behind.h"
#include "fs/durability.h"
#include "fs/notify.h"
#include "fs/ops_rename_internal.h"
#include "fs/session.h"

int rename_backing(struct rename *rn)
{
	int from = inode_fd_get(rn->ws, rn->from.parent), to, r;

	if (from < 0)
		return from;
	to = inode_fd_get(rn->ws, rn->to.parent);
	if (to < 0) {
		inode_fd_put(rn->from.parent);
		return to;
	}
	if (rn->to.inode)
		inode_keep(rn->ws, rn->to.inode);
	r = (int)syscall(SYS_renameat2, from, rn->from.name, to, rn->to.name, rn->flags);
	r = r < 0 ? -errno : 0;
	inode_fd_put(rn->to.parent);
	inode_fd_put(rn->from.parent);
	return r;
}

void rename_swap_names(struct rename *rn)
{
	if (rn->to.inode)
		inode_link_remove(rn->ws, rn->to.inode, rn->to.parent, rn->to.name);
	inode_link_add(rn->from.inode, rn->to.parent, rn->to.name);
	inode_link_remove(rn->ws, rn->from.inode, rn->from.parent, rn->from.name);
	if ((rn->flags & RENAME_EXCHANGE) && rn->to.inode)
		inode_link_add(rn->to.inode, rn->from.parent, rn->from.name);
}

static int end_init(
	struct workspace *ws, struct end *e, struct inode *parent, const char *name)
{
	int r;

	*e = (struct end){.parent = parent, .name = name};
	r = inode_lookup(ws, parent, name, &e->inode, &e->st);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r < 0)
		e->inode = NULL;
	return inode_child_path(parent, name, &e->path);
}

static void end_done(struct workspace *ws, struct end *e)
{
	if (e->inode)
		inode_forget(ws, e->inode, 1);
	buf_done(&e->path);
}

/* ---- locking both files ---- */

static struct file *file_at(struct workspace *ws, struct end *e)
{
	return e->inode ? file_of(ws, e->inode) : file_of_name(ws, e->parent, e->name);
}

static void lock_in_order(struct file *a, struct file *b)
{
	pthread_mutex_lock(a < b ? &a->lock : &b->lock);
	pthread_mutex_lock(a < b ? &b->lock : &a->lock);
}

static void unlock_both(struct rename *rn)
{
	file_unlock(rn->from.file);
	file_unlock(rn->to.file);
}

static void settle_and_unlock(struct workspace *ws, struct file *f)
{
	behind_settle(ws, f);
	file_unlock(f);
}

/* The inodes may change their files while one waits for the locks: hence the check. */
static int lock_both(struct rename *rn)
{
	struct workspace *ws = rn->ws;

	rn->to.file = rn->to.inode ? NULL : file_at(ws, &rn->to);
	if (!rn->to.inode && !rn->to.file)
		return -ENOMEM;
	for (;;) {
		rn->from.file = file_at(ws, &rn->from);
		if (rn->to.inode)
			rn->to.file = file_at(ws, &rn->to);
		if (!rn->from.file || !rn->to.file) {
			file_put(ws, rn->from.file);
			file_put(ws, rn->to.file);
			return -ENOMEM;
		}
		lock_in_order(rn->from.file, rn->to.file);
		if (rn->from.file->behind) {
			file_unlock(rn->to.file);
			settle_and_unlock(ws, rn->from.file);
		} else if (rn->to.file->behind) {
			file_unlock(rn->from.file);
			settle_and_unlock(ws, rn->to.file);
		} else if (rn->from.file->inode == rn->from.inode &&
			   rn->to.file->inode == rn->to.inode) {
			return 0;
		} else {
			unlock_both(rn);
		}
		file_put(ws, rn->from.file);
		if (rn->to.inode)
			file_put(ws, rn->to.file);
	}
}

/* ---- what a rename does to files and histories ---- */

static int capture_link(
	struct rename *rn, struct end *e, struct stat *st, struct capture *out)
{
	auto_close int fd = -1;
	char target[PATH_MAX];
	ssize_t n;
	int at;

	if (S_ISREG(e->inode->type)) {
		fd = inode_open(rn->ws, e->inode, O_RDONLY | O_NOATIME);
		if (fd < 0)
			return fd;
		if (fstat(fd, st) < 0)
			return -errno;
		return journal_capture(rn->ws->journal, fd, out);
	}
	at = inode_fd_get(rn->ws, e->inode);
	if (at < 0)
		return at;
	n = readlinkat(at, "", target, sizeof(target));
	inode_fd_put(e->inode);
	if (n < 0)
		return -errno;
	*st = e->st;
	return journal_capture_bytes(target, (size_t)n, out);
}

/* Is what arrives, untouched, what its own newest version has? Then it was captured when
 * its writer closed it, a moment ago (save by rename). */
static bool is_captured(struct rename *rn, const struct end *e)
{
	const struct head *h = &e->file->head;
	struct stat st;

	if (rn->to.file->session.merged)
		return false; /* we have just written into it */
	return S_ISREG(e->inode->type) && h->loaded && h->exists && !h->gone &&
	       h->has_hash && !e->file->session.dirty &&
	       inode_stat(rn->ws, e->inode, &st) == 0 && (uint64_t)st.st_size == h->size &&
	       st.st_nlink == 1 &&
	       st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec == h->mtime_ns &&
	       journal_has_content(rn->ws->journal, h->hash, h->size);
}

/* A version of what has come to path from another path. content moves out, where there is
 * any; what the journal has already is known by known's hash alone. */
static int record_arrival(struct rename *rn, enum version_kind kind, struct file *f,
	const struct end *at, const struct end *was, uint64_t was_number,
	const struct stat *st, struct capture *content, const struct capture *known)
{
	struct version v = {
		.kind = kind,
		.flags = f->session.merged ? VERSION_MERGED : 0,
		.epoch = f->lease.epoch,
		.base_number = f->session.by ? f->session.base_number : f->head.number,
		.from_path = was->path.data,
		.from_path_len = was->path.len,
		.from_number = was_number,
		.has_content = f->head.has_hash, /* where no other is given */
		.content = f->head.hash,
		.size = f->head.size,
	};

	if (known) {
		v.has_content = true;
		v.content = known->hash;
		v.size = known->size;
	}
	if ((content ?: known) && session_is_decision(rn->ws, f, op_by(rn->op),
					  at->path.data, at->path.len, content ?: known))
		v.flags |= VERSION_DECISION;
	return session_record(
		rn->ws, f, op_by(rn->op), at->path.data, at->path.len, st, &v, content);
}

static int record_departure(struct rename *rn, struct file *f)
{
	struct version v = {
		.kind = VERSION_DELETE,
		.epoch = f->lease.epoch,
		.base_number = f->head.number,
		.from_path = rn->to.path.data,
		.from_path_len = rn->to.path.len,
	};

	return session_record(rn->ws, f, op_by(rn->op), rn->from.path.data,
		rn->from.path.len, NULL, &v, NULL);
}

/* S12 for what comes by rename: before anybody can see it at its new path. */
static void raise_arrival(struct rename *rn, struct end *e, const struct head *head)
{
	auto_close int fd = -1;

	if (!S_ISREG(e->inode->type) || inode_stat(rn->ws, e->inode, &e->st) < 0)
		return;
	if (!head->exists || !head->mtime_ns ||
		e->st.st_mtim.tv_sec * NS_PER_S + e->st.st_mtim.tv_nsec > head->mtime_ns)
		return;
	fd = inode_open(rn->ws, e->inode, O_RDONLY);
	if (fd < 0 || fstat(fd, &e->st) < 0)
		return;
	if (session_raise_mtime(fd, head, &e->st))
		notify_attr(rn->ws, e->inode);
}

/* The rename is done and whole: what a crash finds there later is told from that. */
static void mark_arrived(struct rename *rn, struct file *to)
{
	struct stat st;

	if (!to->session.by || inode_stat(rn->ws, rn->from.inode, &st) < 0)
		return;
	intents_mark_closed(rn->ws->intents, to->session.slot, &st);
	to->session.closed = true;
}

/* The target's history goes on with the inode that arrives (S10). */
static int replace(struct rename *rn)
{
	struct workspace *ws = rn->ws;
	struct file *from = rn->from.file, *to = rn->to.file;
	struct capture content = CAPTURE_NONE;
	uint64_t number = from->head.number;
	bool captured = is_captured(rn, &rn->from);
	const struct capture known = {.hash = from->head.hash, .size = from->head.size};
	struct stat st;
	int r = 0;

	raise_arrival(rn, &rn->from, &to->head);
	if (rn->to.inode && rn->to.st.st_nlink > 1)
		rn->lost = to->head;
	if (captured)
		st = rn->from.st;
	else
		r = capture_link(rn, &rn->from, &st, &content);
	if (r == 0)
		r = rename_backing(rn);
	if (r < 0) {
		capture_done(&content);
		return r;
	}
	rename_swap_names(rn);
	mark_arrived(rn, to);
	gate_fence_others(to, op_by(rn->op)->writer);
	(void)!file_leave_inode(ws, to);
	file_attach(ws, from, NULL);
	file_attach(ws, to, rn->from.inode);
	file_move_handles(from, to);
	r = record_arrival(rn, VERSION_REPLACE, to, &rn->to, &rn->from, number, &st,
		captured ? NULL : &content, captured ? &known : NULL);
	capture_done(&content);
	if (r == 0)
		r = record_departure(rn, from);
	return r;
}

/* Nothing has ever been at the target: the file itself moves, with all that is known of
 * it; its old path gets an end. */
static int move(struct rename *rn)
{
	struct workspace *ws = rn->ws;
	struct file *from = rn->from.file, *to = rn->to.file;
	struct head was = from->head;
	uint64_t last_number = to->head.last_number;
	int r = rename_backing(rn);

	if (r < 0)
		return r;
	rename_swap_names(rn);
	mark_arrived(rn, to);
	/* to becomes what is left at the old path; it was never known by another name. */
	to->head = was;
	to->submitted_seq = from->submitted_seq;
	from->head.number = from->session.base_number = 0;
	from->head.last_number = last_number;
	from->head.path = hash128_bytes(rn->to.path.data, rn->to.path.len);
	from->rule_epoch = to->rule_epoch = 0;
	r = record_arrival(rn, VERSION_MOVE, from, &rn->to, &rn->from, was.number,
		&rn->from.st, NULL, NULL);
	if (r == 0)
		r = record_departure(rn, to);
	file_ref(to);
	file_park(ws, to, rn->from.parent, rn->from.name);
	return r;
}

static int exchange(struct rename *rn)
{
	struct workspace *ws = rn->ws;
	struct file *from = rn->from.file, *to = rn->to.file;
	struct capture a = CAPTURE_NONE, b = CAPTURE_NONE;
	uint64_t from_number = from->head.number, to_number = to->head.number;
	struct stat st_a, st_b;
	int r;

	raise_arrival(rn, &rn->from, &to->head);
	raise_arrival(rn, &rn->to, &from->head);
	r = capture_link(rn, &rn->from, &st_a, &a);
	if (r == 0)
		r = capture_link(rn, &rn->to, &st_b, &b);
	if (r == 0)
		r = rename_backing(rn);
	if (r == 0) {
		rename_swap_names(rn);
		gate_fence_others(from, op_by(rn->op)->writer);
		gate_fence_others(to, op_by(rn->op)->writer);
		file_attach(ws, from, NULL);
		file_attach(ws, to, NULL);
		file_attach(ws, to, rn->from.inode);
		file_attach(ws, from, rn->to.inode);
		file_swap_handles(from, to);
		r = record_arrival(rn, VERSION_REPLACE, to, &rn->to, &rn->from, from_number,
			&st_a, &a, NULL);
		if (r == 0)
			r = record_arrival(rn, VERSION_REPLACE, from, &rn->from, &rn->to,
				to_number, &st_b, &b, NULL);
	}
	capture_done(&a);
	capture_done(&b);
	return r;
}

/* ---- through the gate ---- */

static struct change departure(struct rename *rn)
{
	struct change c = change_of(rn->op, rn->from.file, rn->from.inode, NULL,
		CHANGE_BLIND, "rename", &rn->from.path);

	c.intent = INTENT_UNLINK;
	c.removes = true;
	return c;
}

static struct change arrival(struct rename *rn)
{
	struct change c = change_of(rn->op, rn->to.file, rn->to.inode, NULL, CHANGE_WHOLE,
		"replace", &rn->to.path);

	c.intent = INTENT_RENAME;
	if (!rn->to.inode) {
		c.parent = rn->to.parent;
		c.name = rn->to.name;
	}
	c.moved = rn->from.inode;
	c.from_path = rn->from.path.data;
	c.from_path_len = rn->from.path.len;
	c.to_path = rn->to.path.data;
	c.to_path_len = rn->to.path.len;
	return c;
}

/* The arriving content may have been captured while it is still being written: its own
 * session ends here, so that its bytes are settled. */
static int act(struct rename *rn, bool recorded_from, bool recorded_to)
{
	int r = 0;

	if (recorded_from)
		r = session_checkpoint(rn->ws, rn->from.file, 0);
	if (r == 0 && recorded_to)
		r = session_checkpoint(rn->ws, rn->to.file, 0);
	if (r < 0)
		return r;
	if ((rn->flags & RENAME_EXCHANGE) && rn->to.inode)
		return exchange(rn);
	if (!recorded_from && !recorded_to) {
		r = rename_backing(rn);
		if (r == 0)
			rename_swap_names(rn);
		return r;
	}
	if (rn->to.inode || rn->to.file->head.exists || !recorded_from)
		return replace(rn);
	return move(rn);
}

static int rename_entered(struct rename *rn, struct change *from, struct change *to)
{
	bool from_recorded, to_recorded;
	int r = gate_enter(from);

	rn->deferred = r == GATE_PARKED;
	if (r < 0 || rn->deferred)
		return r;
	from_recorded = r != GATE_UNGUARDED;
	r = gate_enter(to);
	rn->deferred = r == GATE_PARKED;
	if (r < 0 || rn->deferred) {
		gate_leave(from, -EAGAIN);
		return r;
	}
	to_recorded = r != GATE_UNGUARDED;
	r = act(rn, from_recorded, to_recorded);
	gate_leave(to, r);
	gate_leave(from, r);
	return r;
}

static int rename_locked(struct rename *rn)
{
	struct change from = departure(rn), to = arrival(rn);
	int r = rename_entered(rn, &from, &to);

	if (to.new_fd >= 0)
		close(to.new_fd);
	return r;
}

static int durable_rename(struct rename *rn, const struct rule *rule)
{
	int r = durable_name(rn->ws, rn->to.parent, rule);

	if (r == 0 && rn->from.parent != rn->to.parent)
		r = durable_name(rn->ws, rn->from.parent, rule);
	return r;
}

/* The file that was at to goes on under another of its names. No lock is held. */
static int tell_what_was_replaced(struct rename *rn)
{
	struct file *f;
	int r;

	if (!rn->lost.exists)
		return 0;
	f = file_lock_of(rn->ws, rn->to.inode);
	if (!f)
		return -ENOMEM;
	r = record_other_name(rn->op, f, rn->to.inode, &rn->to.path, &rn->lost);
	file_unlock(f);
	file_put(rn->ws, f);
	return r;
}

int rename_guarded(struct rename *rn)
{
	struct workspace *ws = rn->ws;
	struct rule rule;
	int r;

	gate_prepare(ws, rn->from.inode, op_by(rn->op));
	if (rn->to.inode)
		gate_prepare(ws, rn->to.inode, op_by(rn->op));
	r = lock_both(rn);
	if (r < 0)
		return r;
	r = rename_locked(rn);
	if (!rn->to.file->inode && r != 0) {
		file_ref(rn->to.file);
		file_park(ws, rn->to.file, rn->to.parent, path_name(&rn->to.path));
	}
	if (!rn->from.file->inode && r == 0) {
		file_ref(rn->from.file);
		file_park(ws, rn->from.file, rn->from.parent, rn->from.name);
	}
	rule = rn->to.file->rule;
	unlock_both(rn); /* a parked op may be gone from here on */
	file_put(ws, rn->from.file);
	file_put(ws, rn->to.file);
	r = r ? r : tell_what_was_replaced(rn);
	return r ? r : durable_rename(rn, &rule);
}

static int rename_checked(struct rename *rn)
{
	if (!rn->from.inode)
		return -ENOENT;
	if ((rn->flags & RENAME_NOREPLACE) && rn->to.inode)
		return -EEXIST;
	if ((rn->flags & RENAME_EXCHANGE) && !rn->to.inode)
		return -ENOENT;
	if (rn->from.inode == rn->to.inode) /* two names of one file: POSIX does nothing */
		return rename_backing(rn);
	if (!is_guardable(rn->from.inode) || (rn->to.inode && !is_guardable(rn->to.inode)))
		return rename_special(rn);
	return rename_guarded(rn);
}

static int ends_init(struct rename *rn)
{
	struct op *op = rn->op;
	int r = end_init(rn->ws, &rn->from, inode_of(rn->ws, op->ino), op->name);

	return r
		       ?: end_init(rn->ws, &rn->to, inode_of(rn->ws, op->new_parent),
				  op->new_name);
}

static void ends_done(struct rename *rn)
{
	end_done(rn->ws, &rn->from);
	end_done(rn->ws, &rn->to);
	rn->from = rn->to = (struct end){0};
}

/* A file's rename holds the names; a folder's moves them. */
static void run_rename(struct op *op)
{
	struct rename rn = {.op = op, .ws = op->ws, .flags = (unsigned)op->flags};
	int r;

	do {
		auto_names *names = names_hold(&rn.ws->names);

		r = ends_init(&rn);
		if (is_of_folders(&rn))
			names_let_go(steal_ptr(names));
		if (r == 0)
			r = rename_checked(&rn);
		ends_done(&rn);
	} while (r == -ERESTART);
	if (!rn.deferred)
		op_reply_err(op, -r);
}

static void do_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
	fuse_ino_t new_parent, const char *new_name, unsigned flags)
{
	struct op op = op_begin(req, run_rename);

	if (op_refuse_virtual(req, parent) || op_refuse_virtual(req, new_parent))
		return;
	if (is_stomp_entry(parent, name) || is_stomp_entry(new_parent, new_name)) {
		fuse_reply_err(req, EPERM);
		return;
	}
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	op.ino = parent;
	op.name = name;
	op.new_parent = new_parent;
	op.new_name = new_name;
	op.flags = (int)flags;
	run_rename(&op);
}

void ops_install_rename(struct fuse_lowlevel_ops *ops)
{
	ops->rename = do_rename;
}
