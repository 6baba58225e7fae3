/*
 * query.c - one version of one path.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/internal.h"

void row_read_author(sqlite3_stmt *s, int at, struct author *a)
{
	*a = (struct author){
		.name = (const char *)sqlite3_column_text(s, at),
		.uid = (uid_t)column_int(s, at + 1),
		.pid = (pid_t)column_int(s, at + 2),
		.start_ns = sqlite3_column_int64(s, at + 3),
		.rule = (const char *)sqlite3_column_text(s, at + 4),
		.command = (const char *)sqlite3_column_text(s, at + 5),
	};
}

void row_read_version(sqlite3_stmt *s, struct version *v)
{
	*v = (struct version){
		.seq = column_int(s, 1),
		.path = sqlite3_column_blob(s, 2),
		.path_len = (size_t)sqlite3_column_bytes(s, 2),
		.number = column_int(s, 3),
		.kind = (enum version_kind)sqlite3_column_int(s, 4),
		.flags = (uint32_t)column_int(s, 5),
		.epoch = column_int(s, 6),
		.base_number = column_int(s, 7),
		.content_id = sqlite3_column_int64(s, 8),
		.content = column_hash(s, 9),
		.size = column_int(s, 10),
		.mode = (mode_t)column_int(s, 11),
		.uid = (uid_t)column_int(s, 12),
		.gid = (gid_t)column_int(s, 13),
		.mtime_ns = sqlite3_column_int64(s, 14),
		.time_ns = sqlite3_column_int64(s, 15),
		.from_path = sqlite3_column_blob(s, 22),
		.from_path_len = (size_t)sqlite3_column_bytes(s, 22),
		.from_number = column_int(s, 23),
		.set_id = column_int(s, 24),
	};
	v->has_content = v->content_id != 0;
	row_read_author(s, 16, &v->author);
}

static void pack_version(struct packer *p, struct version *v)
{
	pack(p, &v->path, v->path_len);
	pack(p, &v->from_path, v->from_path_len);
	pack_text(p, &v->author.name);
	pack_text(p, &v->author.rule);
	pack_text(p, &v->author.command);
}

int version_row_copy(const struct version *v, struct version_row *row)
{
	struct version copy = *v;
	struct packer sum = {0};
	char *text;

	pack_version(&sum, &copy);
	text = malloc(sum.total + 1);
	if (!text)
		return -ENOMEM;
	pack_version(&(struct packer){.at = text}, &copy);
	row->v = copy;
	row->text = text;
	return 0;
}

void version_row_done(struct version_row *row)
{
	free(row->text);
	*row = (struct version_row){0};
}

int place_newest_row(struct db *db, const struct place *p, struct version_row *row)
{
	auto_stmt *s = NULL;
	struct version v;
	int64_t id;
	int r = path_find(db, p->path, p->len, &id);

	if (r <= 0)
		return r;
	r = db_stmt(db, STMT_VERSION_BEFORE, &s);
	if (r)
		return r;
	bind_int(s, 1, (uint64_t)id);
	bind_int(s, 2, p->before);
	r = db_step(db, s);
	if (r <= 0)
		return r;
	row_read_version(s, &v);
	return version_row_copy(&v, row) ?: 1;
}

/*
 * What was at a path, newest first: a row of its own, or a rename of a folder that
 * brought it (go on there) or took it away (nothing is there). Of two renames with one
 * seq, an exchange, arriving is what counts.
 */
int place_find_newest(struct journal *j, struct db *db, struct place *p, bool itself,
	struct version_row *row)
{
	for (;;) {
		auto_place from = {0};
		uint64_t left = 0, seq;
		int r = place_newest_row(db, p, row);
		int came, gone;

		if (r < 0 || !atomic_load(&j->has_moves))
			return r;
		seq = r ? row->v.seq : 0;
		came = itself ? place_itself_came_from(db, p, &from)
			      : place_came_from(db, p, &from);
		gone = came < 0 ? 0
		       : itself ? place_itself_left(db, p, &left)
				: place_left(db, p, &left);
		if (came < 0 || gone < 0) {
			version_row_done(row);
			return came < 0 ? came : gone;
		}
		if (r && (!came || seq >= from.before) && (!gone || seq >= left))
			return 1;
		version_row_done(row);
		if (!came || (gone && left > from.before))
			return 0;
		place_done(p);
		*p = from;
		from.path = NULL;
	}
}

static int last_number_here(struct db *db, const char *path, size_t len, uint64_t *number)
{
	auto_stmt *s = NULL;
	int64_t id;
	int r = path_find(db, path, len, &id);

	*number = 0;
	if (r == 1) {
		r = db_stmt(db, STMT_VERSION_LAST, &s);
		if (r)
			return r;
		bind_int(s, 1, (uint64_t)id);
		r = db_step(db, s);
		if (r == 1)
			*number = column_int(s, 0);
	}
	return r < 0 ? r : 0;
}

static int newest_before(struct journal *j, struct db *db, const char *path, size_t len,
	uint64_t before, struct version_row *row)
{
	auto_place place = {0};
	int r = folders_settle(j) ?: place_init(&place, path, len, before);

	return r ?: place_find_newest(j, db, &place, false, row);
}

static int find_number(
	struct db *db, const struct place *p, uint64_t number, struct version_row *row)
{
	auto_stmt *s = NULL;
	struct version v;
	int64_t id;
	int r = path_find(db, p->path, p->len, &id);

