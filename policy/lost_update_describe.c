#include <string.h>

#include "policy/lost_update_internal.h"

#define LINE_MAX_BYTES 200u

/* Counts what it was given, writes what still fits. */
struct writer_state {
	struct buf *out;
	uint32_t left;
	uint64_t more;
};

static bool may_write(struct writer_state *w)
{
	if (!w->left) {
		w->more++;
		return false;
	}
	w->left--;
	return true;
}

/* At most max bytes, not cut within a UTF-8 character. */
static size_t cut(const char *s, size_t size, size_t max)
{
	if (size <= max)
		return size;
	size = max;
	while (size > max - 4 && ((unsigned char)s[size] & 0xc0) == 0x80)
		size--;
	return size;
}

static void put_line(struct writer_state *w, char sign, const struct lines *l, uint32_t i)
{
	const char *s = line_text(l, i);
	size_t size = line_size(l, i), shown;

	if (!may_write(w))
		return;
	while (size && (s[size - 1] == '\n' || s[size - 1] == '\r'))
		size--;
	shown = cut(s, size, LINE_MAX_BYTES);
	buf_putc(w->out, sign);
	for (size_t at = 0; at < shown;) { /* a tab is no accident in a text */
		const char *tab = memchr(s + at, '\t', shown - at);
		size_t end = tab ? (size_t)(tab - s) : shown;

		buf_put_name(w->out, s + at, end - at);
		if (tab)
			buf_putc(w->out, '\t');
		at = end + (tab ? 1 : 0);
	}
	buf_puts(w->out, shown < size ? "…\n" : "\n");
}

static bool at_stake(enum lost_update verdict)
{
	return verdict == LOST_UPDATE_REVERTED || verdict == LOST_UPDATE_OVERLAPPING;
}

/* The change of new that did it: what current has there, and what new has instead. */
static void put_change(
	struct writer_state *w, const struct comparison *c, const struct hunk *g)
{
	uint32_t first = g->a0 + 1, last = g->a1 > g->a0 ? g->a1 : first;

	if (may_write(w)) {
		buf_printf(w->out, "@@ line%s %u", first < last ? "s" : "", first);
		if (first < last)
			buf_printf(w->out, "-%u", last);
		buf_puts(w->out, " @@\n");
	}
	for (uint32_t i = g->a0; i < g->a1; i++)
		put_line(w, '-', &c->current.lines, i);
	for (uint32_t i = g->b0; i < g->b1; i++)
		put_line(w, '+', &c->new.lines, i);
}

/* Hunks at stake and changes of new both go forward through current: each change that
 * meets a hunk at stake is shown once. */
static void put_lines(struct writer_state *w, const struct comparison *c)
{
	uint32_t k = 0;

	for (uint32_t i = 0; i < comparison_size(c); i++) {
		uint32_t first, end;

		if (!at_stake(c->verdicts[i]))
			continue;
		comparison_range(c, i, &first, &end);
		while (k < c->current_new.n && c->current_new.v[k].a1 < first)
			k++;
		for (; k < c->current_new.n && c->current_new.v[k].a0 <= end; k++)
			put_change(w, c, &c->current_new.v[k]);
	}
}

static void put_blocks(struct writer_state *w, const struct content *base, bool known_base,
	const struct content *current, const struct content *new)
{
	static const struct content empty = {.data = ""};
	uint64_t n, end;

	if (!known_base)
		base = &empty;
	n = content_blocks(base, current);
	for (uint64_t i = 0; i < n; i = end) {
		end = i + blocks_alike(base, current, new, i);
		if (!at_stake(block_verdict(base, known_base, current, new, i)))
			continue;
		while (end < n &&
			at_stake(block_verdict(base, known_base, current, new, end)))
			end += blocks_alike(base, current, new, end);
		if (may_write(w))
			buf_printf(w->out, "@@ bytes %llu-%llu differ @@\n",
				(unsigned long long)i * LOST_UPDATE_BLOCK_BYTES,
				(unsigned long long)end * LOST_UPDATE_BLOCK_BYTES - 1);
	}
}

int lost_update_describe(const struct content *base, const struct content *current,
	const struct content *new, uint32_t max_lines, struct buf *out)
{
	struct writer_state w = {.out = out, .left = max_lines};
	auto_comparison c = {0};
	bool known_base = base != NULL;
	int r = 1;

	if (!contents_by_block(base ?: current, current, new))
		r = comparison_init(&c, base, known_base, current, new, true);
	if (r < 0)
		return r;
	if (r > 0) {
		put_blocks(&w, base, known_base, current, new);
	} else {
		comparison_judge(&c);
		put_lines(&w, &c);
	}
	if (w.more)
		buf_printf(out, "… %llu more line%s\n", (unsigned long long)w.more,
			w.more == 1 ? "" : "s");
	return buf_failed(out) ? -ENOMEM : 0;
}
