#include "policy/claims.h"

#include <pthread.h>
#include <string.h>

#include "base/list.h"
#include "policy/rules.h"

struct entry {
	struct list node;
	char *pattern, *reason;
	struct writer *holder;
	uint64_t epoch;
	int64_t expires_ns;
};

struct claims {
	pthread_mutex_t lock;
	struct list entries;
	unsigned count; /* read without the lock */
};

int claims_new(struct claims **out)
{
	struct claims *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	list_init(&c->entries);
	*out = c;
	return 0;
}

static void entry_remove(struct claims *c, struct entry *e)
{
	list_remove(&e->node);
	__atomic_fetch_sub(&c->count, 1, __ATOMIC_RELEASE);
	free(e->pattern);
	free(e->reason);
	free(e);
}

struct claims *claims_free(struct claims *c)
{
	struct entry *e, *tmp;

	if (!c)
		return NULL;
	list_for_each_safe (e, tmp, &c->entries, node)
		entry_remove(c, e);
	pthread_mutex_destroy(&c->lock);
	free(c);
	return NULL;
}

bool claim_is_pattern(const char *pattern)
{
	size_t len = strlen(pattern);

	return strpbrk(pattern, "*?[") || (len && pattern[len - 1] == '/');
}

bool claim_covers(const char *pattern, const char *path, size_t len)
{
	size_t plain = strlen(pattern);

	if (claim_is_pattern(pattern))
		return rules_match(pattern, path, len, false);
	if (len < plain || memcmp(pattern, path, plain) != 0)
		return false;
	return len == plain || path[plain] == '/';
}

struct writer *claims_blocker(struct claims *c, const char *path, size_t len,
	const struct writer *w, int64_t now_ns, int64_t *until_ns)
{
	struct writer *blocker = NULL;
	struct entry *e;

	if (claims_none(c))
		return NULL;
	pthread_mutex_lock(&c->lock);
	list_for_each (e, &c->entries, node) {
		if (e->holder == w || now_ns >= e->expires_ns ||
			!claim_covers(e->pattern, path, len))
			continue;
		blocker = e->holder;
		*until_ns = e->expires_ns;
		break;
	}
	pthread_mutex_unlock(&c->lock);
	return blocker;
}

bool claims_none(const struct claims *c)
{
	return __atomic_load_n(&c->count, __ATOMIC_ACQUIRE) == 0;
}

struct writer *claims_covered(
	struct claims *c, const char *pattern, const struct writer *w, int64_t now_ns)
{
	struct writer *found = NULL;
	struct entry *e;

	if (claims_none(c))
		return NULL;
	pthread_mutex_lock(&c->lock);
	list_for_each (e, &c->entries, node)
		if (!found && e->holder != w && now_ns < e->expires_ns &&
			claim_covers(pattern, e->pattern, strlen(e->pattern)))
			found = e->holder;
	pthread_mutex_unlock(&c->lock);
	return found;
}

static struct entry *find_entry(
	struct claims *c, const char *pattern, const struct writer *holder)
{
	struct entry *e;

	list_for_each (e, &c->entries, node)
		if ((!holder || e->holder == holder) && strcmp(e->pattern, pattern) == 0)
			return e;
	return NULL;
}

int claims_set(struct claims *c, const struct claim *claim)
{
	auto_free char *pattern = strdup(claim->pattern);
	auto_free char *reason = claim->reason ? strdup(claim->reason) : NULL;
	struct entry *e;

	if (!pattern || (claim->reason && !reason))
		return -ENOMEM;
	pthread_mutex_lock(&c->lock);
	e = find_entry(c, pattern, claim->holder);
	if (!e) {
		e = calloc(1, sizeof(*e));
		if (e) {
			e->pattern = steal_ptr(pattern);
			e->holder = claim->holder;
			list_append(&c->entries, &e->node);
			__atomic_fetch_add(&c->count, 1, __ATOMIC_RELEASE);
		}
	}
	if (e) {
		e->epoch = claim->epoch;
		e->expires_ns = claim->expires_ns;
		if (reason) {
			free(e->reason);
			e->reason = steal_ptr(reason);
		}
	}
	pthread_mutex_unlock(&c->lock);
	return e ? 0 : -ENOMEM;
}

int claims_drop(struct claims *c, const char *pattern, const struct writer *holder)
{
	struct entry *e;
	int n = 0;

	pthread_mutex_lock(&c->lock);
	while ((e = find_entry(c, pattern, holder))) {
		entry_remove(c, e);
		n++;
	}
	pthread_mutex_unlock(&c->lock);
	return n;
}

int claims_break(struct claims *c, const char *path, size_t len, struct writer **holder)
{
	struct entry *e, *tmp;
	int n = 0;

	pthread_mutex_lock(&c->lock);
	list_for_each_safe (e, tmp, &c->entries, node) {
		if (!claim_covers(e->pattern, path, len) &&
			(strlen(e->pattern) != len || memcmp(e->pattern, path, len) != 0))
			continue;
		*holder = e->holder;
		entry_remove(c, e);
		n++;
	}
	pthread_mutex_unlock(&c->lock);
	return n;
}

void claims_each(struct claims *c, claim_fn *fn, void *ctx)
{
	struct entry *e;

	pthread_mutex_lock(&c->lock);
	list_for_each (e, &c->entries, node) {
		struct claim claim = {
			.pattern = e->pattern,
			.holder = e->holder,
			.epoch = e->epoch,
			.expires_ns = e->expires_ns,
			.reason = e->reason,
		};

		fn(&claim, ctx);
	}
	pthread_mutex_unlock(&c->lock);
}
