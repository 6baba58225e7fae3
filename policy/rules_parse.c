#include <string.h>

#include "policy/directives.h"
#include "policy/rules_internal.h"
#include "policy/rules_keep.h"
#include "policy/rules_words.h"

static const char *const key_names[N_RULE_KEYS] = {
	[KEY_MODE] = "mode",
	[KEY_STRATEGY] = "strategy",
	[KEY_TTL] = "ttl",
	[KEY_WAIT] = "wait",
	[KEY_LINGER] = "linger",
	[KEY_SETTLE] = "settle",
	[KEY_CHECKPOINT] = "checkpoint",
	[KEY_DURABILITY] = "durability",
	[KEY_KEEP] = "keep",
};

static const char *const mode_names[] = {
	[MODE_GUARD] = "guard",
	[MODE_TRACK] = "track",
	[MODE_PASS] = "pass",
	[MODE_APPEND] = "append",
	[MODE_FROZEN] = "frozen",
};

/* "driver" alone is not a value: it wants a name. */
static const char *const strategy_names[] = {
	[STRATEGY_REJECT] = "reject",
	[STRATEGY_MERGE] = "merge",
	[STRATEGY_UNION] = "union",
	[STRATEGY_JSON] = "json",
	[STRATEGY_DRIVER] = "driver:NAME",
	[STRATEGY_LAST_WRITER] = "last-writer",
};

static const char *const durability_names[] = {
	[DURABILITY_PROCESS] = "process",
	[DURABILITY_FSYNC] = "fsync",
	[DURABILITY_CLOSE] = "close",
};

static const struct span_key {
	struct rules_span bounds;
	size_t offset;
} span_keys[N_RULE_KEYS] = {
	[KEY_TTL] = {{10 * NS_PER_MS, 24 * NS_PER_H, "ttl is 10ms to 24h"},
		offsetof(struct rule, ttl_ns)},
	[KEY_WAIT] = {{0, NS_PER_H, "wait is 0 to 1h"}, offsetof(struct rule, wait_ns)},
	[KEY_LINGER] = {{0, 24 * NS_PER_H, "linger is 0 to 24h"},
		offsetof(struct rule, linger_ns)},
	[KEY_SETTLE] = {{0, NS_PER_MIN, "settle is 0 to 1m"},
		offsetof(struct rule, settle_ns)},
	[KEY_CHECKPOINT] = {{10 * NS_PER_MS, 24 * NS_PER_H, "checkpoint is 10ms to 24h"},
		offsetof(struct rule, checkpoint_ns)},
};

const char *rule_key_name(enum rule_key key)
{
	return key_names[key];
}

const char *rule_mode_name(enum rule_mode mode)
{
	return mode_names[mode];
}

const char *rule_strategy_name(enum rule_strategy strategy)
{
	return strategy == STRATEGY_DRIVER ? "driver" : strategy_names[strategy];
}

const char *rule_durability_name(enum rule_durability durability)
{
	return durability_names[durability];
}

static int parse_driver(const struct place *at, struct rule_line *line, struct word name)
{
	if (!rules_word_is_name(name))
		return rules_say_wrong(at, "not a driver's name: ", name,
			" (letters, digits, _, - and ., at most 64)");
	free(line->driver);
	line->driver = strndup(name.s, name.size);
	if (!line->driver)
		return -ENOMEM;
	line->values.strategy = STRATEGY_DRIVER;
	line->values.driver = line->driver;
	return 0;
}

static int parse_strategy(const struct place *at, struct rule_line *line, struct word value)
{
	static const char prefix[] = "driver:";
	size_t skip = sizeof(prefix) - 1;
	int i = rules_word_find(value, strategy_names, ARRAY_SIZE(strategy_names));

	if (value.size >= skip && memcmp(value.s, prefix, skip) == 0 && i < 0)
		return parse_driver(
			at, line, (struct word){value.s + skip, value.size - skip});
	if (i < 0)
		return rules_say_unknown(
			at, "strategy", value, strategy_names, ARRAY_SIZE(strategy_names));
	if (i == STRATEGY_DRIVER) /* the placeholder, word for word */
		return rules_say_wrong(
			at, "", value, ": put the driver's own name for NAME");
	line->values.strategy = (enum rule_strategy)i;
	line->values.driver = NULL;
	return 0;
}

