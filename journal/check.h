/*
 * check.h - is the journal what it should be, and mending it without guessing.
 *
 * Looked at: the database's own structure, what its rows say of each other, the numbers
 * that may never be given out twice, the stored contents (are they there; with scrub: is
 * each still what its hash says), and the newest versions against the tree.
 *
 * Mending changes only what follows from what is left: sums are counted again, numbers
 * raised, a content is stored anew from a file of the tree that still has it. What is
 * damaged is moved aside (.stomp/damaged), never deleted; what cannot be had back is
 * marked as lost: its versions stay, with who made them, and say so. A database that is
 * damaged itself is set aside whole (journal.db.damaged-N), and every row that can still
 * be read goes into a fresh one.
 *
 * journal_check() is for a journal that nobody has open; it does not look whether that is
 * so. Blocks. Errors are -errno and mean that looking failed; what was found is in the
 * sums and was said, one sentence at a time.
 */
#ifndef STOMP_JOURNAL_CHECK_H
#define STOMP_JOURNAL_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct journal;

enum check_grade {
	CHECK_NOTE,    /* worth knowing, nothing is wrong */
	CHECK_PROBLEM, /* to be mended */
	CHECK_MENDED,  /* it was a problem */
	CHECK_LOST,    /* gone, and marked so */
};

/* text: one sentence without a line's end. */
typedef void check_fn(enum check_grade grade, const char *text, void *ctx);

/* A content of that many bytes was read: false ends the check early. May sleep. */
typedef bool check_pace_fn(uint64_t bytes, void *ctx);

struct check_options {
	int dirfd;   /* .stomp; journal_check() */
	int root_fd; /* of the tree, or -1: it is not compared */
	bool scrub;  /* read every content */
	bool repair; /* journal_check() */
	check_fn *say;
	check_pace_fn *pace; /* or NULL */
	void *ctx;	     /* of both */
};

struct check_sums {
	uint64_t versions, contents, contents_read, bytes_read, files_compared;
	uint64_t problems, mended, lost, files_differ;
	bool ended_early;
};

must_check int journal_check(const struct check_options *o, struct check_sums *sums);

/* The intents file of a folder that nobody has open: 1 it is one (or there is none yet), 0
 * it is damaged (and with repair moved aside: unfinished changes are then recorded as
 * whoever's mount finds them). */
must_check int intents_check(int dirfd, bool repair);

/* The same of an open one, beside everything else that happens to it; mends nothing. */
must_check int journal_check_open(
	struct journal *j, const struct check_options *o, struct check_sums *sums);

#endif
