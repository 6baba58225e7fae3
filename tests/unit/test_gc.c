/*
 * test_gc.c - retention: what goes, what never does, and kill -9 at every step (V9).
 */
#include "base/buf.h"
#include "journal/gc.h"
#include "journal_fixture.h"

#define HOUR (3600 * NS_PER_S)
#define DAY (24 * HOUR)

/* Noon of some day, by the clock of the place as well: the tests run in UTC. */
static const int64_t now = 20000 * DAY + 12 * HOUR;

struct policy {
	struct keep keep, special; /* special: of paths that begin with '!' */
};

static void keep_of(const char *path, size_t len, struct keep *keep, void *ctx)
{
	const struct policy *p = ctx;

	*keep = len && path[0] == '!' ? p->special : p->keep;
}

/* Steps are tried again while something goes wrong, as the daemon does. */
static struct gc_sums collect_as(struct fixture *f, struct policy p, bool dry, int64_t log)
{
	struct gc_options o = {.keep = keep_of,
		.ctx = &p,
		.now_ns = now,
		.dry_run = dry,
		.log_age_ns = log};
	struct gc_sums sums;
	struct gc *g;
	int r;

	CHECK_EQ(gc_new(&g, f->j, &o), 0);
	while ((r = gc_step(g)))
		CHECK(r == 1 || r == -EIO);
	gc_get_sums(g, &sums);
	gc_free(g);
	return sums;
}

static struct gc_sums collect(struct fixture *f, struct keep keep)
{
	return collect_as(f, (struct policy){.keep = keep}, false, 0);
}

/* A version with these bytes (NULL: a deletion) that was made so long ago. */
static uint64_t put_old(struct fixture *f, const char *path, uint64_t number,
	const char *text, int64_t age_ns)
{
	struct version v =
		make_version(f, path, number, text ? VERSION_WRITE : VERSION_DELETE);
	struct capture c = CAPTURE_NONE;

	v.time_ns = now - age_ns;
	if (text) {
		CHECK_EQ(journal_capture_bytes(text, strlen(text), &c), 0);
		v.has_content = true;
		v.content = c.hash;
		v.size = c.size;
	}
	CHECK_EQ(journal_append(f->j, &v, text ? &c : NULL), 0);
	return v.seq;
}

static int note(const struct version *v, void *ctx)
{
	buf_printf(ctx, "%s%llu%s", ((struct buf *)ctx)->len ? " " : "",
		(unsigned long long)v->number, v->flags & VERSION_GAP ? "g" : "");
	return 0;
}

/* The numbers that there still are, newest first; g: rows before it are gone. */
static void check_numbers(struct fixture *f, const char *path, const char *want)
{
	struct log_filter filter = {.path = path, .path_len = strlen(path)};
	auto_buf b = {0};

	CHECK_EQ(journal_log(f->j, &filter, note, &b), 0);
	CHECK_STR(b.data ?: "", want);
}

static void test_count(void) /* V9 */
{
	struct fixture f = {0};
	struct gc_sums sums;
	char text[32];

	fixture_init(&f);
	for (int i = 1; i <= 300; i++) {
		snprintf(text, sizeof(text), "text %d", i);
		put(&f, "a", (uint64_t)i, text);
	}
	put(&f, "b", 1, "text 7");
	settle(&f);
	sums = collect(&f, (struct keep){.count = 3});
	CHECK_EQ(sums.versions, 297);
	CHECK_EQ(sums.contents, 296); /* b has one of them */
	CHECK_EQ(sums.paths, 2);
	check_numbers(&f, "a", "300 299 298g");
	check_content(&f, "a", 298, "text 298");
	check_content(&f, "b", 1, "text 7");
	CHECK_EQ(head_number(&f, "a"), 300);
	/* nothing is left to do */
	sums = collect(&f, (struct keep){.count = 3});
	CHECK_EQ(sums.versions + sums.contents + sums.objects, 0);
	fixture_reopen(&f);
	check_numbers(&f, "a", "300 299 298g");
	fixture_done(&f);
}