static int parse_mode(const struct place *at, struct rule_line *line, struct word value)
{
	int i = rules_word_find(value, mode_names, ARRAY_SIZE(mode_names));

	if (i < 0)
		return rules_say_unknown(
			at, "mode", value, mode_names, ARRAY_SIZE(mode_names));
	line->values.mode = (enum rule_mode)i;
	return 0;
}

static int parse_durability(
	const struct place *at, struct rule_line *line, struct word value)
{
	int i = rules_word_find(value, durability_names, ARRAY_SIZE(durability_names));

	if (i < 0)
		return rules_say_unknown(at, "durability", value, durability_names,
			ARRAY_SIZE(durability_names));
	line->values.durability = (enum rule_durability)i;
	return 0;
}

static int parse_span(const struct place *at, enum rule_key key, struct rule_line *line,
	struct word value)
{
	const struct span_key *k = &span_keys[key];

	return rules_word_span(at, &k->bounds, value,
		(int64_t *)(void *)((char *)&line->values + k->offset));
}

static int parse_attribute(
	const struct place *at, struct rule_line *line, const char *s, size_t size)
{
	const char *equals = memchr(s, '=', size);
	struct word whole = {s, size}, key = {s, equals ? (size_t)(equals - s) : size},
		    value;
	int i, r;

	if (*s == '-' || *s == '!')
		return rules_say_wrong(at, "cannot unset ", whole,
			": a later line with another value does");
	i = rules_word_find(key, key_names, N_RULE_KEYS);
	if (i < 0)
		return rules_say_unknown(at, "key", key, key_names, N_RULE_KEYS);
	if (!equals)
		return rules_say_wrong(
			at, "no value for ", key, ": write key=value without blanks");
	value = (struct word){equals + 1, size - key.size - 1};
	if (i == KEY_MODE)
		r = parse_mode(at, line, value);
	else if (i == KEY_STRATEGY)
		r = parse_strategy(at, line, value);
	else if (i == KEY_DURABILITY)
		r = parse_durability(at, line, value);
	else if (i == KEY_KEEP)
		r = rules_keep_parse(at, value, &line->values.keep);
	else
		r = parse_span(at, (enum rule_key)i, line, value);
	if (r < 0)
		return r;
	line->keys |= 1u << i;
	return 0;
}

/* The pattern at the start of s; *used is what it takes of the line. */
static int parse_pattern(const struct place *at, struct rule_line *line, const char *s,
	size_t size, size_t *used)
{
	struct pattern_segment segments[PATTERN_MAX_SEGMENTS];
	auto_free char *text = malloc(size + 1);
	size_t text_size = *used = rules_skip_word(s, size, 0);
	const char *why;
	int r;

	if (!text)
		return -ENOMEM;
	memcpy(text, s, text_size);
	if (*s == '"') {
		r = rules_word_unquote(at, "pattern", s, size, text, &text_size, used);
		if (r < 0)
			return r;
	} else if (*s == '!') {
		return rules_say_wrong(at,
			"patterns cannot be negated: ", (struct word){s, text_size},
			": say it with a later line, or quote and escape it: \"\\\\!…\"");
	} else if (text_size > 6 && memcmp(s, "[attr]", 6) == 0) {
		return rules_say_wrong(
			at, "macros are not supported: ", (struct word){s, text_size}, "");
	}
	text[text_size] = '\0';
	r = pattern_compile(&line->pattern, segments, text, text_size, &why);
	if (r < 0) {
		rules_say_wrong(at, "bad pattern ", (struct word){text, text_size}, ": ");
		if (at->error)
			buf_puts(at->error, why);
		return r;
	}
	line->segments = calloc(line->pattern.n_segments, sizeof(*line->segments));
	if (!line->segments)
		return -ENOMEM;
	memcpy(line->segments, segments,
		line->pattern.n_segments * sizeof(*line->segments));
	line->pattern.segments = line->segments;
	line->pattern_text = steal_ptr(text);
	return 0;
}

