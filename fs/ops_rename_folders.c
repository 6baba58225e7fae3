#include <stdio.h>
#include <string.h>

#include "fs/ops_rename_internal.h"
#include "fs/retire.h"
#include "fs/session.h"

/* What a rename of folders is told by, in this order. */
struct told {
	struct buf aside;     /* where one is while two change places */
	uint64_t removed;     /* seq: an empty folder was there, and is no more; or 0 */
	uint64_t first, last; /* seqs of the renames */
	uint32_t slot;	      /* V4 */
};

static int journal_folder(
	struct rename *rn, struct told *told, const struct buf *from, const struct buf *to)
{
	struct author author = author_of(op_by(rn->op));
	int r = journal_next_seq(rn->ws->journal, &told->last);

	return r
		       ?: journal_rename_folder(rn->ws->journal, told->last, from->data,
				  from->len, to->data, to->len, &author);
}

/* Names are ours to move, and have moved. */
static int tell_of_folders(struct rename *rn, struct told *told)
{
	bool exchange = rn->flags & RENAME_EXCHANGE;
	bool two = exchange && S_ISDIR(rn->to.inode->type);
	int r = 0;

	__atomic_fetch_add(&rn->ws->rule_epoch, 1, __ATOMIC_ACQ_REL);
	buf_printf(&told->aside, ".stomp/exchange/%llu",
		(unsigned long long)journal_last_seq(rn->ws->journal));
	if (!exchange && rn->to.inode && S_ISDIR(rn->to.inode->type))
		r = journal_next_seq(rn->ws->journal, &told->removed);
	if (r == 0 && two) /* as two folders change places: one steps aside */
		r = journal_folder(rn, told, &rn->to.path, &told->aside);
	if (r == 0 && S_ISDIR(rn->from.inode->type))
		r = journal_folder(rn, told, &rn->from.path, &rn->to.path);
	if (r == 0 && two)
		r = journal_folder(rn, told, &told->aside, &rn->from.path);
	return r;
}

/* V4: what was written below the folder is found there after kill -9, whose it was as
 * well. Of two that change places, only the rows tell. */
static int note_folder(struct rename *rn, struct told *told)
{
	struct author author = author_of(op_by(rn->op));
	struct intent intent = {
		.kind = INTENT_RENAME,
		.path = rn->from.path.data,
		.path_len = rn->from.path.len,
		.to_path = rn->to.path.data,
		.to_path_len = rn->to.path.len,
		.dev = rn->from.inode->dev,
		.ino = rn->from.inode->ino,
		.seq = journal_last_seq(rn->ws->journal),
		.writer = author.name,
		.rule = author.rule,
		.command = author.command,
		.uid = author.uid,
		.pid = author.pid,
		.start_ns = author.start_ns,
	};

	told->slot = INTENT_NONE;
	if (rn->flags & RENAME_EXCHANGE)
		return 0;
	return retire_begin(rn->ws, &intent, &told->slot);
}

/* Has a rename of a folder above changed one of them since it was worked out? */
static bool path_has_moved(const struct end *e)
{
	auto_buf now = {0};

	return inode_child_path(e->parent, e->name, &now) < 0 || now.len != e->path.len ||
	       memcmp(now.data, e->path.data, now.len) != 0;
}

/* Nobody works with a path meanwhile: what is told before it has the old ones, what is
 * told after it the new ones. -ERESTART: the paths are others by now. */
static int move_folders(struct rename *rn, struct told *told)
{
	int r = -ERESTART;

	names_move(&rn->ws->names);
	if (!path_has_moved(&rn->from) && !path_has_moved(&rn->to))
		r = note_folder(rn, told);
	if (r == 0)
		r = rename_backing(rn);
	if (r == 0) {
		rename_swap_names(rn);
		r = tell_of_folders(rn, told);
	}
	names_moved(&rn->ws->names);
	return r;
}

int rename_folders(struct rename *rn)
{
	struct told told = {.slot = INTENT_NONE};
	int r = move_folders(rn, &told);

	if (r == 0 && told.removed)
		r = record_rmdir(rn->op, rn->to.parent, rn->to.name, &rn->to.path,
			&rn->to.st, told.removed);
	if (r == 0 && told.last)
		session_await_row(rn->ws, told.last);
	retire_slot(rn->ws, told.slot, told.last, false);
	buf_done(&told.aside);
	return r;
}