/* Ages count from when another took the place of a version, thinning by full hours. */
static void test_age(void) /* V9 */
{
	const struct keep thin = {.age_ns = 30 * DAY}, every = {30 * DAY, 0, 0, true};
	struct fixture f = {0};

	fixture_init(&f);
	for (int i = 0; i < 2; i++) {
		const char *path = i ? "!a" : "a";

		put_old(&f, path, 1, "1", 400 * DAY);
		put_old(&f, path, 2, "2", 50 * DAY);
		put_old(&f, path, 3, "3", 9 * DAY + HOUR);
		put_old(&f, path, 4, "4", 9 * DAY); /* the same day as 3 */
		put_old(&f, path, 5, "5", 3 * DAY + HOUR / 2);
		put_old(&f, path, 6, "6", 3 * DAY + HOUR / 4); /* the same hour as 5 */
		put_old(&f, path, 7, "7", 3 * DAY - HOUR / 4);
		put_old(&f, path, 8, "8", HOUR);
		put_old(&f, path, 9, "9", HOUR / 2);
	}
	settle(&f);
	collect_as(&f, (struct policy){thin, every}, false, 0);
	/* 2 stayed until nine days ago; 1 was over when 2 came, fifty days ago */
	check_numbers(&f, "a", "9 8 7 6g 4g 2g");
	check_numbers(&f, "!a", "9 8 7 6 5 4 3 2g");
	fixture_done(&f);
}

static void test_bytes(void) /* V9 */
{
	struct fixture f = {0};

	fixture_init(&f);
	for (uint64_t i = 1; i <= 9; i++) {
		char text[11] = "0123456789";

		text[0] = (char)('0' + i);
		put(&f, "a", i, text);
	}
	settle(&f);
	collect(&f, (struct keep){.bytes = 35});
	check_numbers(&f, "a", "9 8 7g");
	collect(&f, (struct keep){.bytes = 1}); /* the current one is never too large */
	check_numbers(&f, "a", "9g");
	fixture_done(&f);
}

static void test_deleted(void) /* V9: the newest of a deleted path */
{
	struct fixture f = {0};

	fixture_init(&f);
	put_old(&f, "new", 1, "a", 2 * DAY + 2);
	put_old(&f, "new", 2, "b", 2 * DAY + 1);
	put_old(&f, "new", 3, NULL, 2 * DAY);
	put_old(&f, "old", 1, "a", 40 * DAY + 2);
	put_old(&f, "old", 2, "b", 40 * DAY + 1);
	put_old(&f, "old", 3, NULL, 40 * DAY);
	settle(&f);
	collect(&f, (struct keep){.age_ns = 30 * DAY, .count = 1});
	check_numbers(&f, "new", "3 2g"); /* of the same hour, and not thinned */
	check_numbers(&f, "old", "3g");	  /* its number is not given out again */
	CHECK_EQ(head_number(&f, "old"), 3);
	collect(&f, (struct keep){.count = 1});
	check_content(&f, "new", 2, "b");
	fixture_done(&f);
}

/* The old name's newest row is the moved file's current version. */
static void test_renamed_folder(void) /* V9 */
{
	struct fixture f = {0};

	fixture_init(&f);
	put(&f, "d/x", 1, "one");
	put(&f, "d/x", 2, "two");
	move_folder(&f, "d", "e");
	put(&f, "d/x", 3, "three");
	put(&f, "d/x", 4, "four");
	settle(&f);
	collect(&f, (struct keep){.count = 1});
	check_numbers(&f, "d/x", "4g 2g");
	CHECK_EQ(head_number(&f, "e/x"), 2);
	check_content(&f, "e/x", 2, "two");
	fixture_done(&f);
}

static uint64_t refuse(struct fixture *f, const char *path, uint64_t base, const char *text)
{
	struct refusal refusal = {.seq = take_seq(f),
		.path = path,
		.path_len = strlen(path),
		.asked = "open",
		.reason = "stale",
		.error = ESTALE,
		.author = {.name = "bob", .pid = 3},
		.base_number = base,
		.current_number = base + 1,
		.time_ns = now - 100 * DAY,
		.kept = true};
	struct capture c = CAPTURE_NONE;

	CHECK_EQ(journal_next_refusal(f->j, &refusal.id), 0);
	CHECK_EQ(journal_capture_bytes(text, strlen(text), &c), 0);
	refusal.content = c.hash;
	refusal.size = c.size;
	CHECK_EQ(journal_refuse(f->j, &refusal, &c), 0);
	return refusal.id;
}

