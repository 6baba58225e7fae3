/* See fsx.h. */
#include "tests/conformance/fsx.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, PATH_ROOM = 4096 };

struct file {
	char path[2][PATH_ROOM]; /* its two names */
	int name;		 /* the one it has now */
	unsigned char *want;	 /* FSX_MAX_SIZE bytes; zero from size on */
	size_t size;
};

struct handle {
	int fd; /* -1: closed */
	int flags;
	unsigned file;
	unsigned char *map; /* of FSX_MAX_SIZE bytes, or NULL */
};

struct run {
	struct file files[FSX_FILES];
	struct handle handles[FSX_HANDLES];
	unsigned char *got, *made; /* FSX_MAX_SIZE bytes each, page aligned */
	char scratch[PATH_ROOM];
	int sink; /* an unnamed file in memory */
	size_t number;
	const struct fsx_step *step;
	struct fsx_counts counts;
};

static const char *const names[FSX_OPS] = {"open", "read", "write", "append", "map", "load",
	"store", "cut", "cut_path", "punch", "zero", "allocate", "copy", "send", "sync",
	"rename", "link", "save", "empty", "seek", "check"};

const char *fsx_name(enum fsx_op op)
{
	return names[op];
}

int fsx_file_name(const char *dir, int number, char *path, size_t room)
{
	static const char *const kinds[] = {
		"file0", "other0", "file1", "other1", "temporary"};

	if (number >= (int)(sizeof(kinds) / sizeof(*kinds)))
		return -1;
	snprintf(path, room, "%s/%s", dir, kinds[number]);
	return 0;
}

/* ---- telling ---- */

static int wrong(struct run *r, const char *call, long got, long want)
{
	fprintf(stderr, "step %zu (%s): %s: %ld%s%s, expected %ld\n", r->number,
		names[r->step->op], call, got, got < 0 ? ", " : "",
		got < 0 ? strerror(errno) : "", want);
	return FSX_WRONG;
}

static int compare(struct run *r, const struct file *f, const unsigned char *got, size_t at,
	size_t size)
{
	size_t i = 0, last;

	if (memcmp(got, f->want + at, size) == 0)
		return 0;
	while (got[i] == f->want[at + i])
		i++;
	last = size - 1;
	while (got[last] == f->want[at + last])
		last--;
	fprintf(stderr,
		"step %zu (%s): %s: bytes %zu to %zu differ, the first is %02x and should "
		"be %02x (the file has %zu bytes)\n",
		r->number, names[r->step->op], f->path[f->name], at + i, at + last, got[i],
		f->want[at + i], f->size);
	return FSX_WRONG;
}

/* What the backing cannot do is counted, and changes nothing. */
static int answer(struct run *r, const char *call, int result)
{
	if (result == 0) {
		r->counts.done[r->step->op]++;
		return 0;
	}
	if (errno == EOPNOTSUPP || errno == ENOSYS) {
		r->counts.unsupported[r->step->op]++;
		return 0;
	}
	return wrong(r, call, result, 0);
}

/* ---- bytes ---- */

static void make_bytes(struct run *r, uint64_t seed, size_t size)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;

	for (size_t i = 0; i < size; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		r->made[i] = (unsigned char)(x >> 32 | 1); /* never a hole's zero */
	}
}

static void grow(struct file *f, size_t size)
{
	if (size > f->size)
		f->size = size; /* what lies between is zero */
}

static void put(struct run *r, struct file *f, size_t at, size_t size)
{
	memcpy(f->want + at, r->made, size);
	grow(f, at + size);
}

static void set_size(struct file *f, size_t size)
{
	if (size < f->size)
		memset(f->want + size, 0, f->size - size);
	f->size = size;
}

/* A range within FSX_MAX_SIZE of at least a byte; whole blocks for a direct handle. */
static void range(const struct handle *h, uint64_t *at, size_t *size)
{
	*at %= FSX_MAX_SIZE - 1;
	*size = *size % (FSX_MAX_SIZE - *at) + 1;
	if (h && h->flags & O_DIRECT) {
		*at &= ~(uint64_t)(PAGE - 1);
		*size = (*size + PAGE - 1) & ~(size_t)(PAGE - 1);
	}
}

/* ---- handles ---- */

static void close_handle(struct handle *h)
{
	if (h->map)
		munmap(h->map, FSX_MAX_SIZE);
	if (h->fd >= 0)
		close(h->fd);
	*h = (struct handle){.fd = -1};
}

