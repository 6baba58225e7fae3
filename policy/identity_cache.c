#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>

#include "base/list.h"
#include "base/table.h"
#include "policy/identity_private.h"

enum {
	SHARDS = 16,
	KNOWN_MAX = 4096, /* processes in the cache, each with a descriptor */
	NOFILE_SHARE = 8, /* the cache takes at most that part of RLIMIT_NOFILE */
	COMM_FILE_SIZE = 64 + 1,
};

/*
 * A process in the cache, found by its pid. Its comm file stays open: the descriptor
 * means this very process and never one that has its pid later (a read then fails with
 * ESRCH), and its content changes with an exec. So one pread() answers whether it lives,
 * whether it is the same, and whether its flags still hold.
 *
 * Measured per call on a 2-core machine, kernel 6.18 (test_identity_real --measure): this
 * pread 0.2 us; tgkill and a signal 0 to a pidfd 0.3 us, which does not show an exec;
 * opening and reading stat anew 1.8 us. A whole identity_take() of a cached process
 * 0.4 us, of a new one eight levels deep 100 us.
 */
struct known {
	struct table_node node;
	struct list clock; /* in the shard's ring */
	pid_t pid;
	uint64_t start_ticks;
	int comm_fd; /* -1: none could be opened, or a fake /proc */
	char comm[COMM_FILE_SIZE];
	uint32_t comm_len;
	bool used; /* since the hand of the clock came by */
	struct process_entry *current;
};

struct shard {
	pthread_mutex_t lock; /* guards all below; held over one pread() at most */
	struct table known;
	struct list ring; /* oldest first */
};

struct cache {
	int proc_fd;
	bool fake_proc;
	size_t shard_max;
	struct shard shards[SHARDS];
};

struct process_entry *process_entry_of(const struct process *p)
{
	return container_of((struct process *)(uintptr_t)p, struct process_entry, p);
}

struct process_entry *process_entry_new(const char *command)
{
	size_t size = strlen(command) + 1;
	struct process_entry *e = calloc(1, sizeof(*e) + size);

	if (!e)
		return NULL;
	memcpy(e->command, command, size);
	e->p.command = e->command;
	e->refs = 1;
	return e;
}

struct process *process_ref(struct process *p)
{
	uint32_t before =
		__atomic_fetch_add(&process_entry_of(p)->refs, 1, __ATOMIC_RELAXED);

	assert(before > 0); /* a reference comes from a reference */
	return p;
}

void process_put(struct identity *identity, struct process *p)
{
	uint32_t before;

	(void)identity;
	if (!p)
		return;
	before = __atomic_fetch_sub(&process_entry_of(p)->refs, 1, __ATOMIC_ACQ_REL);
	assert(before > 0);
	if (before == 1)
		free(process_entry_of(p));
}

static struct shard *shard_of(struct cache *c, pid_t pid, uint64_t *hash)
{
	*hash = table_hash_u64((uint64_t)pid);
	return &c->shards[*hash >> 60];
}

static struct known *known_find(struct shard *s, pid_t pid, uint64_t hash)
{
	struct table_node *node;

	table_for_each (node, &s->known, hash) {
		struct known *k = container_of(node, struct known, node);

		if (k->pid == pid)
			return k;
	}
	return NULL;
}

/* Under the shard's lock. */
static void known_drop(struct shard *s, struct known *k)
{
	table_remove(&s->known, &k->node);
	list_remove(&k->clock);
	writers_count(k->current->p.writer, -1);
	process_put(NULL, &k->current->p);
	if (k->comm_fd >= 0)
		close(k->comm_fd);
	free(k);
}

