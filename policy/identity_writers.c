#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/table.h"
#include "policy/identity_private.h"

enum { KEY_SIZE = 256, NAME_SIZE = 96, VALUE_SHOWN = 100 };

/* A name or a key of a writer; several keys may lead to one writer. */
struct index_entry {
	struct table_node node;
	struct writer_entry *entry;
	char text[];
};

struct writer_entry {
	struct writer w;
	struct writer_entry *next; /* in order of id */
	uint64_t start_ticks;	   /* of w.pid */
	bool from_journal;	   /* a name read from there that nobody has claimed yet */
	uint32_t n_processes;	   /* relaxed atomic */
};

struct writers {
	int proc_fd;
	const struct clock *clock;
	bool (*name_is_taken)(const char *name, void *ctx);
	bool (*name_is_its_own)(const char *name, pid_t pid, int64_t start_ns, void *ctx);
	void *name_ctx;
	pthread_mutex_t lock; /* guards all below */
	struct table by_name, by_key;
	struct writer_entry *first, *last;
	uint32_t n_writers;
	struct writer *unknown, *daemon, *bound; /* set once, before anybody shares ws */
};

static struct writer_entry *entry_of(struct writer *w)
{
	return container_of(w, struct writer_entry, w);
}

static struct index_entry *index_find(const struct table *t, const char *text)
{
	uint64_t hash = table_hash_bytes(text, strlen(text), 0);
	struct table_node *node;

	table_for_each (node, t, hash) {
		struct index_entry *i = container_of(node, struct index_entry, node);

		if (strcmp(i->text, text) == 0)
			return i;
	}
	return NULL;
}

static bool index_add(struct table *t, const char *text, struct writer_entry *entry)
{
	size_t len = strlen(text);
	struct index_entry *i;

	if (t->count >= WRITERS_MAX)
		return false;
	i = malloc(sizeof(*i) + len + 1);
	if (!i)
		return false;
	i->entry = entry;
	memcpy(i->text, text, len + 1);
	table_insert(t, &i->node, table_hash_bytes(text, len, 0));
	return true;
}

static void index_free_entry(struct table_node *node, void *ctx)
{
	(void)ctx;
	free(container_of(node, struct index_entry, node));
}

/* Names come from outside: printable ASCII that needs no quoting anywhere. */
static void sanitize(char out[NAME_SIZE], const char *name)
{
	size_t len = 0;

	for (; *name && len < NAME_SIZE - 32; name++) { /* room for the suffixes */
		bool good = (*name >= 'a' && *name <= 'z') ||
			    (*name >= 'A' && *name <= 'Z') ||
			    (*name >= '0' && *name <= '9') || strchr("._-", *name);

		out[len++] = good ? *name : '_';
	}
	out[len] = '\0';
	if (len == 0 || out[0] == '-')
		out[0] = '_';
	if (len == 0)
		out[1] = '\0';
}

static bool in_use(const struct writers *ws, enum writer_rule rule, const char *name)
{
	bool by_place =
		rule == WRITER_AGENT || rule == WRITER_TERMINAL || rule == WRITER_ANCESTOR;

	return index_find(&ws->by_name, name) ||
	       (by_place && ws->name_is_taken && ws->name_is_taken(name, ws->name_ctx));
}

static void unique_name(
	const struct writers *ws, enum writer_rule rule, char name[NAME_SIZE])
{
	char tried[NAME_SIZE];

	strcpy(tried, name);
	for (unsigned i = 2; in_use(ws, rule, tried); i++)
		snprintf(tried, sizeof(tried), "%.*s-%u", NAME_SIZE - 16, name, i);
	strcpy(name, tried);
}

/* A new writer of that name, which must be unique; NULL when there is no room. */
static struct writer_entry *entry_new(
	struct writers *ws, const struct writer_claim *c, const char *name)
{
	struct writer_entry *e;

	if (ws->n_writers >= WRITERS_MAX)
		return NULL;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->w = (struct writer){
		.id = ws->n_writers,
		.name = strdup(name),
		.rule = c->rule,
		.uid = c->uid,
		.pid = c->pid,
		.start_ns = proc_ticks_ns(c->start_ticks),
		.first_seen_ns = clock_boot_ns(ws->clock),
		.refusal_errno = c->refusal_errno,
	};
	e->w.last_seen_ns = e->w.first_seen_ns;
	e->start_ticks = c->start_ticks;
	if (!e->w.name || !index_add(&ws->by_name, name, e)) {
		free(e->w.name);
		free(e);
		return NULL;
	}
	if (ws->last)
		ws->last->next = e;
	else
		ws->first = e;
	ws->last = e;
	ws->n_writers++;
	return e;
}

