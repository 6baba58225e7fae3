/*
 * fake_proc.h - a /proc made of ordinary files in a folder of its own, for tests.
 *
 * Any failure ends the test.
 */
#ifndef STOMP_TESTS_FAKE_PROC_H
#define STOMP_TESTS_FAKE_PROC_H

#include <sys/types.h>

struct fake_proc {
	char dir[64];
	int fd;
};

struct fake_process {
	pid_t pid, ppid;
	unsigned long long start; /* ticks */
	const char *comm;
	const char *args; /* separated by '|'; NULL: none can be read */
	const char *env;  /* as args */
	const char *exe, *cgroup;
	pid_t session;
	int tty;
	uid_t uid;
	pid_t tgid;	   /* 0: pid */
	const char *nspid; /* NULL: the pid alone */
	char state;	   /* 0: 'S' */
};

void fake_proc_init(struct fake_proc *f);
void fake_proc_done(struct fake_proc *f);

/* Make or replace. */
void fake_proc_put(struct fake_proc *f, const struct fake_process *p);
void fake_proc_remove(struct fake_proc *f, pid_t pid);

#endif
