/*
 * json_style.h - how a JSON text is laid out, and writing pieces of another in its way.
 *
 * Pure. What is written is bounded by JSON_DOC_MAX_BYTES and a little: beyond, no line is
 * begun any more and json_style_full() is true.
 */
#ifndef STOMP_POLICY_JSON_STYLE_H
#define STOMP_POLICY_JSON_STYLE_H

#include "policy/json_doc.h"

struct json_style {
	bool lines; /* there are line breaks between its values */
	bool crlf;
	bool comma_space; /* a blank behind a comma */
	const char *unit; /* one step of indentation; borrowed from a text, or constant */
	uint32_t unit_size;
};

/* Of doc, and where it tells nothing, of other. */
struct json_style json_style_of(const struct json_doc *doc, const struct json_doc *other);

static inline bool json_style_full(const struct buf *out)
{
	return out->len > JSON_DOC_MAX_BYTES;
}

/* The blanks from lead to begin, from their last line break on; all where there is none. */
struct json_blanks {
	const char *s;
	uint32_t size;
	bool line; /* they begin a line, and end with its indentation: */
	const char *indent;
	uint32_t indent_size;
};

struct json_blanks json_last_line(
	const struct json_doc *doc, uint32_t lead, uint32_t begin);

/* The blanks at the beginning of the line that starts at the byte given. */
struct json_blanks json_indent(const struct json_doc *doc, uint32_t line);

/* A line break, the indentation and steps more of it. */
void json_write_line(struct buf *out, const struct json_style *style,
	const struct json_blanks *indent, uint32_t steps);

/* The value of a node in another's style: its line breaks kept, with the indentation given
 * and steps more of it; or (indent NULL) taken out. */
void json_write_value(struct buf *out, const struct json_doc *doc, uint32_t node,
	const struct json_style *style, const struct json_blanks *indent, uint32_t steps);

#endif
