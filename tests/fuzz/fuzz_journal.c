/*
 * A history of which anything was damaged (sample.h): bytes of its files, fields of its
 * rows, records of the queue and intents with a check that fits. Looking at it, opening it,
 * asking it everything and mending it never crash, hang or answer with what is no errno;
 * and what was mended opens, takes a version and gives it back.
 *
 * The input is damages one after the other, each a byte that says of which kind, and then
 * what damage_*() take.
 */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/table.h"
#include "journal/check.h"
#include "journal/gc.h"
#include "journal/intent.h"
#include "journal/journal.h"
#include "tests/fuzz/sample.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	QUEUE_FILE = 2,
	INTENTS_FILE = 3,
	HEADER_BYTES = 4096,
	UNIT_BYTES = 512, /* of the intents */
	DAMAGES_MAX = 8,
};

static struct sample *sample;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	log_setup(
		"fuzz", getenv("FUZZ_LOG") ? LOG_LEVEL_ERROR : (enum log_level) - 1, false);
	sample = sample_new();
	return 0;
}

/* ---- the input ---- */

struct input {
	const uint8_t *at, *end;
};

static uint64_t take(struct input *in, unsigned bytes)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < bytes && in->at < in->end; i++)
		n |= (uint64_t)*in->at++ << (8 * i);
	return n;
}

static const uint8_t *take_bytes(struct input *in, size_t want, size_t *n)
{
	const uint8_t *at = in->at;
	size_t left = (size_t)(in->end - in->at);

	*n = want < left ? want : left;
	in->at += *n;
	return at;
}

/* ---- damages ---- */

static void damage_bytes(struct input *in)
{
	auto_close int fd = sample_open(sample, (unsigned)take(in, 1));
	uint64_t at = take(in, 3);
	struct stat st;
	const uint8_t *bytes;
	size_t n;

	bytes = take_bytes(in, take(in, 1), &n);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0)
		(void)!pwrite(fd, bytes, n, (off_t)(at % (uint64_t)st.st_size));
}

static void damage_length(struct input *in)
{
	auto_close int fd = sample_open(sample, (unsigned)take(in, 1));
	uint64_t size = take(in, 3);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0)
		(void)!ftruncate(fd, (off_t)(size % (uint64_t)(st.st_size + 5000)));
}

/* Some place of a file is found again at another. */
static void damage_copy(struct input *in)
{
	auto_close int fd = sample_open(sample, (unsigned)take(in, 1));
	uint64_t from = take(in, 3), to = take(in, 3);
	char block[4096];
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
		return;
	n = pread(fd, block, sizeof(block), (off_t)(from % (uint64_t)st.st_size));
	if (n > 0)
		(void)!pwrite(fd, block, (size_t)n, (off_t)(to % (uint64_t)st.st_size));
}

static const char *const tables[] = {"content", "version", "segment", "path", "folder_move",
	"change_set", "refusal", "event", "counter", "author", "writer", "pin", "tally"};

/* The name of a table's column; false: it has not so many. */
static bool column_name(sqlite3 *db, const char *table, unsigned i, char name[64])
{
	sqlite3_stmt *stmt = NULL;
	char sql[64];
	bool found;

	snprintf(sql, sizeof(sql), "SELECT * FROM %s LIMIT 0", table);
	if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
		return false;
	found = sqlite3_column_count(stmt) > 0;
	if (found)
		snprintf(name, 64, "%s",
			sqlite3_column_name(
				stmt, (int)(i % (unsigned)sqlite3_column_count(stmt))));
	sqlite3_finalize(stmt);
	return found;
}

static void bind_value(sqlite3_stmt *stmt, struct input *in)
{
	unsigned type = (unsigned)take(in, 1);
	const uint8_t *bytes;
	size_t n;

	switch (type % 8) {
	case 0:
		sqlite3_bind_null(stmt, 1);
		break;
	case 1:
		bytes = take_bytes(in, take(in, 1), &n);
		sqlite3_bind_text(stmt, 1, (const char *)bytes, (int)n, SQLITE_TRANSIENT);
		break;
	case 2:
	case 3:
		bytes = take_bytes(in, take(in, 1), &n);
		sqlite3_bind_blob(stmt, 1, bytes, (int)n, SQLITE_TRANSIENT);
		break;
	case 4:
		sqlite3_bind_int64(stmt, 1, (int64_t)take(in, 8));
		break;
	default: /* small ones, also below nothing: they name other rows */
		sqlite3_bind_int64(stmt, 1, (int64_t)take(in, 1) - 10);
	}
}

