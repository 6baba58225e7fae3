/*
 * stale.h - is a change fresh, stale, or for its content to decide (S2–S9)?
 *
 * A pure function of what is known of the file, of the changing process, and of the
 * kind of change.
 */
#ifndef STOMP_POLICY_STALE_H
#define STOMP_POLICY_STALE_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/identity.h"
#include "policy/lost_update.h"
#include "policy/observe.h"

/* The content a file has now, as far as its history tells. */
struct current {
	uint64_t seq; /* of the version that made this content; 0: no author */
	const struct writer *author; /* NULL: from before the mount, nobody's */
	int64_t made_ns;	     /* boot clock; when unknown, the time of the mount */
};

enum change_shape {
	CHANGE_APPEND,	   /* O_APPEND and nothing else (S9) */
	CHANGE_BLIND,	   /* no new content to test: unlink, truncate, the middle (S6) */
	CHANGE_TRUNCATING, /* O_TRUNC, ftruncate(0): the content is to come */
	CHANGE_REWRITING,  /* a write from offset 0: the content is coming */
	CHANGE_WHOLE,	   /* the new content is there: rename onto */
};

enum judgement {
	JUDGE_FRESH, /* goes ahead, no further test (S3) */
	JUDGE_TEST,  /* the lost-update test decides (S4) */
	JUDGE_STALE, /* refused (S6, S7) */
};

struct knowledge {
	uint64_t base_seq; /* newest version the change builds on; 0: none known */
	bool read_current; /* the changing process itself has read what is there */
};

enum judgement stale_judge(const struct current *current, const struct observations *seen,
	const struct process *p, enum change_shape shape, int64_t now_ns, int64_t settle_ns,
	struct knowledge *known);

/* The attempt that was judged is carried out or refused: what was read within settle
 * belonged to it (S1, S8). */
void stale_consume(struct observations *seen, const struct process *p, int64_t now_ns,
	int64_t settle_ns);

/* What an outcome of the lost-update test means: true when the change may go ahead. */
bool stale_test_passes(enum lost_update verdict, bool read_current);

#endif
