/*
 * identity_private.h - what the files of identity share: the register of writers, the
 * cache of processes, and the resolver of rules.
 *
 * Register and cache are thread-safe; the register's one mutex is taken for processes
 * that are not in the cache only. The resolver has no state beside the register.
 */
#ifndef STOMP_POLICY_IDENTITY_PRIVATE_H
#define STOMP_POLICY_IDENTITY_PRIVATE_H

#include "policy/identity.h"
#include "policy/proc.h"
#include "policy/writer_table.h"

enum { WRITERS_MAX = 1 << 18 };

struct writers;

/* Who claims to be a writer. What the names are made of may hold any byte. */
struct writer_claim {
	enum writer_rule rule;
	pid_t pid;
	uint64_t start_ticks;
	uid_t uid;
	int refusal_errno;
	const char *name; /* wanted; sanitized and made unique */
};

must_check int writers_new(struct writers **out, const struct identity_options *options);
struct writers *writers_free(struct writers *ws);

/* All of these answer `unknown` when memory or WRITERS_MAX is reached: W5. */
struct writer *writers_unknown(struct writers *ws);
struct writer *writers_daemon(struct writers *ws);
struct writer *writers_bound(struct writers *ws); /* W1a; NULL without one */

/* One per (rule, pid, start). */
struct writer *writers_of_process(struct writers *ws, const struct writer_claim *c);

/* One per (uid, name); c->pid is a launcher's for WRITER_RUN. front: the launcher's own
 * parent, which is the same run seen earlier (pid 0: none). */
struct writer *writers_of_run(
	struct writers *ws, const struct writer_claim *c, const struct proc_stat *front);
struct writer *writers_of_name(struct writers *ws, const struct writer_claim *c);

/* One per (uid, variable, value). */
struct writer *writers_of_variable(struct writers *ws, const struct writer_claim *c,
	const char *variable, const char *value);

/* From now on that variable's value stands for w, unless it does for another one whose
 * process lives: children that outlive their agent stay its own. */
void writers_alias(struct writers *ws, struct writer *w, uid_t uid, const char *variable,
	const char *value);

struct writer *writers_from_journal(struct writers *ws, const char *name, uid_t uid);
struct writer *writers_find(struct writers *ws, const char *name);

/* What its refusals read as (S14), by the agent that a process of it belongs to. */
void writers_set_errno(struct writers *ws, struct writer *w, int refusal_errno);

void writers_touch(struct writers *ws, struct writer *w);
void writers_count(struct writer *w, int n_processes);
void writers_each(struct writers *ws, writer_fn *fn, void *ctx);

/* A value that only says "yes" tells nothing about which instance. */
bool variable_is_flag(const char *value);

/* What struct process is embedded in. All but refs is set before it is shared. */
struct process_entry {
	struct process p;
	uint32_t refs; /* atomic */
	pid_t giver;   /* the process that gave the identity; 0: none */
	char giver_comm[PROC_COMM_SIZE];
	char command[]; /* p.command */
};

struct process_entry *process_entry_new(const char *command); /* NULL: no memory */
struct process_entry *process_entry_of(const struct process *p);

/* Processes by pid, a bounded number of them; thread-safe, in shards. */
struct cache;
struct known;

must_check int cache_new(struct cache **out, int proc_fd, bool fake_proc);
struct cache *cache_free(struct cache *c);

/* A reference; NULL where it is not in the cache, or not as it was: gone, its pid
 * another's, another program, another uid. */
struct process *cache_take(struct cache *c, pid_t pid, uid_t uid, gid_t gid);

/* The process as it was known, whatever it runs now. */
struct process *cache_take_former(struct cache *c, pid_t pid, uint64_t start_ticks);

/* To be made before anything else of the process is read: an exec in between then shows
 * at the next cache_take(). cache_put() takes k and one reference of e over. */
struct known *known_new(const struct cache *c, pid_t pid);
void known_free(struct known *k);
void cache_put(
	struct cache *c, struct known *k, struct process_entry *e, uint64_t start_ticks);

/* Forget who has gone, so that the counts are of the living. */
void cache_sweep(struct cache *c);

struct resolver {
	int proc_fd;
	const struct writer_table *table;
	struct writers *writers;
};

struct resolution {
	struct proc_stat self;
	struct writer *writer;
	enum writer_rule rule;
	pid_t giver;	/* the process that gave the identity */
	pid_t root_pid; /* as in struct process */
	int64_t root_start_ns;
	char giver_comm[PROC_COMM_SIZE];
	bool by_self; /* the process' own program or environment gave it */
	bool is_mind, is_viewer;
	bool is_agent;	   /* its own program counts as an agent's mind, by the table */
	char command[201]; /* for a person: one line */
};

/* Who the process pid is, by W1 a–f. -ESRCH when it cannot be looked up (W5). */
must_check int resolver_run(const struct resolver *r, pid_t pid, struct resolution *out);

#endif
