#include "fs/beneath.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#ifndef MOVE_MOUNT_BENEATH
#define MOVE_MOUNT_BENEATH 0x00000200
#endif

/* ---- the folder ---- */

struct opening {
	const char *path;
	int fd; /* or -errno */
};

/* On a thread of its own: a mount namespace can be a thread's, descriptors are everybody's.
 * The namespace ends with the thread, the tree stays with its descriptor. */
static void *open_without_cover(void *arg)
{
	struct opening *o = arg;

	if (unshare(CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		umount2(o->path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0) {
		o->fd = -errno;
		return NULL;
	}
	o->fd = open_tree(
		AT_FDCWD, o->path, AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (o->fd < 0)
		o->fd = -errno;
	return NULL;
}

int beneath_open(const char *path)
{
	struct opening o = {.path = path, .fd = -EIO};
	pthread_t thread;
	int r = pthread_create(&thread, NULL, open_without_cover, &o);

	if (r)
		return -r;
	pthread_join(thread, NULL);
	return o.fd;
}

/* ---- the mount ---- */

/* What mount(8) and libfuse call them. */
static const struct flag {
	const char *name;
	uint64_t clear, set;
} flags[] = {
	{"rw", MOUNT_ATTR_RDONLY, 0},
	{"ro", 0, MOUNT_ATTR_RDONLY},
	{"suid", MOUNT_ATTR_NOSUID, 0},
	{"nosuid", 0, MOUNT_ATTR_NOSUID},
	{"dev", MOUNT_ATTR_NODEV, 0},
	{"nodev", 0, MOUNT_ATTR_NODEV},
	{"exec", MOUNT_ATTR_NOEXEC, 0},
	{"noexec", 0, MOUNT_ATTR_NOEXEC},
	{"relatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_RELATIME},
	{"noatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME},
	{"strictatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_STRICTATIME},
	{"diratime", MOUNT_ATTR_NODIRATIME, 0},
	{"nodiratime", 0, MOUNT_ATTR_NODIRATIME},
};

static int set_text(int fs, const char *key, const char *value)
{
	return fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

static int set_number(int fs, const char *key, unsigned value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	return set_text(fs, key, text);
}

static int apply_option(int fs, char *option, uint64_t *attr)
{
	char *value = strchr(option, '=');

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (strcmp(option, flags[i].name) != 0)
			continue;
		*attr = (*attr & ~flags[i].clear) | flags[i].set;
		return 0;
	}
	if (strcmp(option, "default_permissions") == 0 ||
		strcmp(option, "allow_other") == 0)
		return fsconfig(fs, FSCONFIG_SET_FLAG, option, NULL, 0) < 0 ? -errno : 0;
	if (!value)
		return -ENOTSUP;
	*value++ = '\0';
	if (strcmp(option, "fsname") == 0)
		return 0; /* the caller has it without escapes */
	if (strcmp(option, "subtype") == 0 || strcmp(option, "max_read") == 0)
		return set_text(fs, option, value);
	return -ENOTSUP;
}

/* "-o a,b", "-oa,b" and what stands beside them, which is libfuse's own. */
static int apply_options(int fs, const struct fuse_args *args, uint64_t *attr)
{
	for (int i = 1; i < args->argc; i++) {
		const char *arg = args->argv[i];
		auto_free char *list = NULL;
		char *rest, *option;
		int r;

		if (strncmp(arg, "-o", 2) != 0)
			return -ENOTSUP;
		arg += 2;
		if (!*arg && ++i == args->argc)
			return -ENOTSUP;
		list = strdup(*arg ? arg : args->argv[i]);
		if (!list)
			return -ENOMEM;
		rest = list;
		while ((option = strsep(&rest, ","))) {
			r = *option ? apply_option(fs, option, attr) : 0;
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* A mount that is nowhere yet; its descriptor. */
static int make_mount(int fuse_fd, const struct fuse_args *args, const char *source)
{
	auto_close int fs = fsopen("fuse", FSOPEN_CLOEXEC);
	uint64_t attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV; /* as libfuse does it */
	int r, fd;

	if (fs < 0)
		return -errno;
	r = apply_options(fs, args, &attr);
	r = r < 0 ? r : set_text(fs, "source", source);
	r = r < 0 ? r : set_number(fs, "fd", (unsigned)fuse_fd);
	r = r < 0 ? r : set_text(fs, "rootmode", "40000");
	r = r < 0 ? r : set_number(fs, "user_id", getuid());
	r = r < 0 ? r : set_number(fs, "group_id", getgid());
	if (r < 0)
		return r;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	fd = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attr);
	return fd < 0 ? -errno : fd;
}

int beneath_mount(const char *path, const struct fuse_args *args, const char *source)
{
	auto_close int fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	auto_close int mount_fd = -1;

	if (fuse_fd < 0)
		return -errno;
	mount_fd = make_mount(fuse_fd, args, source);
	if (mount_fd < 0)
		return mount_fd;
	if (move_mount(mount_fd, "", AT_FDCWD, path,
		    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH) < 0)
		return -errno;
	return steal_fd(&fuse_fd);
}
