/*
 * writer.c - the bounded queue and the one thread that empties it in groups.
 *
 * A batch that cannot be committed stays as it is, health says why, and it is tried
 * again until it works: nothing that was queued is dropped for a full disk (V4, V7).
 */
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "journal/internal.h"

enum {
	BATCH_ROWS = 1024,
	BATCH_BYTES = 8 * 1024 * 1024,
	/* Rows come in bursts: a short wait makes one transaction of many. */
	LINGER_MS = 5,
	LINGER_ROWS = 256,
	RETRY_MIN_MS = 50,
	RETRY_MAX_MS = 2000,
	CHECKPOINT_PAGES = 2000,
};

struct timespec time_in_ms(int64_t ms)
{
	struct timespec t;
	int64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &t);
	ns = t.tv_nsec + ms % 1000 * NS_PER_MS;
	t.tv_sec += (time_t)(ms / 1000 + ns / NS_PER_S);
	t.tv_nsec = (long)(ns % NS_PER_S);
	return t;
}

void writer_wake(struct journal *j)
{
	pthread_cond_signal(&j->wake);
}

bool writer_wait_done(struct journal *j, const struct timespec *until)
{
	int r = 0;

	j->in_a_hurry++;
	writer_wake(j);
	if (until)
		r = pthread_cond_timedwait(&j->done, &j->lock, until);
	else
		pthread_cond_wait(&j->done, &j->lock);
	j->in_a_hurry--;
	return r != ETIMEDOUT;
}

/* ---- the queue ---- */

static uint64_t content_key(struct hash128 h, uint64_t size)
{
	return table_hash_u64(h.lo ^ table_hash_u64(size));
}

/* Does the item speak of a version that kill -9 would lose? Then it is lost with that. */
static bool rests_on_loose(const struct journal *j, const struct item *item)
{
	uint64_t loose = atomic_load(&j->oldest_loose);

	if (item->content.patch)
		return item->content.patch->base_seq >= loose;
	return !item->has_capture && item->version.has_content && loose != UINT64_MAX;
}

/* Lock held. */
static void keep(struct journal *j, struct item *item)
{
	if (item->kind == ITEM_VERSION && !rests_on_loose(j, item) &&
		ring_put(j->ring, item))
		return;
	if ((item->kind == ITEM_VERSION || item->kind == ITEM_FOLDER) &&
		item->seq < atomic_load(&j->oldest_loose))
		atomic_store(&j->oldest_loose, item->seq);
}

/* Lock held. */
static void enqueue(struct journal *j, struct item *item)
{
	if (item->has_capture)
		table_insert(&j->contents, &item->by_content,
			content_key(item->content.hash, item->content.size));
	list_append(&j->queue, &item->link);
	j->n_queue++;
	j->put_count++;
	j->queue_bytes += item->cost;
	if (item->seq < atomic_load(&j->oldest_seq))
		atomic_store(&j->oldest_seq, item->seq);
}

void queue_replayed(struct journal *j, struct item *item)
{
	pthread_mutex_lock(&j->lock);
	enqueue(j, item);
	pthread_mutex_unlock(&j->lock);
}

int queue_put(
	struct journal *j, struct item *item, struct capture *c, enum queue_policy policy)
{
	bool wake;
	int r;

	if (c)
		item_take_content(item, c, 2 * j->queue_max_bytes / QUEUE_MAX_FILES);
	pthread_mutex_lock(&j->lock);
	r = room_wait(j, item, policy);
	if (r) {
		pthread_mutex_unlock(&j->lock);
		if (c)
			*c = item->content;
		item->content = CAPTURE_NONE;
		item_free(item);
		return r;
	}
	wake = j->n_queue == 0 || j->n_queue + 1 == LINGER_ROWS ||
	       j->queue_bytes + item->cost >= BATCH_BYTES;
	keep(j, item);
	enqueue(j, item);
	room_look(j);
	if (wake)
		writer_wake(j);
	pthread_mutex_unlock(&j->lock);
	return 0;
}

void queue_flush(struct journal *j)
{
	struct timespec until = time_in_ms(READ_FLUSH_MS);
	uint64_t target;

	pthread_mutex_lock(&j->lock);
	target = j->put_count;
	while (j->written_count < target && !atomic_load(&j->health)) {
		if (!writer_wait_done(j, &until))
			break;
	}
	pthread_mutex_unlock(&j->lock);
}

