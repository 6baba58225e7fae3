/*
 * test_store.c - contents: identity, collisions, large and sparse files, damage (V5, V6).
 */
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#include "journal/store.h"
#include "journal_fixture.h"

static int64_t now_ms(void)
{
	return clock_boot_ns(clock_system()) / NS_PER_MS;
}

static int scratch_file(struct fixture *f)
{
	int fd = openat(f->dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	return fd;
}

/* A version with the content of a file; its row. */
static void put_file(struct fixture *f, const char *path, uint64_t number, int fd,
	struct version_row *row)
{
	struct version v = make_version(f, path, number, VERSION_WRITE);
	struct capture c = CAPTURE_NONE;

	CHECK_EQ(journal_capture(f->j, fd, &c), 0);
	v.has_content = true;
	v.content = c.hash;
	v.size = c.size;
	CHECK_EQ(journal_append(f->j, &v, &c), 0);
	settle(f);
	CHECK_EQ(journal_version(f->j, path, strlen(path), number, row), 1);
}

static uint64_t allocated(struct fixture *f)
{
	struct journal_figures figures;

	journal_figures(f->j, &figures);
	return figures.stored_bytes;
}

static void check_same(int a, int b, uint64_t size)
{
	CHECK_EQ(sparse_equal(a, b, size), 1);
	CHECK_EQ(lseek(b, 0, SEEK_END), size);
}

static void test_the_same_content_is_stored_once(void)
{
	struct fixture f = {0};
	struct journal_figures figures;
	struct version_row a, b;
	struct version v;

	fixture_init(&f);
	put(&f, "a", 1, "same bytes");
	put(&f, "b", 1, "same bytes");
	settle(&f);
	put(&f, "a", 2, "same bytes");
	settle(&f);
	CHECK_EQ(head(&f, "a", &a), 1);
	CHECK(journal_has_content(f.j, a.v.content, a.v.size));
	CHECK(!journal_has_content(f.j, a.v.content, a.v.size + 1));
	v = make_version(&f, "c", 1, VERSION_LINK); /* content the journal has already */
	v.has_content = true;
	v.content = a.v.content;
	v.size = a.v.size;
	CHECK_EQ(journal_append(f.j, &v, NULL), 0);
	settle(&f);
	check_content(&f, "c", 1, "same bytes");
	CHECK_EQ(head(&f, "b", &b), 1);
	CHECK_EQ(a.v.content_id, b.v.content_id);
	journal_figures(f.j, &figures);
	CHECK_EQ(figures.contents, 1);
	version_row_done(&a);
	version_row_done(&b);
	put(&f, "empty", 1, "");
	settle(&f);
	check_content(&f, "empty", 1, "");
	fixture_done(&f);
}

static struct hash128 always_the_same(struct hash128 real)
{
	return (struct hash128){.hi = 1, .lo = 2};
}

static const struct journal_faults weak_hash = {.hash = always_the_same};

/* Equal hash and size, other bytes: each version keeps its own (V5). */
static void test_a_collision_substitutes_nothing(void)
{
	struct fixture f = {.faults = &weak_hash};
	struct journal_figures figures;

	fixture_init(&f);
	put(&f, "a", 1, "mine!");
	put(&f, "b", 1, "yours");
	put(&f, "c", 1, "mine!");
	put(&f, "d", 1, "yours");
	settle(&f);
	check_content(&f, "a", 1, "mine!");
	check_content(&f, "b", 1, "yours");
	check_content(&f, "c", 1, "mine!");
	check_content(&f, "d", 1, "yours");
	journal_figures(f.j, &figures);
	CHECK_EQ(figures.contents, 2);
	fixture_done(&f);
}

static void fill(int fd, size_t size, bool random)
{
	static const char text[] = "a line that is not unlike the others\n";
	char block[4096];

	for (size_t at = 0; at < size; at += sizeof(block)) {
		if (random)
			CHECK_EQ(getrandom(block, sizeof(block), 0), sizeof(block));
		else
			for (size_t i = 0; i < sizeof(block); i++)
				block[i] = text[(at + i) % (sizeof(text) - 1)];
		CHECK_EQ(pwrite(fd, block, sizeof(block), (off_t)at), sizeof(block));
	}
}

/* Packed where that pays, as it is where not; back come the same bytes; stored once. */
static void test_large_contents(void)
{
	enum { SIZE = 3 * 1024 * 1024 };
	struct fixture f = {0};

	fixture_init(&f);
	for (int random = 0; random < 2; random++) {
		auto_close int fd = scratch_file(&f), back = -1;
		uint64_t before = allocated(&f), stored;
		struct version_row row, again;

		fill(fd, SIZE, random);
		put_file(&f, random ? "noise" : "text", 1, fd, &row);
		CHECK_EQ(row.v.size, SIZE);
		stored = allocated(&f) - before;
		CHECK(random ? stored >= SIZE : stored < SIZE / 8);
		CHECK_EQ(journal_content(f.j, row.v.content, row.v.size, &back), 0);
		check_same(fd, back, SIZE);
		put_file(&f, random ? "noise" : "text", 2, fd, &again);
		CHECK_EQ(again.v.content_id, row.v.content_id);
		CHECK_EQ(allocated(&f), before + stored);
		version_row_done(&row);
		version_row_done(&again);
	}
	fixture_done(&f);
}

/* Large contents of one hash, and what collides with a small one of another place. */
static void test_a_collision_of_large_contents(void)
{
	enum { SIZE = 512 * 1024 };
	struct fixture f = {.faults = &weak_hash};
	struct version_row row[3];
	int fd[3];

	fixture_init(&f);
	for (int i = 0; i < 3; i++) {
		fd[i] = scratch_file(&f);
		fill(fd[i], SIZE, true);
		put_file(&f, "big", (uint64_t)i + 1, fd[i], &row[i]);
	}
	for (int i = 0; i < 3; i++) {
		auto_close int back = -1;

		CHECK_EQ(journal_version_content(f.j, &row[i].v, &back), 0);
		check_same(fd[i], back, SIZE);
		version_row_done(&row[i]);
		close(fd[i]);
	}
	fixture_done(&f);
}

/* A hole of 1 GiB is neither stored nor waited for (V6). */
static void test_a_big_hole_stays_a_hole(void)
{
	const uint64_t size = (1ULL << 30) + 4096;
	struct fixture f = {0};
	struct version_row row;
	auto_close int fd = -1, back = -1;
	int64_t start;
	struct stat st;

	fixture_init(&f);
	fd = scratch_file(&f);
	CHECK_EQ(pwrite(fd, "head", 4, 0), 4);
	CHECK_EQ(pwrite(fd, "tail", 4, (off_t)size - 4), 4);
	start = now_ms();
	put_file(&f, "sparse", 1, fd, &row);
	CHECK(now_ms() - start < 10 * 1000); /* hashing zeros; sanitizers are slow */
	CHECK_EQ(row.v.size, size);
	CHECK(allocated(&f) < 256 * 1024);
	CHECK_EQ(journal_version_content(f.j, &row.v, &back), 0);
	CHECK_EQ(fstat(back, &st), 0);
	CHECK(st.st_blocks * 512 < 256 * 1024);
	check_same(fd, back, size);
	version_row_done(&row);
	fixture_done(&f);
}

static int damage(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	auto_close int fd = -1;
	char byte;

	if (type != FTW_F || !strstr(path, "/objects/"))
		return 0;
	CHECK_EQ(chmod(path, 0600), 0);
	fd = open(path, O_RDWR);
	CHECK(fd >= 0);
	CHECK_EQ(pread(fd, &byte, 1, st->st_size / 2), 1);
	byte = (char)~byte; /* whatever it was, it is another now */
	CHECK_EQ(pwrite(fd, &byte, 1, st->st_size / 2), 1);
	return 0;
}

/* What is damaged is said to be, and is not taken for the same content. */
static void test_a_damaged_content_is_an_error(void)
{
	struct fixture f = {0};
	struct version_row row, again;
	auto_close int fd = -1;
	int back = -1;

	fixture_init(&f);
	fd = scratch_file(&f);
	fill(fd, 512 * 1024, true);
	put_file(&f, "big", 1, fd, &row);
	CHECK_EQ(nftw(f.folder, damage, 16, FTW_PHYS), 0);
	CHECK_EQ(journal_version_content(f.j, &row.v, &back), -EIO);
	put_file(&f, "big", 2, fd, &again);
	CHECK_EQ(journal_version_content(f.j, &again.v, &back), 0);
	check_same(fd, back, 512 * 1024);
	close(back);
	version_row_done(&row);
	version_row_done(&again);
	fixture_done(&f);
}

/* Large contents wait in the queue with a descriptor each: they may not use them up. */
static void test_many_large_contents_at_once(void)
{
	struct fixture f = {0};
	struct rlimit saved, few = {256, 256};
	auto_close int fd = -1;

	fixture_init(&f);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &saved), 0);
	few.rlim_max = saved.rlim_max;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
	fd = scratch_file(&f);
	fill(fd, 300 * 1024, true);
	for (uint64_t i = 1; i <= 400; i++) {
		struct version v = make_version(&f, "big", i, VERSION_WRITE);
		struct capture c = CAPTURE_NONE;

		CHECK_EQ(pwrite(fd, &i, sizeof(i), 0), sizeof(i));
		CHECK_EQ(journal_capture(f.j, fd, &c), 0);
		v.has_content = true;
		v.content = c.hash;
		v.size = c.size;
		CHECK_EQ(journal_append(f.j, &v, &c), 0);
	}
	settle(&f);
	CHECK_EQ(head_number(&f, "big"), 400);
	CHECK_EQ(journal_sync(f.j, journal_last_seq(f.j)), 0);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &saved), 0);
	fixture_done(&f);
}

int main(void)
{
	test_the_same_content_is_stored_once();
	test_a_collision_substitutes_nothing();
	test_large_contents();
	test_a_collision_of_large_contents();
	test_a_big_hole_stays_a_hole();
	test_a_damaged_content_is_an_error();
	test_many_large_contents_at_once();
	return 0;
}
