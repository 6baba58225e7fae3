/*
 * report_internal.h - the sources of a report among themselves: report_data.c (tables),
 * report_feed.c (the stream). What is added is kept where its time is within the span.
 */
#ifndef STOMP_CLI_REPORT_INTERNAL_H
#define STOMP_CLI_REPORT_INTERNAL_H

#include "cli/report_data.h"
#include "cli/versions.h"

must_check int report_take(struct report *r, const char *text, uint32_t *number);
must_check int report_begin_event(
	struct report *r, struct json_object *o, struct report_event *e);
must_check int report_add(struct report *r, const struct report_event *e);
must_check int report_add_version(
	struct report *r, const struct version_entry *v, bool undo);
must_check int report_add_event(
	struct report *r, struct json_object *o, uint64_t oldest_refusal);

bool report_is_undo(const struct report *r, uint64_t set);

/* Numbers of refusals, in a buf. */
void report_ids_add(struct buf *ids, uint64_t id);
must_check int report_ids_sort(struct buf *ids);
bool report_ids_have(const struct buf *ids, uint64_t id); /* sorted */

/* Everything behind after_seq. -EOPNOTSUPP, -ENOENT: there is no stream. */
must_check int report_read_feed(
	struct report *r, const struct workspace *ws, struct buf *failed);

#endif
