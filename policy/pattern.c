#include "policy/pattern.h"

#include <ctype.h>
#include <string.h>

#include "policy/rules.h"

/*
 * Why our own matcher: libgit2 has the right semantics, but every public way to them
 * (git_ignore_*, git_attr_*, git_pathspec_*) wants a repository or a diff of one.
 * fnmatch(3) depends on the locale, wants NUL-terminated names, rejects bytes that are
 * not text in it, and backtracks exponentially on a*a*a*b. What is left, one name
 * against one glob, needs one remembered star and no recursion.
 */

struct class_name {
	const char *name;
	int (*is)(int c);
};

/* The daemon never calls setlocale(), so these are the C locale's. */
static const struct class_name class_names[] = {
	{"alnum", isalnum},
	{"alpha", isalpha},
	{"blank", isblank},
	{"cntrl", iscntrl},
	{"digit", isdigit},
	{"graph", isgraph},
	{"lower", islower},
	{"print", isprint},
	{"punct", ispunct},
	{"space", isspace},
	{"upper", isupper},
	{"xdigit", isxdigit},
};

/* [:name:] at g; the bytes used, 0 when there is no such class. */
static size_t named_class(const char *g, size_t size, unsigned char c, bool *in)
{
	for (size_t i = 0; i < ARRAY_SIZE(class_names); i++) {
		size_t len = strlen(class_names[i].name);

		if (size < len + 4 || memcmp(g + 2, class_names[i].name, len) != 0 ||
			g[len + 2] != ':' || g[len + 3] != ']')
			continue;
		*in = *in || class_names[i].is(c);
		return len + 4;
	}
	return 0;
}

/* One byte of a class, with its escape; the bytes used, 0 when the text ends. */
static size_t class_byte(const char *g, size_t size, unsigned char *c)
{
	size_t used = size && *g == '\\' ? 1 : 0;

	if (used >= size)
		return 0;
	*c = (unsigned char)g[used];
	return used + 1;
}

/* [...] at g against c. Returns the bytes of the class, 0 when it is malformed. */
static size_t class_match(const char *g, size_t size, unsigned char c, bool *matched)
{
	size_t i = 1;
	bool in = false, negated = i < size && (g[i] == '!' || g[i] == '^');

	if (negated)
		i++;
	for (size_t first = i; i < size;) {
		unsigned char low, high;
		size_t used;

		if (g[i] == ']' && i > first) {
			*matched = in != negated;
			return i + 1;
		}
		if (g[i] == '[' && i + 1 < size && g[i + 1] == ':') {
			used = named_class(g + i, size - i, c, &in);
			if (!used)
				return 0;
			i += used;
			continue;
		}
		used = class_byte(g + i, size - i, &low);
		if (!used)
			return 0;
		i += used;
		high = low;
		if (i + 1 < size && g[i] == '-' && g[i + 1] != ']') {
			used = class_byte(g + i + 1, size - i - 1, &high);
			if (!used)
				return 0;
			i += 1 + used;
		}
		in = in || (low <= c && c <= high);
	}
	return 0;
}

/* The element of the glob at g (not a star) against c; the bytes it takes. */
static size_t element_match(const char *g, size_t size, unsigned char c, bool *matched)
{
	switch (*g) {
	case '?':
		*matched = true;
		return 1;
	case '[':
		return class_match(g, size, c, matched);
	case '\\':
		if (size < 2)
			return 0;
		*matched = (unsigned char)g[1] == c;
		return 2;
	default:
		*matched = (unsigned char)*g == c;
		return 1;
	}
}

/* Only the last star needs to be retried: what stood before it has matched as early as
 * it can, so moving an earlier star on could not help a later one. */
static bool glob_match(const char *glob, size_t glob_size, const char *name, size_t size)
{
	size_t g = 0, i = 0, star = SIZE_MAX, star_at = 0;

	while (i < size || g < glob_size) {
		bool matched = false;

		if (g < glob_size && glob[g] == '*') {
			star = ++g;
			star_at = i;
			continue;
		}
		if (g < glob_size && i < size) {
			size_t used = element_match(
				glob + g, glob_size - g, (unsigned char)name[i], &matched);

			assert(used > 0); /* pattern_compile() has seen every element */
			if (matched) {
				g += used;
				i++;
				continue;
			}
		}
		if (star == SIZE_MAX || star_at == size)
			return false;
		g = star;
		i = ++star_at;
	}
	return true;
}

static const char *check_glob(const char *g, size_t size)
{
	for (size_t i = 0; i < size;) {
		bool matched;
		size_t used = element_match(g + i, size - i, 'x', &matched);

		if (!used)
			return g[i] == '\\'
				       ? "a name ends in a lone backslash"
				       : "a [ is not closed, or names an unknown class";
		i += used;
	}
	return NULL;
}

static bool all_stars(const char *s, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (s[i] != '*')
			return false;
	}
	return true;
}

static bool has_magic(const char *s, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (strchr("*?[\\", s[i]) && s[i])
			return true;
	}
	return false;
}

static const char *classify(struct pattern_segment *out, const char *s, size_t size)
{
	*out = (struct pattern_segment){.kind = SEGMENT_GLOB, .text = s, .size = size};
	if (!has_magic(s, size)) {
		out->kind = SEGMENT_LITERAL;
		return NULL;
	}
	if (all_stars(s, size)) {
		out->kind = SEGMENT_ANY;
		return NULL;
	}
	if (*s == '*' && !has_magic(s + 1, size - 1)) {
		out->kind = SEGMENT_SUFFIX;
		out->text++;
		out->size--;
		return NULL;
	}
	return check_glob(s, size);
}

