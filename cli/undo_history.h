/*
 * undo_history.h - the histories of files as lines of states, for undo_plan.
 *
 * Plain data, made by reading .stomp/ and then left alone. Everything lives as long as the
 * histories. No threads. Errors: -errno.
 */
#ifndef STOMP_CLI_UNDO_HISTORY_H
#define STOMP_CLI_UNDO_HISTORY_H

#include "cli/undo_plan.h"
#include "cli/versions.h"

/* A version, as the step to a state. */
struct step {
	uint64_t seq, number, base;
	const char *kind, *writer; /* writer NULL: nobody's */
	const char *other;	   /* the other path of a rename, or NULL */
	uint64_t other_number;
	bool selected;
	bool gap; /* versions before it were collected: whose work it holds is not known */
	struct node after;
};

/* The versions of one path, oldest first. */
struct timeline {
	const char *path;
	struct step *steps;
	size_t n;
	struct version_list list, before; /* what the strings live in */
};

/* One file through its renames: steps of several paths, oldest first. */
struct lineage {
	const char *path; /* where it is now, or was last */
	const struct step **steps;
	size_t n;
};

/* A folder that was renamed. */
struct folder_move {
	uint64_t seq;
	const char *from, *to, *now; /* to as it is called by now */
};

struct histories;

/* The versions that are selected; *out is the caller's, also after an error. Errors as
 * undo_plan_new(). */
must_check int histories_new(const struct workspace *ws, const struct selection *selection,
	struct histories **out);
struct histories *histories_free(struct histories *h);

/* The paths that the selected versions are at by now, each once. */
size_t histories_paths(const struct histories *h, const char *const **paths);
/* The renames of folders that are selected. */
size_t histories_moves(const struct histories *h, const struct folder_move **moves);
size_t histories_n_selected(const struct histories *h);

/* The file that is, or was, at path. l is the caller's to free with lineage_done(). */
must_check int histories_follow(struct histories *h, const char *path, struct lineage *l);
void lineage_done(struct lineage *l);

/* A string that lives as long as the histories; NULL: no memory. */
const char *histories_keep(struct histories *h, char *owned);

#endif
