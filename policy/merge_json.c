#include "policy/merge_json.h"

#include <json-c/json.h>
#include <string.h>

#include "policy/merge_json_internal.h"

enum { MAX_KEY_SHOWN = 100, MAX_PATH_SHOWN = 1000 };

void json_items_done(struct json_items *list)
{
	free(list->items);
	*list = (struct json_items){0};
}

int json_items_add(struct json_items *list, struct json_item item)
{
	if (list->n == list->cap) {
		uint32_t cap = list->cap ? 2 * list->cap : 16;
		void *grown = reallocarray(list->items, cap, sizeof(item));

		if (!grown)
			return -ENOMEM;
		list->items = grown;
		list->cap = cap;
	}
	list->items[list->n++] = item;
	return 0;
}

static bool is_plain(const char *s, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++) {
		if (!(s[i] >= 'a' && s[i] <= 'z') && !(s[i] >= 'A' && s[i] <= 'Z') &&
			!(s[i] >= '0' && s[i] <= '9') && s[i] != '_' && s[i] != '-')
			return false;
	}
	return size;
}

/* .key, or ["a key"] as the document writes it. */
static void put_key(struct buf *out, const struct json_doc *doc, uint32_t member)
{
	const char *s = doc->text + doc->nodes[member].key_start;
	uint32_t size = doc->nodes[member].key_end - doc->nodes[member].key_start;

	if (is_plain(s + 1, size - 2) && size <= MAX_KEY_SHOWN) {
		buf_putc(out, '.');
		buf_append(out, s + 1, size - 2);
		return;
	}
	buf_putc(out, '[');
	buf_put_name(out, s, size <= MAX_KEY_SHOWN ? size : MAX_KEY_SHOWN);
	buf_puts(out, size <= MAX_KEY_SHOWN ? "]" : "…\"]");
}

void json_conflict(struct json_merge *m, const char *said)
{
	size_t begin = m->why->len;

	if (m->n_conflicts++)
		return;
	buf_putc(m->why, '$');
	for (uint32_t i = 0; i < m->depth && m->why->len - begin < MAX_PATH_SHOWN; i++) {
		if (m->path[i].doc)
			put_key(m->why, m->path[i].doc, m->path[i].at);
		else
			buf_printf(m->why, "[%u]", m->path[i].at);
	}
	if (m->why->len - begin >= MAX_PATH_SHOWN)
		buf_puts(m->why, "…");
	buf_printf(m->why, ": %s", said);
}

void json_conflict_at(
	struct json_merge *m, const struct json_doc *doc, uint32_t at, const char *said)
{
	assert(m->depth < ARRAY_SIZE(m->path));
	m->path[m->depth++] = (struct json_step){.doc = doc, .at = at};
	json_conflict(m, said);
	m->depth--;
}

static bool both_are(const struct json_merge *m, struct json_three at, enum json_kind kind)
{
	return m->current.nodes[at.current].kind == kind &&
	       m->new.nodes[at.new].kind == kind;
}

/* The base's member of the same key; NONE also where its object is not there. */
static uint32_t in_base(const struct json_merge *m, uint32_t object,
	const struct json_doc *other, uint32_t member)
{
	return object == JSON_NONE ? JSON_NONE : json_find(&m->base, object, other, member);
}

/* What there is of a member of current. */
static struct json_item find_member(
	const struct json_merge *m, struct json_three in, uint32_t member)
{
	struct json_item item = {.take = TAKE_BOTH,
		.at = {in_base(m, in.base, &m->current, member), member,
			json_find(&m->new, in.new, &m->current, member)}};

	if (item.at.new == JSON_NONE)
		item.take = TAKE_CURRENT;
	return item;
}

static bool stays(struct json_merge *m, const struct json_item *item)
{
	if (item->at.new != JSON_NONE || item->at.base == JSON_NONE)
		return true;
	if (json_equal(&m->base, item->at.base, &m->current, item->at.current))
		return false;
	json_conflict_at(
		m, &m->current, item->at.current, "removed by you, changed by the others");
	return true;
}

/* A member that new added, and behind which of current's it belongs (0: none). */
struct addition {
	uint32_t behind, member;
};

static int compare_additions(const void *a, const void *b)
{
	const struct addition *x = a, *y = b;

	if (x->behind != y->behind)
		return x->behind < y->behind ? -1 : 1;
	return x->member < y->member ? -1 : x->member > y->member;
}

static uint32_t find_additions(
	struct json_merge *m, struct json_three in, struct addition *additions)
{
	uint32_t n = 0, behind = 0;

