/*
 * journal.h - what happened: versions, their content, events and refusals.
 *
 * One SQLite database (WAL) and a folder of large contents under the backing's .stomp/.
 * One writer thread commits in groups behind a bounded queue; readers have connections
 * of their own and never wait for a writer. Numbers are given out in memory, at once;
 * rows follow.
 *
 * Thread-safe, all of it, but not across fork(): open after daemonizing. Everything is
 * reached through dirfd, never by a path, so the folder may be mounted over. Call with
 * the daemon's own credentials, not with those borrowed from a caller: files are opened.
 *
 * Calls that may block say so. Errors are -errno; after any of
 * them the journal is as it was. A write that failed behind the caller's back (disk
 * full, I/O error) is kept in the queue and tried again; meanwhile journal_health()
 * says the errno, and the gate refuses changes with it (V7).
 *
 * Paths are bytes relative to the root of the workspace, without a leading slash, never
 * empty; strings handed to callbacks live until the callback returns.
 */
#ifndef STOMP_JOURNAL_JOURNAL_H
#define STOMP_JOURNAL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/hash.h"

struct journal;

/* What tests let go wrong; each may be NULL. A fault answers -errno, or 0. */
struct journal_faults {
	int (*before_commit)(void *ctx);
	int (*before_object)(void *ctx); /* a large content is written to its file */
	int (*gc)(void *ctx);		 /* before each thing that collecting changes */
	struct hash128 (*hash)(struct hash128 real); /* a weak one, to make collisions */
	void *ctx;
};

struct journal_options {
	int dirfd;		   /* the backing's .stomp directory; stays the caller's */
	const struct clock *clock; /* outlives the journal */
	uint64_t max_bytes;	   /* ceiling of what the history takes; 0: none */
	size_t queue_max_bytes;	   /* captured content waiting to be written; 0: 64 MiB */
	const struct journal_faults *faults; /* NULL outside tests; outlives the journal */
};

/* Opens or creates; migrates an older schema; -EPROTO when it is newer than we are. One
 * daemon per folder (intents_open() sees to that); others may open it to read. */
must_check int journal_open(struct journal **out, const struct journal_options *options);

/* Writes what is queued, then frees. While the disk fails, one last try; what is lost
 * then goes to log_error(). NULL does nothing. */
void journal_close(struct journal *j);

/* 0, or the -errno that keeps rows from being written now: -ENOSPC at the ceiling that the
 * options set. What is queued is written all the same. Cheap: atomic reads. */
int journal_health(struct journal *j);

/* Numbers that are never given out twice, also after kill -9 and power loss: a block is
 * reserved durably ahead, so that most calls touch no disk. The first call, and one that
 * outruns the reservation, blocks for a commit; the journal's errno when that fails. */
must_check int journal_next_epoch(struct journal *j, uint64_t *epoch);

/* The order of versions and events across the workspace; 1, 2, 3…, gaps after a crash. */
must_check int journal_next_seq(struct journal *j, uint64_t *seq);
uint64_t journal_last_seq(struct journal *j);

/* ---- versions ---- */

enum version_kind {
	VERSION_INITIAL, /* the state found before the first change (V2); no author */
	VERSION_WRITE,	 /* content changed in place, or the file was created */
	VERSION_REPLACE, /* another file was renamed onto this path */
	VERSION_MOVE,	 /* arrived here by rename from from_path (nothing was here) */
	VERSION_LINK,	 /* another name of from_path */
	VERSION_MODE,	 /* mode or owner changed, content did not */
	VERSION_DELETE,	 /* the path is gone (unlinked, or renamed away) */
	VERSION_SYMLINK, /* content is the target */
	VERSION_MKDIR,
	VERSION_RMDIR,
	VERSION_EXTERNAL, /* changed round the mount, found later */
	VERSION_KINDS
};

enum version_flags {
	VERSION_INCOMPLETE = 1, /* taken at a take-over, a checkpoint or in recovery */
	VERSION_CHECKPOINT = 2, /* the session went on after it */
	VERSION_RECOVERED = 4,	/* written by recovery after a crash of the daemon */
	VERSION_MERGED = 16, /* of two writers: a stale change merged with what was there */
	VERSION_DECISION = 8, /* knowingly put back older content (S5) */
	VERSION_OUTSIDE = 32, /* a DELETE or MODE that happened round the mount */
	VERSION_GAP =
		64, /* versions between the one before and this were collected (gc.h) */
};

