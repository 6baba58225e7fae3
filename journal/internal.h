/*
 * internal.h - the journal's own parts, for the files of this folder alone.
 *
 * Lock order: resolve_lock, number.lock, then journal.lock; pool_lock stands alone. The
 * writer's thread holds none while it touches the disk.
 */
#ifndef STOMP_JOURNAL_INTERNAL_H
#define STOMP_JOURNAL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "journal/db.h"
#include "journal/item.h"
#include "journal/journal.h"
#include "journal/known.h"
#include "journal/ring.h"
#include "journal/store.h"

enum {
	QUEUE_MAX_BYTES = 64 * 1024 * 1024,
	QUEUE_MAX_ROWS = 16384,
	QUEUE_MAX_FILES = 128, /* large contents waiting: each holds a descriptor */
	READ_FLUSH_MS = 200,
};

enum number_kind { NUMBER_EPOCH, NUMBER_SEQ, NUMBER_REFUSAL, NUMBER_KINDS };

/* next is given out next, while below limit. */
struct number {
	pthread_mutex_t lock; /* guards next, limit */
	uint64_t next, limit;
	atomic_bool wanted; /* the writer's thread is to reserve the next block */
};

enum tally_kind {
	TALLY_VERSIONS,
	TALLY_REFUSALS,
	TALLY_CONTENTS,
	TALLY_CONTENT_BYTES,
	TALLY_STORED_BYTES,
	TALLY_KEPT, /* refusals whose bytes were kept: conflicts */
	TALLY_RESOLVED,
	TALLY_OBJECT_BYTES, /* of stored_bytes, those in object files */
	TALLY_KINDS
};

struct tally {
	uint64_t n[TALLY_KINDS];
};

enum { SETS_CACHED = 32 };

/* A change set that rows are being added to; the writer's thread only. */
struct cached_set {
	int64_t id, writer_id;
	pid_t root_pid;
	int64_t root_start_ns;
	uint64_t last_seq, added; /* added: not in its row yet */
	int64_t last_ns;
};

/* Something for the writer's thread to do between its commits. */
struct job {
	struct list link;
	int (*run)(struct journal *j, void *ctx); /* no lock held */
	void *ctx;
	bool when_idle; /* not while rows wait */
	bool done;
	int result;
};

struct sync_wait {
	struct list link;
	uint64_t seq;
	bool done;
	int result;
};

struct journal {
	const struct clock *clock;
	const struct journal_faults *faults;
	int dirfd;
	char db_path[64];
	char vfs_name[32];
	sqlite3_vfs vfs;
	bool vfs_registered;
	struct store store;
	struct known known;
	struct db *db; /* the writer's thread only, once it runs */
	pthread_t thread;
	bool thread_runs;
	struct number numbers[NUMBER_KINDS];
	struct cached_set sets[SETS_CACHED]; /* as db */
	unsigned n_sets;
	int64_t n_open_sets; /* -1: not counted yet */

	_Atomic int health;
	atomic_bool on_reserve; /* what room there is, is the collector's */
	uint64_t max_bytes;
	_Atomic uint64_t used_bytes;   /* of the database, after the last commit */
	_Atomic uint64_t oldest_seq;   /* of what is not written; UINT64_MAX: nothing */
	_Atomic uint64_t oldest_loose; /* of versions that kill -9 would lose; the same */
	_Atomic uint64_t oldest_unsynced; /* of what is written and not yet synced */
	_Atomic uint64_t sync_soon; /* up to there somebody wants it synced; 0: nobody */
	atomic_bool has_moves;	    /* folders were renamed; the row may be queued */
	_Atomic uint64_t moves_waiting; /* of them in the queue */
	_Atomic uint64_t tally[TALLY_KINDS];

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake, done,
		room;		  /* for the thread; a batch ended; the queue shrank */
	struct ring *ring;	  /* NULL: there is none */
	struct list queue, batch; /* of struct item; waiting; being written */
	struct table contents;	  /* of both, by content */
	size_t n_queue, n_batch, queue_bytes, queue_max_bytes;
	uint64_t put_count, written_count; /* since the journal was opened */
	unsigned in_a_hurry;		   /* callers that wait for the thread */
	struct list sync_waits;
	struct list jobs;
	bool stopping;
	uint64_t commits, commit_ns_total, backpressure_waits;
	struct list room_waits; /* those that wait for room, in order of arrival */
	uint64_t n_room_waits;
	atomic_bool crowded;  /* who closes what he wrote has to wait */
	commit_fn *on_commit; /* or NULL */
	void *on_commit_ctx;

