/*
 * moment_seq.h - which place in the journal a moment of the command line is.
 */
#ifndef STOMP_CLI_MOMENT_SEQ_H
#define STOMP_CLI_MOMENT_SEQ_H

#include <stdint.h>

#include "cli/workspace.h"

/* word: a moment (base/moment.h), or a span without its minus ("15m"); NULL: now. *seq is
 * the last one up to it, and everything that was closed by now is written then. Prints what
 * is wrong with the option. STOMP_DONE or the code to exit with. */
must_check int moment_seq(const struct workspace *ws, const char *command,
	const char *option, const char *word, uint64_t *seq);

#endif
