/*
 * capture.h - what a file is now, taken at the cost of what changed since its newest
 * version (V6).
 *
 * The calls that tell what is about to change are session.h's (session_will_…). All calls
 * with the file's lock held. They may block on disk. -errno.
 */
#ifndef STOMP_FS_CAPTURE_H
#define STOMP_FS_CAPTURE_H

#include <sys/stat.h>

#include "fs/file.h"

/* st is of what the head's content was captured from. */
void capture_witness(struct file *f, const struct stat *st);

/* A session begins on a file that is so. Where it still is what its newest version was
 * captured from, changes are followed from here on; where that is not known, because
 * another daemon captured it, the first change finds out. */
void capture_begin(struct file *f, const struct stat *st);

/* The file is as its head: changes are followed from here on. */
void capture_follow(struct file *f);

/* What is to be captured, as it was when that was planned: capturing needs no lock then. */
struct capture_plan {
	int fd; /* -1: none */
	struct stat st;
	bool partial; /* what changed since base, whose extents these are */
	struct capture_base base;
	struct extent *extents;
};

/* Does capturing the session's content take so long that others would feel it? */
bool capture_is_large(struct workspace *ws, struct file *f);

/* Of a regular file; raise and *raised as below. */
must_check int capture_prepare(struct workspace *ws, struct file *f, bool raise,
	struct capture_plan *plan, bool *raised);
/* No lock is needed. */
must_check int capture_run(
	struct workspace *ws, const struct capture_plan *plan, struct capture *out);
void capture_plan_done(struct capture_plan *plan);

/* The same file, and nothing has changed it, as far as its times tell. */
bool capture_same_file(const struct stat *a, const struct stat *b);

/* Content and attributes of what the file is now; a symlink's content is its target. raise:
 * its mtime goes above that of the head first (S12), and *raised tells so. */
must_check int capture_file(struct workspace *ws, struct file *f, bool raise,
	struct stat *st, struct capture *out, bool *raised);

#endif
