/*
 * history.c - a journal with a long history, through the journal's own calls.
 *
 *   bench_history FOLDER VERSIONS PATHS
 *
 * FOLDER is a workspace that is not mounted. Makes .stomp/ in it with VERSIONS versions of
 * 96 bytes each, spread over PATHS paths "h/NNN/NNNNNN", by 16 writers; every hundredth is
 * of the path "h/hot". Goes on where an earlier run stopped. Nothing lies in the tree but
 * what the newest versions say: those are the caller's to make, where it needs them.
 * Prints the seconds taken.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "journal/journal.h"

enum { WRITERS = 16, HOT_EVERY = 100, HOT_PATH = 0 };

struct maker {
	struct journal *journal;
	uint64_t *numbers; /* the last version of each path; 0 is "h/hot" */
	uint64_t paths;
};

static void must(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "bench_history: %s: %s\n", what, strerror(-r));
	exit(1);
}

static int path_of(char path[64], uint64_t i)
{
	if (i == HOT_PATH)
		return snprintf(path, 64, "h/hot");
	return snprintf(path, 64, "h/%03u/%06u", (unsigned)(i / 1000), (unsigned)i);
}

static void append(struct maker *m, uint64_t count, uint64_t at)
{
	char path[64], text[96] = "", name[16];
	struct capture c = CAPTURE_NONE;
	struct version v = {.kind = VERSION_WRITE, .path = path, .has_content = true};

	v.path_len = (size_t)path_of(path, at);
	v.number = ++m->numbers[at];
	snprintf(text, sizeof(text), "version %llu of %s", (unsigned long long)v.number,
		path);
	snprintf(name, sizeof(name), "agent-%u", (unsigned)(count % WRITERS));
	must(journal_capture_bytes(text, sizeof(text), &c), "capture");
	must(journal_next_seq(m->journal, &v.seq), "seq");
	must(journal_next_epoch(m->journal, &v.epoch), "epoch");
	v.base_number = v.number - 1;
	v.content = c.hash;
	v.size = c.size;
	v.mode = S_IFREG | 0644;
	v.time_ns = v.mtime_ns = clock_wall_ns(clock_system());
	v.author = (struct author){.name = name,
		.pid = (pid_t)(1000 + count % WRITERS),
		.start_ns = 1,
		.rule = "run",
		.command = "bench"};
	must(journal_append(m->journal, &v, &c), "append");
	capture_done(&c);
}

/* Where an earlier run stopped. */
static void find_numbers(struct maker *m)
{
	for (uint64_t i = 0; i < m->paths; i++) {
		struct version_row row;
		char path[64];
		int r = journal_head(m->journal, path, (size_t)path_of(path, i), &row);

		must(r, "head");
		m->numbers[i] = row.last_number;
		if (r > 0)
			version_row_done(&row);
	}
}

int main(int argc, char **argv)
{
	struct journal_options options = {.clock = clock_system()};
	struct maker m = {0};
	int64_t begin = clock_boot_ns(clock_system());
	uint64_t versions;

	if (argc != 4) {
		fprintf(stderr, "usage: bench_history FOLDER VERSIONS PATHS\n");
		return 2;
	}
	versions = strtoull(argv[2], NULL, 10);
	m.paths = strtoull(argv[3], NULL, 10);
	m.numbers = calloc(m.paths, sizeof(*m.numbers));
	must(m.numbers && m.paths > 1 ? 0 : -EINVAL, argv[3]);
	must(chdir(argv[1]) < 0 ? -errno : 0, argv[1]);
	if (mkdir(".stomp", 0700) < 0 && errno != EEXIST)
		must(-errno, ".stomp");
	options.dirfd = open(".stomp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(options.dirfd < 0 ? -errno : 0, ".stomp");
	must(journal_open(&m.journal, &options), "open");
	find_numbers(&m);
	for (uint64_t i = 0; i < versions; i++)
		append(&m, i, i % HOT_EVERY == 0 ? HOT_PATH : 1 + i % (m.paths - 1));
	must(journal_wait(m.journal, journal_last_seq(m.journal)), "wait");
	journal_close(m.journal);
	close(options.dirfd);
	free(m.numbers);
	printf("%.3f\n", (double)(clock_boot_ns(clock_system()) - begin) / 1e9);
	return 0;
}