/* A field of some row is another, as a flipped page or another program leaves it. */
static void damage_row(struct input *in)
{
	const char *table = tables[take(in, 1) % ARRAY_SIZE(tables)];
	unsigned column = (unsigned)take(in, 1), row = (unsigned)take(in, 1);
	char path[64], name[64], sql[512];
	sqlite3_stmt *stmt = NULL;
	sqlite3 *db = NULL;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/journal.db", sample_dirfd(sample));
	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
		sqlite3_exec(db,
			"PRAGMA ignore_check_constraints=1; PRAGMA foreign_keys=0;"
			"PRAGMA synchronous=0",
			NULL, NULL, NULL) == SQLITE_OK &&
		column_name(db, table, column, name)) {
		snprintf(sql, sizeof(sql),
			"UPDATE OR IGNORE %s SET \"%s\" = ?1 WHERE \"%s\" IS (SELECT "
			"\"%s\" "
			"FROM %s LIMIT 1 OFFSET %u)",
			table, name, name, name, table, row);
		if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK) {
			bind_value(stmt, in);
			(void)sqlite3_step(stmt);
		}
		sqlite3_finalize(stmt);
	}
	sqlite3_close(db);
}

/* As journal/ring.c has it: a record's place, length, whether it is skipped, its check. */
struct record {
	uint64_t at;
	uint32_t bytes, skip;
	uint64_t check;
	char body[4096];
};

/* A record of the queue with other bytes, and the check of those. */
static void damage_record(struct input *in)
{
	auto_close int fd = sample_open(sample, QUEUE_FILE);
	unsigned number = (unsigned)take(in, 1) % 4;
	uint64_t at = take(in, 2), place = 0, end = offsetof(struct record, body);
	struct record r = {0};
	const uint8_t *bytes;
	size_t n;

	bytes = take_bytes(in, take(in, 1), &n);
	if (fd < 0 || pread(fd, &place, sizeof(place), 16) != sizeof(place))
		return;
	for (unsigned i = 0;; i++) {
		if (pread(fd, &r, sizeof(r), (off_t)(HEADER_BYTES + place)) <
				(ssize_t)end ||
			r.bytes < end || r.bytes > sizeof(r))
			return;
		if (i == number)
			break;
		place += r.bytes;
	}
	at %= r.bytes - end;
	n = n < r.bytes - end - at ? n : r.bytes - end - at;
	if (n > 0)
		memcpy(r.body + at, bytes, n);
	r.check = XXH3_64bits_withSeed(
		r.body, r.bytes - end, r.at * 31 + (uint64_t)r.bytes * 2 + r.skip);
	(void)!pwrite(fd, &r, r.bytes, (off_t)(HEADER_BYTES + place));
}

/* As journal/intent.c has it. */
struct slot {
	uint32_t state, units;
	uint64_t check;
	uint32_t kind, text_bytes; /* from here on under the check */
	char rest[24 * UNIT_BYTES];
};

static void damage_intent(struct input *in)
{
	auto_close int fd = sample_open(sample, INTENTS_FILE);
	off_t place = (off_t)(HEADER_BYTES + take(in, 1) % 4 * UNIT_BYTES);
	const size_t from = offsetof(struct slot, kind);
	size_t at = (size_t)take(in, 1), n, checked;
	struct slot s = {0};
	const uint8_t *bytes;

	bytes = take_bytes(in, take(in, 1), &n);
	if (fd < 0 || pread(fd, &s, sizeof(s), place) <= 0)
		return;
	if (n > 0)
		memcpy((char *)&s.kind + at, bytes, n);
	checked = 64 + s.text_bytes; /* the fixed part, and the texts */
	if (checked <= sizeof(s) - from)
		s.check = table_hash_bytes((char *)&s + from, checked, s.units);
	(void)!pwrite(fd, &s, UNIT_BYTES, place);
}

