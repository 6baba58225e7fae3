/*
 * report_data.h - what happened in a span of time, out of the tables of .stomp/.
 *
 * Everything since a time comes from the stream events/, whole, however much it is; what
 * more there is to tell of the newest refusals and of conflicts from refusals.json and
 * conflicts.json. Where the stream cannot be opened (over io_uring) versions come from the
 * change sets (sets/ID.json) and log.json, older refusals from the incidents there, and
 * what the tables cut off is said in notes.
 */
#ifndef STOMP_CLI_REPORT_DATA_H
#define STOMP_CLI_REPORT_DATA_H

#include <stdint.h>

#include "base/buf.h"
#include "cli/report_names.h"
#include "cli/workspace.h"

/* As page.js numbers them. */
enum report_kind {
	REPORT_VERSION,
	REPORT_MERGE,
	REPORT_UNDO,
	REPORT_REFUSAL,
	REPORT_CONFLICT, /* a refusal whose bytes were kept */
	REPORT_EVENT,	 /* take-overs, breaks, recoveries, resolved conflicts */
};

struct report_event {
	int64_t time_ms; /* since 1970 */
	uint64_t seq;	 /* of a version; 0 */
	uint64_t number; /* of the version; of the refusal, the conflict */
	uint64_t set;	 /* 0: none */
	uint64_t size;
	enum report_kind kind;
	uint32_t writer, path, command, what, text; /* in names */
	uint32_t from_path;			    /* of a version: what to compare with */
	uint64_t from_number;			    /* 0: there is nothing before it */
	uint32_t word, from_word;		    /* the paths as words of ctl */
	uint32_t refusals;			    /* an incident: how many in one */
	bool has_content, resolved;
};

/* A change set that is an undo. */
struct report_undo {
	uint64_t set;
	char *what; /* owned */
};

struct report {
	int64_t since_ms, until_ms; /* as asked; since 0: from the beginning */
	struct report_names names;
	struct report_event *events; /* oldest first */
	size_t n, room;
	struct report_undo *undos;
	size_t n_undos;
	struct buf told;    /* numbers of refusals that the tables told of */
	uint64_t after_seq; /* what is up to there was before the span */
	struct buf notes;   /* a line each: what is not in it, and why */
};

#define auto_report __attribute__((cleanup(report_done))) struct report

void report_done(struct report *report);

/* Fill it (since_ms and until_ms are set). -errno; failed is the table that could not
 * be read. */
must_check int report_collect(
	struct report *report, const struct workspace *ws, struct buf *failed);

#endif