/* A new writer under that key, or `unknown`. */
static struct writer *add(struct writers *ws, const struct writer_claim *c, const char *key,
	const char *wanted_name)
{
	char name[NAME_SIZE];
	struct writer_entry *e;

	/* A writer without its key would be made anew at each call: no key, no writer. */
	if (ws->by_key.count >= WRITERS_MAX)
		return ws->unknown;
	sanitize(name, wanted_name);
	unique_name(ws, c->rule, name);
	e = entry_new(ws, c, name);
	if (!e || !index_add(&ws->by_key, key, e))
		return ws->unknown;
	return &e->w;
}

/* w becomes the claimant's: a name from the journal, or of a run that has ended. Others
 * read these fields without our lock. */
static void hand_over(struct writer_entry *e, const struct writer_claim *c)
{
	e->from_journal = false;
	e->start_ticks = c->start_ticks;
	__atomic_store_n(&e->w.rule, c->rule, __ATOMIC_RELAXED);
	__atomic_store_n(&e->w.pid, c->pid, __ATOMIC_RELAXED);
	__atomic_store_n(&e->w.start_ns, proc_ticks_ns(c->start_ticks), __ATOMIC_RELAXED);
}

static struct writer *adopt(struct writers *ws, struct writer_entry *e,
	const struct writer_claim *c, const char *key)
{
	if (!index_add(&ws->by_key, key, e))
		return ws->unknown;
	hand_over(e, c);
	return &e->w;
}

/* W2, W3: who was that writer before the daemon was started anew is it still. NULL: nobody
 * who is known to have been. */
static struct writer *returning(
	struct writers *ws, const struct writer_claim *c, const char *key)
{
	char name[NAME_SIZE];
	struct index_entry *found;
	struct writer_entry *e;

	sanitize(name, c->name);
	if (!ws->name_is_its_own || !ws->name_is_its_own(name, c->pid,
					    proc_ticks_ns(c->start_ticks), ws->name_ctx))
		return NULL;
	found = index_find(&ws->by_name, name);
	if (found)
		return found->entry->from_journal ? adopt(ws, found->entry, c, key) : NULL;
	e = entry_new(ws, c, name);
	return e && index_add(&ws->by_key, key, e) ? &e->w : ws->unknown;
}

struct writer *writers_of_process(struct writers *ws, const struct writer_claim *c)
{
	char key[KEY_SIZE];
	struct index_entry *found;
	struct writer *w;

	snprintf(key, sizeof(key), "process:%d:%d:%llu", (int)c->rule, (int)c->pid,
		(unsigned long long)c->start_ticks);
	pthread_mutex_lock(&ws->lock);
	found = index_find(&ws->by_key, key);
	w = found ? &found->entry->w : returning(ws, c, key);
	if (!w)
		w = add(ws, c, key, c->name);
	pthread_mutex_unlock(&ws->lock);
	return w;
}

/* The writer of (uid, name), under ws->lock. Another uid's name is another writer. */
static struct writer *named(struct writers *ws, const struct writer_claim *c, bool *made)
{
	char key[KEY_SIZE], name[NAME_SIZE], other[NAME_SIZE];
	struct index_entry *found;

	sanitize(name, c->name);
	snprintf(key, sizeof(key), "name:%u:%s", (unsigned)c->uid, name);
	*made = false;
	found = index_find(&ws->by_key, key);
	if (found)
		return &found->entry->w;
	*made = true;
	found = index_find(&ws->by_name, name);
	if (!found)
		return add(ws, c, key, name);
	if (found->entry->from_journal && found->entry->w.uid == c->uid)
		return adopt(ws, found->entry, c, key);
	snprintf(other, sizeof(other), "%.*s-u%u", NAME_SIZE - 32, name, (unsigned)c->uid);
	found = index_find(&ws->by_name, other);
	if (found && found->entry->from_journal && found->entry->w.uid == c->uid)
		return adopt(ws, found->entry, c, key);
	return add(ws, c, key, other);
}

struct writer *writers_of_name(struct writers *ws, const struct writer_claim *c)
{
	struct writer *w;
	bool made;

