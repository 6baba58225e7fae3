#include "policy/identity.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "policy/identity_private.h"

enum {
	HINTS = 4096,
	PID_BITS = 22,	   /* the kernel's PID_MAX_LIMIT */
	SERIAL_DAEMON = 1, /* no process: of those, start + 1 stands above the pid */
};

struct identity {
	const struct writer_table *table; /* atomic */
	int proc_fd;
	bool fake_proc;
	struct writers *writers;
	struct cache *cache;
	struct process_entry *daemon, *nobody; /* nobody: when there is no memory */
	uint64_t hints[HINTS]; /* relaxed atomics: tid << 32 | tgid, to be verified */
};

const char *writer_rule_name(enum writer_rule rule)
{
	static const char *const names[] = {
		[WRITER_UNKNOWN] = "unknown",
		[WRITER_MOUNT] = "mount",
		[WRITER_RUN] = "run",
		[WRITER_AGENT] = "agent",
		[WRITER_VARIABLE] = "variable",
		[WRITER_TERMINAL] = "terminal",
		[WRITER_ANCESTOR] = "ancestor",
		[WRITER_DAEMON] = "daemon",
	};

	assert((size_t)rule < ARRAY_SIZE(names));
	return names[rule];
}

/* start_ticks + 1 keeps 0 for `unknown` and everything below 2^22 for ourselves. */
static uint64_t serial_of(pid_t pid, uint64_t start_ticks)
{
	return ((start_ticks + 1) << PID_BITS) | (uint64_t)pid;
}

static uint64_t start_of(const struct process *p)
{
	return (p->serial >> PID_BITS) - 1;
}

/*
 * An exec keeps the writer, unless the new program or its environment says more, or a
 * stronger rule finds something now. The lineage by which it was first known may be
 * gone: an orphan that execs stays whose it was (W2, W3).
 */
static void keep_former(struct resolution *res, const struct process *former)
{
	const struct process_entry *e = process_entry_of(former);

	if (former->rule == WRITER_UNKNOWN || res->rule < former->rule ||
		(res->rule == former->rule && res->by_self))
		return;
	res->writer = former->writer;
	res->rule = former->rule;
	/* What is the mind by being this process stays it; what was by its program not. */
	res->is_mind =
		res->is_agent ||
		(former->is_mind && (e->giver == former->pid || res->rule == WRITER_RUN));
	res->giver = e->giver;
	res->root_pid = former->root_pid;
	res->root_start_ns = former->root_start_ns;
	memcpy(res->giver_comm, e->giver_comm, sizeof(res->giver_comm));
}

static struct process_entry *entry_from(const struct resolution *res, uid_t uid, gid_t gid)
{
	struct process_entry *e = process_entry_new(res->command);

	if (!e)
		return NULL;
	e->p.serial = serial_of(res->self.pid, res->self.start_ticks);
	e->p.pid = res->self.pid;
	e->p.start_ns = proc_ticks_ns(res->self.start_ticks);
	e->p.uid = uid;
	e->p.gid = gid;
	e->p.writer = res->writer;
	e->p.rule = res->rule;
	e->p.is_mind = res->is_mind;
	e->p.is_viewer = res->is_viewer;
	memcpy(e->p.comm, res->self.comm, sizeof(e->p.comm));
	e->p.root_pid = res->root_pid;
	e->p.root_start_ns = res->root_start_ns;
	e->giver = res->giver;
	memcpy(e->giver_comm, res->giver_comm, sizeof(e->giver_comm));
	return e;
}

static struct process *resolve(struct identity *id, pid_t tgid, uid_t uid, gid_t gid)
{
	struct known *k = known_new(id->cache, tgid);
	struct process_entry *e = NULL;
	struct process *former;
	struct resolution res;
	struct resolver resolver = {
		/* one table for the whole of a look-up */
		.proc_fd = id->proc_fd,
		.table = __atomic_load_n(&id->table, __ATOMIC_ACQUIRE),
		.writers = id->writers,
	};