	pthread_mutex_t resolve_lock; /* one conflict at a time is looked at and marked */

	pthread_mutex_t pool_lock; /* guards what follows */
	struct list idle;	   /* of struct db, for queries */
	unsigned n_idle;
};

/* writer.c */
must_check int writer_start(struct journal *j);
void writer_stop(struct journal *j);
void writer_wake(struct journal *j); /* lock held */

enum queue_policy { QUEUE_WAIT, QUEUE_DROP_WHEN_FAILING };

/* The item is the queue's afterwards; on failure it is freed, its content is c's again. */
must_check int queue_put(
	struct journal *j, struct item *item, struct capture *c, enum queue_policy policy);

/* What the last daemon had queued; before the thread runs. */
void queue_replayed(struct journal *j, struct item *item);

/* Give the thread at most READ_FLUSH_MS to write what was queued before this call. */
void queue_flush(struct journal *j);

/* Have the thread run that, and wait for its answer; the journal's errno when it fails.
 * when_idle: only once nothing waits to be written. */
must_check int writer_run(struct journal *j, int (*run)(struct journal *j, void *ctx),
	void *ctx, bool when_idle);

/* Lock held. Wait on done until an absolute time of the monotonic clock (NULL: for ever);
 * the thread does not linger meanwhile. False when the time is over. */
bool writer_wait_done(struct journal *j, const struct timespec *until);
struct timespec time_in_ms(int64_t ms);

/* room.c: lock held. room_wait() is for what is to be queued now: 0, or the journal's errno
 * when the policy is not to wait. room_look() is due whenever the queue has changed. */
must_check int room_wait(
	struct journal *j, const struct item *item, enum queue_policy policy);
void room_look(struct journal *j);

/* numbers.c */
must_check int numbers_load(struct journal *j);
must_check int numbers_reserve(struct journal *j, bool *any, uint64_t from[NUMBER_KINDS],
	uint64_t to[NUMBER_KINDS]);
void numbers_publish(struct journal *j, const uint64_t from[NUMBER_KINDS],
	const uint64_t to[NUMBER_KINDS]);
bool numbers_wanted(struct journal *j);
void numbers_return(struct journal *j);

/* figures.c */
uint64_t journal_used(struct journal *j); /* bytes, as of the last commit */
void used_count(struct journal *j);	  /* the writer's thread */
must_check int tally_load(struct journal *j);
must_check int tally_write(struct db *db, const struct tally *t);

/* rows.c, author.c, version rows in query.c: inside the writer's transaction */
must_check int rows_write(struct journal *j, struct item *item, struct tally *t);
must_check int author_intern(struct db *db, const struct author *a, int64_t time_ns,
	int64_t *author_id, int64_t *writer_id);
must_check int path_find(
	struct db *db, const char *path, size_t len, int64_t *id); /* 1, 0 */
must_check int path_intern(struct db *db, const char *path, size_t len, int64_t *id);

/* pool.c: a connection for queries */
must_check int pool_take(struct journal *j, struct db **db);
void pool_put(struct journal *j, struct db *db);
void pool_done(struct journal *j);

struct pooled {
	struct journal *j;
	struct db *db;
};

static inline void pooled_put(const struct pooled *p)
{
	if (p->db)
		pool_put(p->j, p->db);
}

#define auto_pooled __attribute__((cleanup(pooled_put))) struct pooled

/* refusal.c */
void row_read_refusal(sqlite3_stmt *s, struct refusal *r); /* strings live in s */

