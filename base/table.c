#include "base/table.h"

#include <xxhash.h>

enum { FIRST_BUCKETS = 64 };

int table_init(struct table *t)
{
	*t = (struct table){.n_buckets = FIRST_BUCKETS};
	t->buckets = calloc(FIRST_BUCKETS, sizeof(*t->buckets));
	return t->buckets ? 0 : -ENOMEM;
}

void table_done(struct table *t)
{
	free(t->buckets);
	*t = (struct table){0};
}

static void table_grow(struct table *t)
{
	size_t n = t->n_buckets * 2;
	struct table_node **buckets = calloc(n, sizeof(*buckets));

	if (!buckets)
		return;
	for (size_t i = 0; i < t->n_buckets; i++) {
		struct table_node *node = t->buckets[i];

		while (node) {
			struct table_node *next = node->next;
			struct table_node **slot = &buckets[node->hash & (n - 1)];

			node->next = *slot;
			*slot = node;
			node = next;
		}
	}
	free(t->buckets);
	t->buckets = buckets;
	t->n_buckets = n;
}

void table_insert(struct table *t, struct table_node *node, uint64_t hash)
{
	struct table_node **slot;

	if (t->count >= t->n_buckets)
		table_grow(t);
	slot = &t->buckets[hash & (t->n_buckets - 1)];
	node->hash = hash;
	node->next = *slot;
	*slot = node;
	t->count++;
}

void table_remove(struct table *t, struct table_node *node)
{
	struct table_node **slot = &t->buckets[node->hash & (t->n_buckets - 1)];

	while (*slot && *slot != node)
		slot = &(*slot)->next;
	assert(*slot); /* removing what was never inserted is our mistake */
	*slot = node->next;
	node->next = NULL;
	t->count--;
}

struct table_node *table_bucket(const struct table *t, uint64_t hash)
{
	return t->buckets[hash & (t->n_buckets - 1)];
}

void table_each(struct table *t, void (*fn)(struct table_node *node, void *ctx), void *ctx)
{
	for (size_t i = 0; i < t->n_buckets; i++) {
		struct table_node *node = t->buckets[i];

		while (node) {
			struct table_node *next = node->next;

			fn(node, ctx);
			node = next;
		}
	}
}

uint64_t table_hash_u64(uint64_t v)
{
	return XXH3_64bits(&v, sizeof(v));
}

uint64_t table_hash_bytes(const void *data, size_t size, uint64_t seed)
{
	return XXH3_64bits_withSeed(data, size, seed);
}
