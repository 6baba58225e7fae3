/*
 * blind.h - programs whose reading of a file says nothing of what they will put there.
 *
 * S2 takes a process that began after the current version was made, and has read it, to
 * hold nothing older. That is not so for a program that brings its content from
 * elsewhere and looks at the target only to see whether it differs: rsync, and git when
 * it checks out. Their own reads count for nothing; what their writer knows does.
 * Pure.
 */
#ifndef STOMP_POLICY_BLIND_H
#define STOMP_POLICY_BLIND_H

#include <stdbool.h>

#include "policy/identity.h"

bool process_reads_blindly(const struct process *p);

#endif
