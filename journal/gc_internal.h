/*
 * gc_internal.h - what the files of a pass share: gc.c (the order of things), gc_rows.c
 * (which versions go), gc_content.c (what goes with them). On the writer's thread, inside
 * a step's transaction, unless it says otherwise.
 */
#ifndef STOMP_JOURNAL_GC_INTERNAL_H
#define STOMP_JOURNAL_GC_INTERNAL_H

#include "journal/gc.h"
#include "journal/internal.h"

enum {
	GC_STEP_MS = 4,	      /* and begins no further row after that */
	GC_CHUNK = 128,	      /* rows that a step looks at */
	GC_UNLINKS_MAX = 128, /* object files whose rows are gone, files not yet */
	GC_CHAIN_MAX = 256,   /* contents below one that are freed at once */
	GC_CUTS_MAX = 64,
	GC_HELD_MAX = 64,
};

struct gc_object {
	struct hash128 hash;
	uint64_t copy;
};

struct gc_pin {
	uint64_t seq;
	char *path;
	size_t len;
};

struct gc_row {
	int64_t id, content_id, time_ns;
	uint64_t seq, number, stored;
	enum version_kind kind;
	uint32_t flags;
};

/* Where the walk down a path's rows is. */
struct gc_path {
	int64_t id; /* 0: on to the next path */
	char *path;
	size_t len;
	struct keep keep;
	struct gc_row newest, newer; /* newer: the row above the next one, gone or not */
	int64_t flag_id;	     /* the lowest row that stays */
	bool flagged;		     /* it bears VERSION_GAP */
	uint64_t counted, bytes;     /* contents so far, and what they take */
	/* looked up anew for each step */
	uint64_t cuts[GC_CUTS_MAX]; /* its folder was renamed then */
	size_t n_cuts;
	uint64_t held[GC_HELD_MAX]; /* versions that unresolved conflicts name */
	size_t n_held;
	bool all_held; /* more than there is room for */
};

struct gc {
	struct journal *j;
	struct gc_options o;
	int phase;
	int64_t cursor;
	struct gc_path at;
	struct gc_sums sums;
	/* of the step that runs */
	int64_t until_ns;
	struct tally tally;
	struct gc_pin *pins;
	size_t n_pins;
	struct gc_object unlinks[GC_UNLINKS_MAX];
	size_t n_unlinks;
};

/* Tests let it go wrong, or die, here. */
int gc_point(struct gc *g);

/* gc_rows.c: 1: this phase has more, 0: it is over. */
must_check int gc_rows_step(struct gc *g);
void gc_path_done(struct gc_path *p);

/* gc_content.c */
must_check int gc_content_release(struct gc *g, int64_t id);
must_check int gc_contents_step(struct gc *g);
must_check int gc_objects_step(struct gc *g);	/* outside a transaction */
must_check int gc_objects_unlink(struct gc *g); /* the same; after the commit */
bool gc_objects_full(const struct gc *g);

#endif
