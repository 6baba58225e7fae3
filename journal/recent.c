#include "journal/recent.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/table.h"

struct entry {
	struct table_node by_id;
	struct list link; /* of recent.entries, that wanted last at the end */
	int64_t id;
	struct hash128 hash;
	uint64_t size;
	char data[];
};

struct recent {
	size_t bytes, max_bytes;
	struct table by_id;
	struct list entries;
};

struct recent *recent_new(size_t max_bytes)
{
	struct recent *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	if (table_init(&r->by_id)) {
		free(r);
		return NULL;
	}
	list_init(&r->entries);
	r->max_bytes = max_bytes;
	return r;
}

static void drop(struct recent *r, struct entry *e)
{
	table_remove(&r->by_id, &e->by_id);
	list_remove(&e->link);
	r->bytes -= sizeof(*e) + (size_t)e->size;
	free(e);
}

void recent_forget_all(struct recent *r)
{
	while (!list_empty(&r->entries))
		drop(r, list_first(&r->entries, struct entry, link));
	assert(r->bytes == 0); /* each entry took back what it had added */
}

struct recent *recent_free(struct recent *r)
{
	if (!r)
		return NULL;
	recent_forget_all(r);
	table_done(&r->by_id);
	free(r);
	return NULL;
}

static struct entry *find(struct recent *r, int64_t id)
{
	struct table_node *node;

	table_for_each (node, &r->by_id, table_hash_u64((uint64_t)id)) {
		struct entry *e = container_of(node, struct entry, by_id);

		if (e->id == id)
			return e;
	}
	return NULL;
}

const char *recent_find(struct recent *r, int64_t id, struct hash128 hash, uint64_t size)
{
	struct entry *e = find(r, id);

	if (!e || e->size != size || !hash128_equal(e->hash, hash))
		return NULL;
	list_remove(&e->link);
	list_append(&r->entries, &e->link);
	return e->data;
}

void recent_add(
	struct recent *r, int64_t id, struct hash128 hash, const char *data, uint64_t size)
{
	size_t total = sizeof(struct entry) + (size_t)size;
	struct entry *e;

	recent_forget(r, id);
	if (total > r->max_bytes)
		return;
	while (r->bytes + total > r->max_bytes)
		drop(r, list_first(&r->entries, struct entry, link));
	e = malloc(total);
	if (!e)
		return; /* it will be read back */
	e->id = id;
	e->hash = hash;
	e->size = size;
	memcpy(e->data, data, (size_t)size);
	table_insert(&r->by_id, &e->by_id, table_hash_u64((uint64_t)id));
	list_append(&r->entries, &e->link);
	r->bytes += total;
}

void recent_forget(struct recent *r, int64_t id)
{
	struct entry *e = find(r, id);

	if (e)
		drop(r, e);
}
