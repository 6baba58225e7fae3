/*
 * driver_internal.h - the parts of driver.c: the private folder, and the process in it.
 */
#ifndef STOMP_FS_DRIVER_INTERNAL_H
#define STOMP_FS_DRIVER_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

enum { DRIVER_MAX_SAID = 1024 };

struct driver_folder {
	int in_fd; /* borrowed: where it is */
	int fd;
	char name[40];
};

/* A new folder of mode 0700, still the daemon's. -errno. */
must_check int driver_folder_make(struct driver_folder *f, int in_fd);

/* With everything that is in it by now, however deep. */
void driver_folder_remove(struct driver_folder *f);

struct driver_process {
	const char *command; /* for sh -c */
	const char *path;    /* for $STOMP_PATH */
	int64_t timeout_ns;
	int folder_fd;
	bool change_identity;
	uid_t uid;
	gid_t gid;
};

struct driver_end {
	bool timed_out;
	int signal;		    /* that killed it, or 0 */
	int exit_code;		    /* where it was none; DRIVER_NOT_RUN: said says why */
	char said[DRIVER_MAX_SAID]; /* the beginning of its stderr, not terminated */
	size_t n_said;
};

enum { DRIVER_NOT_RUN = 255 };

/* Runs it to its end. -errno where there is none to tell of. */
must_check int driver_process_run(const struct driver_process *p, struct driver_end *end);

#endif
