/*
 * check_references.c - what rows say of other rows: those are there, or it is unsaid.
 */
#include "journal/check_internal.h"

static int tell_foreign(struct check *c, sqlite3_stmt *row, void *ctx)
{
	unsigned *n = ctx;

	if ((*n)++ < INTEGRITY_LINES)
		check_say(c, CHECK_PROBLEM,
			"row %lld of the table %s speaks of a row of %s that is not there",
			(long long)sqlite3_column_int64(row, 1),
			(const char *)sqlite3_column_text(row, 0),
			(const char *)sqlite3_column_text(row, 2));
	return 0;
}

int check_references(struct check *c)
{
	unsigned n = 0;
	int r = check_rows(c, "PRAGMA foreign_key_check", 0, tell_foreign, &n);

	if (r == 0 && n && c->o->repair) {
		r = settle_references(c);
		if (r == 0)
			check_say(c, CHECK_MENDED,
				"%u rows no longer speak of rows that are not there", n);
	}
	return r;
}

/* In this order: what one makes unsaid or takes away, the next ones see. A version stays
 * whatever it has lost. */
static const char *const settle[] = {
	/* what is no id at all */
	"UPDATE version SET path_id = id + 1 + (SELECT max(id) FROM path)"
	" WHERE typeof(path_id) <> 'integer'",
	"INSERT INTO path (id, path) SELECT DISTINCT path_id,"
	" CAST('.stomp-lost/path-' || path_id AS BLOB) FROM version"
	" WHERE path_id NOT IN (SELECT id FROM path)",
	"UPDATE version SET from_id = NULL WHERE from_id NOT IN (SELECT id FROM path)",
	"DELETE FROM author WHERE writer_id NOT IN (SELECT id FROM writer)",
	"UPDATE version SET author_id = NULL WHERE author_id NOT IN (SELECT id FROM "
	"author)",
	"UPDATE version SET writer_id = NULL WHERE writer_id NOT IN (SELECT id FROM "
	"writer)",
	"UPDATE refusal SET author_id = NULL WHERE author_id NOT IN (SELECT id FROM "
	"author)",
	"UPDATE refusal SET writer_id = NULL WHERE writer_id NOT IN (SELECT id FROM "
	"writer)",
	"DELETE FROM change_set WHERE author_id NOT IN (SELECT id FROM author)"
	" OR writer_id NOT IN (SELECT id FROM writer)",
	"UPDATE version SET set_id = NULL WHERE set_id NOT IN (SELECT id FROM change_set)",
	"UPDATE folder_move SET set_id = NULL WHERE set_id NOT IN"
	" (SELECT id FROM change_set)",
	"UPDATE folder_move SET author_id = NULL WHERE author_id NOT IN"
	" (SELECT id FROM author)",
	"UPDATE version SET content_id = NULL WHERE content_id NOT IN"
	" (SELECT id FROM content)",
	"UPDATE refusal SET content_id = NULL WHERE content_id NOT IN"
	" (SELECT id FROM content)",
};

int settle_references(struct check *c)
{
	int64_t id = 0;
	/* Until the end of the transaction: on the way rows go that others still name. */
	int r = db_exec(c->db, "PRAGMA defer_foreign_keys=ON");

	for (size_t i = 0; i < ARRAY_SIZE(settle) && r == 0; i++)
		r = check_run(c, settle[i], 0);
	while (r == 0) {
		r = check_number(c,
			"SELECT id FROM content WHERE id > ?1 AND ("
			" (base_id IS NOT NULL AND base_id NOT IN (SELECT id FROM content))"
			" OR (segment_id IS NOT NULL AND segment_id NOT IN"
			" (SELECT id FROM segment))) ORDER BY id LIMIT 1",
			id, &id);
		if (r || !id)
			break;
		r = mend_content(c, id);
	}
	return r;
}