static bool content_queued(struct journal *j, struct hash128 content, uint64_t size)
{
	struct table_node *node;
	bool found = false;

	pthread_mutex_lock(&j->lock);
	table_for_each (node, &j->contents, content_key(content, size)) {
		const struct item *item = container_of(node, struct item, by_content);

		found = found || (item->content.size == size &&
					 hash128_equal(item->content.hash, content));
	}
	pthread_mutex_unlock(&j->lock);
	return found;
}

bool journal_has_content(struct journal *j, struct hash128 content, uint64_t size)
{
	auto_pooled p = {j, NULL};
	auto_stmt *s = NULL;

	/* The queue first: what leaves it meanwhile is in the database by then. */
	if (content_queued(j, content, size))
		return true;
	if (pool_take(j, &p.db) || db_stmt(p.db, STMT_CONTENT_EXISTS, &s))
		return false;
	bind_hash(s, 1, content);
	bind_int(s, 2, size);
	return db_step(p.db, s) == 1;
}

/* ---- the thread: its work without the lock ---- */

static int write_items(struct journal *j, struct tally *t)
{
	struct item *item;

	list_for_each (item, &j->batch, link) {
		int r = rows_write(j, item, t);

		/* Our own mistake, and trying again would not mend it. */
		if (r == -EEXIST) {
			log_error("journal: row %" PRIu64
				  " breaks a rule of the schema and "
				  "is dropped: %s",
				item->seq, sqlite3_errmsg(j->db->sql));
			r = 0;
		}
		if (r)
			return r;
	}
	return 0;
}

/* One transaction: the batch, and the numbers that are wanted. */
static int write_batch(struct journal *j, uint64_t from[NUMBER_KINDS],
	uint64_t to[NUMBER_KINDS], bool *reserved)
{
	const struct journal_faults *f = j->faults;
	struct tally t = {0};
	int r = f && f->before_commit ? f->before_commit(f->ctx) : 0;

	if (!r)
		r = db_run(j->db, STMT_BEGIN);
	if (r)
		return r;
	r = write_items(j, &t);
	if (!r)
		r = sets_flush(j);
	if (!r)
		r = numbers_reserve(j, reserved, from, to);
	if (!r)
		r = tally_write(j->db, &t);
	if (!r)
		r = db_run(j->db, STMT_COMMIT);
	if (r) {
		(void)!db_run(j->db, STMT_ROLLBACK); /* SQLite may have done it already */
		sets_forget(j);
		store_rolled_back(&j->store);
		return r;
	}
	for (int i = 0; i < TALLY_KINDS; i++)
		atomic_fetch_add(&j->tally[i], t.n[i]);
	used_count(j);
	return 0;
}

static int sync_all(struct journal *j)
{
	int r = store_sync(&j->store) ?: db_sync_wal(j->db);

	if (!r) /* nothing is written meanwhile: this is the thread that would */
		atomic_store(&j->oldest_unsynced, UINT64_MAX);
	return r;
}

static void checkpoint(struct journal *j)
{
	/* Objects first: the checkpoint makes the rows that tell of them outlive a power
	 * cut. A checkpoint that fails costs nothing, the log has it all. */
	if (j->db->wal_pages > CHECKPOINT_PAGES && store_sync(&j->store) == 0)
		(void)!db_checkpoint(j->db, false);
}

/* ---- the thread: lock held, given up while the disk works ---- */

static void take_batch(struct journal *j)
{
	size_t bytes = 0;

	while (!list_empty(&j->queue) && j->n_batch < BATCH_ROWS && bytes < BATCH_BYTES) {
		struct item *item = list_first(&j->queue, struct item, link);

		list_remove(&item->link);
		list_append(&j->batch, &item->link);
		j->n_queue--;
		j->n_batch++;
		bytes += item->cost;
	}
}

static void find_oldest(struct journal *j)
{
	uint64_t oldest = UINT64_MAX, loose = UINT64_MAX;
	struct item *item;

	list_for_each (item, &j->queue, link) {
		if (item->seq < oldest)
			oldest = item->seq;
		if (item->seq < loose && !item->kept_until &&
			(item->kind == ITEM_VERSION || item->kind == ITEM_FOLDER))
			loose = item->seq;
	}
	atomic_store(&j->oldest_seq, oldest);
	atomic_store(&j->oldest_loose, loose);
}

