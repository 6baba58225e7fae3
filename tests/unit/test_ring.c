/*
 * test_ring.c - queued versions outlive kill -9, at each arrow of journal/ring.h (V4).
 */
#include <signal.h>
#include <stdatomic.h>

#include "journal/patch.h"
#include "journal_fixture.h"

/* A disk on which nothing can be committed. */
static int no_room(void *ctx)
{
	return atomic_load((atomic_int *)ctx);
}

static void put_patch(struct fixture *f, const char *path, uint64_t number,
	uint64_t base_seq, const char *base, const char *want)
{
	struct version v = make_version(f, path, number, VERSION_WRITE);
	struct capture c = CAPTURE_NONE;
	size_t n = strlen(want) - strlen(base);

	c.hash = digest_bytes(want, strlen(want));
	c.size = strlen(want);
	c.data = strdup(want + strlen(base));
	c.patch = patch_new(1);
	c.patch->base_seq = base_seq;
	c.patch->base_size = c.patch->keep = strlen(base);
	c.patch->bytes = n;
	c.patch->ranges[0] = (struct extent){strlen(base), n};
	v.has_content = true;
	v.content = c.hash;
	v.size = c.size;
	CHECK_EQ(journal_append(f->j, &v, &c), 0);
}

static void put_mode(struct fixture *f, const char *path, uint64_t number, const char *text)
{
	struct version v = make_version(f, path, number, VERSION_MODE);

	v.has_content = true;
	v.content = digest_bytes(text, strlen(text));
	v.size = strlen(text);
	CHECK_EQ(journal_append(f->j, &v, NULL), 0);
}

/* What a daemon does whose disk is full, until it is killed. */
static void work_and_die(struct fixture *f)
{
	atomic_int answer = 0;
	struct journal_faults faults = {.before_commit = no_room, .ctx = &answer};
	uint64_t seq;

	f->faults = &faults;
	fixture_open(f);
	put(f, "a", 1, "one\n");
	settle(f);
	atomic_store(&answer, -ENOSPC);
	seq = put(f, "a", 2, "two\n");
	put_patch(f, "a", 3, seq, "two\n", "two\nand more\n");
	put_mode(f, "a", 4, "two\nand more\n");
	put_from(f, "b", 1, VERSION_DELETE, "a", 4);
	put(f, "c", 1, "");
	CHECK(journal_is_kept(f->j, journal_last_seq(f->j)));
	CHECK_EQ(journal_keep(f->j, journal_last_seq(f->j)), 0);
	CHECK(!journal_is_written(f->j, journal_last_seq(f->j)));
	kill(getpid(), SIGKILL);
}

