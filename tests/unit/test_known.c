/*
 * test_known.c - which paths may have a history: never "none" for one that has.
 */
#include <sched.h>

#include "journal_fixture.h"

enum { PATHS = 3000 };

static const char *name_of(int i)
{
	static char name[64];

	snprintf(name, sizeof(name), "folder-%d/file-%d", i % 37, i);
	return name;
}

static bool may_have(struct fixture *f, const char *path)
{
	return journal_may_have(f->j, path, strlen(path));
}

/* The filter of what was there before is filled by a thread of its own. */
static void await_filter(struct fixture *f)
{
	while (may_have(f, "a path that nobody has ever had"))
		sched_yield();
}

static void check_all(struct fixture *f)
{
	int in_vain = 0;

	for (int i = 0; i < PATHS; i++)
		CHECK(may_have(f, name_of(i)));
	for (int i = PATHS; i < 2 * PATHS; i++)
		in_vain += may_have(f, name_of(i));
	CHECK(in_vain < PATHS / 100);
}

static void test_paths_are_known_at_once_and_after_reopening(void)
{
	struct fixture f = {0};

	fixture_init(&f);
	for (int i = 0; i < PATHS; i++) {
		struct version v = make_version(&f, name_of(i), 1, VERSION_WRITE);

		CHECK_EQ(journal_append(f.j, &v, NULL), 0);
		CHECK(may_have(&f, name_of(i))); /* though its row is only queued */
	}
	await_filter(&f);
	check_all(&f);
	fixture_reopen(&f);
	await_filter(&f);
	check_all(&f);
	fixture_done(&f);
}

static void test_what_lies_below_a_renamed_folder_may_have_come_from_elsewhere(void)
{
	struct fixture f = {0};
	struct version v;
	uint64_t seq;

	fixture_init(&f);
	v = make_version(&f, "old/x", 1, VERSION_WRITE);
	CHECK_EQ(journal_append(f.j, &v, NULL), 0);
	await_filter(&f);
	CHECK(!may_have(&f, "new/x"));
	CHECK_EQ(journal_next_seq(f.j, &seq), 0);
	CHECK_EQ(journal_rename_folder(f.j, seq, "old", 3, "new", 3, NULL), 0);
	for (int i = 0; i < 2; i++) {
		CHECK(may_have(&f, "new/x"));
		CHECK(may_have(&f, "new/deep/below"));
		CHECK(!may_have(&f, "newer/x"));
		CHECK(!may_have(&f, "other/new/x"));
		fixture_reopen(&f);
		await_filter(&f);
	}
	fixture_done(&f);
}

int main(void)
{
	test_paths_are_known_at_once_and_after_reopening();
	test_what_lies_below_a_renamed_folder_may_have_come_from_elsewhere();
	return 0;
}
