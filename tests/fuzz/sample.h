/*
 * sample.h - a history with something of everything, for the fuzzers: the folder of a
 * workspace whose daemon was killed.
 *
 * It is made once, by a child that kills itself: rows in the database and in its log,
 * versions that are in the queue alone, intents of changes that were under way. Then it is
 * kept in memory, and laid down again as often as somebody wants to damage it.
 *
 * One thread. Whatever fails here ends the program: it is not what is tested.
 */
#ifndef STOMP_TESTS_FUZZ_SAMPLE_H
#define STOMP_TESTS_FUZZ_SAMPLE_H

#include "journal/journal.h"

struct sample;

/* In a folder below $TMPDIR that goes when the program ends in an orderly way. Not once
 * there are threads. */
struct sample *sample_new(void);

/* Every file as it was made, and no other. */
void sample_lay(struct sample *s);

int sample_dirfd(const struct sample *s);

/* The files, from 0 on; NULL: no more. The big ones first: journal.db, its log, the queue,
 * the intents. */
const char *sample_file(const struct sample *s, unsigned i);

/* An fd to read and write it, the caller's; -1: it is not there any more. */
int sample_open(const struct sample *s, unsigned i);

/* The paths that have versions in it. */
extern const char *const sample_paths[];

#endif