	pthread_mutex_lock(&ws->lock);
	w = named(ws, c, &made);
	pthread_mutex_unlock(&ws->lock);
	return w;
}

static struct writer *second_launcher(
	struct writers *ws, const struct writer_claim *c, const char *key)
{
	char name[NAME_SIZE];

	/* W2: two running instances are two writers. */
	snprintf(name, sizeof(name), "%s-%d", c->name, (int)c->pid);
	return add(ws, c, key, name);
}

struct writer *writers_of_run(
	struct writers *ws, const struct writer_claim *c, const struct proc_stat *front)
{
	char key[KEY_SIZE];
	struct index_entry *own;
	struct writer_entry *e;
	struct writer *w;
	bool made;

	snprintf(key, sizeof(key), "run:%u:%s:%d:%llu", (unsigned)c->uid, c->name,
		(int)c->pid, (unsigned long long)c->start_ticks);
	pthread_mutex_lock(&ws->lock);
	own = index_find(&ws->by_key, key);
	w = own ? &own->entry->w : named(ws, c, &made);
	e = entry_of(w);
	if (!own && !made && w != ws->unknown &&
		!(e->w.pid == c->pid && e->start_ticks == c->start_ticks)) {
		bool is_front = front->pid > 0 && e->w.pid == front->pid &&
				e->start_ticks == front->start_ticks;

		if (e->w.rule != WRITER_RUN || is_front ||
			!proc_alive(ws->proc_fd, e->w.pid, e->start_ticks))
			hand_over(e, c); /* one after the other: one writer */
		else
			w = second_launcher(ws, c, key);
	}
	pthread_mutex_unlock(&ws->lock);
	return w;
}

bool variable_is_flag(const char *value)
{
	return !*value || strcmp(value, "1") == 0 || strcmp(value, "0") == 0 ||
	       strcmp(value, "true") == 0 || strcmp(value, "yes") == 0;
}

/* Values may be of any length: what is not shown is hashed. */
static void variable_key(
	char key[KEY_SIZE], uid_t uid, const char *variable, const char *value)
{
	snprintf(key, KEY_SIZE, "variable:%u:%.64s:%.*s:%016llx", (unsigned)uid, variable,
		VALUE_SHOWN, value,
		(unsigned long long)table_hash_bytes(value, strlen(value), 1));
}

struct writer *writers_of_variable(struct writers *ws, const struct writer_claim *c,
	const char *variable, const char *value)
{
	char key[KEY_SIZE], name[NAME_SIZE];
	struct index_entry *found;
	struct writer *w;

	variable_key(key, c->uid, variable, value);
	if (variable_is_flag(value))
		snprintf(name, sizeof(name), "%.48s", c->name);
	else
		snprintf(name, sizeof(name), "%.48s-%.8s", c->name, value);
	pthread_mutex_lock(&ws->lock);
	found = index_find(&ws->by_key, key);
	if (found) {
		w = &found->entry->w;
	} else {
		/* Another uid's is told apart at a glance, not by a number only. */
		if (index_find(&ws->by_name, name)) {
			size_t len = strlen(name);

			snprintf(name + len, sizeof(name) - len, "-u%u", (unsigned)c->uid);
		}
		w = add(ws, c, key, name);
	}
	pthread_mutex_unlock(&ws->lock);
	return w;
}

void writers_alias(struct writers *ws, struct writer *w, uid_t uid, const char *variable,
	const char *value)
{
	char key[KEY_SIZE];
	struct index_entry *found;

	variable_key(key, uid, variable, value);
	pthread_mutex_lock(&ws->lock);
	found = index_find(&ws->by_key, key);
	if (!found)
		(void)index_add(&ws->by_key, key, entry_of(w));
	else if (&found->entry->w != w &&
		 !proc_alive(ws->proc_fd, found->entry->w.pid, found->entry->start_ticks))
		found->entry = entry_of(w); /* the session goes on in another process */
	pthread_mutex_unlock(&ws->lock);
}

struct writer *writers_from_journal(struct writers *ws, const char *name, uid_t uid)
{
	struct writer_claim c = {.rule = WRITER_UNKNOWN, .uid = uid};
	char clean[NAME_SIZE];
	struct index_entry *found;
	struct writer_entry *e;

	sanitize(clean, name);
	pthread_mutex_lock(&ws->lock);
	found = index_find(&ws->by_name, clean);
	e = found ? found->entry : entry_new(ws, &c, clean);
	if (e && !found)
		e->from_journal = true;
	pthread_mutex_unlock(&ws->lock);
	return e ? &e->w : ws->unknown;
}

