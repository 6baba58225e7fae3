#include "base/moment.h"

#include <string.h>
#include <time.h>

#include "base/clock.h"

static const int64_t span_max_ns = 36600 * 86400LL * NS_PER_S;

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Up to max digits, at least min; false: they are not there. */
static bool take_number(const char **at, int min, int max, int64_t *out)
{
	int n = 0;

	*out = 0;
	for (; n < max && is_digit((*at)[n]); n++)
		*out = *out * 10 + ((*at)[n] - '0');
	*at += n;
	return n >= min && !is_digit(**at);
}

static bool parse_digits(const char *word, uint64_t *n)
{
	const char *at = word;

	*n = 0;
	for (; is_digit(*at); at++) {
		if (*n > (INT64_MAX - 9) / 10)
			return false;
		*n = *n * 10 + (uint64_t)(*at - '0');
	}
	return at > word && !*at;
}

/* ---- spans ---- */

static bool take_unit(const char **at, int64_t *unit_ns)
{
	static const struct {
		const char *name;
		int64_t seconds;
	} units[] = {
		{"min", 60}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}, {"w", 604800}};

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		size_t n = strlen(units[i].name);

		if (strncmp(*at, units[i].name, n) == 0) {
			*at += n;
			*unit_ns = units[i].seconds * NS_PER_S;
			return true;
		}
	}
	return false;
}

static bool parse_span(const char *at, int64_t *span_ns)
{
	*span_ns = 0;
	do {
		int64_t n, unit_ns;

		if (!take_number(&at, 1, 9, &n) || !take_unit(&at, &unit_ns) ||
			n > span_max_ns / unit_ns)
			return false;
		*span_ns += n * unit_ns;
		if (*span_ns > span_max_ns)
			return false;
	} while (*at);
	return true;
}

/* ---- times ---- */

struct written {
	struct tm tm;
	int64_t finest_ns; /* what the last part that was written stands for; 0: its start
			    */
	int64_t fraction_ns;
	bool has_zone;
	int64_t zone_s; /* east of Greenwich */
};

static bool take_date(const char **at, struct tm *tm)
{
	int64_t year, month, day;

	if (!take_number(at, 4, 4, &year) || *(*at)++ != '-' ||
		!take_number(at, 2, 2, &month) || *(*at)++ != '-' ||
		!take_number(at, 2, 2, &day))
		return false;
	if (year < 1970 || year > 2200 || month < 1 || month > 12 || day < 1 || day > 31)
		return false;
	tm->tm_year = (int)year - 1900;
	tm->tm_mon = (int)month - 1;
	tm->tm_mday = (int)day;
	return true;
}

static bool take_fraction(const char **at, struct written *w)
{
	int64_t unit_ns = NS_PER_S;

	(*at)++;
	if (!is_digit(**at))
		return false;
	for (; is_digit(**at); (*at)++) {
		if (unit_ns == 1)
			return false;
		unit_ns /= 10;
		w->fraction_ns += (**at - '0') * unit_ns;
	}
	w->finest_ns = unit_ns;
	return true;
}

static bool take_clock(const char **at, struct written *w)
{
	int64_t hour, minute, second = 0;

	if (!take_number(at, 1, 2, &hour) || *(*at)++ != ':' ||
		!take_number(at, 2, 2, &minute))
		return false;
	if (**at == ':') {
		(*at)++;
		if (!take_number(at, 2, 2, &second))
			return false;
		w->finest_ns = NS_PER_S;
		if (**at == '.' && !take_fraction(at, w))
			return false;
	}
	w->tm.tm_hour = (int)hour;
	w->tm.tm_min = (int)minute;
	w->tm.tm_sec = (int)second;
	return hour < 24 && minute < 60 && second < 61;
}

