/*
 * export_patches.h - an export as a series of patches, one file each, as git format-patch
 * writes them: for `git am`, `git apply` and `patch -p1`.
 *
 * What is not text (a NUL in it), and what has lines that end in CR LF, which `git am`
 * would cut off, are binary patches; those `patch` cannot take.
 */
#ifndef STOMP_CLI_EXPORT_PATCHES_H
#define STOMP_CLI_EXPORT_PATCHES_H

#include "cli/export_run.h"

struct export_patches;

/* folder is made where it is not there; one that has patches in it is refused. Prints what
 * is wrong. STOMP_DONE or the code to exit with; *out is the caller's in any case. */
must_check int export_patches_new(
	const char *command, const char *folder, struct export_patches **out);
struct export_patches *export_patches_free(struct export_patches *p);

struct export_sink *export_patches_sink(struct export_patches *p);

/* How many of the files that were told of are binary patches. */
size_t export_patches_n_binary(const struct export_patches *p);

#endif
