#include "policy/json_text.h"

#include <string.h>

#include "base/hash.h"

/* The length of the UTF-8 sequence at s and its character; 0 where there is none. Over-long
 * forms and surrogates are none. */
static uint32_t utf8_length(const char *s, uint32_t size, uint32_t *character)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned char first = (unsigned char)*s;
	uint32_t n = first < 0x80   ? 1
		     : first < 0xc2 ? 0
		     : first < 0xe0 ? 2
		     : first < 0xf0 ? 3
				    : 4;
	uint32_t c = n == 1 ? first : first & (0x7fu >> n);

	if (!n || n > size || first > 0xf4)
		return 0;
	for (uint32_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < smallest[n] || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)
		return 0;
	*character = c;
	return n;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The length of the escape at s, which is a backslash; 0: none. */
static uint32_t escape_length(const char *s, uint32_t size)
{
	if (size >= 2 && s[1] && strchr("\"\\/bfnrt", s[1]))
		return 2;
	if (size < 6 || s[1] != 'u')
		return 0;
	for (int i = 2; i < 6; i++) {
		if (hex_digit(s[i]) < 0)
			return 0;
	}
	return 6;
}

uint32_t json_string_length(const char *s, uint32_t size, const char **what)
{
	uint32_t i = 1, n, ignored;

	if (*s != '"') {
		*what = "expected a string";
		return 0;
	}
	while (i < size && s[i] != '"') {
		if ((unsigned char)s[i] < 0x20) {
			*what = "a control character in a string, or its end is missing";
			return 0;
		}
		n = s[i] == '\\' ? escape_length(s + i, size - i)
				 : utf8_length(s + i, size - i, &ignored);
		if (!n) {
			*what = s[i] == '\\' ? "an escape that is none" : "not UTF-8";
			return 0;
		}
		i += n;
	}
	if (i < size)
		return i + 1;
	*what = "the end of a string is missing";
	return 0;
}

static uint32_t digits(const char *s, uint32_t size, uint32_t at)
{
	while (at < size && s[at] >= '0' && s[at] <= '9')
		at++;
	return at;
}

uint32_t json_number_length(const char *s, uint32_t size, const char **what)
{
	uint32_t at = *s == '-', end;

	*what = "not a number";
	end = at < size && s[at] == '0' ? at + 1 : digits(s, size, at);
	if (end == at)
		return 0;
	at = end;
	if (at < size && s[at] == '.') {
		end = digits(s, size, at + 1);
		if (end == at + 1)
			return 0;
		at = end;
	}
	if (at < size && (s[at] == 'e' || s[at] == 'E')) {
		at++;
		at += at < size && (s[at] == '+' || s[at] == '-');
		end = digits(s, size, at);
		if (end == at)
			return 0;
	}
	return end;
}

uint32_t json_literal_length(const char *s, uint32_t size, const char **what)
{
	static const char *const literals[] = {"true", "false", "null"};

	for (size_t i = 0; i < ARRAY_SIZE(literals); i++) {
		size_t n = strlen(literals[i]);

		if (n <= size && memcmp(s, literals[i], n) == 0)
			return (uint32_t)n;
	}
	*what = "expected a value";
	return 0;
}

static uint32_t unit(const char *hex)
{
	uint32_t u = 0;

	for (int i = 0; i < 4; i++)
		u = u << 4 | (uint32_t)hex_digit(hex[i]);
	return u;
}

/* The character at *at of a string that has been measured. A surrogate without its other
 * half stays one: no two strings that differ become the same. */
static uint32_t next_character(const char **at, const char *end)
{
	static const char names[] = "bfnrt", meant[] = "\b\f\n\r\t";
	const char *s = *at, *name;
	uint32_t c = 0, low;

	if (*s != '\\') {
		*at += utf8_length(s, (uint32_t)(end - s), &c);
		return c;
	}
	if (s[1] != 'u') {
		*at += 2;
		name = strchr(names, s[1]);
		return (unsigned char)(name ? meant[name - names] : s[1]);
	}
	c = unit(s + 2);
	*at += 6;
	if (c < 0xd800 || c > 0xdbff || end - *at < 6 || s[6] != '\\' || s[7] != 'u')
		return c;
	low = unit(s + 8);
	if (low < 0xdc00 || low > 0xdfff)
		return c;
	*at += 6;
	return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

int json_string_compare(const char *a, uint32_t a_size, const char *b, uint32_t b_size)
{
	const char *a_end = a + a_size - 1, *b_end = b + b_size - 1;

	if (a_size == b_size && memcmp(a, b, a_size) == 0)
		return 0;
	a++;
	b++;
	while (a < a_end && b < b_end) {
		uint32_t x = next_character(&a, a_end), y = next_character(&b, b_end);

		if (x != y)
			return x < y ? -1 : 1;
	}
	return (a < a_end) - (b < b_end);
}

int json_string_hash(const char *s, uint32_t size, struct buf *scratch, uint64_t *hash)
{
	const char *end = s + size - 1;

	s++;
	if (!memchr(s, '\\', end - s)) {
		*hash = hash128_bytes(s, end - s).lo;
		return 0;
	}
	buf_reset(scratch);
	while (s < end) {
		const char *from = s;
		uint32_t c = next_character(&s, end);
		/* As UTF-8 would have it, also for half a pair. */
		const char utf8[4] = {(char)(0xf0 | c >> 18),
			(char)((c < 0x10000 ? 0xe0 : 0x80) | (c >> 12 & 0x3f)),
			(char)((c < 0x800 ? 0xc0 : 0x80) | (c >> 6 & 0x3f)),
			(char)((c < 0x80 ? 0 : 0x80) | (c & (c < 0x80 ? 0x7f : 0x3f)))};
		int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

		if (*from == '\\')
			buf_append(scratch, utf8 + 4 - n, n);
		else
			buf_append(scratch, from, s - from);
	}
	if (buf_failed(scratch))
		return -ENOMEM;
	*hash = hash128_bytes(scratch->data, scratch->len).lo;
	return 0;
}
