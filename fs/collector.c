#include "fs/collector.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/log.h"
#include "fs/vtree_internal.h"
#include "journal/gc.h"

enum {
	STEP_PAUSE_MS = 50,
	TRIES_MAX = 10, /* of a step that fails, before the pass is given up */
	TRY_PAUSE_MS = 1000,
};

struct collector {
	struct workspace *ws;
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;
	bool stopping, running, ever;
	bool asked, dry_run; /* by somebody: the pass that runs, or the next one */
	int error;	     /* of the last pass */
	int64_t began_wall_ns, ended_wall_ns;
	bool was_dry;
	struct gc_sums sums;
};

/* On the journal's thread. Rules that were in force are not freed while mounted. */
static void keep_of(const char *path, size_t len, struct keep *keep, void *ctx)
{
	struct workspace *ws = ctx;
	struct rule rule;

	rules_lookup(
		__atomic_load_n(&ws->rules, __ATOMIC_ACQUIRE), path, len, false, &rule);
	*keep = (struct keep){
		.age_ns = rule.keep.age_ns,
		.count = rule.keep.count,
		.bytes = rule.keep.bytes,
		.every = rule.keep.every,
	};
}

/* Lock held. False: the collector ends. An asked pass does not sleep, but goes on. */
static bool pause_for(struct collector *c, int64_t ms, bool asked_too)
{
	struct timespec until;
	int64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &until);
	ns = until.tv_nsec + ms % 1000 * NS_PER_MS;
	until.tv_sec += (time_t)(ms / 1000 + ns / NS_PER_S);
	until.tv_nsec = (long)(ns % NS_PER_S);
	while (!c->stopping && (asked_too || !c->asked)) {
		if (pthread_cond_timedwait(&c->wake, &c->lock, &until) == ETIMEDOUT)
			break;
	}
	return !c->stopping;
}

/* Lock held, given up for each step. */
static int run_steps(struct collector *c, struct gc *g)
{
	int r, tries = 0;

	for (;;) {
		pthread_mutex_unlock(&c->lock);
		r = gc_step(g);
		pthread_mutex_lock(&c->lock);
		gc_get_sums(g, &c->sums);
		if (r == 0 || (r < 0 && ++tries == TRIES_MAX))
			return r;
		if (c->stopping || (r < 0 && !pause_for(c, TRY_PAUSE_MS, true)))
			return -ECANCELED;
		tries = r < 0 ? tries : 0;
		if (r > 0 && !pause_for(c, STEP_PAUSE_MS, false))
			return -ECANCELED;
	}
}

/* Lock held. An automatic pass that somebody's request finds goes on without sleeping; a
 * dry run is a pass of its own. */
static void run_pass(struct collector *c)
{
	struct workspace *ws = c->ws;
	struct gc_options o = {
		.keep = keep_of,
		.ctx = ws,
		.now_ns = clock_wall_ns(ws->clock),
		.dry_run = c->asked && c->dry_run,
	};
	struct keep log_keep;
	struct gc *g;

	keep_of(".stomp-log", strlen(".stomp-log"), &log_keep, ws);
	o.log_age_ns = log_keep.age_ns;
	c->running = c->ever = true;
	c->was_dry = o.dry_run;
	c->sums = (struct gc_sums){0};
	c->began_wall_ns = o.now_ns;
	if (c->asked && !o.dry_run && gc_reserve_use(ws->journal))
		log_info("old versions are collected on a full disk, with the room that "
			 "was set aside for that");
	c->error = gc_new(&g, ws->journal, &o);
	if (c->error == 0) {
		c->error = run_steps(c, g);
		gc_free(g);
	}
	if (!o.dry_run)
		gc_reserve_back(ws->journal);
	if (c->error && c->error != -ECANCELED)
		log_error("old versions could not be collected: %s", strerror(-c->error));
	c->ended_wall_ns = clock_wall_ns(ws->clock);
	c->running = false;
	c->asked = false;
}

