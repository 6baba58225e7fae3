#include "fs/options.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/log.h"
#include "base/mounts.h"
#include "fs/lineage.h"

enum key {
	KEY_HELP,
	KEY_VERSION,
	KEY_FOREGROUND,
	KEY_DEBUG,
	KEY_ALLOW_OTHER,
	KEY_URING,
	KEY_NOATIME,
	KEY_NODIRATIME,
	KEY_IGNORED
};

struct raw {
	struct options *o;
	char *ttl, *wait, *linger, *settle, *checkpoint, *refusal, *journal_mode, *uring;
	char *journal_max, *remember, *user_files, *user_waits;
	int show, no_dio_mmap, no_passthrough, supervise, no_handover;
	char *writer;
};

#define TEXT_OPTION(name)                                                                  \
	{                                                                                  \
#name "=%s", offsetof(struct raw, name), 0                                 \
	}

static const struct fuse_opt option_specs[] = {
	TEXT_OPTION(ttl),
	TEXT_OPTION(wait),
	TEXT_OPTION(linger),
	TEXT_OPTION(settle),
	TEXT_OPTION(checkpoint),
	TEXT_OPTION(refusal),
	TEXT_OPTION(journal_mode),
	TEXT_OPTION(journal_max),
	TEXT_OPTION(remember),
	TEXT_OPTION(user_files),
	TEXT_OPTION(user_waits),
	TEXT_OPTION(writer),
	TEXT_OPTION(uring),
	FUSE_OPT_KEY("uring", KEY_URING),
	{"show", offsetof(struct raw, show), 1},
	{"no_dio_mmap", offsetof(struct raw, no_dio_mmap), 1},
	{"no_passthrough", offsetof(struct raw, no_passthrough), 1},
	{"supervise", offsetof(struct raw, supervise), 1},
	{"no_handover", offsetof(struct raw, no_handover), 1},
	FUSE_OPT_KEY("-h", KEY_HELP),
	FUSE_OPT_KEY("--help", KEY_HELP),
	FUSE_OPT_KEY("-V", KEY_VERSION),
	FUSE_OPT_KEY("--version", KEY_VERSION),
	FUSE_OPT_KEY("-f", KEY_FOREGROUND),
	FUSE_OPT_KEY("-d", KEY_DEBUG),
	FUSE_OPT_KEY("allow_other", KEY_ALLOW_OTHER),
	FUSE_OPT_KEY("noatime", KEY_NOATIME),
	FUSE_OPT_KEY("nodiratime", KEY_NODIRATIME),
	/* What mount(8) and fstab add for themselves: */
	FUSE_OPT_KEY("rw", KEY_IGNORED),
	FUSE_OPT_KEY("defaults", KEY_IGNORED),
	FUSE_OPT_KEY("auto", KEY_IGNORED),
	FUSE_OPT_KEY("noauto", KEY_IGNORED),
	FUSE_OPT_KEY("user", KEY_IGNORED),
	FUSE_OPT_KEY("nofail", KEY_IGNORED),
	FUSE_OPT_KEY("_netdev", KEY_IGNORED),
	FUSE_OPT_KEY("x-%s", KEY_IGNORED),
	FUSE_OPT_END,
};

