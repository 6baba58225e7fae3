#include "journal/schema.h"

#include <stdio.h>

enum { APPLICATION_ID = 0x73746d70 }; /* "stmp" */

#define SET_PAUSE_NS "180000000000" /* SET_PAUSE_S as it was when this step was written */

static const char step_1[] =
	/* every number up to reserved may have been given out */
	"CREATE TABLE counter (name TEXT PRIMARY KEY, reserved INTEGER NOT NULL)"
	" WITHOUT ROWID;"

	"CREATE TABLE path (id INTEGER PRIMARY KEY,"
	" path BLOB NOT NULL UNIQUE CHECK (typeof(path) = 'blob' AND length(path) > 0));"

	"CREATE TABLE writer (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
	" uid INTEGER NOT NULL, first_ns INTEGER NOT NULL);"

	"CREATE TABLE author (id INTEGER PRIMARY KEY,"
	" writer_id INTEGER NOT NULL REFERENCES writer, uid INTEGER NOT NULL,"
	" pid INTEGER NOT NULL, start_ns INTEGER NOT NULL, rule TEXT, command TEXT);"
	"CREATE INDEX author_process ON author (pid, start_ns, writer_id);"

	/* data comes last: whoever reads the other columns does not touch its pages */
	"CREATE TABLE content (id INTEGER PRIMARY KEY,"
	" hash BLOB NOT NULL CHECK (length(hash) = 16), size INTEGER NOT NULL,"
	" copy INTEGER NOT NULL, codec INTEGER NOT NULL CHECK (codec IN (0, 1)),"
	" stored INTEGER NOT NULL, data BLOB, UNIQUE (hash, size, copy));"

	"CREATE TABLE version (id INTEGER PRIMARY KEY, seq INTEGER NOT NULL,"
	" path_id INTEGER NOT NULL REFERENCES path,"
	" number INTEGER NOT NULL CHECK (number > 0),"
	" kind INTEGER NOT NULL, flags INTEGER NOT NULL, epoch INTEGER NOT NULL,"
	" base INTEGER NOT NULL, content_id INTEGER REFERENCES content,"
	" size INTEGER NOT NULL, mode INTEGER NOT NULL, uid INTEGER NOT NULL,"
	" gid INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, time_ns INTEGER NOT NULL,"
	" author_id INTEGER REFERENCES author, writer_id INTEGER REFERENCES writer,"
	" from_id INTEGER REFERENCES path, from_number INTEGER NOT NULL,"
	" UNIQUE (path_id, number));"
	"CREATE INDEX version_seq ON version (seq);"
	"CREATE INDEX version_path_seq ON version (path_id, seq);"
	"CREATE INDEX version_writer_seq ON version (writer_id, seq)"
	" WHERE writer_id IS NOT NULL;"

	"CREATE TABLE folder_move (id INTEGER PRIMARY KEY, seq INTEGER NOT NULL,"
	" time_ns INTEGER NOT NULL, from_path BLOB NOT NULL, to_path BLOB NOT NULL,"
	" author_id INTEGER REFERENCES author);"
	"CREATE INDEX folder_move_to ON folder_move (to_path, seq);"
	"CREATE INDEX folder_move_from ON folder_move (from_path, seq);"

	"CREATE TABLE event (id INTEGER PRIMARY KEY, seq INTEGER NOT NULL,"
	" time_ns INTEGER NOT NULL, kind TEXT NOT NULL, path BLOB, writer TEXT,"
	" epoch INTEGER NOT NULL, number INTEGER NOT NULL, text TEXT);"
	"CREATE INDEX event_seq ON event (seq);"
	"CREATE INDEX event_writer ON event (writer, seq) WHERE writer IS NOT NULL;"

	"CREATE TABLE refusal (id INTEGER PRIMARY KEY, seq INTEGER NOT NULL,"
	" time_ns INTEGER NOT NULL, path BLOB NOT NULL, asked TEXT NOT NULL,"
	" reason TEXT NOT NULL, error INTEGER NOT NULL,"
	" author_id INTEGER REFERENCES author, writer_id INTEGER REFERENCES writer,"
	" base INTEGER NOT NULL, current INTEGER NOT NULL, epoch INTEGER NOT NULL,"
	" current_writer TEXT, holder TEXT, hunks TEXT, text TEXT,"
	" content_id INTEGER REFERENCES content);"
	"CREATE INDEX refusal_writer ON refusal (writer_id, id) WHERE writer_id IS NOT "
	"NULL;";

