/*
 * fsx-like: random operations on two files through several handles, compared with what
 * is known to have been written. Works on any file system.
 *
 *     fsx-like DIR [--seed N] [--steps N] [--log FILE] [--replay FILE] [--shrink]
 *
 * --replay runs the steps of a log; --shrink looks for the shortest list of steps that
 * fails as well and writes that to the log. Exit: 0 nothing found, 1 a difference, 2 usage.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/conformance/fsx.h"

enum { EXIT_USAGE = 2, MAX_STEPS = 10 * 1000 * 1000 };

struct program {
	const char *dir, *log, *replay;
	uint64_t seed;
	size_t n_steps;
	bool shrink;
	struct fsx_step *steps;
};

/* ---- drawing ---- */

static uint64_t draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* Offsets and lengths: often of a page or at one, often tiny, now and then anything. */
static uint64_t draw_number(uint64_t *state)
{
	uint64_t x = draw(state);

	switch (draw(state) % 4) {
	case 0:
		return x % 64;
	case 1:
		return (x % 64) * 4096 + (draw(state) % 3) - 1;
	case 2:
		return x % (16 * 1024);
	default:
		return x % FSX_MAX_SIZE;
	}
}

static void draw_steps(struct fsx_step *steps, size_t n, uint64_t seed)
{
	static const unsigned char weight[FSX_OPS] = {[FSX_OPEN] = 4,
		[FSX_READ] = 10,
		[FSX_WRITE] = 10,
		[FSX_APPEND] = 4,
		[FSX_MAP] = 2,
		[FSX_LOAD] = 8,
		[FSX_STORE] = 8,
		[FSX_CUT] = 3,
		[FSX_CUT_PATH] = 2,
		[FSX_PUNCH] = 4,
		[FSX_ZERO] = 3,
		[FSX_ALLOCATE] = 3,
		[FSX_COPY] = 5,
		[FSX_SEND] = 2,
		[FSX_SYNC] = 1,
		[FSX_RENAME] = 2,
		[FSX_LINK] = 2,
		[FSX_SAVE] = 1,
		[FSX_EMPTY] = 1,
		[FSX_SEEK] = 2,
		[FSX_CHECK] = 3};
	unsigned total = 0;

	for (int i = 0; i < FSX_OPS; i++)
		total += weight[i];
	for (size_t i = 0; i < n; i++) {
		unsigned at = (unsigned)(draw(&seed) % total), op = 0;

		while (at >= weight[op])
			at -= weight[op++];
		steps[i] = (struct fsx_step){
			.op = (enum fsx_op)op,
			.file = (unsigned)(draw(&seed) % FSX_FILES),
			.handle = (unsigned)(draw(&seed) % FSX_HANDLES),
			.a = draw_number(&seed),
			.b = draw_number(&seed),
			.c = draw_number(&seed),
		};
	}
}

/* ---- lists in files ---- */

static int write_log(const char *path, const struct fsx_step *steps, size_t n)
{
	FILE *log = fopen(path, "we");

	if (!log) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	for (size_t i = 0; i < n; i++)
		fprintf(log, "%zu %s %u %u %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", i + 1,
			fsx_name(steps[i].op), steps[i].file, steps[i].handle, steps[i].a,
			steps[i].b, steps[i].c);
	return fclose(log);
}

static int read_step(const char *line, struct fsx_step *s)
{
	char name[16];

	if (sscanf(line, "%*u %15s %u %u %" SCNu64 " %" SCNu64 " %" SCNu64, name, &s->file,
		    &s->handle, &s->a, &s->b, &s->c) != 6)
		return -1;
	for (int op = 0; op < FSX_OPS; op++)
		if (strcmp(name, fsx_name((enum fsx_op)op)) == 0) {
			s->op = (enum fsx_op)op;
			return 0;
		}
	return -1;
}

static int read_log(struct program *p)
{
	FILE *log = fopen(p->replay, "re");
	char line[256];
	int r = 0;

	if (!log) {
		fprintf(stderr, "%s: %s\n", p->replay, strerror(errno));
		return -1;
	}
	p->n_steps = 0;
	while (r == 0 && fgets(line, sizeof(line), log)) {
		struct fsx_step *more =
			reallocarray(p->steps, p->n_steps + 1, sizeof(*more));

		if (!more) {
			r = -1;
			break;
		}
		p->steps = more;
		r = read_step(line, &p->steps[p->n_steps++]);
		if (r < 0)
			fprintf(stderr, "%s: line %zu is no step\n", p->replay, p->n_steps);
	}
	fclose(log);
	return r;
}

