#include "fs/vtree_ctl.h"

#include <fcntl.h>
#include <string.h>

#include "fs/checker.h"
#include "fs/collector.h"
#include "fs/state.h"
#include "fs/vtree_internal.h"

const char *ctl_usage(void)
{
	return "# Open this file for reading and writing, write one line, read the "
	       "answer.\n"
	       "lease acquire [ttl=30s] [reason=TEXT] PATH-OR-PATTERN...\n"
	       "lease renew [ttl=30s] PATH...\n"
	       "lease release PATH...\n"
	       "lease break PATH...\n"
	       "resolve ID ours|theirs|merged|file\n"
	       "undo begin [of=SET] [writer=NAME] WHAT\n"
	       "undo resume SET\n"
	       "undo end SET done|back\n"
	       "checkpoint\n"
	       "moment [MOMENT]\n"
	       "fsck [scrub] [rate=MIB]\n"
	       "gc [dry-run]\n"
	       "pin NAME [at=MOMENT] [PATH...]\n"
	       "unpin NAME\n"
	       "ping\n"
	       "# Paths are relative to the workspace. Blanks, backslashes and bytes "
	       "outside\n"
	       "# ASCII in a word are \\NNN, three octal digits. The answer is JSON; a "
	       "line\n"
	       "# that fails fails the write, and the answer says why.\n";
}

/* What holds for the path where the line says nothing. */
static int64_t default_ttl(struct workspace *ws, const char *path)
{
	struct rule rule;

	if (ws->options.ttl_ns > 0)
		return ws->options.ttl_ns;
	rules_lookup(ws->rules, path, strlen(path), false, &rule);
	return rule.ttl_ns;
}

struct lease_answer {
	struct json_rows rows;
	const struct ctl_command *cmd;
};

static void put_asked_lease(const struct lease_row *row, void *ctx)
{
	struct lease_answer *a = ctx;

	for (unsigned i = 0; i < a->cmd->n_paths; i++) {
		const char *path = a->cmd->paths[i];

		if (strlen(path) != row->path_len ||
			memcmp(path, row->path, row->path_len) != 0)
			continue;
		if (json_rows_next(&a->rows))
			json_lease(a->rows.out, row);
		return;
	}
}

/* The folder that a pattern is confined to: what comes before its first wildcard. */
static void fixed_part(char *pattern)
{
	size_t fixed = strcspn(pattern, "*?[\\");

	if (pattern[fixed] == '\0')
		return;
	while (fixed && pattern[fixed - 1] != '/')
		fixed--;
	pattern[fixed ? fixed - 1 : 0] = '\0';
}

/* In a sticky folder only the owners may put something else in the place of a file. */
static bool is_stuck(fuse_req_t req, const char *path, const char *folder)
{
	struct workspace *ws = workspace_of(req);
	auto_close int fd = at_open_live(ws, path, O_PATH);
	auto_close int dirfd = at_open_live(ws, folder, O_PATH);
	uid_t uid = fuse_req_ctx(req)->uid;
	struct stat st, dir;

	if (fd < 0 || dirfd < 0 || fstat(fd, &st) < 0 || fstat(dirfd, &dir) < 0)
		return true;
	return (dir.st_mode & S_ISVTX) && st.st_uid != uid && dir.st_uid != uid;
}

/* A lease stops others, and a broken one them: both are for who could also write there. A
 * file can be changed through its folder as well. */
static int may_write(fuse_req_t req, const char *name)
{
	auto_free char *path = strdup(name + strspn(name, "/"));
	int r;

	if (!path)
		return -ENOMEM;
	fixed_part(path);
	r = live_access(req, path, W_OK);
	while (*path && (r == -ENOENT || r == -EACCES)) {
		bool is_there = r == -EACCES; /* then its own folder decides */
		char *slash = strrchr(path, '/');

		*(slash ?: path) = '\0';
		r = live_access(req, path, W_OK | X_OK);
		if (r == 0 && is_there && is_stuck(req, name + strspn(name, "/"), path))
			return -EACCES;
		if (is_there || r == -EACCES)
			break;
	}
	return r;
}

static int check_may_write(fuse_req_t req, const struct ctl_command *cmd, struct buf *why)
{
	if (cmd->verb != CTL_LEASE_ACQUIRE && cmd->verb != CTL_LEASE_BREAK)
		return 0;
	for (unsigned i = 0; i < cmd->n_paths; i++) {
		int r = may_write(req, cmd->paths[i]);

		if (r < 0) {
			buf_put_name(why, cmd->paths[i], strlen(cmd->paths[i]));
			buf_puts(why,
				": you may not write there, so you cannot keep others "
				"from it");
			return r;
		}
	}
	return 0;
}

