#include "cli/words.h"

#include <string.h>
#include <time.h>

#define DISTANCE_MAX_LEN 63

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* All of text as a number; false where it is empty, is no number or does not fit. */
static bool parse_u64(const char *text, size_t size, uint64_t *value)
{
	uint64_t v = 0;

	if (!size)
		return false;
	for (size_t i = 0; i < size; i++) {
		if (!is_digit(text[i]) || __builtin_mul_overflow(v, 10, &v) ||
			__builtin_add_overflow(v, (uint64_t)(text[i] - '0'), &v))
			return false;
	}
	*value = v;
	return true;
}

bool word_version(const char *word, size_t *path_len, uint64_t *number)
{
	const char *at = strrchr(word, '@');

	if (at && at != word && parse_u64(at + 1, strlen(at + 1), number)) {
		*path_len = (size_t)(at - word);
		return true;
	}
	*path_len = strlen(word);
	*number = 0;
	return false;
}

bool word_span_ms(const char *word, int64_t *ms)
{
	static const struct {
		const char *unit;
		int64_t ms;
	} units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"min", 60000},
		{"h", 3600000}, {"d", 86400000}};
	const int64_t year_ms = 366LL * 86400000;
	size_t digits = strspn(word, "0123456789");
	uint64_t value;

	if (!parse_u64(word, digits, &value) || !value || value > (uint64_t)year_ms)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(word + digits, units[i].unit) != 0)
			continue;
		if ((int64_t)value > year_ms / units[i].ms)
			return false;
		*ms = (int64_t)value * units[i].ms;
		return true;
	}
	return false;
}

static bool read_clock(const char *text, struct tm *tm)
{
	static const char *const forms[] = {"%H:%M:%S", "%H:%M"};

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		struct tm copy = *tm;
		const char *rest;

		copy.tm_hour = copy.tm_min = copy.tm_sec = 0;
		rest = strptime(text, forms[i], &copy);
		if (!rest || *rest)
			continue;
		*tm = copy;
		return true;
	}
	return false;
}

bool word_moment_ns(const char *word, int64_t now_ns, int64_t *ns)
{
	time_t now = (time_t)(now_ns / 1000000000), t;
	struct tm tm = {0};
	const char *rest;
	int64_t ms;

	if (word_span_ms(word + (*word == '-'), &ms)) {
		*ns = now_ns - ms * 1000000;
		return true;
	}
	rest = strptime(word, "%Y-%m-%d", &tm);
	if (!rest && !localtime_r(&now, &tm))
		return false;
	if (rest && *rest && *rest != 'T' && *rest != ' ')
		return false;
	if (rest ? *rest && !read_clock(rest + 1, &tm) : !read_clock(word, &tm))
		return false;
	tm.tm_isdst = -1;
	t = mktime(&tm);
	*ns = (int64_t)t * 1000000000;
	return t != (time_t)-1;
}

int64_t word_time_ms(const char *iso)
{
	struct tm tm = {0};
	const char *rest = strptime(iso, "%Y-%m-%dT%H:%M:%S", &tm);
	int64_t ms = 0;

	if (!rest)
		return -1;
	if (*rest == '.')
		for (int i = 1, unit = 100; unit && rest[i] >= '0' && rest[i] <= '9'; i++) {
			ms += (int64_t)(rest[i] - '0') * unit;
			unit /= 10;
		}
	return (int64_t)timegm(&tm) * 1000 + ms;
}

bool word_count(const char *word, uint64_t *count)
{
	return parse_u64(word, strlen(word), count) && *count > 0;
}

void word_escape(struct buf *out, const char *word, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)word[i];

		if (c <= ' ' || c >= 0x7f || c == '\\')
			buf_printf(out, "\\%03o", c);
		else
			buf_putc(out, word[i]);
	}
}

static bool is_octal(const char *s)
{
	for (int i = 0; i < 3; i++)
		if (s[i] < '0' || s[i] > '7')
			return false;
	return true;
}

char *word_unescape(const char *word)
{
	char *out = strdup(word), *at = out;

	for (; out && *word; word++) {
		if (*word == '\\' && is_octal(word + 1)) {
			*at++ = (char)((word[1] - '0') << 6 | (word[2] - '0') << 3 |
				       (word[3] - '0'));
			word += 3;
		} else {
			*at++ = *word;
		}
	}
	if (out)
		*at = '\0';
	return out;
}

static unsigned min_unsigned(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

unsigned word_distance(const char *a, const char *b)
{
	unsigned rows[3][DISTANCE_MAX_LEN + 1];
	unsigned *before = rows[0], *last = rows[1], *row = rows[2];
	size_t na = strnlen(a, DISTANCE_MAX_LEN), nb = strnlen(b, DISTANCE_MAX_LEN);

	for (size_t j = 0; j <= nb; j++)
		last[j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned *spare = before;

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			row[j] = min_unsigned(min_unsigned(last[j], row[j - 1]) + 1,
				last[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = min_unsigned(row[j], before[j - 2] + 1);
		}
		before = last;
		last = row;
		row = spare;
	}
	return last[nb];
}

const char *word_nearest(const char *word, const char *const *list)
{
	size_t size = strlen(word);
	unsigned best = min_unsigned(1 + (unsigned)strnlen(word, 9) / 3, 3);
	const char *found = NULL;

	if (!size)
		return NULL;
	for (; *list; list++) {
		unsigned d = word_distance(word, *list);

		/* A beginning of exactly this word is as near as one slip. */
		if (size > 1 && strncmp(word, *list, size) == 0)
			d = min_unsigned(d, 1);
		if (d < best || (d == best && !found)) {
			best = d;
			found = *list;
		}
	}
	return found;
}

void word_quote(struct buf *out, const char *word)
{
	size_t safe = strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "0123456789_-+=:,./@%");

	if (word[0] && !word[safe]) {
		buf_puts(out, word);
		return;
	}
	buf_putc(out, '\'');
	for (; *word; word++) {
		if (*word == '\'')
			buf_puts(out, "'\\''");
		else
			buf_putc(out, *word);
	}
	buf_putc(out, '\'');
}
