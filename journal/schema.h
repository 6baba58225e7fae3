/*
 * schema.h - the tables, views and their history; docs/SCHEMA.md tells of them.
 *
 * The version is PRAGMA user_version; each step brings the one before it up, in one
 * transaction. Views are made anew at every step, so they always fit the tables.
 */
#ifndef STOMP_JOURNAL_SCHEMA_H
#define STOMP_JOURNAL_SCHEMA_H

#include "journal/db.h"

enum { SCHEMA_VERSION = 8 };

/* Bring the database up to a version; -EPROTO when it is newer, or not ours at all. */
must_check int schema_migrate(struct db *db, int to);

#endif
