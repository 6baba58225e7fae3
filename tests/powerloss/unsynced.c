/*
 * unsynced.c - what of a folder a power cut leaves if nothing lasts but what was synced: an
 * LD_PRELOAD library for a daemon that does not know.
 *
 * At each fsync, fdatasync and msync(MS_SYNC) of something in UNSYNCED_FOLDER what that
 * makes durable is appended to UNSYNCED_LOG: of a file the blocks that differ from what it
 * last synced, its size; and of the whole folder which names lead where and what the inodes
 * are, as far as that is new. What is written and never synced leaves no trace in the log.
 * UNSYNCED_POSITION is a file of 8 bytes, mapped: how many such calls there were, so that
 * whoever was told that something is durable can say from which on it must be there.
 *
 * The log is records: a struct record, then size bytes. What comes before a RECORD_SYNC is
 * as it was when that call was made.
 *
 * The folder is on a file system of its own, which gives no inode number twice (tmpfs); it
 * is opened before anything is mounted over it.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <search.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 4096, NAMES_BYTES = 1 << 20 };

enum record_type {
	RECORD_NAMES, /* of folder ino: "INODE NAME\0"… */
	RECORD_INODE, /* mode, uid, gid, mtime in ns as decimal words; a NUL; a link's
			 target */
	RECORD_SIZE,  /* of what a file has synced: at */
	RECORD_DATA,  /* its bytes at */
	RECORD_SYNC,  /* of ino */
};

struct record {
	uint64_t ino, at;
	uint32_t size, type;
};

/* What the log has said of an inode. */
struct known {
	uint64_t ino;
	char *data; /* as it was last synced */
	size_t size;
	bool synced;
	char *names, *inode; /* the last such record; NULL: none */
	size_t names_size, inode_size;
};

static struct {
	pthread_mutex_t lock;
	int folder, log;
	dev_t dev;
	_Atomic uint64_t *position;
	void *inodes; /* a tree of struct known, by ino */
} the = {.lock = PTHREAD_MUTEX_INITIALIZER, .folder = -1, .log = -1};

static void must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "unsynced: %s: %m\n", what);
	abort(); /* a daemon that dies is noticed */
}

__attribute__((constructor)) static void begin(void)
{
	const char *folder = getenv("UNSYNCED_FOLDER"), *log = getenv("UNSYNCED_LOG"),
		   *position = getenv("UNSYNCED_POSITION");
	struct stat st;
	int fd;

	if (!folder || !log || !position)
		return;
	fd = open(position, O_RDWR | O_CLOEXEC);
	must(fd >= 0, position);
	the.position = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(the.position != MAP_FAILED, position);
	close(fd);
	the.log = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	must(the.log >= 0, log);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(fd >= 0 && fstat(fd, &st) == 0, folder);
	the.dev = st.st_dev;
	the.folder = fd;
}

static void append(
	uint64_t ino, uint64_t at, enum record_type type, const void *data, size_t size)
{
	const struct record r = {ino, at, (uint32_t)size, type};

	must(write(the.log, &r, sizeof(r)) == (ssize_t)sizeof(r), "the log");
	must(size == 0 || write(the.log, data, size) == (ssize_t)size, "the log");
}

static int by_ino(const void *a, const void *b)
{
	uint64_t x = ((const struct known *)a)->ino, y = ((const struct known *)b)->ino;

	return (x > y) - (x < y);
}

static struct known *known_of(uint64_t ino)
{
	struct known key = {.ino = ino}, **found = tfind(&key, &the.inodes, by_ino), *k;

	if (found)
		return *found;
	k = calloc(1, sizeof(*k));
	must(k, "memory");
	k->ino = ino;
	must(tsearch(k, &the.inodes, by_ino), "memory");
	return k;
}

/* Said again only when it is something else. */
static void say(struct known *k, enum record_type type, char **last, size_t *last_size,
	const char *data, size_t size)
{
	if (*last && *last_size == size && memcmp(*last, data, size) == 0)
		return;
	append(k->ino, 0, type, data, size);
	free(*last);
	*last = malloc(size + 1);
	must(*last, "memory");
	memcpy(*last, data, size);
	*last_size = size;
}

/* ---- names and inodes ---- */

