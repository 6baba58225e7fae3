/* Change sets: which row goes into which, and that it stays so. */
#include "journal_fixture.h"

struct writer_at {
	const char *name;
	pid_t pid, root;
	int64_t time_s;
};

static uint64_t paths_made;

static uint64_t change(struct fixture *f, const struct writer_at *w)
{
	char path[32];
	struct version v;

	snprintf(path, sizeof(path), "p%llu", (unsigned long long)++paths_made);
	v = make_version(f, path, 1, VERSION_WRITE);
	v.time_ns = w->time_s * NS_PER_S;
	v.author.name = w->name;
	v.author.pid = w->pid;
	v.author.root_pid = w->root;
	v.author.root_start_ns = w->root;
	CHECK_EQ(journal_append(f->j, &v, NULL), 0);
	return v.seq;
}

static int take_set(const struct version *v, void *ctx)
{
	uint64_t *set = ctx;

	*set = v->set_id;
	return 1;
}

/* The set of the newest version. */
static uint64_t newest(struct fixture *f)
{
	const struct log_filter all = {.limit = 1};
	uint64_t set = 0;

	CHECK_EQ(journal_log(f->j, &all, take_set, &set), 1);
	return set;
}

static uint64_t set_after(struct fixture *f, struct writer_at w)
{
	change(f, &w);
	return newest(f);
}

static int count_set(const struct change_set *set, void *ctx)
{
	unsigned *n = ctx;

	++*n;
	return 0;
}

static unsigned n_sets(struct fixture *f)
{
	unsigned n = 0;

	CHECK_EQ(journal_sets(f->j, 0, NULL, 0, count_set, &n), 0);
	return n;
}

static int copy_set(const struct change_set *set, void *ctx)
{
	struct change_set *copy = ctx;

	*copy = *set;
	return 1;
}

static struct change_set get(struct fixture *f, uint64_t id)
{
	struct change_set set = {0};

	CHECK_EQ(journal_sets(f->j, id, NULL, 1, copy_set, &set), 1);
	return set;
}

static void test_a_pause_another_tree_and_another_writer_begin_one(void)
{
	struct fixture f = {0};

	fixture_folder(&f);
	fixture_open(&f);
	CHECK_EQ(set_after(&f, (struct writer_at){"alice", 10, 5, 1000}), 1);
	CHECK_EQ(set_after(&f, (struct writer_at){"alice", 11, 5, 1000 + SET_PAUSE_S}), 1);
	CHECK_EQ(set_after(&f, (struct writer_at){"bob", 12, 6, 1001}), 2);
	CHECK_EQ(set_after(&f, (struct writer_at){"alice", 13, 7, 1002}), 3);
	CHECK_EQ(set_after(&f, (struct writer_at){"alice", 14, 5, 1190}), 1);
	CHECK_EQ(set_after(&f, (struct writer_at){"alice", 14, 5, 1191 + SET_PAUSE_S}), 4);
	CHECK_EQ(get(&f, 1).n_changes, 3);
	CHECK_EQ(get(&f, 1).n_files, 3);
	CHECK_EQ(get(&f, 1).first_ns, 1000 * NS_PER_S);
	CHECK_EQ(get(&f, 1).last_ns, 1190 * NS_PER_S);
	fixture_done(&f);
}

static void test_it_goes_on_after_a_restart_and_out_of_the_cache(void)
{
	struct fixture f = {0};

	fixture_folder(&f);
	fixture_open(&f);
	CHECK_EQ(set_after(&f, (struct writer_at){"alice", 10, 5, 1000}), 1);
	fixture_reopen(&f);
	CHECK_EQ(set_after(&f, (struct writer_at){"alice", 10, 5, 1001}), 1);
	for (int i = 0; i < 100; i++)
		change(&f, &(struct writer_at){"many", 20, 100 + i, 1002});
	CHECK_EQ(set_after(&f, (struct writer_at){"alice", 10, 5, 1003}), 1);
	CHECK_EQ(set_after(&f, (struct writer_at){"many", 20, 100, 1004}), 2);
	CHECK_EQ(n_sets(&f), 101);
	CHECK_EQ(get(&f, 1).n_changes, 3);
	CHECK_EQ(get(&f, 2).n_changes, 2);
	fixture_done(&f);
}

static struct author undoer(pid_t pid)
{
	return (struct author){.name = "carol", .pid = pid, .start_ns = 5, .rule = "run"};
}

static void test_an_undo_takes_what_its_process_does(void)
{
	struct fixture f = {0};
	struct author author = undoer(42), other = undoer(77);
	uint64_t id = 0;
	struct version v;

	author.uid = 1000;
	author.command = "sh -c edit";
	fixture_folder(&f);
	fixture_open(&f);
	CHECK_EQ(set_after(&f, (struct writer_at){"alice", 10, 5, 1000}), 1);
	CHECK_EQ(journal_set_begin(f.j, &author, 1, NULL, "set 1", &id), 0);
	CHECK_EQ(id, 2);
	CHECK_EQ(set_after(&f, (struct writer_at){"carol", 42, 9, 1001}), 2);
	CHECK_EQ(set_after(&f, (struct writer_at){"carol", 43, 9, 1001}), 3);
	/* What was undone is closed: later work is another set. */
	CHECK_EQ(set_after(&f, (struct writer_at){"alice", 10, 5, 1002}), 4);
	fixture_reopen(&f); /* killed in the middle */
	CHECK_EQ(get(&f, 2).state, SET_OPEN);
	CHECK_EQ(set_after(&f, (struct writer_at){"carol", 42, 9, 1003}), 2);
	CHECK_EQ(journal_set_resume(f.j, 2, &other), 0);
	v = make_version(&f, "resumed", 1, VERSION_WRITE);
	v.author = other;
	CHECK_EQ(journal_append(f.j, &v, NULL), 0);
	CHECK_EQ(newest(&f), 2);
	CHECK_EQ(journal_set_end(f.j, 2, SET_BACK), 0);
	CHECK_EQ(journal_set_end(f.j, 2, SET_DONE), -ENOENT);
	CHECK_EQ(journal_set_resume(f.j, 99, &other), -ENOENT);
	CHECK_EQ(get(&f, 2).state, SET_BACK);
	CHECK_EQ(get(&f, 2).undo_of, 1);
	CHECK_EQ(get(&f, 2).n_changes, 3);
	CHECK(set_after(&f, (struct writer_at){"carol", 42, 9, 1004}) != 2);
	fixture_done(&f);
}

int main(void)
{
	test_a_pause_another_tree_and_another_writer_begin_one();
	test_it_goes_on_after_a_restart_and_out_of_the_cache();
	test_an_undo_takes_what_its_process_does();
	return 0;
}