static void free_items(struct list *items)
{
	struct item *item, *tmp;

	list_for_each_safe (item, tmp, items, link) {
		list_remove(&item->link);
		item_free(item);
	}
}

/* The batch is written: out with it, and free what it held without the lock. */
static void release_batch(struct journal *j)
{
	struct list written;
	struct item *item, *tmp;

	list_init(&written);
	list_for_each_safe (item, tmp, &j->batch, link) {
		if (item->seq < atomic_load(&j->oldest_unsynced))
			atomic_store(&j->oldest_unsynced, item->seq);
		if (item->has_capture)
			table_remove(&j->contents, &item->by_content);
		if (item->kind == ITEM_FOLDER)
			atomic_fetch_sub(&j->moves_waiting, 1);
		j->queue_bytes -= item->cost;
		ring_release(j->ring, item->kept_until);
		list_remove(&item->link);
		list_append(&written, &item->link);
	}
	j->written_count += j->n_batch;
	j->n_batch = 0;
	find_oldest(j);
	room_look(j);
	pthread_cond_broadcast(&j->done);
	pthread_cond_broadcast(&j->room);
	pthread_mutex_unlock(&j->lock);
	free_items(&written);
	pthread_mutex_lock(&j->lock);
}

/* The first that may run now. */
static struct job *ready_job(struct journal *j)
{
	struct job *job;

	list_for_each (job, &j->jobs, link)
		if (!job->when_idle || j->n_queue + j->n_batch == 0)
			return job;
	return NULL;
}

static void end_job(struct journal *j, struct job *job, int result)
{
	list_remove(&job->link);
	job->result = result;
	job->done = true;
	pthread_cond_broadcast(&j->done);
}

/* One at a time: rows that came meanwhile go first. */
static void run_job(struct journal *j)
{
	struct job *job = ready_job(j);
	int r;

	if (!job)
		return;
	pthread_mutex_unlock(&j->lock);
	r = job->run(j, job->ctx);
	pthread_mutex_lock(&j->lock);
	end_job(j, job, r);
}

int writer_run(struct journal *j, int (*run)(struct journal *j, void *ctx), void *ctx,
	bool when_idle)
{
	struct job job = {.run = run, .ctx = ctx, .when_idle = when_idle};
	int r;

	pthread_mutex_lock(&j->lock);
	r = atomic_load(&j->health);
	if (!r) {
		list_append(&j->jobs, &job.link);
		writer_wake(j);
		while (!job.done)
			pthread_cond_wait(&j->done, &j->lock);
		r = job.result;
	}
	pthread_mutex_unlock(&j->lock);
	return r;
}

static void end_syncs(struct list *waits, int result)
{
	struct sync_wait *w, *tmp;

	list_for_each_safe (w, tmp, waits, link) {
		list_remove(&w->link);
		w->result = result;
		w->done = true;
	}
}

/* Somebody wants rows synced that are written and are not. */
static bool sync_is_due(struct journal *j)
{
	uint64_t soon = atomic_load(&j->sync_soon);

	return soon >= atomic_load(&j->oldest_unsynced) &&
	       soon < atomic_load(&j->oldest_seq);
}

/* Those whose rows are written by now. */
static int run_syncs(struct journal *j)
{
	struct list ready;
	struct sync_wait *w, *tmp;
	int r;

	list_init(&ready);
	list_for_each_safe (w, tmp, &j->sync_waits, link) {
		if (w->seq < atomic_load(&j->oldest_seq)) {
			list_remove(&w->link);
			list_append(&ready, &w->link);
		}
	}
	if (list_empty(&ready) && !sync_is_due(j))
		return 0;
	pthread_mutex_unlock(&j->lock);
	r = sync_all(j);
	pthread_mutex_lock(&j->lock);
	end_syncs(&ready, r);
	pthread_cond_broadcast(&j->done);
	return r;
}

