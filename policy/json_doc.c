#include "policy/json_doc.h"

#include <string.h>

#include "base/hash.h"
#include "base/table.h"
#include "policy/json_text.h"

struct parser {
	struct json_doc *doc;
	uint32_t at, line;		    /* here, and the start of this line */
	uint32_t stack[JSON_DOC_MAX_DEPTH]; /* the containers that are open */
	uint32_t depth;
	struct json_node next; /* key, lead and line of the value that comes */
	struct buf scratch;
	const char *what; /* the first thing wrong */
	enum json_doc_answer answer;
};

uint64_t json_hash_add(uint64_t sum, enum json_kind kind, uint64_t key_hash, uint64_t hash)
{
	/* Members in any order, elements in theirs. */
	if (kind == JSON_OBJECT)
		return sum + table_hash_u64(key_hash ^ table_hash_u64(hash));
	return table_hash_u64(sum) + hash;
}

uint64_t json_hash_end(uint64_t sum, enum json_kind kind, uint32_t n_children)
{
	return table_hash_u64(sum ^ table_hash_u64((uint64_t)n_children << 3 | kind));
}

static int wrong(struct parser *p, const char *what)
{
	p->what = what;
	p->answer = JSON_DOC_WRONG;
	return 1;
}

static int too_large(struct parser *p, const char *what)
{
	p->what = what;
	p->answer = JSON_DOC_TOO_LARGE;
	return 1;
}

static char here(const struct parser *p)
{
	return p->at < p->doc->size ? p->doc->text[p->at] : '\0';
}

static void skip_blanks(struct parser *p)
{
	for (;; p->at++) {
		char c = here(p);

		if (c == '\n')
			p->line = p->at + 1;
		else if (c != ' ' && c != '\t' && c != '\r')
			return;
	}
}

