/*
 * test_durability.c - kill -9, a failing disk, older schemas, many threads (V4, V7).
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>

#include "base/log.h"
#include "journal/db.h"
#include "journal/schema.h"
#include "journal_fixture.h"

enum { KILLED_VERSIONS = 300 };

static void report(int fd, uint64_t value)
{
	CHECK_EQ(write(fd, &value, sizeof(value)), sizeof(value));
}

static uint64_t hear(int fd)
{
	uint64_t value;

	CHECK_EQ(read(fd, &value, sizeof(value)), sizeof(value));
	return value;
}

/* The child's part; it is killed while it goes on. */
static void append_until_killed(struct fixture *f, const char *path, int fd)
{
	uint64_t epoch = 0, seq = 0;

	fixture_open(f);
	for (uint64_t i = 1; i <= KILLED_VERSIONS; i++) {
		char text[32];

		snprintf(text, sizeof(text), "content %d", (int)i);
		seq = put(f, path, i, text);
		CHECK_EQ(journal_next_epoch(f->j, &epoch), 0);
	}
	CHECK_EQ(journal_wait(f->j, seq), 0);
	CHECK(journal_is_written(f->j, seq));
	report(fd, epoch);
	report(fd, seq);
	for (uint64_t i = KILLED_VERSIONS + 1;; i++)
		put(f, path, i, "not waited for");
}

/* What was waited for is there; no number comes twice (V4; epochs: L1). */
static void test_kill_nine_loses_nothing_waited_for(void)
{
	static const char *const paths[] = {"a", "b", "c"};
	struct fixture f = {0};
	uint64_t last_epoch = 0, last_seq = 0;

	fixture_folder(&f);
	for (int round = 0; round < (int)ARRAY_SIZE(paths); round++) {
		uint64_t epoch, seq;
		int pipe_fd[2], status;
		pid_t child;

		CHECK_EQ(pipe(pipe_fd), 0);
		child = fork();
		CHECK(child >= 0);
		if (child == 0)
			append_until_killed(&f, paths[round], pipe_fd[1]);
		epoch = hear(pipe_fd[0]);
		seq = hear(pipe_fd[0]);
		kill(child, SIGKILL);
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK(WIFSIGNALED(status));
		close(pipe_fd[0]);
		close(pipe_fd[1]);
		fixture_open(&f);
		CHECK(epoch > last_epoch && seq > last_seq);
		CHECK_EQ(journal_next_epoch(f.j, &last_epoch), 0);
		last_seq = take_seq(&f);
		CHECK(last_epoch > epoch && last_seq > seq);
		check_content(&f, paths[round], KILLED_VERSIONS, "content 300");
		check_content(&f, paths[round], 1, "content 1");
		CHECK(head_number(&f, paths[round]) >= KILLED_VERSIONS);
		journal_close(f.j);
	}
	fixture_open(&f);
	fixture_done(&f);
}

/* An orderly end gives back what was reserved: numbers go on without a gap. */
static void test_numbers_go_on_after_an_orderly_end(void)
{
	struct fixture f = {0};
	uint64_t epoch;

	fixture_init(&f);
	for (uint64_t i = 1; i <= 2000; i++) {
		CHECK_EQ(journal_next_epoch(f.j, &epoch), 0);
		CHECK_EQ(epoch, i);
	}
	CHECK_EQ(take_seq(&f), 1);
	fixture_reopen(&f);
	CHECK_EQ(journal_last_seq(f.j), 1);
	CHECK_EQ(journal_next_epoch(f.j, &epoch), 0);
	CHECK_EQ(epoch, 2001);
	CHECK_EQ(take_seq(&f), 2);
	fixture_done(&f);
}

struct disk {
	_Atomic int commit, object; /* what it answers */
	atomic_int commits;
};

static int before_commit(void *ctx)
{
	struct disk *d = ctx;

	atomic_fetch_add(&d->commits, 1);
	return atomic_load(&d->commit);
}

static int before_object(void *ctx)
{
	return atomic_load(&((struct disk *)ctx)->object);
}

static void wait_for_health(struct fixture *f, int want)
{
	for (int i = 0; i < 1000 && journal_health(f->j) != want; i++)
		usleep(10 * 1000);
	CHECK_EQ(journal_health(f->j), want);
}

