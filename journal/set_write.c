/*
 * set_write.c - into which change set a row goes; inside the writer's transaction.
 *
 * The sets that are being added to are kept in memory, so that a row costs no query, and
 * what was added is written once per transaction. After a transaction that failed all of
 * it is forgotten and read again.
 */
#include "journal/internal.h"

static struct cached_set *find_cached(
	struct journal *j, int64_t writer_id, const struct author *a)
{
	for (unsigned i = 0; i < j->n_sets; i++) {
		struct cached_set *c = &j->sets[i];

		if (c->writer_id == writer_id && c->root_pid == a->root_pid &&
			c->root_start_ns == a->root_start_ns)
			return c;
	}
	return NULL;
}

static int flush_one(struct db *db, struct cached_set *c)
{
	auto_stmt *s = NULL;
	int r;

	if (!c->added)
		return 0;
	r = db_stmt(db, STMT_SET_GROW, &s);
	if (r)
		return r;
	bind_int(s, 1, (uint64_t)c->id);
	bind_int(s, 2, c->last_seq);
	bind_int(s, 3, (uint64_t)c->last_ns);
	bind_int(s, 4, c->added);
	c->added = 0;
	return db_step(db, s);
}

int sets_flush(struct journal *j)
{
	int r = 0;

	for (unsigned i = 0; i < j->n_sets && !r; i++)
		r = flush_one(j->db, &j->sets[i]);
	return r;
}

void sets_forget(struct journal *j)
{
	j->n_sets = 0;
	j->n_open_sets = -1;
}

/* A place in the cache; the one that was used least lately is written and left. */
static int make_room(struct journal *j, struct cached_set **out)
{
	struct cached_set *oldest = &j->sets[0];

	if (j->n_sets < SETS_CACHED) {
		*out = &j->sets[j->n_sets++];
		return 0;
	}
	for (unsigned i = 1; i < SETS_CACHED; i++)
		if (j->sets[i].last_seq < oldest->last_seq)
			oldest = &j->sets[i];
	*out = oldest;
	return flush_one(j->db, oldest);
}

static int remember(
	struct journal *j, const struct cached_set *set, struct cached_set **out)
{
	int r = make_room(j, out);

	if (!r)
		**out = *set;
	return r;
}

/* ---- the set that a process has begun by name ---- */

static int count_open(struct journal *j)
{
	return j->n_open_sets >= 0
		       ? 0
		       : db_int(j->db, "SELECT count(*) FROM change_set WHERE state = 1",
				 &j->n_open_sets);
}

/* 1 and its id, or 0. */
static int find_open(struct journal *j, int64_t author_id, int64_t *id)
{
	auto_stmt *s = NULL;
	int r = count_open(j);

	if (r || !j->n_open_sets)
		return r;
	r = db_stmt(j->db, STMT_SET_OPEN_BY, &s);
	if (r)
		return r;
	bind_int(s, 1, (uint64_t)author_id);
	r = db_step(j->db, s);
	if (r == 1)
		*id = sqlite3_column_int64(s, 0);
	return r;
}

static int add_to_open(struct journal *j, int64_t id, uint64_t seq, int64_t time_ns)
{
	struct cached_set one = {.id = id, .last_seq = seq, .last_ns = time_ns, .added = 1};

	return flush_one(j->db, &one);
}

/* ---- the set that comes about by itself ---- */

static int find_stored(struct journal *j, int64_t writer_id, const struct author *a,
	struct cached_set *set)
{
	auto_stmt *s = NULL;
	int r = db_stmt(j->db, STMT_SET_FIND, &s);

	if (r)
		return r;
	bind_int(s, 1, (uint64_t)writer_id);
	bind_int(s, 2, (uint64_t)(int64_t)a->root_pid);
	bind_int(s, 3, (uint64_t)a->root_start_ns);
	r = db_step(j->db, s);
	if (r == 1) {
		set->id = sqlite3_column_int64(s, 0);
		set->last_seq = column_int(s, 1);
		set->last_ns = sqlite3_column_int64(s, 2);
	}
	return r;
}

struct new_set {
	enum set_state state;
	uint64_t undo_of;
	const char *what;
	int64_t writer_id, author_id;
	uint64_t seq;
	int64_t time_ns;
};

static int insert(
	struct journal *j, const struct author *a, const struct new_set *n, int64_t *id)
{
	auto_stmt *s = NULL;
	int r = db_stmt(j->db, STMT_SET_ADD, &s);