static void note_inode(int dirfd, const char *name, const struct stat *st)
{
	struct known *k = known_of(st->st_ino);
	char text[128 + PATH_MAX];
	int n = snprintf(text, 128, "%u %u %u %lld", st->st_mode, st->st_uid, st->st_gid,
		(long long)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec);

	text[n++] = '\0';
	if (S_ISLNK(st->st_mode)) {
		ssize_t len = readlinkat(dirfd, name, text + n, PATH_MAX);

		n += len > 0 ? (int)len : 0;
	}
	say(k, RECORD_INODE, &k->inode, &k->inode_size, text, (size_t)n);
}

/* The folder and all below it; fd moves in. */
static void note_names(int fd)
{
	char *names = malloc(NAMES_BYTES);
	struct known *k;
	struct dirent *e;
	struct stat st;
	size_t n = 0;
	DIR *dir;

	must(names && fstat(fd, &st) == 0, "a folder");
	k = known_of(st.st_ino);
	dir = fdopendir(fd);
	must(dir, "a folder");
	rewinddir(dir); /* who has read it through another descriptor of the same */
	while ((e = readdir(dir))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
			fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue; /* it went meanwhile */
		n += (size_t)snprintf(names + n, NAMES_BYTES - n, "%llu %s",
			     (unsigned long long)st.st_ino, e->d_name) +
		     1;
		must(n < NAMES_BYTES - 300, "too many names");
		note_inode(fd, e->d_name, &st);
		if (S_ISDIR(st.st_mode)) {
			int below = openat(fd, e->d_name,
				O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			if (below >= 0)
				note_names(below);
		}
	}
	say(k, RECORD_NAMES, &k->names, &k->names_size, names, n);
	closedir(dir);
	free(names);
}

/* ---- contents ---- */

static void note_size(struct known *k, size_t size)
{
	if (k->synced && k->size == size)
		return;
	k->data = realloc(k->data, size + 1);
	must(k->data, "memory");
	if (size > k->size)
		memset(k->data + k->size, 0, size - k->size);
	k->size = size;
	append(k->ino, size, RECORD_SIZE, NULL, 0);
}

static void note_content(int fd, const struct stat *st)
{
	struct known *k = known_of(st->st_ino);
	char block[16 * BLOCK];
	ssize_t n;

	note_size(k, (size_t)st->st_size);
	k->synced = true;
	for (size_t at = 0; at < k->size; at += (size_t)n) {
		n = pread(fd, block, sizeof(block), (off_t)at);
		if (n <= 0)
			break; /* it became shorter meanwhile */
		if ((size_t)n > k->size - at)
			n = (ssize_t)(k->size - at);
		if (memcmp(k->data + at, block, (size_t)n) == 0)
			continue;
		memcpy(k->data + at, block, (size_t)n);
		append(k->ino, at, RECORD_DATA, block, (size_t)n);
	}
}

/* Before the call itself: what comes after it began may not be in it. */
static void note_sync(int fd)
{
	int saved = errno, names;
	struct stat st;

	if (the.folder < 0 || fstat(fd, &st) < 0 || st.st_dev != the.dev)
		return;
	pthread_mutex_lock(&the.lock);
	names = openat(the.folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(names >= 0, "the folder");
	note_names(names);
	if (S_ISREG(st.st_mode)) {
		char path[64];
		int again;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		again = open(path, O_RDONLY | O_CLOEXEC);
		must(again >= 0 && fstat(again, &st) == 0, "a file");
		note_content(again, &st);
		close(again);
	}
	append(st.st_ino, 0, RECORD_SYNC, NULL, 0);
	atomic_fetch_add(the.position, 1);
	pthread_mutex_unlock(&the.lock);
	errno = saved;
}

/* ---- the calls ---- */

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
	void *f = dlsym(RTLD_NEXT, name);

	must(f, name);
	return f;
}

int fsync(int fd)
{
	note_sync(fd);
	return REAL(fsync)(fd);
}

int fdatasync(int fd)
{
	note_sync(fd);
	return REAL(fdatasync)(fd);
}

/* The whole file that is mapped there. */
static int open_mapped(const void *at)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	uintptr_t from, to, wanted = (uintptr_t)at;
	char line[PATH_MAX + 128], path[96];
	int fd = -1;

	while (maps && fd < 0 && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) != 2 || wanted < from ||
			wanted >= to)
			continue;
		snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", from, to);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	if (maps)
		fclose(maps);
	return fd;
}

int msync(void *at, size_t size, int flags)
{
	int fd = the.folder >= 0 && (flags & MS_SYNC) ? open_mapped(at) : -1;

	if (fd >= 0) {
		note_sync(fd);
		close(fd);
	}
	return REAL(msync)(at, size, flags);
}
