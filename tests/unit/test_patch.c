/*
 * test_patch.c - contents that follow their changes: identity, ranges, versions kept as
 * patches and read back (V5, V6).
 */
#include <sys/mman.h>

#include "fs/dirty.h"
#include "journal/db.h"
#include "journal/patch.h"
#include "journal/schema.h"
#include "journal_fixture.h"

struct drawn {
	struct fixture f;
	unsigned seed;
	int fd;
	char *want; /* what the file should be */
	uint64_t size;
	struct dirty dirty;
	struct hash128 hash; /* of the newest version */
	uint64_t seq, number;
};

enum { ROOM = 4 * 1024 * 1024, VERSIONS = 120 };

static unsigned draw(struct drawn *d, unsigned below)
{
	return (unsigned)rand_r(&d->seed) % below;
}

static int open_again(void *ctx)
{
	const struct drawn *d = ctx;

	return fcntl(d->fd, F_DUPFD_CLOEXEC, 0);
}

static void write_some(struct drawn *d, uint64_t at, uint64_t len)
{
	char *bytes = malloc(len);

	for (uint64_t i = 0; i < len; i++)
		bytes[i] = (char)draw(d, 256);
	dirty_note(&d->dirty, at, len, open_again, d);
	CHECK_EQ(pwrite(d->fd, bytes, len, (off_t)at), len);
	if (at > d->size)
		memset(d->want + d->size, 0, at - d->size);
	memcpy(d->want + at, bytes, len);
	d->size = at + len > d->size ? at + len : d->size;
	free(bytes);
}

static void resize(struct drawn *d, uint64_t size)
{
	dirty_resize(&d->dirty, size, open_again, d);
	CHECK_EQ(ftruncate(d->fd, (off_t)size), 0);
	if (size > d->size)
		memset(d->want + d->size, 0, size - d->size);
	d->size = size;
}

static void change(struct drawn *d)
{
	static const unsigned lengths[] = {1, 100, 4096, 9000, 60000};
	uint64_t len = lengths[draw(d, 5)];
	uint64_t at = d->size ? draw(d, (unsigned)d->size) : 0;

	switch (draw(d, 8)) {
	case 0:
		resize(d, at);
		break;
	case 1:
		resize(d, d->size + len);
		break;
	case 2:
		write_some(d, d->size + draw(d, 5000), len);
		break;
	case 3:
	case 4:
		write_some(d, d->size, len);
		break;
	case 5: /* many, so that a map is kept of them */
		for (int i = 0; i < 50 && d->size; i++)
			write_some(d, draw(d, (unsigned)d->size), 10);
		break;
	default:
		write_some(d, at, len);
	}
}

/* Capture the change as the next version; the identity must be that of the bytes. */
static void record(struct drawn *d)
{
	struct version v = make_version(&d->f, "f", ++d->number, VERSION_WRITE);
	struct capture_base base = {.seq = d->seq, .hash = d->hash};
	struct extent *extents = NULL;
	struct capture c = CAPTURE_NONE;
	struct hash128 hash = digest_bytes(d->want, d->size);
	uint64_t size;

	if (dirty_base(&d->dirty, &base, &extents))
		CHECK_EQ(journal_capture_change(d->f.j, d->fd, &base, &c), 0);
	else
		CHECK_EQ(journal_capture(d->f.j, d->fd, &c), 0);
	free(extents);
	CHECK_EQ(c.size, d->size);
	CHECK(hash128_equal(c.hash, hash));
	CHECK_EQ(digest_fd(d->fd, &hash, &size), 0);
	CHECK(hash128_equal(c.hash, hash));
	v.has_content = true;
	v.content = d->hash = c.hash;
	v.size = c.size;
	d->seq = v.seq;
	CHECK_EQ(journal_append(d->f.j, &v, &c), 0);
	dirty_begin(&d->dirty, d->size);
}

static void check_version(struct fixture *f, const char *path, uint64_t number,
	const char *want, uint64_t size)
{
	struct version_row row;
	char *have = malloc(size + 1);
	int fd = -1;

	CHECK_EQ(journal_version(f->j, path, strlen(path), number, &row), 1);
	CHECK_EQ(row.v.size, size);
	CHECK_EQ(journal_version_content(f->j, &row.v, &fd), 0);
	CHECK_EQ(pread(fd, have, size + 1, 0), size);
	CHECK_EQ(memcmp(have, want, size), 0);
	close(fd);
	free(have);
	version_row_done(&row);
}

