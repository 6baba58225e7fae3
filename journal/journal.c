#include "journal/journal.h"

#include <fcntl.h>
#include <stdio.h>

#include "journal/gc.h"
#include "journal/internal.h"
#include "journal/schema.h"

static void init_locks(struct journal *j)
{
	pthread_mutex_init(&j->lock, NULL);
	pthread_mutex_init(&j->pool_lock, NULL);
	pthread_mutex_init(&j->resolve_lock, NULL);
	clock_cond_init(&j->wake);
	clock_cond_init(&j->done);
	clock_cond_init(&j->room);
	for (int i = 0; i < NUMBER_KINDS; i++)
		pthread_mutex_init(&j->numbers[i].lock, NULL);
}

static void done_locks(struct journal *j)
{
	for (int i = 0; i < NUMBER_KINDS; i++)
		pthread_mutex_destroy(&j->numbers[i].lock);
	pthread_cond_destroy(&j->room);
	pthread_cond_destroy(&j->done);
	pthread_cond_destroy(&j->wake);
	pthread_mutex_destroy(&j->pool_lock);
	pthread_mutex_destroy(&j->resolve_lock);
	pthread_mutex_destroy(&j->lock);
}

static int open_database(struct journal *j)
{
	int64_t moved = 0;
	int r = db_vfs_register(&j->vfs, j->vfs_name, sizeof(j->vfs_name));

	if (r)
		return r;
	j->vfs_registered = true;
	snprintf(j->db_path, sizeof(j->db_path), "/proc/self/fd/%d/journal.db", j->dirfd);
	r = db_open(&j->db, j->vfs_name, j->db_path, true);
	if (!r)
		r = schema_migrate(j->db, SCHEMA_VERSION);
	if (!r)
		r = numbers_load(j);
	if (!r)
		r = tally_load(j);
	if (!r)
		used_count(j);
	if (!r)
		r = db_int(j->db, "SELECT EXISTS (SELECT 1 FROM folder_move)", &moved);
	atomic_store(&j->has_moves, moved != 0);
	if (!r && fsync(j->dirfd) < 0)
		r = -errno;
	return r;
}

static void free_journal(struct journal *j)
{
	known_done(&j->known);
	pool_done(j);
	db_free(j->db);
	if (j->vfs_registered)
		sqlite3_vfs_unregister(&j->vfs);
	store_done(&j->store);
	ring_close(j->ring);
	table_done(&j->contents);
	if (j->dirfd >= 0)
		close(j->dirfd);
	done_locks(j);
	free(j);
}

static void queue_again(struct item *item, void *ctx)
{
	queue_replayed(ctx, item);
}

/* Versions that were queued when the last daemon was killed; *last: the newest, 0: none.
 * Without the file all goes on, but those who overwrite wait for rows. */
static int replay(struct journal *j, uint64_t *last)
{
	int r = ring_open(&j->ring, j->dirfd);
	struct item *item;

	if (r == -ENOMEM || r == -EIO)
		return r;
	if (r)
		return 0;
	r = ring_replay(j->ring, queue_again, j);
	list_for_each (item, &j->queue, link)
		*last = item->seq > *last ? item->seq : *last;
	return r;
}

