/*
 * export_plan.h - which changes are exported, cut into commits.
 *
 * What is asked for (a change set, a writer's work, paths) says which paths it is about,
 * and from where to where in the journal. Of these paths every change between is exported,
 * whoever made it: so each commit holds what its author did and nothing else, and the last
 * one is what .stomp/at/seq:LAST shows of these paths. A commit is what one command of one
 * change set did in one go, without a pause of two seconds; where it changed a file twice,
 * there are two.
 *
 * Plain data once made. No threads. Errors: -errno.
 */
#ifndef STOMP_CLI_EXPORT_PLAN_H
#define STOMP_CLI_EXPORT_PLAN_H

#include <stdbool.h>

#include "cli/export_rows.h"

/* One of set, writer and paths alone chooses; paths beside the others narrow them. Paths
 * are relative to the workspace, "" is all of it. */
struct export_choice {
	uint64_t set;
	const char *writer;
	char *const *paths;
	unsigned n_paths;
	uint64_t since, at; /* seqs: nothing up to since, nothing after at */
};

struct export_commit {
	size_t begin, end;	  /* of export_plan.order */
	uint64_t before, at;	  /* seqs: what was there before, and with it */
	uint32_t writer, command; /* names */
	uint64_t set;
	int64_t time_ms;
	bool chosen; /* else others' work on the same files */
};

struct export_plan {
	struct export_rows rows;
	const struct export_row **order; /* those that are exported, by seq */
	struct export_commit *commits;
	size_t n_order, n_commits;
	uint64_t base, last; /* seqs */
	int64_t base_ms;     /* the time of the first change */
	/* The paths: these names, and everything at or below these. */
	bool *is_named; /* by name; n_named of them */
	uint32_t n_named;
	struct buf below; /* of uint32_t */
};

/* plan is all 0 before, and to be done with in any case. *n_chosen: the changes that were
 * asked for; 0: there is nothing to export. -ENOENT: no such set. */
must_check int export_plan_make(struct export_plan *plan, const struct workspace *ws,
	const struct export_choice *choice, size_t *n_chosen);
void export_plan_done(struct export_plan *plan);

bool export_plan_has(const struct export_plan *plan, uint32_t name);
bool export_is_below(const char *path, const char *folder); /* or is it */

#endif
