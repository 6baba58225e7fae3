/*
 * export_git.h - an export put into a git repository, on a branch.
 *
 * `git fast-import` does it; what the branch has already is asked of libgit2. No threads.
 */
#ifndef STOMP_CLI_EXPORT_GIT_H
#define STOMP_CLI_EXPORT_GIT_H

#include "cli/export_stream.h"

struct export_git;

/* The branch need not be there: it begins at HEAD then, or from nothing where there is no
 * commit. One that is checked out is refused. Prints what is wrong. STOMP_DONE or the code
 * to exit with; *out is the caller's in any case. */
must_check int export_git_open(const char *command, const char *repository,
	const char *branch, struct export_git **out);
struct export_git *export_git_free(struct export_git *g);

struct export_sink *export_git_sink(struct export_git *g);

/* All is told (or not: then nothing is to come into the repository). STOMP_DONE once git
 * has it. */
must_check int export_git_end(struct export_git *g, bool whole);

/* What the branch is called in full. */
const char *export_git_ref(const struct export_git *g);

#endif