/* The figures as running sums: counting rows would cost all of history. */
static const char step_2[] =
	"CREATE TABLE tally (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
	"INSERT INTO tally SELECT 'versions', count(*) FROM version;"
	"INSERT INTO tally SELECT 'refusals', count(*) FROM refusal;"
	"INSERT INTO tally SELECT 'contents', count(*) FROM content;"
	"INSERT INTO tally SELECT 'content_bytes', coalesce(sum(size), 0) FROM content;"
	"INSERT INTO tally SELECT 'stored_bytes', coalesce(sum(stored), 0) FROM content;";

/* A refusal whose bytes were kept is a conflict until it is resolved. What the index
 * holds may never be collected (V9): retention has to ask it before it drops a content. */
static const char step_3[] =
	"ALTER TABLE refusal ADD COLUMN resolved_seq INTEGER;"
	"ALTER TABLE refusal ADD COLUMN resolved_ns INTEGER;"
	"ALTER TABLE refusal ADD COLUMN resolved_by TEXT;"
	"ALTER TABLE refusal ADD COLUMN resolved_how TEXT;"
	"CREATE INDEX refusal_resolved ON refusal (id) WHERE resolved_seq IS NOT NULL;"
	"CREATE INDEX refusal_conflict ON refusal (id)"
	" WHERE content_id IS NOT NULL AND resolved_seq IS NULL;"
	"INSERT INTO tally SELECT 'kept', count(*) FROM refusal"
	" WHERE content_id IS NOT NULL;"
	"INSERT INTO tally VALUES ('resolved', 0);";

/* Which moment an epoch is: by it .stomp/at/EPOCH and since/EPOCH are found. */
static const char step_4[] =
	"CREATE INDEX version_epoch ON version (epoch, seq) WHERE epoch > 0;";

/* Contents that say what an earlier one has not (V6). The table is made anew, since its
 * unique key is now that of whole contents alone; views speak of it and come back after. */
static const char step_5[] =
	"DROP VIEW IF EXISTS v_history; DROP VIEW IF EXISTS v_refusals;"
	"DROP VIEW IF EXISTS v_contents; DROP VIEW IF EXISTS v_writers;"
	"CREATE TABLE segment (id INTEGER PRIMARY KEY,"
	" codec INTEGER NOT NULL CHECK (codec IN (0, 1)), size INTEGER NOT NULL,"
	" data BLOB NOT NULL);"
	"CREATE TABLE content_5 (id INTEGER PRIMARY KEY,"
	" hash BLOB NOT NULL CHECK (length(hash) = 16), size INTEGER NOT NULL,"
	" copy INTEGER NOT NULL, codec INTEGER NOT NULL CHECK (codec IN (0, 1)),"
	" stored INTEGER NOT NULL, identity INTEGER NOT NULL CHECK (identity IN (0, 1)),"
	" base_id INTEGER REFERENCES content, segment_id INTEGER REFERENCES segment,"
	" weight INTEGER NOT NULL, ranges BLOB, data BLOB);"
	"INSERT INTO content_5 SELECT id, hash, size, copy, codec, stored, size <= 65536,"
	" NULL, NULL, 0, NULL, data FROM content;"
	"DROP TABLE content; ALTER TABLE content_5 RENAME TO content;"
	"CREATE UNIQUE INDEX content_whole ON content (hash, size, copy)"
	" WHERE base_id IS NULL;"
	"CREATE INDEX content_part ON content (substr(hash, 1, 4)) WHERE base_id IS NOT "
	"NULL;"
	"CREATE INDEX content_base ON content (base_id) WHERE base_id IS NOT NULL;";

/* Change sets. What was recorded before them is sorted into sets here, by writer and
 * pause alone: of process trees nothing is known of it. */
