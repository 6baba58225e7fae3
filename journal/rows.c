/*
 * rows.c - one queued item as rows, inside the writer's transaction.
 */
#include <inttypes.h>

#include "base/log.h"
#include "journal/internal.h"

/* How far behind a temporary file's row that of its rename is looked for. */
enum { FOLLOWERS_MAX = 8 };

int path_find(struct db *db, const char *path, size_t len, int64_t *id)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_PATH_ID, &s);

	if (r)
		return r;
	bind_blob(s, 1, path, len);
	r = db_step(db, s);
	if (r == 1)
		*id = sqlite3_column_int64(s, 0);
	return r;
}

int path_intern(struct db *db, const char *path, size_t len, int64_t *id)
{
	auto_stmt *s = NULL;
	int r = path_find(db, path, len, id);

	if (r)
		return r < 0 ? r : 0;
	r = db_stmt(db, STMT_PATH_ADD, &s);
	if (r)
		return r;
	bind_blob(s, 1, path, len);
	r = db_step(db, s);
	*id = sqlite3_last_insert_rowid(db->sql);
	return r;
}

/* The row a caller knows from a query, if it still is about this content. */
static int check_content(struct db *db, int64_t id, struct hash128 hash, uint64_t size)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_CONTENT_BY_ID, &s);

	if (r)
		return r;
	bind_int(s, 1, (uint64_t)id);
	r = db_step(db, s);
	if (r == 1)
		r = column_int(s, 2) == size && hash128_equal(column_hash(s, 1), hash);
	return r;
}

/* A content that is said to be here already. */
static int find_content(struct db *db, struct hash128 hash, uint64_t size, int64_t *id)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_CONTENT_EXISTS, &s);

	if (r)
		return r;
	bind_hash(s, 1, hash);
	bind_int(s, 2, size);
	r = db_step(db, s);
	if (r == 1)
		*id = sqlite3_column_int64(s, 0);
	return r;
}

/* The row of the content an item comes with or refers to; 0: it has none. before: as
 * store_put(). */
static int content_of(struct journal *j, const struct item *item, bool has, int64_t known,
	struct hash128 hash, uint64_t size, int64_t before, struct tally *t, int64_t *id)
{
	struct stored stored;
	int r;

	*id = 0;
	if (item->has_capture) {
		r = store_put(&j->store, j->db, &item->content, before, &stored);
		if (!r && stored.added) {
			t->n[TALLY_CONTENTS]++;
			t->n[TALLY_CONTENT_BYTES] += item->content.size;
			t->n[TALLY_STORED_BYTES] += stored.bytes;
			t->n[TALLY_OBJECT_BYTES] += stored.object ? stored.bytes : 0;
		}
		*id = r ? 0 : stored.id;
		return r;
	}
	if (!has)
		return 0;
	r = known ? check_content(j->db, known, hash, size) : 0;
	if (r == 1)
		*id = known;
	else if (r == 0)
		r = find_content(j->db, hash, size, id);
	if (r == 0)
		log_error("journal: row %" PRIu64 " refers to a content that is not here",
			item->seq);
	return r < 0 ? r : 0;
}

struct version_ids {
	int64_t path, from, content, author, writer, set;
};

static int insert_version(struct db *db, const struct version *v, uint64_t number,
	const struct version_ids *ids)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_VERSION_ADD, &s);

	if (r)
		return r;
	bind_int(s, 1, v->seq);
	bind_int(s, 2, (uint64_t)ids->path);
	bind_int(s, 3, number);
	bind_int(s, 4, v->kind);
	bind_int(s, 5, v->flags);
	bind_int(s, 6, v->epoch);
	bind_int(s, 7, v->base_number);
	bind_opt(s, 8, ids->content);
	bind_int(s, 9, v->size);
	bind_int(s, 10, v->mode);
	bind_int(s, 11, v->uid);
	bind_int(s, 12, v->gid);
	bind_int(s, 13, (uint64_t)v->mtime_ns);
	bind_int(s, 14, (uint64_t)v->time_ns);
	bind_opt(s, 15, ids->author);
	bind_opt(s, 16, ids->writer);
	bind_opt(s, 17, ids->from);
	bind_int(s, 18, v->from_number);
	bind_opt(s, 19, ids->set);
	return db_step(db, s);
}

static int last_number(struct db *db, int64_t path_id, uint64_t *number)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_VERSION_LAST, &s);

	if (r)
		return r;
	bind_int(s, 1, (uint64_t)path_id);
	r = db_step(db, s);
	*number = r == 1 ? column_int(s, 0) : 0;
	return r < 0 ? r : 0;
}

/* 1 when the row of a version is there. */
static int is_written(struct db *db, uint64_t seq)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_VERSION_SEQ, &s);

	if (r)
		return r;
	bind_int(s, 1, seq);
	return db_step(db, s);
}

/* The newest content of a path; 0: there was none lately. */
static int content_of_path(struct db *db, int64_t path_id, int64_t *id)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_CONTENT_BEFORE, &s);

	if (r)
		return r;
	bind_int(s, 1, (uint64_t)path_id);
	while (!*id && (r = db_step(db, s)) == 1)
		*id = sqlite3_column_int64(s, 0);
	return r < 0 ? r : 0;
}

/* The row that puts this one's content over another path, as a save by rename does. */
static const struct version *replacement(struct journal *j, const struct item *item)
{
	const struct list *at = item->link.next;

	for (int i = 0; i < FOLLOWERS_MAX && at != &j->batch; i++, at = at->next) {
		const struct item *next = list_entry(at, struct item, link);

		if (next->kind == ITEM_VERSION && !next->has_capture &&
			next->version.has_content &&
			next->version.size == item->content.size &&
			hash128_equal(next->version.content, item->content.hash))
			return &next->version;
	}
	return NULL;
}