static int open_handle(struct run *r, struct handle *h, unsigned file, int flags)
{
	const struct file *f = &r->files[file];

	close_handle(h);
	h->fd = open(f->path[f->name], flags | O_CLOEXEC);
	if (h->fd < 0 && errno == EINVAL && flags & O_DIRECT) {
		flags &= ~O_DIRECT; /* a backing without direct io */
		h->fd = open(f->path[f->name], flags | O_CLOEXEC);
	}
	if (h->fd < 0)
		return wrong(r, "open", -1, 0);
	h->flags = flags;
	h->file = file;
	return 0;
}

/* The step's handle, open and able to do that; another one is opened anew. */
static int need(struct run *r, bool reads, bool writes, struct handle **out)
{
	struct handle *h = &r->handles[r->step->handle % FSX_HANDLES];
	int mode = h->flags & O_ACCMODE;

	*out = h;
	if (h->fd >= 0 && (!reads || mode != O_WRONLY) && (!writes || mode != O_RDONLY) &&
		!(writes && h->flags & O_APPEND))
		return 0;
	return open_handle(r, h, h->fd >= 0 ? h->file : r->step->file % FSX_FILES, O_RDWR);
}

static int do_open(struct run *r)
{
	static const int flags[] = {O_RDWR, O_RDWR, O_RDONLY, O_WRONLY, O_RDWR | O_APPEND,
		O_RDWR | O_DIRECT, O_WRONLY | O_APPEND, O_RDWR | O_SYNC};
	struct handle *h = &r->handles[r->step->handle % FSX_HANDLES];

	r->counts.done[FSX_OPEN]++;
	return open_handle(r, h, r->step->file % FSX_FILES,
		flags[r->step->a % (sizeof(flags) / sizeof(*flags))]);
}

static int do_empty(struct run *r)
{
	struct handle *h = &r->handles[r->step->handle % FSX_HANDLES];
	unsigned file = r->step->file % FSX_FILES;

	r->counts.done[FSX_EMPTY]++;
	set_size(&r->files[file], 0);
	return open_handle(r, h, file, O_RDWR | O_TRUNC);
}

/* ---- reading ---- */

static int do_read(struct run *r)
{
	uint64_t at = r->step->a;
	size_t size = r->step->b, expected;
	struct handle *h;
	struct file *f;
	ssize_t n;

	if (need(r, true, false, &h))
		return FSX_WRONG;
	f = &r->files[h->file];
	range(h, &at, &size);
	expected = at >= f->size ? 0 : f->size - at < size ? f->size - at : size;
	n = pread(h->fd, r->got, size, (off_t)at);
	if (n != (ssize_t)expected)
		return wrong(r, "pread", n, (long)expected);
	r->counts.done[FSX_READ]++;
	return compare(r, f, r->got, at, expected);
}

static int do_send(struct run *r)
{
	uint64_t at = r->step->a;
	size_t size = r->step->b, expected;
	struct handle *h;
	struct file *f;
	ssize_t n;
	off_t from;

	if (need(r, true, false, &h))
		return FSX_WRONG;
	f = &r->files[h->file];
	range(h, &at, &size);
	expected = at >= f->size ? 0 : f->size - at < size ? f->size - at : size;
	from = (off_t)at;
	if (ftruncate(r->sink, 0) < 0 || lseek(r->sink, 0, SEEK_SET) < 0)
		return wrong(r, "the sink", -1, 0);
	for (size_t done = 0; done < expected; done += (size_t)n) {
		n = sendfile(r->sink, h->fd, &from, size - done);
		if (n <= 0)
			return wrong(r, "sendfile", n, (long)(expected - done));
	}
	n = pread(r->sink, r->got, FSX_MAX_SIZE, 0);
	if (n != (ssize_t)expected)
		return wrong(r, "sendfile, in all", n, (long)expected);
	r->counts.done[FSX_SEND]++;
	return compare(r, f, r->got, at, expected);
}

