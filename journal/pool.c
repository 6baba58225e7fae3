/*
 * pool.c - connections for queries: as many as are in use at once, a few kept.
 */
#include "journal/internal.h"

enum { IDLE_MAX = 8 };

int pool_take(struct journal *j, struct db **db)
{
	struct db *found = NULL;

	pthread_mutex_lock(&j->pool_lock);
	if (!list_empty(&j->idle)) {
		found = list_first(&j->idle, struct db, link);
		list_remove(&found->link);
		j->n_idle--;
	}
	pthread_mutex_unlock(&j->pool_lock);
	if (!found)
		return db_open(db, j->vfs_name, j->db_path, false);
	*db = found;
	return 0;
}

void pool_put(struct journal *j, struct db *db)
{
	pthread_mutex_lock(&j->pool_lock);
	if (j->n_idle < IDLE_MAX) {
		list_insert(&j->idle, &db->link);
		j->n_idle++;
		db = NULL;
	}
	pthread_mutex_unlock(&j->pool_lock);
	db_free(db);
}

void pool_done(struct journal *j)
{
	struct db *db, *tmp;

	list_for_each_safe (db, tmp, &j->idle, link) {
		list_remove(&db->link);
		db_free(db);
	}
	j->n_idle = 0;
}
