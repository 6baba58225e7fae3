/*
 * show.h - answers that are the daemon's own text or JSON, and small formats.
 */
#ifndef STOMP_CLI_SHOW_H
#define STOMP_CLI_SHOW_H

#include <stdint.h>

#include "base/buf.h"
#include "cli/workspace.h"

/* Print a text file of .stomp/ (paged on a terminal). empty is said where it has
 * nothing in it. STOMP_DONE or the code to exit with. */
must_check int show_file(const struct workspace *ws, const char *command, const char *name,
	const char *empty);

/* Print a JSON file of .stomp/ as it is, once it has been found to be whole. */
must_check int show_json(const struct workspace *ws, const char *command, const char *name,
	const char *schema);

/* Print text that is JSON, with one newline at its end. */
must_check int show_json_text(const char *text);

/* Print the first limit rows (0: all) of the list key, as the document had it. */
must_check int show_json_rows(struct json_object *json, const char *key, uint64_t limit);

/* What ctl said of a line that it did not carry out; the code to exit with. */
int show_ctl_failure(const char *command, const struct workspace *ws,
	const struct buf *answer, int error);

/* "120", "12.3K", "4.0M" */
void put_size(struct buf *out, uint64_t size);

#endif
