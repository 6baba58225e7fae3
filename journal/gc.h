/*
 * gc.h - what the history lets go of, and what it never does (V9).
 *
 * A pass goes over everything in small steps. Each is one transaction of the journal's
 * writer thread, between its commits and only while nothing waits to be written; between
 * the steps the caller may sleep as long as it likes. What a step has decided is done when
 * gc_step() returns: a pass may be dropped at any point, and kill -9 leaves at most
 * contents and object files that nothing refers to, which the next whole pass finds.
 *
 * Never collected: the newest row of a path (so that numbers are not used again), and the
 * newest before its folder was renamed; a content that the newest row, an unresolved
 * conflict or another content needs; the versions that such a conflict names; what a pinned
 * moment shows. Of a deleted path the newest content is kept as long as an age says, by
 * the other limits for ever.
 *
 * Where versions before a row are gone, it bears VERSION_GAP.
 *
 * A struct gc belongs to one thread at a time; the other calls are thread-safe.
 */
#ifndef STOMP_JOURNAL_GC_H
#define STOMP_JOURNAL_GC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "journal/journal.h"

/* For how long versions of a path stay. All 0: for ever. */
struct keep {
	int64_t age_ns; /* since another took its place; 0: whatever the age */
	uint64_t count; /* the newest so many contents; 0: any number */
	uint64_t bytes; /* the newest contents, so much stored; 0: as much as there is */
	bool every;	/* not thinned: with an age, of what is older than a day the last
			   one of each hour stays, and older than a week of each day */
};

/* Called on the journal's thread: no waiting. */
typedef void keep_fn(const char *path, size_t len, struct keep *keep, void *ctx);

struct gc_options {
	keep_fn *keep;
	void *ctx;
	int64_t log_age_ns; /* events and refusals of which nothing is kept; 0: for ever */
	int64_t now_ns;	    /* wall clock */
	bool dry_run;	    /* find out what would go; sums of contents are a lower bound */
};

struct gc_sums {
	uint64_t paths, looked_at; /* gone through; rows of versions of them */
	uint64_t versions, contents, objects, conflicts, log_rows; /* gone */
	uint64_t bytes;						   /* as stored */
	uint64_t steps;
	int64_t step_max_ns; /* the longest, on the journal's thread */
};

struct gc;

must_check int gc_new(struct gc **out, struct journal *j, const struct gc_options *o);
struct gc *gc_free(struct gc *g);

/* 1: there is more to do; 0: the pass is over; -errno: as the journal was, the step may be
 * tried again. Waits for the writer's thread to have a moment. */
must_check int gc_step(struct gc *g);
void gc_get_sums(const struct gc *g, struct gc_sums *sums);

/* ---- on a full disk ---- */

/* The history cannot be written for want of room: what a pass needs is taken from what was
 * set aside for that (reserve.h). True: it was, and until gc_reserve_back() nobody else may
 * use it: journal_health() stays -ENOSPC. False: no need, or nothing there. */
must_check bool gc_reserve_use(struct journal *j);

/* After a pass, whatever came of it; sets room aside again where there is some. */
void gc_reserve_back(struct journal *j);

/* ---- pinned moments ---- */

enum { PIN_NAME_MAX = 64, PINS_MAX = 1000 };

struct pin {
	const char *name; /* [A-Za-z0-9._-], at most PIN_NAME_MAX */
	uint64_t seq;	  /* the moment */
	const char *path; /* a file, or a folder with all in it; "": everything */
	size_t path_len;
	int64_t time_ns; /* when it was pinned */
	const char *writer;
};

enum pin_answer {
	PIN_DONE = 0,
	PIN_NONE = 1,  /* there is none of that name */
	PIN_AGAIN = 2, /* there is one already */
	PIN_FULL = 3,  /* PINS_MAX paths are pinned */
};

/* All of them (of one name, moment, time and writer) or none; durable when it returns. */
must_check int journal_pin(struct journal *j, const struct pin *pins, size_t n);
must_check int journal_unpin(struct journal *j, const char *name);

/* Sorted by name, then path. */
typedef int pin_fn(const struct pin *p, void *ctx);
must_check int journal_pins(struct journal *j, pin_fn *fn, void *ctx);

#endif
