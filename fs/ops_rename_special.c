#include <fcntl.h>
#include <stdio.h>

#include "fs/ops.h"
#include "fs/ops_rename_internal.h"
#include "fs/session.h"
#include "fs/state.h"

static int rename_unguarded(struct rename *rn)
{
	int r = journal_health(rn->ws->journal);

	r = r < 0 ? r : gate_check_folder(rn->op, &rn->from.path, "rename");
	r = r < 0 ? r : gate_check_folder(rn->op, &rn->to.path, "replace");
	if (r == 0 && is_of_folders(rn)) {
		/* What was closed in it is told of under its old name. */
		state_settle(rn->ws, SETTLE_WAIT_MS);
		return rename_folders(rn);
	}
	if (r == 0)
		r = rename_backing(rn);
	if (r == 0)
		rename_swap_names(rn);
	return r;
}

/* A pipe, socket or device has no content of its own, the names have histories
 * (V3): to the file or symlink at from it is as if nothing were at to. */
static int rename_onto_special(struct rename *rn)
{
	bool exchanges = rn->flags & RENAME_EXCHANGE;
	struct inode *special = rn->to.inode;
	int r;

	rn->to.inode = NULL;
	r = rename_guarded(rn);
	rn->to.inode = special;
	if (r != 0 || rn->deferred)
		return r;
	inode_link_remove(rn->ws, special, rn->to.parent, rn->to.name);
	if (exchanges)
		inode_link_add(special, rn->from.parent, rn->from.name);
	return 0;
}

static int exchange_with_special(struct rename *rn)
{
	int r = journal_health(rn->ws->journal);

	if (!is_guardable(rn->from.inode)) { /* which of the two is called what, is one */
		struct end from = rn->from;

		rn->from = rn->to;
		rn->to = from;
	}
	return r < 0 ? r : rename_onto_special(rn);
}

static int act_replace(struct removal *rm)
{
	struct rename *rn = rm->ctx;
	int r = rename_backing(rn);

	if (r == 0)
		rename_swap_names(rn);
	return r;
}

/* A pipe, socket or device takes the name of a file: to that it is an unlink, with the same
 * lease, base and history (V1, S6, S10). */
static int special_onto_file(struct rename *rn)
{
	struct removal rm = {
		.op = rn->op,
		.parent = rn->to.parent,
		.inode = rn->to.inode,
		.name = rn->to.name,
		.path = &rn->to.path,
		.nlink = rn->to.st.st_nlink,
		.asked = "replace",
		.act = act_replace,
		.ctx = rn,
	};
	int r = journal_health(rn->ws->journal);

	r = r < 0 ? r : gate_check_folder(rn->op, &rn->from.path, "rename");
	r = r < 0 ? r : remove_name(&rm);
	rn->deferred = r == GATE_PARKED;
	return r;
}

int rename_special(struct rename *rn)
{
	bool from = is_guardable(rn->from.inode), to = is_guardable(rn->to.inode);

	if (is_of_folders(rn))
		return rename_unguarded(rn);
	if ((rn->flags & RENAME_EXCHANGE) && from != to)
		return exchange_with_special(rn);
	if (from)
		return rename_onto_special(rn);
	return to ? special_onto_file(rn) : rename_unguarded(rn);
}
