/*
 * rules_keep.h - the value of keep=, for the parser of rules; nobody else includes it.
 *
 * LIMIT[,LIMIT…][,every] or all. A LIMIT is an age (30d), a number of contents (100) or
 * a size (64M), each at most once. Pure.
 */
#ifndef STOMP_POLICY_RULES_KEEP_H
#define STOMP_POLICY_RULES_KEEP_H

#include "policy/rules.h"
#include "policy/rules_words.h"

must_check int rules_keep_parse(
	const struct place *at, struct word value, struct rule_keep *out);
void rules_keep_put(const struct rule_keep *keep, struct buf *out);

#endif
