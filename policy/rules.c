#include <string.h>

#include "base/clock.h"
#include "base/table.h"
#include "policy/directives.h"
#include "policy/identity.h"
#include "policy/observe.h"
#include "policy/rules_internal.h"
#include "policy/rules_keep.h"
#include "policy/rules_words.h"

static const char file_mark[] = "\n# ---- the policy file, from its line 1 ----\n";

struct rules *rules_free(struct rules *r)
{
	if (!r)
		return NULL;
	for (uint32_t i = 0; i < r->n_lines; i++) {
		free(r->lines[i].pattern_text);
		free(r->lines[i].segments);
		free(r->lines[i].driver);
	}
	directives_free(r->directives);
	free(r->lines);
	free(r->index.slots);
	free(r->text);
	free(r);
	return NULL;
}

static void cleanup_rules(struct rules **r)
{
	rules_free(*r);
}

uint64_t rules_word_hash(const char *name, size_t size, bool is_extension)
{
	return table_hash_bytes(name, size, is_extension);
}

/* The word without which the pattern cannot hold; false when there is none. */
static bool pattern_word(const struct pattern *p, uint64_t *hash)
{
	const struct pattern_segment *last = &p->segments[p->n_segments - 1];

	for (uint32_t i = p->n_segments; i-- > 0;) {
		const struct pattern_segment *s = &p->segments[i];

		if (s->kind == SEGMENT_LITERAL) {
			*hash = rules_word_hash(s->text, s->size, false);
			return true;
		}
	}
	if (p->below || last->kind != SEGMENT_SUFFIX || last->size < 2 ||
		memrchr(last->text, '.', last->size) != last->text)
		return false;
	*hash = rules_word_hash(last->text, last->size, true);
	return true;
}

static int build_index(struct rules *r)
{
	struct rules_index *index = &r->index;
	uint64_t n = 64;

	while (n < 4ull * r->n_lines)
		n *= 2;
	index->slots = malloc(n * sizeof(*index->slots));
	if (!index->slots)
		return -ENOMEM;
	index->mask = n - 1;
	index->always = RULES_NO_LINE;
	for (uint64_t i = 0; i < n; i++)
		index->slots[i] = RULES_NO_LINE;
	for (uint32_t i = 0; i < r->n_lines; i++) {
		uint32_t *slot = &index->always;
		uint64_t hash;

		if (pattern_word(&r->lines[i].pattern, &hash))
			slot = &index->slots[hash & index->mask];
		r->lines[i].next = *slot; /* the last line comes first: it decides most */
		*slot = i;
	}
	return 0;
}

/* One path being looked up: which line decides each key so far. */
struct lookup {
	const struct rules *rules;
	const char *path;
	size_t size;
	bool is_dir;
	uint32_t best[N_RULE_KEYS];
};

/* The keys that this line sets and that no later line has decided yet. */
static uint32_t open_keys(const struct lookup *l, uint32_t i)
{
	uint32_t open = 0;

	for (uint32_t keys = l->rules->lines[i].keys; keys; keys &= keys - 1) {
		uint32_t key = (uint32_t)__builtin_ctz(keys);

		if (l->best[key] == RULES_NO_LINE || l->best[key] < i)
			open |= 1u << key;
	}
	return open;
}

static void try_lines(struct lookup *l, uint32_t i)
{
	for (; i != RULES_NO_LINE; i = l->rules->lines[i].next) {
		uint32_t open = open_keys(l, i);

		if (!open || !pattern_match(&l->rules->lines[i].pattern, l->path, l->size,
				     l->is_dir))
			continue;
		for (; open; open &= open - 1)
			l->best[__builtin_ctz(open)] = i;
	}
}

static void try_word(struct lookup *l, const char *word, size_t size, bool is_extension)
{
	const struct rules_index *index = &l->rules->index;

	try_lines(l, index->slots[rules_word_hash(word, size, is_extension) & index->mask]);
}

/*
 * The names, from the first to the last, then the extension, then the lines without a
 * word. Measured (gcc -O2, the built-in lines, 2 cores): 90 ns for README.md, 230 ns for a
 * path of eight names; trying every line took 490 and 2,400 ns.
 */