/* Who did it, with the evidence (W4). Strings are the caller's. */
struct author {
	const char *name; /* "claude-4312"; NULL for versions without an author */
	uid_t uid;
	pid_t pid;
	int64_t start_ns;    /* of the process, CLOCK_BOOTTIME */
	const char *rule;    /* which rule of W1 matched */
	const char *command; /* command line, for a person; may be NULL */
	/* The process whose tree it is in, 0: not known. For change sets; not in queries.
	 */
	pid_t root_pid;
	int64_t root_start_ns;
};

struct version {
	const char *path;
	size_t path_len;
	uint64_t number; /* 1, 2, 3… per path, given by the caller: last_number + 1 */
	uint64_t seq;	 /* from journal_next_seq() */
	enum version_kind kind;
	uint32_t flags;
	uint64_t epoch;
	uint64_t base_number; /* the version the author built on, 0: none known */
	bool has_content;
	struct hash128 content;
	int64_t content_id; /* which content of that hash; set by queries, 0: whichever */
	uint64_t size;
	mode_t mode;
	uid_t uid; /* of the file */
	gid_t gid;
	int64_t mtime_ns;
	int64_t time_ns; /* wall clock, when it was recorded */
	struct author author;
	const char *from_path; /* MOVE, LINK, REPLACE, DELETE by rename: the other path */
	size_t from_path_len;
	uint64_t from_number;
	uint64_t set_id; /* the change set it is in; set by queries, 0: none */
};

struct patch;

/* Content taken from a file while the gate holds it still; small content in memory,
 * large content as an unnamed copy (reflink where the backing has it) in the store's
 * own folder. With a patch, the bytes are those alone that the content does not share with
 * an earlier version's. */
struct capture {
	struct hash128 hash; /* of the whole content: digest.h */
	uint64_t size;	     /* of the whole content */
	char *data;	     /* small: the bytes, malloc'ed; else NULL */
	int fd;		     /* large: a file of the bytes; else -1 */
	struct patch *patch; /* NULL: the bytes are the whole content */
};

/* A run of bytes of a content. */
struct extent {
	uint64_t at, len;
};

/* What a file held at its last version, and where it may differ from that now (V6). */
struct capture_base {
	uint64_t seq; /* of the version; it may still be queued */
	struct hash128 hash;
	uint64_t size;
	uint64_t keep; /* nothing from here on is as it was; at most size */
	const struct extent
		*extents; /* what else may have changed: below keep, sorted, apart */
	size_t n_extents;
	/* Where size is above DIGEST_FLAT_MAX: the old terms of all blocks that an extent
	 * touches; and if keep is below size, of the block of keep and all after it, too.
	 */
	struct hash128 removed;
};

#define CAPTURE_NONE ((struct capture){.fd = -1})

/* Blocks on disk. Holes stay holes. -ENOSPC, -EIO, -ENOMEM. */
must_check int journal_capture(struct journal *j, int fd, struct capture *out);
must_check int journal_capture_bytes(const void *data, size_t size, struct capture *out);

/* The same for a file of which is known what it was: reads and keeps what changed, or all
 * of it where that is cheaper. */
must_check int journal_capture_change(
	struct journal *j, int fd, const struct capture_base *base, struct capture *out);
bool capture_is_patch(const struct capture *c);
uint64_t capture_bytes(const struct capture *c); /* how many it carries */
void capture_done(struct capture *c);

/* For who has just changed something, with no lock held: wait until the queue has room, in
 * order of arrival (back-pressure). Not while the journal fails. Costs nothing where it has
 * room. Rows may be queued all the same until there are twice as many. */
void journal_await_room(struct journal *j);

/* Queue v; its content moves out of c (NULL: v has none, or content the journal already
 * has under v->content and v->size). Waits while twice as much is queued as should be.
 * -ENOMEM, and then c is still the caller's. A number that the path already has is our
 * own mistake: the row gets the next free one, and log_error() tells of it. */
