/*
 * check_tree.c - the newest versions against the files of the tree.
 *
 * A difference is no damage: somebody went round the mount, or it is what a crash left
 * and the next mount records. Sizes and times are compared, with scrub contents too.
 */
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/buf.h"
#include "base/clock.h"
#include "journal/check_internal.h"

enum { TOLD_MAX = 20 };

int check_open_file(const struct check *c, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	struct stat st;
	int fd;

	if (c->o->root_fd < 0)
		return -ENOENT;
	fd = (int)syscall(SYS_openat2, c->o->root_fd, path, &how, sizeof(how));
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return -ENOENT;
	}
	return fd;
}

static const char *difference(const struct check *c, sqlite3_stmt *row, int fd)
{
	struct hash128 hash;
	struct stat st;
	uint64_t size;

	if (fd < 0)
		return "is not there";
	if (fstat(fd, &st) < 0)
		return "cannot be looked at";
	if ((uint64_t)st.st_size != column_int(row, 2))
		return "has another size";
	/* Contents of older journals have another identity. */
	if (c->o->scrub && sqlite3_column_int(row, 5)) {
		if (content_hash_fd(NULL, fd, &hash, &size) < 0)
			return "cannot be read";
		return hash128_equal(hash, column_hash(row, 4)) ? NULL
								: "has another content";
	}
	if (st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec !=
		sqlite3_column_int64(row, 3))
		return "has another time";
	return NULL;
}

static int compare(struct check *c, sqlite3_stmt *row, void *ctx)
{
	size_t len;
	auto_free char *path = column_bytes(row, 0, &len);
	auto_close int fd = path ? check_open_file(c, path) : -ENOMEM;
	const char *what;
	auto_buf name = {0};

	(void)ctx;
	c->sums->files_compared++;
	what = difference(c, row, fd);
	if (!what)
		return 0;
	buf_put_name(&name, path ?: "?", path ? len : 1);
	if (c->sums->files_differ++ < TOLD_MAX && !buf_failed(&name))
		check_say(c, CHECK_NOTE, "%s %s, unlike its newest version (@%lld)",
			name.data, what, (long long)sqlite3_column_int64(row, 1));
	return 0;
}

/* Content that was made or put there by the newest version of its path, where no folder
 * above it was renamed since. */
int check_tree(struct check *c)
{
	int r;

	if (c->o->root_fd < 0 || c->sums->ended_early)
		return 0;
	r = check_rows(c,
		"SELECT p.path, v.number, v.size, v.mtime_ns, n.hash,"
		" n.identity OR n.size <= 65536 FROM version v"
		" JOIN path p ON p.id = v.path_id JOIN content n ON n.id = v.content_id"
		" WHERE v.number = (SELECT max(number) FROM version WHERE path_id = p.id)"
		" AND v.kind NOT IN (6, 7, 8, 9) AND v.mode & 61440 = 32768"
		" AND NOT EXISTS (SELECT 1 FROM folder_move m WHERE m.seq > v.seq AND"
		" substr(p.path, 1, length(m.from_path) + 1) = CAST(m.from_path || '/' AS "
		"BLOB))",
		0, compare, NULL);
	if (r == 0 && c->sums->files_differ)
		check_say(c, CHECK_NOTE,
			"%llu of %llu files are not as their newest version tells: they "
			"were "
			"changed round the mount, or a crash came first; what is there is "
			"recorded before the next change",
			(unsigned long long)c->sums->files_differ,
			(unsigned long long)c->sums->files_compared);
	return r;
}