static void find_lines(struct lookup *l)
{
	const char *name = l->path, *end = l->path + l->size, *dot, *slash;

	memset(l->best, 0xff, sizeof(l->best));
	while (true) {
		slash = memchr(name, '/', end - name);
		try_word(l, name, (slash ?: end) - name, false);
		if (!slash)
			break;
		name = slash + 1;
	}
	dot = memrchr(name, '.', end - name);
	if (dot)
		try_word(l, dot, end - dot, true);
	try_lines(l, l->rules->index.always);
	for (int key = 0; key < N_RULE_KEYS; key++)
		assert(l->best[key] != RULES_NO_LINE); /* the first built-in line: * */
}

static struct lookup lookup_path(
	const struct rules *r, const char *path, size_t size, bool is_dir)
{
	struct lookup l = {
		.rules = r,
		.path = size ? path : "",
		.size = size,
		.is_dir = is_dir,
	};

	find_lines(&l);
	return l;
}

static const struct rule_line *line_of(
	const struct rules *r, const char *path, enum rule_key key)
{
	struct lookup l = lookup_path(r, path, strlen(path), false);

	return &r->lines[l.best[key]];
}

/* What passes has no versions, and a version is what makes us read the file again: a
 * policy under which its own file passes could not be changed while mounted. */
static int check_own_file(const struct rules *r, struct buf *error)
{
	const struct rule_line *line = line_of(r, RULES_FILE, KEY_MODE);
	struct place at = {line->number, line->builtin, error};

	if (line->values.mode != MODE_PASS)
		return 0;
	return rules_say_wrong(&at, "under ", (struct word){line->text, line->text_size},
		" a change of this file would go unnoticed: add a line " RULES_FILE
		" mode=guard below it");
}

int rules_parse(struct rules **out, const char *text, size_t size, struct buf *error)
{
	__attribute__((cleanup(cleanup_rules))) struct rules *r = calloc(1, sizeof(*r));
	const char *builtin = rules_builtin_text();
	int result;

	if (!r)
		return -ENOMEM;
	if (size > RULES_MAX_BYTES) {
		if (error)
			buf_puts(error, "line 1: the policy is larger than 1 MiB");
		return -EINVAL;
	}
	result = rules_parse_text(r, builtin, strlen(builtin), true, error);
	assert(result != -EINVAL); /* our own text; a test reads it too */
	if (result < 0)
		return result;
	if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark */
		text += 3;
		size -= 3;
	}
	r->text = malloc(size + 1);
	if (!r->text)
		return -ENOMEM;
	if (size)
		memcpy(r->text, text, size);
	r->text[size] = '\0';
	r->text_size = size;
	result = rules_parse_text(r, r->text, size, false, error);
	if (result == 0)
		result = rules_check_drivers(r, error);
	if (result == 0)
		result = build_index(r);
	if (result == 0)
		result = check_own_file(r, error);
	if (result < 0)
		return result;
	*out = steal_ptr(r);
	return 0;
}

static const struct rule *decided(const struct lookup *l, enum rule_key key)
{
	return &l->rules->lines[l->best[key]].values;
}

void rules_lookup(
	const struct rules *r, const char *path, size_t len, bool is_dir, struct rule *out)
{
	struct lookup l = lookup_path(r, path, len, is_dir);

	*out = (struct rule){
		.mode = decided(&l, KEY_MODE)->mode,
		.strategy = decided(&l, KEY_STRATEGY)->strategy,
		.driver = decided(&l, KEY_STRATEGY)->driver,
		.ttl_ns = decided(&l, KEY_TTL)->ttl_ns,
		.wait_ns = decided(&l, KEY_WAIT)->wait_ns,
		.linger_ns = decided(&l, KEY_LINGER)->linger_ns,
		.settle_ns = decided(&l, KEY_SETTLE)->settle_ns,
		.checkpoint_ns = decided(&l, KEY_CHECKPOINT)->checkpoint_ns,
		.durability = decided(&l, KEY_DURABILITY)->durability,
		.keep = decided(&l, KEY_KEEP)->keep,
	};
}

static void put_span(struct buf *out, int64_t ns)
{
	static const struct {
		const char *name;
		int64_t ns;
	} units[] = {{"h", 3600 * NS_PER_S}, {"m", 60 * NS_PER_S}, {"s", NS_PER_S}};

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		/* 60s stays 60s, as people write it; 120s becomes 2m. */
		if (ns > units[i].ns && ns % units[i].ns == 0) {
			buf_printf(out, "%lld%s", (long long)(ns / units[i].ns),
				units[i].name);
			return;
		}
	}
	if (ns == NS_PER_S)
		buf_puts(out, "1s");
	else if (ns)
		buf_printf(out, "%lldms", (long long)(ns / NS_PER_MS));
	else
		buf_putc(out, '0');
}

