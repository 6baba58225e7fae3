/*
 * blame.h - which version each line of a file comes from.
 *
 * Fed with the file's contents, oldest first; a line keeps the version that brought it for
 * as long as the diffs call it the same. No threads.
 */
#ifndef STOMP_CLI_BLAME_H
#define STOMP_CLI_BLAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "cli/versions.h"
#include "policy/line_diff.h"

struct blame {
	struct buf content; /* the newest one that was fed */
	struct lines lines; /* of it */
	uint32_t *origins;  /* for each line: what was passed with its content */
};

#define auto_blame __attribute__((cleanup(blame_done))) struct blame

void blame_done(struct blame *b);

/* The next content, whose bytes move in; new lines get origin. -ENOMEM, -EIO; -EFBIG where
 * too much differs to be compared. */
must_check int blame_feed(struct blame *b, struct buf *content, uint32_t origin);

/* Of a log that follows renames (newest first), the versions of the file itself, from its
 * version number at (0: the newest) back: not those of the temporaries it was saved by.
 * own[i] becomes whether entry i is one. False: there is no such version. */
bool blame_own_line(
	const struct version_list *list, const char *name, uint64_t at, bool *own);

#endif