static int check_file(struct run *r, struct file *f)
{
	int fd = open(f->path[f->name], O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return wrong(r, "open to check", -1, 0);
	n = pread(fd, r->got, FSX_MAX_SIZE, 0);
	close(fd);
	if (st.st_size != (off_t)f->size)
		return wrong(r, "st_size", (long)st.st_size, (long)f->size);
	if (n != (ssize_t)f->size)
		return wrong(r, "pread to check", n, (long)f->size);
	return compare(r, f, r->got, 0, f->size);
}

static int do_check(struct run *r)
{
	r->counts.done[FSX_CHECK]++;
	return check_file(r, &r->files[r->step->file % FSX_FILES]);
}

/* No hole may be told where a byte is not zero; the end is a hole. */
static int do_seek(struct run *r)
{
	struct handle *h;
	struct file *f;
	off_t at, to;

	if (need(r, true, false, &h))
		return FSX_WRONG;
	f = &r->files[h->file];
	if (f->size == 0)
		return 0;
	at = lseek(h->fd, (off_t)(r->step->a % f->size), SEEK_HOLE);
	if (at < 0)
		return wrong(r, "SEEK_HOLE", at, 0);
	if (at > (off_t)f->size)
		return wrong(r, "SEEK_HOLE", at, (long)f->size);
	to = lseek(h->fd, at, SEEK_DATA);
	if (to < 0 && errno == ENXIO)
		to = (off_t)f->size;
	r->counts.done[FSX_SEEK]++;
	for (off_t i = at; i < to; i++)
		if (f->want[i])
			return wrong(r, "a hole over data, at", (long)i, 0);
	return 0;
}

/* ---- writing ---- */

static int do_write(struct run *r)
{
	uint64_t at = r->step->a;
	size_t size = r->step->b;
	struct handle *h;
	ssize_t n;

	if (need(r, false, true, &h))
		return FSX_WRONG;
	range(h, &at, &size);
	make_bytes(r, r->step->c, size);
	n = pwrite(h->fd, r->made, size, (off_t)at);
	if (n != (ssize_t)size)
		return wrong(r, "pwrite", n, (long)size);
	r->counts.done[FSX_WRITE]++;
	put(r, &r->files[h->file], at, size);
	return 0;
}

static int do_append(struct run *r)
{
	struct file *f = &r->files[r->step->file % FSX_FILES];
	struct handle *h = &r->handles[r->step->handle % FSX_HANDLES];
	size_t size = r->step->b % PAGE + 1;
	ssize_t n;

	if (f->size + size > FSX_MAX_SIZE)
		return 0;
	if (open_handle(r, h, r->step->file % FSX_FILES, O_WRONLY | O_APPEND))
		return FSX_WRONG;
	make_bytes(r, r->step->c, size);
	n = write(h->fd, r->made, size);
	if (n != (ssize_t)size)
		return wrong(r, "write at the end", n, (long)size);
	r->counts.done[FSX_APPEND]++;
	put(r, f, f->size, size);
	return 0;
}

static int do_cut(struct run *r)
{
	size_t size = r->step->a % FSX_MAX_SIZE;
	struct handle *h;

	if (need(r, false, true, &h))
		return FSX_WRONG;
	if (ftruncate(h->fd, (off_t)size) < 0)
		return wrong(r, "ftruncate", -1, 0);
	r->counts.done[FSX_CUT]++;
	set_size(&r->files[h->file], size);
	return 0;
}

static int do_cut_path(struct run *r)
{
	struct file *f = &r->files[r->step->file % FSX_FILES];
	size_t size = r->step->a % FSX_MAX_SIZE;

	if (truncate(f->path[f->name], (off_t)size) < 0)
		return wrong(r, "truncate", -1, 0);
	r->counts.done[FSX_CUT_PATH]++;
	set_size(f, size);
	return 0;
}

static int do_fallocate(struct run *r, int mode)
{
	uint64_t at = r->step->a;
	size_t size = r->step->b;
	bool keeps = mode == FALLOC_FL_PUNCH_HOLE || r->step->c & 1;
	unsigned long unsupported = r->counts.unsupported[r->step->op];
	struct handle *h;
	struct file *f;
	int result;

	if (need(r, false, true, &h))
		return FSX_WRONG;
	f = &r->files[h->file];
	range(h, &at, &size);
	result = fallocate(
		h->fd, mode | (keeps ? FALLOC_FL_KEEP_SIZE : 0), (off_t)at, (off_t)size);
	if (answer(r, "fallocate", result))
		return FSX_WRONG;
	if (r->counts.unsupported[r->step->op] > unsupported)
		return 0;
	if (mode != 0)
		memset(f->want + at, 0, size);
	if (!keeps)
		grow(f, at + size);
	return 0;
}

static int do_copy(struct run *r)
{
	unsigned from = r->step->file % FSX_FILES;
	struct file *source = &r->files[from], *target;
	uint64_t at = r->step->a, to = r->step->c % FSX_MAX_SIZE;
	size_t size = r->step->b, expected;
	struct handle *h;
	off_t in, out;
	ssize_t n;
	int fd;

	if (need(r, false, true, &h))
		return FSX_WRONG;
	if (h->flags & O_DIRECT && open_handle(r, h, h->file, O_RDWR)) /* it wants blocks */
		return FSX_WRONG;
	target = &r->files[h->file];
	range(NULL, &at, &size);
	if (size > FSX_MAX_SIZE - to)
		size = FSX_MAX_SIZE - to;
	expected = at >= source->size	      ? 0
		   : source->size - at < size ? source->size - at
					      : size;
	if (source == target && at < to + size && to < at + size)
		return 0; /* overlapping ranges are EINVAL */
	fd = open(source->path[source->name], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return wrong(r, "open to copy", -1, 0);
	in = (off_t)at;
	out = (off_t)to;
	for (size_t done = 0; done < expected; done += (size_t)n) {
		n = copy_file_range(fd, &in, h->fd, &out, size - done, 0);
		if (n <= 0) {
			close(fd);
			return wrong(r, "copy_file_range", n, (long)(expected - done));
		}
	}
	close(fd);
	r->counts.done[FSX_COPY]++;
	memmove(r->made, source->want + at, expected);
	if (expected)
		put(r, target, to, expected);
	return 0;
}

static int do_sync(struct run *r)
{
	struct handle *h;

	if (need(r, false, false, &h))
		return FSX_WRONG;
	r->counts.done[FSX_SYNC]++;
	if ((r->step->a & 1 ? fsync(h->fd) : fdatasync(h->fd)) < 0)
		return wrong(r, "fsync", -1, 0);
	return 0;
}

/* ---- mappings ---- */

static int do_map(struct run *r)
{
	struct handle *h;

	if (need(r, true, true, &h))
		return FSX_WRONG;
	r->counts.done[FSX_MAP]++;
	if (h->map) {
		munmap(h->map, FSX_MAX_SIZE);
		h->map = NULL;
		return 0;
	}
	h->map = mmap(NULL, FSX_MAX_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, h->fd, 0);
	if (h->map != MAP_FAILED)
		return 0;
	h->map = NULL;
	return wrong(r, "mmap", -1, 0);
}

/* The mapping of the step's handle; a mapping is made where there is none. */
static int mapped(struct run *r, struct handle **h)
{
	if (need(r, true, true, h))
		return FSX_WRONG;
	return (*h)->map ? 0 : do_map(r);
}

static int do_load(struct run *r)
{
	struct handle *h;
	struct file *f;
	size_t at, size;

	if (mapped(r, &h))
		return FSX_WRONG;
	f = &r->files[h->file];
	if (f->size == 0)
		return 0;
	at = r->step->a % f->size;
	size = r->step->b % (f->size - at) + 1;
	r->counts.done[FSX_LOAD]++;
	return compare(r, f, h->map + at, at, size);
}

static int do_store(struct run *r)
{
	struct handle *h;
	struct file *f;
	size_t at, size;

	if (mapped(r, &h))
		return FSX_WRONG;
	f = &r->files[h->file];
	if (f->size == 0)
		return 0;
	at = r->step->a % f->size;
	size = r->step->b % (f->size - at) + 1;
	make_bytes(r, r->step->c, size);
	memcpy(h->map + at, r->made, size);
	put(r, f, at, size);
	r->counts.done[FSX_STORE]++;
	if (r->step->c & 1 && msync(h->map, FSX_MAX_SIZE, MS_SYNC) < 0)
		return wrong(r, "msync", -1, 0);
	return 0;
}

/* ---- names ---- */

static int do_rename(struct run *r)
{
	struct file *f = &r->files[r->step->file % FSX_FILES];

	if (rename(f->path[f->name], f->path[!f->name]) < 0)
		return wrong(r, "rename", -1, 0);
	r->counts.done[FSX_RENAME]++;
	f->name = !f->name;
	return 0;
}

static int do_link(struct run *r)
{
	struct file *f = &r->files[r->step->file % FSX_FILES];
	uint64_t at = r->step->a;
	size_t size = r->step->b;
	ssize_t n;
	int fd;

	range(NULL, &at, &size);
	if (link(f->path[f->name], r->scratch) < 0)
		return wrong(r, "link", -1, 0);
	fd = open(r->scratch, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return wrong(r, "open of the link", -1, 0);
	make_bytes(r, r->step->c, size);
	n = pwrite(fd, r->made, size, (off_t)at);
	if (n == (ssize_t)size && unlink(r->scratch) < 0)
		n = -1;
	close(fd);
	if (n != (ssize_t)size)
		return wrong(r, "pwrite and unlink of the link", n, (long)size);
	r->counts.done[FSX_LINK]++;
	put(r, f, at, size);
	return 0;
}

static int do_save(struct run *r)
{
	unsigned file = r->step->file % FSX_FILES;
	struct file *f = &r->files[file];
	size_t size = r->step->b % FSX_MAX_SIZE;
	ssize_t n;
	int fd = open(r->scratch, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0)
		return wrong(r, "open of a temporary", -1, 0);
	make_bytes(r, r->step->c, size);
	n = write(fd, r->made, size);
	close(fd);
	if (n != (ssize_t)size)
		return wrong(r, "write of a temporary", n, (long)size);
	if (rename(r->scratch, f->path[f->name]) < 0)
		return wrong(r, "rename of a temporary", -1, 0);
	/* The handles are of the file that was there: they go. */
	for (int i = 0; i < FSX_HANDLES; i++)
		if (r->handles[i].fd >= 0 && r->handles[i].file == file)
			close_handle(&r->handles[i]);
	r->counts.done[FSX_SAVE]++;
	set_size(f, 0);
	put(r, f, 0, size);
	return 0;
}

/* ---- the run ---- */

static int run_step(struct run *r)
{
	switch (r->step->op) {
	case FSX_OPEN:
		return do_open(r);
	case FSX_READ:
		return do_read(r);
	case FSX_WRITE:
		return do_write(r);
	case FSX_APPEND:
		return do_append(r);
	case FSX_MAP:
		return do_map(r);
	case FSX_LOAD:
		return do_load(r);
	case FSX_STORE:
		return do_store(r);
	case FSX_CUT:
		return do_cut(r);
	case FSX_CUT_PATH:
		return do_cut_path(r);
	case FSX_PUNCH:
		return do_fallocate(r, FALLOC_FL_PUNCH_HOLE);
	case FSX_ZERO:
		return do_fallocate(r, FALLOC_FL_ZERO_RANGE);
	case FSX_ALLOCATE:
		return do_fallocate(r, 0);
	case FSX_COPY:
		return do_copy(r);
	case FSX_SEND:
		return do_send(r);
	case FSX_SYNC:
		return do_sync(r);
	case FSX_RENAME:
		return do_rename(r);
	case FSX_LINK:
		return do_link(r);
	case FSX_SAVE:
		return do_save(r);
	case FSX_EMPTY:
		return do_empty(r);
	case FSX_SEEK:
		return do_seek(r);
	case FSX_CHECK:
		return do_check(r);
	case FSX_OPS:
		break;
	}
	return FSX_WRONG;
}

static int begin(struct run *r, const char *dir)
{
	void *got = NULL, *made = NULL;

	snprintf(r->scratch, sizeof(r->scratch), "%s/temporary", dir);
	if (posix_memalign(&got, PAGE, FSX_MAX_SIZE) ||
		posix_memalign(&made, PAGE, FSX_MAX_SIZE))
		return wrong(r, "memory", 0, FSX_MAX_SIZE);
	r->got = got;
	r->made = made;
	r->sink = memfd_create("sink", MFD_CLOEXEC);
	for (int i = 0; i < FSX_HANDLES; i++)
		r->handles[i].fd = -1;
	for (int i = 0; i < FSX_FILES; i++) {
		struct file *f = &r->files[i];
		int fd;

		snprintf(f->path[0], PATH_ROOM, "%s/file%d", dir, i);
		snprintf(f->path[1], PATH_ROOM, "%s/other%d", dir, i);
		f->want = calloc(1, FSX_MAX_SIZE);
		fd = open(f->path[0], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (!f->want || fd < 0)
			return wrong(r, "open of a new file", -1, 0);
		close(fd);
	}
	return r->sink < 0 ? wrong(r, "memfd_create", -1, 0) : 0;
}

static void end(struct run *r)
{
	for (int i = 0; i < FSX_HANDLES; i++)
		close_handle(&r->handles[i]);
	for (int i = 0; i < FSX_FILES; i++) {
		unlink(r->files[i].path[r->files[i].name]);
		free(r->files[i].want);
	}
	unlink(r->scratch);
	if (r->sink >= 0)
		close(r->sink);
	free(r->got);
	free(r->made);
}

int fsx_run(
	const char *dir, const struct fsx_step *steps, size_t n, struct fsx_counts *counts)
{
	static const struct fsx_step last = {.op = FSX_CHECK};
	struct run r = {.step = &last, .sink = -1};
	int result = begin(&r, dir);

	for (size_t i = 0; i < n && result == 0; i++) {
		r.number = i + 1;
		r.step = &steps[i];
		result = run_step(&r);
	}
	/* What is left when the last handle is closed counts most. */
	for (int i = 0; i < FSX_HANDLES && result == 0; i++)
		close_handle(&r.handles[i]);
	for (int i = 0; i < FSX_FILES && result == 0; i++)
		result = check_file(&r, &r.files[i]);
	if (counts)
		*counts = r.counts;
	end(&r);
	return result;
}