	for (uint32_t c = json_first(&m->new, in.new); c != JSON_NONE;
		c = json_next(&m->new, in.new, c)) {
		uint32_t current = json_find(&m->current, in.current, &m->new, c);
		uint32_t base = in_base(m, in.base, &m->new, c);

		if (current != JSON_NONE)
			behind = current;
		else if (base == JSON_NONE)
			additions[n++] = (struct addition){.behind = behind, .member = c};
		else if (!json_same(&m->base, base, &m->new, c))
			json_conflict_at(
				m, &m->new, c, "removed by the others, changed by you");
	}
	qsort(additions, n, sizeof(*additions), compare_additions);
	return n;
}

static int put_additions(struct json_items *list, const struct addition *additions,
	uint32_t n, uint32_t *next, uint32_t before)
{
	int r = 0;

	for (; *next < n && additions[*next].behind < before && r == 0; (*next)++)
		r = json_items_add(list,
			(struct json_item){.take = TAKE_NEW,
				.at = {JSON_NONE, JSON_NONE, additions[*next].member}});
	return r;
}

static int merge_members(
	struct json_merge *m, struct json_three in, struct json_items *list)
{
	auto_free struct addition *additions = NULL;
	uint32_t n, next = 0;
	int r = 0;

	additions = calloc(m->new.nodes[in.new].n_children + 1, sizeof(*additions));
	if (!additions)
		return -ENOMEM;
	n = find_additions(m, in, additions);
	for (uint32_t c = json_first(&m->current, in.current); c != JSON_NONE && r == 0;
		c = json_next(&m->current, in.current, c)) {
		struct json_item item = find_member(m, in, c);

		/* Where both have added something: current's first. */
		if (item.at.base != JSON_NONE || item.at.new != JSON_NONE)
			r = put_additions(list, additions, n, &next, c);
		if (r == 0 && stays(m, &item))
			r = json_items_add(list, item);
	}
	return r ?: put_additions(list, additions, n, &next, JSON_NONE);
}

/* The recursion (through json_write_items()) ends at JSON_DOC_MAX_DEPTH, beyond which
 * nothing was parsed. */
int json_merge_value(struct json_merge *m, struct json_three at, uint64_t *hash)
{
	const struct json_node *current = &m->current.nodes[at.current];
	auto_json_items list = {0};
	uint32_t n_conflicts = m->n_conflicts;
	int r;

	*hash = current->hash;
	if (json_equal(&m->current, at.current, &m->new, at.new) ||
		json_same(&m->base, at.base, &m->new, at.new)) {
		buf_append(m->out, m->current.text + current->start,
			current->end - current->start);
		return 0;
	}
	if (both_are(m, at, JSON_OBJECT)) {
		if (at.base != JSON_NONE && m->base.nodes[at.base].kind != JSON_OBJECT)
			at.base = JSON_NONE;
		r = merge_members(m, at, &list);
		return r ?: json_write_items(m, at.current, &list, hash);
	}
	if (json_same(&m->base, at.base, &m->current, at.current)) {
		*hash = m->new.nodes[at.new].hash;
		json_write_taken(m, at.current, at.new);
		return 0;
	}
	if (!both_are(m, at, JSON_ARRAY) || at.base == JSON_NONE ||
		m->base.nodes[at.base].kind != JSON_ARRAY) {
		json_conflict(m, "both changed it");
		return 0;
	}
	r = json_merge_array(m, at, &list);
	if (r < 0 || m->n_conflicts > n_conflicts)
		return r;
	return json_write_items(m, at.current, &list, hash);
}

/* A second opinion: json-c's. What it does not take is not JSON, whatever we think. */
static int json_c_accepts(const struct buf *text, bool *accepts)
{
	struct json_tokener *tokener = json_tokener_new_ex(JSON_DOC_MAX_DEPTH + 2);
	enum json_tokener_error error;
	struct json_object *object;

	if (!tokener)
		return -ENOMEM;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	/* With the NUL behind it, so that a number at the end is known to be over. */
	object = json_tokener_parse_ex(tokener, text->data, (int)text->len + 1);
	error = json_tokener_get_error(tokener);
	*accepts = error == json_tokener_success;
	/* Newer ones refuse integers that they cannot hold, but only as strict ones. */
	if (error == json_tokener_error_parse_number) {
		json_tokener_reset(tokener);
		json_tokener_set_flags(tokener, JSON_TOKENER_VALIDATE_UTF8);
		object = json_tokener_parse_ex(tokener, text->data, (int)text->len + 1);
		*accepts = json_tokener_get_error(tokener) == json_tokener_success;
	}
	json_object_put(object);
	json_tokener_free(tokener);
	return 0;
}

