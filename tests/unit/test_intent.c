/*
 * test_intent.c - slots that tell, after a kill -9, whose change was under way (V4).
 */
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "check.h"
#include "journal/intent.h"

struct folder {
	char path[64];
	int fd;
};

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void folder_init(struct folder *f)
{
	const char *temp = getenv("TMPDIR");

	snprintf(f->path, sizeof(f->path), "%s/intent.XXXXXX", temp ? temp : "/tmp");
	CHECK(mkdtemp(f->path));
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(f->fd >= 0);
}

static void folder_done(struct folder *f)
{
	close(f->fd);
	nftw(f->path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static struct intent make_intent(const char *path)
{
	return (struct intent){.kind = INTENT_WRITE,
		.path = path,
		.path_len = strlen(path),
		.dev = 1,
		.ino = 2,
		.epoch = 3,
		.base_number = 4,
		.writer = "alice",
		.rule = "run",
		.command = "sh -c edit",
		.uid = 1000,
		.pid = 42,
		.start_ns = 5};
}

static uint32_t begin(struct intents *s, const char *path)
{
	struct intent i = make_intent(path);
	uint32_t slot = INTENT_NONE;

	CHECK_EQ(intents_begin(s, &i, &slot), 0);
	CHECK(slot != INTENT_NONE);
	return slot;
}

struct left {
	int n, closed;
	char paths[256];
	uint32_t slots[16];
};

static int note_left(const struct intent *i, bool closed, uint32_t slot, void *ctx)
{
	struct left *l = ctx;

	if (i->path_len < 100) {
		strcat(l->paths, i->path);
		strcat(l->paths, closed ? "+ " : " ");
	}
	l->slots[l->n++] = slot;
	l->closed += closed;
	return 0;
}

static void test_begin_close_end(void)
{
	struct folder f;
	struct intents *s;
	struct left left = {0};
	uint32_t a, b;

	folder_init(&f);
	CHECK_EQ(intents_open(&s, f.fd), 0);
	CHECK_EQ(intents_in_use(s), 0);
	a = begin(s, "a");
	b = begin(s, "b");
	CHECK(a != b);
	CHECK_EQ(intents_in_use(s), 2);
	intents_mark_closed(s, a, NULL);
	CHECK_EQ(intents_sync(s), 0);
	CHECK_EQ(intents_leftover(s, note_left, &left), 0);
	CHECK_EQ(left.n, 0); /* our own are not left over */
	intents_end(s, a);
	intents_end(s, b);
	intents_end(s, INTENT_NONE);
	CHECK_EQ(intents_in_use(s), 0);
	CHECK_EQ(begin(s, "c"), a); /* low slots first */
	intents_close(s);
	intents_close(NULL);
	folder_done(&f);
}

static struct stat as_closed(void)
{
	return (struct stat){.st_ino = 2, .st_size = 3, .st_mtim = {.tv_sec = 4}};
}

static void change_until_killed(struct folder *f, int ready)
{
	static char long_path[PATH_MAX];
	struct stat st = as_closed();
	struct intents *s;
	struct intent i;
	uint32_t slot;

	CHECK_EQ(intents_open(&s, f->fd), 0);
	intents_end(s, begin(s, "ended"));
	slot = begin(s, "closed");
	intents_mark_closed(s, slot, &st);
	memset(long_path, 'x', sizeof(long_path) - 1);
	i = make_intent(long_path);
	i.kind = INTENT_RENAME;
	i.to_path = long_path;
	i.to_path_len = i.path_len;
	CHECK_EQ(intents_begin(s, &i, &slot), 0);
	i = make_intent("open");
	i.kind = INTENT_COMMIT;
	i.shadow = "17";
	i.command = NULL;
	CHECK_EQ(intents_begin(s, &i, &slot), 0);
	CHECK_EQ(write(ready, "!", 1), 1);
	pause();
}

static int check_left(const struct intent *i, bool closed, uint32_t slot, void *ctx)
{
	int *seen = ctx;

	CHECK_EQ(i->epoch, 3);
	CHECK_EQ(i->base_number, 4);
	CHECK_EQ(i->ino, 2);
	CHECK_EQ(i->uid, 1000);
	CHECK_EQ(i->pid, 42);
	CHECK_EQ(i->start_ns, 5);
	CHECK_STR(i->writer, "alice");
	CHECK_STR(i->rule, "run");
	if (i->kind == INTENT_COMMIT) {
		CHECK(!closed && !i->command && !i->to_path);
		CHECK_STR(i->path, "open");
		CHECK_STR(i->shadow, "17");
		*seen += 1;
	} else if (i->kind == INTENT_RENAME) {
		CHECK(!closed && intent_is_as_closed(i, &(struct stat){0}));
		CHECK_EQ(i->path_len, PATH_MAX - 1);
		CHECK_EQ(strlen(i->path), PATH_MAX - 1);
		CHECK_STR(i->to_path, i->path);
		*seen += 10;
	} else {
		struct stat st = as_closed();

		CHECK(closed);
		CHECK(intent_is_as_closed(i, &st));
		st.st_mtim.tv_nsec = 1;
		CHECK(!intent_is_as_closed(i, &st));
		CHECK_STR(i->path, "closed");
		CHECK_STR(i->command, "sh -c edit");
		CHECK(!i->shadow);
		*seen += 100;
	}
	return 0;
}

/* After kill -9 the next daemon is told of all that was begun and not ended. */
static void test_kill_nine_leaves_what_was_begun(void)
{
	struct folder f;
	struct intents *s;
	struct left left = {0};
	int pipe_fd[2], seen = 0;
	char byte;
	pid_t child;

	folder_init(&f);
	CHECK_EQ(pipe(pipe_fd), 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0)
		change_until_killed(&f, pipe_fd[1]);
	CHECK_EQ(read(pipe_fd[0], &byte, 1), 1);
	CHECK_EQ(intents_open(&s, f.fd), -EBUSY); /* one daemon per workspace */
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	CHECK_EQ(intents_open(&s, f.fd), 0);
	CHECK_EQ(intents_in_use(s), 3);
	CHECK_EQ(intents_leftover(s, check_left, &seen), 0);
	CHECK_EQ(seen, 111);
	begin(s, "new");  /* takes none of theirs */
	intents_close(s); /* as if killed in recovery: they stay, and ours joins them */
	CHECK_EQ(intents_open(&s, f.fd), 0);
	CHECK_EQ(intents_leftover(s, note_left, &left), 0);
	CHECK_EQ(left.n, 4);
	for (int i = 0; i < left.n; i++)
		intents_end(s, left.slots[i]);
	left = (struct left){0};
	CHECK_EQ(intents_leftover(s, note_left, &left), 0);
	CHECK_EQ(left.n, 0);
	CHECK_EQ(intents_in_use(s), 0);
	intents_close(s);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	folder_done(&f);
}

static void test_a_full_table_says_so(void)
{
	struct folder f;
	struct intents *s;
	struct intent i = make_intent("one/more");
	uint32_t slot;

	folder_init(&f);
	CHECK_EQ(intents_open(&s, f.fd), 0);
	for (int k = 0; k < INTENT_SLOTS; k++)
		begin(s, "path");
	CHECK_EQ(intents_in_use(s), INTENT_SLOTS);
	CHECK_EQ(intents_begin(s, &i, &slot), -ENOSPC);
	intents_end(s, 12345);
	CHECK_EQ(intents_begin(s, &i, &slot), 0);
	CHECK_EQ(slot, 12345);
	CHECK_EQ(intents_begin(s, &i, &slot), -ENOSPC);
	intents_close(s);
	folder_done(&f);
}

static void test_texts_that_do_not_fit(void)
{
	static char huge[64 * 1024];
	struct folder f;
	struct intents *s;
	struct intent i;
	uint32_t slot;

	folder_init(&f);
	CHECK_EQ(intents_open(&s, f.fd), 0);
	memset(huge, 'x', sizeof(huge) - 1);
	i = make_intent("a");
	i.command = huge; /* only its beginning is kept */
	CHECK_EQ(intents_begin(s, &i, &slot), 0);
	i = make_intent(huge);
	CHECK_EQ(intents_begin(s, &i, &slot), -ENAMETOOLONG);
	CHECK_EQ(intents_in_use(s), 1);
	intents_close(s);
	folder_done(&f);
}

/* A record torn by a power cut is not believed. */
static void test_a_torn_record_is_ignored(void)
{
	struct folder f;
	struct intents *s;
	struct left left = {0};
	auto_close int fd = -1;

	folder_init(&f);
	CHECK_EQ(intents_open(&s, f.fd), 0);
	begin(s, "good");
	begin(s, "torn");
	intents_close(s);
	fd = openat(f.fd, "intents", O_WRONLY);
	CHECK_EQ(pwrite(fd, "?", 1, 4096 + 512 + 40), 1);
	CHECK_EQ(intents_open(&s, f.fd), 0);
	CHECK_EQ(intents_leftover(s, note_left, &left), 0);
	CHECK_STR(left.paths, "good ");
	intents_close(s);
	CHECK_EQ(pwrite(fd, "another format", 14, 0), 14);
	CHECK_EQ(intents_open(&s, f.fd), -EPROTO);
	folder_done(&f);
}

static void *begin_and_end(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		uint32_t slot =
			begin(arg, i % 7 ? "a" : "a/much/longer/path/than/the/others");

		intents_mark_closed(arg, slot, NULL);
		intents_end(arg, slot);
	}
	return NULL;
}

static void test_many_threads(void)
{
	pthread_t threads[4];
	struct folder f;
	struct intents *s;

	folder_init(&f);
	CHECK_EQ(intents_open(&s, f.fd), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, begin_and_end, s), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CHECK_EQ(intents_in_use(s), 0);
	intents_close(s);
	folder_done(&f);
}

int main(void)
{
	test_begin_close_end();
	test_kill_nine_leaves_what_was_begun();
	test_a_full_table_says_so();
	test_texts_that_do_not_fit();
	test_a_torn_record_is_ignored();
	test_many_threads();
	return 0;
}
