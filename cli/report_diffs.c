#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/content.h"
#include "cli/patch.h"
#include "cli/report_write.h"
#include "cli/words.h"

/* Which diffs a page has in it; of the others it names the command. */
enum {
	DIFFS_MAX = 2000,
	DIFF_SOURCE_MAX = 256 << 10, /* bytes of either side */
	DIFF_MAX = 64 << 10,	     /* bytes of one diff */
	DIFFS_BYTES_MAX = 8 << 20,   /* of all */
};

/* The path itself: where JSON cannot hold it, its word of ctl can. */
static char *path_of(const struct report *r, uint32_t path, uint32_t word)
{
	const char *escaped = r->names.texts[word];

	return *escaped ? word_unescape(escaped) : strdup(r->names.texts[path]);
}

/* Whole content of a version, or that there is none. False: not to be had, or large. */
static bool read_side(const struct workspace *ws, const char *path, uint64_t number,
	struct buf *content, bool *gone)
{
	auto_close int fd = -1;
	off_t size;

	*gone = !number;
	if (*gone)
		return true;
	fd = content_open(ws, path, number);
	if (fd < 0)
		return false;
	size = lseek(fd, 0, SEEK_END);
	if (size < 0 || size > DIFF_SOURCE_MAX || lseek(fd, 0, SEEK_SET) < 0)
		return false;
	return content_read_fd(fd, content) == 0;
}

static bool print(
	const struct patch_side *old, const struct patch_side *new, struct buf *out)
{
	struct output o = {0};
	auto_free char *text = NULL;
	size_t size = 0;
	bool done;

	o.f = open_memstream(&text, &size);
	if (!o.f)
		return false;
	done = patch_print("report", old, new, &o) == STOMP_DONE;
	done &= fclose(o.f) == 0 && size <= DIFF_MAX;
	if (done)
		buf_append(out, text, size);
	return done;
}

/* The number to compare with: 0 where the version before took the file away. */
static uint64_t number_before(const struct report *r, const struct report_event *e)
{
	const struct report_event *before = e;

	while (e->from_number && before-- > r->events) {
		if (before->seq && before->path == e->from_path &&
			before->number == e->from_number)
			return before->has_content ? e->from_number : 0;
	}
	return e->from_number;
}

/* False: one of the two cannot be read any more, or is large. */
static bool make_diff(const struct report *r, const struct workspace *ws,
	const struct report_event *e, struct buf *out)
{
	uint64_t before = number_before(r, e);
	auto_free char *path = path_of(r, e->path, e->word);
	auto_free char *from = path_of(r, e->from_path, e->from_word);
	auto_buf old = {0}, new = {0}, old_label = {0}, new_label = {0};
	struct patch_side a = {.content = &old}, b = {.content = &new};

	if (!path || !from ||
		!read_side(ws, path, e->has_content ? e->number : 0, &new, &b.gone) ||
		!read_side(ws, from, before, &old, &a.gone))
		return false;
	buf_printf(&old_label, "version %llu", (unsigned long long)before);
	buf_printf(&new_label, "version %llu", (unsigned long long)e->number);
	a.relative = from;
	b.relative = path;
	a.label = old_label.data ?: "";
	b.label = new_label.data ?: "";
	if (patch_is_empty(&a, &b))
		buf_puts(out, "(the same content)\n");
	else if (!print(&a, &b, out))
		return false;
	return !buf_failed(out);
}

int report_put_diffs(
	const struct report *report, const struct workspace *ws, struct buf *out)
{
	size_t begin = out->len, tried = 0;
	bool first = true;

	buf_putc(out, '{');
	for (size_t i = report->n; i-- > 0 && tried < DIFFS_MAX;) {
		const struct report_event *e = &report->events[i];
		auto_buf text = {0};

		if (!e->seq || out->len - begin > DIFFS_BYTES_MAX)
			continue;
		tried++;
		if (!make_diff(report, ws, e, &text))
			continue;
		buf_printf(out, "%s\"%u@%llu\":", first ? "" : ",\n", e->path,
			(unsigned long long)e->number);
		report_put_text(out, text.data ?: "", text.len);
		first = false;
	}
	buf_putc(out, '}');
	return buf_failed(out) ? -ENOMEM : 0;
}