/* ---- shrinking ---- */

/* In a child: a difference in a mapping may end as a signal. */
static bool fails(const struct program *p, const struct fsx_step *steps, size_t n)
{
	pid_t child = fork();
	char leftover[4096];
	int status;

	if (child == 0) {
		if (!freopen("/dev/null", "w", stderr))
			_exit(FSX_WRONG);
		_exit(fsx_run(p->dir, steps, n, NULL));
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status == 0)
		return false;
	for (int i = 0; fsx_file_name(p->dir, i, leftover, sizeof(leftover)) == 0; i++)
		unlink(leftover); /* a signal left it */
	return true;
}

/* Leave out ever smaller parts as long as what remains still fails. */
static void shrink(struct program *p)
{
	struct fsx_step *left = calloc(p->n_steps + 1, sizeof(*left));

	for (size_t part = p->n_steps / 2; left && part > 0; part /= 2)
		for (size_t at = 0; at + part <= p->n_steps;) {
			size_t rest = p->n_steps - at - part;

			memcpy(left, p->steps, at * sizeof(*left));
			memcpy(left + at, p->steps + at + part, rest * sizeof(*left));
			if (!fails(p, left, at + rest)) {
				at += part;
				continue;
			}
			memcpy(p->steps, left, (at + rest) * sizeof(*left));
			p->n_steps = at + rest;
		}
	free(left);
}

/* ---- the program ---- */

static int usage(void)
{
	fprintf(stderr, "usage: fsx-like DIR [--seed N] [--steps N] [--log FILE] "
			"[--replay FILE] [--shrink]\n");
	return EXIT_USAGE;
}

static int parse(int argc, char **argv, struct program *p)
{
	static const struct option options[] = {
		{"seed", required_argument, NULL, 's'},
		{"steps", required_argument, NULL, 'n'},
		{"log", required_argument, NULL, 'l'},
		{"replay", required_argument, NULL, 'r'},
		{"shrink", no_argument, NULL, 'x'},
		{0},
	};
	int c;

	*p = (struct program){.seed = 1, .n_steps = 2000};
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 's':
			p->seed = strtoull(optarg, NULL, 10);
			break;
		case 'n':
			p->n_steps = strtoull(optarg, NULL, 10);
			break;
		case 'l':
			p->log = optarg;
			break;
		case 'r':
			p->replay = optarg;
			break;
		case 'x':
			p->shrink = true;
			break;
		default:
			return -1;
		}
	if (optind + 1 != argc || p->n_steps == 0 || p->n_steps > MAX_STEPS)
		return -1;
	p->dir = argv[optind];
	return 0;
}

static void print_counts(const struct program *p, const struct fsx_counts *counts)
{
	printf("seed %" PRIu64 ", %zu steps:", p->seed, p->n_steps);
	for (int op = 0; op < FSX_OPS; op++) {
		printf(" %s %lu", fsx_name((enum fsx_op)op), counts->done[op]);
		if (counts->unsupported[op])
			printf(" (%lu unsupported)", counts->unsupported[op]);
	}
	printf("\n");
}

int main(int argc, char **argv)
{
	struct fsx_counts counts = {0};
	struct program p;
	int r;

	if (parse(argc, argv, &p) < 0)
		return usage();
	if (p.replay) {
		if (read_log(&p) < 0)
			return EXIT_USAGE;
	} else {
		p.steps = calloc(p.n_steps, sizeof(*p.steps));
		if (!p.steps)
			return EXIT_USAGE;
		draw_steps(p.steps, p.n_steps, p.seed);
	}
	/* Written first: it is there also after a signal. */
	if (p.log && write_log(p.log, p.steps, p.n_steps) < 0)
		return EXIT_USAGE;
	r = p.shrink ? fails(&p, p.steps, p.n_steps)
		     : fsx_run(p.dir, p.steps, p.n_steps, &counts);
	if (r != 0 && p.shrink) {
		shrink(&p);
		fprintf(stderr, "%zu steps are left\n", p.n_steps);
		if (p.log)
			(void)!write_log(p.log, p.steps, p.n_steps);
		fsx_run(p.dir, p.steps, p.n_steps, &counts);
	}
	if (r == 0)
		print_counts(&p, &counts);
	free(p.steps);
	return r;
}