must_check int journal_append(
	struct journal *j, const struct version *v, struct capture *c);

/* Wait until everything queued up to seq survives kill -9 of this process. -errno when
 * the journal is failing: at once, the rows stay queued. */
must_check int journal_wait(struct journal *j, uint64_t seq);
bool journal_is_written(struct journal *j, uint64_t seq);

/* The same, without waiting for rows whose versions are kept elsewhere until they are
 * written (journal/ring.h): what was there before may be overwritten. */
must_check int journal_keep(struct journal *j, uint64_t seq);
bool journal_is_kept(struct journal *j, uint64_t seq);

/* Rows are written, and on stable storage (for fsync). */
must_check int journal_sync(struct journal *j, uint64_t seq);
bool journal_is_synced(struct journal *j, uint64_t seq);
/* Nobody waits for it, but it is to be so soon. */
void journal_sync_soon(struct journal *j, uint64_t seq);

/* A query's result; strings live in text. */
struct version_row {
	struct version v;
	char *text;
	/* journal_head() alone, also when it finds none: the greatest number this path ever
	 * had, or was found to go on from under another name. The next version is one more:
	 * a path whose folder was renamed away, then made anew, does not begin at 1. */
	uint64_t last_number;
	/* The same: of the version before the one that made the content; 0: none. */
	int64_t previous_mtime_ns;
};

void version_row_done(struct version_row *row);

/* The newest version of a path, looking through directory renames: 1 found, 0 none (or
 * what was here left with its folder). Rows still queued are not seen: the caller has
 * those in memory; renames of folders are (waits up to 200 ms for those in the queue,
 * then the journal's errno). */
must_check int journal_head(
	struct journal *j, const char *path, size_t len, struct version_row *row);

/* False: no version of the path was ever queued, here or under another name; without asking
 * the disk. True says nothing. */
bool journal_may_have(struct journal *j, const char *path, size_t len);

/* 1 or 0. Also under the name a path had before its folder was renamed, or has now. */
must_check int journal_version(struct journal *j, const char *path, size_t len,
	uint64_t number, struct version_row *row);

/* The newest version of the path with seq at most max_seq: 1 or 0; also 0 where it may have
 * been another that was collected (gc.h). */
must_check int journal_version_at(struct journal *j, const char *path, size_t len,
	uint64_t max_seq, struct version_row *row);

/* Called per row; non-zero ends the walk and is returned. */
typedef int version_fn(const struct version *v, void *ctx);

/* follow goes through renames of folders and through from_path: of a MOVE and a LINK all
 * of the other name's history up to there, of a REPLACE (save by rename) what the
 * temporary held since it was last created. */
struct log_filter {
	const char *path; /* NULL: all */
	size_t path_len;
	bool follow;	    /* with path: also the history it had under other names */
	bool below;	    /* with path: everything below this folder */
	const char *writer; /* NULL: all */
	uint64_t after_seq; /* 0: from the beginning */
	uint64_t limit;	    /* 0: no limit */
};

/* Newest first. */
must_check int journal_log(
	struct journal *j, const struct log_filter *filter, version_fn *fn, void *ctx);

/* The names directly below a folder ("" for the root), sorted as bytes; is_file: has
 * versions itself (a folder's own mkdir counts too); is_folder: has something with
 * history below it, also from before a rename of the folder. */
typedef int name_fn(const char *name, size_t len, bool is_file, bool is_folder, void *ctx);
must_check int journal_names(
	struct journal *j, const char *folder, size_t len, name_fn *fn, void *ctx);

/* ---- the tree at a moment of the past: a seq, everything up to which had happened ---- */

enum past_answer {
	PAST_ABSENT = 0, /* nothing was there */
	PAST_VERSION =
		1, /* what row tells of, with its mode and, unless a folder, content */
	PAST_UNCHANGED = 2, /* nothing was recorded of it, then or later: if there is
			       anything at its path of today, that is what was there */
};

struct past {
	struct version_row row; /* PAST_VERSION alone */
	char *now; /* PAST_UNCHANGED alone: the path of today, NUL-terminated */
	size_t now_len;
};