/* A full disk keeps the rows, says so, and goes on when there is room again (V7). */
static void test_a_full_disk_keeps_the_rows(void)
{
	struct disk disk = {0};
	struct journal_faults faults = {.before_commit = before_commit, .ctx = &disk};
	struct fixture f = {.faults = &faults};
	struct journal_figures figures;
	struct version_row row;
	struct event e = {.kind = "grant"};
	struct hash128 hash = hash128_bytes("kept", 4);
	uint64_t seq;

	fixture_init(&f);
	put(&f, "a", 1, "before");
	settle(&f);
	e.seq = take_seq(&f);
	atomic_store(&disk.commit, -ENOSPC);
	seq = put(&f, "a", 2, "kept");
	CHECK_EQ(journal_wait(f.j, seq), -ENOSPC);
	CHECK_EQ(journal_health(f.j), -ENOSPC);
	CHECK_EQ(journal_sync(f.j, seq), -ENOSPC);
	CHECK(!journal_is_written(f.j, seq));
	CHECK(journal_has_content(f.j, hash, 4)); /* queued counts */
	for (int i = 0; i < 10000 && journal_event(f.j, &e) == 0; i++)
		;
	CHECK_EQ(journal_event(f.j, &e), -ENOSPC); /* does not wait, nor fill it all */
	put(&f, "a", 3, "kept too");
	CHECK_EQ(head(&f, "a", &row), 1); /* reading goes on */
	CHECK_EQ(row.v.number, 1);
	version_row_done(&row);
	atomic_store(&disk.commit, -EIO);
	wait_for_health(&f, -EIO);
	atomic_store(&disk.commit, 0);
	wait_for_health(&f, 0);
	settle(&f);
	check_content(&f, "a", 2, "kept");
	check_content(&f, "a", 3, "kept too");
	journal_figures(f.j, &figures);
	CHECK_EQ(figures.versions, 3);
	CHECK_EQ(figures.queued, 0);
	CHECK_EQ(figures.queued_bytes, 0);
	CHECK_EQ(figures.health, 0);
	fixture_done(&f);
}

/* The same for a file of its own; what the first try left is used by the next. */
static void test_a_large_content_on_a_full_disk(void)
{
	struct disk disk = {0};
	struct journal_faults faults = {.before_commit = before_commit,
		.before_object = before_object,
		.ctx = &disk};
	struct fixture f = {.faults = &faults};
	char *data = calloc(1, 400 * 1024);
	uint64_t seed = 1;
	auto_close int fd = -1, back = -1;
	struct version v;
	struct capture c = CAPTURE_NONE;

	fixture_init(&f);
	CHECK(data);
	for (int i = 0; i < 400 * 1024; i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		data[i] = (char)(seed >> 56);
	}
	fd = openat(f.dirfd, ".", O_TMPFILE | O_RDWR, 0600);
	CHECK_EQ(write(fd, data, 400 * 1024), 400 * 1024);
	v = make_version(&f, "big", 1, VERSION_WRITE);
	atomic_store(&disk.object, -EDQUOT);
	CHECK_EQ(journal_capture(f.j, fd, &c), 0);
	v.has_content = true;
	v.content = c.hash;
	v.size = c.size;
	CHECK_EQ(journal_append(f.j, &v, &c), 0);
	CHECK_EQ(journal_wait(f.j, v.seq), -EDQUOT);
	atomic_store(&disk.object, 0);
	wait_for_health(&f, 0);
	settle(&f);
	CHECK_EQ(journal_content(f.j, v.content, v.size, &back), 0);
	free(data);
	fixture_done(&f);
}

/* Closing on a disk that stays full comes to an end; what was queued is kept, and written
 * when the journal is opened again. */
