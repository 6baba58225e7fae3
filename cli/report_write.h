/*
 * report_write.h - the page: its own text (report/page.*), with the data in the middle.
 */
#ifndef STOMP_CLI_REPORT_WRITE_H
#define STOMP_CLI_REPORT_WRITE_H

#include "base/buf.h"
#include "cli/report_data.h"
#include "cli/workspace.h"

/* The page around the data, made from report/page.* when this was built. */
extern const char report_page_before[], report_page_after[];

/* Append the whole page, with the diffs of the newest versions. -ENOMEM. */
must_check int report_write(
	const struct report *report, const struct workspace *ws, struct buf *out);

/* Append a JSON string that may stand within a script element. */
void report_put_text(struct buf *out, const char *text, size_t size);

/* Append an object: "PATH@N" (number of the path, number) to the diff that made the
 * version, of the newest ones and as far as it stays small. -ENOMEM. */
must_check int report_put_diffs(
	const struct report *report, const struct workspace *ws, struct buf *out);

#endif
