/*
 * directives.h - the lines of a policy file that begin with %.
 *
 *   %agent NAME program=A,B variable=X,Y helper=… tool=… errno=EBUSY|ESTALE
 *   %viewer NAME… | "NAME -OPTION" | -NAME
 *   %driver NAME command="…" timeout=5s
 *   %limit observations=N
 *
 * They change the writer table that is built in, line by line, and name the merge
 * drivers. Used by rules_parse() alone, which owns what is made here; immutable once it
 * has returned. Bounded: so many entries, names of so many bytes.
 *
 * Errors: -EINVAL with a message as rules_parse() has, -ENOMEM.
 */
#ifndef STOMP_POLICY_DIRECTIVES_H
#define STOMP_POLICY_DIRECTIVES_H

#include "policy/rules.h"
#include "policy/rules_words.h"

enum {
	DIRECTIVES_MAX_AGENTS = 64,   /* beside the built-in ones */
	DIRECTIVES_MAX_VIEWERS = 256, /* the same */
	DIRECTIVES_MAX_DRIVERS = 64,
	DIRECTIVES_MAX_NAMES = 64, /* of one key of one agent */
	DIRECTIVES_MAX_NAME = 128, /* bytes of one such name, and of a viewer */
	DIRECTIVES_MAX_COMMAND = 4096,
};

struct directives;

must_check int directives_new(struct directives **out);
struct directives *directives_free(struct directives *d);

/* One line without its end and without blanks around it. */
must_check int directives_parse(
	struct directives *d, const struct place *at, const char *s, size_t size);

const struct writer_table *directives_writer_table(const struct directives *d);
const struct driver_entry *directives_driver(const struct directives *d, const char *name);
uint16_t directives_observations(const struct directives *d); /* 0: as built in */
unsigned directives_count(const struct directives *d);	      /* lines parsed */

/* The message for a rule whose driver is not there; d may be NULL. -EINVAL. */
int directives_no_driver(
	const struct directives *d, const struct place *at, const char *name);

#endif
