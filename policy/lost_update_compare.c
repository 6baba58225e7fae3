#include <string.h>

#include "policy/lost_update_internal.h"

/* How the lines of a text end. */
enum line_end { END_NONE, END_LF, END_CRLF, END_MIXED };

static enum line_end line_end(const struct content *c)
{
	enum line_end found = END_NONE;

	for (size_t i = 0; i < c->size;) {
		const char *newline = memchr(c->data + i, '\n', c->size - i);
		size_t at = newline ? (size_t)(newline - c->data) : c->size;
		enum line_end here;

		if (!newline)
			break;
		here = at > i && c->data[at - 1] == '\r' ? END_CRLF : END_LF;
		if (found != END_NONE && found != here)
			return END_MIXED;
		found = here;
		i = at + 1;
	}
	return found;
}

/* Whether line ends are to be left out. Not where they are mixed; and not where somebody
 * else has changed them all, and new has the base's: it has brought back every line. */
static bool ignore_ends(const struct content *base, const struct content *current,
	const struct content *new)
{
	enum line_end b = line_end(base), c = line_end(current), n = line_end(new);

	if (b == END_MIXED || c == END_MIXED || n == END_MIXED)
		return false;
	if (b != c && b != END_NONE && c != END_NONE && n == b)
		return false;
	return b == END_CRLF || c == END_CRLF || n == END_CRLF;
}

static size_t strip_returns(char *to, const char *from, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < size; i++) {
		if (from[i] != '\r' || i + 1 >= size || from[i + 1] != '\n')
			to[n++] = from[i];
	}
	return n;
}

/* strip: leave out the carriage returns of line ends. */
static int text_init(struct text *t, const struct content *c, bool strip)
{
	bool add_newline = c->size && c->data[c->size - 1] != '\n';

	*t = (struct text){.data = c->size ? c->data : "", .size = c->size};
	if (strip || add_newline) {
		t->owned = malloc(c->size + 2);
		if (!t->owned)
			return -ENOMEM;
		if (strip)
			t->size = strip_returns(t->owned, c->data, c->size);
		else
			memcpy(t->owned, c->data, c->size);
		if (add_newline && !strip && line_end(c) == END_CRLF)
			t->owned[t->size++] = '\r';
		if (add_newline)
			t->owned[t->size++] = '\n';
		t->data = t->owned;
	}
	return lines_init(&t->lines, t->data, t->size);
}

static void text_done(struct text *t)
{
	lines_done(&t->lines);
	free(t->owned);
	t->owned = NULL;
}

/*
 * The line of current up to which an unfinished new has come: the end of that run of
 * common lines for which the fewest lines are skipped, in current before it, in new before
 * and behind it. So a lone brace far down in current does not count as having got there.
 */
static void find_reached(struct comparison *c)
{
	const struct hunks *h = &c->current_new;
	uint32_t n_new = c->new.lines.n;
	uint64_t skipped = 0, least = n_new;

	for (uint32_t i = 0; i <= h->n; i++) {
		bool last = i == h->n;
		uint32_t from = i ? h->v[i - 1].a1 : 0;
		uint32_t end = last ? c->current.lines.n : h->v[i].a0;
		uint32_t new_end = last ? n_new : h->v[i].b0;

		if (skipped + (n_new - new_end) <= least) {
			least = skipped + (n_new - new_end);
			c->sure_from = from;
			c->sure = end;
		}
		if (!last)
			skipped += (h->v[i].a1 - h->v[i].a0) +
				   (uint64_t)(h->v[i].b1 - h->v[i].b0);
	}
}

/* new, then current from line on: the best that can still come. */
static int append_rest(struct comparison *c, uint32_t line)
{
	size_t at = c->current.lines.starts[line], rest = c->current.size - at;
	char *whole = malloc(c->new.size + rest + 1);

	if (!whole)
		return -ENOMEM;
	memcpy(whole, c->new.data, c->new.size);
	memcpy(whole + c->new.size, c->current.data + at, rest);
	rest += c->new.size;
	text_done(&c->new);
	c->new = (struct text){.owned = whole, .data = whole, .size = rest};
	return lines_init(&c->new.lines, whole, rest);
}

static int complete_new(struct comparison *c)
{
	int r = line_diff(&c->current.lines, &c->new.lines, &c->current_new);

	if (r)
		return r;
	for (uint32_t i = 0; c->known_base && i < c->base_current.n; i++) {
		if (comparison_replaced(c, i))
			c->verdicts[i] = LOST_UPDATE_REVERTED;
	}
	find_reached(c);
	hunks_done(&c->current_new);
	return append_rest(c, c->sure);
}

static enum lost_update *new_verdicts(uint32_t n)
{
	enum lost_update *v = calloc(n ?: 1, sizeof(*v));

	for (uint32_t i = 0; v && i < n; i++)
		v[i] = LOST_UPDATE_UNDECIDED;
	return v;
}

static int compare(struct comparison *c)
{
	int r = 0;

	if (c->known_base) {
		r = line_diff(&c->base.lines, &c->current.lines, &c->base_current);
		if (r)
			return r;
		c->verdicts = new_verdicts(c->base_current.n);
		if (!c->verdicts)
			return -ENOMEM;
	}
	if (!c->complete)
		r = complete_new(c);
	if (r == 0)
		r = line_diff(&c->current.lines, &c->new.lines, &c->current_new);
	if (r == 0 && c->known_base)
		r = line_diff(&c->base.lines, &c->new.lines, &c->base_new);
	if (r == 0 && !c->known_base) {
		c->verdicts = new_verdicts(c->current_new.n);
		if (!c->verdicts)
			return -ENOMEM;
	}
	return r;
}

int comparison_init(struct comparison *c, const struct content *base, bool known_base,
	const struct content *current, const struct content *new, bool complete)
{
	struct content arrived = *new;
	bool strip;
	int r;

	*c = (struct comparison){.known_base = known_base, .complete = complete};
	if (!known_base)
		base = current;
	if (!complete) { /* of a line without its end nothing is known */
		const char *newline =
			arrived.size ? memrchr(arrived.data, '\n', arrived.size) : NULL;

		arrived.size = newline ? (size_t)(newline - arrived.data) + 1 : 0;
	}
	strip = ignore_ends(base, current, &arrived);
	r = text_init(&c->base, base, strip);
	if (r == 0)
		r = text_init(&c->current, current, strip);
	if (r == 0)
		r = text_init(&c->new, &arrived, strip);
	return r ?: compare(c);
}

void comparison_done(struct comparison *c)
{
	text_done(&c->base);
	text_done(&c->current);
	text_done(&c->new);
	hunks_done(&c->base_current);
	hunks_done(&c->current_new);
	hunks_done(&c->base_new);
	free(c->verdicts);
	c->verdicts = NULL;
}
