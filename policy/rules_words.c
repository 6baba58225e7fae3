#include "policy/rules_words.h"

#include <stdio.h>
#include <string.h>

enum { WORD_SHOWN = 80, DISTANCE_MAX_BYTES = 32 };

static const struct unit {
	const char *name;
	int64_t ns;
} units[] = {{"ms", NS_PER_MS}, {"s", NS_PER_S}, {"m", NS_PER_MIN}, {"h", NS_PER_H}};

/* Starts a message: "line 3: ". */
static void say_line(const struct place *at)
{
	buf_reset(at->error);
	buf_printf(at->error, "%sline %u: ", at->builtin ? "built-in " : "", at->number);
}

static void say_word(const struct place *at, const char *lead, struct word w)
{
	bool fits = w.size < WORD_SHOWN;

	buf_puts(at->error, lead);
	buf_putc(at->error, '"');
	buf_put_name(at->error, w.s, fits ? w.size : WORD_SHOWN);
	buf_puts(at->error, fits ? "\"" : "…\"");
}

int rules_say_wrong(
	const struct place *at, const char *lead, struct word w, const char *rest)
{
	if (at->error) {
		say_line(at);
		say_word(at, lead, w);
		buf_puts(at->error, rest);
	}
	return -EINVAL;
}

/* Edit distance, two rows at a time. */
static size_t distance(struct word a, const char *b)
{
	size_t row[DISTANCE_MAX_BYTES + 1], b_size = strlen(b);

	if (a.size > DISTANCE_MAX_BYTES || b_size > DISTANCE_MAX_BYTES)
		return SIZE_MAX;
	for (size_t j = 0; j <= b_size; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.size; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b_size; j++) {
			size_t change = diagonal + (a.s[i - 1] != b[j - 1]);
			size_t insert = row[j - 1] + 1, remove = row[j] + 1;

			diagonal = row[j];
			row[j] = insert < remove ? insert : remove;
			if (change < row[j])
				row[j] = change;
		}
	}
	return row[b_size];
}

const char *rules_word_nearest(struct word w, const char *const *names, size_t n_names)
{
	size_t best = SIZE_MAX, nearest = 0;

	for (size_t i = 0; i < n_names; i++) {
		size_t d = distance(w, names[i]);

		if (d < best) {
			best = d;
			nearest = i;
		}
	}
	if (best == SIZE_MAX || best > 1 + strlen(names[nearest]) / 3)
		return NULL;
	return names[nearest];
}

int rules_say_unknown(const struct place *at, const char *what, struct word w,
	const char *const *names, size_t n_names)
{
	const char *near = rules_word_nearest(w, names, n_names);

	if (!at->error)
		return -EINVAL;
	say_line(at);
	buf_printf(at->error, "unknown %s ", what);
	say_word(at, "", w);
	if (near) {
		buf_printf(at->error, ": did you mean \"%s\"?", near);
		return -EINVAL;
	}
	buf_puts(at->error, ": use ");
	for (size_t i = 0; i < n_names; i++) {
		buf_puts(at->error, i == 0 ? "" : i + 1 < n_names ? ", " : " or ");
		buf_puts(at->error, names[i]);
	}
	return -EINVAL;
}

bool rules_word_is(struct word w, const char *s)
{
	return w.size == strlen(s) && memcmp(w.s, s, w.size) == 0;
}

int rules_word_find(struct word w, const char *const *names, size_t n_names)
{
	for (size_t i = 0; i < n_names; i++) {
		if (rules_word_is(w, names[i]))
			return (int)i;
	}
	return -1;
}

bool rules_word_is_name(struct word w)
{
	bool good = w.size > 0 && w.size <= 64;

	for (size_t i = 0; good && i < w.size; i++) {
		char c = w.s[i];

		good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		       (c >= '0' && c <= '9') || c == '_' || c == '-' ||
		       (c == '.' && i > 0);
	}
	return good;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

size_t rules_skip_blanks(const char *s, size_t size, size_t i)
{
	while (i < size && is_blank(s[i]))
		i++;
	return i;
}

size_t rules_skip_word(const char *s, size_t size, size_t i)
{
	while (i < size && !is_blank(s[i]))
		i++;
	return i;
}

/* One escape of a C string at s[0] == '\\'; the bytes used, 0 when it is none. */
static size_t unescape(const char *s, size_t size, char *c)
{
	static const char from[] = "abfnrtv\\\"", to[] = "\a\b\f\n\r\t\v\\\"";
	const char *simple = size > 1 && s[1] ? strchr(from, s[1]) : NULL;
	unsigned value = 0;

	if (simple) {
		*c = to[simple - from];
		return 2;
	}
	if (size < 4 || s[1] > '3')
		return 0;
	for (size_t i = 1; i < 4; i++) {
		if (s[i] < '0' || s[i] > '7')
			return 0;
		value = value * 8 + (unsigned)(s[i] - '0');
	}
	*c = (char)value;
	return 4;
}

int rules_word_unquote(const struct place *at, const char *what, const char *s, size_t size,
	char *out, size_t *out_size, size_t *used)
{
	bool pattern = strcmp(what, "pattern") == 0;
	struct word whole = {s, size};
	char lead[64];
	size_t n = 0;

	for (size_t i = 1; i < size;) {
		size_t step = 1;

		if (s[i] == '"') {
			snprintf(
				lead, sizeof(lead), "no blank after the quoted %s: ", what);
			if (i + 1 < size && !is_blank(s[i + 1]))
				return rules_say_wrong(at, lead, whole, "");
			*out_size = n;
			*used = i + 1;
			return 0;
		}
		out[n] = s[i];
		if (s[i] == '\\')
			step = unescape(s + i, size - i, &out[n]);
		if (!step) {
			snprintf(lead, sizeof(lead), "bad escape in the quoted %s: ", what);
			return rules_say_wrong(at, lead, whole,
				pattern ? " (for a glob's backslash write two)"
					: " (for a backslash write two)");
		}
		n++;
		i += step;
	}
	return rules_say_wrong(at, "the quote is not closed: ", whole, "");
}

static const struct unit *find_unit(struct word w)
{
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (rules_word_is(w, units[i].name))
			return &units[i];
	}
	return NULL;
}

int rules_word_span(
	const struct place *at, const struct rules_span *span, struct word w, int64_t *ns)
{
	char rest[64];
	size_t digits = 0;
	int64_t n = 0;
	const struct unit *unit;

	for (; digits < w.size && digits < 9; digits++) {
		if (w.s[digits] < '0' || w.s[digits] > '9')
			break;
		n = n * 10 + (w.s[digits] - '0');
	}
	snprintf(rest, sizeof(rest), " (%s)", span->bounds);
	if (digits == 0)
		return rules_say_wrong(at, "not a length of time: ", w,
			": write a whole number and ms, s, m or h, as in 30s");
	unit = find_unit((struct word){w.s + digits, w.size - digits});
	if (!unit && digits == w.size && n != 0)
		return rules_say_wrong(
			at, "no unit in ", w, ": write ms, s, m or h after it, as in 30s");
	if (!unit && digits == w.size)
		unit = &units[0]; /* nothing is nothing in any unit */
	if (!unit && (digits == 9 || w.s[digits] == '.'))
		return rules_say_wrong(at, "not a whole number: ", w, rest);
	if (!unit)
		return rules_say_wrong(at, "unknown unit in ", w, ": use ms, s, m or h");
	if (__builtin_mul_overflow(n, unit->ns, &n) || n < span->min_ns || n > span->max_ns)
		return rules_say_wrong(at, "out of bounds: ", w, rest);
	*ns = n;
	return 0;
}
