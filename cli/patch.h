/*
 * patch.h - the difference of two contents as a unified diff that patch and git apply
 * understand.
 */
#ifndef STOMP_CLI_PATCH_H
#define STOMP_CLI_PATCH_H

#include <stdbool.h>

#include "base/buf.h"
#include "cli/terminal.h"

struct patch_side {
	const char *relative; /* in the workspace */
	const char *label;    /* which one it is, for a person */
	const struct buf *content;
	bool gone; /* there is no file on this side */
};

bool patch_is_empty(const struct patch_side *old, const struct patch_side *new);

/* STOMP_DONE, also where they are the same; STOMP_FAILED with a message. */
must_check int patch_print(const char *command, const struct patch_side *old,
	const struct patch_side *new, struct output *o);

#endif
