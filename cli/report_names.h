/*
 * report_names.h - texts by number, each once: what makes a report's data compact.
 *
 * Not thread-safe. Texts are copied.
 */
#ifndef STOMP_CLI_REPORT_NAMES_H
#define STOMP_CLI_REPORT_NAMES_H

#include <stdint.h>

#include "base/cleanup.h"

struct report_names {
	char **texts;	 /* n of them; owned */
	uint32_t *slots; /* open addressing: number + 1, 0 is free */
	uint32_t n, n_slots;
};

void report_names_done(struct report_names *names);

/* The number of text, given to it where it has none. -ENOMEM. */
must_check int64_t report_names_take(struct report_names *names, const char *text);

#endif
