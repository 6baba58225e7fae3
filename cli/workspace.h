/*
 * workspace.h - the mounted workspace a command works on, through its .stomp/ folder.
 *
 * Everything goes by absolute paths, so that it reaches the mount also where the
 * caller's current folder was opened before the mount came over it.
 */
#ifndef STOMP_CLI_WORKSPACE_H
#define STOMP_CLI_WORKSPACE_H

#include <stdbool.h>

#include "base/buf.h"
#include "cli/json.h"

struct workspace {
	char *root;   /* absolute; where the search ended, also when it failed */
	int stomp_fd; /* root/.stomp */
};

#define auto_workspace __attribute__((cleanup(workspace_close))) struct workspace

/* Absolute, the folders before the last name resolved as far as they exist; the last
 * name stays as it is (it may be a link, or gone). -errno where there is no current
 * folder to start from. */
must_check int path_resolve(const char *path, char **absolute);

/* Find the workspace that holds the absolute path, walking up until a folder's
 * .stomp/status.json answers. -ENOENT: none; -ENOTCONN: a dead mount at root. */
must_check int workspace_find(struct workspace *ws, const char *absolute);
void workspace_close(struct workspace *ws);

/* For a command: find the workspace of path (NULL: the current folder) and the path
 * relative to its root ("" for the root itself; relative may be NULL). Prints what is
 * wrong. STOMP_DONE or the code to exit with. */
must_check int workspace_enter(
	struct workspace *ws, const char *command, const char *path, char **relative);

/* The same path in a workspace that is open already; STOMP_USAGE when it lies outside. */
must_check int workspace_path(
	const struct workspace *ws, const char *command, const char *path, char **relative);

/* True for a shell that entered the folder before the mount came over it: it stands
 * beneath, where nothing is guarded, and has to be told. */
bool workspace_is_beneath(const struct workspace *ws);

/* Append a file of .stomp/ ("why", "history/src/a.c/3"). */
must_check int workspace_read(
	const struct workspace *ws, const char *name, struct buf *out);

/* The same, parsed; -EBADMSG where it is no JSON of schema "stompfs/SCHEMA/…". */
must_check int workspace_json(const struct workspace *ws, const char *name,
	const char *schema, struct buf *text, struct json_object **out);

/* Write one line to ctl and read the answer. The answer is there also where -errno tells
 * that the line was refused. */
must_check int workspace_ctl(
	const struct workspace *ws, const char *line, struct buf *answer);

/* A change was refused with this errno (EAGAIN, ESTALE, EBUSY)? */
bool is_refusal(int error);

/* Print the newest refusal of relative from .stomp/why, else the errno. Returns the
 * code to exit with. */
int workspace_explain(const struct workspace *ws, const char *command, const char *path,
	const char *relative, int error);

/* "stomp COMMAND: PATH: what" to stderr, and the exit code of that errno. */
int report_errno(const char *command, const char *path, int error);

#endif
