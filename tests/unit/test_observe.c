/* Who has seen what of a file (S1, S2, S8), and that it stays bounded. */
#include "check.h"
#include "policy/observe.h"

enum { SETTLE = 250, MIND = 7 };

static void test_settle(void) /* S1 */
{
	struct observations o = {0};

	observe_read(&o, MIND, 5, 1000, SETTLE);
	CHECK_EQ(observe_base(&o, MIND, 1000 + SETTLE, SETTLE), 0);
	CHECK_EQ(observe_base(&o, MIND, 1001 + SETTLE, SETTLE), 5);
	CHECK_EQ(observe_newest(&o, MIND), 5);
	observations_done(&o);
}

static void test_attempt_takes_young_reads_with_it(void) /* S1, S8 */
{
	struct observations o = {0};

	observe_read(&o, MIND, 5, 1000, SETTLE);
	observe_attempt(&o, MIND, 1100, SETTLE);
	CHECK_EQ(observe_base(&o, MIND, 9000, SETTLE), 0);
	observe_read(&o, MIND, 6, 2000, SETTLE);
	observe_attempt(&o, MIND, 3000, SETTLE);
	CHECK_EQ(observe_base(&o, MIND, 3000, SETTLE), 6);
	observations_done(&o);
}

static void test_settled_reads_are_not_pushed_out(void) /* S1 */
{
	struct observations o = {0};

	observe_read(&o, MIND, 1, 1000, SETTLE);
	observe_read(&o, MIND, 2, 2000, SETTLE);
	observe_read(&o, MIND, 3, 3000, SETTLE);
	observe_read(&o, MIND, 4, 3001, SETTLE);
	CHECK_EQ(observe_base(&o, MIND, 3010, SETTLE), 2);
	CHECK_EQ(observe_newest(&o, MIND), 4);
	observations_done(&o);
}

static void test_own_version_is_known_at_once(void) /* S1 */
{
	struct observations o = {0};

	observe_made(&o, MIND, 9);
	CHECK_EQ(observe_base(&o, MIND, 0, SETTLE), 9);
	observations_done(&o);
}

static void test_bounded(void)
{
	struct observations o = {.most = OBSERVE_MIN_ACTORS};

	for (uint64_t actor = 1; actor <= 100; actor++)
		observe_read(&o, actor, actor, (int64_t)actor, SETTLE);
	CHECK_EQ(o.count, OBSERVE_MIN_ACTORS);
	CHECK_EQ(observe_newest(&o, 1), 0); /* the oldest is forgotten: the safe side */
	CHECK_EQ(observe_newest(&o, 100), 100);
	observations_done(&o);
}

int main(void)
{
	test_settle();
	test_attempt_takes_young_reads_with_it();
	test_settled_reads_are_not_pushed_out();
	test_own_version_is_known_at_once();
	test_bounded();
	return 0;
}