	if (r)
		return r;
	bind_int(s, 1, n->state);
	bind_int(s, 2, n->undo_of);
	bind_text(s, 3, n->what);
	bind_int(s, 4, (uint64_t)n->writer_id);
	bind_int(s, 5, (uint64_t)n->author_id);
	bind_int(s, 6, (uint64_t)(int64_t)a->root_pid);
	bind_int(s, 7, (uint64_t)a->root_start_ns);
	bind_int(s, 8, n->seq);
	bind_int(s, 9, (uint64_t)n->time_ns);
	r = db_step(j->db, s);
	*id = sqlite3_last_insert_rowid(j->db->sql);
	return r;
}

static bool goes_on(const struct cached_set *set, int64_t time_ns)
{
	/* The clock may have been set back, and a row may be damaged. */
	return set->last_ns >= time_ns ||
	       (uint64_t)time_ns - (uint64_t)set->last_ns <= SET_PAUSE_S * NS_PER_S;
}

/* The tree's set that is in memory afterwards; c: where it is already, or NULL. */
static int current_set(struct journal *j, const struct author *a, const struct new_set *n,
	struct cached_set **c)
{
	struct cached_set set = {.writer_id = n->writer_id,
		.root_pid = a->root_pid,
		.root_start_ns = a->root_start_ns};
	int r = *c ? 0 : find_stored(j, n->writer_id, a, &set);

	if (r < 0)
		return r;
	if (*c) {
		if (goes_on(*c, n->time_ns))
			return 0;
		r = flush_one(j->db, *c);
		if (r)
			return r;
	} else if (r == 1 && goes_on(&set, n->time_ns)) {
		return remember(j, &set, c);
	}
	r = insert(j, a, n, &set.id);
	if (r)
		return r;
	set.last_seq = n->seq;
	set.last_ns = n->time_ns;
	if (!*c)
		return remember(j, &set, c);
	**c = set;
	return 0;
}

int set_of(struct journal *j, const struct author *a, int64_t author_id, int64_t writer_id,
	uint64_t seq, int64_t time_ns, int64_t *set_id)
{
	const struct new_set n = {.state = SET_PLAIN,
		.writer_id = writer_id,
		.author_id = author_id,
		.seq = seq,
		.time_ns = time_ns};
	struct cached_set *c;
	int r;

	*set_id = 0;
	if (!writer_id)
		return 0; /* what was there before, or came round the mount */
	r = find_open(j, author_id, set_id);
	if (r)
		return r < 0 ? r : add_to_open(j, *set_id, seq, time_ns);
	c = find_cached(j, writer_id, a);
	r = current_set(j, a, &n, &c);
	if (r)
		return r;
	c->added++;
	c->last_seq = seq > c->last_seq ? seq : c->last_seq;
	c->last_ns = time_ns > c->last_ns ? time_ns : c->last_ns;
	*set_id = c->id;
	return 0;
}

/* ---- begin, resume, end ---- */

static int begin(struct journal *j, const struct set_change *set)
{
	struct new_set n = {.state = SET_OPEN,
		.undo_of = set->undo_of,
		.what = set->what,
		.seq = set->seq,
		.time_ns = set->time_ns};
	auto_stmt *s = NULL;
	int64_t id;
	int r = author_intern(
		j->db, &set->author, set->time_ns, &n.author_id, &n.writer_id);

	if (!r)
		r = insert(j, &set->author, &n, &id);
	/* What is undone, and by whom: later changes are not of the sets before. */
	if (!r)
		r = sets_flush(j) ?: db_stmt(j->db, STMT_SET_CLOSE, &s);
	if (r)
		return r;
	bind_int(s, 1, set->undo_of);
	bind_int(s, 2, (uint64_t)n.writer_id);
	bind_text(s, 3, set->undo_writer);
	r = db_step(j->db, s);
	sets_forget(j);
	return r;
}

static int resume(struct journal *j, const struct set_change *set)
{
	int64_t author_id, writer_id;
	auto_stmt *s = NULL;
	int r = author_intern(j->db, &set->author, set->time_ns, &author_id, &writer_id);

	if (!r)
		r = db_stmt(j->db, STMT_SET_RESUME, &s);
	if (r)
		return r;
	bind_int(s, 1, set->id);
	bind_int(s, 2, (uint64_t)author_id);
	return db_step(j->db, s);
}

static int end(struct journal *j, const struct set_change *set)
{
	auto_stmt *s = NULL;
	int r = db_stmt(j->db, STMT_SET_END, &s);

	if (r)
		return r;
	bind_int(s, 1, set->id);
	bind_int(s, 2, set->state);
	j->n_open_sets = -1;
	return db_step(j->db, s);
}

int set_write(struct journal *j, const struct set_change *set)
{
	switch (set->act) {
	case SET_ACT_BEGIN:
		return begin(j, set);
	case SET_ACT_RESUME:
		return resume(j, set);
	case SET_ACT_END:
		return end(j, set);
	}
	assert(!"an act without rows");
	return -EINVAL;
}