static void test_close_gives_up_on_a_failing_disk(void)
{
	struct disk disk = {0};
	struct journal_faults faults = {.before_commit = before_commit, .ctx = &disk};
	struct fixture f = {.faults = &faults};
	int tries;

	log_setup("test (an error is expected)", LOG_LEVEL_ERROR, false);
	fixture_init(&f);
	put(&f, "a", 1, "1");
	settle(&f);
	atomic_store(&disk.commit, -ENOSPC);
	put(&f, "a", 2, "2");
	wait_for_health(&f, -ENOSPC);
	tries = atomic_load(&disk.commits);
	journal_close(f.j);
	CHECK(atomic_load(&disk.commits) > tries); /* the last try */
	atomic_store(&disk.commit, 0);
	fixture_open(&f);
	CHECK_EQ(head_number(&f, "a"), 2);
	fixture_done(&f);
}

static void open_db(struct fixture *f, struct db **db, sqlite3_vfs *vfs, char name[32])
{
	char path[128];

	snprintf(path, sizeof(path), "%s/journal.db", f->folder);
	CHECK_EQ(db_vfs_register(vfs, name, 32), 0);
	CHECK_EQ(db_open(db, name, path, true), 0);
}

static void close_db(struct db *db, sqlite3_vfs *vfs)
{
	db_free(db);
	sqlite3_vfs_unregister(vfs);
}

/* A journal of the first schema is brought up with all it holds. */
static void test_an_older_schema_is_migrated(void)
{
	static const char rows[] = "INSERT INTO path VALUES (1, X'61');"
				   "INSERT INTO content VALUES (1, "
				   "X'000102030405060708090a0b0c0d0e0f', 3, 0, 0,"
				   " 3, X'616263');"
				   "INSERT INTO version VALUES (1, 5, 1, 1, 1, 0, 0, 0, 1, "
				   "3, 0, 0, 0, 0, 0, NULL,"
				   " NULL, NULL, 0);"
				   "INSERT INTO refusal VALUES (1, 4, 0, X'61', "
				   "'open', 'stale', 116, NULL, NULL, 0, 1, 0,"
				   " NULL, NULL, NULL, 'x', 1), (2, 4, 0, X'61', "
				   "'open', 'held', 11, NULL, NULL, 0, 1, 0,"
				   " NULL, NULL, NULL, 'x', NULL);"
				   "INSERT INTO counter VALUES ('seq', 5);";
	struct fixture f = {0};
	struct journal_figures figures;
	struct version_row row;
	struct db *db;
	sqlite3_vfs vfs;
	char name[32];
	int64_t version = 0;

	fixture_folder(&f);
	open_db(&f, &db, &vfs, name);
	CHECK_EQ(schema_migrate(db, 1), 0);
	CHECK_EQ(db_exec(db, rows), 0);
	close_db(db, &vfs);
	fixture_open(&f);
	journal_figures(f.j, &figures);
	CHECK_EQ(figures.versions, 1);
	CHECK_EQ(figures.content_bytes, 3);
	CHECK_EQ(figures.conflicts, 1);
	CHECK_EQ(take_seq(&f), 6);
	CHECK_EQ(head(&f, "a", &row), 1);
	CHECK_EQ(row.v.seq, 5);
	version_row_done(&row);
	put(&f, "a", 2, "2");
	settle(&f);
	journal_close(f.j);
	open_db(&f, &db, &vfs, name);
	CHECK_EQ(db_int(db, "PRAGMA user_version", &version), 0);
	CHECK_EQ(version, SCHEMA_VERSION);
	CHECK_EQ(
		db_int(db, "SELECT count(*) FROM v_history WHERE path = 'a'", &version), 0);
	CHECK_EQ(version, 2);
	CHECK_EQ(
		db_int(db, "SELECT versions FROM v_writers WHERE name = 'alice'", &version),
		0);
	CHECK_EQ(version, 1);
	CHECK_EQ(db_int(db,
			 "SELECT n_changes FROM change_set WHERE id = (SELECT set_id"
			 " FROM version WHERE seq = 5)",
			 &version),
		0);
	CHECK_EQ(version, 1);
	CHECK_EQ(db_exec(db, "PRAGMA user_version = 99"), 0);
	close_db(db, &vfs);
	CHECK_EQ(journal_open(&f.j, &(struct journal_options){.dirfd = f.dirfd,
					    .clock = clock_system()}),
		-EPROTO);
	f.j = NULL;
	fixture_done(&f);
}

