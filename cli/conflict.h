/*
 * conflict.h - one conflict of a workspace, as .stomp/conflicts/ID tells of it.
 */
#ifndef STOMP_CLI_CONFLICT_H
#define STOMP_CLI_CONFLICT_H

#include <stdint.h>

#include "cli/json.h"
#include "cli/workspace.h"

struct conflict {
	uint64_t id;
	struct json_object *info; /* schema stompfs/conflict/1 */
	const char *path;	  /* for a person; borrowed from info */
	char *relative;		  /* its bytes */
};

#define auto_conflict __attribute__((cleanup(conflict_done))) struct conflict

void conflict_done(struct conflict *c);

/* Find the workspace of dir (NULL: the current folder) and the conflict that word names.
 * Prints what is wrong; STOMP_DONE or the code to exit with. */
must_check int conflict_enter(const char *command, const char *word, const char *dir,
	struct workspace *ws, struct conflict *c);

/* One of its files ("base", "theirs", …) for reading; the caller's to close. -errno. */
must_check int conflict_open(
	const struct workspace *ws, const struct conflict *c, const char *name);

#endif
