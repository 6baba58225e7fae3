/*
 * content.h - the bytes of a version, and putting them back.
 */
#ifndef STOMP_CLI_CONTENT_H
#define STOMP_CLI_CONTENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "cli/versions.h"
#include "cli/workspace.h"

/* A version's content opened for reading; the caller's to close. -errno. */
must_check int content_open(
	const struct workspace *ws, const char *relative, uint64_t number);

/* All of it, for a comparison. -errno; -EFBIG above 256 MiB. */
must_check int content_read(
	const struct workspace *ws, const char *relative, uint64_t number, struct buf *out);

/* All of the file as it is now (the target of a symbolic link); -ENOENT. */
must_check int content_read_current(
	const struct workspace *ws, const char *relative, struct buf *out);

/* The folder, and those above it, from the root of the workspace down; says which were
 * made. -errno. */
must_check int content_make_folder(const struct workspace *ws, const char *relative);

/* Append everything that can be read. -errno; -EFBIG above 256 MiB. */
must_check int content_read_fd(int fd, struct buf *out);

struct put {
	const char *path;     /* as the user named it, for messages */
	const char *relative; /* where it goes */
	const char *source;   /* the path whose version it is; mostly the same */
	const struct version_entry *version;
	bool only_new;	 /* the path must not exist (restore) */
	bool keeps_mode; /* of a file that is there */
};

/* Make the file what can be read from a descriptor, in place where it is there, else made
 * anew with that mode, of which the umask takes its part. Prints what is wrong, a refusal
 * with its reason. STOMP_DONE or the code to exit with. */
must_check int content_put_fd(const struct workspace *ws, const char *command,
	const char *path, const char *relative, int from, mode_t new_mode);

/* Make the path what the version was: content and mode, in place where the file is
 * there (V8). The version is opened before the path is touched. Prints what is wrong,
 * a refusal with its reason. STOMP_DONE or the code to exit with. */
must_check int content_put(
	const struct workspace *ws, const char *command, const struct put *put);

#endif
