#include "base/buf.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

void buf_done(struct buf *b)
{
	free(b->data);
	*b = (struct buf){0};
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	if (b->data)
		b->data[0] = '\0';
}

bool buf_failed(const struct buf *b)
{
	return b->failed;
}

static bool buf_reserve(struct buf *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 128;
	char *data;

	if (b->failed)
		return false;
	if (b->len + more + 1 <= b->cap)
		return true;
	while (cap < b->len + more + 1)
		cap *= 2;
	data = realloc(b->data, cap);
	if (!data) {
		b->failed = true;
		return false;
	}
	b->data = data;
	b->cap = cap;
	return true;
}

void buf_append(struct buf *b, const void *data, size_t size)
{
	if (!buf_reserve(b, size))
		return;
	if (size)
		memcpy(b->data + b->len, data, size);
	b->len += size;
	b->data[b->len] = '\0';
}

void buf_puts(struct buf *b, const char *s)
{
	buf_append(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c)
{
	buf_append(b, &c, 1);
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0) {
		b->failed = true;
		return;
	}
	if (!buf_reserve(b, (size_t)n))
		return;
	vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
	b->len += (size_t)n;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(b, fmt, ap);
	va_end(ap);
}

/* Length of the valid UTF-8 sequence at s, 0 where there is none. */
static size_t utf8_length(const unsigned char *s, size_t size)
{
	size_t n;
	uint32_t cp;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		n = 2;
	else if ((s[0] & 0xf0) == 0xe0)
		n = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (size < n)
		return 0;
	cp = s[0] & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		cp = cp << 6 | (s[i] & 0x3f);
	}
	if ((n == 3 && cp < 0x800) || (n == 4 && (cp < 0x10000 || cp > 0x10ffff)) ||
		(cp >= 0xd800 && cp <= 0xdfff))
		return 0;
	return n;
}

void buf_put_name(struct buf *b, const char *name, size_t size)
{
	const unsigned char *s = (const unsigned char *)name;

	for (size_t i = 0; i < size;) {
		size_t n = utf8_length(s + i, size - i);

		if (n == 1 && s[i] == '\n')
			buf_puts(b, "\\n");
		else if (n == 1 && s[i] == '\t')
			buf_puts(b, "\\t");
		else if (n == 0 || s[i] < 0x20 || s[i] == 0x7f)
			buf_printf(b, "\\x%02x", s[i]);
		else
			buf_append(b, s + i, n);
		i += n ? n : 1;
	}
}

void buf_put_json(struct buf *b, const char *str, size_t size)
{
	const unsigned char *s = (const unsigned char *)str;

	buf_putc(b, '"');
	for (size_t i = 0; i < size;) {
		size_t n = utf8_length(s + i, size - i);

		if (n == 0)
			buf_printf(b, "\\\\x%02x", s[i]);
		else if (s[i] == '"' || s[i] == '\\')
			buf_printf(b, "\\%c", s[i]);
		else if (s[i] == '\n')
			buf_puts(b, "\\n");
		else if (s[i] == '\t')
			buf_puts(b, "\\t");
		else if (s[i] < 0x20 || s[i] == 0x7f)
			buf_printf(b, "\\u%04x", s[i]);
		else
			buf_append(b, s + i, n);
		i += n ? n : 1;
	}
	buf_putc(b, '"');
}

void buf_put_json_str(struct buf *b, const char *s)
{
	if (s)
		buf_put_json(b, s, strlen(s));
	else
		buf_puts(b, "null");
}

static void put_time(struct buf *b, int64_t wall_ns, bool utc)
{
	time_t t = (time_t)(wall_ns / 1000000000);
	struct tm tm;
	char text[64];

	if (utc) {
		gmtime_r(&t, &tm);
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
		buf_printf(b, "%s.%03dZ", text, (int)(wall_ns / 1000000 % 1000));
	} else {
		localtime_r(&t, &tm);
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
		buf_puts(b, text);
	}
}

void buf_put_time(struct buf *b, int64_t wall_ns)
{
	put_time(b, wall_ns, false);
}

void buf_put_iso_time(struct buf *b, int64_t wall_ns)
{
	put_time(b, wall_ns, true);
}

void buf_put_span(struct buf *b, int64_t span_ns)
{
	int64_t s = span_ns / 1000000000;

	if (span_ns < 0)
		buf_puts(b, "0 s");
	else if (s < 1)
		buf_printf(b, "%d ms", (int)(span_ns / 1000000));
	else if (s < 120)
		buf_printf(b, "%lld s", (long long)s);
	else if (s < 7200)
		buf_printf(b, "%lld min", (long long)(s / 60));
	else if (s < 172800)
		buf_printf(b, "%lld h", (long long)(s / 3600));
	else
		buf_printf(b, "%lld d", (long long)(s / 86400));
}

char *buf_take(struct buf *b, size_t *size)
{
	char *data = b->data;

	if (size)
		*size = b->len;
	if (b->failed) {
		free(data);
		data = NULL;
	}
	*b = (struct buf){0};
	return data;
}
