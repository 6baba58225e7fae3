/*
 * pattern.h - one gitignore-style pattern against one path.
 *
 * Pure, thread-safe, allocates nothing. A compiled pattern borrows the text it was
 * compiled from and the caller's segment array.
 *
 *   a.c         no slash: the last name of the path, at any depth
 *   /a.c b/a.c  a slash in front or inside: from the root of the workspace
 *   **          as a whole name between slashes: any number of folders, also none;
 *               at the end: everything below
 *   a/          the folder a and everything below it (gitattributes knows no such
 *               pattern and would silently match nothing; people write it all the same,
 *               so here it means what it means in gitignore)
 *   * ? [a-z] [!a-z] [[:alpha:]] \x   inside one name, byte by byte
 *
 * Matching takes at most (names in pattern x names in path x length x length) steps.
 */
#ifndef STOMP_POLICY_PATTERN_H
#define STOMP_POLICY_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

#define PATTERN_MAX_BYTES 4096
#define PATTERN_MAX_SEGMENTS 64

enum segment_kind {
	SEGMENT_DEEP,	 /* **: any number of names */
	SEGMENT_ANY,	 /* *: any one name */
	SEGMENT_LITERAL, /* this name */
	SEGMENT_SUFFIX,	 /* *TEXT: a name that ends so */
	SEGMENT_GLOB,
};

struct pattern_segment {
	enum segment_kind kind;
	uint32_t size;
	const char *text; /* SEGMENT_SUFFIX: without its star */
};

struct pattern {
	const struct pattern_segment *segments;
	uint32_t n_segments;
	bool below;	/* ended in a slash: the folder and everything below */
	bool last_name; /* only the path's last name counts */
};

/* -EINVAL with *why set to a static text, without a full stop. */
must_check int pattern_compile(struct pattern *out,
	struct pattern_segment segments[PATTERN_MAX_SEGMENTS], const char *text,
	size_t size, const char **why);

/* The empty path is the root of the workspace: one empty name. */
bool pattern_match(const struct pattern *p, const char *path, size_t size, bool is_dir);

/* Where the last name of a path starts. */
size_t path_last_name(const char *path, size_t size);

#endif
