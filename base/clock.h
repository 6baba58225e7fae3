/*
 * clock.h - the two clocks, injected wherever time decides something.
 *
 * boot_ns never steps and goes on during suspend: leases, waits and settle run on it.
 * wall_ns is for showing to a person and for mtimes only; nothing is decided by it.
 */
#ifndef STOMP_BASE_CLOCK_H
#define STOMP_BASE_CLOCK_H

#include <pthread.h>
#include <stdint.h>

#define NS_PER_MS 1000000LL
#define NS_PER_S 1000000000LL

struct clock {
	int64_t (*boot_ns)(const struct clock *c);
	int64_t (*wall_ns)(const struct clock *c);
};

const struct clock *clock_system(void);

static inline int64_t clock_boot_ns(const struct clock *c)
{
	return c->boot_ns(c);
}

static inline int64_t clock_wall_ns(const struct clock *c)
{
	return c->wall_ns(c);
}

/* A clock that stands until a test moves it. */
struct clock_fake {
	struct clock clock;
	int64_t boot, wall;
};

void clock_fake_init(struct clock_fake *f);

/* A condition whose timed waits are until times of CLOCK_MONOTONIC, which does not step. */
void clock_cond_init(pthread_cond_t *cond);

#endif