int journal_open(struct journal **out, const struct journal_options *options)
{
	struct journal *j = calloc(1, sizeof(*j));
	uint64_t last = 0;
	int r;

	if (!j)
		return -ENOMEM;
	db_configure();
	init_locks(j);
	j->clock = options->clock;
	j->faults = options->faults;
	j->max_bytes = options->max_bytes;
	j->queue_max_bytes = options->queue_max_bytes ?: QUEUE_MAX_BYTES;
	j->store.dirfd = -1;
	sets_forget(j);
	atomic_store(&j->oldest_seq, UINT64_MAX);
	atomic_store(&j->oldest_loose, UINT64_MAX);
	atomic_store(&j->oldest_unsynced, UINT64_MAX);
	list_init(&j->queue);
	list_init(&j->room_waits);
	list_init(&j->batch);
	list_init(&j->sync_waits);
	list_init(&j->jobs);
	list_init(&j->idle);
	/* Anew, so that an O_PATH descriptor will do. */
	j->dirfd = openat(options->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = j->dirfd < 0 ? -errno : table_init(&j->contents);
	if (!r)
		r = store_init(&j->store, j->dirfd, j->faults);
	if (!r)
		r = open_database(j);
	if (!r)
		r = replay(j, &last);
	if (!r)
		r = writer_start(j);
	if (!r && last)
		r = journal_wait(j, last); /* whoever asks from now on finds them */
	if (!r) {
		known_init(&j->known, j);
		gc_reserve_back(j); /* last: what is above needs the room more */
	}
	if (r) {
		writer_stop(j);
		free_journal(j);
		return r;
	}
	*out = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	writer_stop(j);
	known_done(&j->known);
	pool_done(j);
	if (atomic_load(&j->health) == 0) {
		numbers_return(j);
		if (store_sync(&j->store) == 0)
			(void)!db_checkpoint(j->db, true);
	}
	free_journal(j);
}

int journal_health(struct journal *j)
{
	int r = atomic_load(&j->health);

	if (!r && atomic_load(&j->on_reserve))
		return -ENOSPC;
	return r || !j->max_bytes || journal_used(j) < j->max_bytes ? r : -ENOSPC;
}

int journal_append(struct journal *j, const struct version *v, struct capture *c)
{
	struct item *item;

	assert(v->path && v->path_len > 0 && v->number > 0 && v->seq > 0);
	assert(v->kind < VERSION_KINDS);
	assert(!c || (c->size == v->size && hash128_equal(c->hash, v->content)));
	known_add(&j->known, v->path, v->path_len);
	item = item_of_version(v);
	return item ? queue_put(j, item, c, QUEUE_WAIT) : -ENOMEM;
}

int journal_rename_folder(struct journal *j, uint64_t seq, const char *from,
	size_t from_len, const char *to, size_t to_len, const struct author *author)
{
	struct folder_move move = {.seq = seq,
		.time_ns = clock_wall_ns(j->clock),
		.from = from,
		.from_len = from_len,
		.to = to,
		.to_len = to_len};
	struct item *item;

	assert(from_len > 0 && to_len > 0 && seq > 0);
	if (author)
		move.author = *author;
	item = item_of_folder(&move);
	if (!item)
		return -ENOMEM;
	/* Before it is queued: whoever asks from now on looks, and waits for the row. */
	atomic_fetch_add(&j->moves_waiting, 1);
	atomic_store(&j->has_moves, true);
	known_add_folder(&j->known, to, to_len);
	return queue_put(j, item, NULL, QUEUE_WAIT);
}

bool journal_is_kept(struct journal *j, uint64_t seq)
{
	return atomic_load(&j->oldest_loose) > seq;
}

int journal_keep(struct journal *j, uint64_t seq)
{
	return journal_is_kept(j, seq) ? 0 : journal_wait(j, seq);
}

bool journal_may_have(struct journal *j, const char *path, size_t len)
{
	return known_may_have(&j->known, path, len);
}

bool journal_is_written(struct journal *j, uint64_t seq)
{
	return atomic_load(&j->oldest_seq) > seq;
}

bool journal_is_synced(struct journal *j, uint64_t seq)
{
	/* In this order: what is being written is in the one until it is in the other. */
	return journal_is_written(j, seq) && atomic_load(&j->oldest_unsynced) > seq;
}

void journal_sync_soon(struct journal *j, uint64_t seq)
{
	pthread_mutex_lock(&j->lock);
	if (seq > atomic_load(&j->sync_soon))
		atomic_store(&j->sync_soon, seq);
	writer_wake(j);
	pthread_mutex_unlock(&j->lock);
}

int journal_wait(struct journal *j, uint64_t seq)
{
	int r = 0;

	pthread_mutex_lock(&j->lock);
	while (!journal_is_written(j, seq) && !(r = atomic_load(&j->health)))
		writer_wait_done(j, NULL);
	pthread_mutex_unlock(&j->lock);
	return r;
}

int journal_sync(struct journal *j, uint64_t seq)
{
	struct sync_wait w = {.seq = seq};
	int r;

	pthread_mutex_lock(&j->lock);
	r = atomic_load(&j->health);
	if (!r) {
		list_append(&j->sync_waits, &w.link);
		while (!w.done)
			writer_wait_done(j, NULL);
		r = w.result;
	}
	pthread_mutex_unlock(&j->lock);
	return r;
}
