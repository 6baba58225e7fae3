/* Leases and explicit claims as pure state, on a clock that the test moves (L1–L5, L8, L9).
 */
#include <string.h>

#include "base/clock.h"
#include "check.h"
#include "policy/claims.h"
#include "policy/identity.h"
#include "policy/lease.h"

static struct writer alice = {.id = 1, .name = (char *)"alice"};
static struct writer bob = {.id = 2, .name = (char *)"bob"};

static void test_lapse_and_take_over(void) /* L2, L4, L5 */
{
	struct lease l = {0};

	CHECK_EQ(lease_ask(&l, &alice, 0), LEASE_FREE);
	lease_grant(&l, &alice, 1, 0, 100);
	CHECK_EQ(lease_ask(&l, &bob, 99), LEASE_HELD);
	CHECK_EQ(lease_ask(&l, &bob, 100), LEASE_LAPSED);
	CHECK_EQ(lease_ask(&l, &alice, 5000), LEASE_OURS); /* usable until taken */
	lease_renew(&l, 5000, 100);
	CHECK_EQ(l.epoch, 1);
	CHECK_EQ(lease_ask(&l, &bob, 5099), LEASE_HELD);
	lease_grant(&l, &bob, 2, 6000, 100);
	CHECK_EQ(lease_ask(&l, &alice, 6001), LEASE_HELD);
	lease_linger(&l, 6001, 10);
	CHECK_EQ(lease_ask(&l, &alice, 6011), LEASE_LAPSED);
	lease_end(&l);
	CHECK_EQ(lease_ask(&l, &alice, 6012), LEASE_FREE);
	CHECK_EQ(l.epoch, 2); /* the next one must be above it */
}

static void test_wall_clock_decides_nothing(void) /* L8 */
{
	struct clock_fake clock;
	struct lease l = {0};

	clock_fake_init(&clock);
	lease_grant(&l, &alice, 1, clock_boot_ns(&clock.clock), 100);
	clock.wall += 365LL * 86400 * NS_PER_S;
	CHECK_EQ(lease_ask(&l, &bob, clock_boot_ns(&clock.clock)), LEASE_HELD);
	clock.wall -= 2 * 365LL * 86400 * NS_PER_S;
	CHECK_EQ(lease_ask(&l, &bob, clock_boot_ns(&clock.clock)), LEASE_HELD);
	clock.boot += 100;
	CHECK_EQ(lease_ask(&l, &bob, clock_boot_ns(&clock.clock)), LEASE_LAPSED);
}

static struct writer *blocker(
	struct claims *c, const char *path, struct writer *w, int64_t now)
{
	int64_t until;

	return claims_blocker(c, path, strlen(path), w, now, &until);
}

static void test_claims(void) /* L9 */
{
	struct claim claim = {.pattern = "src/*.c", .holder = &alice, .expires_ns = 100};
	struct writer *broken = NULL;
	struct claims *c;

	CHECK(claims_new(&c) == 0);
	CHECK(claims_none(c));
	CHECK(claims_set(c, &claim) == 0);
	CHECK(blocker(c, "src/a.c", &bob, 50) == &alice);
	CHECK(blocker(c, "src/a.c", &alice, 50) == NULL);
	CHECK(blocker(c, "src/a.h", &bob, 50) == NULL);
	CHECK(blocker(c, "src/a.c", &bob, 100) == NULL); /* over */
	claim.pattern = "docs";
	CHECK(claims_set(c, &claim) == 0);
	CHECK(blocker(c, "docs/x/y", &bob, 50) == &alice);
	CHECK(blocker(c, "docsx", &bob, 50) == NULL);
	CHECK(claims_covered(c, "*", &bob, 50) == &alice);
	CHECK_EQ(claims_break(c, "docs/x", strlen("docs/x"), &broken), 1);
	CHECK(broken == &alice);
	CHECK_EQ(claims_drop(c, "src/*.c", &bob), 0);
	CHECK_EQ(claims_drop(c, "src/*.c", &alice), 1);
	claims_free(c);
}

int main(void)
{
	test_lapse_and_take_over();
	test_wall_clock_decides_nothing();
	test_claims();
	return 0;
}
