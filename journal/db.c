#include "journal/db.h"

#include <stdio.h>
#include <string.h>

enum { BUSY_TIMEOUT_MS = 5000, HASH_BYTES = 16 };

#define SQL_TEXT_(name, sql) sql,
static const char *const statements[STMT_COUNT] = {SQL_STATEMENTS(SQL_TEXT_)};
#undef SQL_TEXT_

static int name_as_it_is(sqlite3_vfs *vfs, const char *name, int size, char *out)
{
	if (strlen(name) >= (size_t)size)
		return SQLITE_CANTOPEN;
	memcpy(out, name, strlen(name) + 1);
	return SQLITE_OK;
}

int db_vfs_register(sqlite3_vfs *vfs, char *name, size_t name_size)
{
	const sqlite3_vfs *system = sqlite3_vfs_find("unix");

	if (!system)
		return -ENOSYS;
	*vfs = *system;
	snprintf(name, name_size, "stomp-%p", (void *)vfs);
	vfs->pNext = NULL;
	vfs->zName = name;
	vfs->xFullPathname = name_as_it_is;
	return sqlite3_vfs_register(vfs, 0) == SQLITE_OK ? 0 : -ENOMEM;
}

int db_errno(struct db *db, int rc)
{
	/* 0 before the call. sqlite3_system_errno() may be that of an earlier failure: a
	 * COMMIT does not set it. */
	int system = errno;

	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	case SQLITE_IOERR:
		return system == ENOSPC || system == EDQUOT ? -system : -EIO;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EUCLEAN; /* what is read is no database of ours any more */
	case SQLITE_CANTOPEN:
		return system > 0 ? -system : -EIO;
	default:
		return -EIO;
	}
}

int db_exec(struct db *db, const char *sql)
{
	errno = 0;
	return db_errno(db, sqlite3_exec(db->sql, sql, NULL, NULL, NULL));
}

int db_int(struct db *db, const char *sql, int64_t *value)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(db->sql, sql, -1, &s, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(s);
	if (rc == SQLITE_ROW) {
		*value = sqlite3_column_int64(s, 0);
		rc = SQLITE_OK;
	}
	sqlite3_finalize(s);
	return db_errno(db, rc);
}

static int note_wal_pages(void *ctx, sqlite3 *sql, const char *name, int pages)
{
	struct db *db = ctx;

	db->wal_pages = pages;
	return SQLITE_OK;
}

static int set_up(struct db *db, bool writer)
{
	int r;

	sqlite3_extended_result_codes(db->sql, 1);
	sqlite3_busy_timeout(db->sql, BUSY_TIMEOUT_MS);
	/* Nothing of ours in /tmp: that may be inside the workspace. */
	r = db_exec(db, "PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF;"
			"PRAGMA foreign_keys=ON; PRAGMA synchronous=NORMAL;");
	if (r)
		return r;
	if (!writer)
		return db_exec(db, "PRAGMA query_only=ON;");
	r = db_exec(db, "PRAGMA journal_mode=WAL; PRAGMA cache_size=-8000;"
			"PRAGMA journal_size_limit=67108864;");
	if (r)
		return r;
	sqlite3_wal_hook(db->sql, note_wal_pages, db);
	return 0;
}

