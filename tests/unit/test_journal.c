/*
 * test_journal.c - versions, histories, names, events and refusals.
 */
#include "base/buf.h"
#include "journal_fixture.h"

static int note_version(const struct version *v, void *ctx)
{
	struct buf *b = ctx;

	buf_printf(b, "%s%.*s@%llu", b->len ? " " : "", (int)v->path_len, v->path,
		(unsigned long long)v->number);
	return 0;
}

static void check_log(struct fixture *f, struct log_filter filter, const char *want)
{
	auto_buf b = {0};

	if (filter.path)
		filter.path_len = strlen(filter.path);
	CHECK_EQ(journal_log(f->j, &filter, note_version, &b), 0);
	CHECK_STR(b.data ? b.data : "", want);
}

static int note_name(const char *name, size_t len, bool file, bool folder, void *ctx)
{
	struct buf *b = ctx;

	buf_printf(b, "%s%.*s%s%s", b->len ? " " : "", (int)len, name, file ? ":f" : "",
		folder ? "/" : "");
	return 0;
}

static void check_names(struct fixture *f, const char *folder, const char *want)
{
	auto_buf b = {0};

	CHECK_EQ(journal_names(f->j, folder, strlen(folder), note_name, &b), 0);
	CHECK_STR(b.data ? b.data : "", want);
}

/* Everything that is said of a version comes back (V1, W4). */
static void test_a_version_comes_back_whole(void)
{
	struct fixture f = {0};
	struct version_row row;
	struct version v;

	fixture_init(&f);
	CHECK_EQ(head(&f, "src/a.c", &row), 0);
	CHECK_EQ(row.last_number, 0);
	put(&f, "src/a.c", 1, "one");
	v = make_version(&f, "src/a.c", 2, VERSION_REPLACE);
	v.flags = VERSION_INCOMPLETE | VERSION_DECISION;
	v.from_path = "src/a.c~";
	v.from_path_len = 8;
	v.from_number = 9;
	CHECK_EQ(journal_append(f.j, &v, NULL), 0);
	settle(&f);
	CHECK_EQ(head(&f, "src/a.c", &row), 1);
	CHECK_EQ(row.last_number, 2);
	CHECK_EQ(row.v.number, 2);
	CHECK_EQ(row.v.seq, v.seq);
	CHECK_EQ(row.v.kind, VERSION_REPLACE);
	CHECK_EQ(row.v.flags, v.flags);
	CHECK_EQ(row.v.epoch, 7);
	CHECK_EQ(row.v.base_number, 1);
	CHECK(!row.v.has_content);
	CHECK_EQ(row.v.mode, 0100644);
	CHECK_EQ(row.v.mtime_ns, 111);
	CHECK_EQ(row.v.time_ns, 222);
	CHECK_STR(row.v.path, "src/a.c");
	CHECK_STR(row.v.from_path, "src/a.c~");
	CHECK_EQ(row.v.from_number, 9);
	CHECK_STR(row.v.author.name, "alice");
	CHECK_EQ(row.v.author.pid, 42);
	CHECK_EQ(row.v.author.start_ns, 5);
	CHECK_STR(row.v.author.rule, "run");
	CHECK_STR(row.v.author.command, "sh -c edit");
	version_row_done(&row);
	check_content(&f, "src/a.c", 1, "one");
	CHECK_EQ(journal_version(f.j, "src/a.c", 7, 3, &row), 0);
	fixture_done(&f);
}

/* No author, no command: NULL stays NULL (V2, V3). */
static void test_a_version_without_author(void)
{
	struct fixture f = {0};
	struct version_row row;
	struct version v;

	fixture_init(&f);
	v = make_version(&f, "odd\n\xff/name", 1, VERSION_INITIAL);
	v.author = (struct author){0};
	CHECK_EQ(journal_append(f.j, &v, NULL), 0);
	settle(&f);
	CHECK_EQ(head(&f, "odd\n\xff/name", &row), 1);
	CHECK(!row.v.author.name && !row.v.author.command && !row.v.from_path);
	version_row_done(&row);
	CHECK_EQ(head(&f, "odd\n\xff/nam", &row), 0);
	fixture_done(&f);
}

/* A number given twice is our mistake; what was recorded is kept all the same. */
static void test_a_number_given_twice_loses_nothing(void)
{
	struct fixture f = {0};

	fixture_init(&f);
	put(&f, "a", 1, "first");
	put(&f, "a", 1, "second");
	settle(&f);
	check_content(&f, "a", 1, "first");
	check_content(&f, "a", 2, "second");
	fixture_done(&f);
}

