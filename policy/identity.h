/*
 * identity.h - who is calling (W1–W5).
 *
 * Resolves a thread id, as FUSE reports it, to a process and its writer, by walking a
 * /proc that is injected (a folder fd; tests use a fake one). Cached by (pid, start
 * time); a reused pid is never taken for its predecessor.
 *
 * Thread-safe. A cached caller costs two cheap system calls and no allocation. Never
 * fails: whoever cannot be looked up is the writer `unknown` (W5).
 *
 * Writers live as long as the identity; processes are counted.
 */
#ifndef STOMP_POLICY_IDENTITY_H
#define STOMP_POLICY_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/clock.h"

struct identity;

enum writer_rule {
	WRITER_UNKNOWN,	 /* W5 */
	WRITER_MOUNT,	 /* W1a: -o writer=NAME */
	WRITER_RUN,	 /* W1b: stomp run NAME */
	WRITER_AGENT,	 /* W1c: a known agent among the ancestors */
	WRITER_VARIABLE, /* W1d: an environment variable */
	WRITER_TERMINAL, /* W1e: leader of the terminal session */
	WRITER_ANCESTOR, /* W1f: topmost ancestor below init or its reaper */
	WRITER_DAEMON,	 /* stompfs itself: recovery, external changes */
};

const char *writer_rule_name(enum writer_rule rule); /* "run", "agent", … */

struct writer {
	uint32_t id; /* small, dense, never reused while mounted; 0 is `unknown` */
	char *name;  /* unique while mounted: "alice", "claude-4312" */
	enum writer_rule rule;
	uid_t uid;
	pid_t pid; /* of the process that gave the identity; 0: none */
	int64_t start_ns;
	int64_t first_seen_ns, last_seen_ns; /* boot clock; last_seen is a relaxed atomic */
	uint64_t n_writes, n_refusals;	     /* for the table; relaxed atomics */
	int refusal_errno;		     /* 0: as the mount says; else EBUSY… (S14) */
};

struct process {
	uint64_t serial; /* never reused while mounted */
	pid_t pid;
	int64_t start_ns; /* CLOCK_BOOTTIME, floor of the kernel's 10 ms tick */
	uid_t uid;
	gid_t gid;
	struct writer *writer;
	bool is_mind;	/* the agent process itself, or counted as itself (S1) */
	bool is_viewer; /* a program that shows content to the mind (S1) */
	char comm[32];
	char *command; /* command line for a person, at most 200 bytes, one line */
};

/* The writer table: which programs are agents, which variables name them, which
 * programs are viewers. Data, so that the policy file can replace it. Arrays end with
 * an entry whose first field is NULL. The table outlives the identity. */
struct agent_entry {
	const char *name;	      /* "claude" */
	const char *const *programs;  /* basenames of exe, argv[0] or script */
	const char *const *variables; /* in the environment of its children */
	int refusal_errno;	      /* 0: default */
};

struct writer_table {
	const struct agent_entry *agents;
	const char *const *viewers; /* "cat", "head", "sed -n" (program and first option) */
};

const struct writer_table *writer_table_builtin(void);

struct identity_options {
	int proc_fd;		/* an open /proc; stays the caller's */
	bool fake_proc;		/* tests: liveness comes from proc_fd, not from signals */
	const char *bound_name; /* W1a, or NULL */
	const struct writer_table *table;
	const struct clock *clock;
};

must_check int identity_new(struct identity **out, const struct identity_options *options);
struct identity *identity_free(struct identity *identity);

/* The process behind a thread id; takes a reference. tid 0 or unknown: the process of
 * the writer `unknown`. */
struct process *identity_take(struct identity *identity, pid_t tid, uid_t uid, gid_t gid);
struct process *process_ref(struct process *p);
void process_put(struct identity *identity, struct process *p); /* NULL does nothing */

/* False once the process is gone (or its pid belongs to another). */
bool process_alive(struct identity *identity, const struct process *p);

/* A pidfd of the process for poll(), the caller's to close; -errno where it is gone or
 * the kernel has none. */
int process_pidfd(struct identity *identity, const struct process *p);

/* The process that stands for stompfs itself; borrowed. */
struct process *identity_daemon(struct identity *identity);

/* The writer of that name, made when there is none (an author read from the journal). */
struct writer *identity_writer(struct identity *identity, const char *name, uid_t uid);
struct writer *identity_find_writer(struct identity *identity, const char *name);

typedef void writer_fn(const struct writer *w, uint32_t n_processes, void *ctx);
void identity_each_writer(struct identity *identity, writer_fn *fn, void *ctx);

/* How the caller was recognized, for .stomp/me: a few lines. */
void process_explain(struct identity *identity, const struct process *p, struct buf *out);

#endif
