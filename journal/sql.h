/*
 * sql.h - every statement the journal runs, by name; db_stmt() prepares one when it is
 * first wanted on a connection.
 *
 * Paths are BLOBs and compared as bytes. "Everything below a/" is the index range from
 * 'a/' to 'a0' ('0' follows '/'), never a pattern.
 */
#ifndef STOMP_JOURNAL_SQL_H
#define STOMP_JOURNAL_SQL_H

/* One version with everything that is told about it; row_read_version() knows the order. */
#define SQL_VERSION                                                                        \
	"SELECT v.id, v.seq, p.path, v.number, v.kind, v.flags, v.epoch, v.base,"          \
	" v.content_id, c.hash, v.size, v.mode, v.uid, v.gid, v.mtime_ns, v.time_ns,"      \
	" w.name, a.uid, a.pid, a.start_ns, a.rule, a.command, f.path, v.from_number,"     \
	" v.set_id"                                                                        \
	" FROM version v JOIN path p ON p.id = v.path_id"                                  \
	" LEFT JOIN content c ON c.id = v.content_id"                                      \
	" LEFT JOIN author a ON a.id = v.author_id"                                        \
	" LEFT JOIN writer w ON w.id = a.writer_id"                                        \
	" LEFT JOIN path f ON f.id = v.from_id "

#define SQL_SET                                                                            \
	"SELECT g.id, g.state, g.undo_of, g.what, g.first_seq, g.last_seq, g.first_ns,"    \
	" g.last_ns, g.n_changes,"                                                         \
	" (SELECT count(DISTINCT path_id) FROM version v WHERE v.set_id = g.id),"          \
	" w.name, a.uid, a.pid, a.start_ns, a.rule, a.command"                             \
	" FROM change_set g JOIN writer w ON w.id = g.writer_id"                           \
	" JOIN author a ON a.id = g.author_id "

#define SQL_REFUSAL                                                                        \
	"SELECT r.id, r.seq, r.time_ns, r.path, r.asked, r.reason, r.error, w.name, "      \
	"a.uid,"                                                                           \
	" a.pid, a.start_ns, a.rule, a.command, r.base, r.current, r.epoch,"               \
	" r.current_writer, r.holder, r.hunks, r.text, r.content_id, c.hash, c.size,"      \
	" r.resolved_seq, r.resolved_ns, r.resolved_by, r.resolved_how"                    \
	" FROM refusal r LEFT JOIN content c ON c.id = r.content_id"                       \
	" LEFT JOIN author a ON a.id = r.author_id"                                        \
	" LEFT JOIN writer w ON w.id = a.writer_id "

/* store_read_row() knows the order. */
#define SQL_CONTENT                                                                        \
	"SELECT id, hash, size, copy, codec, data, identity, base_id, segment_id, weight," \
	" ranges FROM content "

#define SQL_EVENT                                                                          \
	"SELECT seq, time_ns, kind, path, writer, epoch, number, text, id FROM event "