void past_done(struct past *past);

/* What was at the path at the moment: an enum past_answer, or -errno. A path's newest
 * version up to then; where there is none, its INITIAL one of later (V2), or that its
 * folder was removed later; renames of folders are looked through in both directions.
 * Rows still queued are written first where that may matter (200 ms at most). */
must_check int journal_past(
	struct journal *j, const char *path, size_t len, uint64_t seq, struct past *past);

/* The path of today of what was at that path at the moment: renames of folders and of the
 * file itself since then are followed. 1: if there is anything, it is that; 0: another
 * folder has taken its place since. malloc'ed. */
must_check int journal_past_path(struct journal *j, const char *path, size_t len,
	uint64_t seq, char **now, size_t *now_len);

/* Names that a folder ("" for the root) may have held at the moment: each that the journal
 * ever heard of there, sorted as bytes. journal_past() tells which of them were there. */
must_check int journal_past_names(struct journal *j, const char *folder, size_t len,
	uint64_t seq, name_fn *fn, void *ctx);

/* The moment of a wall clock's time: after all that was recorded up to then and before
 * what was recorded later. Where the clock was set back, one of those that bear that time.
 * A look-up, whatever the length of the history. */
must_check int journal_seq_at_time(struct journal *j, int64_t wall_ns, uint64_t *seq);

/* The moment of an epoch: just after the last version that was made under it, or under the
 * greatest epoch below it that made one; 0 (before everything) where there is none. */
must_check int journal_seq_at_epoch(struct journal *j, uint64_t epoch, uint64_t *seq);

/* The content of a version, readable at any offset; -ENOENT when it has none. An fd
 * for pread alone (it may be the store's own file), the caller's to close. A damaged
 * content is -EIO: all of it is read and checked before this returns. */
must_check int journal_content(
	struct journal *j, struct hash128 content, uint64_t size, int *fd);

/* The same by v->content_id: the right one also among several contents of one hash. */
must_check int journal_version_content(struct journal *j, const struct version *v, int *fd);

/* True when the journal holds this content (or has it queued). */
bool journal_has_content(struct journal *j, struct hash128 content, uint64_t size);

/* ---- folders renamed ---- */

/* Everything below from is below to from now on; journal_head() and the logs follow. The
 * versions of the folder's own path are the caller's to append, as for a file. An exchange
 * of two folders is two calls with the same seq. */
must_check int journal_rename_folder(struct journal *j, uint64_t seq, const char *from,
	size_t from_len, const char *to, size_t to_len, const struct author *author);

/* ---- change sets ---- */

/*
 * What one writer changed in one process tree without a pause longer than
 * SET_PAUSE_S is a change set. The writer's thread gives every version (and renamed
 * folder) its set as the row is written, so a set's id never changes. One that is begun
 * by name takes all that one process changes until it ends; so far that is an undo.
 */
enum { SET_PAUSE_S = 180 };

enum set_state {
	SET_PLAIN,  /* came about by itself */
	SET_OPEN,   /* an undo that has not ended; or its process was killed */
	SET_DONE,   /* an undo */
	SET_BACK,   /* an undo that was taken back: in sum it changed nothing */
	SET_CLOSED, /* plain, and nothing comes to it any more: it was undone */
};

struct change_set {
	uint64_t id; /* 1, 2, 3… */
	enum set_state state;
	uint64_t undo_of; /* another set; 0: none, or of more than one */
	const char *what; /* of an undo: what was to be undone, as was said at its begin */
	struct author author; /* of its first change, or who has begun or resumed it */
	uint64_t first_seq, last_seq;
	int64_t first_ns, last_ns;
	uint64_t n_changes;
	/* Counted in the rows that are left; set by queries. */
	uint64_t n_files;
};

/* Begin a set that takes what this author's process changes from now on. Nothing more
 * comes to the set it undoes, to those of undo_writer (NULL: nobody) and the author's own.
 * Waits for the commit; the journal's errno. */
must_check int journal_set_begin(struct journal *j, const struct author *author,
	uint64_t undo_of, const char *undo_writer, const char *what, uint64_t *id);