static void test_the_newest_up_to_a_time(void)
{
	struct fixture f = {0};
	struct version_row row;
	uint64_t first, second;

	fixture_init(&f);
	first = put(&f, "a", 1, "1");
	second = put(&f, "a", 2, "2");
	put(&f, "a", 3, "3");
	settle(&f);
	CHECK_EQ(journal_version_at(f.j, "a", 1, second, &row), 1);
	CHECK_EQ(row.v.number, 2);
	version_row_done(&row);
	CHECK_EQ(journal_version_at(f.j, "a", 1, first - 1, &row), 0);
	CHECK_EQ(journal_version_at(f.j, "a", 1, UINT64_MAX, &row), 1);
	CHECK_EQ(row.v.number, 3);
	version_row_done(&row);
	fixture_done(&f);
}

static void test_log_filters(void)
{
	struct fixture f = {0};
	struct version v;
	uint64_t seq;

	fixture_init(&f);
	put(&f, "d/a", 1, "1");
	seq = put(&f, "d/b", 1, "2");
	put(&f, "d0", 1, "3");
	put(&f, "d/a", 2, "4");
	v = make_version(&f, "d.c", 1, VERSION_WRITE);
	v.author.name = "bob";
	CHECK_EQ(journal_append(f.j, &v, NULL), 0);
	check_log(&f, (struct log_filter){0}, "d.c@1 d/a@2 d0@1 d/b@1 d/a@1");
	check_log(&f, (struct log_filter){.limit = 2}, "d.c@1 d/a@2");
	check_log(&f, (struct log_filter){.after_seq = seq}, "d.c@1 d/a@2 d0@1");
	check_log(&f, (struct log_filter){.writer = "bob"}, "d.c@1");
	check_log(&f, (struct log_filter){.writer = "nobody"}, "");
	check_log(&f, (struct log_filter){.path = "d/a"}, "d/a@2 d/a@1");
	check_log(&f, (struct log_filter){.path = "d/a", .limit = 1}, "d/a@2");
	check_log(&f, (struct log_filter){.path = "d", .below = true}, "d/a@2 d/b@1 d/a@1");
	check_log(&f, (struct log_filter){.path = "d", .below = true, .limit = 1}, "d/a@2");
	check_log(&f, (struct log_filter){.path = "d/a", .writer = "bob"}, "");
	check_log(&f, (struct log_filter){.path = "d"}, "");
	fixture_done(&f);
}

/* A save by rename and a rename are followed; a temporary's earlier lives are not (V3). */
static void test_log_follows_renames_of_files(void)
{
	struct fixture f = {0};

	fixture_init(&f);
	put(&f, "a", 1, "1");
	put(&f, "a.tmp", 1, "old");
	put_from(&f, "a.tmp", 2, VERSION_DELETE, "elsewhere", 1);
	put(&f, "a.tmp", 3, "2");
	put_from(&f, "a.tmp", 4, VERSION_DELETE, "a", 2);
	put_from(&f, "a", 2, VERSION_REPLACE, "a.tmp", 3);
	put_from(&f, "a", 3, VERSION_DELETE, "b", 1);
	put_from(&f, "b", 1, VERSION_MOVE, "a", 2);
	put(&f, "b", 2, "3");
	check_log(&f, (struct log_filter){.path = "b"}, "b@2 b@1");
	check_log(&f, (struct log_filter){.path = "b", .follow = true},
		"b@2 b@1 a@2 a.tmp@3 a@1");
	check_log(&f, (struct log_filter){.path = "b", .follow = true, .limit = 3},
		"b@2 b@1 a@2");
	fixture_done(&f);
}

/* Two names that were renamed into each other for ever: each row is told once. */
static void test_log_follows_round_trips(void)
{
	struct fixture f = {0};

	fixture_init(&f);
	put(&f, "a", 1, "1");
	put_from(&f, "b", 1, VERSION_MOVE, "a", 1);
	put_from(&f, "a", 2, VERSION_MOVE, "b", 1);
	put_from(&f, "b", 2, VERSION_MOVE, "a", 2);
	check_log(&f, (struct log_filter){.path = "b", .follow = true}, "b@2 a@2 b@1 a@1");
	fixture_done(&f);
}

