#include "journal/reserve.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

static int open_file(int dirfd, int flags)
{
	return openat(dirfd, "reserve", O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
}

static bool is_whole(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == RESERVE_BYTES;
}

int reserve_take(int dirfd)
{
	auto_close int fd = open_file(dirfd, O_CREAT);
	struct statvfs fs;
	int r;

	if (fd < 0)
		return -errno;
	if (is_whole(fd))
		return 0;
	if (fstatvfs(fd, &fs) < 0)
		return -errno;
	if (fs.f_bavail * fs.f_frsize < 2 * (fsblkcnt_t)RESERVE_BYTES)
		return -ENOSPC;
	r = -posix_fallocate(fd, 0, RESERVE_BYTES);
	if (r)
		(void)!ftruncate(fd, 0); /* a part of it would only be in the way */
	return r;
}

bool reserve_give(int dirfd)
{
	auto_close int fd = open_file(dirfd, 0);

	return fd >= 0 && is_whole(fd) && ftruncate(fd, 0) == 0;
}