static void put_value(struct buf *out, enum rule_key key, const struct rule *rule)
{
	switch (key) {
	case KEY_MODE:
		buf_puts(out, rule_mode_name(rule->mode));
		break;
	case KEY_STRATEGY:
		buf_puts(out, rule_strategy_name(rule->strategy));
		if (rule->driver)
			buf_printf(out, ":%s", rule->driver);
		break;
	case KEY_TTL:
		put_span(out, rule->ttl_ns);
		break;
	case KEY_WAIT:
		put_span(out, rule->wait_ns);
		break;
	case KEY_LINGER:
		put_span(out, rule->linger_ns);
		break;
	case KEY_SETTLE:
		put_span(out, rule->settle_ns);
		break;
	case KEY_CHECKPOINT:
		put_span(out, rule->checkpoint_ns);
		break;
	case KEY_DURABILITY:
		buf_puts(out, rule_durability_name(rule->durability));
		break;
	case KEY_KEEP:
		rules_keep_put(&rule->keep, out);
		break;
	case N_RULE_KEYS:
		assert(false);
	}
}

void rules_each_reason(const struct rules *r, const char *path, size_t len, bool is_dir,
	rule_reason_fn *fn, void *ctx)
{
	struct lookup l = lookup_path(r, path, len, is_dir);

	for (enum rule_key key = 0; key < N_RULE_KEYS; key++) {
		const struct rule_line *line = &r->lines[l.best[key]];
		auto_buf value = {0};
		struct rule_reason reason = {
			.key = rule_key_name(key),
			.builtin = line->builtin,
			.number = line->number,
			.line = line->text,
			.line_size = line->text_size,
		};

		put_value(&value, key, &line->values);
		reason.value = value.data ?: "";
		fn(&reason, ctx);
	}
}

static void explain_one(const struct rule_reason *reason, void *ctx)
{
	struct buf *out = ctx;
	size_t start = out->len;

	buf_printf(out, "%s=%s", reason->key, reason->value);
	do
		buf_putc(out, ' ');
	while (!buf_failed(out) && out->len < start + 24);
	buf_printf(out, "%s line %u: ", reason->builtin ? "built-in" : "policy",
		reason->number);
	buf_put_name(out, reason->line, reason->line_size);
	buf_putc(out, '\n');
}

void rules_explain(
	const struct rules *r, const char *path, size_t len, bool is_dir, struct buf *out)
{
	rules_each_reason(r, path, len, is_dir, explain_one, out);
}

const struct writer_table *rules_writer_table(const struct rules *r)
{
	return r->directives ? directives_writer_table(r->directives)
			     : writer_table_builtin();
}

const struct driver_entry *rules_driver(const struct rules *r, const char *name)
{
	return r->directives ? directives_driver(r->directives, name) : NULL;
}

uint16_t rules_observations(const struct rules *r)
{
	uint16_t n = r->directives ? directives_observations(r->directives) : 0;

	return n ? n : OBSERVE_ACTORS;
}

bool rules_merges(const struct rules *r)
{
	for (uint32_t i = 0; i < r->n_lines; i++) {
		const struct rule_line *line = &r->lines[i];

		if (line->builtin || !(line->keys & 1u << KEY_STRATEGY))
			continue;
		if (line->values.strategy != STRATEGY_REJECT &&
			line->values.strategy != STRATEGY_LAST_WRITER)
			return true;
	}
	return false;
}

bool rules_is_from(const struct rules *r, const char *text, size_t size)
{
	return r->text_size == size && (size == 0 || memcmp(r->text, text, size) == 0);
}

void rules_count(const struct rules *r, unsigned *n_rules, unsigned *n_directives)
{
	*n_rules = 0;
	for (uint32_t i = 0; i < r->n_lines; i++)
		*n_rules += !r->lines[i].builtin;
	*n_directives = r->directives ? directives_count(r->directives) : 0;
}

void rules_text(const struct rules *r, struct buf *out)
{
	buf_puts(out, rules_builtin_text());
	buf_puts(out, file_mark);
	buf_append(out, r->text, r->text_size);
	if (r->text_size && r->text[r->text_size - 1] != '\n')
		buf_putc(out, '\n');
}

void rules_text_file(const char *text, size_t size, const char **file, size_t *file_size)
{
	const char *mark = memmem(text, size, file_mark, strlen(file_mark));

	*file = mark ? mark + strlen(file_mark) : text;
	*file_size = size - (size_t)(*file - text);
}