static void test_names_are_sorted_and_skip_what_is_below(void)
{
	struct fixture f = {0};

	fixture_init(&f);
	put(&f, "a/x", 1, "1");
	put(&f, "a/y/z", 1, "1");
	put(&f, "a", 1, "1");
	put(&f, "a.c", 1, "1");
	put(&f, "\xff\xfe", 1, "1");
	put(&f, "b/only/below", 1, "1");
	check_names(&f, "", "a:f/ a.c:f b/ \xff\xfe:f");
	check_names(&f, "a", "x:f y/");
	check_names(&f, "b", "only/");
	check_names(&f, "nothing", "");
	fixture_done(&f);
}

/* Where it came from is looked up, where it left from nothing is (V3). */
static void test_a_renamed_folder_takes_its_history_along(void)
{
	struct fixture f = {0};
	struct version_row row;
	uint64_t before;

	fixture_init(&f);
	put(&f, "a/x", 1, "1");
	before = put(&f, "a/x", 2, "2");
	move_folder(&f, "a", "b");
	CHECK_EQ(head(&f, "b/x", &row), 1); /* also while the rename is queued */
	CHECK_STR(row.v.path, "a/x");
	CHECK_EQ(row.v.number, 2);
	CHECK_EQ(row.last_number, 2);
	version_row_done(&row);
	CHECK_EQ(head(&f, "a/x", &row), 0);
	CHECK_EQ(row.last_number, 2);
	put(&f, "b/x", 3, "3");
	put(&f, "a/x", 3, "new");
	settle(&f);
	CHECK_EQ(head_number(&f, "b/x"), 3);
	CHECK_EQ(head_number(&f, "a/x"), 3);
	check_content(&f, "b/x", 3, "3");
	check_content(&f, "b/x", 2, "2");
	check_content(&f, "a/x", 3, "new");
	CHECK_EQ(journal_version_at(f.j, "a/x", 3, before, &row), 1);
	CHECK_EQ(row.v.number, 2);
	version_row_done(&row);
	CHECK_EQ(journal_version_at(f.j, "b/x", 3, before, &row), 0);
	check_log(&f, (struct log_filter){.path = "b/x", .follow = true},
		"b/x@3 a/x@2 a/x@1");
	check_log(&f, (struct log_filter){.path = "b", .below = true, .follow = true},
		"b/x@3 a/x@2 a/x@1");
	check_log(&f, (struct log_filter){.path = "b", .below = true}, "b/x@3");
	check_names(&f, "b", "x:f");
	check_names(&f, "", "a/ b/");
	fixture_done(&f);
}

static void test_folders_renamed_again_and_inside_each_other(void)
{
	struct fixture f = {0};

	fixture_init(&f);
	put(&f, "a/s/x", 1, "1");
	move_folder(&f, "a/s", "t");
	put(&f, "t/x", 2, "2");
	move_folder(&f, "t", "deep/er/u");
	move_folder(&f, "deep", "shallow");
	CHECK_EQ(head_number(&f, "shallow/er/u/x"), 2);
	CHECK_EQ(head_number(&f, "deep/er/u/x"), 0);
	CHECK_EQ(head_number(&f, "t/x"), 0);
	CHECK_EQ(head_number(&f, "a/s/x"), 0);
	check_content(&f, "shallow/er/u/x", 1, "1");
	check_log(&f, (struct log_filter){.path = "shallow/er/u/x", .follow = true},
		"t/x@2 a/s/x@1");
	check_log(&f, (struct log_filter){.path = "shallow", .below = true, .follow = true},
		"t/x@2 a/s/x@1");
	check_names(&f, "shallow/er", "u/");
	fixture_reopen(&f);
	CHECK_EQ(head_number(&f, "shallow/er/u/x"), 2);
	fixture_done(&f);
}

static void test_folders_exchanged(void)
{
	struct fixture f = {0};
	struct version_row row;
	uint64_t seq;

	fixture_init(&f);
	put(&f, "a/x", 1, "of a");
	put(&f, "b/x", 1, "of b");
	put(&f, "b/x", 2, "of b");
	seq = move_folder(&f, "a", "b");
	CHECK_EQ(journal_rename_folder(f.j, seq, "b", 1, "a", 1, NULL), 0);
	CHECK_EQ(head(&f, "a/x", &row), 1);
	CHECK_STR(row.v.path, "b/x");
	CHECK_EQ(row.v.number, 2);
	version_row_done(&row);
	CHECK_EQ(head(&f, "b/x", &row), 1);
	CHECK_STR(row.v.path, "a/x");
	CHECK_EQ(row.last_number, 2); /* b/x had two: the next is 3, never 2 again */
	version_row_done(&row);
	fixture_done(&f);
}

