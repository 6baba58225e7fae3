#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "fs/driver.h"
#include "fs/driver_internal.h"

/* Files a command can make in its time; beyond, something makes them as fast as we
 * remove them. */
enum { MAX_REMOVED = 4000000 };

#define PREFIX "stomp-driver-"

int driver_folder_make(struct driver_folder *f, int in_fd)
{
	uint64_t number;
	int r;

	*f = (struct driver_folder){.in_fd = in_fd, .fd = -1};
	for (int attempt = 0; attempt < 8; attempt++) {
		if (getrandom(&number, sizeof(number), 0) != sizeof(number))
			return -EIO;
		snprintf(f->name, sizeof(f->name), PREFIX "%016llx",
			(unsigned long long)number);
		if (mkdirat(in_fd, f->name, 0700) == 0)
			break;
		if (errno != EEXIST)
			return -errno;
		f->name[0] = '\0';
	}
	if (!f->name[0])
		return -EEXIST;
	f->fd = openat(in_fd, f->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (f->fd >= 0)
		return 0;
	r = -errno;
	unlinkat(in_fd, f->name, AT_REMOVEDIR);
	return r;
}

/* A folder that the command made, such that we can empty it. Root can anyway, and must not
 * change modes of what somebody else may exchange meanwhile. */
static int open_folder(int in_fd, const char *name)
{
	auto_close int fd =
		openat(in_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char path[32];

	if (fd < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (geteuid() != 0 && chmod(path, 0700) < 0)
		return -1;
	return openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

typedef bool entry_fn(int dir_fd, const char *name, int top_fd, uint32_t *count);

/* Calls fn for each entry of the folder, of which it may remove any. True: one did
 * something. */
static bool each_entry(int fd, entry_fn *fn, int top_fd, uint32_t *count)
{
	int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_dir DIR *dir = again >= 0 ? fdopendir(again) : NULL;
	bool any = false;

	if (!dir && again >= 0)
		close(again);
	for (struct dirent *e; dir && *count < MAX_REMOVED && (e = readdir(dir));) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			any |= fn(fd, e->d_name, top_fd, count);
	}
	return any;
}

static bool remove_file(int dir_fd, const char *name, uint32_t *count)
{
	bool gone =
		unlinkat(dir_fd, name, 0) == 0 || unlinkat(dir_fd, name, AT_REMOVEDIR) == 0;

	*count += gone;
	return gone;
}

/* Removes the file, or moves the folder up to the top, where it is met again. So neither
 * memory nor descriptors grow with the depth. */
static bool lift(int dir_fd, const char *name, int top_fd, uint32_t *count)
{
	char lifted[40];
	int fd;

	if (remove_file(dir_fd, name, count))
		return true;
	fd = open_folder(dir_fd, name); /* for the mode: else it cannot be moved */
	if (fd >= 0)
		close(fd);
	snprintf(lifted, sizeof(lifted), ".lifted-%u", ++*count);
	return renameat(dir_fd, name, top_fd, lifted) == 0;
}

static bool remove_entry(int dir_fd, const char *name, int top_fd, uint32_t *count)
{
	if (remove_file(dir_fd, name, count))
		return true;
	auto_close int fd = open_folder(dir_fd, name);
	if (fd < 0)
		return false;
	each_entry(fd, lift, top_fd, count);
	return remove_file(dir_fd, name, count);
}

void driver_folder_remove(struct driver_folder *f)
{
	uint32_t count = 0;

	if (f->fd < 0)
		return;
	if (geteuid() != 0)
		fchmod(f->fd, 0700);
	while (each_entry(f->fd, remove_entry, f->fd, &count) && count < MAX_REMOVED)
		;
	unlinkat(f->in_fd, f->name, AT_REMOVEDIR);
	close(f->fd);
	f->fd = -1;
}

static bool sweep_entry(int dir_fd, const char *name, int top_fd, uint32_t *count)
{
	struct driver_folder f = {.in_fd = dir_fd};
	size_t n = strlen(name);

	if (strncmp(name, PREFIX, strlen(PREFIX)) != 0 || n >= sizeof(f.name))
		return false;
	memcpy(f.name, name, n + 1);
	f.fd = open_folder(dir_fd, name);
	driver_folder_remove(&f);
	return true;
}

void driver_folder_sweep(int folder_fd)
{
	uint32_t count = 0;

	each_entry(folder_fd, sweep_entry, folder_fd, &count);
}
