/*
 * merge_json.h - the strategy that merges JSON documents by key: `json` (M).
 *
 * A pure function of base (what the writer knew), current (what is there) and new (what it
 * wants to put there): no clock, no I/O; the same bytes on every machine. Thread-safe.
 *
 * The rules. Two values are equal if they say the same: objects whatever the order of
 * their keys, strings however they are escaped; numbers by their text, so 1.0 is not 1.
 *
 *   a key (or the document) that one side added, removed or changed takes that side's
 *   the same on both sides      that, as current writes it
 *   different on both sides     two objects are merged key by key (also two that both
 *                               sides added), two arrays as below; else a conflict. So is
 *                               a key that one side removed and the other changed
 *   arrays                      changed by one side: that side's, whole. Both sides only
 *                               added elements: base's, and between the same two of its
 *                               elements first current's, then new's, without those of
 *                               new's that current has added, too (one for one). All
 *                               three of one length: element by element, each one taken
 *                               whole. Else a conflict
 *   base unknown, or blank      what only one side has is kept, what both have must be
 *                               equal, or be objects
 *
 * The result is current's text with new's pieces put in: current's order, indentation,
 * line ends and blanks stay. A member that comes from new stands behind the one that it
 * follows in new, and current's additions there; it is indented as its neighbours, on a
 * line of its own if they are. If current is byte for byte base, the result is new's text.
 *
 * The result is parsed anew, must have the value decided upon, and must be JSON to
 * json-c's strict parser. Not merged: what is not JSON, or has a key twice in one object;
 * and what is above the bounds of policy/json_doc.h.
 *
 * Errors: -ENOMEM; *merged is then as it was.
 */
#ifndef STOMP_POLICY_MERGE_JSON_H
#define STOMP_POLICY_MERGE_JSON_H

#include "policy/lost_update.h"
#include "policy/merge.h"

/*
 * known_base: false when the writer knew nothing of the file; base may then be NULL.
 * MERGE_CLEAN appends the result to *merged, and leaves *why as it is. MERGE_CONFLICT
 * appends one line without a newline to *why:
 *
 *   $.scripts.test: both changed it (and 2 more)
 *   not JSON: what is there, line 3: expected ',' or '}'
 *   too large to merge by key: what is there, line 1: deeper than 128 levels
 */
must_check int merge_json(const struct content *base, bool known_base,
	const struct content *current, const struct content *new, enum merge_answer *answer,
	struct buf *merged, struct buf *why);

#endif