/* event.c */
void row_read_event(sqlite3_stmt *s, struct event *e); /* strings live in s */

/* conflict.c: inside the writer's transaction */
must_check int conflict_write(struct db *db, const struct resolution *r, struct tally *t);

/* set_write.c: inside the writer's transaction */
must_check int set_of(struct journal *j, const struct author *a, int64_t author_id,
	int64_t writer_id, uint64_t seq, int64_t time_ns, int64_t *set_id);
must_check int set_write(struct journal *j, const struct set_change *set);
must_check int sets_flush(struct journal *j); /* before it is committed */
void sets_forget(struct journal *j);	      /* it was not */

/* query.c */
void row_read_version(sqlite3_stmt *s, struct version *v); /* strings live in s */
void row_read_author(sqlite3_stmt *s, int at, struct author *a);
must_check int version_row_copy(const struct version *v, struct version_row *row);

/* folder.c: a path, and where it was before its folders were renamed */
struct place {
	char *path;
	size_t len;
	uint64_t before; /* rows with a lesser seq count */
};

#define auto_place __attribute__((cleanup(place_done))) struct place

void place_done(struct place *p);
must_check int place_init(struct place *p, const char *path, size_t len, uint64_t before);

/* The newest rename that brought the path here: 1 and where it was, or 0. */
must_check int place_came_from(struct db *db, const struct place *p, struct place *from);
/* The newest rename that took the path away: 1 and its seq, or 0. */
must_check int place_left(struct db *db, const struct place *p, uint64_t *seq);
must_check int folders_settle(struct journal *j); /* queued renames are written */

/* The same with the folder's own renames: the place is that of a folder or a file. */
must_check int place_itself_came_from(
	struct db *db, const struct place *p, struct place *from);
must_check int place_itself_left(struct db *db, const struct place *p, uint64_t *seq);
/* The first rename after that seq that takes the path, or a folder it is in, away: 1 and
 * where to (to->before is the rename's seq), or 0. */
must_check int place_goes_to(
	struct db *db, const struct place *p, uint64_t after, struct place *to);
/* The first one after that seq that brings something to the path or a folder it is in. */
must_check int place_arrives(
	struct db *db, const struct place *p, uint64_t after, uint64_t *seq);

/* query.c: the newest row of just this path that counts: 1 or 0. */
must_check int place_newest_row(
	struct db *db, const struct place *p, struct version_row *row);

/* What was there last, through renames of folders; p goes to where that was. itself: the
 * path may be a folder's own, which goes with its renames too. 1: row tells; 0: no row
 * does, or what was there left with its folder. */
must_check int place_find_newest(struct journal *j, struct db *db, struct place *p,
	bool itself, struct version_row *row);

/* A folder and what it was called before; paths end in '/' ("" for the root). At most
 * PLACES_MAX; what is beyond is left out. */
enum { PLACES_MAX = 256 };

enum places_kind {
	PLACES_NOW,    /* the folder alone */
	PLACES_BEFORE, /* and its earlier names */
	PLACES_INSIDE, /* and those of the folders that were moved into it, however deep */
};

struct places {
	size_t n;
	struct place at[PLACES_MAX];
};

void places_free(struct places *p);
/* From the first on, which may be a file. */
must_check int places_spread(struct db *db, struct places *all, enum places_kind kind);
must_check int places_below(struct journal *j, struct db *db, const char *folder,
	size_t len, enum places_kind kind, struct places **out);

/* A folder of the moment seq: what it was called before, and what it was renamed to since.
 */
must_check int places_of_moment(struct journal *j, struct db *db, const char *folder,
	size_t len, uint64_t seq, struct places **out);

static inline void cleanup_places(struct places **p)
{
	places_free(*p);
}

#define auto_places __attribute__((cleanup(cleanup_places))) struct places

static inline uint64_t seq_bound(uint64_t seq)
{
	return seq > INT64_MAX ? INT64_MAX : seq;
}

#endif
