/*
 * identity.h - who is calling (W1–W5).
 *
 * Resolves a thread id, as FUSE reports it, to a process and its writer, by walking a
 * /proc that is injected (a folder fd; tests use a fake one). Cached by (pid, start
 * time); a reused pid is never taken for its predecessor.
 *
 * Thread-safe. A cached caller costs one or two cheap system calls and no allocation.
 * Never fails: whoever cannot be looked up is the writer `unknown` (W5).
 *
 * Writers live as long as the identity; processes are counted. A struct process never
 * changes: after an exec or a change of uid the next identity_take() answers with
 * another one of the same serial. Memory is bounded: the cache holds a few thousand
 * processes (forgetting one costs a new look-up, nothing else: the serial is a function
 * of pid and start time), and after 2^18 writers whoever is new is `unknown`.
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
	/* Relaxed atomics: a name goes from one run to the next, and from the journal to
	 * whoever claims it. */
	enum writer_rule rule;
	pid_t pid; /* of the process that gave the identity; 0: none */
	int64_t start_ns;
	uid_t uid; /* its real one; record this with the name, not a caller's */
	int64_t first_seen_ns, last_seen_ns; /* boot clock; last_seen is a relaxed atomic */
	uint64_t n_writes, n_refusals;	     /* for the table; relaxed atomics */
	/* 0: as the mount says; else EBUSY (S14). Relaxed atomic: a process looked up later
	 * may be another agent, or find another table. */
	int refusal_errno;
};

struct process {
	uint64_t serial; /* of (pid, start time); never reused; 0: `unknown` */
	pid_t pid;
	int64_t start_ns; /* CLOCK_BOOTTIME, floor of the kernel's 10 ms tick */
	uid_t uid;
	gid_t gid;
	struct writer *writer;
	enum writer_rule rule; /* that matched this process: evidence (W4) */
	/* The process whose tree it belongs to: the agent's instance, the launcher, the
	 * leader of the terminal session. 0: by its place among processes nothing is known.
	 */
	pid_t root_pid;
	int64_t root_start_ns;
	bool is_mind;	/* the agent process itself, or counted as itself (S1) */
	bool is_viewer; /* a program that shows content to the mind (S1) */
	char comm[32];
	char *command; /* command line for a person, at most 200 bytes, one line */
};

/* The writer table: which programs are agents, which variables name them, which
 * programs are viewers. Data, so that the policy file can replace it. Arrays end with
 * an entry whose first field is NULL. A table outlives every call of the identity. */
struct agent_entry {
	const char *name;	      /* "claude" */
	const char *const *programs;  /* basenames of exe, argv[0] or script */
	const char *const *variables; /* in the environment of its children */
	int refusal_errno;	      /* 0: default */
	/* argv[0] or argv[1] by which it starts parts of itself, through a sandbox or a
	 * shell too: they belong to the instance above them. Helpers count as its mind,
	 * tools (an embedded grep) do not. Either may be NULL. */
	const char *const *helpers, *const *tools;
	bool is_server; /* works for the agent above it, whichever that is (MCP) */
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
	/* Is this name an author's from before the mount? A process that is recognized by
	 * its place (W1 c, e, f) never takes such a name: it may be another's. May be
	 * NULL; may block on disk; called for each new writer only. */
	bool (*name_is_taken)(const char *name, void *ctx);
	/* But it may be its own: did this very process act under the name before the mount
	 * (the daemon was started anew, the agent was not)? The same terms. */
	bool (*name_is_its_own)(const char *name, pid_t pid, int64_t start_ns, void *ctx);
	void *name_ctx;
};

must_check int identity_new(struct identity **out, const struct identity_options *options);
struct identity *identity_free(struct identity *identity);

/* From now on by this table. It holds for processes looked up from now on, and for such as
 * exec; who is known already stays who it was, with what it is (a viewer, a mind). The
 * table before it must stay where it is: a look-up under way may still read it. */
void identity_set_table(struct identity *identity, const struct writer_table *table);

/* The process behind a thread id; takes a reference. tid 0 or unknown: a process of the
 * writer `unknown`, or of the mount's where it has one (W1a needs no look-up). */
struct process *identity_take(struct identity *identity, pid_t tid, uid_t uid, gid_t gid);
struct process *process_ref(struct process *p);
void process_put(struct identity *identity, struct process *p); /* NULL does nothing */

/* False once the process is gone (or its pid belongs to another, or it is a zombie).
 * What could not be looked up counts as alive. */
bool process_alive(struct identity *identity, const struct process *p);

/* A pidfd of the process for poll(), the caller's to close; -errno where it is gone or
 * the kernel has none. */
int process_pidfd(struct identity *identity, const struct process *p);

/* The process that stands for stompfs itself; borrowed. */
struct process *identity_daemon(struct identity *identity);

/* The writer of that name, made when there is none (an author read from the journal);
 * `unknown` when it cannot be made. A later `stomp run NAME` or STOMP_AGENT=NAME of the
 * same uid is that writer again; a process whose automatic name would be the same is
 * not, and gets a name with a suffix. So tell the identity the journal's authors before
 * the first caller comes. */
struct writer *identity_writer(struct identity *identity, const char *name, uid_t uid);
struct writer *identity_find_writer(struct identity *identity, const char *name);

/* Calls fn for each writer, in order of id, with the number of its known live processes. */
typedef void writer_fn(const struct writer *w, uint32_t n_processes, void *ctx);
void identity_each_writer(struct identity *identity, writer_fn *fn, void *ctx);

/* How the caller was recognized, for .stomp/me: a few lines. */
void process_explain(struct identity *identity, const struct process *p, struct buf *out);

#endif