static int array_grow(void *array_p, uint32_t *cap, uint32_t need, size_t size)
{
	void **array = array_p, *grown;
	uint32_t n = *cap ? *cap : 64;

	while (n < need)
		n *= 2;
	if (n == *cap)
		return 0;
	grown = reallocarray(*array, n, size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*cap = n;
	return 0;
}

/* By hash, then by what the key says: the same everywhere. */
static int compare_keys(
	const struct json_doc *x, uint32_t i, const struct json_doc *y, uint32_t j)
{
	const struct json_node *a = &x->nodes[i], *b = &y->nodes[j];

	if (a->key_hash != b->key_hash)
		return a->key_hash < b->key_hash ? -1 : 1;
	return json_string_compare(x->text + a->key_start, a->key_end - a->key_start,
		y->text + b->key_start, b->key_end - b->key_start);
}

static int compare_members(const void *a, const void *b, void *ctx)
{
	return compare_keys(ctx, *(const uint32_t *)a, ctx, *(const uint32_t *)b);
}

static int sort_members(struct parser *p, uint32_t object)
{
	struct json_doc *doc = p->doc;
	uint32_t n = doc->nodes[object].n_children, *sorted;
	int r = array_grow(
		&doc->sorted, &doc->cap_sorted, doc->n_sorted + n, sizeof(*doc->sorted));

	if (r < 0)
		return r;
	sorted = doc->sorted + doc->n_sorted;
	doc->nodes[object].sorted = doc->n_sorted;
	for (uint32_t c = json_first(doc, object); c != JSON_NONE;
		c = json_next(doc, object, c))
		doc->sorted[doc->n_sorted++] = c;
	assert(doc->sorted + doc->n_sorted == sorted + n);
	qsort_r(sorted, n, sizeof(*sorted), compare_members, doc);
	for (uint32_t i = 1; i < n; i++) {
		if (compare_keys(doc, sorted[i - 1], doc, sorted[i]) == 0) {
			const struct json_node *a = &doc->nodes[sorted[i - 1]];
			const struct json_node *b = &doc->nodes[sorted[i]];

			p->at = a->start > b->start ? a->key_start : b->key_start;
			return wrong(p, "the same key a second time in one object");
		}
	}
	return 0;
}

static int close_container(struct parser *p)
{
	struct json_doc *doc = p->doc;
	uint32_t i = p->stack[--p->depth];
	struct json_node *node = &doc->nodes[i];
	uint64_t sum = 0;
	int r;

	p->at++;
	node->end = p->at;
	node->after = doc->n_nodes;
	for (uint32_t c = json_first(doc, i); c != JSON_NONE; c = json_next(doc, i, c))
		sum = json_hash_add(
			sum, node->kind, doc->nodes[c].key_hash, doc->nodes[c].hash);
	node->hash = json_hash_end(sum, node->kind, node->n_children);
	r = node->kind == JSON_OBJECT ? sort_members(p, i) : 0;
	return r;
}

/* Behind a '{', '[' or ',': up to the value that must follow, over its key. */
static int begin_child(struct parser *p, uint32_t lead)
{
	struct json_doc *doc = p->doc;
	struct json_node *in = &doc->nodes[p->stack[p->depth - 1]];
	uint32_t n;
	int r;

	in->n_children++;
	p->next = (struct json_node){.lead = lead, .line = p->line};
	if (in->kind != JSON_OBJECT)
		return 0;
	if (here(p) != '"')
		return wrong(p, "expected a key");
	n = json_string_length(doc->text + p->at, doc->size - p->at, &p->what);
	if (!n)
		return wrong(p, p->what);
	r = json_string_hash(doc->text + p->at, n, &p->scratch, &p->next.key_hash);
	if (r < 0)
		return r;
	p->next.key_start = p->at;
	p->next.key_end = p->at += n;
	skip_blanks(p);
	if (here(p) != ':')
		return wrong(p, "expected ':'");
	p->at++;
	skip_blanks(p);
	return 0;
}

static int scalar(struct parser *p, struct json_node *node)
{
	const char *s = p->doc->text + p->at;
	uint32_t left = p->doc->size - p->at, n;
	int r = 0;

	if (!left)
		return wrong(p, "the end is missing");
	if (*s == '"') {
		node->kind = JSON_STRING;
		n = json_string_length(s, left, &p->what);
	} else if (*s == '-' || (*s >= '0' && *s <= '9')) {
		node->kind = JSON_NUMBER;
		n = json_number_length(s, left, &p->what);
	} else {
		node->kind = JSON_LITERAL;
		n = json_literal_length(s, left, &p->what);
	}
	if (!n)
		return wrong(p, p->what);
	if (node->kind == JSON_STRING)
		r = json_string_hash(s, n, &p->scratch, &node->hash);
	else
		node->hash = hash128_bytes(s, n).lo;
	node->hash = table_hash_u64(node->hash + node->kind);
	p->at += n;
	node->end = p->at;
	return r;
}

/* One value, or the beginning of a container that has children: then *open. */
static int value(struct parser *p, bool *open)
{
	struct json_doc *doc = p->doc;
	struct json_node *node;
	char c = here(p);
	uint32_t lead;
	int r;

	*open = false;
	if (doc->n_nodes == JSON_DOC_MAX_NODES)
		return too_large(p, "more than a million values");
	r = array_grow(&doc->nodes, &doc->cap_nodes, doc->n_nodes + 1, sizeof(*doc->nodes));
	if (r < 0)
		return r;
	node = &doc->nodes[doc->n_nodes++];
	*node = p->next;
	node->start = p->at;
	node->after = doc->n_nodes;
	if (c != '{' && c != '[')
		return scalar(p, node);
	if (p->depth == JSON_DOC_MAX_DEPTH)
		return too_large(p, "deeper than 128 levels");
	node->kind = c == '{' ? JSON_OBJECT : JSON_ARRAY;
	p->stack[p->depth++] = doc->n_nodes - 1;
	lead = ++p->at;
	skip_blanks(p);
	if (here(p) == (c == '{' ? '}' : ']'))
		return close_container(p);
	*open = true;
	return begin_child(p, lead);
}

/* Behind a value: the containers that end here, and up to the next value; *done at the
 * end of the text. */
static int behind_value(struct parser *p, bool *done)
{
	for (;;) {
		const struct json_node *in;
		int r;

		skip_blanks(p);
		*done = p->depth == 0;
		if (*done)
			return p->at == p->doc->size ? 0
						     : wrong(p, "something behind the end");
		in = &p->doc->nodes[p->stack[p->depth - 1]];
		if (here(p) == ',') {
			uint32_t lead = ++p->at;

			skip_blanks(p);
			return begin_child(p, lead);
		}
		if (here(p) != (in->kind == JSON_OBJECT ? '}' : ']'))
			return wrong(p, in->kind == JSON_OBJECT ? "expected ',' or '}'"
								: "expected ',' or ']'");
		r = close_container(p);
		if (r)
			return r;
	}
}

static int parse(struct parser *p)
{
	bool open, done = false;
	int r;

	skip_blanks(p);
	p->next = (struct json_node){.line = p->line};
	while (!done) {
		r = value(p, &open);
		if (!r && !open)
			r = behind_value(p, &done);
		if (r)
			return r;
	}
	assert(p->doc->n_nodes && p->doc->nodes[0].after == p->doc->n_nodes);
	return 0;
}

static void explain(const struct parser *p, struct buf *why)
{
	uint32_t line = 1;

	for (uint32_t i = 0; i < p->at && i < p->doc->size; i++)
		line += p->doc->text[i] == '\n';
	buf_printf(why, "line %u: %s", line, p->what);
}

int json_doc_parse(struct json_doc *doc, const char *text, size_t size,
	enum json_doc_answer *answer, struct buf *why)
{
	struct parser p = {.doc = doc};
	int r;

	*doc = (struct json_doc){.text = text ?: ""};
	*answer = JSON_DOC_TOO_LARGE;
	if (size > JSON_DOC_MAX_BYTES) {
		buf_puts(why, "larger than 16 MiB");
		return buf_failed(why) ? -ENOMEM : 0;
	}
	doc->size = (uint32_t)size;
	r = parse(&p);
	buf_done(&p.scratch);
	if (r > 0)
		explain(&p, why);
	if (r < 0 || buf_failed(why))
		return -ENOMEM;
	*answer = p.answer;
	return 0;
}

void json_doc_done(struct json_doc *doc)
{
	free(doc->nodes);
	free(doc->sorted);
	*doc = (struct json_doc){0};
}

uint32_t json_find(const struct json_doc *doc, uint32_t object,
	const struct json_doc *other, uint32_t member)
{
	const uint32_t *sorted = doc->sorted + doc->nodes[object].sorted;
	uint32_t low = 0, high = doc->nodes[object].n_children;

	assert(doc->nodes[object].kind == JSON_OBJECT && other->nodes[member].key_end);
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = compare_keys(doc, sorted[middle], other, member);

		if (order == 0)
			return sorted[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return JSON_NONE;
}

/* The recursion is not the text's to choose: it ends at JSON_DOC_MAX_DEPTH, beyond which
 * nothing was parsed. */
bool json_equal(const struct json_doc *a, uint32_t i, const struct json_doc *b, uint32_t j)
{
	const struct json_node *x = &a->nodes[i], *y = &b->nodes[j];
	uint32_t c, d;

	if (x->hash != y->hash || x->kind != y->kind || x->n_children != y->n_children)
		return false;
	if (x->kind == JSON_STRING)
		return json_string_compare(a->text + x->start, x->end - x->start,
			       b->text + y->start, y->end - y->start) == 0;
	if (x->kind < JSON_STRING)
		return x->end - x->start == y->end - y->start &&
		       memcmp(a->text + x->start, b->text + y->start, x->end - x->start) ==
			       0;
	c = json_first(a, i);
	d = json_first(b, j);
	while (c != JSON_NONE) {
		if (x->kind == JSON_OBJECT)
			d = json_find(b, j, a, c);
		if (d == JSON_NONE || !json_equal(a, c, b, d))
			return false;
		c = json_next(a, i, c);
		d = x->kind == JSON_OBJECT ? d : json_next(b, j, d);
	}
	return true;
}