static const char step_6[] =
	"CREATE TABLE change_set (id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" state INTEGER NOT NULL, undo_of INTEGER NOT NULL, what TEXT,"
	" writer_id INTEGER NOT NULL REFERENCES writer,"
	" author_id INTEGER NOT NULL REFERENCES author,"
	" root_pid INTEGER NOT NULL, root_start_ns INTEGER NOT NULL,"
	" first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,"
	" first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL,"
	" n_changes INTEGER NOT NULL);"
	"CREATE INDEX change_set_tree ON change_set (writer_id, root_pid, root_start_ns);"
	"CREATE INDEX change_set_open ON change_set (author_id) WHERE state = 1;"
	"ALTER TABLE version ADD COLUMN set_id INTEGER REFERENCES change_set;"
	"ALTER TABLE folder_move ADD COLUMN set_id INTEGER REFERENCES change_set;"
	"CREATE TEMP TABLE sorted AS SELECT id, seq, time_ns, writer_id, author_id,"
	" sum(begins) OVER (ORDER BY writer_id, seq, id) AS nth FROM"
	" (SELECT id, seq, time_ns, writer_id, author_id,"
	" coalesce(time_ns - lag(time_ns) OVER (PARTITION BY writer_id ORDER BY seq, id)"
	" > " SET_PAUSE_NS ", 1) AS begins FROM version"
	" WHERE writer_id IS NOT NULL AND author_id IS NOT NULL);"
	"INSERT INTO change_set (state, undo_of, writer_id, author_id, root_pid,"
	" root_start_ns, first_seq, last_seq, first_ns, last_ns, n_changes, what)"
	" SELECT 0, 0, writer_id, author_id, 0, 0, min(seq), max(seq), min(time_ns),"
	" max(time_ns), count(*), nth FROM sorted GROUP BY nth ORDER BY min(seq);"
	"CREATE INDEX temp.sorted_id ON sorted (id);"
	"CREATE TEMP TABLE numbered AS SELECT CAST(what AS INTEGER) AS nth, id"
	" FROM change_set;"
	"CREATE INDEX temp.numbered_nth ON numbered (nth);"
	"UPDATE version SET set_id = (SELECT n.id FROM sorted s JOIN numbered n"
	" ON n.nth = s.nth WHERE s.id = version.id) WHERE writer_id IS NOT NULL;"
	"UPDATE change_set SET what = NULL;"
	"DROP TABLE sorted; DROP TABLE numbered;"
	"CREATE INDEX version_set ON version (set_id, seq) WHERE set_id IS NOT NULL;";

/* Retention (V9): pinned moments, and who needs a content. The last index also answers
 * for the segment's own key. */
static const char step_7[] =
	"CREATE TABLE pin (id INTEGER PRIMARY KEY, name TEXT NOT NULL,"
	" seq INTEGER NOT NULL, path BLOB NOT NULL, time_ns INTEGER NOT NULL,"
	" writer TEXT, UNIQUE (name, path));"
	"CREATE INDEX version_content ON version (content_id)"
	" WHERE content_id IS NOT NULL;"
	"CREATE INDEX refusal_content ON refusal (content_id)"
	" WHERE content_id IS NOT NULL;"
	"CREATE INDEX refusal_conflict_path ON refusal (path)"
	" WHERE content_id IS NOT NULL AND resolved_seq IS NULL;"
	"CREATE INDEX content_segment ON content (segment_id)"
	" WHERE segment_id IS NOT NULL;"
	"INSERT INTO tally SELECT 'object_bytes', coalesce(sum(max(stored, 0)), 0)"
	" FROM content WHERE data IS NULL AND segment_id IS NULL;";

/* Deltas: rows of content with empty ranges, which an older daemon could not read. No table
 * changes; the views are made anew after any step. */
static const char step_8[] = "";

static const char *const steps[SCHEMA_VERSION] = {
	step_1, step_2, step_3, step_4, step_5, step_6, step_7, step_8};

#define KIND_NAME                                                                          \
	"CASE v.kind WHEN 0 THEN 'initial' WHEN 1 THEN 'write' WHEN 2 THEN 'replace'"      \
	" WHEN 3 THEN 'move' WHEN 4 THEN 'link' WHEN 5 THEN 'mode' WHEN 6 THEN 'delete'"   \
	" WHEN 7 THEN 'symlink' WHEN 8 THEN 'mkdir' WHEN 9 THEN 'rmdir'"                   \
	" WHEN 10 THEN 'external' ELSE v.kind END"

#define FLAG_NAMES                                                                         \
	"trim(iif(v.flags & 1, 'incomplete ', '') || iif(v.flags & 2, 'checkpoint ', '')"  \
	" || iif(v.flags & 4, 'recovered ', '') || iif(v.flags & 8, 'decision ', '') || "  \
	"iif(v.flags & 16, 'merged ', '') || iif(v.flags & 64, 'gap ', ''))"

#define LOCAL_TIME(ns) "datetime(" ns " / 1000000000, 'unixepoch', 'localtime')"

