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

static void test_what_outlives_its_file(void) /* S1, S2 */
{
	struct observations o = {0}, again = {0};
	struct known_by known[4];
	unsigned n;

	CHECK_EQ(observe_settled(&o, 0, SETTLE, known, 4), 0);
	for (uint64_t actor = 1; actor <= 6; actor++) /* 6 came first, 1 last */
		observe_read(&o, actor, 100 + actor, (int64_t)(1000 - actor), SETTLE);
	observe_made(&o, 3, 200);
	observe_read(&o, 9, 300, 1900, SETTLE); /* too young to count */
	n = observe_settled(&o, 2000, SETTLE, known, 4);
	CHECK_EQ(n, 4);
	CHECK_EQ(known[3].actor, 1);
	CHECK_EQ(known[0].actor, 4);
	for (unsigned i = 0; i < n; i++)
		observe_made(&again, known[i].actor, known[i].seq);
	for (uint64_t actor = 1; actor <= 4; actor++)
		CHECK_EQ(observe_base(&again, actor, 2000, SETTLE),
			observe_base(&o, actor, 2000, SETTLE));
	CHECK_EQ(observe_base(&again, 3, 2000, SETTLE), 200);
	CHECK_EQ(observe_base(&again, 5, 2000, SETTLE), 0); /* more than asked for */
	CHECK_EQ(observe_base(&again, 9, 2000, SETTLE), 0);
	observations_done(&o);
	observations_done(&again);
}

int main(void)
{
	test_what_outlives_its_file();
	test_settle();
	test_attempt_takes_young_reads_with_it();
	test_settled_reads_are_not_pushed_out();
	test_own_version_is_known_at_once();
	test_bounded();
	return 0;
}