static bool is_tight(struct workspace *ws)
{
	struct journal_figures f;

	journal_figures(ws->journal, &f);
	return f.max_bytes && f.used_bytes > f.max_bytes / 4 * 3;
}

static void *collect(void *arg)
{
	struct collector *c = arg;
	int64_t wait_s = COLLECTOR_FIRST_S;

	pthread_mutex_lock(&c->lock);
	while (!c->stopping) {
		if (is_tight(c->ws))
			wait_s = COLLECTOR_TIGHT_S;
		if (!pause_for(c, wait_s * 1000, false))
			break;
		run_pass(c);
		wait_s = COLLECTOR_PAUSE_S;
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

int collector_new(struct workspace *ws, struct collector **out)
{
	struct collector *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->ws = ws;
	pthread_mutex_init(&c->lock, NULL);
	clock_cond_init(&c->wake);
	if (pthread_create(&c->thread, NULL, collect, c)) {
		pthread_cond_destroy(&c->wake);
		pthread_mutex_destroy(&c->lock);
		free(c);
		return -EAGAIN;
	}
	*out = c;
	return 0;
}

struct collector *collector_free(struct collector *c)
{
	if (!c)
		return NULL;
	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock);
	free(c);
	return NULL;
}

int collector_start(struct collector *c, bool dry_run)
{
	int r = 0;

	pthread_mutex_lock(&c->lock);
	if (c->asked || (c->running && dry_run)) {
		r = -EALREADY;
	} else {
		c->asked = c->ever = true;
		c->dry_run = dry_run;
		pthread_cond_signal(&c->wake);
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

static void put_sums(const struct gc_sums *s, bool dry, struct buf *out)
{
	buf_printf(out,
		"%llu versions of %llu paths looked at; %s %llu versions, %llu "
		"contents (",
		(unsigned long long)s->looked_at, (unsigned long long)s->paths,
		dry ? "would go:" : "gone:", (unsigned long long)s->versions,
		(unsigned long long)s->contents);
	put_size(out, s->bytes);
	buf_printf(out, "), %llu resolved conflicts' bytes, %llu old lines of the log\n",
		(unsigned long long)s->conflicts, (unsigned long long)s->log_rows);
}

void collector_text(struct collector *c, struct buf *out)
{
	pthread_mutex_lock(&c->lock);
	if (!c->ever) {
		buf_puts(out, "Nothing was collected since the mount. It is done now and "
			      "then, and by `stomp gc`;\n`stomp gc --dry-run` tells what "
			      "would go. The policy says what stays (keep=).\n");
	} else {
		buf_puts(out, c->running || c->asked ? "running since " : "ended ");
		buf_put_time(out, c->running ? c->began_wall_ns : c->ended_wall_ns);
		buf_puts(out, ": ");
		put_sums(&c->sums, c->was_dry, out);
		if (c->error)
			buf_printf(out, "It failed: %s\n", strerror(-c->error));
	}
	pthread_mutex_unlock(&c->lock);
}

void collector_json(struct collector *c, struct buf *out)
{
	pthread_mutex_lock(&c->lock);
	json_bool(out, "ever", c->ever);
	json_bool(out, "running", c->running || c->asked);
	json_bool(out, "dry_run", c->was_dry);
	json_number(out, "error", (uint64_t)-c->error);
	json_number(out, "paths", c->sums.paths);
	json_number(out, "looked_at", c->sums.looked_at);
	json_number(out, "versions", c->sums.versions);
	json_number(out, "contents", c->sums.contents);
	json_number(out, "objects", c->sums.objects);
	json_number(out, "bytes", c->sums.bytes);
	json_number(out, "conflicts", c->sums.conflicts);
	json_number(out, "log_rows", c->sums.log_rows);
	json_number(out, "steps", c->sums.steps);
	json_number(out, "step_max_us", (uint64_t)c->sums.step_max_ns / 1000);
	pthread_mutex_unlock(&c->lock);
}