static int lease(struct workspace *ws, struct process *by, const struct ctl_command *cmd,
	struct buf *answer, struct buf *why)
{
	int64_t ttl_ns = cmd->ttl_ns > 0 ? cmd->ttl_ns : default_ttl(ws, cmd->paths[0]);
	struct lease_answer a = {.cmd = cmd};
	int r;

	switch (cmd->verb) {
	case CTL_LEASE_ACQUIRE:
		r = state_lease_acquire(
			ws, by, cmd->paths, cmd->n_paths, ttl_ns, cmd->reason, why);
		break;
	case CTL_LEASE_RENEW:
		r = state_lease_renew(ws, by, cmd->paths, cmd->n_paths, ttl_ns, why);
		break;
	case CTL_LEASE_RELEASE:
		r = state_lease_release(ws, by, cmd->paths, cmd->n_paths, why);
		break;
	default:
		r = state_lease_break(ws, by, cmd->paths, cmd->n_paths, why);
	}
	if (r < 0)
		return r;
	json_rows_begin(&a.rows, answer, "leases");
	state_each_lease(ws, put_asked_lease, &a);
	json_rows_end(&a.rows);
	return 0;
}

/* Where whoever failed did not say it better. */
static const char *plain_words(int error)
{
	switch (error) {
	case EAGAIN:
		return "another writer holds it; .stomp/leases says who, and until when";
	case ENOENT:
		return "you hold no lease there; .stomp/leases says who does";
	default:
		return strerrordesc_np(error) ?: "it failed";
	}
}

static void put_failure(struct buf *answer, int r, const struct buf *why)
{
	buf_reset(answer);
	buf_puts(answer, "{\"ok\":false");
	if (why->len)
		json_bytes(answer, "error", why->data, why->len);
	else
		json_string(answer, "error", plain_words(-r));
	json_key(answer, "errno");
	buf_putc(answer, '"');
	put_errno_name(answer, -r);
	buf_puts(answer, "\"}\n");
}

/* It costs everybody's disk: for who runs the daemon. */
static int start_check(struct workspace *ws, const struct process *by,
	const struct ctl_command *cmd, struct buf *why)
{
	int r;

	if (by->uid != 0 && by->uid != geteuid()) {
		buf_puts(why, "only root and who mounted the workspace may check it");
		return -EPERM;
	}
	r = checker_start(ws->checker, cmd->scrub, cmd->rate_mib);
	if (r == -EALREADY)
		buf_puts(why, "a check runs already; .stomp/fsck tells how far it is");
	return r;
}

static int start_collecting(struct workspace *ws, const struct process *by,
	const struct ctl_command *cmd, struct buf *why)
{
	int r;

	if (by->uid != 0 && by->uid != geteuid() && !cmd->dry_run) {
		buf_puts(why, "only root and who mounted the workspace may collect; it is "
			      "done now and then anyway");
		return -EPERM;
	}
	r = collector_start(ws->collector, cmd->dry_run);
	if (r == -EALREADY)
		buf_puts(why, "it runs already; .stomp/gc tells how far it is");
	return r;
}

int ctl_execute(fuse_req_t req, struct process *by, const char *line, size_t size,
	struct buf *answer)
{
	struct workspace *ws = workspace_of(req);
	auto_free struct ctl_command *cmd = malloc(sizeof(*cmd));
	auto_buf why = {0};
	int r;

	if (!cmd)
		return -ENOMEM;
	r = ctl_parse(cmd, line, size, &why);
	buf_puts(answer, "{\"ok\":true");
	if (r == 0 && cmd->verb == CTL_CHECKPOINT)
		r = state_checkpoint(ws);
	else if (r == 0 && cmd->verb == CTL_FSCK)
		r = start_check(ws, by, cmd, &why);
	else if (r == 0 && cmd->verb == CTL_GC)
		r = start_collecting(ws, by, cmd, &why);
	else if (r == 0 && (cmd->verb == CTL_PIN || cmd->verb == CTL_UNPIN ||
				   cmd->verb == CTL_MOMENT))
		r = pins_execute(ws, by, cmd, answer, &why);
	else if (r == 0 && cmd->verb == CTL_RESOLVE)
		r = conflicts_settle(ws, by, cmd->conflict, cmd->how, answer, &why);
	else if (r == 0 && (cmd->verb == CTL_UNDO_BEGIN || cmd->verb == CTL_UNDO_RESUME ||
				   cmd->verb == CTL_UNDO_END))
		r = sets_execute(ws, by, cmd, answer, &why);
	else if (r == 0 && cmd->verb != CTL_PING) {
		r = check_may_write(req, cmd, &why);
		if (r == 0)
			r = lease(ws, by, cmd, answer, &why);
	}
	if (r < 0)
		put_failure(answer, r, &why);
	else
		buf_puts(answer, "}\n");
	return r;
}