/* The same for a set that is SET_OPEN already, after its process was killed. -ENOENT. */
must_check int journal_set_resume(
	struct journal *j, uint64_t id, const struct author *author);

/* It ends; state: SET_DONE or SET_BACK. What was queued before is in it. -ENOENT when it is
 * not SET_OPEN. Waits for the commit. */
must_check int journal_set_end(struct journal *j, uint64_t id, enum set_state state);

typedef int set_fn(const struct change_set *set, void *ctx);

/* Newest first. id 0: all; writer NULL: everybody's; limit 0: no limit. Sees what is
 * queued, as journal_log() does. */
must_check int journal_sets(struct journal *j, uint64_t id, const char *writer,
	uint64_t limit, set_fn *fn, void *ctx);

/* Those that are SET_OPEN, oldest first: costs those alone, and waits for nothing. */
must_check int journal_sets_open(struct journal *j, set_fn *fn, void *ctx);

/* Those with a lower id, newest first. */
must_check int journal_sets_before(
	struct journal *j, uint64_t id, uint64_t limit, set_fn *fn, void *ctx);

/* The versions of a set with a seq below that (UINT64_MAX: all), newest first. */
must_check int journal_set_log(
	struct journal *j, uint64_t id, uint64_t before_seq, version_fn *fn, void *ctx);

/* The command lines behind a set, in order of their first change, at most limit. */
typedef int command_fn(const char *command, uint64_t n_changes, void *ctx);
must_check int journal_set_commands(
	struct journal *j, uint64_t id, uint64_t limit, command_fn *fn, void *ctx);

/* Folders renamed after seq, oldest first, and in which set (0: none). Strings are not
 * NUL-terminated. */
typedef int move_fn(uint64_t seq, uint64_t set_id, int64_t time_ns, const char *from,
	size_t from_len, const char *to, size_t to_len, void *ctx);
must_check int journal_moves(struct journal *j, uint64_t after_seq, move_fn *fn, void *ctx);

/* ---- events and refusals ---- */

struct event {
	uint64_t seq;
	int64_t time_ns;
	const char *kind; /* "grant", "takeover", "release", "break", "refuse", "wait",
			     "version", "mount", "unmount", "recover", … */
	const char *path; /* may be NULL */
	size_t path_len;
	const char *writer; /* may be NULL */
	uint64_t epoch;
	uint64_t number;  /* version or refusal number, 0: none */
	const char *text; /* one line for a person; may be NULL */
};

/* Waits while the queue is full, but not for a journal that is failing: its errno then,
 * and the event is lost. The same goes for journal_refuse(). */
must_check int journal_event(struct journal *j, const struct event *e);

typedef int event_fn(const struct event *e, void *ctx);

/* Newest first when after_seq is 0, else oldest first from after_seq on. */
must_check int journal_events(struct journal *j, uint64_t after_seq, uint64_t limit,
	const char *writer, event_fn *fn, void *ctx);

struct refusal {
	uint64_t id; /* 1, 2, 3…, given by journal_next_refusal() */
	uint64_t seq;
	int64_t time_ns;
	const char *path;
	size_t path_len;
	const char *asked;  /* "open", "write", "rename", "unlink", … */
	const char *reason; /* "held", "stale", "fenced", "deadlock", "frozen", "journal" */
	int error;	    /* the positive errno the caller saw */
	struct author author;
	uint64_t base_number, current_number;
	uint64_t epoch;		    /* of the current lease, 0: none */
	const char *current_writer; /* who made the current version; may be NULL */
	const char *holder;	    /* who holds the lease; may be NULL */
	const char *hunks;	    /* "lines 10-12"; may be NULL */
	const char *text;	    /* the whole message, several lines */
	bool kept;		    /* refused bytes are kept as content/size */
	struct hash128 content;
	uint64_t size;
	int64_t content_id; /* as in struct version */
	/* Set by queries; conflicts alone. */
	uint64_t resolved_seq; /* 0: not resolved */
	int64_t resolved_ns;
	const char *resolved_by, *resolved_how; /* "ours", "theirs", "merged", "file" */
};

must_check int journal_next_refusal(struct journal *j, uint64_t *id);

