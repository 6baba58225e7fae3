/*
 * author.c - writers and their processes, one row each (W4).
 */
#include <string.h>

#include "journal/internal.h"

static int find_writer(struct db *db, const char *name, int64_t *id, uid_t *uid)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_WRITER_ID, &s);

	if (r)
		return r;
	bind_text(s, 1, name);
	r = db_step(db, s);
	if (r == 1) {
		*id = sqlite3_column_int64(s, 0);
		*uid = (uid_t)column_int(s, 1);
	}
	return r;
}

static int intern_writer(
	struct db *db, const struct author *a, int64_t time_ns, int64_t *id)
{
	auto_stmt *s = NULL;
	uid_t uid;
	int r = find_writer(db, a->name, id, &uid);

	if (r)
		return r < 0 ? r : 0;
	r = db_stmt(db, STMT_WRITER_ADD, &s);
	if (r)
		return r;
	bind_text(s, 1, a->name);
	bind_int(s, 2, a->uid);
	bind_int(s, 3, (uint64_t)time_ns);
	r = db_step(db, s);
	*id = sqlite3_last_insert_rowid(db->sql);
	return r;
}

static int run_author(struct db *db, enum stmt_id id, sqlite3_stmt **s, int64_t writer_id,
	const struct author *a)
{
	int r = db_stmt(db, id, s);

	if (r)
		return r;
	bind_int(*s, 1, (uint64_t)writer_id);
	bind_int(*s, 2, a->uid);
	bind_int(*s, 3, (uint64_t)(int64_t)a->pid);
	bind_int(*s, 4, (uint64_t)a->start_ns);
	bind_text(*s, 5, a->rule);
	bind_text(*s, 6, a->command);
	return db_step(db, *s);
}

/* 0 and 0 for no author. */
int author_intern(struct db *db, const struct author *a, int64_t time_ns,
	int64_t *author_id, int64_t *writer_id)
{
	auto_stmt *find = NULL, *add = NULL;
	int r;

	*author_id = *writer_id = 0;
	if (!a->name)
		return 0;
	r = intern_writer(db, a, time_ns, writer_id);
	if (r)
		return r;
	r = run_author(db, STMT_AUTHOR_ID, &find, *writer_id, a);
	if (r == 1)
		*author_id = sqlite3_column_int64(find, 0);
	if (r)
		return r < 0 ? r : 0;
	r = run_author(db, STMT_AUTHOR_ADD, &add, *writer_id, a);
	*author_id = sqlite3_last_insert_rowid(db->sql);
	return r;
}

static const struct author *author_of(const struct item *item)
{
	switch (item->kind) {
	case ITEM_VERSION:
		return &item->version.author;
	case ITEM_REFUSAL:
		return &item->refusal.author;
	case ITEM_FOLDER:
		return &item->folder.author;
	case ITEM_SET:
		return &item->set.author;
	case ITEM_EVENT:
	case ITEM_RESOLVE:
		break;
	}
	return NULL;
}

static bool find_queued(const struct list *items, const char *name, uid_t *uid)
{
	struct item *item;

	list_for_each (item, items, link) {
		const struct author *a = author_of(item);

		if (a && a->name && strcmp(a->name, name) == 0) {
			*uid = a->uid;
			return true;
		}
	}
	return false;
}

bool journal_knows_writer(struct journal *j, const char *name, uid_t *uid)
{
	auto_pooled p = {j, NULL};
	uid_t found_uid = 0;
	int64_t id;
	bool found;

	pthread_mutex_lock(&j->lock);
	found = find_queued(&j->batch, name, &found_uid) ||
		find_queued(&j->queue, name, &found_uid);
	pthread_mutex_unlock(&j->lock);
	if (!found)
		found = pool_take(j, &p.db) == 0 &&
			find_writer(p.db, name, &id, &found_uid) == 1;
	if (found && uid)
		*uid = found_uid;
	return found;
}

bool journal_knows_process(
	struct journal *j, const char *name, pid_t root_pid, int64_t root_start_ns)
{
	auto_pooled p = {j, NULL};
	auto_stmt *s = NULL;
	uid_t uid;
	int64_t id;

	if (root_pid <= 0 || pool_take(j, &p.db) ||
		find_writer(p.db, name, &id, &uid) != 1 ||
		db_stmt(p.db, STMT_SET_OF_TREE, &s))
		return false;
	bind_int(s, 1, (uint64_t)id);
	bind_int(s, 2, (uint64_t)(int64_t)root_pid);
	bind_int(s, 3, (uint64_t)root_start_ns);
	return db_step(p.db, s) == 1;
}
