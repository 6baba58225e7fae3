#include "cli/blame.h"

#include <string.h>

enum { TEMPORARIES = 16 }; /* of the newest saves: their versions lie close by */

void blame_done(struct blame *b)
{
	lines_done(&b->lines);
	buf_done(&b->content);
	free(b->origins);
	*b = (struct blame){0};
}

/* Common lines take their origin along, the others get the new one. */
static void carry(const uint32_t *old, const struct hunks *hunks, uint32_t n,
	uint32_t origin, uint32_t *new)
{
	uint32_t a = 0, b = 0;

	for (uint32_t i = 0; i < hunks->n; i++) {
		const struct hunk *h = &hunks->v[i];

		if (h->b0 > b)
			memcpy(new + b, old + a, (h->b0 - b) * sizeof(*new));
		for (b = h->b0; b < h->b1; b++)
			new[b] = origin;
		a = h->a1;
	}
	if (n > b)
		memcpy(new + b, old + a, (n - b) * sizeof(*new));
}

int blame_feed(struct blame *b, struct buf *content, uint32_t origin)
{
	auto_lines lines = {0};
	auto_hunks hunks = {0};
	auto_free uint32_t *origins = NULL;
	int r;

	if (content->len > INT32_MAX)
		return -EFBIG;
	r = lines_init(&lines, content->data ?: "", content->len);
	if (r < 0)
		return r;
	origins = calloc((size_t)lines.n + 1, sizeof(*origins));
	if (!origins)
		return -ENOMEM;
	if (b->origins) {
		r = line_diff(&b->lines, &lines, &hunks);
		if (r)
			return r < 0 ? r : -EFBIG;
		carry(b->origins, &hunks, lines.n, origin, origins);
	} else {
		for (uint32_t i = 0; i < lines.n; i++)
			origins[i] = origin;
	}
	blame_done(b);
	b->content = *content; /* its bytes stay where lines point to */
	*content = (struct buf){0};
	b->lines = lines;
	lines.starts = NULL;
	b->origins = steal_ptr(origins);
	return 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool is_temporary(const char *const *temporaries, const char *path)
{
	for (int i = 0; i < TEMPORARIES; i++)
		if (temporaries[i] && strcmp(temporaries[i], path) == 0)
			return true;
	return false;
}

bool blame_own_line(
	const struct version_list *list, const char *name, uint64_t at, bool *own)
{
	const char *temporaries[TEMPORARIES] = {NULL};
	uint64_t most = at ?: UINT64_MAX;
	bool begun = !at;
	unsigned n = 0;

	for (size_t i = 0; i < list->n; i++) {
		const struct version_entry *v = &list->entries[i];
		bool here = strcmp(v->path, name) == 0;

		own[i] = false;
		/* Under another name: its folder was renamed, or it is a temporary. */
		if (!here && begun && strcmp(base_name(v->path), base_name(name)) == 0 &&
			!is_temporary(temporaries, v->path)) {
			name = v->path;
			most = UINT64_MAX;
			here = true;
		}
		if (!here || v->number > most || (!begun && v->number != at))
			continue;
		own[i] = begun = true;
		if (!v->from_path || version_is_delete(v))
			continue;
		if (strcmp(v->kind, "replace") == 0) {
			temporaries[n++ % TEMPORARIES] = v->from_path;
		} else {
			name = v->from_path;
			most = v->from_number ?: UINT64_MAX;
		}
	}
	return begun;
}