struct writer *writers_find(struct writers *ws, const char *name)
{
	struct index_entry *found;

	pthread_mutex_lock(&ws->lock);
	found = index_find(&ws->by_name, name);
	pthread_mutex_unlock(&ws->lock);
	return found ? &found->entry->w : NULL;
}

struct writer *writers_unknown(struct writers *ws)
{
	return ws->unknown;
}

struct writer *writers_daemon(struct writers *ws)
{
	return ws->daemon;
}

struct writer *writers_bound(struct writers *ws)
{
	return ws->bound;
}

void writers_set_errno(struct writers *ws, struct writer *w, int refusal_errno)
{
	/* `unknown` is everybody's, the mount's writer too: there the mount decides. */
	if (w != ws->unknown && w != ws->bound &&
		__atomic_load_n(&w->refusal_errno, __ATOMIC_RELAXED) != refusal_errno)
		__atomic_store_n(&w->refusal_errno, refusal_errno, __ATOMIC_RELAXED);
}

void writers_touch(struct writers *ws, struct writer *w)
{
	__atomic_store_n(&w->last_seen_ns, clock_boot_ns(ws->clock), __ATOMIC_RELAXED);
}

void writers_count(struct writer *w, int n_processes)
{
	__atomic_fetch_add(
		&entry_of(w)->n_processes, (uint32_t)n_processes, __ATOMIC_RELAXED);
}

void writers_each(struct writers *ws, writer_fn *fn, void *ctx)
{
	struct writer_entry *e;

	/* Writers are never removed and never move: fn may call back into identity. */
	pthread_mutex_lock(&ws->lock);
	e = ws->first;
	pthread_mutex_unlock(&ws->lock);
	while (e) {
		fn(&e->w, __atomic_load_n(&e->n_processes, __ATOMIC_RELAXED), ctx);
		pthread_mutex_lock(&ws->lock);
		e = e->next;
		pthread_mutex_unlock(&ws->lock);
	}
}

static int add_standing(struct writers *ws, const char *bound_name)
{
	struct writer_claim c = {.rule = WRITER_UNKNOWN, .uid = (uid_t)-1};
	struct writer_entry *e = entry_new(ws, &c, "unknown"); /* gets id 0 */

	if (!e)
		return -ENOMEM;
	ws->unknown = &e->w;
	c = (struct writer_claim){.rule = WRITER_DAEMON, .uid = geteuid(), .pid = getpid()};
	e = entry_new(ws, &c, "stompfs");
	if (!e)
		return -ENOMEM;
	ws->daemon = &e->w;
	if (!bound_name)
		return 0;
	c = (struct writer_claim){
		.rule = WRITER_MOUNT, .uid = geteuid(), .name = bound_name};
	ws->bound = add(ws, &c, "mount", bound_name);
	return ws->bound == ws->unknown ? -ENOMEM : 0;
}

int writers_new(struct writers **out, const struct identity_options *options)
{
	struct writers *ws = calloc(1, sizeof(*ws));
	int r;

	if (!ws)
		return -ENOMEM;
	ws->proc_fd = options->proc_fd;
	ws->clock = options->clock;
	ws->name_is_taken = options->name_is_taken;
	ws->name_is_its_own = options->name_is_its_own;
	ws->name_ctx = options->name_ctx;
	pthread_mutex_init(&ws->lock, NULL);
	r = table_init(&ws->by_name);
	if (r == 0)
		r = table_init(&ws->by_key);
	if (r == 0)
		r = add_standing(ws, options->bound_name);
	if (r < 0) {
		writers_free(ws);
		return r;
	}
	*out = ws;
	return 0;
}

struct writers *writers_free(struct writers *ws)
{
	if (!ws)
		return NULL;
	if (ws->by_name.buckets)
		table_each(&ws->by_name, index_free_entry, NULL);
	if (ws->by_key.buckets)
		table_each(&ws->by_key, index_free_entry, NULL);
	table_done(&ws->by_name);
	table_done(&ws->by_key);
	while (ws->first) {
		struct writer_entry *next = ws->first->next;

		free(ws->first->w.name);
		free(ws->first);
		ws->first = next;
	}
	pthread_mutex_destroy(&ws->lock);
	free(ws);
	return NULL;
}
