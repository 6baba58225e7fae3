/*
 * top_live.h - `stomp top` on a terminal: the loop of answers, keys and signals.
 */
#ifndef STOMP_CLI_TOP_LIVE_H
#define STOMP_CLI_TOP_LIVE_H

#include <stdint.h>

#include "cli/top_fetch.h"

/* Until it is left. first is the answer that has come already. The terminal is given back
 * in every case; after SIGTERM, SIGINT or SIGHUP the process ends by that signal. The code
 * to exit with. */
must_check int top_live(
	struct top_fetch *fetch, struct json_object *first, int64_t interval_ms);

#endif
