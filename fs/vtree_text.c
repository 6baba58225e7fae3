#include <string.h>

#include "fs/vtree_internal.h"

/* What the documents have in common: columns, sizes, names, JSON. */

enum { COLUMNS_MAX = 16, COLUMN_WIDEST = 44 };

/* Characters of UTF-8, which a terminal shows as about as many cells. */
static unsigned text_width(const char *s, size_t size)
{
	unsigned n = 0;

	for (size_t i = 0; i < size; i++)
		n += ((unsigned char)s[i] & 0xc0) != 0x80;
	return n;
}

/* The end of the cell that begins at s. */
static const char *cell_end(const char *s)
{
	return s + strcspn(s, "\t\n");
}

static void measure(const struct buf *rows, unsigned width[COLUMNS_MAX])
{
	const char *end;
	unsigned column = 0;

	for (const char *s = rows->data; *s; s = end + 1) {
		unsigned w;

		end = cell_end(s);
		w = text_width(s, (size_t)(end - s));
		if (column < COLUMNS_MAX && w <= COLUMN_WIDEST && w > width[column])
			width[column] = w;
		column = *end == '\t' ? column + 1 : 0;
		if (!*end)
			break;
	}
}

void put_columns(struct buf *out, const struct buf *rows)
{
	unsigned width[COLUMNS_MAX] = {0}, column = 0;
	const char *end;

	if (buf_failed(rows)) {
		out->failed = true;
		return;
	}
	if (!rows->len)
		return;
	measure(rows, width);
	for (const char *s = rows->data; *s; s = end + 1) {
		end = cell_end(s);
		buf_append(out, s, (size_t)(end - s));
		if (*end == '\t') {
			unsigned w = text_width(s, (size_t)(end - s));
			unsigned wide = column < COLUMNS_MAX ? width[column] : 0;

			buf_printf(out, "%*s", w < wide ? (int)(wide - w) + 2 : 2, "");
			column++;
			continue;
		}
		while (out->len && out->data[out->len - 1] == ' ' && !out->failed)
			out->data[--out->len] = '\0';
		buf_putc(out, '\n');
		column = 0;
		if (!*end)
			break;
	}
}

void put_clipped(struct buf *out, const char *name, size_t size, unsigned width)
{
	auto_buf text = {0};
	const char *s;
	unsigned w;

	buf_put_name(&text, name, size);
	if (!text.len) {
		out->failed |= text.failed;
		return;
	}
	s = text.data;
	w = text_width(s, text.len);
	if (w > width) {
		buf_puts(out, "…");
		for (w -= width - 1; w; w--)
			do
				s++;
			while (((unsigned char)*s & 0xc0) == 0x80);
	}
	buf_puts(out, s);
}

void put_size(struct buf *out, uint64_t bytes)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
	double n = (double)bytes;
	unsigned i = 0;

	if (bytes < 1024) {
		buf_printf(out, "%llu B", (unsigned long long)bytes);
		return;
	}
	for (n /= 1024; n >= 1024 && i + 1 < ARRAY_SIZE(units); i++)
		n /= 1024;
	buf_printf(out, n < 10 ? "%.1f %s" : "%.0f %s", n, units[i]);
}

void put_errno_name(struct buf *b, int error)
{
	const char *name = strerrorname_np(error);

	if (name)
		buf_puts(b, name);
	else
		buf_printf(b, "E%d", error);
}

const char *version_kind_name(enum version_kind kind)
{
	static const char *const names[VERSION_KINDS] = {
		[VERSION_INITIAL] = "initial",
		[VERSION_WRITE] = "write",
		[VERSION_REPLACE] = "replace",
		[VERSION_MOVE] = "move",
		[VERSION_LINK] = "link",
		[VERSION_MODE] = "mode",
		[VERSION_DELETE] = "delete",
		[VERSION_SYMLINK] = "symlink",
		[VERSION_MKDIR] = "mkdir",
		[VERSION_RMDIR] = "rmdir",
		[VERSION_EXTERNAL] = "external",
	};

	/* Rows come from a file that a newer version of us may have written. */
	return (unsigned)kind < VERSION_KINDS ? names[kind] : "unknown";
}

const char *version_flag_name(unsigned i, uint32_t *bit)
{
	static const struct {
		const char *name;
		uint32_t bit;
	} flags[] = {
		{"incomplete", VERSION_INCOMPLETE},
		{"checkpoint", VERSION_CHECKPOINT},
		{"recovered", VERSION_RECOVERED},
		{"merged", VERSION_MERGED},
		{"decision", VERSION_DECISION},
		{"outside", VERSION_OUTSIDE},
		{"gap", VERSION_GAP},
	};

	if (i >= ARRAY_SIZE(flags))
		return NULL;
	*bit = flags[i].bit;
	return flags[i].name;
}

/* ---- JSON ---- */

void json_next(struct buf *b)
{
	char last = b->len ? b->data[b->len - 1] : '{';

	if (last != '{' && last != '[' && last != ':')
		buf_putc(b, ',');
}

void json_key(struct buf *b, const char *key)
{
	json_next(b);
	buf_printf(b, "\"%s\":", key);
}

void json_string(struct buf *b, const char *key, const char *value)
{
	json_key(b, key);
	buf_put_json_str(b, value);
}

void json_bytes(struct buf *b, const char *key, const char *value, size_t size)
{
	json_key(b, key);
	if (value)
		buf_put_json(b, value, size);
	else
		buf_puts(b, "null");
}

/* The path as a word of a ctl line, from which its bytes can be had again. */
void json_word(struct buf *b, const char *key, const char *path, size_t size)
{
	auto_buf word = {0};

	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)path[i];

		if (c <= ' ' || c >= 0x7f || c == '\\')
			buf_printf(&word, "\\%03o", c);
		else
			buf_putc(&word, (char)c);
	}
	b->failed |= buf_failed(&word);
	json_bytes(b, key, word.data, word.len);
}

void json_number(struct buf *b, const char *key, uint64_t value)
{
	json_key(b, key);
	buf_printf(b, "%llu", (unsigned long long)value);
}

void json_signed(struct buf *b, const char *key, int64_t value)
{
	json_key(b, key);
	buf_printf(b, "%lld", (long long)value);
}

void json_bool(struct buf *b, const char *key, bool value)
{
	json_key(b, key);
	buf_puts(b, value ? "true" : "false");
}

void json_time(struct buf *b, const char *key, int64_t wall_ns)
{
	json_key(b, key);
	buf_putc(b, '"');
	buf_put_iso_time(b, wall_ns);
	buf_putc(b, '"');
}

void json_rows_begin(struct json_rows *rows, struct buf *out, const char *key)
{
	*rows = (struct json_rows){.out = out};
	json_key(out, key);
	buf_putc(out, '[');
}

bool json_rows_next(struct json_rows *rows)
{
	/* Half of the limit stays free: the last row may be long. */
	if (rows->n >= VTREE_ROWS_MAX || rows->out->len > VTREE_DOCUMENT_MAX / 2) {
		rows->truncated = true;
		return false;
	}
	json_next(rows->out);
	buf_putc(rows->out, '\n');
	rows->n++;
	return true;
}

void json_rows_end(struct json_rows *rows)
{
	if (rows->n)
		buf_putc(rows->out, '\n');
	buf_putc(rows->out, ']');
	if (rows->truncated)
		json_bool(rows->out, "truncated", true);
}