/* The result is not believed, but read again. */
static int verify(struct json_merge *m, uint64_t hash, bool *valid)
{
	auto_json_doc doc = {0};
	enum json_doc_answer answer;
	auto_buf said = {0};
	int r;

	*valid = false;
	if (buf_failed(m->out))
		return -ENOMEM;
	r = json_doc_parse(&doc, m->out->data, m->out->len, &answer, &said);
	if (r < 0)
		return r;
	if (answer == JSON_DOC_TOO_LARGE) {
		buf_printf(m->why, "too large to merge by key: the result, %s", said.data);
		return 0;
	}
	assert(answer == JSON_DOC_OK && doc.nodes[0].hash == hash);
	r = json_c_accepts(m->out, valid);
	if (r == 0 && !*valid)
		buf_puts(m->why, "not JSON: json-c does not take the result");
	return r;
}

static bool is_blank(const struct content *c)
{
	for (size_t i = 0; i < c->size; i++) {
		if (c->data[i] == '\0' || !strchr(" \t\r\n", c->data[i]))
			return false;
	}
	return true;
}

static bool same_bytes(const struct content *a, const struct content *b)
{
	return a->size == b->size && (!a->size || memcmp(a->data, b->data, a->size) == 0);
}

static int parse(struct json_doc *doc, const struct content *c, const char *who,
	struct buf *why, bool *ok)
{
	enum json_doc_answer answer;
	auto_buf said = {0};
	int r = json_doc_parse(doc, c->data, c->size, &answer, &said);

	*ok = r == 0 && answer == JSON_DOC_OK;
	if (r == 0 && !*ok)
		buf_printf(why, "%s: %s, %s",
			answer == JSON_DOC_WRONG ? "not JSON" : "too large to merge by key",
			who, said.data);
	return r;
}

/* Into m->out; *hash is what it must come to. */
static int merge(struct json_merge *m, const struct content *base,
	const struct content *current, const struct content *new, uint64_t *hash)
{
	const struct json_node *root = &m->current.nodes[0];
	int r;

	if (base && same_bytes(base, current)) {
		*hash = m->new.nodes[0].hash;
		buf_append(m->out, new->data, new->size);
		return 0;
	}
	m->style = json_style_of(&m->current, &m->new);
	buf_append(m->out, current->data, root->start);
	r = json_merge_value(m, (struct json_three){base ? 0 : JSON_NONE, 0, 0}, hash);
	buf_append(m->out, current->data + root->end, current->size - root->end);
	return r;
}

static int parse_and_merge(struct json_merge *m, const struct content *base,
	const struct content *current, const struct content *new, bool *clean)
{
	uint64_t hash;
	bool ok;
	int r;

	*clean = false;
	r = parse(&m->current, current, "what is there", m->why, &ok);
	if (r == 0 && ok)
		r = parse(&m->new, new, "what you wrote", m->why, &ok);
	if (r == 0 && ok && base)
		r = parse(&m->base, base, "what you read", m->why, &ok);
	if (r < 0 || !ok)
		return r;
	r = merge(m, base, current, new, &hash);
	if (r < 0)
		return r;
	if (m->n_conflicts) {
		if (m->n_conflicts > 1)
			buf_printf(m->why, " (and %u more)", m->n_conflicts - 1);
		return 0;
	}
	return verify(m, hash, clean);
}

/* A copy of our own: contents are mapped from files, and what looks at a byte twice must
 * find the same. What is too large is not looked at. */
static int copy(const struct content *c, struct content *out, char **memory)
{
	*out = *c;
	if (c->size > JSON_DOC_MAX_BYTES || !c->size)
		return 0;
	*memory = malloc(c->size);
	if (!*memory)
		return -ENOMEM;
	memcpy(*memory, c->data, c->size);
	out->data = *memory;
	return 0;
}

int merge_json(const struct content *base, bool known_base, const struct content *current,
	const struct content *new, enum merge_answer *answer, struct buf *merged,
	struct buf *why)
{
	static const struct content nothing = {0};
	auto_free struct json_merge *m = calloc(1, sizeof(*m));
	auto_free char *b_copy = NULL, *c_copy = NULL, *n_copy = NULL;
	auto_buf out = {0}, said = {0};
	struct content b, c, n;
	bool clean = false;
	int r;

	*answer = MERGE_CONFLICT;
	if (!m || copy(known_base ? base : &nothing, &b, &b_copy) < 0 ||
		copy(current, &c, &c_copy) < 0 || copy(new, &n, &n_copy) < 0)
		return -ENOMEM;
	m->out = &out;
	m->why = &said;
	r = parse_and_merge(m, is_blank(&b) ? NULL : &b, &c, &n, &clean);
	json_doc_done(&m->base);
	json_doc_done(&m->current);
	json_doc_done(&m->new);
	if (r < 0 || buf_failed(&said))
		return r ?: -ENOMEM;
	if (clean)
		buf_append(merged, out.data, out.len);
	else
		buf_append(why, said.data, said.len);
	if (buf_failed(merged) || buf_failed(why))
		return -ENOMEM;
	*answer = clean ? MERGE_CLEAN : MERGE_CONFLICT;
	return 0;
}
