#include "policy/line_diff.h"

#include <git2.h>
#include <pthread.h>
#include <string.h>

int lines_init(struct lines *l, const char *data, size_t size)
{
	uint32_t n = 0, *starts;

	assert(size <= INT32_MAX);
	for (const char *p = data, *end = data + size; p < end; n++) {
		const char *newline = memchr(p, '\n', end - p);

		p = newline ? newline + 1 : end;
	}
	starts = malloc(((size_t)n + 1) * sizeof(*starts));
	if (!starts)
		return -ENOMEM;
	starts[0] = 0;
	for (uint32_t i = 0; i < n; i++) {
		size_t at = starts[i];
		const char *newline = memchr(data + at, '\n', size - at);

		starts[i + 1] = newline ? (uint32_t)(newline - data) + 1 : (uint32_t)size;
	}
	*l = (struct lines){.data = data, .starts = starts, .n = n};
	return 0;
}

void lines_done(struct lines *l)
{
	free(l->starts);
	l->starts = NULL;
}

bool line_equal(const struct lines *a, uint32_t i, const struct lines *b, uint32_t j)
{
	uint32_t size = line_size(a, i);

	return size == line_size(b, j) &&
	       memcmp(line_text(a, i), line_text(b, j), size) == 0;
}

void hunks_done(struct hunks *h)
{
	free(h->v);
	h->v = NULL;
}

static int append_hunk(struct hunks *h, struct hunk hunk)
{
	if (h->n == h->cap) {
		uint32_t cap = h->cap ? 2 * h->cap : 16;
		struct hunk *v = reallocarray(h->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		h->v = v;
		h->cap = cap;
	}
	h->v[h->n++] = hunk;
	return 0;
}

/* The one thing here that outlives a call: libgit2 counts its users, and taking the count
 * down to nothing after every call would set the library up anew each time. */
static void start_library(void)
{
	git_libgit2_init();
}

bool line_diff_library_ready(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	return pthread_once(&once, start_library) == 0;
}

struct collector {
	struct hunks *out;
	uint32_t skip; /* lines cut off in front, the same for both sides */
	int result;
};

/* libgit2 counts lines from 1, and names the line before where a side is empty. */
static int collect(const git_diff_delta *delta, const git_diff_hunk *hunk, void *payload)
{
	struct collector *c = payload;
	uint32_t a = c->skip + (uint32_t)hunk->old_start - (hunk->old_lines ? 1 : 0);
	uint32_t b = c->skip + (uint32_t)hunk->new_start - (hunk->new_lines ? 1 : 0);

	c->result = append_hunk(c->out, (struct hunk){
						.a0 = a,
						.a1 = a + (uint32_t)hunk->old_lines,
						.b0 = b,
						.b1 = b + (uint32_t)hunk->new_lines,
					});
	return c->result;
}

static int diff_middle(const struct lines *a, const struct lines *b, const struct hunk *m,
	struct hunks *out)
{
	git_diff_options options = GIT_DIFF_OPTIONS_INIT;
	struct collector c = {.out = out, .skip = m->a0};

	assert(m->a0 == m->b0);
	options.flags = GIT_DIFF_FORCE_TEXT;
	options.context_lines = 0;
	options.interhunk_lines = 0;
	if (!line_diff_library_ready())
		return -EIO;
	if (git_diff_buffers(line_text(a, m->a0), a->starts[m->a1] - a->starts[m->a0], NULL,
		    line_text(b, m->b0), b->starts[m->b1] - b->starts[m->b0], NULL,
		    &options, NULL, NULL, collect, NULL, &c) < 0)
		return c.result < 0 ? c.result : -EIO;
	return 0;
}

/* xdiff moves a change among like lines (x, x out of x, x, x, x) as far down as it goes, so
 * that two diffs of one text put it in the same place. It needs room for that. */
#define SLACK_LINES 64

int line_diff(const struct lines *a, const struct lines *b, struct hunks *out)
{
	struct hunk m = {0, a->n, 0, b->n};

	*out = (struct hunks){0};
	while (m.a0 < m.a1 && m.b0 < m.b1 && line_equal(a, m.a0, b, m.b0)) {
		m.a0++;
		m.b0++;
	}
	while (m.a0 < m.a1 && m.b0 < m.b1 && line_equal(a, m.a1 - 1, b, m.b1 - 1)) {
		m.a1--;
		m.b1--;
	}
	if (m.a0 == m.a1 && m.b0 == m.b1)
		return 0;
	for (int i = 0; i < SLACK_LINES && m.a1 < a->n; i++) {
		m.a1++;
		m.b1++;
	}
	if (m.a0 == m.a1 || m.b0 == m.b1)
		return append_hunk(out, m);
	if (m.a1 - m.a0 > LINE_DIFF_MAX_LINES || m.b1 - m.b0 > LINE_DIFF_MAX_LINES)
		return 1;
	return diff_middle(a, b, &m, out);
}