static void print_help(void)
{
	printf("usage: stompfs DIR [MOUNTPOINT] [-f] [-d] [-o OPTION,...]\n"
	       "\n"
	       "Mounts DIR so that each file has one writer at a time and every version "
	       "is\n"
	       "kept. Without MOUNTPOINT it is mounted over itself: nothing can go round.\n"
	       "\n"
	       "  -f                 stay in the foreground\n"
	       "  -d                 as -f, with libfuse's debug output\n"
	       "  -o writer=NAME     all changes through this mount are NAME's\n"
	       "  -o show            list .stomp in the root folder\n"
	       "  -o refusal=EBUSY   answer EBUSY instead of EAGAIN and ESTALE\n"
	       "  -o ttl=30s         how long a lease lasts after its holder's last write\n"
	       "  -o wait=2s         how long an open waits for another's lease\n"
	       "  -o linger=0s       how long a lease outlives its last handle\n"
	       "  -o settle=250ms    how old a read must be to count as having been seen\n"
	       "  -o checkpoint=60s  how often a file that stays open gets a version\n"
	       "  -o journal_max=20G  ceiling of the history: changes that need more are "
	       "refused\n"
	       "  -o remember=16M    memory for what is known of names not in use\n"
	       "  -o user_files=N    open files of one user but root (a quarter of all)\n"
	       "  -o user_waits=1024  requests of one user but root that may wait\n"
	       "  -o journal_mode=0700  of DIR/.stomp, where the history is kept\n"
	       "  -o supervise       start the daemon again by itself when it dies\n"
	       "  -o allow_other     let other users in (root does so by itself)\n"
	       "  -o no_passthrough  read through the daemon, as kernels before 6.9 do\n"
	       "  -o uring           requests over io_uring (kernel 6.14); also =auto, "
	       "=off\n"
	       "  -o no_dio_mmap     behave as on kernels before 6.6 (for testing)\n"
	       "  -o no_handover     supervise as on kernels before 6.16 (for testing)\n"
	       "  -o noatime         move no access times, the backing's included\n"
	       "Other options go to the kernel (ro, nodev, ...). See stompfs(8), "
	       "stomp(1).\n"
	       "\n"
	       "example: stompfs ~/src/project && cat ~/src/project/.stomp/README\n");
}

static int process_option(void *data, const char *arg, int key, struct fuse_args *out)
{
	struct raw *raw = data;
	struct options *o = raw->o;

	(void)out;
	switch (key) {
	case KEY_HELP:
		print_help();
		exit(0);
	case KEY_VERSION:
		printf("stompfs %s (libfuse %s)\n", STOMPFS_VERSION, fuse_pkgversion());
		exit(0);
	case KEY_FOREGROUND:
		o->foreground = true;
		return 0;
	case KEY_DEBUG:
		o->foreground = o->debug = true;
		return 0;
	case KEY_ALLOW_OTHER:
		o->allow_other = true;
		return 0;
	case KEY_URING:
		o->uring = URING_ON;
		return 0;
	case KEY_NOATIME:
		o->noatime = true;
		return 1; /* the kernel is to know it too */
	case KEY_NODIRATIME:
		o->nodiratime = true;
		return 1;
	case KEY_IGNORED:
		return 0;
	case FUSE_OPT_KEY_NONOPT:
		if (!o->source)
			o->source = strdup(arg);
		else if (!o->mountpoint)
			o->mountpoint = strdup(arg);
		else {
			log_error("one DIR and at most one MOUNTPOINT, but there is also "
				  "'%s'",
				arg);
			return -1;
		}
		return 0;
	default:
		return 1;
	}
}

/* "250ms", "2s", "5m", "1h" */
static int parse_span(const char *name, const char *text, int64_t *ns)
{
	static const struct {
		const char *unit;
		int64_t ns;
	} units[] = {
		{"ms", NS_PER_MS},
		{"s", NS_PER_S},
		{"m", 60 * NS_PER_S},
		{"h", 3600 * NS_PER_S},
	};
	char *end;
	long n;

	*ns = -1;
	if (!text)
		return 0;
	errno = 0;
	n = strtol(text, &end, 10);
	if (end != text && !errno && n >= 0 && n <= 1000000)
		for (size_t i = 0; i < ARRAY_SIZE(units); i++)
			if (strcmp(end, units[i].unit) == 0) {
				*ns = n * units[i].ns;
				return 0;
			}
	log_error("%s=%s: a number and a unit are needed: %s=250ms, 2s, 5m or 1h", name,
		text, name);
	return -EINVAL;
}

