/*
 * trace.h - what has to be known of a file that nobody uses, and that the journal cannot
 * tell: a tenth of the file itself.
 *
 * The head is read from the journal again. Kept are who knows which version (S1, S2; reads
 * that have not settled are forgotten, the safe side), when the content was made, a lease
 * that lingers (L2), which rows the journal may not have written yet (V4), and, of a large
 * file, what it looked like when it was captured (V6).
 *
 * No locks of its own. Without memory: NULL, and the file is as it was.
 */
#ifndef STOMP_FS_TRACE_H
#define STOMP_FS_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct file;
struct trace;
struct workspace;

/* How many readers and makers of a file a trace knows: those who came last. */
enum { TRACE_ACTORS_MAX = 16 };

/* Nobody else can reach f, and nobody has it open, waits for it or has a session on it. */
struct trace *trace_new(const struct file *f, int64_t now_ns);
struct trace *trace_free(struct trace *t); /* NULL does nothing */

/* Tell a new file what is known of it. */
void trace_recall(const struct trace *t, struct file *f);

/* What it takes, in bytes. */
size_t trace_size(const struct trace *t);

/* The journal knows all that must not be lost with it, and no lease lingers. */
bool trace_may_go(struct workspace *ws, const struct trace *t, int64_t now_ns);

#endif