static int read_refused(const struct refusal *r, void *ctx)
{
	*(bool *)ctx = r->kept;
	return 0;
}

static bool is_kept(struct fixture *f, uint64_t id)
{
	bool kept = false;

	CHECK_EQ(journal_refusal(f->j, id, read_refused, &kept), 0);
	return kept;
}

static void test_conflicts(void) /* V9: unresolved ones never */
{
	const struct keep one = {.count = 1, .age_ns = 30 * DAY};
	struct journal_figures figures;
	struct fixture f = {0};
	uint64_t id;

	fixture_init(&f);
	for (uint64_t i = 1; i <= 6; i++)
		put_old(&f, "a", i, (char[]){(char)('0' + i), '\0'}, 50 * DAY);
	id = refuse(&f, "a", 2, "mine");
	settle(&f);
	collect(&f, one);
	check_numbers(&f, "a", "6g 3 2g"); /* what was known, what was there */
	CHECK(is_kept(&f, id));
	CHECK_EQ(journal_resolve(f.j, &(struct resolution){id, take_seq(&f), now - 40 * DAY,
					      "bob", "ours"}),
		RESOLVE_DONE);
	CHECK_EQ(collect(&f, one).conflicts, 1);
	check_numbers(&f, "a", "6g");
	CHECK(!is_kept(&f, id));
	journal_figures(f.j, &figures);
	CHECK_EQ(figures.conflicts, 0);
	CHECK_EQ(figures.contents, 1);
	CHECK_EQ(figures.versions, 1);
	CHECK_EQ(collect_as(&f, (struct policy){one, one}, false, 90 * DAY).log_rows, 1);
	fixture_done(&f);
}

static int count_pin(const struct pin *p, void *ctx)
{
	CHECK_STR(p->name, "release");
	++*(int *)ctx;
	return 0;
}

static void check_past(struct fixture *f, const char *path, uint64_t seq, uint64_t number)
{
	struct past past;
	int r = journal_past(f->j, path, strlen(path), seq, &past);

	CHECK_EQ(r, number ? PAST_VERSION : PAST_ABSENT);
	CHECK_EQ(past.row.v.number, number);
	past_done(&past);
}

static void test_pins(void) /* V9: what .stomp/at of a pinned moment needs */
{
	const struct keep one = {.count = 1};
	struct fixture f = {0};
	struct pin pins[2] = {{.name = "release", .path = "src", .path_len = 3},
		{.name = "release", .path = "README", .path_len = 6}};
	int n = 0;

	fixture_init(&f);
	put(&f, "src/a", 1, "1");
	put(&f, "srcs", 1, "1");
	put(&f, "src/a", 2, "2");
	pins[0].seq = pins[1].seq = put(&f, "srcs", 2, "2");
	put(&f, "src/a", 3, "3");
	put(&f, "srcs", 3, "3");
	put(&f, "src/later", 1, "1");
	put(&f, "src/later", 2, "2");
	settle(&f);
	CHECK_EQ(journal_pin(f.j, pins, 2), PIN_DONE);
	CHECK_EQ(journal_pin(f.j, pins, 1), PIN_AGAIN);
	fixture_reopen(&f);
	collect(&f, one);
	check_numbers(&f, "src/a", "3 2g");
	check_numbers(&f, "srcs", "3g");
	check_numbers(&f, "src/later", "2 1"); /* it tells that nothing was there */
	check_past(&f, "src/a", pins[0].seq, 2);
	check_past(&f, "src/later", pins[0].seq, 0);
	check_past(&f, "srcs", pins[0].seq, 3); /* the oldest that there is */
	CHECK_EQ(journal_pins(f.j, count_pin, &n), 0);
	CHECK_EQ(n, 2);
	CHECK_EQ(journal_unpin(f.j, "release-"), PIN_NONE);
	CHECK_EQ(journal_unpin(f.j, "release"), PIN_DONE);
	collect(&f, one);
	check_numbers(&f, "src/a", "3g");
	check_numbers(&f, "src/later", "2g");
	fixture_done(&f);
}

