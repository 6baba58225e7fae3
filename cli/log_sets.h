/*
 * log_sets.h - `stomp log --sets` and `--set ID`: change sets.
 */
#ifndef STOMP_CLI_LOG_SETS_H
#define STOMP_CLI_LOG_SETS_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/workspace.h"

/* The sets of writer (NULL: everybody's), the newest limit of them (0: all). STOMP_DONE or
 * the code to exit with. */
must_check int log_sets(
	const struct workspace *ws, const char *writer, uint64_t limit, bool json);

#endif
