#include "policy/lease.h"

#include "base/cleanup.h"

enum lease_answer lease_ask(const struct lease *l, const struct writer *w, int64_t now_ns)
{
	if (!l->holder)
		return LEASE_FREE;
	if (l->holder == w)
		return LEASE_OURS;
	return now_ns >= l->expires_ns ? LEASE_LAPSED : LEASE_HELD;
}

void lease_grant(
	struct lease *l, struct writer *w, uint64_t epoch, int64_t now_ns, int64_t ttl_ns)
{
	assert(w);
	assert(epoch > l->epoch); /* epochs only grow: a reused one would unfence */
	l->holder = w;
	l->epoch = epoch;
	l->expires_ns = now_ns + ttl_ns;
}

void lease_renew(struct lease *l, int64_t now_ns, int64_t ttl_ns)
{
	assert(l->holder);
	l->expires_ns = now_ns + ttl_ns;
}

void lease_linger(struct lease *l, int64_t now_ns, int64_t linger_ns)
{
	if (l->expires_ns > now_ns + linger_ns)
		l->expires_ns = now_ns + linger_ns;
}

void lease_end(struct lease *l)
{
	l->holder = NULL;
	l->expires_ns = 0;
}
