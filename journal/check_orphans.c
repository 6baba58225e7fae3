/*
 * check_orphans.c - object files that no row speaks of: of a transaction that did not come
 * to its end, or of rows that were lost. No damage; they only take room.
 *
 * For a journal that nobody has open: an object is there before its row is.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "journal/check_internal.h"

enum { FOLDERS = 256, TOLD_MAX = 20 };

#define ORPHANS "orphans"

struct orphans {
	uint64_t n, bytes;
	bool move;
	int to; /* .stomp/orphans, or -1 */
};

static int is_used(struct check *c, struct hash128 hash, uint64_t copy)
{
	auto_stmt *s = NULL;
	int r = db_stmt(c->db, STMT_GC_OBJECT_USED, &s);

	if (r)
		return r;
	bind_hash(s, 1, hash);
	bind_int(s, 2, copy);
	return db_step(c->db, s);
}

static int open_target(struct check *c, struct orphans *o)
{
	if (o->to >= 0)
		return 0;
	if (mkdirat(c->o->dirfd, ORPHANS, 0700) < 0 && errno != EEXIST)
		return -errno;
	o->to = openat(
		c->o->dirfd, ORPHANS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return o->to < 0 ? -errno : 0;
}

/* Moved, never deleted: its content may be just what somebody misses. */
static int found(struct check *c, struct orphans *o, const char *object)
{
	char name[OBJECT_NAME_SIZE];
	struct stat st;
	int r;

	if (fstatat(c->store->dirfd, object, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (o->n++ < TOLD_MAX)
		check_say(c, CHECK_NOTE,
			"no version has the content in objects/%s (%lld bytes)", object,
			(long long)st.st_size);
	o->bytes += (uint64_t)st.st_blocks * 512;
	if (!o->move)
		return 0;
	r = open_target(c, o);
	if (r)
		return r;
	snprintf(name, sizeof(name), "%s", object);
	name[2] = '-';
	return renameat(c->store->dirfd, object, o->to, name) < 0 ? -errno : 0;
}

static int look_into(struct check *c, struct orphans *o, unsigned folder)
{
	char name[OBJECT_NAME_SIZE];
	struct dirent *e;
	DIR *dir;
	int fd, r = 0;

	snprintf(name, sizeof(name), "%02x", folder);
	fd = openat(c->store->dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while (!r && (e = readdir(dir))) {
		struct hash128 hash;
		uint64_t copy;

		if (!object_parse_name(folder, e->d_name, &hash, &copy))
			continue;
		r = is_used(c, hash, copy);
		object_name(hash, copy, name);
		r = r == 0 ? found(c, o, name) : r < 0 ? r : 0;
	}
	closedir(dir);
	return r;
}

int check_orphans(struct check *c)
{
	/* What stood in rows that were damaged may belong to one of these. */
	struct orphans o = {.to = -1, .move = c->o->repair && !c->salvaged};
	int r = 0;

	for (unsigned folder = 0; folder < FOLDERS && !r; folder++)
		r = look_into(c, &o, folder);
	if (o.to >= 0)
		close(o.to);
	if (r == 0 && o.n)
		check_say(c, CHECK_NOTE, "%llu object file%s without a version, %llu KiB%s",
			(unsigned long long)o.n, o.n == 1 ? "" : "s",
			(unsigned long long)o.bytes / 1024,
			o.move ? "; moved to .stomp/" ORPHANS
				 ", delete that when nothing is "
				 "missed"
			: c->salvaged
				? "; left where they are: rows of theirs may be among "
				  "those that were damaged"
				: "; --repair moves them to .stomp/" ORPHANS);
	return r;
}