static void in_a_child(struct fixture *f, void (*work)(struct fixture *f))
{
	pid_t child = fork();
	int status;

	CHECK(child >= 0);
	if (child == 0) {
		work(f);
		_exit(0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static uint64_t versions(struct fixture *f)
{
	struct journal_figures figures;

	journal_figures(f->j, &figures);
	return figures.versions;
}

static void check_all(struct fixture *f)
{
	struct version_row row;

	CHECK_EQ(versions(f), 6);
	check_content(f, "a", 1, "one\n");
	check_content(f, "a", 2, "two\n");
	check_content(f, "a", 3, "two\nand more\n");
	check_content(f, "a", 4, "two\nand more\n");
	check_content(f, "c", 1, "");
	CHECK_EQ(journal_version(f->j, "a", 1, 3, &row), 1);
	CHECK_STR(row.v.author.name, "alice");
	CHECK_STR(row.v.author.rule, "run");
	CHECK_STR(row.v.author.command, "sh -c edit");
	CHECK_EQ(row.v.author.pid, 42);
	CHECK_EQ(row.v.mode, 0100644);
	version_row_done(&row);
	CHECK_EQ(journal_version(f->j, "b", 1, 1, &row), 1);
	CHECK_EQ(row.v.from_path_len, 1);
	CHECK_EQ(memcmp(row.v.from_path, "a", 1), 0);
	CHECK(!row.v.has_content);
	version_row_done(&row);
}

static void test_what_was_queued_outlives_a_kill(void)
{
	struct fixture f = {0};

	fixture_folder(&f);
	in_a_child(&f, work_and_die);
	f.faults = NULL;
	fixture_open(&f);
	check_all(&f);
	fixture_reopen(&f);
	check_all(&f);
	fixture_done(&f);
}

static size_t read_queue(struct fixture *f, char **bytes)
{
	int fd = openat(f->dirfd, "queue", O_RDONLY | O_CLOEXEC);
	struct stat st;

	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	*bytes = malloc((size_t)st.st_size);
	CHECK_EQ(pread(fd, *bytes, (size_t)st.st_size, 0), st.st_size);
	close(fd);
	return (size_t)st.st_size;
}

static void write_queue(struct fixture *f, const char *bytes, size_t size)
{
	int fd = openat(f->dirfd, "queue", O_WRONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(pwrite(fd, bytes, size, 0), size);
	close(fd);
}

/* Killed between the commit and the release: rows are there already. */
static void test_a_row_is_not_written_twice(void)
{
	struct fixture f = {0};
	char *bytes;
	size_t size;

	fixture_folder(&f);
	in_a_child(&f, work_and_die);
	size = read_queue(&f, &bytes);
	f.faults = NULL;
	fixture_open(&f);
	check_all(&f);
	journal_close(f.j);
	write_queue(&f, bytes, size);
	fixture_open(&f);
	check_all(&f);
	free(bytes);
	fixture_done(&f);
}

/* Killed while a record was put: what came before it counts, it does not. */
static void test_a_torn_record_was_never_put(void)
{
	struct fixture f = {0};
	char *bytes;
	size_t size;
	char *text;

	fixture_folder(&f);
	in_a_child(&f, work_and_die);
	size = read_queue(&f, &bytes);
	text = memmem(bytes, size, "and more", 8);
	CHECK(text);
	text[3] = '!';
	write_queue(&f, bytes, size);
	f.faults = NULL;
	fixture_open(&f);
	CHECK_EQ(versions(&f), 2);
	check_content(&f, "a", 2, "two\n");
	put(&f, "a", 3, "three\n"); /* and it goes on from there */
	fixture_reopen(&f);
	check_content(&f, "a", 3, "three\n");
	free(bytes);
	fixture_done(&f);
}

/* Round and round: the ring is used again where rows were written. */
static void fill_and_die(struct fixture *f)
{
	enum { SIZE = 100 * 1024, COUNT = 300 };
	atomic_int answer = 0;
	struct journal_faults faults = {.before_commit = no_room, .ctx = &answer};
	char *bytes = malloc(SIZE);
	uint64_t i, last = 0;

	f->faults = &faults;
	fixture_open(f);
	for (i = 1; i <= COUNT; i++) {
		memset(bytes, (int)i, SIZE);
		put_bytes(f, "f", i, bytes, SIZE);
		if (i % 20 == 0)
			settle(f);
	}
	atomic_store(&answer, -ENOSPC);
	for (; i <= 2 * COUNT; i++) { /* more than it holds */
		memset(bytes, (int)i, SIZE);
		put_bytes(f, "f", i, bytes, SIZE);
		if (!journal_is_kept(f->j, journal_last_seq(f->j)))
			break;
		last = i;
	}
	CHECK(last > COUNT + 40 && last < COUNT + 90); /* 8 MiB of them */
	CHECK_EQ(journal_keep(f->j, journal_last_seq(f->j)), -ENOSPC);
	free(bytes);
	kill(getpid(), SIGKILL);
}

static void test_a_full_ring_makes_others_wait(void)
{
	struct fixture f = {0};
	struct version_row row;
	char byte;
	int fd;

	fixture_folder(&f);
	in_a_child(&f, fill_and_die);
	f.faults = NULL;
	fixture_open(&f);
	CHECK_EQ(head(&f, "f", &row), 1);
	CHECK(row.v.number > 340 && row.v.number < 390);
	CHECK_EQ(versions(&f), row.v.number);
	CHECK_EQ(journal_version_content(f.j, &row.v, &fd), 0);
	CHECK_EQ(pread(fd, &byte, 1, 0), 1);
	CHECK_EQ((unsigned char)byte, (unsigned char)row.v.number);
	close(fd);
	version_row_done(&row);
	fixture_done(&f);
}

/* A large content is a file without a name: it and what builds on it are not kept. */
static void test_what_rests_on_a_large_content_is_not_kept(void)
{
	atomic_int answer = 0;
	struct journal_faults faults = {.before_commit = no_room, .ctx = &answer};
	struct fixture f = {.faults = &faults};
	struct version v;
	struct capture c = CAPTURE_NONE;
	struct hash128 hash;
	int large;

	fixture_init(&f);
	put(&f, "a", 1, "1");
	settle(&f);
	large = openat(f.dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	CHECK_EQ(ftruncate(large, 1 << 20), 0);
	atomic_store(&answer, -ENOSPC);
	CHECK_EQ(journal_capture(f.j, large, &c), 0);
	v = make_version(&f, "l", 1, VERSION_WRITE);
	v.has_content = true;
	v.content = hash = c.hash;
	v.size = c.size;
	CHECK_EQ(journal_append(f.j, &v, &c), 0);
	CHECK(!journal_is_kept(f.j, v.seq));
	v = make_version(&f, "l", 2, VERSION_MODE);
	v.has_content = true;
	v.content = hash;
	v.size = 1 << 20;
	CHECK_EQ(journal_append(f.j, &v, NULL), 0);
	CHECK(!journal_is_kept(f.j, v.seq));
	put(&f, "a", 2, "2");
	atomic_store(&answer, 0);
	while (!journal_is_written(f.j, journal_last_seq(f.j)))
		CHECK(journal_wait(f.j, journal_last_seq(f.j)) <= 0);
	CHECK(journal_is_kept(f.j, journal_last_seq(f.j)));
	close(large);
	fixture_done(&f);
}

int main(void)
{
	test_what_was_queued_outlives_a_kill();
	test_a_row_is_not_written_twice();
	test_a_torn_record_was_never_put();
	test_a_full_ring_makes_others_wait();
	test_what_rests_on_a_large_content_is_not_kept();
	return 0;
}
