/*
 * folder.c - renames of folders, looked through when somebody asks.
 *
 * A rename of a folder is one row, however much is below it. Where a path comes from is
 * found by asking for each of its folders: as many look-ups as the path is deep.
 */
#include <string.h>

#include "journal/internal.h"

void place_done(struct place *p)
{
	free(p->path);
	p->path = NULL;
}

int place_init(struct place *p, const char *path, size_t len, uint64_t before)
{
	p->path = malloc(len + 1);
	if (!p->path)
		return -ENOMEM;
	memcpy(p->path, path, len);
	p->path[len] = '\0';
	p->len = len;
	p->before = seq_bound(before);
	return 0;
}

/* The next shorter folder of path[0, len), or 0. */
static size_t parent_len(const char *path, size_t len)
{
	while (len > 0 && path[len - 1] != '/')
		len--;
	return len > 0 ? len - 1 : 0;
}

static int newest_move(
	struct db *db, enum stmt_id id, const struct place *p, size_t len, sqlite3_stmt **s)
{
	int r = db_stmt(db, id, s);

	if (r)
		return r;
	bind_blob(*s, 1, p->path, len);
	bind_int(*s, 2, p->before);
	return db_step(db, *s);
}

static int moved_path(const struct place *p, size_t folder_len, const void *from,
	size_t from_len, uint64_t seq, struct place *out)
{
	size_t rest = p->len - folder_len; /* with its slash */
	char *path = malloc(from_len + rest + 1);

	if (!path)
		return -ENOMEM;
	if (from_len > 0)
		memcpy(path, from, from_len);
	memcpy(path + from_len, p->path + folder_len, rest);
	path[from_len + rest] = '\0';
	place_done(out);
	*out = (struct place){.path = path, .len = from_len + rest, .before = seq};
	return 0;
}

int place_came_from(struct db *db, const struct place *p, struct place *from)
{
	bool found = false;
	uint64_t best = 0;

	for (size_t len = parent_len(p->path, p->len); len > 0;
		len = parent_len(p->path, len)) {
		auto_stmt *s = NULL;
		int r = newest_move(db, STMT_MOVE_TO, p, len, &s);

		if (r < 0)
			return r;
		if (r == 0 || (found && column_int(s, 0) <= best))
			continue;
		found = true;
		best = column_int(s, 0);
		r = moved_path(p, len, sqlite3_column_blob(s, 1),
			(size_t)sqlite3_column_bytes(s, 1), best, from);
		if (r)
			return r;
	}
	return found;
}

int place_left(struct db *db, const struct place *p, uint64_t *seq)
{
	bool found = false;

	for (size_t len = parent_len(p->path, p->len); len > 0;
		len = parent_len(p->path, len)) {
		auto_stmt *s = NULL;
		int r = newest_move(db, STMT_MOVE_FROM, p, len, &s);

		if (r < 0)
			return r;
		if (r == 0 || (found && column_int(s, 0) <= *seq))
			continue;
		found = true;
		*seq = column_int(s, 0);
	}
	return found;
}

/* As a folder, so that its own renames are looked at as those of the ones it is in. */
static int as_folder(const struct place *p, struct place *out)
{
	int r = place_init(out, p->path, p->len, p->before);

	if (!r)
		out->path[out->len++] = '/'; /* in place of the NUL: lengths count */
	return r;
}

static void no_slash(struct place *p)
{
	assert(p->len > 0 && p->path[p->len - 1] == '/');
	p->path[--p->len] = '\0';
}

int place_itself_came_from(struct db *db, const struct place *p, struct place *from)
{
	auto_place folder = {0};
	int r = as_folder(p, &folder) ?: place_came_from(db, &folder, from);

	if (r == 1)
		no_slash(from);
	return r;
}

int place_itself_left(struct db *db, const struct place *p, uint64_t *seq)
{
	auto_place folder = {0};

	return as_folder(p, &folder) ?: place_left(db, &folder, seq);
}

int place_goes_to(struct db *db, const struct place *p, uint64_t after, struct place *to)
{
	auto_place folder = {0};
	bool found = false;
	int r = as_folder(p, &folder);

	folder.before = seq_bound(after); /* what the statement has for its bound */
	for (size_t len = folder.len; !r && (len = parent_len(folder.path, len)) > 0;) {
		auto_stmt *s = NULL;
		int row = newest_move(db, STMT_MOVE_FROM_AFTER, &folder, len, &s);

		if (row < 0)
			return row;
		if (row == 0 || (found && column_int(s, 0) >= to->before))
			continue;
		r = moved_path(&folder, len, sqlite3_column_blob(s, 1),
			(size_t)sqlite3_column_bytes(s, 1), column_int(s, 0), to);
		found = !r;
	}
	if (found)
		no_slash(to);
	return r ?: found;
}

int place_arrives(struct db *db, const struct place *p, uint64_t after, uint64_t *seq)
{
	auto_place folder = {0};
	bool found = false;
	int r = as_folder(p, &folder);

	folder.before = seq_bound(after);
	for (size_t len = folder.len; !r && (len = parent_len(folder.path, len)) > 0;) {
		auto_stmt *s = NULL;
		int row = newest_move(db, STMT_MOVE_TO_AFTER, &folder, len, &s);

		if (row < 0)
			return row;
		if (row == 0 || (found && column_int(s, 0) >= *seq))
			continue;
		found = true;
		*seq = column_int(s, 0);
	}
	return r ?: found;
}