static int parse_refusal(const char *text, int *error)
{
	*error = 0;
	if (!text || strcmp(text, "ESTALE") == 0)
		return 0;
	if (strcmp(text, "EBUSY") == 0) {
		*error = EBUSY;
		return 0;
	}
	log_error("refusal=%s: it is refusal=EBUSY, or refusal=ESTALE (the default)", text);
	return -EINVAL;
}

static int parse_mode(const char *text, unsigned *mode)
{
	char *end;
	unsigned long m;

	*mode = 0700;
	if (!text)
		return 0;
	m = strtoul(text, &end, 8);
	if (*end || m > 0777) {
		log_error("journal_mode=%s: an octal mode is needed, such as 0700", text);
		return -EINVAL;
	}
	*mode = (unsigned)m;
	return 0;
}

/* "20G"; -EINVAL where it is none, or below min */
static int parse_size(const char *text, uint64_t min, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	char *end;
	unsigned long long n = strtoull(text, &end, 10);
	const char *unit = *end ? strchr(units, *end) : NULL;
	unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;

	if (*text < '0' || *text > '9' || !unit || end[1] || n >= 1ULL << 20 ||
		n << shift < min)
		return -EINVAL;
	*bytes = (uint64_t)n << shift;
	return 0;
}

enum { JOURNAL_MAX_MIN_MIB = 16 }; /* what the database and one change may need */

static int parse_max(const char *text, uint64_t *bytes)
{
	if (!text || parse_size(text, (uint64_t)JOURNAL_MAX_MIN_MIB << 20, bytes) == 0)
		return 0;
	log_error("journal_max=%s: a whole number and M, G or T is needed, at least %dM, "
		  "such as 20G",
		text, JOURNAL_MAX_MIN_MIB);
	return -EINVAL;
}

static int parse_remember(const char *text, uint64_t *bytes)
{
	*bytes = (uint64_t)LINEAGES_DEFAULT_MIB << 20;
	if (!text || parse_size(text, (uint64_t)LINEAGES_MIN_KIB << 10, bytes) == 0)
		return 0;
	log_error("remember=%s: a whole number and K, M or G is needed, at least %dK, such "
		  "as %dM",
		text, LINEAGES_MIN_KIB, LINEAGES_DEFAULT_MIB);
	return -EINVAL;
}

static int parse_share(const char *name, const char *text, uint32_t *out)
{
	unsigned long n;
	char *end;

	if (!text)
		return 0;
	n = strtoul(text, &end, 10);
	if (*text >= '1' && *text <= '9' && !*end && n <= INT32_MAX) {
		*out = (uint32_t)n;
		return 0;
	}
	log_error("%s=%s: a whole number is needed, such as 1000", name, text);
	return -EINVAL;
}

/* Whether "uring" alone stood there, is known already. */
static int parse_uring(const char *text, enum uring_wish *wish)
{
	static const char *const words[] = {
		[URING_OFF] = "off", [URING_AUTO] = "auto", [URING_ON] = "on"};

	for (size_t i = 0; text && i < ARRAY_SIZE(words); i++)
		if (strcmp(text, words[i]) == 0) {
			*wish = (enum uring_wish)i;
			return 0;
		}
	if (!text)
		return 0;
	log_error("uring=%s: it is uring=on, uring=off, or uring=auto (on where the "
		  "kernel offers it)",
		text);
	return -EINVAL;
}

