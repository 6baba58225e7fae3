#include "fs/lineage.h"

#include <string.h>

#include "fs/file.h"

struct parked {
	struct table_node node;
	struct list age;
	uint64_t dev, ino;
	struct file *file;
	char name[];
};

int lineages_init(struct lineages *l)
{
	*l = (struct lineages){0};
	pthread_mutex_init(&l->lock, NULL);
	list_init(&l->by_age);
	return table_init(&l->table);
}

static struct file *unpark(struct lineages *l, struct parked *p)
{
	struct file *f = p->file;

	table_remove(&l->table, &p->node);
	list_remove(&p->age);
	__atomic_fetch_sub(&l->count, 1, __ATOMIC_RELEASE);
	free(p);
	return f;
}

void lineages_done(struct lineages *l)
{
	while (!list_empty(&l->by_age))
		file_put(NULL, unpark(l, list_first(&l->by_age, struct parked, age)));
	table_done(&l->table);
	pthread_mutex_destroy(&l->lock);
}

static uint64_t place_hash(uint64_t dev, uint64_t ino, const char *name)
{
	return table_hash_bytes(name, strlen(name), ino ^ dev << 32);
}

static struct parked *find(
	struct lineages *l, uint64_t hash, uint64_t dev, uint64_t ino, const char *name)
{
	struct table_node *node;

	table_for_each (node, &l->table, hash) {
		struct parked *p = container_of(node, struct parked, node);

		if (p->dev == dev && p->ino == ino && strcmp(p->name, name) == 0)
			return p;
	}
	return NULL;
}

void lineages_park(
	struct lineages *l, uint64_t dev, uint64_t ino, const char *name, struct file *file)
{
	uint64_t hash = place_hash(dev, ino, name);
	size_t size = strlen(name) + 1;
	struct parked *p = malloc(sizeof(*p) + size), *old;
	struct file *drop = NULL, *oldest = NULL;

	if (!p) {
		file_put(NULL, file);
		return;
	}
	*p = (struct parked){.dev = dev, .ino = ino, .file = file};
	memcpy(p->name, name, size);
	pthread_mutex_lock(&l->lock);
	old = find(l, hash, dev, ino, name);
	if (old)
		drop = unpark(l, old);
	table_insert(&l->table, &p->node, hash);
	list_append(&l->by_age, &p->age);
	if (__atomic_add_fetch(&l->count, 1, __ATOMIC_RELEASE) > LINEAGES_MAX)
		oldest = unpark(l, list_first(&l->by_age, struct parked, age));
	pthread_mutex_unlock(&l->lock);
	file_put(NULL, drop);
	file_put(NULL, oldest);
}

struct file *lineages_take(struct lineages *l, uint64_t dev, uint64_t ino, const char *name)
{
	struct file *f = NULL;
	struct parked *p;

	if (__atomic_load_n(&l->count, __ATOMIC_ACQUIRE) == 0)
		return NULL;
	pthread_mutex_lock(&l->lock);
	p = find(l, place_hash(dev, ino, name), dev, ino, name);
	if (p)
		f = unpark(l, p);
	pthread_mutex_unlock(&l->lock);
	return f;
}
