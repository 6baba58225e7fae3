#include "cli/table.h"

#include <stdio.h>
#include <string.h>

void text_table_init(struct text_table *t, const struct text_column *columns, int n)
{
	assert(n > 0 && n <= TEXT_TABLE_MAX);
	*t = (struct text_table){.columns = columns, .n_columns = n};
}

void text_table_done(struct text_table *t)
{
	for (size_t i = 0; i < t->n_cells; i++)
		free(t->cells[i]);
	free(t->cells);
	t->cells = NULL;
	t->n_cells = t->cap_cells = 0;
}

static bool reserve_cell(struct text_table *t)
{
	size_t cap = t->cap_cells ? 2 * t->cap_cells : 64;
	char **cells;

	if (t->n_cells < t->cap_cells)
		return true;
	cells = reallocarray(t->cells, cap, sizeof(*cells));
	if (!cells)
		return false;
	t->cells = cells;
	t->cap_cells = cap;
	return true;
}

void text_table_cell(struct text_table *t, const char *fmt, ...)
{
	auto_buf raw = {0}, shown = {0};
	va_list ap;
	char *cell;

	va_start(ap, fmt);
	buf_vprintf(&raw, fmt, ap);
	va_end(ap);
	buf_put_name(&shown, raw.data ?: "", raw.len);
	buf_puts(&shown, "");
	cell = buf_failed(&raw) ? NULL : buf_take(&shown, NULL);
	if (!cell || t->failed || !reserve_cell(t)) {
		free(cell);
		t->failed = true;
		return;
	}
	t->cells[t->n_cells++] = cell;
}

size_t text_width(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

/* Bytes of the first n code points. */
static size_t text_bytes(const char *text, size_t n)
{
	size_t i = 0;

	while (text[i]) {
		if (((unsigned char)text[i] & 0xc0) != 0x80 && n-- == 0)
			break;
		i++;
	}
	return i;
}

static void put_cell(const struct text_table *t, const struct output *o, int column,
	const char *text, size_t width, enum colour colour)
{
	bool last = column == t->n_columns - 1;
	size_t used = text_width(text);
	size_t pad = used < width ? width - used : 0;

	if (t->columns[column].right)
		fprintf(o->f, "%*s", (int)pad, "");
	fputs(output_on(o, colour), o->f);
	if (used > width)
		fprintf(o->f, "%.*s…", (int)text_bytes(text, width - 1), text);
	else
		fputs(text, o->f);
	fputs(output_off(o, colour), o->f);
	if (!t->columns[column].right && !last)
		fprintf(o->f, "%*s", (int)pad, "");
	fputs(last ? "\n" : "  ", o->f);
}

static void measure(const struct text_table *t, const struct output *o, size_t *widths)
{
	const size_t least = 12;
	size_t total = 0;

	for (int c = 0; c < t->n_columns; c++)
		widths[c] = text_width(t->columns[c].title);
	for (size_t i = 0; i < t->n_cells; i++) {
		size_t n = text_width(t->cells[i]), c = i % (size_t)t->n_columns;

		if (n > widths[c])
			widths[c] = n;
	}
	for (int c = 0; c < t->n_columns; c++)
		total += widths[c] + (c ? 2 : 0);
	for (int c = 0; c < t->n_columns && o->width; c++) {
		size_t over = total > (size_t)o->width ? total - (size_t)o->width : 0;

		if (!t->columns[c].flexible || !over || widths[c] <= least)
			continue;
		widths[c] = widths[c] - least > over ? widths[c] - over : least;
	}
}

int text_table_print(const struct text_table *t, const struct output *o)
{
	size_t widths[TEXT_TABLE_MAX];

	if (t->failed)
		return -ENOMEM;
	assert(t->n_cells % (size_t)t->n_columns == 0);
	measure(t, o, widths);
	for (int c = 0; c < t->n_columns; c++)
		put_cell(t, o, c, t->columns[c].title, widths[c], COLOUR_DIM);
	for (size_t i = 0; i < t->n_cells; i++) {
		int c = (int)(i % (size_t)t->n_columns);

		put_cell(t, o, c, t->cells[i], widths[c], t->columns[c].colour);
	}
	return 0;
}
