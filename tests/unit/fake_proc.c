#include "fake_proc.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

static const char *const files[] = {
	"stat", "status", "cmdline", "environ", "cgroup", "exe", NULL};

void fake_proc_init(struct fake_proc *f)
{
	/* In memory where there is such a place: the tests make many small files. */
	snprintf(f->dir, sizeof(f->dir), "%s/stomp-proc-XXXXXX",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	CHECK(mkdtemp(f->dir) != NULL);
	f->fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(f->fd >= 0);
}

static void write_file(int dir, const char *name, const char *text, size_t size)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, text, size), (ssize_t)size);
	close(fd);
}

/* "a|b" as "a\0b\0" */
static void write_words(int dir, const char *name, const char *words)
{
	char text[8192];
	size_t len = words ? strlen(words) : 0;

	CHECK(len < sizeof(text));
	for (size_t i = 0; i < len; i++)
		text[i] = words[i] == '|' ? '\0' : words[i];
	text[len] = '\0';
	write_file(dir, name, text, len ? len + 1 : 0);
}

void fake_proc_put(struct fake_proc *f, const struct fake_process *p)
{
	char text[1024], name[16];
	pid_t tgid = p->tgid ? p->tgid : p->pid;
	int dir;

	fake_proc_remove(f, p->pid);
	snprintf(name, sizeof(name), "%d", (int)p->pid);
	CHECK_EQ(mkdirat(f->fd, name, 0700), 0);
	dir = openat(f->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(dir >= 0);
	snprintf(text, sizeof(text),
		"%d (%s) %c %d %d %d %d 0 4194304 1 2 3 4 5 6 7 8 20 0 1 0 %llu 10 11 12\n",
		(int)p->pid, p->comm, p->state ? p->state : 'S', (int)p->ppid, (int)p->pid,
		(int)p->session, p->tty, p->start);
	write_file(dir, "stat", text, strlen(text));
	snprintf(text, sizeof(text),
		"Name:\t%s\nUmask:\t0022\nState:\tS "
		"(sleeping)\nTgid:\t%d\nNgid:\t0\nPid:\t%d\n"
		"PPid:\t%d\nUid:\t%u\t0\t0\t0\nGid:\t0\t0\t0\t0\nNSpid:\t%s\nThreads:\t1\n",
		p->comm, (int)tgid, (int)p->pid, (int)p->ppid, (unsigned)p->uid,
		p->nspid ? p->nspid : name);
	write_file(dir, "status", text, strlen(text));
	write_words(dir, "cmdline", p->args);
	write_words(dir, "environ", p->env);
	snprintf(text, sizeof(text), "0::%s\n", p->cgroup ? p->cgroup : "/");
	write_file(dir, "cgroup", text, strlen(text));
	if (p->exe)
		CHECK_EQ(symlinkat(p->exe, dir, "exe"), 0);
	close(dir);
}

void fake_proc_remove(struct fake_proc *f, pid_t pid)
{
	char name[64];

	for (int i = 0; files[i]; i++) {
		snprintf(name, sizeof(name), "%d/%s", (int)pid, files[i]);
		unlinkat(f->fd, name, 0);
	}
	snprintf(name, sizeof(name), "%d", (int)pid);
	unlinkat(f->fd, name, AT_REMOVEDIR);
}

void fake_proc_done(struct fake_proc *f)
{
	char command[128];

	close(f->fd);
	snprintf(command, sizeof(command), "rm -r %s", f->dir);
	CHECK_EQ(system(command), 0);
}