static int note_event(const struct event *e, void *ctx)
{
	struct buf *b = ctx;

	buf_printf(b, "%s%s", b->len ? " " : "", e->kind);
	return 0;
}

static void check_events(struct fixture *f, uint64_t after, uint64_t limit,
	const char *writer, const char *want)
{
	auto_buf b = {0};

	CHECK_EQ(journal_events(f->j, after, limit, writer, note_event, &b), 0);
	CHECK_STR(b.data ? b.data : "", want);
}

static void test_events(void)
{
	static const char *const kinds[] = {"mount", "grant", "takeover"};
	struct fixture f = {0};
	uint64_t first = 0;

	fixture_init(&f);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct event e = {.seq = take_seq(&f),
			.kind = kinds[i],
			.writer = i ? "alice" : NULL};

		first = first ? first : e.seq;
		CHECK_EQ(journal_event(f.j, &e), 0);
	}
	check_events(&f, 0, 0, NULL, "takeover grant mount");
	check_events(&f, 0, 1, NULL, "takeover");
	check_events(&f, first, 0, NULL, "grant takeover");
	check_events(&f, 0, 0, "alice", "takeover grant");
	check_events(&f, first, 1, "alice", "grant");
	fixture_done(&f);
}

struct seen {
	struct journal *j;
	uint64_t id;
	int times;
};

static int see_refusal(const struct refusal *r, void *ctx)
{
	struct seen *seen = ctx;
	char bytes[16] = "";
	auto_close int fd = -1;

	CHECK_EQ(r->id, seen->id);
	CHECK_STR(r->asked, "open");
	CHECK_STR(r->reason, "stale");
	CHECK_EQ(r->error, ESTALE);
	CHECK_EQ(r->current_number, 7);
	CHECK_STR(r->author.name, "bob");
	CHECK_STR(r->current_writer, "alice");
	CHECK(!r->holder);
	CHECK_STR(r->text, "src/a.c: not written.");
	CHECK(r->kept);
	CHECK_EQ(journal_refusal_content(seen->j, r, &fd), 0); /* inside the walk */
	CHECK_EQ(pread(fd, bytes, sizeof(bytes) - 1, 0), 6);
	CHECK_STR(bytes, "theirs");
	seen->times++;
	return 17;
}

static void test_refusals(void)
{
	struct fixture f = {0};
	struct refusal r = {.seq = 0,
		.path = "src/a.c",
		.path_len = 7,
		.asked = "open",
		.reason = "stale",
		.error = ESTALE,
		.author = {.name = "bob", .uid = 7},
		.base_number = 5,
		.current_number = 7,
		.current_writer = "alice",
		.text = "src/a.c: not written.",
		.kept = true};
	struct capture c = CAPTURE_NONE;
	struct seen seen = {0};
	uid_t uid = 0;

	fixture_init(&f);
	CHECK_EQ(journal_next_refusal(f.j, &r.id), 0);
	CHECK_EQ(r.id, 1);
	seen = (struct seen){.j = f.j, .id = r.id};
	r.seq = take_seq(&f);
	CHECK_EQ(journal_capture_bytes("theirs", 6, &c), 0);
	r.content = c.hash;
	r.size = c.size;
	CHECK(!journal_knows_writer(f.j, "bob", &uid));
	CHECK_EQ(journal_refuse(f.j, &r, &c), 0);
	CHECK(journal_knows_writer(f.j, "bob", &uid)); /* still queued */
	CHECK_EQ(uid, 7);
	CHECK_EQ(journal_refusal(f.j, r.id, see_refusal, &seen), 17);
	CHECK_EQ(journal_refusals(f.j, "bob", 0, see_refusal, &seen), 17);
	CHECK_EQ(journal_refusals(f.j, "alice", 0, see_refusal, &seen), 0);
	CHECK_EQ(journal_refusal(f.j, 99, see_refusal, &seen), -ENOENT);
	CHECK_EQ(seen.times, 2);
	CHECK(journal_knows_writer(f.j, "bob", NULL));
	fixture_done(&f);
}