/* What a content that is captured whole is likely to be much like: 0, nothing. */
static int content_before(
	struct journal *j, const struct item *item, int64_t path_id, int64_t *id)
{
	const struct version *over;
	int64_t other;
	int r = content_of_path(j->db, path_id, id);

	if (r || *id)
		return r;
	over = replacement(j, item);
	r = over ? path_find(j->db, over->path, over->path_len, &other) : 0;
	return r == 1 ? content_of_path(j->db, other, id) : r;
}

static int write_version(struct journal *j, struct item *item, struct tally *t)
{
	const struct version *v = &item->version;
	struct version_ids ids = {0};
	int64_t before = 0;
	uint64_t number;
	int r = item->replayed ? is_written(j->db, v->seq) : 0;

	if (r)
		return r < 0 ? r : 0;
	r = path_intern(j->db, v->path, v->path_len, &ids.path);

	if (!r && v->from_path && v->from_path_len > 0)
		r = path_intern(j->db, v->from_path, v->from_path_len, &ids.from);
	if (!r)
		r = author_intern(j->db, &v->author, v->time_ns, &ids.author, &ids.writer);
	if (!r && item->has_capture && !item->content.patch)
		r = content_before(j, item, ids.path, &before);
	if (!r)
		r = content_of(j, item, v->has_content, v->content_id, v->content, v->size,
			before, t, &ids.content);
	if (!r)
		r = set_of(j, &v->author, ids.author, ids.writer, v->seq, v->time_ns,
			&ids.set);
	if (!r)
		r = insert_version(j->db, v, v->number, &ids);
	if (r == -EEXIST && !last_number(j->db, ids.path, &number)) {
		log_error("journal: %.*s has a version %" PRIu64
			  " already, this one becomes %" PRIu64,
			(int)v->path_len, v->path, v->number, number + 1);
		r = insert_version(j->db, v, number + 1, &ids);
	}
	if (!r)
		t->n[TALLY_VERSIONS]++;
	return r;
}

static int write_refusal(struct journal *j, struct item *item, struct tally *t)
{
	const struct refusal *f = &item->refusal;
	int64_t author_id, writer_id, content_id = 0;
	auto_stmt *s = NULL;
	int r = author_intern(j->db, &f->author, f->time_ns, &author_id, &writer_id);

	if (!r)
		r = content_of(j, item, f->kept, f->content_id, f->content, f->size, 0, t,
			&content_id);
	if (!r)
		r = db_stmt(j->db, STMT_REFUSAL_ADD, &s);
	if (r)
		return r;
	bind_int(s, 1, f->id);
	bind_int(s, 2, f->seq);
	bind_int(s, 3, (uint64_t)f->time_ns);
	bind_blob(s, 4, f->path, f->path_len);
	bind_text(s, 5, f->asked);
	bind_text(s, 6, f->reason);
	bind_int(s, 7, (uint64_t)f->error);
	bind_opt(s, 8, author_id);
	bind_opt(s, 9, writer_id);
	bind_int(s, 10, f->base_number);
	bind_int(s, 11, f->current_number);
	bind_int(s, 12, f->epoch);
	bind_text(s, 13, f->current_writer);
	bind_text(s, 14, f->holder);
	bind_text(s, 15, f->hunks);
	bind_text(s, 16, f->text);
	bind_opt(s, 17, content_id);
	r = db_step(j->db, s);
	if (!r) {
		t->n[TALLY_REFUSALS]++;
		t->n[TALLY_KEPT] += content_id != 0;
	}
	return r;
}

static int write_event(struct db *db, const struct event *e)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_EVENT_ADD, &s);

	if (r)
		return r;
	bind_int(s, 1, e->seq);
	bind_int(s, 2, (uint64_t)e->time_ns);
	bind_text(s, 3, e->kind);
	bind_blob(s, 4, e->path, e->path_len);
	bind_text(s, 5, e->writer);
	bind_int(s, 6, e->epoch);
	bind_int(s, 7, e->number);
	bind_text(s, 8, e->text);
	return db_step(db, s);
}

static int write_folder(struct journal *j, const struct folder_move *m)
{
	int64_t author_id, writer_id, set_id = 0;
	struct db *db = j->db;
	auto_stmt *s = NULL;
	int r = author_intern(db, &m->author, m->time_ns, &author_id, &writer_id);

	if (!r)
		r = set_of(
			j, &m->author, author_id, writer_id, m->seq, m->time_ns, &set_id);
	if (!r)
		r = db_stmt(db, STMT_MOVE_ADD, &s);
	if (r)
		return r;
	bind_int(s, 1, m->seq);
	bind_int(s, 2, (uint64_t)m->time_ns);
	bind_blob(s, 3, m->from, m->from_len);
	bind_blob(s, 4, m->to, m->to_len);
	bind_opt(s, 5, author_id);
	bind_opt(s, 6, set_id);
	return db_step(db, s);
}

int rows_write(struct journal *j, struct item *item, struct tally *t)
{
	switch (item->kind) {
	case ITEM_VERSION:
		return write_version(j, item, t);
	case ITEM_REFUSAL:
		return write_refusal(j, item, t);
	case ITEM_EVENT:
		return write_event(j->db, &item->event);
	case ITEM_FOLDER:
		return write_folder(j, &item->folder);
	case ITEM_RESOLVE:
		return conflict_write(j->db, &item->resolution, t);
	case ITEM_SET:
		return set_write(j, &item->set);
	}
	assert(!"an item kind without rows");
	return -EINVAL;
}
