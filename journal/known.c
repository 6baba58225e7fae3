#include "journal/known.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "journal/internal.h"

enum {
	BITS_PER_PATH = 16,
	PROBES = 4,
	PATHS_MIN = 1 << 18,
	PATHS_MAX = 1 << 26,
};

/* What is put in for a folder is no path: no path ends with a slash. */
static struct hash128 folder_hash(const char *path, size_t len)
{
	struct hash128 h = hash128_bytes(path, len);

	h.hi ^= UINT64_C(0x9e3779b97f4a7c15);
	return h;
}

static uint64_t bit_of(const struct known *k, struct hash128 h, unsigned probe)
{
	return (h.lo + probe * (h.hi | 1)) & k->mask;
}

static void add(struct known *k, struct hash128 h)
{
	for (unsigned i = 0; i < PROBES; i++) {
		uint64_t bit = bit_of(k, h, i);

		atomic_fetch_or_explicit(&k->words[bit / 64], UINT64_C(1) << (bit % 64),
			memory_order_relaxed);
	}
}

static bool has(struct known *k, struct hash128 h)
{
	for (unsigned i = 0; i < PROBES; i++) {
		uint64_t bit = bit_of(k, h, i);

		if (!(atomic_load_explicit(&k->words[bit / 64], memory_order_relaxed) &
			    (UINT64_C(1) << (bit % 64))))
			return false;
	}
	return true;
}

void known_add(struct known *k, const char *path, size_t len)
{
	if (k->words)
		add(k, hash128_bytes(path, len));
}

void known_add_folder(struct known *k, const char *path, size_t len)
{
	if (k->words)
		add(k, folder_hash(path, len));
}

bool known_may_have(struct known *k, const char *path, size_t len)
{
	if (!k->words || !atomic_load_explicit(&k->ready, memory_order_acquire))
		return true;
	if (has(k, hash128_bytes(path, len)))
		return true;
	for (size_t i = 1; i < len; i++)
		if (path[i] == '/' && has(k, folder_hash(path, i)))
			return true;
	return has(k, folder_hash(path, len));
}

/* ---- filling ---- */

typedef void known_adder(struct known *k, const char *path, size_t len);

/* False: told to stop, or the database failed. */
static bool fill_from(struct known *k, struct db *db, const char *sql, known_adder *adder)
{
	sqlite3_stmt *s;
	int r;

	if (sqlite3_prepare_v2(db->sql, sql, -1, &s, NULL) != SQLITE_OK)
		return false;
	while ((r = sqlite3_step(s)) == SQLITE_ROW && !atomic_load(&k->stopping))
		adder(k, sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0));
	sqlite3_finalize(s);
	return r == SQLITE_DONE;
}

/* Rows that are queued meanwhile were added before they were. */
static void *fill(void *arg)
{
	struct journal *j = arg;
	struct known *k = &j->known;
	auto_pooled p = {j, NULL};

	if (pool_take(j, &p.db) == 0 &&
		fill_from(k, p.db, "SELECT path FROM path", known_add) &&
		fill_from(k, p.db, "SELECT to_path FROM folder_move", known_add_folder))
		atomic_store_explicit(&k->ready, true, memory_order_release);
	return NULL;
}

void known_init(struct known *k, struct journal *j)
{
	sigset_t all, saved;
	int64_t rows = 0;
	uint64_t paths = PATHS_MIN;

	if (db_int(j->db, "SELECT coalesce(max(id), 0) FROM path", &rows) < 0)
		return;
	while (paths < (uint64_t)rows * 2 && paths < PATHS_MAX)
		paths *= 2;
	k->words = calloc(paths * BITS_PER_PATH / 64, sizeof(*k->words));
	if (!k->words)
		return;
	k->mask = paths * BITS_PER_PATH - 1;
	sigfillset(&all); /* signals are the daemon's */
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	k->thread_runs = pthread_create(&k->thread, NULL, fill, j) == 0;
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
}

void known_done(struct known *k)
{
	atomic_store(&k->stopping, true);
	if (k->thread_runs)
		pthread_join(k->thread, NULL);
	k->thread_runs = false;
	free(k->words);
	k->words = NULL;
}