	if (!k)
		return NULL;
	if (resolver_run(&resolver, tgid, &res) < 0) {
		known_free(k);
		return NULL;
	}
	former = cache_take_former(id->cache, tgid, res.self.start_ticks);
	if (former) {
		keep_former(&res, former);
		process_put(id, former);
	}
	e = entry_from(&res, uid, gid);
	if (!e) {
		known_free(k);
		return NULL;
	}
	process_ref(&e->p); /* one for the cache, one for the caller */
	cache_put(id->cache, k, e, res.self.start_ticks);
	return &e->p;
}

static void hint_set(struct identity *id, pid_t tid, pid_t tgid)
{
	__atomic_store_n(&id->hints[tid % HINTS],
		((uint64_t)(uint32_t)tid << 32) | (uint32_t)tgid, __ATOMIC_RELAXED);
}

/* The process a thread was last seen in; 0: not known, or no longer so. */
static pid_t hint_get(struct identity *id, pid_t tid)
{
	uint64_t hint = __atomic_load_n(&id->hints[tid % HINTS], __ATOMIC_RELAXED);
	pid_t tgid = (pid_t)(uint32_t)hint;

	if (id->fake_proc || (pid_t)(hint >> 32) != tid)
		return 0;
	/* The first thread needs no question: the process' own check tells. */
	if (tgid == tid || syscall(SYS_tgkill, tgid, tid, 0) == 0 || errno == EPERM)
		return tgid;
	return 0;
}

static struct process *look_up(struct identity *id, pid_t tid, uid_t uid, gid_t gid)
{
	pid_t tgid = hint_get(id, tid);
	struct proc_status status;
	struct process *p = NULL;

	if (tgid)
		p = cache_take(id->cache, tgid, uid, gid);
	if (p)
		return p;
	if (proc_read_status(id->proc_fd, tid, &status) < 0 || status.tgid <= 0)
		return NULL;
	hint_set(id, tid, status.tgid);
	if (status.tgid != tgid)
		p = cache_take(id->cache, status.tgid, uid, gid);
	return p ?: resolve(id, status.tgid, uid, gid);
}

/* W5, or the mount's own writer: W1a asks nothing. */
static struct process *nobody(struct identity *id, pid_t tid, uid_t uid, gid_t gid)
{
	struct writer *bound = writers_bound(id->writers);
	struct process_entry *e = process_entry_new("");

	if (!e)
		return process_ref(&id->nobody->p);
	e->p.pid = tid;
	e->p.uid = uid;
	e->p.gid = gid;
	e->p.writer = bound ?: writers_unknown(id->writers);
	e->p.rule = bound ? WRITER_MOUNT : WRITER_UNKNOWN;
	return &e->p;
}

struct process *identity_take(struct identity *identity, pid_t tid, uid_t uid, gid_t gid)
{
	struct process *p = NULL;

	if (tid > 0)
		p = look_up(identity, tid, uid, gid);
	if (!p)
		p = nobody(identity, tid, uid, gid);
	writers_touch(identity->writers, p->writer);
	return p;
}

void identity_set_table(struct identity *identity, const struct writer_table *table)
{
	__atomic_store_n(&identity->table, table, __ATOMIC_RELEASE);
}

bool process_alive(struct identity *identity, const struct process *p)
{
	if (p->serial <= SERIAL_DAEMON)
		return true;
	return proc_alive(identity->proc_fd, p->pid, start_of(p));
}

int process_pidfd(struct identity *identity, const struct process *p)
{
	auto_close int fd = -1;

	if (p->serial <= SERIAL_DAEMON || identity->fake_proc)
		return -ESRCH;
	fd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	if (fd < 0)
		return -errno;
	/* Only now: the descriptor holds whoever had the pid when it was opened. */
	if (!process_alive(identity, p))
		return -ESRCH;
	return steal_fd(&fd);
}

struct process *identity_daemon(struct identity *identity)
{
	return &identity->daemon->p;
}

struct writer *identity_writer(struct identity *identity, const char *name, uid_t uid)
{
	return writers_from_journal(identity->writers, name, uid);
}