static bool take_zone(const char **at, struct written *w)
{
	int64_t sign = **at == '-' ? -1 : 1, hour, minute;

	w->has_zone = true;
	if (*(*at)++ == 'Z')
		return true;
	if (!is_digit((*at)[0]) || !is_digit((*at)[1]))
		return false;
	hour = ((*at)[0] - '0') * 10 + ((*at)[1] - '0');
	*at += 2;
	*at += **at == ':';
	if (!take_number(at, 2, 2, &minute))
		return false;
	w->zone_s = sign * (hour * 3600 + minute * 60);
	return hour < 24 && minute < 60;
}

static int64_t as_wall(struct written *w)
{
	time_t t;

	w->tm.tm_isdst = -1;
	t = w->has_zone ? timegm(&w->tm) - w->zone_s : mktime(&w->tm);
	return (int64_t)t * NS_PER_S + w->fraction_ns +
	       (w->finest_ns ? w->finest_ns - 1 : 0);
}

static bool parse_time(const char *at, struct moment *m)
{
	struct written w = {0};

	if (!take_date(&at, &w.tm))
		return false;
	if (*at == 'T' || *at == ' ') {
		at++;
		if (!take_clock(&at, &w))
			return false;
		if (*at == 'Z' || *at == '+' || *at == '-') {
			if (!take_zone(&at, &w))
				return false;
		}
	}
	m->wall_ns = as_wall(&w);
	return !*at;
}

/* The clock's last time before now: today's, or else yesterday's. */
static bool parse_clock(const char *at, int64_t now_ns, struct moment *m)
{
	struct written w = {0};
	struct tm today;
	time_t now_s = now_ns / NS_PER_S;

	if (!take_clock(&at, &w) || *at || !localtime_r(&now_s, &today))
		return false;
	w.tm.tm_year = today.tm_year;
	w.tm.tm_mon = today.tm_mon;
	w.tm.tm_mday = today.tm_mday;
	m->wall_ns = as_wall(&w);
	if (m->wall_ns > now_ns + NS_PER_S) {
		w.tm.tm_mday--;
		m->wall_ns = as_wall(&w);
	}
	m->floats = true;
	m->span_ns = now_ns - m->wall_ns;
	return true;
}

bool moment_parse(const char *word, int64_t now_ns, struct moment *out)
{
	struct moment m = {0};
	bool ok;

	if (strcmp(word, "now") == 0) {
		m.floats = ok = true;
		m.wall_ns = now_ns;
	} else if (word[0] == '-') {
		m.floats = true;
		ok = parse_span(word + 1, &m.span_ns);
		m.wall_ns = now_ns - m.span_ns;
	} else if (is_digit(word[0]) && word[strspn(word, "0123456789")] == '\0') {
		m.kind = MOMENT_EPOCH;
		ok = parse_digits(word, &m.number);
	} else if (strncmp(word, "seq:", 4) == 0) {
		m.kind = MOMENT_SEQ;
		ok = parse_digits(word + 4, &m.number);
	} else {
		ok = parse_time(word, &m);
		if (!ok)
			ok = parse_clock(word, now_ns, &m);
		/* The second that is under way counts as come. */
		ok = ok && m.wall_ns < now_ns + NS_PER_S;
	}
	if (ok && m.kind == MOMENT_TIME && m.wall_ns > now_ns) {
		m.wall_ns = now_ns;
		m.floats = true; /* later that second more may have happened in it */
	}
	if (ok)
		*out = m;
	return ok;
}

void moment_put(struct buf *out, const struct moment *m)
{
	time_t s = m->wall_ns / NS_PER_S;
	struct tm tm;

	if (m->kind != MOMENT_TIME) {
		buf_printf(out, "%s%llu", m->kind == MOMENT_SEQ ? "seq:" : "",
			(unsigned long long)m->number);
		return;
	}
	if (!gmtime_r(&s, &tm))
		return;
	buf_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d.%09lldZ", tm.tm_year + 1900,
		tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		(long long)(m->wall_ns % NS_PER_S));
}
