#include <malloc.h>

#include "fs/op.h"
#include "fs/state.h"
#include "fs/vtree_internal.h"

/* OpenMetrics 1.0: a counter's sample ends in _total, and the text in # EOF. */

static void gauge(struct buf *out, const char *name, const char *help, uint64_t value)
{
	buf_printf(out, "# TYPE stompfs_%s gauge\n# HELP stompfs_%s %s\nstompfs_%s %llu\n",
		name, name, help, name, (unsigned long long)value);
}

static void counter(struct buf *out, const char *name, const char *help, uint64_t value)
{
	buf_printf(out,
		"# TYPE stompfs_%s counter\n# HELP stompfs_%s %s\nstompfs_%s_total %llu\n",
		name, name, help, name, (unsigned long long)value);
}

static void put_info(struct buf *out)
{
	buf_printf(out,
		"# TYPE stompfs_build info\n"
		"# HELP stompfs_build What is running.\n"
		"stompfs_build_info{version=\"%s\",libfuse=\"%s\"} 1\n",
		STOMPFS_VERSION, fuse_pkgversion());
}

static void put_seconds(
	struct buf *out, const char *name, const char *type, const char *help, int64_t ns)
{
	const char *suffix = type[0] == 'c' ? "_total" : "";

	buf_printf(out,
		"# TYPE stompfs_%s_seconds %s\n# UNIT stompfs_%s_seconds seconds\n"
		"# HELP stompfs_%s_seconds %s\nstompfs_%s_seconds%s %lld.%09lld\n",
		name, type, name, name, help, name, suffix, (long long)(ns / NS_PER_S),
		(long long)(ns % NS_PER_S));
}