static bool is_deep(const char *s, size_t size)
{
	return size == 2 && s[0] == '*' && s[1] == '*';
}

/* Splits at slashes. Room for the ** in front and the * behind is left by the caller's
 * bound. */
static const char *split(struct pattern_segment *segments, uint32_t *n, const char *text,
	size_t size, bool anchored)
{
	while (true) {
		const char *slash = memchr(text, '/', size);
		size_t len = slash ? (size_t)(slash - text) : size;
		const char *why;

		if (*n > PATTERN_MAX_SEGMENTS - 2)
			return "too many names in one pattern (at most 62)";
		if (len == 0)
			return "an empty name between slashes";
		if (anchored && is_deep(text, len)) {
			if (*n == 0 || segments[*n - 1].kind != SEGMENT_DEEP)
				segments[(*n)++] = (struct pattern_segment){
					.kind = SEGMENT_DEEP, .text = text, .size = 2};
		} else {
			why = classify(&segments[*n], text, len);
			if (why)
				return why;
			(*n)++;
		}
		if (!slash)
			return NULL;
		text = slash + 1;
		size -= len + 1;
	}
}

int pattern_compile(struct pattern *out,
	struct pattern_segment segments[PATTERN_MAX_SEGMENTS], const char *text,
	size_t size, const char **why)
{
	bool below = size > 1 && text[size - 1] == '/';
	bool anchored;
	uint32_t n = 0;

	size -= below;
	anchored = size && memchr(text, '/', size) != NULL;
	*why = NULL;
	if (size > PATTERN_MAX_BYTES)
		*why = "the pattern is longer than 4096 bytes";
	else if (size && memchr(text, '\0', size))
		*why = "a NUL byte in the pattern";
	else if (size == 0 || (size == 1 && *text == '/'))
		*why = "the pattern is empty";
	if (*why)
		return -EINVAL;
	if (*text == '/') {
		text++;
		size--;
	}
	if (!anchored)
		segments[n++] = (struct pattern_segment){.kind = SEGMENT_DEEP};
	*why = split(segments, &n, text, size, anchored);
	if (*why)
		return -EINVAL;
	/* A ** at the end is everything below, not the folder itself: at least one
	 * name. */
	if (segments[n - 1].kind == SEGMENT_DEEP)
		segments[n++] = (struct pattern_segment){.kind = SEGMENT_ANY};
	*out = (struct pattern){
		.segments = segments,
		.n_segments = n,
		.below = below,
		.last_name = n == 2 && segments[0].kind == SEGMENT_DEEP && !below,
	};
	return 0;
}

static bool segment_match(const struct pattern_segment *s, const char *name, size_t size)
{
	switch (s->kind) {
	case SEGMENT_ANY:
		return true;
	case SEGMENT_LITERAL:
		return size == s->size && memcmp(name, s->text, size) == 0;
	case SEGMENT_SUFFIX:
		return size >= s->size &&
		       memcmp(name + size - s->size, s->text, s->size) == 0;
	case SEGMENT_GLOB:
		return glob_match(s->text, s->size, name, size);
	case SEGMENT_DEEP:
		break;
	}
	assert(false); /* pattern_match() takes ** for itself */
	return false;
}

size_t path_last_name(const char *path, size_t size)
{
	const char *slash = size ? memrchr(path, '/', size) : NULL;

	return slash ? (size_t)(slash - path) + 1 : 0;
}

/*
 * Names against segments as bytes against a glob, with ** for the star. The match found
 * is the one that ends earliest, so when it takes the whole path, no folder above is
 * meant and a pattern of the kind dir/ holds only if the path is itself a folder.
 */
bool pattern_match(const struct pattern *p, const char *path, size_t size, bool is_dir)
{
	const char *name = size ? path : "", *end = name + size, *deep_name = NULL;
	size_t s = 0, deep = SIZE_MAX;

	if (p->last_name) {
		size_t at = path_last_name(path, size);

		return segment_match(&p->segments[1], name + at, size - at);
	}
	while (true) { /* name is NULL once the path is used up */
		if (s < p->n_segments && p->segments[s].kind == SEGMENT_DEEP) {
			deep = s++;
			deep_name = name;
			continue;
		}
		if (s == p->n_segments) {
			if (!name)
				return !p->below || is_dir;
			if (p->below)
				return true;
		} else if (name) {
			const char *slash = memchr(name, '/', end - name);

			if (segment_match(&p->segments[s], name, (slash ?: end) - name)) {
				s++;
				name = slash ? slash + 1 : NULL;
				continue;
			}
		}
		if (deep == SIZE_MAX || !deep_name)
			return false;
		deep_name = memchr(deep_name, '/', end - deep_name);
		if (!deep_name)
			return false; /* every segment left wants at least one name */
		name = ++deep_name;
		s = deep + 1;
	}
}

bool rules_match(const char *pattern, const char *path, size_t len, bool is_dir)
{
	struct pattern_segment segments[PATTERN_MAX_SEGMENTS];
	struct pattern p;
	const char *why;

	if (pattern_compile(&p, segments, pattern, strlen(pattern), &why) < 0)
		return false; /* not a pattern: names nothing */
	return pattern_match(&p, path, len, is_dir);
}
