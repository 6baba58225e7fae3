/*
 * store_bench.c - what storing and reading a content costs, by size, place and level.
 *
 *   store_bench FOLDER CORPUS
 *
 * FOLDER is on the disk to be measured; journals are made in it and removed. CORPUS is a
 * file of at least 1 MiB whose pieces stand for text (a tar of sources). Each case runs
 * five times; of each figure the median is printed, and the range of put. The table goes
 * into docs/SCHEMA.md as it is.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "journal/internal.h"

enum { TOTAL_BYTES = 64 * 1024 * 1024, COUNT_MAX = 4000, SIZE_MAX_ = 256 * 1024, RUNS = 5 };

struct corpus {
	const char *data;
	size_t size;
};

struct run {
	size_t size;
	bool text, in_row;
	int level;
};

struct figures {
	double put_us, cpu_us, read_us, written, stored;
};

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static double seconds(void)
{
	return (double)clock_boot_ns(clock_system()) / 1e9;
}

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Bytes this process sent to the disk. */
static double disk_bytes(void)
{
	char line[64];
	long long bytes = 0;
	FILE *f = fopen("/proc/self/io", "re");

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "write_bytes: %lld", &bytes);
	if (f)
		fclose(f);
	return (double)bytes;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* The n-th content: a piece of the corpus or noise, and never the same twice. */
static void make_content(
	const struct run *run, const struct corpus *c, uint64_t *seed, char *data)
{
	if (run->text) {
		size_t at = next_random(seed) % (c->size - run->size);

		memcpy(data, c->data + at, run->size);
	} else {
		for (size_t i = 0; i + 8 <= run->size; i += 8) {
			uint64_t word = next_random(seed);

			memcpy(data + i, &word, 8);
		}
	}
	next_random(seed);
	memcpy(data, seed, sizeof(*seed));
}

static void put_all(
	struct journal *j, const struct run *run, const struct corpus *c, uint64_t count)
{
	auto_free char *data = malloc(run->size);
	uint64_t seed = 88172645463325252ULL;
	uint64_t seq = 0;

	for (uint64_t i = 1; data && i <= count; i++) {
		struct version v = {.path = "f", .path_len = 1, .kind = VERSION_WRITE};
		struct capture content;

		make_content(run, c, &seed, data);
		must(!journal_next_seq(j, &seq), "seq");
		must(!journal_capture_bytes(data, run->size, &content), "capture");
		v.number = i;
		v.seq = seq;
		v.has_content = true;
		v.content = content.hash;
		v.size = content.size;
		must(!journal_append(j, &v, &content), "append");
	}
	must(!journal_wait(j, seq), "wait");
}

static void read_all(struct journal *j, uint64_t count)
{
	for (uint64_t i = 1; i <= count; i++) {
		struct version_row row;
		int fd = -1;

		must(journal_version(j, "f", 1, i, &row) == 1, "version");
		must(!journal_version_content(j, &row.v, &fd), "content");
		close(fd);
		version_row_done(&row);
	}
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

/* Everything until it is in its last place: the checkpoint of the log is part of it. */
static struct figures measure(
	const char *folder, const struct run *run, const struct corpus *corpus)
{
	uint64_t count =
		TOTAL_BYTES / run->size < COUNT_MAX ? TOTAL_BYTES / run->size : COUNT_MAX;
	struct journal_figures jf;
	struct figures f;
	struct journal *j;
	double start, cpu, disk, n = (double)count;
	char path[256];
	int dirfd;

	snprintf(path, sizeof(path), "%s/store-bench.XXXXXX", folder);
	must(mkdtemp(path) != NULL, path);
	dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(!journal_open(&j,
		     &(struct journal_options){.dirfd = dirfd, .clock = clock_system()}),
		"open");
	j->store.inline_max = run->in_row ? SIZE_MAX_ : 0;
	j->store.level = run->level;
	start = seconds();
	cpu = cpu_seconds();
	disk = disk_bytes();
	put_all(j, run, corpus, count);
	must(!journal_sync(j, journal_last_seq(j)), "sync");
	journal_figures(j, &jf);
	journal_close(j);
	f.put_us = (seconds() - start) * 1e6 / n;
	f.cpu_us = (cpu_seconds() - cpu) * 1e6 / n;
	f.written = (disk_bytes() - disk) / n / (double)run->size;
	f.stored = (double)jf.stored_bytes / (double)jf.content_bytes;
	must(!journal_open(&j,
		     &(struct journal_options){.dirfd = dirfd, .clock = clock_system()}),
		"open");
	start = seconds();
	read_all(j, count);
	f.read_us = (seconds() - start) * 1e6 / n;
	journal_close(j);
	close(dirfd);
	nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	return f;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Sorts the runs. */
static double median(double runs[RUNS])
{
	qsort(runs, RUNS, sizeof(*runs), compare_doubles);
	return runs[RUNS / 2];
}

static void print_run(const char *folder, struct run run, const struct corpus *corpus)
{
	double put[RUNS], cpu[RUNS], stored[RUNS], written[RUNS], reads[RUNS];

	for (int i = 0; i < RUNS; i++) {
		struct figures f = measure(folder, &run, corpus);

		put[i] = f.put_us;
		cpu[i] = f.cpu_us;
		stored[i] = f.stored;
		written[i] = f.written;
		reads[i] = f.read_us;
	}
	printf("| %s | %zu KiB | %s | %d | %.0f", run.text ? "text" : "noise",
		run.size / 1024, run.in_row ? "row" : "file", run.level, median(put));
	printf(" (%.0f-%.0f) | %.0f | %.2f | %.2f | %.0f |\n", put[0], put[RUNS - 1],
		median(cpu), median(stored), median(written), median(reads));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const size_t sizes[] = {4, 16, 32, 64, 128, 256};
	static const int levels[] = {-5, 1, 3, 6};
	struct corpus corpus;
	struct stat st;
	int fd;

	if (argc != 3) {
		fprintf(stderr, "usage: store_bench FOLDER CORPUS\n");
		return 2;
	}
	fd = open(argv[2], O_RDONLY | O_CLOEXEC);
	must(fd >= 0 && fstat(fd, &st) == 0, argv[2]);
	corpus.size = (size_t)st.st_size;
	corpus.data = mmap(NULL, corpus.size, PROT_READ, MAP_PRIVATE, fd, 0);
	must(corpus.data != MAP_FAILED && corpus.size > 2 * SIZE_MAX_, argv[2]);
	puts("| content | size | place | level | put us | cpu us | stored | written | read "
	     "us |");
	puts("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (int k = 0; k < 4; k++)
			print_run(argv[1],
				(struct run){sizes[i] * 1024, k < 2, k % 2 == 0,
					STORE_ZSTD_LEVEL},
				&corpus);
	}
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		print_run(argv[1], (struct run){4096, true, true, levels[i]}, &corpus);
		print_run(argv[1], (struct run){65536, true, true, levels[i]}, &corpus);
	}
	return 0;
}