static const char views[] =
	"DROP VIEW IF EXISTS v_history; CREATE VIEW v_history AS"
	" SELECT v.seq, " LOCAL_TIME(
		"v.time_ns") " AS time, CAST(p.path AS TEXT) AS path,"
			     " v.number, " KIND_NAME
			     " AS kind, w.name AS writer, v.epoch, v.base, v.size,"
			     " printf('%04o', v.mode & 4095) AS mode, lower(hex(c.hash)) "
			     "AS content, " FLAG_NAMES
			     " AS flags, CAST(f.path AS TEXT) AS from_path, v.from_number,"
			     " a.rule, a.pid, a.command"
			     " FROM version v JOIN path p ON p.id = v.path_id"
			     " LEFT JOIN content c ON c.id = v.content_id"
			     " LEFT JOIN author a ON a.id = v.author_id"
			     " LEFT JOIN writer w ON w.id = v.writer_id"
			     " LEFT JOIN path f ON f.id = v.from_id;"

			     "DROP VIEW IF EXISTS v_refusals; CREATE VIEW v_refusals AS"
			     " SELECT r.id, r.seq, " LOCAL_TIME(
				     "r.time_ns") " AS time,"
						  " CAST(r.path AS TEXT) AS path, r.asked, "
						  "r.reason, r.error AS errno,"
						  " w.name AS writer, a.pid, r.base, "
						  "r.current, r.current_writer, r.holder, "
						  "r.epoch,"
						  " r.hunks, r.content_id IS NOT NULL AS "
						  "kept, r.resolved_by, "
						  "r.resolved_how, r.text"
						  " FROM refusal r LEFT JOIN author a ON "
						  "a.id = r.author_id"
						  " LEFT JOIN writer w ON w.id = "
						  "r.writer_id;"

						  "DROP VIEW IF EXISTS v_writers; CREATE "
						  "VIEW v_writers AS"
						  " SELECT w.name, w.uid, " LOCAL_TIME(
							  "w.first_ns") " AS first_seen,"
									" (SELECT count(*) "
									"FROM version v "
									"WHERE v.writer_id "
									"= w.id) AS "
									"versions,"
									" (SELECT count(*) "
									"FROM refusal r "
									"WHERE r.writer_id "
									"= w.id) AS "
									"refusals,"
									" (SELECT count(*) "
									"FROM author a "
									"WHERE a.writer_id "
									"= w.id) AS "
									"processes"
									" FROM writer w;"

									"DROP VIEW IF "
									"EXISTS "
									"v_contents; "
									"CREATE VIEW "
									"v_contents AS"
									" SELECT id, "
									"lower(hex(hash)) "
									"AS content, size, "
									"stored, copy,"
									" CASE WHEN "
									"length(ranges) = "
									"0 THEN 'delta' "
									"WHEN codec = 1 "
									"THEN 'zstd' ELSE "
									"'raw' END AS "
									"codec, CASE WHEN "
									"segment_id IS NOT "
									"NULL"
									" THEN 'segment' "
									"WHEN data IS NULL "
									"AND size > 0 THEN "
									"'object' ELSE "
									"'inline' END AS "
									"place,"
									" base_id AS base "
									"FROM content;"
									"DROP VIEW IF "
									"EXISTS v_events; "
									"CREATE VIEW "
									"v_events AS"
									" SELECT "
									"seq, " LOCAL_TIME(
										"time_ns") " AS time, kind, CAST(path AS TEXT) AS path,"
											   " writer, epoch, number, text FROM event;";

static int run_steps(struct db *db, int64_t from, int to)
{
	char pragma[96];
	int r = 0;

	for (int64_t i = from; i < to && !r; i++)
		r = db_exec(db, steps[i]);
	if (!r)
		r = db_exec(db, views);
	snprintf(pragma, sizeof(pragma),
		"PRAGMA user_version = %d; PRAGMA application_id = %d;", to,
		APPLICATION_ID);
	return r ?: db_exec(db, pragma);
}

static int migrate(struct db *db, int to)
{
	int64_t have = 0, id = 0;
	int r = db_run(db, STMT_BEGIN);

	if (r)
		return r;
	r = db_int(db, "PRAGMA user_version", &have);
	if (!r)
		r = db_int(db, "PRAGMA application_id", &id);
	if (!r && (have < 0 || have > to || (id && id != APPLICATION_ID)))
		r = -EPROTO;
	if (!r && have < to)
		r = run_steps(db, have, to);
	if (!r)
		r = db_run(db, STMT_COMMIT);
	if (r)
		(void)!db_run(db, STMT_ROLLBACK);
	return r;
}

int schema_migrate(struct db *db, int to)
{
	/* A table that is made anew keeps its ids; this cannot be said inside a
	 * transaction. */
	int r = db_exec(db, "PRAGMA foreign_keys=OFF");
	int on;

	r = r ?: migrate(db, to);
	on = db_exec(db, "PRAGMA foreign_keys=ON");
	return r ?: on;
}