static void test_figures_survive_a_restart(void)
{
	struct fixture f = {0};
	struct journal_figures before, after;

	fixture_init(&f);
	put(&f, "a", 1, "same");
	put(&f, "b", 1, "same");
	put(&f, "b", 2, "other");
	settle(&f);
	journal_figures(f.j, &before);
	fixture_reopen(&f);
	journal_figures(f.j, &after);
	CHECK_EQ(before.versions, 3);
	CHECK_EQ(before.contents, 2);
	CHECK_EQ(before.content_bytes, 9);
	CHECK_EQ(after.versions, 3);
	CHECK_EQ(after.contents, 2);
	CHECK_EQ(after.stored_bytes, before.stored_bytes);
	CHECK(after.database_bytes > 0);
	fixture_done(&f);
}

/* ---- conflicts ---- */

static int count_conflict(const struct refusal *r, void *ctx)
{
	CHECK(r->kept);
	*(uint64_t *)ctx = *(uint64_t *)ctx * 10 + r->id;
	return 0;
}

/* The ids of a set, newest first, as the digits of a number. */
static uint64_t conflicts(struct fixture *f, enum conflict_set set)
{
	uint64_t ids = 0;

	CHECK_EQ(journal_conflicts(f->j, set, 0, count_conflict, &ids), 0);
	return ids;
}

static void refuse_one(struct fixture *f, const char *bytes)
{
	struct refusal r = {.seq = take_seq(f),
		.path = "a",
		.path_len = 1,
		.asked = "write",
		.reason = "stale",
		.error = ESTALE,
		.author = {.name = "bob", .uid = 7},
		.kept = bytes != NULL};
	struct capture c = CAPTURE_NONE;

	CHECK_EQ(journal_next_refusal(f->j, &r.id), 0);
	if (bytes) {
		CHECK_EQ(journal_capture_bytes(bytes, strlen(bytes), &c), 0);
		r.content = c.hash;
		r.size = c.size;
	}
	CHECK_EQ(journal_refuse(f->j, &r, bytes ? &c : NULL), 0);
}

static int resolve(struct fixture *f, uint64_t id, const char *how)
{
	return journal_resolve(f->j, &(struct resolution){.id = id,
					     .seq = take_seq(f),
					     .time_ns = 99,
					     .by = "alice",
					     .how = how});
}

static int see_resolution(const struct refusal *r, void *ctx)
{
	CHECK(r->resolved_seq > r->seq);
	CHECK_EQ(r->resolved_ns, 99);
	CHECK_STR(r->resolved_by, "alice");
	CHECK_STR(r->resolved_how, "theirs");
	CHECK(r->kept); /* resolving destroys nothing */
	return 5;
}

/* A refusal whose bytes were kept is a conflict until it is resolved, once. */
static void test_conflicts(void)
{
	struct fixture f = {0};
	struct journal_figures figures;

	fixture_init(&f);
	refuse_one(&f, "first");
	refuse_one(&f, NULL);
	refuse_one(&f, "third");
	CHECK_EQ(conflicts(&f, CONFLICTS_UNRESOLVED), 31);
	CHECK_EQ(conflicts(&f, CONFLICTS_RESOLVED), 0);
	journal_figures(f.j, &figures);
	CHECK_EQ(figures.conflicts, 2);
	CHECK_EQ(resolve(&f, 2, "ours"), RESOLVE_NONE);
	CHECK_EQ(resolve(&f, 9, "ours"), RESOLVE_NONE);
	CHECK_EQ(resolve(&f, 1, "theirs"), RESOLVE_DONE);
	CHECK_EQ(resolve(&f, 1, "ours"), RESOLVE_AGAIN);
	for (int run = 0; run < 2; run++) {
		CHECK_EQ(conflicts(&f, CONFLICTS_UNRESOLVED), 3);
		CHECK_EQ(conflicts(&f, CONFLICTS_RESOLVED), 1);
		CHECK_EQ(journal_refusal(f.j, 1, see_resolution, NULL), 5);
		journal_figures(f.j, &figures);
		CHECK_EQ(figures.conflicts, 1);
		CHECK_EQ(figures.refusals, 3);
		fixture_reopen(&f);
	}
	fixture_done(&f);
}

int main(void)
{
	test_a_version_comes_back_whole();
	test_a_version_without_author();
	test_a_number_given_twice_loses_nothing();
	test_the_newest_up_to_a_time();
	test_log_filters();
	test_log_follows_renames_of_files();
	test_log_follows_round_trips();
	test_names_are_sorted_and_skip_what_is_below();
	test_a_renamed_folder_takes_its_history_along();
	test_folders_renamed_again_and_inside_each_other();
	test_folders_exchanged();
	test_events();
	test_refusals();
	test_conflicts();
	test_figures_survive_a_restart();
	return 0;
}