static void damage(struct input *in)
{
	for (unsigned i = 0; i < DAMAGES_MAX && in->at < in->end; i++) {
		switch (take(in, 1) % 9) {
		case 0:
		case 1:
			damage_bytes(in);
			break;
		case 2:
			damage_length(in);
			break;
		case 3:
			damage_copy(in);
			break;
		case 4:
			damage_record(in);
			break;
		case 5:
			damage_intent(in);
			break;
		default:
			damage_row(in);
		}
	}
}

/* ---- everything that can be asked ---- */

static void is_errno(int r)
{
	assert(r > -4096 && r <= 0);
}

static void read_content(int fd, uint64_t size)
{
	char chunk[65536];
	uint64_t sum = 0;
	ssize_t n;

	while ((n = pread(fd, chunk, sizeof(chunk), (off_t)sum)) > 0)
		sum += (uint64_t)n;
	assert(sum == size);
	close(fd);
}

static int see_version(const struct version *v, void *ctx)
{
	assert(v->path && v->path_len > 0);
	return 0;
}

static int read_version(const struct version *v, void *ctx)
{
	struct journal *j = ctx;
	struct version_row row;
	int fd = -1, r;

	assert(v->path && v->path_len > 0);
	if (v->has_content) {
		r = journal_version_content(j, v, &fd);
		is_errno(r);
		if (r == 0)
			read_content(fd, v->size);
	}
	r = journal_head(j, v->path, v->path_len, &row);
	is_errno(r == 1 ? 0 : r);
	if (r >= 0)
		version_row_done(&row);
	return 0;
}

static int see_refusal(const struct refusal *r, void *ctx)
{
	int fd = -1, e;

	if (r->kept) {
		e = journal_refusal_content(ctx, r, &fd);
		is_errno(e);
		if (e == 0)
			read_content(fd, r->size);
	}
	return 0;
}

static int see_event(const struct event *e, void *ctx)
{
	return 0;
}

static int see_set(const struct change_set *set, void *ctx)
{
	struct journal *j = ctx;

	is_errno(journal_set_log(j, set->id, UINT64_MAX, see_version, j));
	return 0;
}

static int see_feed(const struct feed_row *row, const struct feed_place *at, void *ctx)
{
	return 0;
}

static int see_pin(const struct pin *pin, void *ctx)
{
	return 0;
}

static int see_name(const char *name, size_t len, bool is_file, bool is_folder, void *ctx)
{
	assert(len > 0);
	return 0;
}

static int see_move(uint64_t seq, uint64_t set_id, int64_t time_ns, const char *from,
	size_t from_len, const char *to, size_t to_len, void *ctx)
{
	return 0;
}

static void ask_of_paths(struct journal *j)
{
	for (const char *const *p = sample_paths; *p; p++) {
		struct log_filter filter = {
			.path = *p, .path_len = strlen(*p), .follow = true};

		is_errno(journal_log(j, &filter, see_version, j));
		is_errno(journal_names(j, *p, strlen(*p), see_name, NULL));
		for (uint64_t seq = 0; seq < 90; seq += 29) {
			struct past past;
			char *now = NULL;
			size_t len;
			int r = journal_past(j, *p, strlen(*p), seq, &past);

			is_errno(r > 0 ? 0 : r);
			if (r >= 0)
				past_done(&past);
			r = journal_past_path(j, *p, strlen(*p), seq, &now, &len);
			is_errno(r > 0 ? 0 : r);
			if (r >= 0)
				free(now);
			is_errno(
				journal_past_names(j, *p, strlen(*p), seq, see_name, NULL));
		}
	}
}

static void keep_little(const char *path, size_t len, struct keep *keep, void *ctx)
{
	*keep = (struct keep){.count = 2};
}

static void collect(struct journal *j)
{
	const struct gc_options options = {
		.keep = keep_little, .now_ns = 1800000000 * NS_PER_S};
	struct gc *g = NULL;
	int r = gc_new(&g, j, &options);

	is_errno(r);
	for (unsigned i = 0; r == 0 && i < 1000; i++) {
		int more = gc_step(g);

		is_errno(more == 1 ? 0 : more);
		if (more <= 0)
			break;
		assert(i < 999); /* a pass ends */
	}
	gc_free(g);
}