static bool own_mounts(void)
{
	if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return false;
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* In a child with mounts of its own, which go when it does. */
static void work_under_a_mount(struct fixture *f)
{
	char decoy[96];

	close(f->dirfd);
	f->dirfd = open(f->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fixture_open(f);
	put(f, "a", 1, "1");
	settle(f);
	CHECK_EQ(mount("none", f->folder, "tmpfs", 0, NULL), 0);
	check_content(f, "a", 1, "1"); /* a connection that was not open yet */
	put(f, "a", 2, "2");
	settle(f);
	fixture_reopen(f);
	CHECK_EQ(head_number(f, "a"), 2);
	journal_close(f->j);
	snprintf(decoy, sizeof(decoy), "%s/journal.db", f->folder);
	CHECK_EQ(access(decoy, F_OK), -1);
}

/* The workspace is mounted over itself: nothing goes through the folder's path again,
 * where our own mount would answer, or rather wait for us. */
static void test_the_folder_may_be_mounted_over(void)
{
	struct fixture f = {0};
	int status;
	pid_t child;

	fixture_folder(&f);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		if (!own_mounts())
			_exit(77);
		work_under_a_mount(&f);
		_exit(0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		fprintf(stderr,
			"not tested: mounting over the folder (no namespaces here)\n");
	else
		CHECK_EQ(WEXITSTATUS(status), 0);
	fixture_done(&f);
}

enum { THREADS = 8, PER_THREAD = 1250 };

struct appender {
	pthread_t thread;
	struct fixture *f;
	int n;
};

static void *append_many(void *arg)
{
	struct appender *a = arg;
	char path[32], text[32];

	snprintf(path, sizeof(path), "folder/%d", a->n);
	for (uint64_t i = 1; i <= PER_THREAD; i++) {
		struct version_row row;
		uint64_t seq;

		snprintf(text, sizeof(text), "%d", (int)i);
		seq = put(a->f, path, i, text);
		if (i % 100)
			continue;
		CHECK_EQ(i % 200 ? journal_wait(a->f->j, seq) : journal_sync(a->f->j, seq),
			0);
		CHECK(journal_is_written(a->f->j, seq));
		CHECK_EQ(head(a->f, path, &row), 1);
		CHECK_EQ(row.v.number, i);
		version_row_done(&row);
	}
	return NULL;
}

static int check_order(const struct version *v, void *ctx)
{
	uint64_t *last = ctx;

	CHECK(v->seq < *last);
	*last = v->seq;
	return 0;
}

/* 10,000 versions by 8 threads: all there, each seq once, in far fewer commits. */
static void test_many_threads(void)
{
	struct appender appenders[THREADS];
	struct journal_figures figures;
	struct fixture f = {0};
	uint64_t last = UINT64_MAX;

	fixture_init(&f);
	for (int i = 0; i < THREADS; i++) {
		appenders[i] = (struct appender){.f = &f, .n = i};
		CHECK_EQ(pthread_create(
				 &appenders[i].thread, NULL, append_many, &appenders[i]),
			0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(appenders[i].thread, NULL);
	settle(&f);
	journal_figures(f.j, &figures);
	CHECK_EQ(figures.versions, THREADS * PER_THREAD);
	CHECK_EQ(figures.contents, PER_THREAD);
	CHECK(figures.commits < THREADS * PER_THREAD / 4);
	CHECK_EQ(journal_log(f.j, &(struct log_filter){0}, check_order, &last), 0);
	fixture_done(&f);
}

/* A burst is one commit, or few. */
static void test_group_commit(void)
{
	struct journal_figures figures;
	struct fixture f = {0};

	fixture_init(&f);
	for (uint64_t i = 1; i <= 200; i++)
		put(&f, "a", i, "x");
	settle(&f);
	journal_figures(f.j, &figures);
	CHECK_EQ(figures.versions, 200);
	CHECK(figures.commits < 50);
	fixture_done(&f);
}

int main(void)
{
	test_kill_nine_loses_nothing_waited_for();
	test_numbers_go_on_after_an_orderly_end();
	test_a_full_disk_keeps_the_rows();
	test_a_large_content_on_a_full_disk();
	test_close_gives_up_on_a_failing_disk();
	test_an_older_schema_is_migrated();
	test_the_folder_may_be_mounted_over();
	test_many_threads();
	test_group_commit();
	return 0;
}
