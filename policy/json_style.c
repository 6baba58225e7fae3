#include "policy/json_style.h"

#include <string.h>

#include "policy/json_text.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct json_blanks json_last_line(const struct json_doc *doc, uint32_t lead, uint32_t begin)
{
	const char *from = doc->text + lead, *to = doc->text + begin;
	const char *newline = lead < begin ? memrchr(from, '\n', to - from) : NULL;
	struct json_blanks b = {.s = from, .size = begin - lead, .line = newline};

	if (newline) {
		b.s = newline > from && newline[-1] == '\r' ? newline - 1 : newline;
		b.size = (uint32_t)(to - b.s);
		b.indent = newline + 1;
		b.indent_size = (uint32_t)(to - b.indent);
	}
	return b;
}

struct json_blanks json_indent(const struct json_doc *doc, uint32_t line)
{
	uint32_t end = line;

	while (end < doc->size && (doc->text[end] == ' ' || doc->text[end] == '\t'))
		end++;
	return (struct json_blanks){.indent = doc->text + line, .indent_size = end - line};
}

/* One step of indentation, from the first child that has a line of its own. */
static bool find_unit(const struct json_doc *doc, struct json_style *style)
{
	for (uint32_t i = 0; i + 1 < doc->n_nodes; i++) {
		const struct json_node *in = &doc->nodes[i], *child = &doc->nodes[i + 1];
		struct json_blanks outer, inner;

		if (!in->n_children || child->line <= in->line)
			continue;
		inner = json_last_line(doc, child->lead, json_begin(child));
		if (!inner.line) /* the line break is between the parent and its key */
			continue;
		outer = json_indent(doc, in->line);
		style->unit = inner.indent;
		style->unit_size = inner.indent_size;
		if (inner.indent_size > outer.indent_size &&
			memcmp(inner.indent, outer.indent, outer.indent_size) == 0) {
			style->unit += outer.indent_size;
			style->unit_size -= outer.indent_size;
		}
		return true;
	}
	return false;
}

static bool has_line_break(const struct json_doc *doc)
{
	return memchr(doc->text + doc->nodes[0].start, '\n',
		doc->nodes[0].end - doc->nodes[0].start);
}

/* By the first comma; else as there is one behind the first colon. *told: by either. */
static bool has_comma_space(const struct json_doc *doc, bool *told)
{
	bool space = true;

	*told = false;
	for (uint32_t i = 1; i < doc->n_nodes; i++) {
		const struct json_node *child = &doc->nodes[i];

		if (doc->text[child->lead - 1] == ',') {
			*told = true;
			return json_begin(child) > child->lead;
		}
		if (!*told && child->key_end) {
			*told = true;
			space = is_blank(doc->text[child->start - 1]);
		}
	}
	return space;
}

struct json_style json_style_of(const struct json_doc *doc, const struct json_doc *other)
{
	const struct json_doc *told = doc->nodes[0].n_children ? doc : other;
	const char *newline = memchr(doc->text, '\n', doc->size);
	const struct json_doc *ends = newline ? doc : other;
	struct json_style style = {
		.lines = has_line_break(told), .unit = "  ", .unit_size = 2};

	bool known;

	newline = newline ?: memchr(other->text, '\n', other->size);
	style.crlf = newline && newline > ends->text && newline[-1] == '\r';
	if (!find_unit(doc, &style))
		find_unit(other, &style);
	style.comma_space = has_comma_space(told, &known);
	if (!known)
		style.comma_space = has_comma_space(other, &known);
	return style;
}

void json_write_line(struct buf *out, const struct json_style *style,
	const struct json_blanks *indent, uint32_t steps)
{
	buf_puts(out, style->crlf ? "\r\n" : "\n");
	buf_append(out, indent->indent, indent->indent_size);
	for (uint32_t i = 0; i < steps && !json_style_full(out); i++)
		buf_append(out, style->unit, style->unit_size);
}

/* A run of blanks between two words. */
struct gap {
	uint32_t n_lines;
	char before, behind;
	uint32_t depth; /* steps of indentation here */
};

static void write_gap(struct buf *out, const char *s, uint32_t size, const struct gap *gap,
	const struct json_style *style, const struct json_blanks *indent)
{
	bool closes = gap->behind == '}' || gap->behind == ']';

	if (!gap->n_lines) {
		buf_append(out, s, size);
	} else if (!indent) {
		if (gap->before == ':' || (gap->before == ',' && style->comma_space))
			buf_putc(out, ' ');
	} else {
		for (uint32_t i = 1; i < gap->n_lines && !json_style_full(out); i++)
			buf_puts(out, style->crlf ? "\r\n" : "\n");
		json_write_line(out, style, indent, gap->depth - closes);
	}
}

void json_write_value(struct buf *out, const struct json_doc *doc, uint32_t node,
	const struct json_style *style, const struct json_blanks *indent, uint32_t steps)
{
	const char *s = doc->text + doc->nodes[node].start;
	const char *end = doc->text + doc->nodes[node].end, *what;
	struct gap gap = {.depth = steps};

	while (s < end && !json_style_full(out)) {
		const char *from = s;

		if (is_blank(*s)) {
			gap.n_lines = 0;
			for (; is_blank(*s); s++)
				gap.n_lines += *s == '\n';
			gap.behind = *s;
			write_gap(out, from, (uint32_t)(s - from), &gap, style, indent);
			continue;
		}
		while (s < end && !is_blank(*s)) {
			gap.before = *s;
			gap.depth += *s == '{' || *s == '[';
			gap.depth -= *s == '}' || *s == ']';
			s += *s == '"' ? json_string_length(s, (uint32_t)(end - s), &what)
				       : 1;
		}
		buf_append(out, from, s - from);
	}
}
