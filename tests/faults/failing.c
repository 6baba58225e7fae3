/*
 * failing.c - storage that fails, is slow or hangs, for a daemon that does not know: an
 * LD_PRELOAD library.
 *
 * Every call that changes storage is counted, apart for the two places where the daemon
 * stores (the journal: whatever lies in FAULTS_WORKSPACE/.stomp; the backing: the rest
 * below FAULTS_WORKSPACE). The file FAULTS_CONTROL is a struct control, mapped by both
 * sides: of the calls in the places asked for, number `from` to number `to` fail with
 * `error`; with error 0 they take `delay_us` longer, and none returns while `hangs` is set.
 * What the daemon tells the kernel to forget takes `notify_us` longer to get there.
 *
 * Stores into mapped files are no calls and cannot fail here; the journal's mapped file is
 * allocated ahead for that reason. Nothing here is locked while the real call runs.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { JOURNAL = 1, BACKING = 2 };

/* Mapped: what the test writes holds at the next call. */
struct control {
	_Atomic uint64_t
		serial; /* 0: nothing fails; raised by the test when the rest is set */
	uint64_t where, error, from, to;
	_Atomic uint64_t count, failed; /* ours */
	char first[64];			/* name and path of the first call that failed */
	_Atomic uint64_t delay_us, hangs, notify_us;
	_Atomic uint64_t hanging, notified; /* ours: calls that do so now; notes sent */
};

static struct control *control;
static const char *workspace;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("FAULTS_CONTROL");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map;

	workspace = getenv("FAULTS_WORKSPACE");
	if (fd < 0 || !workspace)
		return;
	map = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map != MAP_FAILED)
		control = map;
	close(fd);
}

static int place_of(const char *path)
{
	size_t n = strlen(workspace);

	if (strncmp(path, workspace, n) != 0 || (path[n] && path[n] != '/'))
		return 0;
	return strncmp(path + n, "/.stomp/", 8) == 0 || strcmp(path + n, "/.stomp") == 0
		       ? JOURNAL
		       : BACKING;
}

static int place_of_fd(int fd, char path[PATH_MAX])
{
	char link[64];
	ssize_t n;

	if (fd == AT_FDCWD)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, PATH_MAX - 1);
	if (n <= 0)
		return 0;
	path[n] = '\0';
	return place_of(path);
}

/* A call that does not fail, but takes its time. */
static void dawdle(void)
{
	if (atomic_load(&control->delay_us))
		usleep((useconds_t)atomic_load(&control->delay_us));
	if (!atomic_load(&control->hangs))
		return;
	atomic_fetch_add(&control->hanging, 1);
	while (atomic_load(&control->hangs))
		usleep(1000);
	atomic_fetch_sub(&control->hanging, 1);
}

static bool fails_at(const char *call, int place, const char *name)
{
	uint64_t n;

	if (!(place & (int)control->where))
		return false;
	n = atomic_fetch_add(&control->count, 1) + 1;
	if (n < control->from || n > control->to)
		return false;
	if (!control->error) {
		dawdle();
		return false;
	}
	if (atomic_fetch_add(&control->failed, 1) == 0)
		snprintf(control->first, sizeof(control->first), "%s %s %s", call,
			place == JOURNAL ? "journal" : "backing", name ? name : "");
	errno = (int)control->error;
	return true;
}

/* Is this call, on fd or below it, to fail? errno is set. */
static bool fails(const char *call, int fd, const char *name)
{
	char path[PATH_MAX] = "";
	int saved = errno, place;

	if (!control || !atomic_load(&control->serial))
		return false;
	place = name && *name == '/' ? place_of(name) : place_of_fd(fd, path);
	if (name && strncmp(name, ".stomp", 6) == 0 && place == BACKING)
		place = JOURNAL;
	errno = saved;
	return fails_at(call, place, name);
}

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
	void *f = dlsym(RTLD_NEXT, name);

	if (!f)
		abort();
	return f;
}