	if (r <= 0)
		return r;
	r = db_stmt(db, STMT_VERSION_NUMBER, &s);
	if (r)
		return r;
	bind_int(s, 1, (uint64_t)id);
	bind_int(s, 2, number);
	r = db_step(db, s);
	if (r <= 0)
		return r;
	row_read_version(s, &v);
	if (v.seq >= p->before)
		return 0; /* made there after the folder went on to become this one */
	return version_row_copy(&v, row) ?: 1;
}

/* Folder renames are settled. */
static int find_version(struct journal *j, struct db *db, const char *path, size_t len,
	uint64_t number, struct version_row *row)
{
	auto_place place = {0};
	int r = place_init(&place, path, len, UINT64_MAX);

	while (!r) {
		auto_place from = {0};

		r = find_number(db, &place, number, row);
		if (r || !atomic_load(&j->has_moves))
			return r;
		r = place_came_from(db, &place, &from);
		if (r <= 0)
			return r;
		place_done(&place);
		place = from;
		from.path = NULL;
		r = 0;
	}
	return r;
}

/* The mtime before the version that made what is there: a mode keeps the content. */
static void find_previous(struct journal *j, struct db *db, struct version_row *newest)
{
	enum { MAX_STEPS = 32 };
	const struct version *v = &newest->v;
	enum version_kind kind = v->kind;
	bool made = false;

	for (uint64_t n = v->number - 1, i = 0; n > 0 && !made; n--, i++) {
		struct version_row row = {0};

		made = kind != VERSION_MODE || i == MAX_STEPS;
		if (find_version(j, db, v->path, v->path_len, n, &row) != 1)
			return;
		kind = row.v.kind;
		if (made)
			newest->previous_mtime_ns = row.v.mtime_ns;
		version_row_done(&row);
	}
}

static int find_head(struct journal *j, struct db *db, const char *path, size_t len,
	struct version_row *row)
{
	uint64_t last;
	int r = newest_before(j, db, path, len, UINT64_MAX, row);

	if (r < 0)
		return r;
	if (last_number_here(db, path, len, &last) < 0) {
		version_row_done(row);
		return -EIO;
	}
	row->last_number = r && row->v.number > last ? row->v.number : last;
	if (r == 1)
		find_previous(j, db, row);
	return r;
}

int journal_head(struct journal *j, const char *path, size_t len, struct version_row *row)
{
	auto_pooled p = {j, NULL};
	int r = pool_take(j, &p.db);

	*row = (struct version_row){0};
	/* One lock of the database for all the questions, instead of one for each. */
	r = r ?: db_run(p.db, STMT_LOOK);
	if (r)
		return r;
	r = find_head(j, p.db, path, len, row);
	(void)!db_run(p.db, STMT_COMMIT); /* nothing was changed */
	return r;
}

/* Were versions collected between a row and the next one? */
static int gap_follows(struct db *db, const struct version *v)
{
	auto_stmt *s = NULL;
	int64_t id;
	int r = path_find(db, v->path, v->path_len, &id);

	if (r > 0)
		r = db_stmt(db, STMT_GC_FLAGS_AFTER, &s) ?: 1;
	if (r <= 0)
		return r;
	bind_int(s, 1, (uint64_t)id);
	bind_int(s, 2, v->seq);
	r = db_step(db, s);
	return r == 1 ? (sqlite3_column_int(s, 0) & VERSION_GAP) != 0 : r;
}

int journal_version_at(struct journal *j, const char *path, size_t len, uint64_t max_seq,
	struct version_row *row)
{
	auto_pooled p = {j, NULL};
	uint64_t before = max_seq == UINT64_MAX ? max_seq : max_seq + 1;
	int r = pool_take(j, &p.db);

	*row = (struct version_row){0};
	r = r ?: newest_before(j, p.db, path, len, before, row);
	if (r != 1 || row->v.seq == max_seq)
		return r;
	r = gap_follows(p.db, &row->v);
	if (r)
		version_row_done(row);
	return r < 0 ? r : r == 0;
}

int journal_version(struct journal *j, const char *path, size_t len, uint64_t number,
	struct version_row *row)
{
	auto_pooled p = {j, NULL};
	int r = folders_settle(j) ?: pool_take(j, &p.db);

	*row = (struct version_row){0};
	return r ?: find_version(j, p.db, path, len, number, row);
}

int journal_content(struct journal *j, struct hash128 content, uint64_t size, int *fd)
{
	auto_pooled p = {j, NULL};
	int r;

	queue_flush(j);
	r = pool_take(j, &p.db);
	return r ?: store_open_hash(&j->store, p.db, content, size, fd);
}

static int open_content(struct journal *j, bool has, int64_t id, struct hash128 content,
	uint64_t size, int *fd)
{
	auto_pooled p = {j, NULL};
	struct stat st;
	int r;

	if (!has)
		return -ENOENT;
	if (id == 0)
		return journal_content(j, content, size, fd);
	r = pool_take(j, &p.db);
	r = r ?: store_open(&j->store, p.db, id, fd);
	if (r)
		return r;
	/* One of the two rows is damaged. */
	if (fstat(*fd, &st) < 0 || (uint64_t)st.st_size != size) {
		close(*fd);
		*fd = -1;
		return -EIO;
	}
	return 0;
}

int journal_version_content(struct journal *j, const struct version *v, int *fd)
{
	return open_content(j, v->has_content, v->content_id, v->content, v->size, fd);
}

int journal_refusal_content(struct journal *j, const struct refusal *r, int *fd)
{
	return open_content(j, r->kept, r->content_id, r->content, r->size, fd);
}
