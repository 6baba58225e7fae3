/*
 * undo_plan.h - what has to be done so that some versions were never made.
 *
 * Every file that the versions touched is followed through its renames as one line of
 * states. Each run of consecutive selected versions is taken out by a three-way merge
 * (base: what the run left, ours: what is there now, theirs: what was before it), newest
 * run first, so that what others changed stays. Content, mode, owner and name are merged
 * each by itself. What does not fit together has a reason and nothing is planned for it.
 *
 * Reads through .stomp/ alone, changes nothing. No threads. Errors: -errno.
 */
#ifndef STOMP_CLI_UNDO_PLAN_H
#define STOMP_CLI_UNDO_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "cli/workspace.h"

enum node_type { NODE_FILE, NODE_LINK, NODE_FOLDER, NODE_OTHER };

/* What a path is, or was. Strings live as long as the plan. */
struct node {
	bool exists;
	enum node_type type;
	const char *path;
	const char *hash; /* of the content; NULL: it has none */
	/* Where the content is: history/source/number, or made by a merge. */
	const char *source;
	uint64_t number;
	const struct buf *made;
	mode_t mode;
	uid_t uid;
	gid_t gid;
};

/* One file: from what it is now to what it is to be. */
struct undo_file {
	struct node from, to;
	bool merged;	    /* others' later changes are kept in the content */
	const char *reason; /* why it cannot be; NULL: it can */
};

/* Which versions. Paths are relative to the workspace. */
struct selection {
	uint64_t set; /* or 0: all of writer's */
	const char *writer;
	uint64_t since_seq; /* only what came after it; 0: from the beginning */
	char *const *paths; /* only these and what is below; none: all */
	unsigned n_paths;
};

struct undo_plan;

/* *plan is the caller's, also after an error. -ENOENT: no such set or writer. -E2BIG: of
 * one file more versions than a table of .stomp/ can show. */
must_check int undo_plan_new(const struct workspace *ws, const struct selection *selection,
	struct undo_plan **plan);
struct undo_plan *undo_plan_free(struct undo_plan *plan);

/* In the order in which they are to be done: folders made, files, folders removed. Files
 * for which there is nothing to do are left out. */
size_t undo_plan_files(const struct undo_plan *plan, const struct undo_file **files);

size_t undo_plan_n_versions(const struct undo_plan *plan);

/* The same thing at the same place? */
bool node_same(const struct node *a, const struct node *b);
bool node_same_content(const struct node *a, const struct node *b);

#endif