static void test_dry_run(void) /* V9 */
{
	struct fixture f = {0};
	struct gc_sums sums;

	fixture_init(&f);
	for (uint64_t i = 1; i <= 20; i++)
		put(&f, "a", i, (char[]){(char)('a' + i), '\0'});
	settle(&f);
	sums = collect_as(&f, (struct policy){.keep = {.count = 1}}, true, DAY);
	CHECK_EQ(sums.versions, 19);
	CHECK_EQ(sums.contents, 19);
	check_content(&f, "a", 1, "b");
	fixture_done(&f);
}

/* What a lost-update test would take for what a writer knew must be just that (S4). */
static void test_uncertain_base(void)
{
	struct fixture f = {0};
	struct version_row row;
	uint64_t first, second;

	fixture_init(&f);
	first = put(&f, "a", 1, "1");
	second = put(&f, "a", 2, "2");
	put(&f, "a", 3, "3");
	settle(&f);
	CHECK_EQ(journal_pin(f.j, &(struct pin){.name = "p", .seq = first, .path = ""}, 1),
		PIN_DONE);
	collect(&f, (struct keep){.count = 1});
	check_numbers(&f, "a", "3g 1");
	CHECK_EQ(journal_version_at(f.j, "a", 1, first, &row), 1);
	version_row_done(&row);
	CHECK_EQ(journal_version_at(f.j, "a", 1, second, &row), 0);
	fixture_done(&f);
}

/* ---- patches, segments, object files ---- */

static uint64_t put_patch(struct fixture *f, const char *path, uint64_t number, char *bytes,
	size_t size, uint64_t base_seq, size_t at, size_t len)
{
	struct version v = make_version(f, path, number, VERSION_WRITE);
	struct capture c = CAPTURE_NONE, old = CAPTURE_NONE;
	struct extent e = {at, len};
	struct capture_base base = {.seq = base_seq,
		.size = at + len > size ? at : size,
		.extents = &e,
		.n_extents = 1};
	char file[] = "/tmp/gc-patch.XXXXXX";
	int fd = mkstemp(file);

	CHECK(fd >= 0 && unlink(file) == 0);
	if (at == size) { /* appended */
		base.n_extents = 0;
		base.keep = base.size = size;
		size += len;
	} else {
		base.keep = size;
	}
	CHECK_EQ(journal_capture_bytes(bytes, base.size, &old), 0);
	base.hash = old.hash;
	capture_done(&old);
	memset(bytes + at, (int)('A' + number % 26), len);
	CHECK_EQ(pwrite(fd, bytes, size, 0), size);
	CHECK_EQ(journal_capture_change(f->j, fd, &base, &c), 0);
	CHECK(capture_is_patch(&c));
	v.has_content = true;
	v.content = c.hash;
	v.size = c.size;
	CHECK_EQ(journal_append(f->j, &v, &c), 0);
	close(fd);
	return v.seq;
}

static void check_bytes(
	struct fixture *f, const char *path, uint64_t number, const char *want, size_t size)
{
	auto_free char *bytes = malloc(size);
	struct version_row row;
	int fd = -1;

	CHECK_EQ(journal_version(f->j, path, strlen(path), number, &row), 1);
	CHECK_EQ(row.v.size, size);
	CHECK_EQ(journal_version_content(f->j, &row.v, &fd), 0);
	CHECK_EQ(pread(fd, bytes, size, 0), size);
	CHECK(memcmp(bytes, want, size) == 0);
	close(fd);
	version_row_done(&row);
}

static int n_files;

static int count_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	n_files += type == FTW_F;
	return 0;
}

static int count_objects(const struct fixture *f)
{
	char folder[96];

	snprintf(folder, sizeof(folder), "%s/objects", f->folder);
	n_files = 0;
	CHECK_EQ(nftw(folder, count_file, 16, FTW_PHYS), 0);
	return n_files;
}

enum { PATCHED = 40000, NOISE = 300000 };

/* Text that grows by patches and appends, and a noisy file that is an object each time. */
static void make_history(struct fixture *f, char *text, size_t *size, char *noise)
{
	uint64_t seq;
	uint32_t x = 7;

	for (size_t i = 0; i < PATCHED; i++)
		text[i] = (char)('a' + (x = x * 1664525 + 1013904223) % 17);
	seq = put_bytes(f, "text", 1, text, PATCHED);
	*size = PATCHED;
	for (uint64_t n = 2; n <= 9; n++) {
		bool append = n % 2;

		seq = put_patch(f, "text", n, text, *size, seq,
			append ? *size : 100 * (size_t)n, 50);
		*size += append ? 50 : 0;
	}
	for (uint64_t n = 1; n <= 3; n++) {
		for (size_t i = 0; i < NOISE; i++)
			noise[i] = (char)((x = x * 1664525 + 1013904223) >> 24);
		put_bytes(f, "noise", n, noise, NOISE);
	}
	settle(f);
}