static void line_done(struct rule_line *line)
{
	free(line->pattern_text);
	free(line->segments);
	free(line->driver);
}

static int append_line(struct rules *r, const struct rule_line *line)
{
	if (r->n_lines == r->cap_lines) {
		uint32_t cap = r->cap_lines ? 2 * r->cap_lines : 128;
		struct rule_line *lines = reallocarray(r->lines, cap, sizeof(*lines));

		if (!lines)
			return -ENOMEM;
		r->lines = lines;
		r->cap_lines = cap;
	}
	r->lines[r->n_lines++] = *line;
	return 0;
}

/* One line without its end, blanks around it cut off, not empty, no comment. */
static int parse_line(struct rules *r, const struct place *at, const char *s, size_t size)
{
	struct rule_line line = {
		.text = s,
		.text_size = (uint32_t)size,
		.number = at->number,
		.builtin = at->builtin,
		.next = RULES_NO_LINE,
	};
	size_t i;
	int result;

	if (memchr(s, '\0', size))
		return rules_say_wrong(at, "a NUL byte in ", (struct word){s, size}, "");
	if (r->n_lines >= RULES_MAX_LINES)
		return rules_say_wrong(at, "too many rules (at most 10000) at ",
			(struct word){s, size}, "");
	result = parse_pattern(at, &line, s, size, &i);
	while (result == 0) {
		size_t end;

		i = rules_skip_blanks(s, size, i);
		if (i == size)
			break;
		end = rules_skip_word(s, size, i);
		result = parse_attribute(at, &line, s + i, end - i);
		i = end;
	}
	if (result == 0 && !line.keys)
		result = rules_say_wrong(at, "nothing is said about ",
			(struct word){s, size}, ": write key=value after the pattern");
	if (result == 0)
		result = append_line(r, &line);
	if (result < 0)
		line_done(&line);
	return result;
}

/* One line that begins with '%', as parse_line(). */
static int parse_directive(
	struct rules *r, const struct place *at, const char *s, size_t size)
{
	if (!r->directives) {
		int result = directives_new(&r->directives);

		if (result < 0)
			return result;
	}
	return directives_parse(r->directives, at, s, size);
}

/* A driver may stand below its first use: so this comes last. */
int rules_check_drivers(const struct rules *r, struct buf *error)
{
	for (uint32_t i = 0; i < r->n_lines; i++) {
		const struct rule_line *line = &r->lines[i];
		struct place at = {line->number, line->builtin, error};

		if (line->values.driver && !rules_driver(r, line->values.driver))
			return directives_no_driver(
				r->directives, &at, line->values.driver);
	}
	return 0;
}

int rules_parse_text(
	struct rules *r, const char *text, size_t size, bool builtin, struct buf *error)
{
	struct place at = {.builtin = builtin, .error = error};
	size_t i = 0;

	while (i < size) {
		const char *newline = memchr(text + i, '\n', size - i);
		size_t next = newline ? (size_t)(newline - text) + 1 : size;
		size_t end = newline ? next - 1 : size;
		int result;

		at.number++;
		if (end > i && text[end - 1] == '\r')
			end--;
		i = rules_skip_blanks(text, end, i);
		while (end > i && (text[end - 1] == ' ' || text[end - 1] == '\t'))
			end--;
		if (end > i && text[i] == '%')
			result = parse_directive(r, &at, text + i, end - i);
		else if (end > i && text[i] != '#')
			result = parse_line(r, &at, text + i, end - i);
		else
			result = 0;
		if (result < 0)
			return result;
		i = next;
	}
	return 0;
}
