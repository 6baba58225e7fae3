/*
 * writer_table.h - telling programs apart: agents, their helpers, viewers, launchers.
 *
 * Pure functions of what /proc tells about one process and of a table; no allocation.
 * The table that is built in is writer_table_builtin() (declared in identity.h).
 */
#ifndef STOMP_POLICY_WRITER_TABLE_H
#define STOMP_POLICY_WRITER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "policy/identity.h"

enum { WRITER_NAME_SIZE = 33 }; /* of a name a person chose, with the NUL */

/* What a process runs. Bytes from outside: not trusted, not necessarily text. */
struct program {
	const char *comm;
	const char *exe;  /* "" when unknown */
	const char *args; /* NUL-separated, with one more NUL at args[args_size] */
	size_t args_size; /* 0 when unknown */
};

enum agent_part {
	PART_NONE,     /* no known agent */
	PART_INSTANCE, /* an agent that was started as itself */
	PART_HELPER,   /* a part of the agent that counts as its mind */
	PART_TOOL,     /* another program inside the agent's executable; not its mind */
};

/* Which agent of the table p is or belongs to; *agent is set unless PART_NONE. */
enum agent_part writer_table_match(const struct writer_table *table,
	const struct program *p, const struct agent_entry **agent);

/* A program that shows content to the mind behind it (S1). */
bool writer_table_is_viewer(const struct writer_table *table, const struct program *p);

/* `stomp run NAME …`: sets name, and *command to the pid of what it started, as the
 * launcher sees it (0: it does not say). */
bool program_is_launcher(
	const struct program *p, char name[WRITER_NAME_SIZE], pid_t *command);

/* Adopts orphans: init, or what stands in for it (W1f). */
bool program_is_reaper(const char *comm);

/* Last component of a path, up to its end. */
const char *program_base(const char *path);

/* A name that a person may give to a writer: [A-Za-z0-9._-]{1,32}, no '-' first, and
 * not one that means something else. */
bool writer_name_valid(const char *name);

#endif
