#include "cli/run_cgroup.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"

struct line {
	char text[PATH_MAX];
};

static void close_file(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define auto_file __attribute__((cleanup(close_file))) FILE

/* Where the version 2 hierarchy is mounted, and what part of it (its root may be below
 * the hierarchy's own, in a container). Mountpoints with blanks are left alone. */
static bool find_mount(struct line *mountpoint, struct line *root)
{
	auto_file *f = fopen("/proc/self/mountinfo", "re");
	char text[3 * PATH_MAX];

	while (f && fgets(text, sizeof(text), f)) {
		const char *type = strstr(text, " - ");

		if (type && strncmp(type, " - cgroup2 ", 11) == 0 &&
			sscanf(text, "%*d %*d %*s %4095s %4095s", root->text,
				mountpoint->text) == 2 &&
			!strchr(mountpoint->text, '\\'))
			return true;
	}
	return false;
}

/* Our group: the line "0::/PATH". */
static bool own_group(struct line *group)
{
	auto_file *f = fopen("/proc/self/cgroup", "re");
	struct line line;

	while (f && fgets(line.text, sizeof(line.text), f)) {
		if (strncmp(line.text, "0::/", 4) != 0)
			continue;
		line.text[strcspn(line.text, "\n")] = '\0';
		strcpy(group->text, line.text + 3);
		return true;
	}
	return false;
}

static bool put_word(const char *path, const char *word)
{
	auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, word, strlen(word)) == (ssize_t)strlen(word);
}

void run_cgroup_make(struct run_cgroup *cg, const char *name, pid_t launcher)
{
	struct line mountpoint, root, group;
	const char *below;
	size_t len;
	int n;

	cg->path[0] = '\0';
	if (!find_mount(&mountpoint, &root) || !own_group(&group))
		return;
	below = group.text;
	len = strcmp(root.text, "/") == 0 ? 0 : strlen(root.text);
	if (strncmp(below, root.text, len) != 0 || strstr(below, "/.."))
		return; /* not in what is mounted here */
	below += len;
	n = snprintf(cg->path, sizeof(cg->path), "%s%s/stomp-%s-%d", mountpoint.text,
		strcmp(below, "/") == 0 ? "" : below, name, (int)launcher);
	if (n < 0 || n >= (int)sizeof(cg->path) || mkdir(cg->path, 0755) < 0)
		cg->path[0] = '\0';
}

void run_cgroup_enter(const struct run_cgroup *cg)
{
	char procs[PATH_MAX + 16];

	if (!cg->path[0])
		return;
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", cg->path);
	(void)put_word(procs, "0");
}

void run_cgroup_remove(struct run_cgroup *cg)
{
	if (cg->path[0])
		(void)rmdir(cg->path);
	cg->path[0] = '\0';
}
