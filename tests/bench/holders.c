/*
 * holders.c - many handles, or many writers, at once.
 *
 *   bench_holders DIR handles N      opens 1000 files read-only, N times, in turns
 *   bench_holders DIR writers N OPS  N processes; each writes OPS times to a file of its
 * own and to one that all share
 *
 * handles: prints "ready", then waits for the end of its standard input before it closes
 * them. writers: prints the seconds it took and how many of the shared changes were
 * refused. STOMP_AGENT is set per process, so that each is a writer of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 1000, BAD_END = 251, REFUSED_MAX = 250 };

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "bench_holders: %s: %s\n", what, strerror(errno));
	exit(BAD_END);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int handles(long n)
{
	struct rlimit limit = {.rlim_cur = (rlim_t)n + 64, .rlim_max = (rlim_t)n + 64};
	char name[32], byte;

	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		fail("setrlimit");
	for (long i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "f%06ld", i % FILES);
		if (open(name, O_RDONLY) < 0)
			fail(name);
	}
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		continue;
	return 0;
}

/* 1 when it was refused. */
static int write_once(const char *name, int flags, long i)
{
	int fd = open(name, O_WRONLY | O_CREAT | flags, 0644), refused = 0;

	if (fd < 0) {
		if (errno == EAGAIN || errno == ESTALE)
			return 1;
		fail(name);
	}
	refused |= write(fd, &i, sizeof(i)) != sizeof(i);
	refused |= close(fd) < 0;
	return refused;
}

/* Run again as a process of its own: a writer is known by what it began with. */
static int one_writer(long ops)
{
	const char *name = getenv("STOMP_AGENT");
	int refused = 0;

	for (long i = 0; i < ops; i++) {
		if (write_once(name, O_TRUNC, i))
			fail(name);
		refused += write_once("shared", O_APPEND, i);
	}
	return refused > REFUSED_MAX ? REFUSED_MAX : refused;
}

static int writers(const char *self, long n, const char *ops)
{
	double begin = now_s();
	long refused = 0;
	int status;

	for (long i = 0; i < n; i++) {
		pid_t child = fork();

		if (child < 0)
			fail("fork");
		if (child == 0) {
			char name[32];

			snprintf(name, sizeof(name), "writer-%ld", i);
			setenv("STOMP_AGENT", name, 1);
			execl(self, self, ".", "writer", ops, (char *)NULL);
			fail(self);
		}
	}
	for (long i = 0; i < n; i++) {
		if (wait(&status) < 0 || !WIFEXITED(status) ||
			WEXITSTATUS(status) == BAD_END)
			fail("a writer ended badly");
		refused += WEXITSTATUS(status);
	}
	printf("%.3f %ld\n", now_s() - begin, refused);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 4 || chdir(argv[1]) < 0) {
		fprintf(stderr, "usage: bench_holders DIR handles N | writers N OPS\n");
		return 2;
	}
	if (!strcmp(argv[2], "handles"))
		return handles(atol(argv[3]));
	if (!strcmp(argv[2], "writer"))
		return one_writer(atol(argv[3]));
	if (!strcmp(argv[2], "writers") && argc == 5)
		return writers("/proc/self/exe", atol(argv[3]), argv[4]);
	fprintf(stderr, "bench_holders: what is '%s'?\n", argv[2]);
	return 2;
}
