#include "base/clock.h"

#include <time.h>

#include "base/cleanup.h"

static int64_t read_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static int64_t system_boot_ns(const struct clock *c)
{
	(void)c;
	return read_clock(CLOCK_BOOTTIME);
}

static int64_t system_wall_ns(const struct clock *c)
{
	(void)c;
	return read_clock(CLOCK_REALTIME);
}

const struct clock *clock_system(void)
{
	static const struct clock system_clock = {system_boot_ns, system_wall_ns};

	return &system_clock;
}

static int64_t fake_boot_ns(const struct clock *c)
{
	return ((const struct clock_fake *)(const void *)c)->boot;
}

static int64_t fake_wall_ns(const struct clock *c)
{
	return ((const struct clock_fake *)(const void *)c)->wall;
}

void clock_fake_init(struct clock_fake *f)
{
	*f = (struct clock_fake){
		.clock = {fake_boot_ns, fake_wall_ns},
		.boot = NS_PER_S,
		.wall = 1700000000 * NS_PER_S,
	};
}

void clock_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}
