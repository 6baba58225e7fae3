#include "fs/policy_file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "fs/notify.h"

enum { MAX_POLICY_BYTES = 1 << 20 };

/* Readers take no lock, so a policy that was once in force lives as long as the mount. */
struct old_rules {
	struct rules *rules;
	struct old_rules *next;
};

static int read_policy(struct workspace *ws, struct buf *text)
{
	int dirfd = inode_fd_get(ws, ws->root_inode);
	auto_close int fd = -1;
	char chunk[4096];
	struct stat st;
	ssize_t n;

	if (dirfd < 0)
		return dirfd;
	/* O_NONBLOCK: it may be a pipe that nobody writes to. */
	fd = openat(dirfd, POLICY_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	inode_fd_put(ws->root_inode);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EMEDIUMTYPE;
	while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
		buf_append(text, chunk, (size_t)n);
		if (text->len > MAX_POLICY_BYTES)
			return -EFBIG;
	}
	if (n < 0)
		return -errno;
	return buf_failed(text) ? -ENOMEM : 0;
}

static int install(struct workspace *ws, struct rules *rules)
{
	struct rules *before = __atomic_exchange_n(&ws->rules, rules, __ATOMIC_ACQ_REL);

	identity_set_table(ws->identity, rules_writer_table(rules));
	__atomic_fetch_add(&ws->rule_epoch, 1, __ATOMIC_ACQ_REL);
	if (before) {
		struct old_rules *old = malloc(sizeof(*old));

		if (!old)
			return 0; /* it leaks until the mount ends, which is safe */
		*old = (struct old_rules){before, ws->old_rules};
		ws->old_rules = old;
	}
	return 0;
}

static void announce(struct workspace *ws, const char *text)
{
	struct event e = {
		.time_ns = clock_wall_ns(ws->clock),
		.kind = "policy",
		.path = POLICY_FILE,
		.path_len = strlen(POLICY_FILE),
		.text = text,
	};

	if (journal_next_seq(ws->journal, &e.seq) == 0)
		(void)!journal_event(ws->journal, &e);
}

/* P1: why the file was not taken. */
static void announce_bad(struct workspace *ws, const char *why, bool at_mount)
{
	auto_buf text = {0};

	buf_printf(&text, "%s; the %s policy is in force", why,
		at_mount ? "built-in" : "previous");
	log_error("%s: %s", POLICY_FILE, buf_failed(&text) ? why : text.data);
	announce(ws, buf_failed(&text) ? why : text.data);
}

static void announce_good(struct workspace *ws)
{
	auto_buf text = {0};
	unsigned n_rules, n_directives;

	rules_count(ws->rules, &n_rules, &n_directives);
	buf_printf(&text, "in force: %u rule%s and %u directive%s beside the built-in ones",
		n_rules, n_rules == 1 ? "" : "s", n_directives,
		n_directives == 1 ? "" : "s");
	announce(ws, buf_failed(&text) ? "in force" : text.data);
}

static const char *explain_errno(int error)
{
	switch (error) {
	case -ELOOP:
		return "it is a symbolic link, and has to be a file";
	case -EMEDIUMTYPE:
		return "it is no regular file";
	case -EFBIG:
		return "it is larger than 1 MiB";
	default:
		return strerrordesc_np(-error);
	}
}

/* *rules stays NULL where the file has the text in force: a chmod, or a bad one taken
 * back. Such a file needs no other copy that would live as long as the mount. */
static int parse_policy(struct workspace *ws, struct rules **rules, struct buf *why)
{
	auto_buf text = {0};
	int r = read_policy(ws, &text);

	if (r < 0) {
		buf_printf(why, "it cannot be used: %s", explain_errno(r));
		return r;
	}
	if (ws->rules && rules_is_from(ws->rules, text.data, text.len))
		return 0;
	return rules_parse(rules, text.data ? text.data : "", text.len, why);
}

int policy_file_load(struct workspace *ws)
{
	auto_buf why = {0};
	bool at_mount = !ws->rules;
	struct rules *rules = NULL;
	int r = parse_policy(ws, &rules, &why);

	if (r < 0) {
		announce_bad(ws, why.data ? why.data : strerrordesc_np(-r), at_mount);
		if (!at_mount)
			return 0;
		r = rules_parse(&rules, "", 0, NULL);
		return r < 0 ? r : install(ws, rules);
	}
	if (rules)
		r = install(ws, rules);
	if (!at_mount)
		announce_good(ws);
	return r;
}

static void reload(void *ctx)
{
	struct workspace *ws = ctx;

	if (policy_file_load(ws) < 0)
		log_error("the policy could not be loaded again");
}

void policy_file_changed(struct workspace *ws, const char *path, size_t len)
{
	if (len == strlen(POLICY_FILE) && memcmp(path, POLICY_FILE, len) == 0)
		notify_then(ws, reload, ws);
}

void policy_file_done(struct workspace *ws)
{
	struct old_rules *old;

	while ((old = ws->old_rules)) {
		ws->old_rules = old->next;
		rules_free(old->rules);
		free(old);
	}
	ws->rules = rules_free(ws->rules);
}
