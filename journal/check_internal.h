/*
 * check_internal.h - the parts of a check among themselves: check.c (the order, the
 * database), check_references.c, check_content.c, check_orphans.c, check_tree.c, salvage.c.
 */
#ifndef STOMP_JOURNAL_CHECK_INTERNAL_H
#define STOMP_JOURNAL_CHECK_INTERNAL_H

#include "journal/check.h"
#include "journal/db.h"
#include "journal/store.h"

enum {
	CONTENT_LOST = -1,    /* content.stored of what cannot be had back */
	INTEGRITY_LINES = 20, /* of SQLite's own complaints that are told */
};

struct check {
	const struct check_options *o;
	struct check_sums *sums;
	struct db *db;
	struct store *store;
	const char *vfs; /* to open databases of the folder with */
	bool alone;	 /* nobody has the journal open */
	bool salvaged;	 /* rows may have been lost */
	bool lost_any;	 /* a content is lost or damaged: others may build on it */
};

void check_say(struct check *c, enum check_grade grade, const char *fmt, ...)
	printf_like(3, 4);

/* Every row of a query; fn answers 0 to go on. Rows that cannot be read end it: -EUCLEAN.
 */
typedef int check_row_fn(struct check *c, sqlite3_stmt *row, void *ctx);
must_check int check_rows(
	struct check *c, const char *sql, int64_t bound, check_row_fn *fn, void *ctx);
/* One number of a query; 0 where there is none. */
must_check int check_number(
	struct check *c, const char *sql, int64_t bound, int64_t *value);
must_check int check_run(struct check *c, const char *sql, int64_t bound);

/* /proc/self/fd/DIRFD/NAME: how SQLite is given a file of the folder. */
void check_path(const struct check *c, const char *name, char path[96]);

must_check int check_references(struct check *c);
/* What rows say of rows that are not there is unknown from now on; a content that builds on
 * such is had back from the tree, or lost. */
must_check int settle_references(struct check *c);

must_check int check_contents(struct check *c);
/* A content that is damaged: from the tree, or lost. */
must_check int mend_content(struct check *c, int64_t id);
must_check int check_orphans(struct check *c);
must_check int check_tree(struct check *c);

/* The file of a path in the tree, however it is linked: a descriptor to read, -errno. */
must_check int check_open_file(const struct check *c, const char *path);

/* Set journal.db aside and read what can be read of it into a fresh one. */
must_check int salvage(struct check *c);

#endif
