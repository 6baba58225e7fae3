/*
 * figures.c - running sums for status and metrics.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "journal/internal.h"

static const char *const names[TALLY_KINDS] = {
	[TALLY_VERSIONS] = "versions",
	[TALLY_REFUSALS] = "refusals",
	[TALLY_CONTENTS] = "contents",
	[TALLY_CONTENT_BYTES] = "content_bytes",
	[TALLY_STORED_BYTES] = "stored_bytes",
	[TALLY_KEPT] = "kept",
	[TALLY_RESOLVED] = "resolved",
	[TALLY_OBJECT_BYTES] = "object_bytes",
};

/* Pages that are free are taken for new rows before the file grows. */
void used_count(struct journal *j)
{
	int64_t pages, free_pages, size;

	if (db_int(j->db, "PRAGMA page_count", &pages) == 0 &&
		db_int(j->db, "PRAGMA freelist_count", &free_pages) == 0 &&
		db_int(j->db, "PRAGMA page_size", &size) == 0)
		atomic_store(&j->used_bytes, (uint64_t)((pages - free_pages) * size));
}

uint64_t journal_used(struct journal *j)
{
	return atomic_load(&j->used_bytes) + atomic_load(&j->tally[TALLY_OBJECT_BYTES]);
}

int tally_load(struct journal *j)
{
	for (int i = 0; i < TALLY_KINDS; i++) {
		auto_stmt *s = NULL;
		int r = db_stmt(j->db, STMT_TALLY_GET, &s);

		if (r)
			return r;
		bind_text(s, 1, names[i]);
		r = db_step(j->db, s);
		if (r < 0)
			return r;
		atomic_store(&j->tally[i], r == 1 ? column_int(s, 0) : 0);
	}
	return 0;
}

int tally_write(struct db *db, const struct tally *t)
{
	for (int i = 0; i < TALLY_KINDS; i++) {
		auto_stmt *s = NULL;
		int r;

		if (t->n[i] == 0)
			continue;
		r = db_stmt(db, STMT_TALLY_ADD, &s);
		if (r)
			return r;
		bind_text(s, 1, names[i]);
		bind_int(s, 2, t->n[i]);
		r = db_step(db, s);
		if (r)
			return r;
	}
	return 0;
}

void journal_figures(struct journal *j, struct journal_figures *f)
{
	static const char *const files[] = {"journal.db", "journal.db-wal"};
	struct stat st;

	*f = (struct journal_figures){
		.versions = atomic_load(&j->tally[TALLY_VERSIONS]),
		.refusals = atomic_load(&j->tally[TALLY_REFUSALS]),
		.contents = atomic_load(&j->tally[TALLY_CONTENTS]),
		.content_bytes = atomic_load(&j->tally[TALLY_CONTENT_BYTES]),
		.stored_bytes = atomic_load(&j->tally[TALLY_STORED_BYTES]),
		.conflicts = atomic_load(&j->tally[TALLY_KEPT]) -
			     atomic_load(&j->tally[TALLY_RESOLVED]),
		.health = journal_health(j),
		.used_bytes = journal_used(j),
		.max_bytes = j->max_bytes,
	};
	pthread_mutex_lock(&j->lock);
	f->queued = j->n_queue + j->n_batch;
	f->queued_bytes = j->queue_bytes;
	f->commits = j->commits;
	f->commit_ns_total = j->commit_ns_total;
	f->backpressure_waits = j->backpressure_waits;
	f->waiting = j->n_room_waits;
	pthread_mutex_unlock(&j->lock);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		if (fstatat(j->dirfd, files[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
			f->database_bytes += (uint64_t)st.st_size;
	}
}
