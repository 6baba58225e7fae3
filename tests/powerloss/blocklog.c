/*
 * blocklog.c - a disk that remembers what was asked of it: one file of a FUSE mount.
 *
 *   blocklog IMAGE LOG MOUNTPOINT
 *
 * MOUNTPOINT/disk is IMAGE, to be used through a loop device. Every write and every flush
 * is appended to LOG in the order in which it was answered: a struct record, then the bytes
 * of a write. MOUNTPOINT/position reads as the number of records so far, so that whoever
 * was told that something is durable can say from which record on it must be there.
 *
 * One thread; ends when it is unmounted.
 */
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum record_type { RECORD_WRITE, RECORD_FLUSH };

struct record {
	uint64_t offset;
	uint32_t size, type;
};

struct disk {
	int image, log;
	uint64_t records;
};

static struct disk *the_disk(void)
{
	return fuse_get_context()->private_data;
}

static int append(struct disk *d, const struct record *r, const char *data)
{
	if (write(d->log, r, sizeof(*r)) != (ssize_t)sizeof(*r) ||
		write(d->log, data, r->size) != (ssize_t)r->size)
		return -EIO;
	d->records++;
	return 0;
}

static int disk_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	*st = (struct stat){.st_nlink = 1, .st_mode = S_IFREG | 0600};
	if (strcmp(path, "/") == 0)
		st->st_mode = S_IFDIR | 0700;
	else if (strcmp(path, "/disk") == 0)
		return fstat(the_disk()->image, st) < 0 ? -errno : 0;
	else if (strcmp(path, "/position") != 0)
		return -ENOENT;
	return 0;
}

static int disk_open(const char *path, struct fuse_file_info *fi)
{
	fi->direct_io = strcmp(path, "/position") == 0;
	return 0;
}

static int disk_read(
	const char *path, char *out, size_t size, off_t at, struct fuse_file_info *fi)
{
	struct disk *d = the_disk();
	char text[32];
	ssize_t n;

	if (strcmp(path, "/disk") == 0) {
		n = pread(d->image, out, size, at);
		return n < 0 ? -errno : (int)n;
	}
	n = snprintf(text, sizeof(text), "%" PRIu64 "\n", d->records);
	if (at >= n)
		return 0;
	n = n - at < (ssize_t)size ? n - at : (ssize_t)size;
	memcpy(out, text + at, (size_t)n);
	return (int)n;
}

static int disk_write(const char *path, const char *data, size_t size, off_t at,
	struct fuse_file_info *fi)
{
	struct disk *d = the_disk();
	struct record r = {(uint64_t)at, (uint32_t)size, RECORD_WRITE};
	ssize_t n = pwrite(d->image, data, size, at);

	if (n < 0)
		return -errno;
	r.size = (uint32_t)n;
	return append(d, &r, data) ?: (int)n;
}

static int disk_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
	struct record r = {0, 0, RECORD_FLUSH};

	return append(the_disk(), &r, "");
}

/* Discarded blocks keep their bytes, which a disk may do. */
static int disk_fallocate(
	const char *path, int mode, off_t at, off_t size, struct fuse_file_info *fi)
{
	return -EOPNOTSUPP;
}

static const struct fuse_operations operations = {
	.getattr = disk_getattr,
	.open = disk_open,
	.read = disk_read,
	.write = disk_write,
	.fsync = disk_fsync,
	.fallocate = disk_fallocate,
};

int main(int argc, char **argv)
{
	char *args[] = {argv[0], argv[3], (char *)"-f", (char *)"-s", NULL};
	struct disk d;

	if (argc != 4) {
		fprintf(stderr, "usage: blocklog IMAGE LOG MOUNTPOINT\n");
		return 2;
	}
	d = (struct disk){
		.image = open(argv[1], O_RDWR | O_CLOEXEC),
		.log = open(
			argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600),
	};
	if (d.image < 0 || d.log < 0) {
		perror("blocklog");
		return 1;
	}
	return fuse_main(4, args, &operations, &d);
}
