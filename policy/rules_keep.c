#include "policy/rules_keep.h"

#include <string.h>

#define NS_PER_DAY (24 * NS_PER_H)

static const char bounds[] = " (an age is 1h to 36500d, a number of versions 1 to "
			     "1000000000, a size 1K to 1048576G)";

enum limit_kind { LIMIT_COUNT, LIMIT_AGE, LIMIT_BYTES };

static const struct unit {
	char name; /* 0: none */
	enum limit_kind kind;
	uint64_t size, max; /* max: of the number before it */
} units[] = {
	{0, LIMIT_COUNT, 1, 1000000000},
	{'h', LIMIT_AGE, (uint64_t)NS_PER_H, 876000},
	{'d', LIMIT_AGE, (uint64_t)NS_PER_DAY, 36500},
	{'w', LIMIT_AGE, (uint64_t)(7 * NS_PER_DAY), 5214},
	{'K', LIMIT_BYTES, 1 << 10, 1ULL << 40},
	{'M', LIMIT_BYTES, 1 << 20, 1ULL << 30},
	{'G', LIMIT_BYTES, 1 << 30, 1ULL << 20},
};

static const struct unit *find_unit(struct word w, size_t digits)
{
	char name = digits < w.size ? w.s[digits] : 0;

	if (w.size > digits + 1)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (units[i].name == name)
			return &units[i];
	return NULL;
}

static int parse_limit(
	const struct place *at, struct word whole, struct word w, struct rule_keep *keep)
{
	const struct unit *unit;
	uint64_t n = 0, *to;
	size_t i = 0;

	for (; i < w.size && w.s[i] >= '0' && w.s[i] <= '9' && n < 1ULL << 50; i++)
		n = n * 10 + (uint64_t)(w.s[i] - '0');
	unit = find_unit(w, i);
	if (i == 0 || !unit)
		return rules_say_wrong(at, "unknown unit in ", w,
			": an age has h, d or w, a size K, M or G, a number of versions "
			"none");
	if (n == 0 || n > unit->max)
		return rules_say_wrong(at, "out of bounds: ", w, bounds);
	if (unit->kind == LIMIT_AGE) {
		if (keep->age_ns)
			goto twice;
		keep->age_ns = (int64_t)(n * unit->size);
		return 0;
	}
	to = unit->kind == LIMIT_COUNT ? &keep->count : &keep->bytes;
	if (*to)
		goto twice;
	*to = n * unit->size;
	return 0;
twice:
	return rules_say_wrong(
		at, "said twice in ", whole, ": one age, one number and one size at most");
}

int rules_keep_parse(const struct place *at, struct word value, struct rule_keep *out)
{
	struct rule_keep keep = {0};
	size_t i = 0;

	if (rules_word_is(value, "all")) {
		*out = keep;
		return 0;
	}
	while (i <= value.size) {
		const char *comma = memchr(value.s + i, ',', value.size - i);
		size_t end = comma ? (size_t)(comma - value.s) : value.size;
		struct word w = {value.s + i, end - i};
		int r = 0;

		if (w.size == 0)
			return rules_say_wrong(at, "nothing in ", value,
				": keep=30d, keep=100, keep=64M, several of them with "
				"commas, or keep=all");
		if (rules_word_is(w, "all"))
			return rules_say_wrong(at, "nothing goes with all: ", value, "");
		if (rules_word_is(w, "every"))
			keep.every = true;
		else
			r = parse_limit(at, value, w, &keep);
		if (r < 0)
			return r;
		i = end + 1;
	}
	if (keep.every && !keep.age_ns)
		return rules_say_wrong(
			at, "every goes with an age: ", value, ": only an age thins");
	*out = keep;
	return 0;
}

static void put(struct buf *out, uint64_t n, const char *unit)
{
	if (n)
		buf_printf(
			out, "%s%llu%s", out->len ? "," : "", (unsigned long long)n, unit);
}

void rules_keep_put(const struct rule_keep *keep, struct buf *out)
{
	uint64_t hours = (uint64_t)(keep->age_ns / NS_PER_H);
	unsigned shift = keep->bytes % (1 << 30) == 0	? 30
			 : keep->bytes % (1 << 20) == 0 ? 20
							: 10;
	auto_buf text = {0};

	put(&text, hours % 24 ? hours : hours / 24, hours % 24 ? "h" : "d");
	put(&text, keep->count, "");
	put(&text, keep->bytes >> shift, shift == 30 ? "G" : shift == 20 ? "M" : "K");
	if (keep->every)
		buf_puts(&text, ",every");
	buf_puts(out, text.data ?: "all");
}