/* c: the refused bytes where any arrived (they move out of c), or NULL. */
must_check int journal_refuse(
	struct journal *j, const struct refusal *r, struct capture *c);
must_check int journal_refusal_content(struct journal *j, const struct refusal *r, int *fd);

typedef int refusal_fn(const struct refusal *r, void *ctx);

/* Newest first; writer NULL: everybody's. Rows still queued are written first, waiting
 * at most 200 ms for it. The same goes for journal_log() and journal_events(). */
must_check int journal_refusals(
	struct journal *j, const char *writer, uint64_t limit, refusal_fn *fn, void *ctx);

/* fn's answer, or -ENOENT. */
must_check int journal_refusal(struct journal *j, uint64_t id, refusal_fn *fn, void *ctx);

/* ---- all of it as it is written ---- */

/* Behind a row: what was written later is behind it in each of the tables. */
struct feed_place {
	uint64_t version, event, move; /* ids of rows */
};

struct feed_move {
	const char *from, *to; /* a folder was renamed */
	size_t from_len, to_len;
	int64_t time_ns;
	uint64_t set_id;
	const char *writer; /* or NULL */
};

struct feed_row {
	uint64_t seq;
	const struct version *version; /* one of these, the others are NULL */
	const struct event *event;     /* each refusal has one, "refuse" */
	const struct feed_move *move;
};

/* at: just behind that row. */
typedef int feed_fn(const struct feed_row *row, const struct feed_place *at, void *ctx);

/* The place that no row of a greater seq is before. INT64_MAX: behind all. */
must_check int journal_feed_from(
	struct journal *j, uint64_t after_seq, struct feed_place *at);

/* What is written and behind the place, which moves along; what fn returns once that is not
 * 0. Of a batch oldest first; what is written late comes late, with a lesser seq. */
must_check int journal_feed(
	struct journal *j, struct feed_place *at, feed_fn *fn, void *ctx);

/* Called by the thread that writes, with the journal's lock held, once rows were committed:
 * only to wake somebody. NULL: nobody any more, also when this has returned. */
typedef void commit_fn(void *ctx);
void journal_on_commit(struct journal *j, commit_fn *fn, void *ctx);

/* ---- conflicts: refusals whose bytes were kept, until they are resolved ---- */

enum conflict_set { CONFLICTS_UNRESOLVED, CONFLICTS_RESOLVED };

/* As journal_refusals(). What is unresolved is never collected (V9). */
must_check int journal_conflicts(struct journal *j, enum conflict_set set, uint64_t limit,
	refusal_fn *fn, void *ctx);

struct resolution {
	uint64_t id, seq; /* of the refusal; from journal_next_seq() */
	int64_t time_ns;
	const char *by, *how; /* a writer; "ours", "theirs", "merged", "file" */
};

enum resolve_answer {
	RESOLVE_DONE = 0,
	RESOLVE_NONE = 1,  /* no bytes were kept under that id */
	RESOLVE_AGAIN = 2, /* it was resolved before */
};

/* Mark a conflict resolved, once; durable as versions are when this returns (it waits for
 * the commit). -errno of a failing journal: it is marked once that works again, or not. */
must_check int journal_resolve(struct journal *j, const struct resolution *r);

/* ---- figures for status and metrics ---- */

struct journal_figures {
	uint64_t versions, contents, content_bytes, stored_bytes, refusals;
	uint64_t conflicts; /* unresolved */
	uint64_t queued, queued_bytes, commits, commit_ns_total, backpressure_waits;
	uint64_t waiting; /* for room in the queue, now */
	uint64_t database_bytes;
	/* used: by rows and object files, without room that is free for new ones */
	uint64_t used_bytes, max_bytes;
	int health;
};

void journal_figures(struct journal *j, struct journal_figures *f);

/* True when the name was ever an author in this workspace, and then its uid (of its first
 * row; uid may be NULL). Sees queued rows. */
bool journal_knows_writer(struct journal *j, const char *name, uid_t *uid);

/* Did the process tree with that root make changes as this writer? Written rows only. */
bool journal_knows_process(
	struct journal *j, const char *name, pid_t root_pid, int64_t root_start_ns);

#endif