struct writer *identity_find_writer(struct identity *identity, const char *name)
{
	return writers_find(identity->writers, name);
}

void identity_each_writer(struct identity *identity, writer_fn *fn, void *ctx)
{
	cache_sweep(identity->cache);
	writers_each(identity->writers, fn, ctx);
}

static const char *explain_rule(enum writer_rule rule)
{
	switch (rule) {
	case WRITER_UNKNOWN:
		return "the caller could not be looked up";
	case WRITER_MOUNT:
		return "the mount has -o writer=NAME";
	case WRITER_RUN:
		return "started by `stomp run`";
	case WRITER_AGENT:
		return "a known agent program is above it";
	case WRITER_VARIABLE:
		return "an environment variable names the agent";
	case WRITER_TERMINAL:
		return "the leader of its terminal session";
	case WRITER_ANCESTOR:
		return "the topmost process above it";
	case WRITER_DAEMON:
		return "stompfs itself";
	}
	return "";
}

void process_explain(struct identity *identity, const struct process *p, struct buf *out)
{
	const struct process_entry *e = process_entry_of(p);

	(void)identity;
	buf_printf(out, "writer %s, by the rule \"%s\": %s\n", p->writer->name,
		writer_rule_name(p->rule), explain_rule(p->rule));
	if (e->giver > 0) {
		buf_printf(out, "recognized by process %d (", (int)e->giver);
		buf_put_name(out, e->giver_comm, strlen(e->giver_comm));
		buf_puts(out,
			e->giver == p->pid ? "), which is the caller itself\n" : ")\n");
	}
	buf_printf(out, "process %d of uid %u: ", (int)p->pid, (unsigned)p->uid);
	buf_put_name(out, p->command, strlen(p->command));
	buf_putc(out, '\n');
	if (p->is_mind)
		buf_puts(out, "what it reads counts as known to the writer (S1)\n");
	else if (p->is_viewer)
		buf_puts(out, "what it shows counts as known to the writer (S1)\n");
	else
		buf_puts(out, "what it reads counts for its own changes alone (S1)\n");
}

static int add_standing(struct identity *id)
{
	struct proc_stat st;

	id->nobody = process_entry_new("");
	id->daemon = process_entry_new("stompfs");
	if (!id->nobody || !id->daemon)
		return -ENOMEM;
	id->nobody->p.uid = (uid_t)-1;
	id->nobody->p.gid = (gid_t)-1;
	id->nobody->p.writer = writers_bound(id->writers) ?: writers_unknown(id->writers);
	id->nobody->p.rule = id->nobody->p.writer->rule;
	id->daemon->p.serial = SERIAL_DAEMON;
	id->daemon->p.pid = getpid();
	id->daemon->p.uid = geteuid();
	id->daemon->p.gid = getegid();
	id->daemon->p.writer = writers_daemon(id->writers);
	id->daemon->p.rule = WRITER_DAEMON;
	snprintf(id->daemon->p.comm, sizeof(id->daemon->p.comm), "stompfs");
	if (proc_read_stat(id->proc_fd, getpid(), &st) == 0)
		id->daemon->p.start_ns = proc_ticks_ns(st.start_ticks);
	return 0;
}

int identity_new(struct identity **out, const struct identity_options *options)
{
	struct identity *id = calloc(1, sizeof(*id));
	int r;

	if (!id)
		return -ENOMEM;
	id->fake_proc = options->fake_proc;
	r = writers_new(&id->writers, options);
	if (r == 0)
		r = cache_new(&id->cache, options->proc_fd, options->fake_proc);
	if (r == 0) {
		id->proc_fd = options->proc_fd;
		id->table = options->table;
		r = add_standing(id);
	}
	if (r < 0) {
		identity_free(id);
		return r;
	}
	*out = id;
	return 0;
}

struct identity *identity_free(struct identity *identity)
{
	if (!identity)
		return NULL;
	cache_free(identity->cache);
	free(identity->daemon);
	free(identity->nobody);
	writers_free(identity->writers);
	free(identity);
	return NULL;
}