#define FAIL_FD(name, fd)                                                                  \
	if (fails(#name, fd, NULL))                                                        \
	return -1

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
	FAIL_FD(pwrite, fd);
	return REAL(pwrite)(fd, data, n, at);
}

ssize_t write(int fd, const void *data, size_t n)
{
	FAIL_FD(write, fd);
	return REAL(write)(fd, data, n);
}

ssize_t copy_file_range(
	int in, off_t *in_at, int out, off_t *out_at, size_t n, unsigned flags)
{
	FAIL_FD(copy_file_range, out);
	return REAL(copy_file_range)(in, in_at, out, out_at, n, flags);
}

int ftruncate(int fd, off_t size)
{
	FAIL_FD(ftruncate, fd);
	return REAL(ftruncate)(fd, size);
}

int fallocate(int fd, int mode, off_t at, off_t n)
{
	FAIL_FD(fallocate, fd);
	return REAL(fallocate)(fd, mode, at, n);
}

int posix_fallocate(int fd, off_t at, off_t n)
{
	if (fails("posix_fallocate", fd, NULL))
		return errno;
	return REAL(posix_fallocate)(fd, at, n);
}

int fsync(int fd)
{
	FAIL_FD(fsync, fd);
	return REAL(fsync)(fd);
}

int fdatasync(int fd)
{
	FAIL_FD(fdatasync, fd);
	return REAL(fdatasync)(fd);
}

/* Only the journal maps files shared. */
int msync(void *at, size_t n, int flags)
{
	if (control && atomic_load(&control->serial) && fails_at("msync", JOURNAL, NULL))
		return -1;
	return REAL(msync)(at, n, flags);
}

int futimens(int fd, const struct timespec times[2])
{
	FAIL_FD(futimens, fd);
	return REAL(futimens)(fd, times);
}

int fchmod(int fd, mode_t mode)
{
	FAIL_FD(fchmod, fd);
	return REAL(fchmod)(fd, mode);
}

int fchmodat(int dir, const char *name, mode_t mode, int flags)
{
	if (fails("fchmodat", dir, name))
		return -1;
	return REAL(fchmodat)(dir, name, mode, flags);
}

int unlinkat(int dir, const char *name, int flags)
{
	if (fails("unlinkat", dir, name))
		return -1;
	return REAL(unlinkat)(dir, name, flags);
}

int mkdirat(int dir, const char *name, mode_t mode)
{
	if (fails("mkdirat", dir, name))
		return -1;
	return REAL(mkdirat)(dir, name, mode);
}

int symlinkat(const char *target, int dir, const char *name)
{
	if (fails("symlinkat", dir, name))
		return -1;
	return REAL(symlinkat)(target, dir, name);
}

int linkat(int from_dir, const char *from, int dir, const char *name, int flags)
{
	if (fails("linkat", dir, name))
		return -1;
	return REAL(linkat)(from_dir, from, dir, name, flags);
}

static bool creates(int flags)
{
	return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
}

int openat(int dir, const char *name, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = creates(flags) ? va_arg(args, mode_t) : 0;
	va_end(args);
	if (creates(flags) && fails("openat", dir, name))
		return -1;
	return REAL(openat)(dir, name, flags, mode);
}

/* The kernel is told to forget by an answer to no request: to a descriptor of /dev/fuse. */
ssize_t writev(int fd, const struct iovec *iov, int count)
{
	struct {
		uint32_t len;
		int32_t error;
		uint64_t unique;
	} head;

	if (control && atomic_load(&control->notify_us) && count > 0 &&
		iov[0].iov_len == sizeof(head)) {
		memcpy(&head, iov[0].iov_base, sizeof(head));
		if (head.unique == 0) {
			usleep((useconds_t)atomic_load(&control->notify_us));
			atomic_fetch_add(&control->notified, 1);
		}
	}
	return REAL(writev)(fd, iov, count);
}

/* The daemon renames by the number of the call. */
long syscall(long number, ...)
{
	long a[6];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_renameat2 &&
		fails("renameat2", (int)a[2], (const char *)(uintptr_t)a[3]))
		return -1;
	return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
