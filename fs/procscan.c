#include "fs/procscan.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "fs/file.h"
#include "fs/handle.h"
#include "fs/workspace.h"

/* Mount points are written with \040 and the like. */
static void unescape(char *text)
{
	char *out = text;

	for (; *text; text++) {
		unsigned c;

		if (*text == '\\' && sscanf(text + 1, "%3o", &c) == 1) {
			*out++ = (char)c;
			text += 3;
		} else {
			*out++ = *text;
		}
	}
	*out = '\0';
}

int procscan_find_mount(struct workspace *ws)
{
	int fd = openat(ws->proc_fd, "self/mountinfo", O_RDONLY | O_CLOEXEC);
	FILE *mounts = fd < 0 ? NULL : fdopen(fd, "r");
	auto_free char *line = NULL;
	size_t room = 0;
	int r = -ENOENT;

	if (!mounts) {
		if (fd >= 0)
			close(fd);
		return -ENOENT;
	}
	while (getline(&line, &room, mounts) > 0) { /* the last one is on top */
		char point[PATH_MAX];
		unsigned major, minor;

		if (sscanf(line, "%*s %*s %u:%u %*s %4095s", &major, &minor, point) != 3)
			continue;
		unescape(point);
		if (strcmp(point, ws->options.mountpoint) != 0)
			continue;
		ws->mount_major = major;
		ws->mount_minor = minor;
		r = 0;
	}
	fclose(mounts);
	return r;
}

typedef bool process_fn(struct workspace *ws, pid_t pid, int dirfd, void *ctx);

/* Calls fn for every process until it says true. */
static bool any_process(struct workspace *ws, process_fn *fn, void *ctx)
{
	int fd = openat(ws->proc_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return true;
	}
	while ((e = readdir(dir))) {
		auto_close int process = -1;

		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		process = openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (process >= 0 && fn(ws, (pid_t)atoi(e->d_name), process, ctx))
			return true;
	}
	return false;
}

struct wanted {
	const struct writer *writer;
	const struct file *file;
	uint64_t ino;
	bool for_writing;
};

/* "ino:\t123" in /proc/PID/fdinfo/N; the mount id is left out, since the process may
 * see the mount through another namespace. */
static bool descriptor_is(int fdinfo, const char *name, const struct wanted *wanted)
{
	auto_close int fd = openat(fdinfo, name, O_RDONLY | O_CLOEXEC);
	char text[512];
	const char *at;
	ssize_t n;

	if (fd < 0)
		return false; /* closed meanwhile */
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	at = strstr(text, "\nino:");
	if (!at || strtoull(at + strlen("\nino:"), NULL, 10) != wanted->ino)
		return false;
	at = strstr(text, "\nflags:");
	return !wanted->for_writing || !at ||
	       (strtoull(at + strlen("\nflags:"), NULL, 8) & O_ACCMODE) != O_RDONLY;
}

/* Does any descriptor of the process stand for it? Where one may not look: perhaps. */
static bool has_descriptor(int process_fd, const struct wanted *wanted)
{
	int fd = openat(process_fd, "fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return fd >= 0 || errno == EACCES;
	}
	while ((e = readdir(dir)))
		if (isdigit((unsigned char)e->d_name[0]) &&
			descriptor_is(fd, e->d_name, wanted))
			return true;
	return false;
}

/* Only who has it is asked for his name: the others never came to the mount. */
static bool has_open(struct workspace *ws, pid_t pid, int process_fd, void *ctx)
{
	const struct wanted *wanted = ctx;
	struct process *p;
	bool is_writers;

	if (!has_descriptor(process_fd, wanted))
		return false;
	p = identity_take(ws->identity, pid, 0, 0);
	is_writers = p->writer == wanted->writer;
	process_put(ws->identity, p);
	return is_writers;
}

bool procscan_has_open(
	struct workspace *ws, const struct writer *w, uint64_t ino, bool for_writing)
{
	struct wanted wanted = {.writer = w, .ino = ino, .for_writing = for_writing};

	return any_process(ws, has_open, &wanted);
}

/* Does the process belong to a writer that has the file open? */
static bool may_have_it(struct workspace *ws, pid_t pid, const struct file *f)
{
	struct process *p = identity_take(ws->identity, pid, 0, 0);
	const struct writer *w = p->writer;
	const struct handle *h;

	process_put(ws->identity, p);
	list_for_each (h, &f->handles, node)
		if (h->mappable && h->by->writer == w)
			return true;
	return false;
}

/* "7f… rw-s 00000000 00:2d 123   /path": shared, and that inode of our device. */
static bool maps_it(struct workspace *ws, pid_t pid, int process_fd, void *ctx)
{
	const struct wanted *wanted = ctx;
	int fd = openat(process_fd, "maps", O_RDONLY | O_CLOEXEC);
	FILE *maps = fd < 0 ? NULL : fdopen(fd, "r");
	char line[512], flags[5];
	unsigned major, minor;
	unsigned long long ino;
	bool found = false;

	if (!maps) {
		found = (fd >= 0 || errno == EACCES) && may_have_it(ws, pid, wanted->file);
		if (fd >= 0)
			close(fd);
		return found;
	}
	while (!found && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%*s %4s %*s %x:%x %llu", flags, &major, &minor, &ino) !=
			4)
			continue;
		found = flags[3] == 's' && ino == wanted->ino && major == ws->mount_major &&
			minor == ws->mount_minor;
	}
	fclose(maps);
	return found;
}

bool procscan_is_mapped(struct workspace *ws, const struct file *f, uint64_t ino)
{
	struct wanted wanted = {.file = f, .ino = ino};

	return any_process(ws, maps_it, &wanted);
}
