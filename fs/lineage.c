#include "fs/lineage.h"

#include <string.h>

#include "fs/file.h"
#include "fs/trace.h"
#include "fs/workspace.h"

/* Looked at for each one that comes: those that must stay are passed over. */
enum { TRIES = 4 };

static const int64_t MOMENT_EVERY_NS = 100 * NS_PER_MS;

struct parked {
	struct table_node node;
	struct list age; /* in whole or traces */
	uint64_t dev, ino;
	struct file *file;   /* one of these two */
	struct trace *trace; /* its bytes are counted */
	char name[];
};

static void add(uint64_t *figure, uint64_t n)
{
	__atomic_fetch_add(figure, n, __ATOMIC_RELEASE);
}

static void sub(uint64_t *figure, uint64_t n)
{
	__atomic_fetch_sub(figure, n, __ATOMIC_RELEASE);
}

int lineages_init(struct workspace *ws, uint64_t max_bytes)
{
	struct lineages *l = &ws->lineages;

	*l = (struct lineages){
		.max_bytes = max_bytes,
		.mounted_seq = journal_last_seq(ws->journal),
	};
	pthread_mutex_init(&l->lock, NULL);
	list_init(&l->whole);
	list_init(&l->traces);
	return table_init(&l->table);
}

/* What malloc adds to each of two. */
static uint64_t bytes_of(const struct parked *p)
{
	enum { MALLOC_ADDS = 16 };

	return sizeof(*p) + strlen(p->name) + 1 + trace_size(p->trace) + 2 * MALLOC_ADDS;
}

/* Out of the table; what it holds is the caller's. */
static void remove_parked(struct lineages *l, struct parked *p)
{
	table_remove(&l->table, &p->node);
	list_remove(&p->age);
	sub(&l->count, 1);
	if (p->trace)
		sub(&l->bytes, bytes_of(p));
	else
		sub(&l->n_whole, 1);
}

static void parked_free(struct parked *p)
{
	if (!p)
		return;
	file_put(NULL, p->file);
	trace_free(p->trace);
	free(p);
}

static void drop_all(struct lineages *l, struct list *list)
{
	while (!list_empty(list)) {
		struct parked *p = list_first(list, struct parked, age);

		remove_parked(l, p);
		parked_free(p);
	}
}

void lineages_done(struct lineages *l)
{
	if (!l->table.buckets)
		return; /* the workspace was never opened */
	drop_all(l, &l->whole);
	drop_all(l, &l->traces);
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

/* ---- what is given up; under the lock ---- */

static void to_end(struct list *list, struct parked *p)
{
	list_remove(&p->age);
	list_append(list, &p->age);
}

/* Who parked it may not have let go of it yet; who waits for it holds a reference, and so
 * does a session. */
static bool is_used(const struct file *f)
{
	return __atomic_load_n(&f->refs, __ATOMIC_ACQUIRE) != 1 || f->pending;
}

static void shrink_oldest(struct lineages *l, int64_t now_ns)
{
	struct parked *p = list_first(&l->whole, struct parked, age);
	struct trace *t = is_used(p->file) ? NULL : trace_new(p->file, now_ns);

	if (!t) {
		to_end(&l->whole, p);
		return;
	}
	file_put(NULL, p->file);
	p->file = NULL;
	p->trace = t;
	to_end(&l->traces, p);
	sub(&l->n_whole, 1);
	add(&l->bytes, bytes_of(p));
}

/* When there are too many, every other one goes: the later of two holds for both. */
static void note_moment(struct lineages *l, uint64_t seq, int64_t now_ns)
{
	struct lineage_moment *m = l->moments;

	if (l->n_moments && now_ns - m[l->n_moments - 1].at_ns < MOMENT_EVERY_NS)
		return;
	if (l->n_moments == LINEAGES_MOMENTS) {
		for (uint32_t i = 0; i < LINEAGES_MOMENTS / 2; i++)
			m[i] = m[2 * i + 1];
		l->n_moments /= 2;
	}
	m[l->n_moments++] = (struct lineage_moment){seq, now_ns};
}

static void forget_oldest(struct workspace *ws, int64_t now_ns)
{
	struct lineages *l = &ws->lineages;
	struct parked *p = list_first(&l->traces, struct parked, age);

	if (!trace_may_go(ws, p->trace, now_ns)) {
		to_end(&l->traces, p);
		return;
	}
	remove_parked(l, p);
	parked_free(p);
	add(&l->forgotten, 1);
	note_moment(l, journal_last_seq(ws->journal), now_ns);
}

static void keep_bounds(struct workspace *ws)
{
	struct lineages *l = &ws->lineages;
	int64_t now_ns = workspace_now(ws);

	for (int i = 0; i < TRIES && l->n_whole > LINEAGES_WHOLE; i++)
		shrink_oldest(l, now_ns);
	for (int i = 0; i < TRIES && l->bytes > l->max_bytes && !list_empty(&l->traces);
		i++)
		forget_oldest(ws, now_ns);
}

/* ---- in and out ---- */

void lineages_park(struct workspace *ws, uint64_t dev, uint64_t ino, const char *name,
	struct file *file)
{
	struct lineages *l = &ws->lineages;
	uint64_t hash = place_hash(dev, ino, name);
	size_t size = strlen(name) + 1;
	struct parked *p = malloc(sizeof(*p) + size), *old;

	if (!p) {
		file_put(NULL, file);
		return;
	}
	*p = (struct parked){.dev = dev, .ino = ino, .file = file};
	memcpy(p->name, name, size);
	pthread_mutex_lock(&l->lock);
	old = find(l, hash, dev, ino, name);
	if (old)
		remove_parked(l, old);
	table_insert(&l->table, &p->node, hash);
	list_append(&l->whole, &p->age);
	add(&l->count, 1);
	add(&l->n_whole, 1);
	keep_bounds(ws);
	pthread_mutex_unlock(&l->lock);
	parked_free(old);
}

/* Without memory it is as if it had been forgotten. */
static struct file *revive(const struct trace *t)
{
	struct file *f;

	if (file_new(&f) < 0)
		return NULL;
	trace_recall(t, f);
	return f;
}

struct file *lineages_take(
	struct workspace *ws, uint64_t dev, uint64_t ino, const char *name)
{
	struct lineages *l = &ws->lineages;
	struct parked *p;
	struct file *f;

	if (__atomic_load_n(&l->count, __ATOMIC_ACQUIRE) == 0)
		return NULL;
	pthread_mutex_lock(&l->lock);
	p = find(l, place_hash(dev, ino, name), dev, ino, name);
	if (p)
		remove_parked(l, p);
	pthread_mutex_unlock(&l->lock);
	if (!p)
		return NULL;
	f = p->file ? p->file : revive(p->trace);
	p->file = NULL;
	parked_free(p);
	return f;
}

int64_t lineages_made_before(struct workspace *ws, uint64_t seq)
{
	struct lineages *l = &ws->lineages;
	int64_t at_ns;

	if (seq <= l->mounted_seq)
		return ws->mounted_ns;
	at_ns = workspace_now(ws);
	pthread_mutex_lock(&l->lock);
	for (uint32_t i = l->n_moments; i-- > 0 && l->moments[i].seq >= seq;)
		at_ns = l->moments[i].at_ns;
	pthread_mutex_unlock(&l->lock);
	return at_ns;
}
