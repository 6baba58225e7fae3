/*
 * proc.h - reading /proc relative to an open folder of it.
 *
 * Stateless, so any thread may call. Everything read is untrusted: names hold any byte,
 * a process may vanish between two calls, and its pid may come back as another's.
 * Errors: -errno of the open or read (-ENOENT and -ESRCH: gone; -EACCES: not ours to
 * see), -EBADMSG where the text is not what the kernel writes.
 */
#ifndef STOMP_POLICY_PROC_H
#define STOMP_POLICY_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

enum {
	PROC_COMM_SIZE = 32,	     /* with the NUL; the kernel has 16 for user programs */
	PROC_CMDLINE_SIZE = 4096,    /* what is read of a command line */
	PROC_ENVIRON_SIZE = 1 << 17, /* what is read of an environment */
	PROC_PATH_SIZE = 1024,
	PROC_NS_DEPTH = 8, /* pid namespaces above each other that are looked at */
};

struct proc_stat {
	pid_t pid, ppid, session;
	int tty_nr; /* 0: no controlling terminal */
	uint32_t n_threads;
	uint64_t start_ticks; /* since boot */
	char state;
	char comm[PROC_COMM_SIZE]; /* raw bytes */
};

struct proc_status {
	pid_t tgid;
	uid_t uid;		      /* the real one: setuid programs cannot lend it */
	pid_t ns_pids[PROC_NS_DEPTH]; /* from ours inward; the first is the tid */
	uint32_t n_ns_pids;
};

must_check int proc_read_stat(int proc_fd, pid_t pid, struct proc_stat *out);
must_check int proc_read_status(int proc_fd, pid_t tid, struct proc_status *out);

/* A file of a process, at most size - 1 bytes and a NUL; *len without the NUL. */
must_check int proc_read(
	int proc_fd, pid_t pid, const char *file, char *text, size_t size, size_t *len);
must_check int proc_open(int proc_fd, pid_t pid, const char *file, int *fd);

/* Where exe points, without the kernel's " (deleted)"; "" when that cannot be read. */
void proc_read_exe(int proc_fd, pid_t pid, char path[PROC_PATH_SIZE]);

/* The process may still do something: it exists, began then, and is no zombie. */
bool proc_alive(int proc_fd, pid_t pid, uint64_t start_ticks);

/* True for the first process of a pid namespace. */
bool proc_status_is_init(const struct proc_status *s);

int64_t proc_ticks_ns(uint64_t ticks);

/* The text of /proc/PID/stat; false when it is not one. For tests and the fuzzer too. */
bool proc_parse_stat(const char *text, struct proc_stat *out);
bool proc_parse_status(const char *text, struct proc_status *out);

#endif
