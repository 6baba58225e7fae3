/*
 * export_run.h - what the paths of a plan were from commit to commit, told to a sink.
 *
 * Contents come from .stomp/at/, so the outcome is what that shows. Left out is what git
 * cannot hold (folders as such, pipes, sockets, devices, a .git within) and what the policy
 * passes over, which has no history. No threads. Errors: -errno.
 */
#ifndef STOMP_CLI_EXPORT_RUN_H
#define STOMP_CLI_EXPORT_RUN_H

#include "base/hash.h"
#include "cli/export_plan.h"

/* A file as git knows it: mode 0 is none. */
struct export_file {
	unsigned mode; /* 0100644, 0100755, 0120000 */
	struct hash128 hash;
	uint64_t size;
};

/* One path in one commit. */
struct export_change {
	const char *path;
	struct export_file was, is;
	const struct buf *old, *content; /* old: where the sink asks for it */
};

struct export_head {
	const char *author;  /* a writer's name, made fit for git */
	const char *email;   /* nobody's */
	const char *subject; /* one line of UTF-8 */
	const char *body;    /* lines, the last one ended too */
	int64_t time_s;
	bool base; /* what was there before, of which nobody is the author */
};

/* Where it goes. Each call: 0, or -errno after a message. */
struct export_sink {
	int (*begin)(struct export_sink *sink, const struct export_head *head);
	/* What is removed comes before what is put. */
	int (*change)(struct export_sink *sink, const struct export_change *change);
	int (*end)(struct export_sink *sink);
	/* Of the base alone: the target has just that already. */
	bool (*has)(struct export_sink *sink, const struct export_change *change);
	bool takes_base, wants_old;
};

struct export_result {
	size_t n_commits, n_others; /* told to the sink, without the base */
	size_t n_left_out;	    /* pipes, a .git within, … */
	bool has_base;
};

/* Prints what is wrong. STOMP_DONE or the code to exit with. */
must_check int export_run(const struct workspace *ws, const char *command,
	struct export_plan *plan, struct export_sink *sink, struct export_result *result);

#endif