void db_configure(void)
{
	/* Its statistics of memory cost a lock around every allocation, which readers and
	 * the writer would wait for. */
	(void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

int db_open(struct db **out, const char *vfs, const char *path, bool writer)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
	struct db *db = calloc(1, sizeof(*db));
	int r;

	if (!db)
		return -ENOMEM;
	list_init(&db->link);
	errno = 0;
	r = sqlite3_open_v2(path, &db->sql, flags | (writer ? SQLITE_OPEN_CREATE : 0), vfs);
	r = db_errno(db, r);
	if (!r)
		r = set_up(db, writer);
	if (r) {
		db_free(db);
		return r;
	}
	*out = db;
	return 0;
}

struct db *db_free(struct db *db)
{
	if (!db)
		return NULL;
	for (int i = 0; i < STMT_COUNT; i++)
		sqlite3_finalize(db->stmts[i]);
	sqlite3_close(db->sql);
	free(db);
	return NULL;
}

int db_stmt(struct db *db, enum stmt_id id, sqlite3_stmt **out)
{
	sqlite3_stmt **s = &db->stmts[id];

	if (!*s) {
		int rc = sqlite3_prepare_v3(
			db->sql, statements[id], -1, SQLITE_PREPARE_PERSISTENT, s, NULL);

		if (rc != SQLITE_OK)
			return db_errno(db, rc);
	} else {
		sqlite3_reset(*s);
		sqlite3_clear_bindings(*s);
	}
	*out = *s;
	return 0;
}

int db_step(struct db *db, sqlite3_stmt *s)
{
	int rc;

	errno = 0;
	rc = sqlite3_step(s);
	return rc == SQLITE_ROW ? 1 : db_errno(db, rc);
}

int db_run(struct db *db, enum stmt_id id)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, id, &s);

	return r ?: db_step(db, s);
}

int db_sync_wal(struct db *db)
{
	sqlite3_file *file = NULL;
	int rc = sqlite3_file_control(
		db->sql, "main", SQLITE_FCNTL_JOURNAL_POINTER, (void *)&file);

	if (rc != SQLITE_OK)
		return db_errno(db, rc);
	if (!file || !file->pMethods)
		return 0; /* nothing was ever logged */
	errno = 0;
	rc = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
	if (rc == SQLITE_OK)
		return 0;
	return errno == ENOSPC || errno == EDQUOT ? -errno : -EIO;
}

int db_checkpoint(struct db *db, bool truncate)
{
	int mode = truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
	int rc;

	errno = 0;
	rc = sqlite3_wal_checkpoint_v2(db->sql, NULL, mode, NULL, NULL);

	return rc == SQLITE_BUSY ? 0 : db_errno(db, rc); /* a reader is in the way: later */
}

void bind_int(sqlite3_stmt *s, int at, uint64_t value)
{
	sqlite3_bind_int64(s, at, (int64_t)value);
}

void bind_opt(sqlite3_stmt *s, int at, int64_t value)
{
	if (value)
		sqlite3_bind_int64(s, at, value);
}

void bind_blob(sqlite3_stmt *s, int at, const void *data, size_t size)
{
	if (data)
		sqlite3_bind_blob64(s, at, data, size, SQLITE_STATIC);
}

void bind_text(sqlite3_stmt *s, int at, const char *text)
{
	if (text)
		sqlite3_bind_text(s, at, text, -1, SQLITE_STATIC);
}

void bind_hash(sqlite3_stmt *s, int at, struct hash128 h)
{
	unsigned char bytes[HASH_BYTES];

	for (int i = 0; i < 8; i++) {
		bytes[i] = (unsigned char)(h.hi >> (56 - 8 * i));
		bytes[8 + i] = (unsigned char)(h.lo >> (56 - 8 * i));
	}
	sqlite3_bind_blob(s, at, bytes, HASH_BYTES, SQLITE_TRANSIENT);
}

uint64_t column_int(sqlite3_stmt *s, int at)
{
	return (uint64_t)sqlite3_column_int64(s, at);
}

struct hash128 column_hash(sqlite3_stmt *s, int at)
{
	const unsigned char *bytes = sqlite3_column_blob(s, at);
	struct hash128 h = {0};

	if (!bytes || sqlite3_column_bytes(s, at) != HASH_BYTES)
		return h;
	for (int i = 0; i < 8; i++) {
		h.hi = h.hi << 8 | bytes[i];
		h.lo = h.lo << 8 | bytes[8 + i];
	}
	return h;
}

char *column_bytes(sqlite3_stmt *s, int at, size_t *len)
{
	const void *bytes = sqlite3_column_blob(s, at);
	size_t n = (size_t)sqlite3_column_bytes(s, at);
	char *copy = malloc(n + 1);

	if (!copy)
		return NULL;
	if (n > 0)
		memcpy(copy, bytes, n);
	copy[n] = '\0';
	*len = n;
	return copy;
}
