#include "cli/gc_unmounted.h"

#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/unmounted.h"
#include "journal/gc.h"
#include "journal/intent.h"
#include "policy/rules.h"

enum { MAX_POLICY_BYTES = 1 << 20 };

struct collection {
	const char *command, *dir;
	bool dry_run;
	struct unmounted folder;
	struct rules *rules;
	struct gc_sums sums;
};

/* On the journal's thread. */
static void keep_of(const char *path, size_t len, struct keep *keep, void *ctx)
{
	const struct rules *rules = ctx;
	struct rule rule;

	rules_lookup(rules, path, len, false, &rule);
	*keep = (struct keep){
		.age_ns = rule.keep.age_ns,
		.count = rule.keep.count,
		.bytes = rule.keep.bytes,
		.every = rule.keep.every,
	};
}

/* -ENOENT: there is none, the built-in one is in force. */
static int read_policy(int root_fd, struct buf *text)
{
	auto_close int fd =
		openat(root_fd, RULES_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char chunk[4096];
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
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

static int load_policy(struct collection *c)
{
	auto_buf text = {0}, why = {0};
	int r = read_policy(c->folder.root_fd, &text);

	if (r == 0 || r == -ENOENT)
		r = rules_parse(&c->rules, text.data ?: "", text.len, &why);
	if (r == 0)
		return STOMP_DONE;
	fprintf(stderr,
		"stomp %s: %s/%s: %s; nothing is collected until it says what to keep\n",
		c->command, c->dir, RULES_FILE, why.data ?: strerrordesc_np(-r));
	return STOMP_NO;
}

/* What is made on the way (the database's log, say) is to be the daemon's own. */
static int become_owner(struct collection *c)
{
	struct stat st;

	if (fstatat(c->folder.stomp_fd, "journal.db", &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return report_errno(c->command, c->dir, -errno);
		fprintf(stderr,
			"stomp %s: %s/.stomp has no journal.db: nothing to collect\n",
			c->command, c->dir);
		return STOMP_NO;
	}
	if (geteuid() != 0 || st.st_uid == 0)
		return STOMP_DONE;
	if (setgroups(0, NULL) < 0 || setresgid(st.st_gid, st.st_gid, st.st_gid) < 0 ||
		setresuid(st.st_uid, st.st_uid, st.st_uid) < 0)
		return report_errno(c->command, c->dir, -errno);
	return STOMP_DONE;
}

static int count_intent(const struct intent *intent, bool closed, uint32_t slot, void *ctx)
{
	++*(unsigned *)ctx;
	return 0;
}

static int check_nothing_cut_short(struct collection *c)
{
	struct intents *intents = NULL;
	unsigned n = 0;
	int r = intents_open(&intents, c->folder.stomp_fd);

	if (r == 0)
		r = intents_leftover(intents, count_intent, &n);
	intents_close(intents);
	if (r == -EPROTO) {
		fprintf(stderr,
			"stomp %s: the list of unfinished changes (%s/.stomp/intents) is "
			"damaged; `stomp fsck --repair %s` first\n",
			c->command, c->dir, c->dir);
		return STOMP_NO;
	}
	if (r < 0)
		return report_errno(c->command, c->dir, r);
	if (!n)
		return STOMP_DONE;
	fprintf(stderr,
		"stomp %s: the daemon of %s was killed in the middle of %u change%s; "
		"`stomp "
		"mount` records them, then this again, mounted or not\n",
		c->command, c->dir, n, n == 1 ? "" : "s");
	return STOMP_NO;
}

static int run(struct collection *c, struct journal *j)
{
	struct gc_options o = {
		.keep = keep_of,
		.ctx = c->rules,
		.now_ns = clock_wall_ns(clock_system()),
		.dry_run = c->dry_run,
	};
	struct keep log_keep;
	struct gc *g;
	int r;

	keep_of(".stomp-log", strlen(".stomp-log"), &log_keep, c->rules);
	o.log_age_ns = log_keep.age_ns;
	r = gc_new(&g, j, &o);
	if (r < 0)
		return r;
	do
		r = gc_step(g);
	while (r > 0);
	gc_get_sums(g, &c->sums);
	gc_free(g);
	return r;
}

static int collect(struct collection *c)
{
	struct journal_options options = {
		.dirfd = c->folder.stomp_fd, .clock = clock_system()};
	struct journal *j = NULL;
	int r = journal_open(&j, &options);

	if (r == 0)
		r = run(c, j);
	journal_close(j);
	if (r == 0)
		return STOMP_DONE;
	if (r == -EPROTO)
		fprintf(stderr,
			"stomp %s: a newer stompfs wrote this journal; use that "
			"one's stomp\n",
			c->command);
	else if (r == -EUCLEAN)
		fprintf(stderr,
			"stomp %s: the history of %s is damaged; `stomp fsck --repair %s` "
			"first\n",
			c->command, c->dir, c->dir);
	else
		return report_errno(c->command, c->dir, r);
	return STOMP_FAILED;
}

static void put(struct json_object *json, const char *key, uint64_t value)
{
	json_object_object_add(json, key, json_object_new_int64((int64_t)value));
}

static struct json_object *tell(const struct collection *c)
{
	struct json_object *json = json_object_new_object();
	const struct gc_sums *s = &c->sums;

	json_object_object_add(json, "schema", json_object_new_string("stompfs/gc/1"));
	json_object_object_add(json, "ever", json_object_new_boolean(true));
	json_object_object_add(json, "running", json_object_new_boolean(false));
	json_object_object_add(json, "dry_run", json_object_new_boolean(c->dry_run));
	put(json, "error", 0);
	put(json, "paths", s->paths);
	put(json, "looked_at", s->looked_at);
	put(json, "versions", s->versions);
	put(json, "contents", s->contents);
	put(json, "objects", s->objects);
	put(json, "bytes", s->bytes);
	put(json, "conflicts", s->conflicts);
	put(json, "log_rows", s->log_rows);
	put(json, "steps", s->steps);
	put(json, "step_max_us", (uint64_t)s->step_max_ns / 1000);
	return json;
}

int gc_unmounted(
	const char *command, const char *dir, bool dry_run, struct json_object **out)
{
	struct collection c = {.command = command, .dir = dir, .dry_run = dry_run};
	int r = unmounted_lock(&c.folder, command, dir) ?: load_policy(&c)
			?: become_owner(&c) ?: check_nothing_cut_short(&c) ?: collect(&c);

	rules_free(c.rules);
	unmounted_done(&c.folder);
	if (r == STOMP_DONE)
		*out = tell(&c);
	return r;
}
