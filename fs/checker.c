#include "fs/checker.h"

#include <pthread.h>
#include <string.h>

#include "fs/vtree_internal.h"
#include "journal/check.h"

enum { FINDINGS_MAX = 256 * 1024 }; /* bytes of them that are kept */

struct checker {
	struct workspace *ws;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;
	pthread_t thread;
	bool has_thread, running, stopping, ever, scrub;
	uint64_t rate_bytes; /* a second; 0: unbounded */
	uint64_t read_bytes, read_contents;
	int64_t began_ns, began_wall_ns, ended_wall_ns;
	int error;
	struct check_sums sums;	   /* of the last one that ended */
	struct buf findings, text; /* JSON objects; lines */
	bool cut;		   /* there were more */
};

static const char *grade_name(enum check_grade grade)
{
	static const char *const names[] = {
		[CHECK_NOTE] = "note",
		[CHECK_PROBLEM] = "problem",
		[CHECK_MENDED] = "mended",
		[CHECK_LOST] = "lost",
	};

	return names[grade];
}

static void find(enum check_grade grade, const char *text, void *ctx)
{
	struct checker *c = ctx;

	pthread_mutex_lock(&c->lock);
	if (c->findings.len > FINDINGS_MAX) {
		c->cut = true;
	} else {
		json_next(&c->findings);
		buf_putc(&c->findings, '{');
		json_string(&c->findings, "grade", grade_name(grade));
		json_string(&c->findings, "text", text);
		buf_putc(&c->findings, '}');
		buf_printf(&c->text, "%-8s %s\n", grade_name(grade), text);
	}
	pthread_mutex_unlock(&c->lock);
}

/* The clock that the condition waits by. */
static int64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Sleeps as long as it is ahead of the rate. */
static bool pace(uint64_t bytes, void *ctx)
{
	struct checker *c = ctx;
	bool go_on;

	pthread_mutex_lock(&c->lock);
	c->read_contents++;
	c->read_bytes += c->scrub ? bytes : 0;
	while (c->rate_bytes && !c->stopping) {
		double due_ns =
			(double)c->read_bytes / (double)c->rate_bytes * (double)NS_PER_S;
		int64_t at = c->began_ns + (int64_t)due_ns;
		struct timespec until = {at / NS_PER_S, at % NS_PER_S};

		if (monotonic_ns() >= at)
			break;
		pthread_cond_timedwait(&c->wake, &c->lock, &until);
	}
	go_on = !c->stopping;
	pthread_mutex_unlock(&c->lock);
	return go_on;
}

static void *check(void *arg)
{
	struct checker *c = arg;
	const struct check_options o = {
		.root_fd =
			-1, /* files that are being written are not what a version says */
		.scrub = c->scrub,
		.say = find,
		.pace = pace,
		.ctx = c,
	};
	struct check_sums sums;
	int r = journal_check_open(c->ws->journal, &o, &sums);

	pthread_mutex_lock(&c->lock);
	c->sums = sums;
	c->error = -r;
	c->ended_wall_ns = clock_wall_ns(c->ws->clock);
	c->running = false;
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

int checker_new(struct workspace *ws, struct checker **out)
{
	struct checker *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->ws = ws;
	pthread_mutex_init(&c->lock, NULL);
	clock_cond_init(&c->wake);
	*out = c;
	return 0;
}

struct checker *checker_free(struct checker *c)
{
	if (!c)
		return NULL;
	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
	if (c->has_thread)
		pthread_join(c->thread, NULL);
	buf_done(&c->findings);
	buf_done(&c->text);
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock);
	free(c);
	return NULL;
}

static int start_locked(struct checker *c, bool scrub, uint64_t rate_mib)
{
	if (c->running)
		return -EALREADY;
	if (c->has_thread)
		pthread_join(c->thread, NULL); /* it has ended */
	c->has_thread = false;
	buf_reset(&c->findings);
	buf_reset(&c->text);
	c->cut = false;
	c->scrub = scrub;
	c->rate_bytes = rate_mib << 20;
	c->read_bytes = c->read_contents = 0;
	c->began_ns = monotonic_ns();
	c->began_wall_ns = clock_wall_ns(c->ws->clock);
	if (pthread_create(&c->thread, NULL, check, c))
		return -EAGAIN;
	c->has_thread = c->running = c->ever = true;
	return 0;
}

int checker_start(struct checker *c, bool scrub, uint64_t rate_mib)
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = start_locked(c, scrub, rate_mib);
	pthread_mutex_unlock(&c->lock);
	return r;
}

static void text_locked(struct checker *c, struct buf *out)
{
	if (!c->ever) {
		buf_puts(out, "The history was not checked since the mount; `stomp fsck` "
			      "or `stomp fsck --scrub` does it.\n");
		return;
	}
	buf_puts(out, c->running ? "running since " : "checked ");
	buf_put_time(out, c->running ? c->began_wall_ns : c->ended_wall_ns);
	buf_printf(
		out, ": %llu contents looked at, ", (unsigned long long)c->read_contents);
	put_size(out, c->read_bytes);
	buf_puts(out, " read");
	if (!c->running && c->error)
		buf_printf(out, "; it failed: %s", strerrordesc_np(c->error));
	else if (!c->running)
		buf_printf(out, "; %llu problems", (unsigned long long)c->sums.problems);
	buf_putc(out, '\n');
	if (c->text.len)
		buf_append(out, c->text.data, c->text.len);
	if (c->cut)
		buf_puts(out, "There is more: unmount and run `stomp fsck`.\n");
}

void checker_text(struct checker *c, struct buf *out)
{
	pthread_mutex_lock(&c->lock);
	text_locked(c, out);
	pthread_mutex_unlock(&c->lock);
}

void checker_json(struct checker *c, struct buf *out)
{
	pthread_mutex_lock(&c->lock);
	json_bool(out, "checked", c->ever);
	json_bool(out, "running", c->running);
	json_bool(out, "scrub", c->scrub);
	json_number(out, "error", (uint64_t)c->error);
	json_number(out, "looked_at", c->read_contents);
	json_number(out, "bytes_read", c->read_bytes);
	json_number(out, "versions", c->sums.versions);
	json_number(out, "contents", c->sums.contents);
	json_number(out, "contents_read", c->sums.contents_read);
	json_number(out, "problems", c->sums.problems);
	json_bool(out, "truncated", c->cut);
	json_key(out, "findings");
	buf_putc(out, '[');
	if (c->findings.len)
		buf_append(out, c->findings.data, c->findings.len);
	buf_putc(out, ']');
	pthread_mutex_unlock(&c->lock);
}
