#include "policy/merge_json_internal.h"

/* The container that is written, and what its children look like. */
struct writing {
	struct json_merge *m;
	uint32_t container, first; /* of current; first NONE: it is empty there */
	uint32_t like;		   /* the child whose place a new one copies */
	bool any;		   /* a child is written */
};

static void put(struct json_merge *m, uint32_t from, uint32_t to)
{
	assert(from <= to);
	buf_append(m->out, m->current.text + from, to - from);
}

/* The end of the blanks behind a child of current: where its ',' or the end stands. */
static uint32_t end_behind(const struct writing *w, uint32_t child)
{
	const struct json_doc *doc = &w->m->current;
	uint32_t next = json_next(doc, w->container, child);

	return next == JSON_NONE ? doc->nodes[w->container].end - 1
				 : doc->nodes[next].lead - 1;
}

static struct json_blanks lead_of(const struct json_doc *doc, uint32_t child)
{
	return json_last_line(doc, doc->nodes[child].lead, json_begin(&doc->nodes[child]));
}

/* How a child that is not the first begins: as the one beside it does. */
static struct json_blanks lead_between(const struct writing *w)
{
	const struct json_doc *doc = &w->m->current;
	struct json_blanks lead = lead_of(doc, w->like);

	if (w->like != w->first || lead.line)
		return lead;
	return (struct json_blanks){.s = " ", .size = w->m->style.comma_space};
}

/* The ',' and the blanks before a child. Where current's container is empty there are none
 * to copy, and the indentation told is the container's. */
static struct json_blanks begin_child(struct writing *w, uint32_t child)
{
	struct json_merge *m = w->m;
	const struct json_doc *doc = &m->current;
	struct json_blanks lead = {0};
	bool first = !w->any;

	if (!first)
		buf_putc(m->out, ',');
	w->any = true;
	if (w->first == JSON_NONE) {
		lead = json_indent(doc, doc->nodes[w->container].line);
		lead.line = m->style.lines;
		if (lead.line)
			json_write_line(m->out, &m->style, &lead, 1);
		else if (!first && m->style.comma_space)
			buf_putc(m->out, ' ');
		return lead;
	}
	if (first || (child != JSON_NONE && child != w->first)) {
		uint32_t from = first ? w->first : child;

		put(m, doc->nodes[from].lead, json_begin(&doc->nodes[from]));
		return lead_of(doc, from);
	}
	lead = lead_between(w);
	buf_append(m->out, lead.s, lead.size);
	return lead;
}

/* new's key, and what current has between a key and its value. */
static void put_key(const struct writing *w, uint32_t member)
{
	struct json_merge *m = w->m;
	const struct json_node *key = &m->new.nodes[member], *like = key;
	const struct json_doc *doc = &m->new;

	if (!key->key_end)
		return;
	buf_append(m->out, m->new.text + key->key_start, key->key_end - key->key_start);
	if (w->first != JSON_NONE) {
		doc = &m->current;
		like = &doc->nodes[w->like];
	}
	if (json_last_line(doc, like->key_end, like->start).line)
		buf_puts(m->out, ": ");
	else
		buf_append(m->out, doc->text + like->key_end, like->start - like->key_end);
}

static void put_addition(struct writing *w, uint32_t child)
{
	struct json_merge *m = w->m;
	struct json_blanks lead = begin_child(w, JSON_NONE);

	put_key(w, child);
	json_write_value(m->out, &m->new, child, &m->style, lead.line ? &lead : NULL,
		w->first == JSON_NONE);
}

static bool has_line_break(const struct json_doc *doc, uint32_t from, uint32_t to)
{
	return json_last_line(doc, from, to).line;
}

void json_write_taken(struct json_merge *m, uint32_t current, uint32_t new)
{
	const struct json_node *node = &m->current.nodes[current];
	struct json_blanks indent = {0};
	bool lines = current == 0 || has_line_break(&m->current, node->lead, node->end);

	/* The indentation may be long: it is looked for only where it will be written. */
	if (lines &&
		has_line_break(&m->new, m->new.nodes[new].start, m->new.nodes[new].end))
		indent = json_indent(&m->current, node->line);
	json_write_value(m->out, &m->new, new, &m->style, lines ? &indent : NULL, 0);
}

static int put_child(struct writing *w, const struct json_item *item, uint64_t *hash)
{
	struct json_merge *m = w->m;
	uint32_t child = item->at.current;
	const struct json_node *node = &m->current.nodes[child];
	int r = 0;

	begin_child(w, child);
	if (child != w->first)
		w->like = child;
	put(m, json_begin(node), node->start);
	if (item->take == TAKE_CURRENT) {
		put(m, node->start, node->end);
		*hash = node->hash;
	} else if (item->take == TAKE_NEW) {
		json_write_taken(m, child, item->at.new);
		*hash = m->new.nodes[item->at.new].hash;
	} else {
		assert(node->key_end && m->depth < ARRAY_SIZE(m->path));
		m->path[m->depth++] = (struct json_step){.doc = &m->current, .at = child};
		r = json_merge_value(m, item->at, hash);
		m->depth--;
	}
	return r;
}

static void put_end(const struct writing *w)
{
	struct json_merge *m = w->m;
	const struct json_doc *doc = &m->current;
	uint32_t container = w->container, last = w->first, next;

	if (w->any && w->first == JSON_NONE && m->style.lines) {
		struct json_blanks indent = json_indent(doc, doc->nodes[container].line);

		json_write_line(m->out, &m->style, &indent, 0);
	} else if (w->any && w->first != JSON_NONE) {
		while ((next = json_next(doc, container, last)) != JSON_NONE)
			last = next;
		put(m, doc->nodes[last].end, doc->nodes[container].end - 1);
	}
	put(m, doc->nodes[container].end - 1, doc->nodes[container].end);
}

int json_write_items(struct json_merge *m, uint32_t container,
	const struct json_items *list, uint64_t *hash)
{
	const struct json_doc *doc = &m->current;
	struct writing w = {
		.m = m, .container = container, .first = json_first(doc, container)};
	enum json_kind kind = doc->nodes[container].kind;
	uint64_t sum = 0, child_hash, key_hash;
	int r = 0;

	if (w.first != JSON_NONE) {
		w.like = json_next(doc, container, w.first);
		w.like = w.like == JSON_NONE ? w.first : w.like;
	}
	put(m, doc->nodes[container].start, doc->nodes[container].start + 1);
	for (uint32_t i = 0; i < list->n && r == 0; i++) {
		const struct json_item *item = &list->items[i];
		uint32_t child = item->at.current;

		if (child == JSON_NONE) {
			put_addition(&w, item->at.new);
			child_hash = m->new.nodes[item->at.new].hash;
			key_hash = m->new.nodes[item->at.new].key_hash;
		} else {
			r = put_child(&w, item, &child_hash);
			key_hash = doc->nodes[child].key_hash;
			if (i + 1 < list->n &&
				json_next(doc, container, child) != JSON_NONE)
				put(m, doc->nodes[child].end, end_behind(&w, child));
		}
		sum = json_hash_add(sum, kind, key_hash, child_hash);
	}
	put_end(&w);
	*hash = json_hash_end(sum, kind, list->n);
	return r;
}