static void ask(struct journal *j)
{
	struct journal_figures figures;
	struct feed_place place;
	uint64_t seq;

	journal_figures(j, &figures);
	is_errno(journal_log(j, &(struct log_filter){0}, read_version, j));
	is_errno(journal_names(j, "", 0, see_name, NULL));
	ask_of_paths(j);
	is_errno(journal_refusals(j, NULL, 0, see_refusal, j));
	is_errno(journal_conflicts(j, CONFLICTS_UNRESOLVED, 0, see_refusal, j));
	is_errno(journal_events(j, 0, 0, NULL, see_event, NULL));
	is_errno(journal_sets(j, 0, NULL, 0, see_set, j));
	is_errno(journal_moves(j, 0, see_move, NULL));
	is_errno(journal_pins(j, see_pin, NULL));
	is_errno(journal_seq_at_time(j, 1700000020 * NS_PER_S, &seq));
	is_errno(journal_seq_at_epoch(j, 5, &seq));
	is_errno(journal_feed_from(j, 0, &place));
	is_errno(journal_feed(j, &place, see_feed, NULL));
}

/* ---- all of it ---- */

static void say(enum check_grade grade, const char *text, void *ctx)
{
	assert(*text && !strchr(text, '\n'));
	if (getenv("FUZZ_LOG"))
		fprintf(stderr, "%s %d: %s\n", (const char *)ctx, (int)grade, text);
}

static int check(bool repair, struct check_sums *sums)
{
	const struct check_options options = {.dirfd = sample_dirfd(sample),
		.root_fd = -1,
		.scrub = true,
		.repair = repair,
		.say = say,
		.ctx = repair ? (char *)"repair" : (char *)"check"};
	int r = journal_check(&options, sums);

	is_errno(r);
	return r;
}

static int see_intent(const struct intent *intent, bool closed, uint32_t slot, void *ctx)
{
	const char *const texts[] = {intent->path, intent->to_path, intent->shadow,
		intent->writer, intent->rule, intent->command};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert(!texts[i] || strlen(texts[i]) < 24 * UNIT_BYTES);
	assert(!intent->path || memchr(intent->path, '\0', intent->path_len + 1));
	return 0;
}

static void look_at_intents(void)
{
	struct intents *s;
	int r = intents_open(&s, sample_dirfd(sample));

	is_errno(r);
	if (r == 0) {
		is_errno(intents_leftover(s, see_intent, NULL));
		intents_close(s);
	}
	r = intents_check(sample_dirfd(sample), true);
	is_errno(r == 1 ? 0 : r);
}

static int open_journal(struct journal **j)
{
	int r = journal_open(j, &(struct journal_options){.dirfd = sample_dirfd(sample),
					.clock = clock_system()});

	is_errno(r);
	return r;
}

/* A version of a path that is new, and back again. */
static void use(struct journal *j)
{
	struct capture c = CAPTURE_NONE;
	struct version v = {.path = "new", .path_len = 3, .number = 1, .mode = 0100644};
	int fd = -1, r;

	r = journal_next_seq(j, &v.seq);
	assert(r == 0);
	r = journal_capture_bytes("new\n", 4, &c);
	assert(r == 0);
	v.kind = VERSION_WRITE;
	v.has_content = true;
	v.content = c.hash;
	v.size = 4;
	r = journal_append(j, &v, &c);
	assert(r == 0);
	r = journal_wait(j, v.seq);
	assert(r == 0);
	r = journal_version_content(j, &v, &fd);
	assert(r == 0);
	read_content(fd, 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	struct check_sums sums;
	struct journal *j;
	int r;

	sample_lay(sample);
	damage(&in);
	check(false, &sums);
	look_at_intents();
	if (open_journal(&j) == 0) {
		ask(j);
		collect(j);
		journal_close(j);
	}
	r = check(true, &sums);
	assert(r == 0);
	r = open_journal(&j);
	assert(r == 0);
	ask(j);
	use(j);
	journal_close(j);
	r = check(false, &sums);
	assert(r == 0 && sums.problems == 0);
	return 0;
}
