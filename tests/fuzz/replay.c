/*
 * replay.c - what a fuzzer found once, or was begun with, once more: a program for any
 * compiler, with a fuzz target linked in.
 *
 *   replay_NAME FOLDER
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"

__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const char *folder, const char *name)
{
	auto_free char *path = NULL;
	static uint8_t data[1 << 20];
	FILE *f;
	size_t n;

	if (asprintf(&path, "%s/%s", folder, name) < 0)
		abort();
	f = fopen(path, "re");
	if (!f) {
		perror(path);
		exit(1);
	}
	n = fread(data, 1, sizeof(data), f);
	fclose(f);
	printf("%s\n", name);
	fflush(stdout);
	LLVMFuzzerTestOneInput(data, n);
}

int main(int argc, char **argv)
{
	auto_dir DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	const struct dirent *e;
	int n = 0;

	if (!dir) {
		fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
		return 2;
	}
	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	for (; (e = readdir(dir)); n += *e->d_name != '.')
		if (*e->d_name != '.')
			run(argv[1], e->d_name);
	return n > 0 ? 0 : 1;
}
