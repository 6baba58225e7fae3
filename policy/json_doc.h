/*
 * json_doc.h - a JSON text as a tree of byte ranges, so that it can be changed in places
 * without being written anew.
 *
 * RFC 8259 to the letter and no further: no comments, no comma behind the last member,
 * valid UTF-8. One thing more: an object with the same key twice is not JSON for us, as
 * readers disagree about which of the two counts.
 *
 * Pure; immutable once parsed, may be shared between threads. Errors: -ENOMEM.
 */
#ifndef STOMP_POLICY_JSON_DOC_H
#define STOMP_POLICY_JSON_DOC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

enum {
	JSON_DOC_MAX_BYTES = 16 << 20,
	JSON_DOC_MAX_DEPTH = 128,    /* arrays and objects within each other */
	JSON_DOC_MAX_NODES = 1 << 20 /* values; 60 bytes of memory each */
};

#define JSON_NONE UINT32_MAX /* no such node */

enum json_kind { JSON_LITERAL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* A value. Node 0 is the root, the first child of node i is i + 1. */
struct json_node {
	uint32_t start, end;	     /* of the value, in bytes of the text */
	uint32_t key_start, key_end; /* with the quotes; both 0 where it is no member */
	uint32_t lead;		     /* just behind the '{', '[' or ',' before it */
	uint32_t line;		     /* the start of the line it is on */
	uint32_t after;		     /* the next node that is not within this one */
	uint32_t n_children;
	uint32_t sorted; /* objects: where the children begin in json_doc.sorted */
	enum json_kind kind;
	uint64_t hash;	   /* equal values have equal hashes, however they are written */
	uint64_t key_hash; /* the same of the key */
};

struct json_doc {
	const char *text; /* borrowed, not terminated */
	uint32_t size;
	struct json_node *nodes;
	uint32_t n_nodes, cap_nodes;
	uint32_t *sorted; /* the children of each object, by key_hash */
	uint32_t n_sorted, cap_sorted;
};

enum json_doc_answer {
	JSON_DOC_OK,
	JSON_DOC_WRONG,	    /* *why: "line 3: expected ',' or '}'" */
	JSON_DOC_TOO_LARGE, /* *why: "deeper than 128 levels" */
};

#define auto_json_doc __attribute__((cleanup(json_doc_done))) struct json_doc

/* text must outlive *doc, which is to be given to json_doc_done() whatever is answered. */
must_check int json_doc_parse(struct json_doc *doc, const char *text, size_t size,
	enum json_doc_answer *answer, struct buf *why);
void json_doc_done(struct json_doc *doc);

/* Objects by key, in any order; arrays in order; strings and keys by what they say,
 * whichever way they are escaped; numbers by their text: 1.0 is not 1. */
bool json_equal(const struct json_doc *a, uint32_t i, const struct json_doc *b, uint32_t j);

/* The member of doc's object that has the key of the given member of another, or NONE. */
uint32_t json_find(const struct json_doc *doc, uint32_t object,
	const struct json_doc *other, uint32_t member);

static inline uint32_t json_first(const struct json_doc *doc, uint32_t container)
{
	return doc->nodes[container].n_children ? container + 1 : JSON_NONE;
}

static inline uint32_t json_next(
	const struct json_doc *doc, uint32_t container, uint32_t child)
{
	uint32_t next = doc->nodes[child].after;

	return next < doc->nodes[container].after ? next : JSON_NONE;
}

/* Where the member begins: its key, or the value itself. */
static inline uint32_t json_begin(const struct json_node *node)
{
	return node->key_end ? node->key_start : node->start;
}

/* The hash of a container from its children's, in order: begin with 0, add each, end.
 * key_hash is 0 in arrays. */
uint64_t json_hash_add(uint64_t sum, enum json_kind kind, uint64_t key_hash, uint64_t hash);
uint64_t json_hash_end(uint64_t sum, enum json_kind kind, uint32_t n_children);

#endif
