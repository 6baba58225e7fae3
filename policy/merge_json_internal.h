/*
 * merge_json_internal.h - between deciding (merge_json.c, merge_json_array.c) and writing
 * (merge_json_write.c).
 */
#ifndef STOMP_POLICY_MERGE_JSON_INTERNAL_H
#define STOMP_POLICY_MERGE_JSON_INTERNAL_H

#include "policy/json_doc.h"
#include "policy/json_style.h"

/* One value in the three documents; JSON_NONE where it is not there. */
struct json_three {
	uint32_t base, current, new;
};

/* A child of the merged container, in the order of the list it is on. */
struct json_item {
	enum { TAKE_CURRENT, TAKE_NEW, TAKE_BOTH } take; /* BOTH: merged, one level down */
	struct json_three at; /* current NONE: put in; new NONE: only current has it */
};

struct json_items {
	struct json_item *items;
	uint32_t n, cap;
};

struct json_merge {
	struct json_doc base, current, new; /* base: no nodes when unknown */
	struct json_style style;
	struct buf *out, *why;
	uint32_t n_conflicts;
	/* Where we are. */
	struct json_step {
		const struct json_doc *doc; /* NULL: an element */
		uint32_t at;
	} path[JSON_DOC_MAX_DEPTH + 1];
	uint32_t depth;
};

#define auto_json_items __attribute__((cleanup(json_items_done))) struct json_items

void json_items_done(struct json_items *list);
must_check int json_items_add(struct json_items *list, struct json_item item);

static inline bool json_same(
	const struct json_doc *a, uint32_t i, const struct json_doc *b, uint32_t j)
{
	return i != JSON_NONE && j != JSON_NONE && json_equal(a, i, b, j);
}

/* Notes a conflict where m->path is; said is for a person. */
void json_conflict(struct json_merge *m, const char *said);

/* The same one step further: a member of doc, or (NULL) an element by its number. */
void json_conflict_at(
	struct json_merge *m, const struct json_doc *doc, uint32_t at, const char *said);

/* Writes the merged value in the place that current's has, and its hash. -ENOMEM. */
must_check int json_merge_value(struct json_merge *m, struct json_three at, uint64_t *hash);

/* What becomes of the elements of three arrays of which each differs from the others;
 * after a conflict, which is noted, *list is not to be used. -ENOMEM. */
must_check int json_merge_array(
	struct json_merge *m, struct json_three at, struct json_items *list);

/* Writes a container of current with these children instead of its own. */
must_check int json_write_items(struct json_merge *m, uint32_t container,
	const struct json_items *list, uint64_t *hash);

/* Writes new's value in the place of current's. */
void json_write_taken(struct json_merge *m, uint32_t current, uint32_t new);

#endif