static int run_commit(struct journal *j)
{
	uint64_t from[NUMBER_KINDS], to[NUMBER_KINDS];
	int64_t start = clock_boot_ns(j->clock);
	bool reserved = false;
	int r, r_sync = 0;

	take_batch(j);
	if (j->n_batch == 0 && !numbers_wanted(j))
		return 0;
	pthread_mutex_unlock(&j->lock);
	r = write_batch(j, from, to, &reserved);
	if (!r && reserved) {
		r_sync = sync_all(j); /* no row may outlive its content */
		if (!r_sync)
			numbers_publish(j, from, to);
	}
	pthread_mutex_lock(&j->lock);
	if (r)
		return r;
	j->commits++;
	j->commit_ns_total += (uint64_t)(clock_boot_ns(j->clock) - start);
	release_batch(j);
	if (j->on_commit)
		j->on_commit(j->on_commit_ctx);
	return r_sync;
}

static bool has_work(struct journal *j)
{
	return j->n_queue > 0 || j->n_batch > 0 || numbers_wanted(j) ||
	       !list_empty(&j->sync_waits) || sync_is_due(j) || ready_job(j);
}

static bool lingers(struct journal *j)
{
	return !j->in_a_hurry && !j->stopping && !numbers_wanted(j) &&
	       (j->n_queue > 0 || !ready_job(j)) && list_empty(&j->sync_waits) &&
	       j->n_queue < LINGER_ROWS && j->queue_bytes < BATCH_BYTES;
}

/* False: told to stop, and nothing is left. */
static bool wait_for_work(struct journal *j)
{
	struct timespec until;

	while (!has_work(j) && !j->stopping)
		pthread_cond_wait(&j->wake, &j->lock);
	if (!has_work(j))
		return false;
	until = time_in_ms(LINGER_MS);
	while (lingers(j)) {
		if (pthread_cond_timedwait(&j->wake, &j->lock, &until) == ETIMEDOUT)
			break;
	}
	return true;
}

static void pause_before_retry(struct journal *j, int64_t ms)
{
	struct timespec until = time_in_ms(ms);

	while (!j->stopping) {
		if (pthread_cond_timedwait(&j->wake, &j->lock, &until) == ETIMEDOUT)
			break;
	}
}

static void *writer_main(void *arg)
{
	struct journal *j = arg;
	int64_t retry_ms = RETRY_MIN_MS;

	pthread_mutex_lock(&j->lock);
	while (wait_for_work(j)) {
		bool last_try = j->stopping;
		int r = run_commit(j);

		if (!r)
			r = run_syncs(j);
		atomic_store(&j->health, r);
		if (!r) {
			retry_ms = RETRY_MIN_MS;
			run_job(j);
			pthread_mutex_unlock(&j->lock);
			checkpoint(j);
			pthread_mutex_lock(&j->lock);
			continue;
		}
		end_syncs(&j->sync_waits, r);
		while (!list_empty(&j->jobs))
			end_job(j, list_first(&j->jobs, struct job, link), r);
		pthread_cond_broadcast(&j->done);
		pthread_cond_broadcast(&j->room);
		if (last_try)
			break;
		pause_before_retry(j, retry_ms);
		retry_ms = retry_ms * 2 < RETRY_MAX_MS ? retry_ms * 2 : RETRY_MAX_MS;
	}
	pthread_mutex_unlock(&j->lock);
	return NULL;
}

int writer_start(struct journal *j)
{
	sigset_t all, saved;
	int r;

	sigfillset(&all); /* signals are the daemon's */
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	r = pthread_create(&j->thread, NULL, writer_main, j);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	j->thread_runs = r == 0;
	return -r;
}

/* The others come back when the journal is opened again. */
static size_t count_loose(struct list *items)
{
	struct item *item;
	size_t n = 0;

	list_for_each (item, items, link)
		n += !item->kept_until;
	return n;
}

void writer_stop(struct journal *j)
{
	size_t left;

	if (!j->thread_runs)
		return;
	pthread_mutex_lock(&j->lock);
	j->stopping = true;
	writer_wake(j);
	pthread_mutex_unlock(&j->lock);
	pthread_join(j->thread, NULL);
	j->thread_runs = false;
	left = count_loose(&j->queue) + count_loose(&j->batch);
	if (left > 0)
		log_error("journal: %zu rows could not be written (%s) and are lost", left,
			strerrordesc_np(-atomic_load(&j->health)));
	free_items(&j->queue);
	free_items(&j->batch);
}