static void put_counters(struct workspace *ws, struct buf *out)
{
	struct counters *c = &ws->counters;
	const struct {
		const char *name, *help;
		uint64_t *value;
	} all[] = {
		{"lookups", "Names looked up.", &c->lookups},
		{"opens", "Files opened.", &c->opens},
		{"reads", "Read requests that reached the daemon.", &c->reads},
		{"writes", "Write requests.", &c->writes},
		{"read_bytes", "Bytes read through the daemon.", &c->bytes_read},
		{"written_bytes", "Bytes written.", &c->bytes_written},
		{"grants", "Leases granted.", &c->grants},
		{"takeovers", "Lapsed leases taken over, their holders fenced.",
			&c->takeovers},
		{"waits", "Requests that waited for a lease.", &c->waits},
		{"deadlocks", "Writers found waiting for each other.", &c->deadlocks},
		{"refused_held", "Changes refused: another held the lease.",
			&c->refused_held},
		{"refused_stale",
			"Changes refused: the file had changed since it was read.",
			&c->refused_stale},
		{"refused_fenced", "Changes refused: the handle's lease was taken over.",
			&c->refused_fenced},
		{"captures", "Contents captured for the history.", &c->captures},
		{"captures_partial", "Of them, those that took only what had changed.",
			&c->captures_partial},
		{"captures_whole", "Of them, those that took the whole file.",
			&c->captures_whole},
		{"captures_behind", "Of them, large ones given to a thread of their own.",
			&c->captures_behind},
		{"captures_waited_for",
			"Changes that came while one of those was under way.",
			&c->captures_waited_for},
		{"captured_bytes", "Bytes taken by captures.", &c->bytes_captured},
		{"pending_changes", "Changes held back until their verdict.",
			&c->pending_changes},
		{"forks", "Files replaced under mappings of a fenced writer.", &c->forks},
		{"passthrough_opens", "Files opened that the kernel reads by itself.",
			&c->passthrough_opens},
		{"twins", "Inodes made anew for who could not share the readers' mode.",
			&c->twins},
		{"invalidations", "Cache invalidations sent to the kernel.",
			&c->invalidations},
		{"uring_requests", "Requests that came over io_uring.", &c->uring_requests},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
		counter(out, all[i].name, all[i].help,
			__atomic_load_n(all[i].value, __ATOMIC_RELAXED));
	gauge(out, "captures_under_way", "Large contents being captured or about to be.",
		__atomic_load_n(&c->captures_under_way, __ATOMIC_RELAXED));
	gauge(out, "open_handles", "Files open now.",
		__atomic_load_n(&c->open_handles, __ATOMIC_RELAXED));
}

/* By the names of linux/fuse.h, in lower case. */
static void put_requests(struct workspace *ws, struct buf *out)
{
	static const char *const names[OPCODES] = {[1] = "lookup",
		"forget",
		"getattr",
		"setattr",
		"readlink",
		"symlink",
		[8] = "mknod",
		"mkdir",
		"unlink",
		"rmdir",
		"rename",
		"link",
		"open",
		"read",
		"write",
		"statfs",
		"release",
		[20] = "fsync",
		"setxattr",
		"getxattr",
		"listxattr",
		"removexattr",
		"flush",
		"init",
		"opendir",
		"readdir",
		"releasedir",
		"fsyncdir",
		"getlk",
		"setlk",
		"setlkw",
		"access",
		"create",
		"interrupt",
		"bmap",
		"destroy",
		"ioctl",
		"poll",
		"notify_reply",
		"batch_forget",
		"fallocate",
		"readdirplus",
		"rename2",
		"lseek",
		"copy_file_range",
		"setupmapping",
		"removemapping",
		"syncfs",
		"tmpfile",
		"statx"};

	buf_puts(out, "# TYPE stompfs_requests counter\n"
		      "# HELP stompfs_requests Requests of the kernel.\n");
	for (unsigned i = 0; i < OPCODES; i++) {
		uint64_t n = __atomic_load_n(&ws->requests[i], __ATOMIC_RELAXED);

		if (n)
			buf_printf(out, "stompfs_requests_total{opcode=\"%s\"} %llu\n",
				names[i] ? names[i] : "other", (unsigned long long)n);
	}
}

static void put_journal(const struct journal_figures *f, struct buf *out)
{
	gauge(out, "journal_healthy", "1 while the history can be written.",
		f->health == 0);
	gauge(out, "versions", "Versions recorded.", f->versions);
	gauge(out, "contents", "Different contents stored.", f->contents);
	gauge(out, "content_bytes", "Size of the contents.", f->content_bytes);
	gauge(out, "stored_bytes", "Size of the contents as stored.", f->stored_bytes);
	gauge(out, "database_bytes", "Size of the journal's database.", f->database_bytes);
	gauge(out, "refusals", "Refusals recorded.", f->refusals);
	gauge(out, "conflicts", "Refusals whose bytes wait to be resolved.", f->conflicts);
	gauge(out, "journal_queued", "Rows waiting to be written.", f->queued);
	gauge(out, "journal_queued_bytes", "Content waiting to be written.",
		f->queued_bytes);
	counter(out, "journal_commits", "Transactions committed.", f->commits);
	put_seconds(out, "journal_commit", "counter", "Time spent in commits.",
		(int64_t)f->commit_ns_total);
	gauge(out, "journal_waiting", "Changes that wait for room in the queue.",
		f->waiting);
	counter(out, "journal_backpressure_waits", "Changes that waited for the journal.",
		f->backpressure_waits);
}

/* What grows with use, each with its bound. */
static void put_memory(struct workspace *ws, struct buf *out)
{
	struct lineages *l = &ws->lineages;
	struct mallinfo2 m = mallinfo2();

	gauge(out, "memory_bytes", "Memory the daemon has allocated.",
		m.uordblks + m.hblkhd);
	gauge(out, "inodes", "Inodes the kernel knows of.",
		__atomic_load_n(&ws->inodes.count, __ATOMIC_RELAXED));
	gauge(out, "user_files_max", "Open files of one user but root.",
		ws->shares.most[SHARE_FILES]);
	counter(out, "user_files_refused", "Opens refused for that (ENFILE).",
		__atomic_load_n(&ws->shares.refused[SHARE_FILES], __ATOMIC_RELAXED));
	counter(out, "user_waits_refused",
		"Waits refused, of a user with too many (EAGAIN).",
		__atomic_load_n(&ws->shares.refused[SHARE_WAITS], __ATOMIC_RELAXED));
	gauge(out, "remembered_names", "Names not in use of which something is known.",
		__atomic_load_n(&l->count, __ATOMIC_RELAXED));
	gauge(out, "remembered_bytes", "Memory for them, but the newest 1024.",
		__atomic_load_n(&l->bytes, __ATOMIC_RELAXED));
	gauge(out, "remembered_max_bytes", "Bound of that (-o remember=).", l->max_bytes);
	counter(out, "forgotten_names", "Names forgotten to keep it.",
		__atomic_load_n(&l->forgotten, __ATOMIC_RELAXED));
}

void vdoc_metrics(const struct vreader *r, struct buf *out)
{
	struct workspace *ws = r->ws;
	struct journal_figures figures;

	journal_figures(ws->journal, &figures);
	put_info(out);
	put_seconds(out, "uptime", "gauge", "Time since the mount.",
		workspace_now(ws) - ws->mounted_ns);
	gauge(out, "writers", "Writers seen since the mount.", vdoc_count_writers(ws));
	gauge(out, "leases", "Leases held now.", state_count_leases(ws));
	gauge(out, "waiting", "Requests that wait for a lease now.", park_count(ws->park));
	put_memory(ws, out);
	put_counters(ws, out);
	put_requests(ws, out);
	put_journal(&figures, out);
	buf_puts(out, "# EOF\n");
}