static ssize_t comm_read(int fd, char comm[COMM_FILE_SIZE])
{
	ssize_t n;

	do
		n = pread(fd, comm, COMM_FILE_SIZE, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

/* Still the same process, running the same program. */
static bool known_current(const struct cache *c, const struct known *k)
{
	char comm[COMM_FILE_SIZE];
	struct proc_stat st;

	if (k->comm_fd >= 0) {
		ssize_t n = comm_read(k->comm_fd, comm);

		return n >= 0 && (size_t)n == k->comm_len &&
		       memcmp(comm, k->comm, (size_t)n) == 0;
	}
	return proc_read_stat(c->proc_fd, k->pid, &st) == 0 &&
	       st.start_ticks == k->start_ticks && strcmp(st.comm, k->current->p.comm) == 0;
}

static bool known_alive(const struct cache *c, const struct known *k)
{
	char comm[COMM_FILE_SIZE];

	if (k->comm_fd >= 0 && comm_read(k->comm_fd, comm) < 0)
		return false;
	return proc_alive(c->proc_fd, k->pid, k->start_ticks);
}

struct process *cache_take(struct cache *c, pid_t tgid, uid_t uid, gid_t gid)
{
	struct process *p = NULL;
	struct known *k;
	struct shard *s;
	uint64_t hash;

	s = shard_of(c, tgid, &hash);
	pthread_mutex_lock(&s->lock);
	k = known_find(s, tgid, hash);
	if (k && k->current->p.uid == uid && k->current->p.gid == gid &&
		known_current(c, k)) {
		k->used = true;
		p = process_ref(&k->current->p);
	}
	pthread_mutex_unlock(&s->lock);
	return p;
}

/* Second chance: whoever was not used since the hand came by goes. Forgetting is safe,
 * for the serial and the writer come out the same again. */
static void cache_make_room(const struct cache *c, struct shard *s)
{
	while (s->known.count >= c->shard_max) {
		struct known *k = list_first(&s->ring, struct known, clock);

		if (k->used) {
			k->used = false;
			list_remove(&k->clock);
			list_append(&s->ring, &k->clock);
			continue;
		}
		known_drop(s, k);
	}
}

/* Put k in, instead of what was there for its pid. */
void cache_put(
	struct cache *c, struct known *k, struct process_entry *e, uint64_t start_ticks)
{
	struct known *old;
	struct shard *s;
	uint64_t hash;

	s = shard_of(c, k->pid, &hash);
	k->current = e;
	k->start_ticks = start_ticks;
	writers_count(e->p.writer, 1);
	pthread_mutex_lock(&s->lock);
	old = known_find(s, k->pid, hash);
	if (old)
		known_drop(s, old);
	cache_make_room(c, s);
	list_append(&s->ring, &k->clock);
	table_insert(&s->known, &k->node, hash);
	pthread_mutex_unlock(&s->lock);
}

struct process *cache_take_former(struct cache *c, pid_t tgid, uint64_t start)
{
	struct process *p = NULL;
	struct known *k;
	struct shard *s;
	uint64_t hash;

	s = shard_of(c, tgid, &hash);
	pthread_mutex_lock(&s->lock);
	k = known_find(s, tgid, hash);
	if (k && k->start_ticks == start)
		p = process_ref(&k->current->p);
	pthread_mutex_unlock(&s->lock);
	return p;
}

struct known *known_new(const struct cache *c, pid_t pid)
{
	struct known *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	list_init(&k->clock);
	k->pid = pid;
	k->comm_fd = -1;
	k->used = true;
	if (!c->fake_proc && proc_open(c->proc_fd, pid, "comm", &k->comm_fd) == 0) {
		ssize_t n = comm_read(k->comm_fd, k->comm);

		k->comm_len = n < 0 ? 0 : (uint32_t)n;
	}
	return k;
}

void known_free(struct known *k)
{
	if (k->comm_fd >= 0)
		close(k->comm_fd);
	free(k);
}

void cache_sweep(struct cache *c)
{
	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &c->shards[i];
		struct known *k, *tmp;

		pthread_mutex_lock(&s->lock);
		list_for_each_safe (k, tmp, &s->ring, clock)
			if (!known_alive(c, k))
				known_drop(s, k);
		pthread_mutex_unlock(&s->lock);
	}
}

/* The backing needs descriptors more than the cache does. */
static size_t cache_size(void)
{
	struct rlimit limit;
	size_t max = KNOWN_MAX;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / NOFILE_SHARE < max)
		max = limit.rlim_cur / NOFILE_SHARE;
	return max < SHARDS ? SHARDS : max;
}

int cache_new(struct cache **out, int proc_fd, bool fake_proc)
{
	struct cache *c = calloc(1, sizeof(*c));
	int r = 0;

	if (!c)
		return -ENOMEM;
	c->proc_fd = proc_fd;
	c->fake_proc = fake_proc;
	c->shard_max = cache_size() / SHARDS;
	for (int i = 0; i < SHARDS; i++) {
		pthread_mutex_init(&c->shards[i].lock, NULL);
		list_init(&c->shards[i].ring);
	}
	for (int i = 0; r == 0 && i < SHARDS; i++)
		r = table_init(&c->shards[i].known);
	if (r < 0) {
		cache_free(c);
		return r;
	}
	*out = c;
	return 0;
}

struct cache *cache_free(struct cache *c)
{
	if (!c)
		return NULL;
	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &c->shards[i];
		struct known *k, *tmp;

		list_for_each_safe (k, tmp, &s->ring, clock)
			known_drop(s, k);
		table_done(&s->known);
		pthread_mutex_destroy(&s->lock);
	}
	free(c);
	return NULL;
}
