/*
 * table.h - intrusive hash table: the caller embeds a table_node and owns the memory.
 *
 * No threads of its own. table_init() and the growth inside table_insert() allocate;
 * when growth fails the table goes on with longer chains, so insert cannot fail.
 */
#ifndef STOMP_BASE_TABLE_H
#define STOMP_BASE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct table_node {
	struct table_node *next;
	uint64_t hash;
};

struct table {
	struct table_node **buckets;
	size_t n_buckets; /* a power of two */
	size_t count;
};

/* -ENOMEM when even the first bucket array cannot be had. */
must_check int table_init(struct table *t);

/* Frees the bucket array, not the nodes. */
void table_done(struct table *t);

void table_insert(struct table *t, struct table_node *node, uint64_t hash);

/* The node must be in the table. */
void table_remove(struct table *t, struct table_node *node);

/* First node in the chain of this hash (its hash may differ), or NULL. */
struct table_node *table_bucket(const struct table *t, uint64_t hash);

/* Walks the nodes of one hash; compare the key yourself. */
#define table_for_each(node, t, h)                                                         \
	for (node = table_bucket(t, h); node; node = node->next)                           \
		if (node->hash == (h))

/* Calls fn for every node; fn may remove the node it is given. */
void table_each(struct table *t, void (*fn)(struct table_node *node, void *ctx), void *ctx);

/* Mixes an integer, or hashes bytes, to a well spread 64-bit value. */
uint64_t table_hash_u64(uint64_t v);
uint64_t table_hash_bytes(const void *data, size_t size, uint64_t seed);

#endif
