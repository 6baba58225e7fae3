/*
 * export_stream.h - an export as a stream for `git fast-import`.
 *
 * The same changes give the same bytes, and so the same commits: author and committer are
 * the writer, times those of the versions in UTC.
 */
#ifndef STOMP_CLI_EXPORT_STREAM_H
#define STOMP_CLI_EXPORT_STREAM_H

#include <stdio.h>

#include "cli/export_run.h"

struct export_stream {
	struct export_sink sink;
	const char *command; /* for messages */
	FILE *out;
	const char *ref;    /* "refs/heads/stomp" */
	const char *parent; /* of the first commit: 40 hex digits; NULL: none */
	bool began;
};

/* To out, which stays the caller's. sink.has may be set then. */
void export_stream_init(struct export_stream *s, const char *command, FILE *out,
	const char *ref, const char *parent);

/* After the last commit: git takes nothing that has not ended so. 0, -errno after a
 * message. */
must_check int export_stream_end(struct export_stream *s);

#endif
