/*
 * client.c - system calls to be timed, without an interpreter's cost around each.
 *
 *   bench_client DIR STEP[,STEP…]
 *
 * Runs the steps one after the other in DIR and prints for each "NAME SECONDS OPS BYTES".
 * A step is NAME[:KEY=VALUE…] with the keys n (operations or files), loops (so often all of
 * them), size (bytes of a file or of one write), block (bytes of one read or write; for
 * appends the number of files, in turns), as (the name in the output; without it the step
 * is a preparation: it runs, and prints nothing). Only the calls that the step
 * is about are timed. Errors end the program with a message and 1; a short read or write is
 * an error. No threads.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK_MAX = 4 << 20, PER_FOLDER = 50 };

struct step {
	const char *name, *as;
	long n, loops;
	size_t size, block;
	char *buffer;  /* BLOCK_MAX bytes that do not compress */
	uint64_t done; /* bytes moved */
};

static _Noreturn void fail(const char *what, const char *name)
{
	fprintf(stderr, "bench_client: %s %s: %s\n", what, name, strerror(errno));
	exit(1);
}

static void must(bool ok, const char *what, const char *name)
{
	if (!ok)
		fail(what, name);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Names are made beforehand where that would show; one snprintf is 0.1 µs here. */
static const char *name_of(char name[32], const char *prefix, long i)
{
	snprintf(name, 32, "%s%06ld", prefix, i);
	return name;
}

static void write_all(struct step *s, int fd, size_t size, const char *name)
{
	must(write(fd, s->buffer, size) == (ssize_t)size, "write", name);
	s->done += size;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* The first bytes of the buffer, as far as a small write goes, from seed. */
static void fill(struct step *s, long seed)
{
	uint64_t state = (uint64_t)seed * 2654435761u + 88172645463325252u;

	for (size_t i = 0; i < s->size && i < 128; i += sizeof(state)) {
		next_random(&state);
		memcpy(s->buffer + i, &state, sizeof(state));
	}
}

static void do_create(struct step *s)
{
	char name[32];

	for (long i = 0; i < s->n; i++) {
		int fd = open(name_of(name, "f", i), O_WRONLY | O_CREAT | O_EXCL, 0644);

		must(fd >= 0, "create", name);
		memcpy(s->buffer, &i, sizeof(i)); /* no two contents are the same */
		write_all(s, fd, s->size, name);
		must(close(fd) == 0, "close", name);
	}
}

static void do_read(struct step *s)
{
	char name[32];

	for (long i = 0; i < s->n; i++) {
		int fd = open(name_of(name, "f", i), O_RDONLY);

		must(fd >= 0, "open", name);
		must(read(fd, s->buffer + 4096, s->size) == (ssize_t)s->size, "read", name);
		must(close(fd) == 0, "close", name);
	}
}

static void do_stat(struct step *s)
{
	char name[32];
	struct stat st;

	for (long i = 0; i < s->n; i++)
		must(stat(name_of(name, "f", i), &st) == 0, "stat", name);
}

static void do_missing(struct step *s)
{
	char name[32];
	struct stat st;

	for (long i = 0; i < s->n; i++)
		must(stat(name_of(name, "no", i), &st) < 0 && errno == ENOENT, "stat",
			name);
}

static void do_append(struct step *s)
{
	char name[32];

	for (long i = 0; i < s->n; i++) {
		name_of(name, "f", i % (long)s->block);
		int fd = open(name, O_WRONLY | O_CREAT | O_APPEND, 0644);

		must(fd >= 0, "open", name);
		fill(s, i); /* the same bytes again would compress to nothing */
		write_all(s, fd, s->size, name);
		must(close(fd) == 0, "close", name);
	}
}

static void do_overwrite(struct step *s)
{
	char name[32];

	for (long i = 0; i < s->n; i++) {
		int fd = open(name_of(name, "f", i), O_WRONLY | O_TRUNC);

		must(fd >= 0, "open", name);
		memcpy(s->buffer, &(long){-i - 1}, sizeof(long));
		write_all(s, fd, s->size, name);
		must(close(fd) == 0, "close", name);
	}
}

static void do_rename(struct step *s)
{
	char from[32], to[32];

	for (long i = 0; i < s->n; i++)
		must(rename(name_of(from, "f", i), name_of(to, "r", i)) == 0, "rename",
			from);
}

static void do_unlink(struct step *s)
{
	char name[32];

	for (long i = 0; i < s->n; i++)
		must(unlink(name_of(name, "r", i)) == 0, "unlink", name);
}

/* Folders of PER_FOLDER files each. */
static void do_tree(struct step *s)
{
	char folder[32], name[64], leaf[32];

	for (long i = 0; i < s->n; i++) {
		name_of(folder, "d", i / PER_FOLDER);
		if (i % PER_FOLDER == 0)
			must(mkdir(folder, 0755) == 0, "mkdir", folder);
		snprintf(name, sizeof(name), "%s/%s", folder, name_of(leaf, "f", i));
		int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);

		must(fd >= 0, "create", name);
		write_all(s, fd, s->size, name);
		must(close(fd) == 0, "close", name);
	}
}

/* ---- one large file, "big" ---- */

static void do_seqwrite(struct step *s)
{
	int fd = open("big", O_WRONLY | O_CREAT | O_TRUNC, 0644);

	must(fd >= 0, "open", "big");
	for (size_t at = 0; at < s->size; at += s->block) {
		memcpy(s->buffer, &at, sizeof(at));
		write_all(s, fd, s->block, "big");
	}
	must(close(fd) == 0, "close", "big");
}

static void do_seqread(struct step *s)
{
	int fd = open("big", O_RDONLY);
	ssize_t got;

	must(fd >= 0, "open", "big");
	while ((got = read(fd, s->buffer, s->block)) > 0)
		s->done += (uint64_t)got;
	must(got == 0 && s->done > 0, "read", "big");
	must(close(fd) == 0, "close", "big");
}

static void do_randread(struct step *s)
{
	uint64_t state = 88172645463325252u;
	int fd = open("big", O_RDONLY);

	must(fd >= 0, "open", "big");
	for (long i = 0; i < s->n; i++) {
		size_t at = next_random(&state) % (s->size / s->block) * s->block;

		must(pread(fd, s->buffer, s->block, (off_t)at) == (ssize_t)s->block, "read",
			"big");
		s->done += s->block;
	}
	must(close(fd) == 0, "close", "big");
}

/* Every byte is copied out of the mapping: what a program that reads it does. */
static void do_mapread(struct step *s)
{
	int fd = open("big", O_RDONLY);
	char *map;

	must(fd >= 0, "open", "big");
	map = mmap(NULL, s->size, PROT_READ, MAP_SHARED, fd, 0);
	must(map != MAP_FAILED, "mmap", "big");
	for (size_t at = 0; at < s->size; at += s->block) {
		memcpy(s->buffer, map + at, s->block);
		s->done += s->block;
	}
	must(munmap(map, s->size) == 0, "munmap", "big");
	must(close(fd) == 0, "close", "big");
}

/* Into the middle of the large file. */
static void do_poke(struct step *s)
{
	struct timespec t;
	int fd = open("big", O_WRONLY);

	must(fd >= 0, "open", "big");
	clock_gettime(CLOCK_MONOTONIC, &t); /* else the next process changes nothing */
	memcpy(s->buffer, &t, sizeof(t));
	must(pwrite(fd, s->buffer, s->block, (off_t)(s->size / 2)) == (ssize_t)s->block,
		"write", "big");
	must(close(fd) == 0, "close", "big");
}

static const struct {
	const char *name;
	void (*run)(struct step *s);
} all[] = {
	{"create", do_create},
	{"read", do_read},
	{"stat", do_stat},
	{"missing", do_missing},
	{"append", do_append},
	{"overwrite", do_overwrite},
	{"rename", do_rename},
	{"unlink", do_unlink},
	{"tree", do_tree},
	{"seqwrite", do_seqwrite},
	{"seqread", do_seqread},
	{"randread", do_randread},
	{"mapread", do_mapread},
	{"poke", do_poke},
};

static void set(struct step *s, const char *key, const char *value)
{
	long long number = atoll(value);

	if (!strcmp(key, "as"))
		s->as = value;
	else if (!strcmp(key, "n"))
		s->n = (long)number;
	else if (!strcmp(key, "loops"))
		s->loops = (long)number;
	else if (!strcmp(key, "size"))
		s->size = (size_t)number;
	else if (!strcmp(key, "block"))
		s->block = (size_t)number;
	else
		fail("no such key:", key);
}

static void run_step(char *text, char *buffer)
{
	char *rest = text, *word, *value;
	struct step s = {.name = strsep(&rest, ":"), .n = 1, .loops = 1, .buffer = buffer};
	unsigned i = 0;

	s.size = s.block = 4096;
	while ((word = strsep(&rest, ":")) != NULL) {
		value = strchr(word, '=');
		errno = EINVAL;
		must(value != NULL, "no value:", word);
		*value = '\0';
		set(&s, word, value + 1);
	}
	errno = EINVAL;
	must(s.block > 0 && s.block <= BLOCK_MAX, "block out of range in", s.name);
	while (i < sizeof(all) / sizeof(all[0]) && strcmp(all[i].name, s.name))
		i++;
	must(i < sizeof(all) / sizeof(all[0]), "no such step:", s.name);

	double begin = now_s();

	for (long k = 0; k < s.loops; k++)
		all[i].run(&s);
	if (s.as)
		printf("%s %.9f %ld %llu\n", s.as, now_s() - begin, s.n * s.loops,
			(unsigned long long)s.done);
}

int main(int argc, char **argv)
{
	char *buffer = malloc(BLOCK_MAX + 4096), *rest, *text;
	uint64_t state = 1234567891011121314u;

	if (argc != 3 || !buffer) {
		fprintf(stderr, "usage: bench_client DIR STEP[:KEY=VALUE…][,STEP…]\n");
		return 2;
	}
	for (size_t i = 0; i < BLOCK_MAX + 4096; i += sizeof(state)) {
		next_random(&state);
		memcpy(buffer + i, &state, sizeof(state));
	}
	must(chdir(argv[1]) == 0, "chdir", argv[1]);
	rest = argv[2];
	while ((text = strsep(&rest, ",")) != NULL)
		run_step(text, buffer);
	return 0;
}
