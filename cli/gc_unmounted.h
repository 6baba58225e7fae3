/*
 * gc_unmounted.h - `stomp gc` where nothing is mounted: the command collects itself, under
 * the daemon's lock and by the policy in the folder.
 *
 * What a daemon left queued gets its rows first, as the next mount would do. Refused where
 * changes were cut short (kill -9): only a mount can record those. What is kept is never
 * guessed: a policy with a bad line is an error here. Killed at any moment it leaves what
 * gc.h promises. Run by root it works as the user whom the history belongs to. No threads
 * of its own; the process is to end after it.
 */
#ifndef STOMP_CLI_GC_UNMOUNTED_H
#define STOMP_CLI_GC_UNMOUNTED_H

#include <stdbool.h>

#include "cli/json.h"

/* *out: as gc.json tells it (schema stompfs/gc/1). STOMP_DONE, or the code to exit with
 * after a message. */
must_check int gc_unmounted(
	const char *command, const char *dir, bool dry_run, struct json_object **out);

#endif