/* A content stays while another builds on it, and goes with that (V6, V9). */
static void test_chains(void)
{
	auto_free char *text = malloc(2 * PATCHED), *noise = malloc(NOISE);
	struct journal_figures figures;
	struct fixture f = {0};
	size_t size;

	fixture_init(&f);
	make_history(&f, text, &size, noise);
	CHECK_EQ(count_objects(&f), 3);
	collect(&f, (struct keep){.count = 1});
	check_numbers(&f, "text", "9g");
	check_numbers(&f, "noise", "3g");
	check_bytes(&f, "text", 9, text, size);
	check_bytes(&f, "noise", 3, noise, NOISE);
	CHECK_EQ(count_objects(&f), 1);
	put(&f, "text", 10, "all new");
	put(&f, "noise", 4, "quiet");
	settle(&f);
	collect(&f, (struct keep){.count = 1});
	CHECK_EQ(count_objects(&f), 0);
	journal_figures(f.j, &figures);
	CHECK_EQ(figures.contents, 2);
	CHECK_EQ(figures.content_bytes, 12);
	CHECK_EQ(figures.stored_bytes, 12);
	fixture_done(&f);
}

struct trap {
	int left; /* -1: only count */
	int count;
	bool die;
};

static int step_on(void *ctx)
{
	struct trap *t = ctx;

	t->count++;
	if (t->left < 0 || t->left-- > 0)
		return 0;
	if (t->die)
		_exit(9);
	return -EIO;
}

/* In a child that dies (or fails and tries again) at the nth thing it changes. */
static int interrupted(int nth, bool die)
{
	auto_free char *text = malloc(2 * PATCHED), *noise = malloc(NOISE);
	struct trap trap = {.left = -1, .die = die};
	struct journal_faults faults = {.gc = step_on, .ctx = &trap};
	struct fixture f = {.faults = &faults};
	size_t size;
	int status;
	pid_t pid;

	fixture_folder(&f);
	fflush(NULL);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		fixture_open(&f);
		make_history(&f, text, &size, noise);
		put_old(&f, "gone", 1, "x", 40 * DAY + 1);
		put_old(&f, "gone", 2, NULL, 40 * DAY);
		settle(&f);
		trap.left = nth;
		collect(&f, (struct keep){.count = 2});
		_exit(trap.left >= 0 ? 0 : 9);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 9));
	fixture_open(&f);
	CHECK(count_objects(&f) >= 2);
	collect(&f, (struct keep){.count = 2});
	check_numbers(&f, "text", "9 8g");
	check_numbers(&f, "noise", "3 2g");
	check_numbers(&f, "gone", "2 1");
	{ /* what stays is what it was: told by the digest that reading compares */
		struct version_row row;
		int fd = -1;

		for (uint64_t n = 8; n <= 9; n++) {
			CHECK_EQ(journal_version(f.j, "text", 4, n, &row), 1);
			CHECK_EQ(journal_version_content(f.j, &row.v, &fd), 0);
			close(fd);
			version_row_done(&row);
		}
	}
	CHECK_EQ(count_objects(&f), 2);
	CHECK_EQ(collect(&f, (struct keep){.count = 2}).contents, 0);
	fixture_done(&f);
	return WEXITSTATUS(status);
}

static void test_interrupted(bool die) /* V9: kill -9 at every step */
{
	int n = 0;

	while (interrupted(n, die) == 9)
		n += die ? 1 : 5;
	CHECK(n > 20);
}

int main(void)
{
	setenv("TZ", "UTC", 1);
	test_count();
	test_age();
	test_bytes();
	test_deleted();
	test_renamed_folder();
	test_conflicts();
	test_pins();
	test_dry_run();
	test_uncertain_base();
	test_chains();
	test_interrupted(true);
	test_interrupted(false);
	return 0;
}
