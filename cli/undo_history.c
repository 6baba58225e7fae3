#include "cli/undo_history.h"

#include <stdio.h>
#include <string.h>

#include "cli/words.h"

enum { RENAMES_MAX = 256 }; /* of one file; what is beyond is left out */

struct selected {
	uint64_t seq;
	const char *path, *was; /* by now, and then */
};

struct histories {
	const struct workspace *ws;
	const struct selection *selection;
	struct buf kept;      /* of char *: strings of our own */
	struct buf selected;  /* of struct selected, by seq once complete */
	struct buf paths;     /* of const char *, sorted, each once */
	struct buf timelines; /* of struct timeline * */
	struct buf moves;     /* of struct folder_move */
	bool any_set;
};

const char *histories_keep(struct histories *h, char *owned)
{
	if (owned)
		buf_append(&h->kept, &owned, sizeof(owned));
	if (!buf_failed(&h->kept))
		return owned;
	free(owned);
	return NULL;
}

/* ---- reading rows ---- */

/* A path as the daemon tells it: as a word where JSON cannot hold it. */
static const char *row_path(
	struct histories *h, struct json_object *row, const char *key, const char *word_key)
{
	const char *word = json_text(row, word_key, NULL);

	if (word)
		return histories_keep(h, word_unescape(word));
	return json_text(row, key, NULL);
}

static enum node_type row_type(struct json_object *row, const char *kind)
{
	const char *type = json_text(row, "type", "");

	if (strcmp(type, "folder") == 0 || strcmp(kind, "mkdir") == 0)
		return NODE_FOLDER;
	if (strcmp(type, "symlink") == 0 || strcmp(kind, "symlink") == 0)
		return NODE_LINK;
	return strcmp(type, "other") == 0 ? NODE_OTHER : NODE_FILE;
}

static bool is_gone(const char *kind)
{
	return strcmp(kind, "delete") == 0 || strcmp(kind, "rmdir") == 0;
}

