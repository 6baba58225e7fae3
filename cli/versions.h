/*
 * versions.h - the versions of a path, as log.json and history/PATH/log.json tell them.
 *
 * Entries borrow from the list's JSON and live as long as the list. Newest first.
 */
#ifndef STOMP_CLI_VERSIONS_H
#define STOMP_CLI_VERSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "cli/json.h"
#include "cli/workspace.h"

struct version_entry {
	uint64_t seq, number, epoch, base, size, from_number, pid;
	const char *time; /* ISO 8601, UTC */
	const char *path; /* relative to the workspace, as JSON spells it */
	const char *kind; /* "initial", "write", … */
	const char *writer, *mode, *content, *from_path, *command; /* or NULL */
	struct json_object *flags;				   /* a list, or NULL */
	struct json_object *json;				   /* the whole entry */
};

struct version_list {
	struct json_object *json;
	struct version_entry *entries;
	size_t n;
};

#define auto_versions __attribute__((cleanup(versions_done))) struct version_list

/* One of them; it borrows from o. */
void version_parse(struct version_entry *v, struct json_object *o);

/* -EBADMSG where the text is no log of schema stompfs/log/…. */
must_check int versions_parse(struct version_list *list, const char *text);
void versions_done(struct version_list *list);

/* The log of a path, or of the workspace ("" or NULL). text gets the JSON as it came.
 * -ENOENT where the path has no history. */
must_check int versions_read(const struct workspace *ws, const char *relative,
	struct buf *text, struct version_list *list);
/* Its newest, which cost no more where there are ten thousand; 0: all. */
must_check int versions_read_newest(const struct workspace *ws, const char *relative,
	uint64_t newest, struct buf *text, struct version_list *list);

/* The changes of a set, of as many tables as it has (sets/ID-SEQ.json), joined as one: also
 * its "set" and "moves". At least the newest `enough` (0: all); where that left some out,
 * the JSON is "truncated". -ENOENT: there is no such set. */
must_check int versions_read_set(const struct workspace *ws, uint64_t id, uint64_t enough,
	struct version_list *list);

/* For a command: the log of a path, with messages; STOMP_DONE or the code to exit with. A
 * path without any version is STOMP_NO. */
must_check int versions_enter(const struct workspace *ws, const char *command,
	const char *path, const char *relative, struct version_list *list);

/* Version number of the path itself (not of a name it had before); NULL: none. */
const struct version_entry *versions_find(
	const struct version_list *list, const char *relative, uint64_t number);

/* The newest one before entry (NULL: of all) whose content can be read. */
const struct version_entry *versions_content_before(
	const struct version_list *list, const struct version_entry *entry);

bool version_has_content(const struct version_entry *v);
bool version_is_delete(const struct version_entry *v);

/* "version 3 (alice, 10:32:05)". */
void version_describe(struct buf *out, const struct version_entry *v);

/* "10:32:05" of today, "Nov 21 10:32" of this year, else the date; local time. */
void version_when(struct buf *out, const char *iso);

/* Tell that the path has no version number, and which it has. Returns STOMP_NO. */
int versions_missing(const struct version_list *list, const char *command, const char *path,
	const char *relative, uint64_t number);

#endif