int folders_settle(struct journal *j)
{
	struct timespec until;
	int r = 0;

	if (atomic_load(&j->moves_waiting) == 0)
		return 0;
	until = time_in_ms(READ_FLUSH_MS);
	pthread_mutex_lock(&j->lock);
	while (atomic_load(&j->moves_waiting) > 0 && !r) {
		r = atomic_load(&j->health);
		if (!r && !writer_wait_done(j, &until))
			r = -EIO;
	}
	pthread_mutex_unlock(&j->lock);
	return r;
}

void places_free(struct places *p)
{
	for (size_t i = 0; p && i < p->n; i++)
		place_done(&p->at[i]);
	free(p);
}

/* One place for a path, the one that goes on for longest: a folder that was renamed there
 * and back a hundred times has two names, not 2^100 ways to them. Takes over *place. */
static void add_place(struct places *all, struct place *place)
{
	for (size_t i = 0; i < all->n; i++) {
		struct place *p = &all->at[i];

		if (p->len != place->len || memcmp(p->path, place->path, p->len) != 0)
			continue;
		if (p->before < place->before)
			p->before = place->before;
		place_done(place);
		return;
	}
	if (all->n < PLACES_MAX)
		all->at[all->n++] = *place;
	else
		place_done(place);
}

/* Folders that were moved to somewhere below the place. */
static int add_moved_into(struct db *db, struct places *all, const struct place *p)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_MOVE_INTO, &s);

	if (r)
		return r;
	bind_blob(s, 1, p->path, p->len);
	bind_int(s, 2, p->before);
	while (all->n < PLACES_MAX && (r = db_step(db, s)) == 1) {
		const char *to = sqlite3_column_blob(s, 2);
		size_t to_len = (size_t)sqlite3_column_bytes(s, 2);
		size_t from_len = (size_t)sqlite3_column_bytes(s, 1);
		struct place next;

		if (to_len <= p->len || memcmp(to, p->path, p->len) != 0)
			return 0;
		r = place_init(
			&next, sqlite3_column_blob(s, 1), from_len, column_int(s, 0));
		if (r)
			return r;
		next.path[next.len++] = '/'; /* in place of the NUL: lengths count */
		add_place(all, &next);
	}
	return r < 0 ? r : 0;
}

/* Every rename that brought it here, not the newest alone: names come and go. */
static int add_came_from(struct db *db, struct places *all, const struct place *of)
{
	auto_place at = {0};
	int r = place_init(&at, of->path, of->len, of->before);

	while (!r && all->n < PLACES_MAX) {
		struct place from = {0};

		r = place_came_from(db, &at, &from);
		if (r <= 0)
			return r;
		at.before = from.before;
		add_place(all, &from);
		r = 0;
	}
	return r;
}

/* Of those from i on, the one that goes on for longest comes first: whatever is found from
 * it ends earlier, so no place that was looked at gets any longer. */
static struct place *longest_from(struct places *all, size_t i)
{
	struct place first;
	size_t best = i;

	for (size_t k = i + 1; k < all->n; k++)
		if (all->at[k].before > all->at[best].before)
			best = k;
	first = all->at[best];
	all->at[best] = all->at[i];
	all->at[i] = first;
	return &all->at[i];
}

int places_spread(struct db *db, struct places *all, enum places_kind kind)
{
	int r = 0;

	for (size_t i = 0; !r && kind != PLACES_NOW && i < all->n; i++) {
		const struct place *p = longest_from(all, i);

		r = add_came_from(db, all, p);
		if (!r && kind == PLACES_INSIDE && p->len > 0)
			r = add_moved_into(db, all, p);
	}
	return r;
}

int places_below(struct journal *j, struct db *db, const char *folder, size_t len,
	enum places_kind kind, struct places **out)
{
	struct places *all = calloc(1, sizeof(*all));
	int r = all ? place_init(&all->at[0], folder, len, UINT64_MAX) : -ENOMEM;

	if (!r) {
		if (len > 0)
			all->at[0].path[all->at[0].len++] = '/';
		all->n = 1;
		r = places_spread(db, all, atomic_load(&j->has_moves) ? kind : PLACES_NOW);
	}
	if (r) {
		places_free(all);
		return r;
	}
	*out = all;
	return 0;
}

/* Where the folder went after the moment, rename by rename. */
static int add_goes_to(
	struct db *db, struct places *all, const char *folder, size_t len, uint64_t seq)
{
	auto_place at = {0};
	int r = place_init(&at, folder, len, seq);

	while (!r && all->n < PLACES_MAX) {
		struct place to = {0}, *next = &all->at[all->n];

		r = place_goes_to(db, &at, seq, &to);
		if (r <= 0)
			return r;
		seq = to.before;
		place_done(&at);
		at = to;
		r = as_folder(&at, next);
		if (r)
			return r;
		next->before = INT64_MAX;
		all->n++;
	}
	return r;
}

int places_of_moment(struct journal *j, struct db *db, const char *folder, size_t len,
	uint64_t seq, struct places **out)
{
	int r = places_below(j, db, folder, len, PLACES_BEFORE, out);

	if (r || !len || !atomic_load(&j->has_moves))
		return r;
	r = add_goes_to(db, *out, folder, len, seq);
	if (r) {
		places_free(*out);
		*out = NULL;
	}
	return r;
}
