/*
 * gc_content.c - contents that nothing refers to, and their files.
 *
 * A file goes after its row is gone for good: committed, and synced. A content that came
 * back meanwhile has found its file and taken it over, so it is asked once more.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "journal/gc_internal.h"

/* ---- rows ---- */

static int ask(struct gc *g, enum stmt_id id, int64_t of)
{
	auto_stmt *s = NULL;
	int r = db_stmt(g->j->db, id, &s);

	if (r)
		return r;
	bind_int(s, 1, (uint64_t)of);
	return db_step(g->j->db, s);
}

struct content_meta {
	struct hash128 hash;
	uint64_t size, copy;
	int64_t stored, base_id, segment_id;
	bool object;
};

static int read_meta(struct gc *g, int64_t id, struct content_meta *m)
{
	auto_stmt *s = NULL;
	int r = db_stmt(g->j->db, STMT_GC_CONTENT, &s);

	if (r)
		return r;
	bind_int(s, 1, (uint64_t)id);
	r = db_step(g->j->db, s);
	if (r != 1)
		return r;
	*m = (struct content_meta){
		.hash = column_hash(s, 0),
		.size = column_int(s, 1),
		.copy = column_int(s, 2),
		.stored = sqlite3_column_int64(s, 3),
		.base_id = sqlite3_column_int64(s, 4),
		.segment_id = sqlite3_column_int64(s, 5),
		.object = sqlite3_column_int(s, 6) != 0,
	};
	return 1;
}

static void count_content(struct gc *g, const struct content_meta *m)
{
	uint64_t stored = m->stored > 0 ? (uint64_t)m->stored : 0;

	g->tally.n[TALLY_CONTENTS]--;
	g->tally.n[TALLY_CONTENT_BYTES] -= m->size;
	g->tally.n[TALLY_STORED_BYTES] -= stored;
	if (m->object)
		g->tally.n[TALLY_OBJECT_BYTES] -= stored;
	g->sums.contents++;
	g->sums.bytes += stored;
}

/* What packing it saved was counted when that was done: of all its contents together. */
static int drop_segment(struct gc *g, int64_t id)
{
	auto_stmt *s = NULL;
	uint64_t saved;
	int r = db_stmt(g->j->db, STMT_GC_SEGMENT_SAVED, &s);

	if (r)
		return r;
	bind_int(s, 1, (uint64_t)id);
	r = db_step(g->j->db, s);
	if (r <= 0)
		return r;
	saved = column_int(s, 0);
	sqlite3_reset(s);
	g->tally.n[TALLY_STORED_BYTES] += saved;
	g->sums.bytes -= saved;
	return ask(g, STMT_GC_SEGMENT_DROP, id);
}

static int drop(struct gc *g, int64_t id, const struct content_meta *m)
{
	int r = gc_point(g) ?: ask(g, STMT_GC_CONTENT_DROP, id);

	store_dropped(&g->j->store, id);
	if (!r && m->segment_id) {
		r = ask(g, STMT_GC_SEGMENT_USED, m->segment_id);
		if (r == 0)
			r = drop_segment(g, m->segment_id);
	}
	if (r < 0)
		return r;
	count_content(g, m);
	/* What finds no room is found again by the pass's look at the folders. */
	if (m->object && g->n_unlinks < GC_UNLINKS_MAX)
		g->unlinks[g->n_unlinks++] = (struct gc_object){m->hash, m->copy};
	return 0;
}

int gc_content_release(struct gc *g, int64_t id)
{
	/* What is longer than that is found again by the pass's look at the contents. */
	for (int i = 0; id && i < GC_CHAIN_MAX; i++) {
		struct content_meta m = {0};
		int r = ask(g, STMT_GC_CONTENT_USED, id);

		if (r)
			return r < 0 ? r : 0;
		r = read_meta(g, id, &m);
		if (r <= 0)
			return r;
		r = drop(g, id, &m);
		if (r)
			return r;
		id = m.base_id;
	}
	return 0;
}

int gc_contents_step(struct gc *g)
{
	int64_t unused[GC_CHUNK];
	auto_stmt *s = NULL;
	size_t n = 0, looked = 0;
	int r = db_stmt(g->j->db, STMT_GC_CONTENT_NEXT, &s);

	if (r)
		return r;
	bind_int(s, 1, (uint64_t)g->cursor);
	bind_int(s, 2, GC_CHUNK);
	while ((r = db_step(g->j->db, s)) == 1) {
		g->cursor = sqlite3_column_int64(s, 0);
		looked++;
		if (!sqlite3_column_int(s, 1))
			unused[n++] = g->cursor;
	}
	sqlite3_reset(s);
	for (size_t i = 0; i < n && !r; i++)
		r = gc_content_release(g, unused[i]);
	return r ?: looked == GC_CHUNK;
}

/* ---- files ---- */

bool gc_objects_full(const struct gc *g)
{
	return g->n_unlinks > GC_UNLINKS_MAX / 2;
}

static int is_used(struct gc *g, const struct gc_object *o)
{
	auto_stmt *s = NULL;
	int r = db_stmt(g->j->db, STMT_GC_OBJECT_USED, &s);

	if (r)
		return r;
	bind_hash(s, 1, o->hash);
	bind_int(s, 2, o->copy);
	return db_step(g->j->db, s);
}

static int remove_file(struct gc *g, const struct gc_object *o)
{
	char name[OBJECT_NAME_SIZE];
	int r = gc_point(g) ?: is_used(g, o);

	if (r || g->o.dry_run)
		return r < 0 ? r : 0;
	object_name(o->hash, o->copy, name);
	if (unlinkat(g->j->store.dirfd, name, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	g->sums.objects++;
	return 0;
}

/* No row that is gone may come back after its file went: not after a power cut either. */
static int sync_first(struct gc *g)
{
	return store_sync(&g->j->store) ?: db_sync_wal(g->j->db);
}

int gc_objects_unlink(struct gc *g)
{
	int r = 0;

	if (g->n_unlinks == 0)
		return 0;
	if (!g->o.dry_run)
		r = gc_point(g) ?: sync_first(g);
	for (size_t i = 0; i < g->n_unlinks && !r; i++)
		r = remove_file(g, &g->unlinks[i]);
	g->n_unlinks = 0;
	return r;
}

/* One folder of objects/: files that no row speaks of. */
int gc_objects_step(struct gc *g)
{
	char name[4];
	DIR *dir;
	struct dirent *e;
	int fd, r = 0;

	snprintf(name, sizeof(name), "%02x", (unsigned)g->cursor);
	fd = openat(g->j->store.dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? ++g->cursor < 256 : -errno;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while (!r && !gc_objects_full(g) && (e = readdir(dir))) {
		struct gc_object o;

		if (!object_parse_name((unsigned)g->cursor, e->d_name, &o.hash, &o.copy))
			continue;
		r = is_used(g, &o);
		if (r == 0)
			g->unlinks[g->n_unlinks++] = o;
		r = r < 0 ? r : 0;
	}
	closedir(dir);
	if (!r && (!gc_objects_full(g) || g->o.dry_run))
		g->cursor++; /* else the folder once more: it may hold others */
	return r ?: g->cursor < 256;
}
