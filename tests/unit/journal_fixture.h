/*
 * journal_fixture.h - a journal in a folder of its own, and rows made with few words.
 */
#ifndef STOMP_TESTS_JOURNAL_FIXTURE_H
#define STOMP_TESTS_JOURNAL_FIXTURE_H

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "check.h"
#include "journal/journal.h"

struct fixture {
	char folder[64];
	int dirfd;
	struct journal *j;
	const struct journal_faults *faults;
};

static inline void fixture_open(struct fixture *f)
{
	CHECK_EQ(journal_open(&f->j, &(struct journal_options){.dirfd = f->dirfd,
					     .clock = clock_system(),
					     .faults = f->faults}),
		0);
}

static inline void fixture_folder(struct fixture *f)
{
	const char *temp = getenv("TMPDIR");

	snprintf(f->folder, sizeof(f->folder), "%s/journal.XXXXXX", temp ? temp : "/tmp");
	CHECK(mkdtemp(f->folder));
	f->dirfd = open(f->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(f->dirfd >= 0);
}

static inline void fixture_init(struct fixture *f)
{
	fixture_folder(f);
	fixture_open(f);
}

static inline void fixture_reopen(struct fixture *f)
{
	journal_close(f->j);
	fixture_open(f);
}

static inline int fixture_unlink(
	const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static inline void fixture_done(struct fixture *f)
{
	journal_close(f->j);
	close(f->dirfd);
	nftw(f->folder, fixture_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

static inline uint64_t take_seq(struct fixture *f)
{
	uint64_t seq;

	CHECK_EQ(journal_next_seq(f->j, &seq), 0);
	return seq;
}

static inline struct version make_version(
	struct fixture *f, const char *path, uint64_t number, enum version_kind kind)
{
	return (struct version){.path = path,
		.path_len = strlen(path),
		.number = number,
		.seq = take_seq(f),
		.kind = kind,
		.epoch = 7,
		.base_number = number - 1,
		.mode = 0100644,
		.uid = 1000,
		.gid = 1000,
		.mtime_ns = 111,
		.time_ns = 222,
		.author = {.name = "alice",
			.uid = 1000,
			.pid = 42,
			.start_ns = 5,
			.rule = "run",
			.command = "sh -c edit"}};
}

/* A version with these bytes; its seq. */
static inline uint64_t put_bytes(
	struct fixture *f, const char *path, uint64_t number, const void *data, size_t size)
{
	struct version v = make_version(f, path, number, VERSION_WRITE);
	struct capture c = CAPTURE_NONE;

	CHECK_EQ(journal_capture_bytes(data, size, &c), 0);
	if (f->faults && f->faults->hash)
		c.hash = f->faults->hash(c.hash);
	v.has_content = true;
	v.content = c.hash;
	v.size = c.size;
	CHECK_EQ(journal_append(f->j, &v, &c), 0);
	CHECK(!c.data && c.fd == -1);
	return v.seq;
}

static inline uint64_t put(
	struct fixture *f, const char *path, uint64_t number, const char *text)
{
	return put_bytes(f, path, number, text, strlen(text));
}

/* A version without content that came by rename; its seq. */
static inline uint64_t put_from(struct fixture *f, const char *path, uint64_t number,
	enum version_kind kind, const char *from, uint64_t from_number)
{
	struct version v = make_version(f, path, number, kind);

	v.from_path = from;
	v.from_path_len = strlen(from);
	v.from_number = from_number;
	CHECK_EQ(journal_append(f->j, &v, NULL), 0);
	return v.seq;
}

static inline uint64_t move_folder(struct fixture *f, const char *from, const char *to)
{
	uint64_t seq = take_seq(f);

	CHECK_EQ(journal_rename_folder(f->j, seq, from, strlen(from), to, strlen(to), NULL),
		0);
	return seq;
}

static inline void settle(struct fixture *f)
{
	CHECK_EQ(journal_wait(f->j, journal_last_seq(f->j)), 0);
}

static inline int head(struct fixture *f, const char *path, struct version_row *row)
{
	return journal_head(f->j, path, strlen(path), row);
}

static inline uint64_t head_number(struct fixture *f, const char *path)
{
	struct version_row row;
	int r = head(f, path, &row);
	uint64_t number = r == 1 ? row.v.number : 0;

	CHECK(r >= 0);
	version_row_done(&row);
	return number;
}

/* The content of a version as a string, which must be that. */
static inline void check_content(
	struct fixture *f, const char *path, uint64_t number, const char *text)
{
	struct version_row row;
	char bytes[256] = "";
	int fd = -1;

	CHECK_EQ(journal_version(f->j, path, strlen(path), number, &row), 1);
	CHECK(row.v.has_content);
	CHECK_EQ(row.v.size, strlen(text));
	CHECK_EQ(journal_version_content(f->j, &row.v, &fd), 0);
	CHECK_EQ(pread(fd, bytes, sizeof(bytes) - 1, 0), strlen(text));
	CHECK_STR(bytes, text);
	close(fd);
	version_row_done(&row);
}

#endif