static bool is_selected(const struct histories *h, uint64_t seq)
{
	const struct selected *all = (const void *)h->selected.data;
	size_t low = 0, high = h->selected.len / sizeof(*all);

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (all[middle].seq == seq)
			return true;
		if (all[middle].seq < seq)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

static bool has_flag(const struct version_entry *v, const char *name)
{
	for (size_t i = 0; v->flags && i < json_object_array_length(v->flags); i++)
		if (!strcmp(json_object_get_string(json_object_array_get_idx(v->flags, i)),
			    name))
			return true;
	return false;
}

static void read_step(struct histories *h, const struct version_entry *v, const char *path,
	struct step *step)
{
	const char *own = row_path(h, v->json, "path", "word");
	const char *other = json_text(v->json, "from_now", NULL);

	other = other ? histories_keep(h, word_unescape(other))
		      : row_path(h, v->json, "from_path", "from_word");

	*step = (struct step){
		.seq = v->seq,
		.number = v->number,
		.base = v->base,
		.kind = v->kind,
		.writer = v->writer,
		.other = other,
		.other_number = v->from_number,
		.selected = is_selected(h, v->seq),
		.gap = has_flag(v, "gap"),
		.after =
			{
				.exists = !is_gone(v->kind),
				.type = row_type(v->json, v->kind),
				.path = path,
				.hash = v->content,
				.source = own ?: path,
				.number = v->number,
				.mode = (mode_t)strtoul(v->mode ?: "0", NULL, 8),
				.uid = (uid_t)json_number(v->json, "uid", 0),
				.gid = (gid_t)json_number(v->json, "gid", 0),
			},
	};
}

/* ---- the timeline of a path ---- */

static struct timeline *timeline_free(struct timeline *t)
{
	if (t) {
		free(t->steps);
		versions_done(&t->list);
		versions_done(&t->before);
		free(t);
	}
	return NULL;
}

/* Keep the rows of the path itself (also under a name that its folder had), not those of
 * other files that were renamed onto it. */
static int take_own_rows(
	struct histories *h, struct timeline *t, const struct version_list *list)
{
	struct step *steps = reallocarray(t->steps, t->n + list->n + 1, sizeof(*t->steps));

	if (!steps)
		return -ENOMEM;
	t->steps = steps;
	for (size_t i = list->n; i-- > 0;) {
		const struct version_entry *v = &list->entries[i];
		const char *now = json_text(v->json, "now", NULL);

		now = now ? histories_keep(h, word_unescape(now))
			  : row_path(h, v->json, "path", "word");
		if (now && strcmp(now, t->path) == 0)
			read_step(h, v, t->path, &t->steps[t->n++]);
	}
	return 0;
}

static int step_by_seq(const void *a, const void *b)
{
	const struct step *x = a, *y = b;

	return (x->seq > y->seq) - (x->seq < y->seq);
}

/* A folder that was renamed has its own history under the name it had. */
static int take_former_rows(struct histories *h, struct timeline *t)
{
	const struct selected *all = (const void *)h->selected.data;
	auto_buf text = {0};
	const char *was = NULL;
	size_t kept = 0;
	int r;

	for (size_t i = 0; i < h->selected.len / sizeof(*all) && !was; i++)
		if (strcmp(all[i].path, t->path) == 0 && strcmp(all[i].was, t->path) != 0)
			was = all[i].was;
	if (!was)
		return 0;
	r = versions_read(h->ws, was, &text, &t->before);
	if (r == 0)
		r = take_own_rows(h, t, &t->before);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (t->n)
		qsort(t->steps, t->n, sizeof(*t->steps), step_by_seq);
	for (size_t i = 0; i < t->n; i++)
		if (!kept || t->steps[kept - 1].seq != t->steps[i].seq)
			t->steps[kept++] = t->steps[i];
	t->n = kept;
	return 0;
}

/* A table of the newest versions alone will do where what is selected is among them, and
 * what was before it. */
static int check_reach(const struct histories *h, const struct timeline *t)
{
	const struct selected *all = (const void *)h->selected.data;
	uint64_t oldest = t->list.n ? t->list.entries[t->list.n - 1].seq : UINT64_MAX;

	for (size_t i = 0; i < h->selected.len / sizeof(*all); i++)
		if (all[i].seq <= oldest && strcmp(all[i].path, t->path) == 0)
			return -E2BIG;
	return 0;
}

static int load(struct histories *h, const char *path, struct timeline **out)
{
	struct timeline *const *all = (const void *)h->timelines.data;
	auto_buf text = {0};
	struct timeline *t;
	int r;

	for (size_t i = 0; i < h->timelines.len / sizeof(*all); i++) {
		*out = all[i];
		if (strcmp(all[i]->path, path) == 0)
			return 0;
	}
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->path = histories_keep(h, strdup(path));
	r = t->path ? versions_read(h->ws, path, &text, &t->list) : -ENOMEM;
	if (r == 0 && json_flag(t->list.json, "truncated"))
		r = check_reach(h, t);
	if (r == 0)
		r = take_own_rows(h, t, &t->list);
	if (r == -ENOENT)
		r = 0; /* a path without history: no steps */
	if (r == 0)
		r = take_former_rows(h, t);
	if (r == 0)
		buf_append(&h->timelines, &t, sizeof(t));
	if (r < 0 || buf_failed(&h->timelines)) {
		timeline_free(t);
		return r ?: -ENOMEM;
	}
	*out = t;
	return 0;
}

/* ---- through renames ---- */

static const struct step *last_step(const struct timeline *t)
{
	return t->n ? &t->steps[t->n - 1] : NULL;
}

/* The last step by which a file came to t from a name that has nothing since: where it is
 * among t's steps, and *from. Not where something selected lies before it: that is undone
 * at the path itself. 1, 0, -errno. */
static int find_arrival(
	struct histories *h, struct timeline *t, size_t *at, struct timeline **from)
{
	const struct step *move = NULL, *left;
	int r;

	for (size_t i = t->n; i-- > 0 && !move;)
		if (strcmp(t->steps[i].kind, "move") == 0 && t->steps[i].other) {
			move = &t->steps[i];
			*at = i;
		}
	if (!move || strcmp(move->other, t->path) == 0)
		return 0;
	for (size_t i = 0; i < *at; i++)
		if (t->steps[i].selected)
			return 0;
	r = load(h, move->other, from);
	if (r < 0)
		return r;
	left = last_step(*from);
	return left && !left->after.exists && left->other &&
	       strcmp(left->other, t->path) == 0 && (*from)->n > 1 &&
	       (*from)->steps[(*from)->n - 2].number == move->other_number;
}

/* Where the file of t went by its last rename; *to is t itself where it did not. */
static int follow_forward(struct histories *h, struct timeline *t, struct timeline **to)
{
	for (int i = 0; i < RENAMES_MAX; i++) {
		const struct step *left = last_step(t);
		struct timeline *next, *from;
		size_t at;
		int r;

		*to = t;
		if (!left || left->after.exists || !left->other)
			return 0;
		r = load(h, left->other, &next);
		if (r == 0)
			r = find_arrival(h, next, &at, &from);
		if (r <= 0 || from != t)
			return r < 0 ? r : 0;
		t = next;
	}
	*to = t;
	return 0;
}

static int put_steps(struct buf *steps, const struct timeline *t, size_t begin, size_t end)
{
	for (size_t i = end; i-- > begin;) { /* newest first, until all is known */
		const struct step *step = &t->steps[i];

		buf_append(steps, &step, sizeof(step));
	}
	return buf_failed(steps) ? -ENOMEM : 0;
}

int histories_follow(struct histories *h, const char *path, struct lineage *l)
{
	auto_buf steps = {0};
	struct timeline *t, *from;
	const struct step **all;
	size_t end, at;
	int r = load(h, path, &t);

	*l = (struct lineage){0};
	if (r == 0)
		r = follow_forward(h, t, &t);
	if (r < 0)
		return r;
	l->path = t->path;
	end = t->n;
	for (int i = 0; i < RENAMES_MAX; i++) {
		r = find_arrival(h, t, &at, &from);
		if (r <= 0)
			break;
		r = put_steps(&steps, t, at, end);
		if (r < 0)
			return r;
		t = from;
		end = t->n - 1; /* without its going away */
	}
	if (r >= 0)
		r = put_steps(&steps, t, 0, end);
	if (r < 0)
		return r;
	l->n = steps.len / sizeof(*all);
	all = (void *)buf_take(&steps, NULL);
	for (size_t i = 0; i < l->n / 2; i++) {
		const struct step *swapped = all[i];

		all[i] = all[l->n - 1 - i];
		all[l->n - 1 - i] = swapped;
	}
	l->steps = all;
	return 0;
}

void lineage_done(struct lineage *l)
{
	free(l->steps);
	*l = (struct lineage){0};
}

/* ---- what is selected ---- */

static bool is_below(const char *path, const char *folder)
{
	size_t n = strlen(folder);

	return !n || (strncmp(path, folder, n) == 0 && (!path[n] || path[n] == '/'));
}

static bool is_wanted(const struct selection *s, const char *was, const char *now)
{
	for (unsigned i = 0; i < s->n_paths; i++)
		if (is_below(was, s->paths[i]) || is_below(now, s->paths[i]))
			return true;
	return !s->n_paths;
}

static int select_row(struct histories *h, const struct version_entry *v)
{
	const char *was = row_path(h, v->json, "path", "word");
	const char *now = json_text(v->json, "now", NULL);
	struct selected one = {.seq = v->seq};

	if (v->seq <= h->selection->since_seq)
		return 0;
	/* Strings of this document go away with it. */
	was = was ? histories_keep(h, strdup(was)) : NULL;
	one.path = now ? histories_keep(h, word_unescape(now)) : was;
	one.was = was;
	if (!was || !one.path)
		return -ENOMEM;
	if (is_wanted(h->selection, was, one.path))
		buf_append(&h->selected, &one, sizeof(one));
	return buf_failed(&h->selected) ? -ENOMEM : 0;
}

static int select_move(struct histories *h, struct json_object *row)
{
	const char *from = histories_keep(h, word_unescape(json_text(row, "from", "")));
	const char *to = histories_keep(h, word_unescape(json_text(row, "to", "")));
	const char *now = json_text(row, "now", NULL);
	struct folder_move one = {
		.seq = (uint64_t)json_number(row, "seq", 0), .from = from, .to = to};

	one.now = now ? histories_keep(h, word_unescape(now)) : to;
	if (!from || !to || !one.now)
		return -ENOMEM;
	if (one.seq <= h->selection->since_seq)
		return 0;
	if (is_wanted(h->selection, from, one.now))
		buf_append(&h->moves, &one, sizeof(one));
	return buf_failed(&h->moves) ? -ENOMEM : 0;
}

/* One table of the set: rows before that seq (0: the newest). Sets the least seq it has;
 * 1: there are more, 0, -errno. */
static int select_page(struct histories *h, uint64_t id, uint64_t before, uint64_t *least,
	struct version_list *list)
{
	auto_buf name = {0}, text = {0};
	int r;

	buf_printf(&name, "sets/%llu", (unsigned long long)id);
	if (before)
		buf_printf(&name, "-%llu", (unsigned long long)before);
	buf_puts(&name, ".json");
	r = buf_failed(&name) ? -ENOMEM : workspace_read(h->ws, name.data, &text);
	if (r == 0)
		r = versions_parse(list, text.data ?: "");
	for (size_t i = 0; r == 0 && i < list->n; i++) {
		r = select_row(h, &list->entries[i]);
		*least = list->entries[i].seq;
	}
	if (r < 0 || !json_flag(list->json, "truncated"))
		return r;
	return list->n ? 1 : -E2BIG;
}

static int select_moves(struct histories *h, const struct version_list *list)
{
	struct json_object *moves = json_list(list->json, "moves");
	int r = 0;

	for (size_t i = 0; r == 0 && moves && i < json_object_array_length(moves); i++)
		r = select_move(h, json_object_array_get_idx(moves, i));
	return r;
}

static int select_set(struct histories *h, uint64_t id)
{
	uint64_t least = 0;
	int r = 1;

	while (r == 1) {
		auto_versions list = {0};
		uint64_t before = least;

		r = select_page(h, id, before, &least, &list);
		if (r == 0 && !before)
			r = select_moves(h, &list);
		else if (r == 0) { /* of a set of several tables: the one behind the last */
			versions_done(&list);
			r = select_page(h, id, 1, &least, &list) ?: select_moves(h, &list);
		}
	}
	h->any_set |= r == 0;
	return r;
}

/* The sets of the writer in one table; *last is the last id of all. 1: there are more. */
static int select_writer_page(struct histories *h, uint64_t before, uint64_t *last)
{
	auto_json *json = NULL;
	auto_buf name = {0}, text = {0};
	struct json_object *sets;
	int r;

	if (before)
		buf_printf(&name, "sets/log-%llu.json", (unsigned long long)before);
	else
		buf_puts(&name, "sets/log.json");
	r = buf_failed(&name) ? -ENOMEM
			      : workspace_json(h->ws, name.data, "sets", &text, &json);
	sets = r < 0 ? NULL : json_list(json, "sets");
	for (size_t i = 0; r == 0 && sets && i < json_object_array_length(sets); i++) {
		struct json_object *set = json_object_array_get_idx(sets, i);

		*last = (uint64_t)json_number(set, "id", 0);
		if (strcmp(json_text(set, "writer", ""), h->selection->writer) != 0)
			continue;
		h->any_set = true;
		if ((uint64_t)json_number(set, "last_seq", 0) > h->selection->since_seq)
			r = select_set(h, *last);
	}
	return r ?: json_flag(json, "truncated") && *last != before;
}

static int select_writer(struct histories *h)
{
	uint64_t last = 0;
	int r;

	do
		r = select_writer_page(h, last, &last);
	while (r == 1);
	return r;
}

static int by_seq(const void *a, const void *b)
{
	const struct selected *x = a, *y = b;

	return (x->seq > y->seq) - (x->seq < y->seq);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void collect_paths(struct histories *h)
{
	const struct selected *all = (const void *)h->selected.data;
	const char **paths;
	size_t n = h->selected.len / sizeof(*all), kept = 0;

	for (size_t i = 0; i < n; i++)
		buf_append(&h->paths, &all[i].path, sizeof(all[i].path));
	if (!n || buf_failed(&h->paths))
		return;
	paths = (void *)h->paths.data;
	qsort(paths, n, sizeof(*paths), by_name);
	for (size_t i = 0; i < n; i++)
		if (!kept || strcmp(paths[kept - 1], paths[i]) != 0)
			paths[kept++] = paths[i];
	h->paths.len = kept * sizeof(*paths);
}

int histories_new(const struct workspace *ws, const struct selection *selection,
	struct histories **out)
{
	struct histories *h = calloc(1, sizeof(*h));
	int r;

	*out = h;
	if (!h)
		return -ENOMEM;
	h->ws = ws;
	h->selection = selection;
	r = selection->set ? select_set(h, selection->set) : select_writer(h);
	if (r < 0)
		return r;
	if (!h->any_set)
		return -ENOENT;
	if (h->selected.len)
		qsort(h->selected.data, h->selected.len / sizeof(struct selected),
			sizeof(struct selected), by_seq);
	collect_paths(h);
	return buf_failed(&h->paths) ? -ENOMEM : 0;
}

struct histories *histories_free(struct histories *h)
{
	struct timeline **all;
	char **kept;

	if (!h)
		return NULL;
	all = (void *)h->timelines.data;
	for (size_t i = 0; i < h->timelines.len / sizeof(*all); i++)
		timeline_free(all[i]);
	kept = (void *)h->kept.data;
	for (size_t i = 0; i < h->kept.len / sizeof(*kept); i++)
		free(kept[i]);
	buf_done(&h->kept);
	buf_done(&h->selected);
	buf_done(&h->paths);
	buf_done(&h->timelines);
	buf_done(&h->moves);
	free(h);
	return NULL;
}

size_t histories_paths(const struct histories *h, const char *const **paths)
{
	*paths = (const void *)h->paths.data;
	return h->paths.len / sizeof(**paths);
}

size_t histories_moves(const struct histories *h, const struct folder_move **moves)
{
	*moves = (const void *)h->moves.data;
	return h->moves.len / sizeof(**moves);
}

size_t histories_n_selected(const struct histories *h)
{
	return h->selected.len / sizeof(struct selected);
}
