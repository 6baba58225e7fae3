/*
 * report_feed.c - what happened, out of the stream events/: everything, once.
 *
 * The stream is read without waiting, up to where it is when it is first behind; what is
 * recorded while it is read may be in it or not.
 */
#include <fcntl.h>
#include <string.h>

#include "base/clock.h"
#include "cli/report_internal.h"
#include "cli/words.h"

enum {
	READ_BYTES = 1 << 16,
	/* Rows come in the order in which they are written, nearly that of their times. */
	LATE_MS = 60 * 1000,
};

struct feed {
	struct report *r;
	struct buf line;     /* what came of the next one */
	struct buf resolved; /* numbers of conflicts */
	int64_t end_ms;	     /* what is later is not wanted */
	bool ended;
};

static void feed_done(struct feed *f)
{
	buf_done(&f->line);
	buf_done(&f->resolved);
}

#define auto_feed __attribute__((cleanup(feed_done))) struct feed

/* One that the tables tell no more of: who, which file, and the first line of why. */
static int add_refusal(struct report *r, struct json_object *o)
{
	struct report_event e;
	int error;

	if (report_ids_have(&r->told, (uint64_t)json_number(o, "number", 0)))
		return 0;
	error = report_begin_event(r, o, &e);
	e.kind = REPORT_REFUSAL;
	e.seq = 0;
	return error
		       ?: report_take(r, "", &e.what)
		       ?: report_take(r, json_text(o, "text", ""), &e.text)
		       ?: report_take(r, "", &e.from_path) ?: report_add(r, &e);
}

static int add_rename(struct report *r, struct json_object *o)
{
	struct report_event e;
	auto_buf text = {0};
	int error = report_begin_event(r, o, &e);

	e.kind = REPORT_EVENT;
	e.seq = 0;
	buf_printf(&text, "the folder was %s", json_text(o, "from_path", "?"));
	if (buf_failed(&text))
		return -ENOMEM;
	return error
		       ?: report_take(r, "rename", &e.what)
		       ?: report_take(r, text.data, &e.text)
		       ?: report_take(r, "", &e.from_path) ?: report_add(r, &e);
}

static int take_event(struct feed *f, struct json_object *o)
{
	const char *kind = json_text(o, "kind", "");
	uint64_t number = (uint64_t)json_number(o, "number", 0);

	if (strcmp(kind, "refuse") == 0)
		return add_refusal(f->r, o);
	if (strcmp(kind, "resolve") == 0)
		report_ids_add(&f->resolved, number);
	return report_add_event(f->r, o, 0);
}

static int take_row(struct feed *f, struct json_object *o)
{
	const char *what = json_text(o, "what", NULL);
	struct version_entry v;

	if (!what)
		return -EBADMSG;
	f->ended = word_time_ms(json_text(o, "time", "")) > f->end_ms;
	if (strcmp(what, "event") == 0)
		return take_event(f, o);
	if (strcmp(what, "folder") == 0)
		return add_rename(f->r, o);
	version_parse(&v, o);
	return report_add_version(
		f->r, &v, report_is_undo(f->r, (uint64_t)json_number(o, "set", 0)));
}

static int take_bytes(struct feed *f, const char *data, size_t n)
{
	int error = 0;

	while (n > 0 && error == 0 && !f->ended) {
		const char *newline = memchr(data, '\n', n);
		size_t part = newline ? (size_t)(newline - data) : n;

		buf_append(&f->line, data, part);
		if (buf_failed(&f->line))
			return -ENOMEM;
		if (newline) {
			auto_json *row = json_tokener_parse(f->line.data ?: "");

			error = take_row(f, row);
			buf_reset(&f->line);
			part++;
		}
		data += part;
		n -= part;
	}
	return error;
}

static int read_all(struct feed *f, int fd)
{
	auto_free char *data = malloc(READ_BYTES);
	int error = data ? 0 : -ENOMEM;

	while (error == 0 && !f->ended) {
		ssize_t n = read(fd, data, READ_BYTES);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (n == 0)
			break;
		error = take_bytes(f, data, (size_t)n);
	}
	return error;
}

/* A refusal that was resolved was a conflict, also where no table has it any more. */
static int mark_resolved(struct feed *f)
{
	struct report *r = f->r;
	int error = report_ids_sort(&f->resolved);

	for (size_t i = 0; i < r->n && error == 0; i++) {
		struct report_event *e = &r->events[i];

		if (e->kind != REPORT_REFUSAL || !report_ids_have(&f->resolved, e->number))
			continue;
		e->kind = REPORT_CONFLICT;
		e->resolved = true;
	}
	return error;
}

int report_read_feed(struct report *r, const struct workspace *ws, struct buf *failed)
{
	int64_t now_ms = clock_wall_ns(clock_system()) / NS_PER_MS;
	auto_feed f = {
		.r = r, .end_ms = (r->until_ms < now_ms ? r->until_ms : now_ms) + LATE_MS};
	auto_close int fd = -1;
	int error;

	buf_reset(failed);
	buf_printf(failed, "events/%llu.json", (unsigned long long)r->after_seq);
	if (buf_failed(failed))
		return -ENOMEM;
	fd = openat(ws->stomp_fd, failed->data, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	error = read_all(&f, fd);
	return error ?: mark_resolved(&f);
}