static int64_t ask(struct fixture *f, const char *sql)
{
	sqlite3 *db;
	sqlite3_stmt *s;
	char path[96];
	int64_t answer;

	snprintf(path, sizeof(path), "%s/journal.db", f->folder);
	CHECK_EQ(sqlite3_open(path, &db), SQLITE_OK);
	CHECK_EQ(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
	answer = sqlite3_step(s) == SQLITE_ROW ? sqlite3_column_int64(s, 0) : -1;
	sqlite3_finalize(s);
	sqlite3_close(db);
	return answer;
}

/* Whatever is written, cut and made longer: each version reads back as it was. */
static void test_drawn_changes_read_back(unsigned seed)
{
	static const unsigned starts[] = {0, 3000, 65536, 65537, 300000, 1500000};
	struct drawn d = {.seed = seed, .want = malloc(ROOM)};
	struct {
		char *bytes;
		uint64_t size;
	} states[VERSIONS];

	fixture_init(&d.f);
	dirty_init(&d.dirty);
	d.fd = openat(d.f.dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	CHECK(d.fd >= 0);
	write_some(&d, 0, starts[seed % 6] + 1);
	for (int i = 0; i < VERSIONS; i++) {
		for (unsigned n = draw(&d, 3); n-- > 0;)
			change(&d);
		if (d.size > ROOM / 2)
			resize(&d, 1000 + draw(&d, 200000));
		record(&d);
		states[i].bytes = malloc(d.size + 1);
		states[i].size = d.size;
		memcpy(states[i].bytes, d.want, d.size);
	}
	settle(&d.f);
	for (int i = 0; i < VERSIONS; i++) {
		check_version(&d.f, "f", (uint64_t)i + 1, states[i].bytes, states[i].size);
		free(states[i].bytes);
	}
	CHECK(ask(&d.f, "SELECT count(*) FROM content WHERE base_id IS NOT NULL") > 10);
	dirty_end(&d.dirty);
	close(d.fd);
	free(d.want);
	fixture_done(&d.f);
}

static void begin(struct drawn *d, uint64_t size)
{
	fixture_init(&d->f);
	dirty_init(&d->dirty);
	d->want = malloc(ROOM);
	d->fd = openat(d->f.dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	CHECK(d->fd >= 0);
	if (size)
		write_some(d, 0, size);
	record(d);
}

static void end(struct drawn *d)
{
	dirty_end(&d->dirty);
	close(d->fd);
	free(d->want);
	fixture_done(&d->f);
}

static uint64_t stored(struct fixture *f)
{
	struct journal_figures figures;

	settle(f);
	journal_figures(f->j, &figures);
	return figures.stored_bytes;
}

/* Small appends share segments: all of them are stored once. */
static void test_appends_cost_what_they_append(void)
{
	struct drawn d = {.seed = 7};
	uint64_t first;

	begin(&d, 0);
	first = stored(&d.f);
	for (int i = 0; i < 2000; i++) {
		write_some(&d, d.size, 100);
		record(&d);
	}
	CHECK(stored(&d.f) - first <= 200000 + 1000);
	CHECK(ask(&d.f, "SELECT count(*) FROM segment") <= 200000 / (16 * 1024 - 100) + 2);
	for (uint64_t i = 2; i <= 2001; i += 111)
		check_version(&d.f, "f", i, d.want, 100 * (i - 1));
	fixture_reopen(&d.f); /* the last segment is gone on with */
	write_some(&d, d.size, 100);
	record(&d);
	settle(&d.f);
	check_version(&d.f, "f", 2002, d.want, d.size);
	end(&d);
}

/* Two go on from one version: each appends to its own. */
static void test_two_that_append_to_one(void)
{
	struct drawn d = {.seed = 8};
	uint64_t seq;
	struct hash128 hash;

	begin(&d, 1000);
	write_some(&d, d.size, 50);
	record(&d);
	seq = d.seq;
	hash = d.hash;
	write_some(&d, d.size, 60);
	record(&d);
	settle(&d.f);
	check_version(&d.f, "f", 3, d.want, 1110);
	CHECK_EQ(ftruncate(d.fd, 1050), 0);
	d.size = 1050;
	d.seq = seq;
	d.hash = hash;
	dirty_begin(&d.dirty, d.size);
	write_some(&d, d.size, 70);
	record(&d);
	settle(&d.f);
	check_version(&d.f, "f", 4, d.want, 1120);
	check_version(&d.f, "f", 2, d.want, 1050);
	end(&d);
}

/* Reading stays cheap: patches as large as the content are followed by a whole one. */
static void test_many_patches_end_in_a_whole_content(void)
{
	struct drawn d = {.seed = 9};
	int64_t whole;

	begin(&d, 200000);
	for (int i = 0; i < 200; i++) {
		write_some(&d, draw(&d, 190000), 4096);
		record(&d);
	}
	settle(&d.f);
	whole = ask(&d.f, "SELECT count(*) FROM content WHERE base_id IS NULL");
	CHECK(whole >= 3 && whole <= 6);
	CHECK(ask(&d.f, "SELECT max(weight) FROM content") < 200000);
	check_version(&d.f, "f", 201, d.want, d.size);
	end(&d);
}

static void test_damage_to_a_patch_is_an_error(void)
{
	static const char *const harm[] = {
		"UPDATE content SET ranges = X'ffffffffffffffffff01' WHERE id = 2",
		"UPDATE content SET data = X'' WHERE id = 2",
		"UPDATE segment SET data = zeroblob(length(data))",
		"UPDATE content SET size = size + 1 WHERE id = 2",
	};

	for (size_t i = 0; i < ARRAY_SIZE(harm); i++) {
		struct drawn d = {.seed = 10};
		struct version_row row;
		int fd = -1;

		begin(&d, 100000);
		write_some(&d, 5000, 4096);
		record(&d);
		write_some(&d, d.size, 10);
		record(&d);
		settle(&d.f);
		CHECK_EQ(ask(&d.f, harm[i]), -1);
		CHECK_EQ(journal_version(d.f.j, "f", 1, 3, &row), 1);
		CHECK_EQ(journal_version_content(d.f.j, &row.v, &fd), -EIO);
		version_row_done(&row);
		end(&d);
	}
}

static void test_ranges_are_read_as_they_were_put(void)
{
	struct patch *p = patch_new(3), *q;
	auto_buf out = {0};

	p->keep = 1ULL << 40;
	p->ranges[0] = (struct extent){0, 1};
	p->ranges[1] = (struct extent){300, 1ULL << 33};
	p->ranges[2] = (struct extent){1ULL << 39, 127};
	CHECK_EQ(patch_encode(p, &out), 0);
	CHECK_EQ(patch_decode(out.data, out.len, &q), 0);
	CHECK_EQ(q->n_ranges, 3);
	CHECK_EQ(q->keep, p->keep);
	CHECK_EQ(memcmp(q->ranges, p->ranges, sizeof(p->ranges[0]) * 3), 0);
	free(q);
	for (size_t n = 0; n < out.len; n++) /* torn: an error, or fewer ranges */
		if (patch_decode(out.data, n, &q) == 0)
			free(q);
	free(p);
}

/* What the third schema stored is read, its large contents by their flat hash too. */
static void test_an_older_journal_is_read(void)
{
	enum { LARGE = 100000 };
	struct fixture f = {0};
	char *bytes = malloc(LARGE), sql[512], hex[33], vfs_name[32], path[96];
	sqlite3_vfs vfs;
	struct db *db;

	memset(bytes, 'x', LARGE);
	hash128_hex(hash128_bytes(bytes, LARGE), hex);
	fixture_folder(&f);
	CHECK_EQ(db_vfs_register(&vfs, vfs_name, sizeof(vfs_name)), 0);
	snprintf(path, sizeof(path), "%s/journal.db", f.folder);
	CHECK_EQ(db_open(&db, vfs_name, path, true), 0);
	CHECK_EQ(schema_migrate(db, 3), 0);
	snprintf(sql, sizeof(sql),
		"INSERT INTO path VALUES (1, X'61');"
		"INSERT INTO content VALUES (7, X'%s', %d, 0, 0, %d,"
		" CAST(replace(hex(zeroblob(%d)), '00', 'x') AS BLOB));"
		"INSERT INTO version VALUES (1, 5, 1, 1, 1, 0, 0, 0, 7, %d, 0, 0, 0, 0, 0,"
		" NULL, NULL, NULL, 0);INSERT INTO counter VALUES ('seq', 5);",
		hex, LARGE, LARGE, LARGE, LARGE);
	CHECK_EQ(db_exec(db, sql), 0);
	db_free(db);
	sqlite3_vfs_unregister(&vfs);
	fixture_open(&f);
	check_version(&f, "a", 1, bytes, LARGE);
	put_bytes(&f, "a", 2, bytes, LARGE);
	settle(&f);
	check_version(&f, "a", 2, bytes, LARGE);
	free(bytes);
	fixture_done(&f);
}

int main(void)
{
	test_ranges_are_read_as_they_were_put();
	for (unsigned seed = 1; seed <= 12; seed++)
		test_drawn_changes_read_back(seed);
	test_appends_cost_what_they_append();
	test_two_that_append_to_one();
	test_many_patches_end_in_a_whole_content();
	test_damage_to_a_patch_is_an_error();
	test_an_older_journal_is_read();
	return 0;
}
