#include "fs/strategy.h"

#include <fcntl.h>
#include <string.h>

#include "fs/contents.h"
#include "fs/driver.h"
#include "fs/session.h"
#include "fs/workspace.h"
#include "policy/directives.h"
#include "policy/merge.h"
#include "policy/merge_json.h"

bool strategy_may_merge(const struct rule *rule)
{
	return rule->strategy != STRATEGY_REJECT;
}

/* A driver that fails has not merged: the change is refused, and why is told. */
static int merge_by_driver(struct change *c, const struct contents *t,
	enum merge_answer *answer, struct buf *merged, struct buf *why)
{
	const struct rules *rules = __atomic_load_n(&c->ws->rules, __ATOMIC_ACQUIRE);
	const struct driver_entry *driver = rules_driver(rules, c->file->rule.driver);
	auto_free char *path = strndup(c->path, c->path_len);
	int r;

	if (!path)
		return -ENOMEM;
	if (!driver) {
		buf_printf(why, "the policy no longer defines the driver %s",
			c->file->rule.driver);
		return 0;
	}
	r = driver_run(driver->command, driver->timeout_ns, t->known_base ? &t->base : NULL,
		&t->current, &t->new, path, c->by->uid, c->by->gid, c->ws->driver_fd,
		merged, why);
	*answer = r == DRIVER_MERGED ? MERGE_CLEAN : MERGE_CONFLICT;
	return r == -ENOMEM ? r : 0;
}

/* The bytes of one strategy; MERGE_CONFLICT where it cannot. */
static int merge_by_rule(struct change *c, const struct contents *t,
	enum merge_answer *answer, struct buf *merged, struct buf *why)
{
	static const struct content nothing = {0};
	/* Whoever knew nothing of the file has added all it brings. */
	const struct content *base = t->known_base ? &t->base : &nothing;

	*answer = MERGE_CONFLICT;
	switch (c->file->rule.strategy) {
	case STRATEGY_MERGE:
		return merge_lines(base, &t->current, &t->new, answer, merged);
	case STRATEGY_UNION:
		return merge_union(base, &t->current, &t->new, answer, merged);
	case STRATEGY_LAST_WRITER:
		buf_append(merged, t->new.data, t->new.size);
		*answer = MERGE_CLEAN;
		return buf_failed(merged) ? -ENOMEM : 0;
	case STRATEGY_JSON:
		return merge_json(
			&t->base, t->known_base, &t->current, &t->new, answer, merged, why);
	case STRATEGY_DRIVER:
		return merge_by_driver(c, t, answer, merged, why);
	case STRATEGY_REJECT:
		break;
	}
	return 0;
}

static int rewrite(int fd, const struct buf *bytes)
{
	size_t done = 0;

	if (ftruncate(fd, 0) < 0)
		return -errno;
	while (done < bytes->len) {
		ssize_t n = pwrite(fd, bytes->data + done, bytes->len - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

/* Both writers named, for the log and for whoever wonders where lines came from. */
void strategy_announce(struct change *c)
{
	const struct writer *other = c->file->head.content.author;
	bool overwrites = c->file->rule.strategy == STRATEGY_LAST_WRITER;
	auto_buf text = {0};
	struct event e = {
		.time_ns = clock_wall_ns(c->ws->clock),
		.kind = overwrites ? "overwrite" : "merge",
		.path = c->path,
		.path_len = c->path_len,
		.writer = c->by->writer->name,
		.epoch = c->file->lease.epoch,
		.number = c->file->head.last_number + 1,
	};

	buf_put_name(&text, c->path, c->path_len);
	buf_printf(&text, ": the change of %s %s that of %s (version %llu), by %s",
		c->by->writer->name, overwrites ? "overwrote" : "was merged with",
		other ? other->name : "somebody", (unsigned long long)c->file->head.number,
		rule_strategy_name(c->file->rule.strategy));
	e.text = text.data;
	if (journal_next_seq(c->ws->journal, &e.seq) == 0)
		(void)!journal_event(c->ws->journal, &e);
}

bool strategy_conflicts(
	struct change *c, const struct knowledge *known, int new_fd, uint64_t new_size)
{
	auto_contents t = {0};
	auto_buf merged = {0}, why = {0};
	enum merge_answer answer = MERGE_CLEAN;

	if (c->file->rule.strategy == STRATEGY_DRIVER ||
		contents_open(c, known, new_fd, new_size, &t) < 0)
		return false;
	return merge_by_rule(c, &t, &answer, &merged, &why) == 0 &&
	       answer == MERGE_CONFLICT;
}

int strategy_merge(
	struct change *c, const struct knowledge *known, int new_fd, struct buf *why)
{
	auto_buf merged = {0};
	enum merge_answer answer;
	int r;

	if (!strategy_may_merge(&c->file->rule))
		return STRATEGY_REFUSE;
	{
		auto_contents t = {0};

		r = contents_open(c, known, new_fd, UINT64_MAX, &t);
		if (r == 0)
			r = merge_by_rule(c, &t, &answer, &merged, why);
		if (r < 0)
			return r;
	}
	if (answer != MERGE_CLEAN)
		return STRATEGY_REFUSE;
	r = rewrite(new_fd, &merged);
	if (r < 0)
		return r;
	count(c->ws, merges);
	c->file->merging = c->file->rule.strategy != STRATEGY_LAST_WRITER;
	strategy_announce(c);
	return STRATEGY_MERGED;
}
