/*
 * db.h - one SQLite connection with its prepared statements.
 *
 * A connection belongs to one thread at a time. Steps answer 1 (a row), 0 (done) or
 * -errno: SQLITE_FULL is -ENOSPC, a damaged database is -EUCLEAN (check.h mends it),
 * whatever else the disk does is -EIO or what the system said, and a broken rule of the
 * schema is -EEXIST.
 */
#ifndef STOMP_JOURNAL_DB_H
#define STOMP_JOURNAL_DB_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/list.h"
#include "journal/sql.h"

struct db {
	sqlite3 *sql;
	struct list link; /* in the pool of idle readers */
	int wal_pages;	  /* writer: length of the log after the last commit */
	sqlite3_stmt *stmts[STMT_COUNT];
};

/* Before SQLite is used for the first time in a process; later it changes nothing. */
void db_configure(void);

/* The system's file layer, but for one thing: it takes names as they are. SQLite would
 * resolve /proc/self/fd/N/journal.db to the path the folder has, which lies under our own
 * mount once it is mounted over itself. */
must_check int db_vfs_register(sqlite3_vfs *vfs, char *name, size_t name_size);

/* writer: may create, checkpoints are its own business (db_checkpoint); else queries only.
 */
must_check int db_open(struct db **out, const char *vfs, const char *path, bool writer);
struct db *db_free(struct db *db);

must_check int db_exec(struct db *db, const char *sql);
must_check int db_int(struct db *db, const char *sql, int64_t *value);

/* What the last failure on the connection was, as -errno. */
int db_errno(struct db *db, int rc);

/* A prepared statement, reset, nothing bound. */
must_check int db_stmt(struct db *db, enum stmt_id id, sqlite3_stmt **out);
must_check int db_step(struct db *db, sqlite3_stmt *s);
must_check int db_run(struct db *db, enum stmt_id id); /* without parameters, to its end */

/* Log to stable storage; log into the database, as far as readers allow. */
must_check int db_sync_wal(struct db *db);
must_check int db_checkpoint(struct db *db, bool truncate);

static inline void db_reset_stmt(sqlite3_stmt **s)
{
	sqlite3_reset(*s);
}

/* Reset at end of scope, so that no read transaction stays open. */
#define auto_stmt __attribute__((cleanup(db_reset_stmt))) sqlite3_stmt

/* Binding into a statement of our own can only fail by our own mistake or for want of
 * memory, which the step then reports; the values live until the statement is reset. */
void bind_int(sqlite3_stmt *s, int at, uint64_t value);
void bind_opt(sqlite3_stmt *s, int at, int64_t value); /* 0 is NULL */
void bind_blob(sqlite3_stmt *s, int at, const void *data, size_t size);
void bind_text(sqlite3_stmt *s, int at, const char *text);
void bind_hash(sqlite3_stmt *s, int at, struct hash128 h);

uint64_t column_int(sqlite3_stmt *s, int at);
struct hash128 column_hash(sqlite3_stmt *s, int at);
/* A path or a name of it, all bytes of it and a NUL; malloc'ed, NULL: no memory. What is
 * damaged may hold NULs itself. */
char *column_bytes(sqlite3_stmt *s, int at, size_t *len);

#endif