static int parse_values(struct raw *raw)
{
	struct options *o = raw->o;
	int r = parse_span("ttl", raw->ttl, &o->ttl_ns);

	r = r < 0 ? r : parse_uring(raw->uring, &o->uring);
	r = r < 0 ? r : parse_span("wait", raw->wait, &o->wait_ns);
	r = r < 0 ? r : parse_span("linger", raw->linger, &o->linger_ns);
	r = r < 0 ? r : parse_span("settle", raw->settle, &o->settle_ns);
	r = r < 0 ? r : parse_span("checkpoint", raw->checkpoint, &o->checkpoint_ns);
	r = r < 0 ? r : parse_refusal(raw->refusal, &o->refusal_errno);
	r = r < 0 ? r : parse_mode(raw->journal_mode, &o->journal_mode);
	r = r < 0 ? r : parse_max(raw->journal_max, &o->journal_max_bytes);
	r = r < 0 ? r : parse_remember(raw->remember, &o->remember_bytes);
	r = r < 0 ? r : parse_share("user_files", raw->user_files, &o->user_files);
	r = r < 0 ? r : parse_share("user_waits", raw->user_waits, &o->user_waits);
	o->show = raw->show;
	o->no_dio_mmap = raw->no_dio_mmap;
	o->no_passthrough = raw->no_passthrough || raw->no_dio_mmap;
	o->supervise = raw->supervise;
	o->no_handover = raw->no_handover;
	if (r == 0 && o->supervise && o->uring == URING_ON) {
		log_error("supervise and uring=on exclude each other: requests that lie in "
			  "the rings of a daemon die with it; leave one of them out");
		r = -EINVAL;
	}
	o->writer = steal_ptr(raw->writer);
	free(raw->ttl);
	free(raw->wait);
	free(raw->linger);
	free(raw->settle);
	free(raw->checkpoint);
	free(raw->refusal);
	free(raw->journal_mode);
	free(raw->journal_max);
	free(raw->remember);
	free(raw->user_files);
	free(raw->user_waits);
	free(raw->uring);
	return r;
}

/* A mount that a killed daemon left there. It may stay where *over_dead can say so, until
 * the new one is in its place (beneath.h); else it is taken away. */
static int clear_dead_mount(char **path, bool *over_dead)
{
	auto_free char *point = strdup(*path);
	int r = point ? mount_resolve(&point) : -ENOMEM;

	if (r < 0)
		return r;
	if (over_dead && geteuid() == 0 && *point == '/') {
		r = mount_detach_dead_but_one(point);
		if (r == 1) {
			*over_dead = true;
			free(*path);
			*path = steal_ptr(point);
		}
		return r < 0 ? r : 0;
	}
	r = mount_detach_dead(point);
	if (r > 0)
		log_info("took away a dead mount at %s: its daemon was gone", point);
	return r < 0 ? r : 0;
}

/* Absolute. mount(8) and fstab get over a dead mount as `stomp mount` does. */
static int resolve(char **path, const char *what, bool *over_dead)
{
	char *absolute;
	struct statfs st;

	/* Not realpath() or stat(): the kernel may answer those from its cache. */
	if (statfs(*path, &st) < 0 && (errno == ENOTCONN || errno == ECONNABORTED) &&
		clear_dead_mount(path, over_dead) == 0 && over_dead && *over_dead)
		return 0;
	absolute = realpath(*path, NULL);
	if (!absolute) {
		log_error("%s %s: %s", what, *path,
			errno == ENOTCONN
				? "a dead mount is there; `stomp umount` clears it, "
				  "`stomp mount` does both"
				: strerror(errno));
		return -EINVAL;
	}
	free(*path);
	*path = absolute;
	return 0;
}

int options_parse(struct options *o, struct fuse_args *args)
{
	struct raw raw = {.o = o};
	int r;

	*o = (struct options){0};
	if (fuse_opt_parse(args, &raw, option_specs, process_option) < 0)
		return -EINVAL;
	r = parse_values(&raw);
	if (r < 0)
		return r;
	if (!o->source) {
		log_error("which folder? `stompfs DIR` mounts DIR over itself; --help "
			  "tells more");
		return -EINVAL;
	}
	if (o->mountpoint && strcmp(o->source, o->mountpoint) == 0) {
		free(o->mountpoint);
		o->mountpoint = NULL;
	}
	r = resolve(&o->source, "folder", o->mountpoint ? NULL : &o->over_dead);
	if (r == 0 && !o->mountpoint)
		o->mountpoint = strdup(o->source);
	else if (r == 0)
		r = resolve(&o->mountpoint, "mountpoint", &o->over_dead);
	return r;
}

void options_done(struct options *o)
{
	free(o->source);
	free(o->mountpoint);
	free(o->writer);
}
