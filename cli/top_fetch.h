/*
 * top_fetch.h - the tables of a workspace, read by a process of their own.
 *
 * Whoever reads from a mount whose daemon stands still waits where no signal ends it.
 * A child does the reading, one round for each question, so that the screen goes on
 * taking keys and can be left; a child that is stuck is left to the kernel. It holds
 * nothing of the mount open between rounds, so that it is in no umount's way. No threads.
 */
#ifndef STOMP_CLI_TOP_FETCH_H
#define STOMP_CLI_TOP_FETCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli/json.h"

struct top_fetch {
	pid_t pid;	  /* 0: none */
	int fd;		  /* readable once something of an answer is there */
	struct buf in;	  /* what has come of it */
	int64_t asked_ns; /* of the boot clock; 0: no question is open */
};

#define auto_top_fetch __attribute__((cleanup(top_fetch_stop))) struct top_fetch

enum top_fetched {
	TOP_NOT_YET,
	TOP_ANSWER,
	TOP_ENDED /* no more answers: *code is what to exit with, the reason was said */
};

/* Start the child for the workspace that holds dir (NULL: the current folder). -errno. */
must_check int top_fetch_start(struct top_fetch *f, const char *dir);
void top_fetch_stop(struct top_fetch *f);

/* Ask for a round; nothing where a question is open. */
void top_fetch_ask(struct top_fetch *f);

/* Take what has come, without waiting. The answer has "root" and "error", 0 or an errno,
 * and where that is 0 "status", "writers", "leases", "refusals", "conflicts", "sets" and
 * "log". */
must_check enum top_fetched top_fetch_take(
	struct top_fetch *f, struct json_object **answer, int *code);

/* The same, for at most so many milliseconds. */
must_check enum top_fetched top_fetch_wait(
	struct top_fetch *f, int timeout_ms, struct json_object **answer, int *code);

#endif
