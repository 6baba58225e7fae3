/*
 * fsx.h - random operations on two files through several handles, and what must come of it.
 *
 * A step stands alone: its numbers are brought into range when it runs, so that any part
 * of a list of steps can be run as well (that is how a list is shrunk). One line per step:
 *
 *     NUMBER OP FILE HANDLE A B C
 *
 * One thread. Returns 0, or FSX_WRONG after the difference was printed on stderr.
 */
#ifndef STOMP_TESTS_FSX_H
#define STOMP_TESTS_FSX_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { FSX_FILES = 2, FSX_HANDLES = 6, FSX_WRONG = 1, FSX_MAX_SIZE = 256 * 1024 };

enum fsx_op {
	FSX_OPEN,     /* the handle anew; A: with which flags */
	FSX_READ,     /* B bytes at A */
	FSX_WRITE,    /* B bytes at A, from the seed C */
	FSX_APPEND,   /* B bytes at the end */
	FSX_MAP,      /* map the handle's file, or unmap it */
	FSX_LOAD,     /* read through the mapping */
	FSX_STORE,    /* write through it; C odd: and msync */
	FSX_CUT,      /* ftruncate to A */
	FSX_CUT_PATH, /* truncate to A */
	FSX_PUNCH,    /* a hole of B bytes at A */
	FSX_ZERO,     /* zeroes of B bytes at A; C odd: the size stays */
	FSX_ALLOCATE, /* room for B bytes at A; C odd: the size stays */
	FSX_COPY,     /* B bytes at A of the file to C of the handle's file */
	FSX_SEND,     /* sendfile of B bytes at A */
	FSX_SYNC,     /* fsync, fdatasync */
	FSX_RENAME,   /* to another name and back */
	FSX_LINK,     /* write B bytes at A through a hard link, that goes then */
	FSX_SAVE,     /* B new bytes by a temporary that is renamed onto the file */
	FSX_EMPTY,    /* open with O_TRUNC */
	FSX_SEEK,     /* SEEK_DATA and SEEK_HOLE: data is where bytes are not zero */
	FSX_CHECK,    /* size and every byte */
	FSX_OPS,
};

struct fsx_step {
	enum fsx_op op;
	unsigned file, handle;
	uint64_t a, b, c;
};

struct fsx_counts {
	unsigned long done[FSX_OPS];
	unsigned long unsupported[FSX_OPS];
};

/* The name of an operation in lists and reports. */
const char *fsx_name(enum fsx_op op);

/* The names that a run in dir uses, by number; -1: there are no more. */
int fsx_file_name(const char *dir, int number, char *path, size_t room);

/* Run n steps in the folder dir, which has to be empty. counts may be NULL. */
int fsx_run(
	const char *dir, const struct fsx_step *steps, size_t n, struct fsx_counts *counts);

#endif