#define SQL_STATEMENTS(X)                                                                  \
	X(BEGIN, "BEGIN IMMEDIATE")                                                        \
	X(LOOK, "BEGIN DEFERRED")                                                          \
	X(COMMIT, "COMMIT")                                                                \
	X(ROLLBACK, "ROLLBACK")                                                            \
	X(COUNTER_GET, "SELECT reserved FROM counter WHERE name = ?1")                     \
	X(COUNTER_SET, "INSERT INTO counter VALUES (?1, ?2)"                               \
		       " ON CONFLICT (name) DO UPDATE SET reserved = ?2")                  \
	X(COUNTER_RETURN,                                                                  \
		"UPDATE counter SET reserved = ?2 WHERE name = ?1 AND reserved = ?3")      \
	X(TALLY_GET, "SELECT value FROM tally WHERE name = ?1")                            \
	X(TALLY_ADD, "INSERT INTO tally VALUES (?1, ?2)"                                   \
		     " ON CONFLICT (name) DO UPDATE SET value = value + ?2")               \
	X(PATH_ID, "SELECT id FROM path WHERE path = ?1")                                  \
	X(PATH_ADD, "INSERT INTO path (path) VALUES (?1)")                                 \
	X(WRITER_ID, "SELECT id, uid FROM writer WHERE name = ?1")                         \
	X(WRITER_ADD, "INSERT INTO writer (name, uid, first_ns) VALUES (?1, ?2, ?3)")      \
	X(AUTHOR_ID, "SELECT id FROM author WHERE pid = ?3 AND start_ns = ?4"              \
		     " AND writer_id = ?1 AND uid = ?2 AND rule IS ?5 AND command IS ?6")  \
	X(AUTHOR_ADD, "INSERT INTO author (writer_id, uid, pid, start_ns, rule, command)"  \
		      " VALUES (?1, ?2, ?3, ?4, ?5, ?6)")                                  \
	X(CONTENT_FIND, SQL_CONTENT "WHERE hash = ?1 AND size = ?2 AND base_id IS NULL"    \
				    " ORDER BY copy")                                      \
	X(CONTENT_BY_ID, SQL_CONTENT "WHERE id = ?1")                                      \
	X(CONTENT_BASE, "SELECT base_id, size FROM content WHERE id = ?1")                 \
	X(CONTENT_OF_SEQ, "SELECT c.id, c.size, c.base_id, c.segment_id, c.weight, c.hash" \
			  " FROM version v JOIN content c ON c.id = v.content_id"          \
			  " WHERE v.seq = ?1")                                             \
	X(CONTENT_META, "SELECT id, size, base_id, segment_id, weight, hash FROM content"  \
			" WHERE id = ?1")                                                  \
	X(CONTENT_BEFORE, "SELECT content_id FROM version WHERE path_id = ?1"              \
			  " ORDER BY seq DESC, id DESC LIMIT 4")                           \
	X(CONTENT_EXISTS,                                                                  \
		"SELECT * FROM (SELECT id FROM content WHERE hash = ?1 AND size = ?2"      \
		" AND base_id IS NULL ORDER BY copy LIMIT 1)"                              \
		" UNION ALL SELECT id FROM content WHERE base_id IS NOT NULL"              \
		" AND substr(hash, 1, 4) = substr(?1, 1, 4) AND hash = ?1 AND size = ?2"   \
		" LIMIT 1")                                                                \
	X(CONTENT_ADD,                                                                     \
		"INSERT INTO content (hash, size, copy, codec, stored, identity, base_id," \
		" segment_id, weight, ranges, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7,"   \
		" ?8, ?9, ?10, ?11)")                                                      \
	X(SEGMENT_GET, "SELECT codec, size, data FROM segment WHERE id = ?1")              \
	X(SEGMENT_ADD, "INSERT INTO segment (codec, size, data) VALUES (0, ?1, ?2)")       \
	X(SEGMENT_SET, "UPDATE segment SET codec = ?2, data = ?3,"                         \
		       " size = iif(?2 = 0, length(?3), size) WHERE id = ?1")              \
	X(VERSION_ADD,                                                                     \
		"INSERT INTO version (seq, path_id, number, kind, flags, epoch, base,"     \
		" content_id, size, mode, uid, gid, mtime_ns, time_ns, author_id,"         \
		" writer_id, from_id, from_number, set_id) VALUES (?1, ?2, ?3, ?4, ?5,"    \
		" ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)")      \
	X(VERSION_SEQ, "SELECT 1 FROM version WHERE seq = ?1 LIMIT 1")                     \
	X(VERSION_LAST, "SELECT number FROM version WHERE path_id = ?1"                    \
			" ORDER BY number DESC LIMIT 1")                                   \
	X(VERSION_BEFORE, SQL_VERSION "WHERE v.path_id = ?1 AND v.seq < ?2 ORDER BY "      \
				      "v.seq DESC, v.id DESC LIMIT 1")                     \
	X(VERSION_AFTER, SQL_VERSION "WHERE v.path_id = ?1 AND v.seq > ?2 ORDER BY "       \
				     "v.seq, v.id LIMIT 1")                                \
	X(VERSION_NUMBER, SQL_VERSION "WHERE v.path_id = ?1 AND v.number = ?2")            \
	X(VERSION_BY_ID, SQL_VERSION "WHERE v.id = ?1")                                    \
	X(VERSION_NEXT, "SELECT id, seq, number, kind FROM version WHERE path_id = ?1"     \
			" AND (seq, id) < (?2, ?3) AND number <= ?4 AND seq > ?5"          \
			" ORDER BY seq DESC, id DESC LIMIT 1")                             \
	X(VERSION_ANY, "SELECT 1 FROM version WHERE path_id = ?1 AND seq < ?2 LIMIT 1")    \
	X(SEQ_UP_TO, "SELECT seq, time_ns FROM version WHERE seq <= ?1"                    \
		     " ORDER BY seq DESC LIMIT 1")                                         \
	X(SEQ_AFTER, "SELECT seq, time_ns FROM version WHERE seq > ?1"                     \
		     " ORDER BY seq LIMIT 1")                                              \
	X(SEQ_OF_EPOCH, "SELECT max(seq) FROM version WHERE epoch > 0 AND epoch ="         \
			" (SELECT epoch FROM version WHERE epoch > 0 AND epoch <= ?1"      \
			" ORDER BY epoch DESC LIMIT 1)")                                   \
	X(LOG_ALL, SQL_VERSION "WHERE v.seq > ?1 ORDER BY v.seq DESC, v.id DESC")          \
	X(LOG_WRITER, SQL_VERSION "WHERE v.writer_id = ?2 AND v.seq > ?1"                  \
				  " ORDER BY v.seq DESC, v.id DESC")                       \
	X(LOG_BELOW, "SELECT v.seq, v.id FROM path p CROSS JOIN version v"                 \
		     " ON v.path_id = p.id WHERE p.path >= ?1 AND p.path < ?2 AND v.seq "  \
		     "> ?3 AND v.seq < ?4"                                                 \
		     " AND (?5 IS NULL OR v.writer_id = ?5)"                               \
		     " ORDER BY v.seq DESC, v.id DESC LIMIT ?6")                           \
	X(NAMES_NEXT, "SELECT id, path FROM path WHERE path >= ?1 ORDER BY path LIMIT 1")  \
	X(NAMES_BELOW, "SELECT 1 FROM path p WHERE path >= ?1 AND path < ?2"               \
		       " AND EXISTS (SELECT 1 FROM version v WHERE v.path_id = p.id"       \
		       " AND v.seq < ?3) LIMIT 1")                                         \
	X(MOVE_ADD,                                                                        \
		"INSERT INTO folder_move (seq, time_ns, from_path, to_path, author_id,"    \
		" set_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")                                \
	X(MOVE_AFTER, "SELECT seq, from_path, to_path, set_id, time_ns FROM folder_move"   \
		      " WHERE seq > ?1 ORDER BY seq, id")                                  \
	X(SET_OPEN_BY, "SELECT id FROM change_set WHERE state = 1 AND author_id = ?1")     \
	X(SET_OF_TREE, "SELECT 1 FROM change_set WHERE writer_id = ?1"                     \
		       " AND root_pid = ?2 AND root_start_ns = ?3 LIMIT 1")                \
	X(SET_FIND, "SELECT id, last_seq, last_ns FROM change_set WHERE writer_id = ?1"    \
		    " AND root_pid = ?2 AND root_start_ns = ?3 AND state = 0"              \
		    " ORDER BY id DESC LIMIT 1")                                           \
	X(SET_ADD, "INSERT INTO change_set (state, undo_of, what, writer_id, author_id,"   \
		   " root_pid, root_start_ns, first_seq, last_seq, first_ns, last_ns,"     \
		   " n_changes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9, ?9, 0)")   \
	X(SET_GROW, "UPDATE change_set SET last_seq = max(last_seq, ?2),"                  \
		    " last_ns = max(last_ns, ?3), n_changes = n_changes + ?4"              \
		    " WHERE id = ?1")                                                      \
	X(SET_CLOSE, "UPDATE change_set SET state = 4 WHERE state = 0 AND (id = ?1"        \
		     " OR writer_id = ?2 OR writer_id ="                                   \
		     " (SELECT id FROM writer WHERE name = ?3))")                          \
	X(SET_RESUME, "UPDATE change_set SET author_id = ?2 WHERE id = ?1 AND state = 1")  \
	X(SET_END, "UPDATE change_set SET state = ?2 WHERE id = ?1 AND state = 1")         \
	X(SET_BEGUN, "SELECT id FROM change_set WHERE state = 1 AND first_seq = ?1")       \
	X(SET_LIST, SQL_SET "WHERE (?2 IS NULL OR w.name = ?2) AND g.id < ?3"              \
			    " ORDER BY g.id DESC LIMIT ?1")                                \
	X(SET_BY_ID, SQL_SET "WHERE g.id = ?1")                                            \
	X(SET_ALL_OPEN, SQL_SET "WHERE g.state = 1 ORDER BY g.id")                         \
	X(SET_COMMANDS, "SELECT a.command, count(*) FROM version v JOIN author a"          \
			" ON a.id = v.author_id WHERE v.set_id = ?1"                       \
			" AND a.command IS NOT NULL"                                       \
			" GROUP BY a.command ORDER BY min(v.seq) LIMIT ?2")                \
	X(LOG_SET, SQL_VERSION "WHERE v.set_id = ?1 AND v.seq < ?2"                        \
			       " ORDER BY v.seq DESC, v.id DESC")                          \
	X(PIN_LIST, "SELECT name, seq, path, time_ns, writer FROM pin"                     \
		    " ORDER BY name, path")                                                \
	X(PIN_HAS, "SELECT 1 FROM pin WHERE name = ?1 LIMIT 1")                            \
	X(PIN_ADD, "INSERT OR IGNORE INTO pin (name, seq, path, time_ns, writer)"          \
		   " VALUES (?1, ?2, ?3, ?4, ?5)")                                         \
	X(PIN_DROP, "DELETE FROM pin WHERE name = ?1")                                     \
	X(GC_PATH_NEXT, "SELECT id, path FROM path WHERE id > ?1 ORDER BY id LIMIT 1")     \
	X(GC_ROWS, "SELECT v.id, v.seq, v.number, v.kind, v.flags, v.content_id,"          \
		   " v.time_ns, coalesce(max(c.stored, 0), 0) FROM version v"              \
		   " LEFT JOIN content c ON c.id = v.content_id WHERE v.path_id = ?1"      \
		   " AND (v.seq, v.id) < (?2, ?3)"                                         \
		   " ORDER BY v.seq DESC, v.id DESC LIMIT ?4")                             \
	X(GC_MOVES_FROM, "SELECT seq FROM folder_move WHERE from_path = ?1")               \
	X(GC_HELD, "SELECT base, current FROM refusal WHERE path = ?1"                     \
		   " AND content_id IS NOT NULL AND resolved_seq IS NULL")                 \
	X(GC_FLAGS_AFTER, "SELECT flags FROM version WHERE path_id = ?1 AND seq > ?2"      \
			  " ORDER BY seq, id LIMIT 1")                                     \
	X(GC_VERSION_DROP, "DELETE FROM version WHERE id = ?1")                            \
	X(GC_VERSION_FLAG, "UPDATE version SET flags = flags | ?2 WHERE id = ?1")          \
	X(GC_CONTENT, "SELECT hash, size, copy, stored, base_id, segment_id,"              \
		      " data IS NULL AND segment_id IS NULL FROM content WHERE id = ?1")   \
	X(GC_CONTENT_USED, "SELECT 1 FROM version WHERE content_id = ?1"                   \
			   " UNION ALL SELECT 1 FROM refusal WHERE content_id = ?1"        \
			   " UNION ALL SELECT 1 FROM content WHERE base_id = ?1 LIMIT 1")  \
	X(GC_CONTENT_DROP, "DELETE FROM content WHERE id = ?1")                            \
	X(GC_CONTENT_NEXT,                                                                 \
		"SELECT c.id, EXISTS (SELECT 1 FROM version WHERE content_id = c.id)"      \
		" OR EXISTS (SELECT 1 FROM refusal WHERE content_id = c.id)"               \
		" OR EXISTS (SELECT 1 FROM content WHERE base_id = c.id)"                  \
		" FROM content c WHERE c.id > ?1 ORDER BY c.id LIMIT ?2")                  \
	X(GC_SEGMENT_USED, "SELECT 1 FROM content WHERE segment_id = ?1 LIMIT 1")          \
	X(GC_SEGMENT_SAVED, "SELECT size - length(data) FROM segment WHERE id = ?1")       \
	X(GC_SEGMENT_DROP, "DELETE FROM segment WHERE id = ?1")                            \
	X(GC_OBJECT_USED,                                                                  \
		"SELECT 1 FROM content WHERE base_id IS NULL AND hash = ?1 AND copy = ?2"  \
		" AND data IS NULL UNION ALL SELECT 1 FROM content"                        \
		" WHERE base_id IS NOT NULL AND substr(hash, 1, 4) = substr(?1, 1, 4)"     \
		" AND hash = ?1 AND copy = ?2 AND data IS NULL"                            \
		" AND segment_id IS NULL LIMIT 1")                                         \
	X(GC_RESOLVED, "SELECT id, content_id, path, resolved_ns FROM refusal"             \
		       " WHERE resolved_seq IS NOT NULL AND content_id IS NOT NULL"        \
		       " AND id > ?1 ORDER BY id LIMIT ?2")                                \
	X(GC_RESOLVED_DROP, "UPDATE refusal SET content_id = NULL, resolved_seq = NULL,"   \
			    " resolved_ns = NULL, resolved_by = NULL,"                     \
			    " resolved_how = NULL WHERE id = ?1")                          \
	X(GC_EVENTS_DROP, "DELETE FROM event WHERE time_ns < ?1"                           \
			  " AND id < (SELECT max(id) FROM event) AND id IN"                \
			  " (SELECT id FROM event ORDER BY seq, id LIMIT ?2)")             \
	X(GC_REFUSALS_DROP, "DELETE FROM refusal WHERE time_ns < ?1"                       \
			    " AND content_id IS NULL AND id IN (SELECT id FROM refusal"    \
			    " WHERE content_id IS NULL ORDER BY id LIMIT ?2)")             \
	X(MOVE_TO, "SELECT seq, from_path FROM folder_move WHERE to_path = ?1"             \
		   " AND seq < ?2 ORDER BY seq DESC, id DESC LIMIT 1")                     \
	X(MOVE_FROM, "SELECT seq FROM folder_move WHERE from_path = ?1 AND seq < ?2"       \
		     " ORDER BY seq DESC LIMIT 1")                                         \
	X(MOVE_INTO, "SELECT seq, from_path, to_path FROM folder_move"                     \
		     " WHERE to_path >= ?1 AND seq < ?2 ORDER BY to_path")                 \
	X(MOVE_FROM_AFTER, "SELECT seq, to_path FROM folder_move WHERE from_path = ?1"     \
			   " AND seq > ?2 ORDER BY seq, id LIMIT 1")                       \
	X(MOVE_TO_AFTER, "SELECT seq FROM folder_move WHERE to_path = ?1 AND seq > ?2"     \
			 " ORDER BY seq LIMIT 1")                                          \
	X(MOVE_OUT_OF, "SELECT from_path FROM folder_move WHERE from_path >= ?1"           \
		       " ORDER BY from_path")                                              \
	X(MOVE_BETWEEN, "SELECT min(iif(time_ns > ?3, seq, NULL)), max(seq)"               \
			" FROM folder_move WHERE seq > ?1 AND seq < ?2")                   \
	X(EVENT_ADD, "INSERT INTO event (seq, time_ns, kind, path, writer, epoch, number," \
		     " text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")                     \
	X(FEED_FROM, "SELECT coalesce((SELECT min(id) - 1 FROM version WHERE seq > ?1),"   \
		     " (SELECT max(id) FROM version), 0),"                                 \
		     " coalesce((SELECT min(id) - 1 FROM event WHERE seq > ?1),"           \
		     " (SELECT max(id) FROM event), 0),"                                   \
		     " coalesce((SELECT min(id) - 1 FROM folder_move WHERE seq > ?1),"     \
		     " (SELECT max(id) FROM folder_move), 0)")                             \
	X(FEED_VERSIONS, SQL_VERSION "WHERE v.id > ?1 ORDER BY v.id")                      \
	X(FEED_EVENTS, SQL_EVENT "WHERE id > ?1 ORDER BY id")                              \
	X(FEED_MOVES,                                                                      \
		"SELECT m.id, m.seq, m.time_ns, m.from_path, m.to_path, m.set_id,"         \
		" w.name FROM folder_move m LEFT JOIN author a ON a.id = m.author_id"      \
		" LEFT JOIN writer w ON w.id = a.writer_id"                                \
		" WHERE m.id > ?1 ORDER BY m.id")                                          \
	X(EVENT_NEWEST, SQL_EVENT "ORDER BY seq DESC, id DESC LIMIT ?1")                   \
	X(EVENT_NEWEST_BY,                                                                 \
		SQL_EVENT "WHERE writer = ?2 ORDER BY seq DESC, id DESC LIMIT ?1")         \
	X(EVENT_AFTER, SQL_EVENT "WHERE seq > ?2 ORDER BY seq, id LIMIT ?1")               \
	X(EVENT_AFTER_BY,                                                                  \
		SQL_EVENT "WHERE writer = ?3 AND seq > ?2 ORDER BY seq, id LIMIT ?1")      \
	X(REFUSAL_ADD,                                                                     \
		"INSERT INTO refusal (id, seq, time_ns, path, asked, reason, error,"       \
		" author_id, writer_id, base, current, epoch, current_writer, holder,"     \
		" hunks, text, content_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,"    \
		" ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)")                                \
	X(REFUSAL_NEWEST, SQL_REFUSAL "ORDER BY r.id DESC LIMIT ?1")                       \
	X(REFUSAL_NEWEST_BY,                                                               \
		SQL_REFUSAL "WHERE r.writer_id = ?2 ORDER BY r.id DESC LIMIT ?1")          \
	X(REFUSAL_BY_ID, SQL_REFUSAL "WHERE r.id = ?1")                                    \
	X(REFUSAL_RESOLVED, SQL_REFUSAL                                                    \
		"WHERE r.content_id IS NOT NULL AND r.resolved_seq IS NOT NULL"            \
		" ORDER BY r.id DESC LIMIT ?1")                                            \
	X(REFUSAL_CONFLICT,                                                                \
		SQL_REFUSAL "WHERE r.content_id IS NOT NULL AND r.resolved_seq IS NULL"    \
			    " ORDER BY r.id DESC LIMIT ?1")                                \
	X(REFUSAL_RESOLVE, "UPDATE refusal SET resolved_seq = ?2, resolved_ns = ?3,"       \
			   " resolved_by = ?4, resolved_how = ?5 WHERE id = ?1"            \
			   " AND content_id IS NOT NULL AND resolved_seq IS NULL")

#define SQL_ENUM_(name, sql) STMT_##name,
enum stmt_id { SQL_STATEMENTS(SQL_ENUM_) STMT_COUNT };
#undef SQL_ENUM_

#endif
