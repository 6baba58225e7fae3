/*
 * vtree_internal.h - the parts of the virtual folder among themselves.
 *
 *   vtree.c          nodes and names: lookup, forget, attributes
 *   vtree_dir.c      opendir, readdir
 *   vtree_handle.c   open, read, write, release
 *   vtree_history.c, vtree_conflicts.c   what those folders hold
 *   vtree_at.c, vtree_at_list.c   at/: the tree as it was
 *   vtree_events.c           events/: everything as it happens
 *   vtree_since.c            since/: what changed after a moment
 *   vtree_conflicts_text.c   conflicts as documents
 *   vtree_sets.c             change sets, and the commands of an undo
 *   vtree_incidents.c        many refusals of one process as one
 *   vtree_ctl*.c     the commands
 *   vtree_render*.c, vtree_log.c, vtree_metrics.c, vtree_text_readme.c   the documents
 *   vtree_text.c     columns, sizes, JSON
 */
#ifndef STOMP_FS_VTREE_INTERNAL_H
#define STOMP_FS_VTREE_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/moment.h"
#include "base/table.h"
#include "fs/vtree.h"
#include "fs/workspace.h"

enum {
	VTREE_DOCUMENT_MAX = 16 << 20, /* bytes of one document or directory listing */
	VTREE_TEXT_TOTAL = 256 << 20,  /* of all that are open */
	VTREE_HANDLES_MAX = 4096,
	VTREE_SHARES = 64,	/* users are counted by their uid modulo this */
	VTREE_SHARE = 4,	/* one of them, other than root, may have a quarter */
	VTREE_ROWS_MAX = 10000, /* of one table */
	VTREE_LOG_ROWS = 200,
	VTREE_WHY_ROWS = 50,
	VTREE_PATH_MAX = 1 << 15,
	VTREE_MERGE_MAX = 4 << 20, /* bytes of each side of a conflict that is merged */
};

enum vkind {
	V_TOP,
	V_DOCUMENT, /* number: which of the top's documents */
	V_CTL,
	V_HISTORY, /* path: a folder or a path with versions; "" is history/ itself */
	V_VERSION, /* path, number: content */
	V_VERSIONS,
	V_VERSIONS_JSON,
	V_CONFLICTS,
	V_CONFLICT,	 /* number: id of the refusal; the same below */
	V_CONFLICT_INFO, /* path: the file it is about; the same below */
	V_CONFLICT_INFO_JSON,
	V_CONFLICT_BASE,
	V_CONFLICT_OURS,
	V_CONFLICT_THEIRS,
	V_CONFLICT_MERGED,
	V_AT,
	V_AT_FOLDER, /* number: the moment, a seq; path: in the tree of then; as all of at/
		      */
	V_AT_FILE,
	V_AT_LINK,
	V_SINCE,
	V_SINCE_TEXT, /* number: the moment; path: the word, "last" alone is remembered */
	V_SINCE_JSON,
	V_SETS,
	V_SETS_LOG,
	V_SETS_LOG_JSON,
	V_SETS_NEW_JSON,
	V_SET, /* number: id of the change set; the same below */
	V_SET_JSON,
	V_EVENTS,
	V_EVENTS_TEXT, /* path: from where on */
	V_EVENTS_JSON,
};

/* What is stored rather than made: where it lies and what stat tells of it. */
struct vfile {
	struct hash128 content;
	int64_t content_id;
	uint64_t size;
	mode_t mode; /* permission bits alone */
	uid_t uid;
	gid_t gid;
	int64_t mtime_ns;
};

/* Above this a content may have holes. */
#define VFILE_HOLES_FROM ((uint64_t)1 << 20)

/* How many it takes is known only once it is opened. Of a large one a block less is told
 * than its size would fill, upon which cp and tar ask for the holes that they would else
 * read and write (V6). */
static inline blkcnt_t vfile_blocks(const struct vfile *f)
{
	return f->size < VFILE_HOLES_FROM ? (blkcnt_t)((f->size + 511) / 512)
					  : (blkcnt_t)(f->size / 512 - 1);
}

/* A node that was looked up: the key and, for what is stored, the file. */
struct vspec {
	enum vkind kind;
	uint64_t number;
	struct buf path;
	struct vfile file;
	double timeout_s; /* how long the kernel may keep it */
};

struct vnode {
	struct table_node by_key; /* vtree.lock */
	uint64_t nlookup;	  /* vtree.lock */
	enum vkind kind;
	uint64_t number;
	struct vfile file;
	size_t path_len;
	char path[]; /* NUL-terminated */
};

struct vtree {
	struct workspace *ws;
	uid_t uid;
	gid_t gid;
	uint32_t n_handles;  /* atomic */
	uint64_t text_bytes; /* atomic: held by open handles */
	struct {
		uint32_t handles; /* atomics: of the users of that share */
		uint64_t text_bytes;
	} shares[VTREE_SHARES];
	pthread_mutex_t lock; /* a leaf */
	struct table nodes;
	struct since_looks *looks; /* since/last; lock */
};

struct vhandle {
	struct vtree *vtree;
	const struct vnode *node; /* the kernel keeps it while the handle is open */
	struct process *by;	  /* counted: who opened it (W3) */
	struct buf text;	  /* the document, the listing, or the answer of ctl */
	size_t counted;		  /* of text, in vtree.text_bytes; set at open */
	uid_t uid;		  /* who opened it, and whose share it takes */
	size_t answered;	  /* ctl: how much of text was read; lock */
	int fd;			  /* stored content, or -1; at/: lock */
	struct feed *feed;	  /* events/ alone, else NULL */
	bool live;		  /* at/: fd is the file of today, unchanged since; lock */
	uint64_t checked_seq;	  /* at/: up to there that is known to be so; lock */
	pthread_mutex_t lock;	  /* ctl: text and answered */
};

/* Who reads what: all a document may depend on. */
struct vreader {
	struct workspace *ws;
	const struct vnode *node;
	const struct process *by;
};

typedef void vrender_fn(const struct vreader *r, struct buf *out);

vrender_fn vdoc_fsck, vdoc_fsck_json;
vrender_fn vdoc_gc, vdoc_gc_json, vdoc_pins, vdoc_pins_json; /* vtree_pins.c */

static inline struct vnode *vnode_of(fuse_ino_t id)
{
	return (struct vnode *)(uintptr_t)(ID_OF_GENERATION(id) & ~(fuse_ino_t)1);
}

static inline struct vhandle *vhandle_of(const struct fuse_file_info *fi)
{
	return (struct vhandle *)(uintptr_t)fi->fh;
}

bool vkind_is_folder(enum vkind kind);
uint64_t vnode_ino(enum vkind kind, uint64_t number, const char *path, size_t len);

/* What name is in a folder. 0, -ENOENT, -ENOTDIR, -errno; out->path is the caller's, also
 * then, and may have failed. */
must_check int vtree_resolve(struct workspace *ws, const struct vnode *parent,
	const char *name, struct vspec *out);

/* The names at the top: i from 0 until NULL. */
const char *vtree_top_name(unsigned i, enum vkind *kind);
/* NULL when the node is no made document. */
vrender_fn *vtree_renderer(const struct vnode *node);

/* ---- handles ---- */

/* A new handle on id, by the caller of req; -ENFILE, -ENOMEM. */
must_check int vhandle_new(fuse_req_t req, fuse_ino_t id, struct vhandle **out);
struct vhandle *vhandle_free(struct vhandle *h);
/* Counts h->text; -ENOMEM when there is too much open, or making it failed. */
must_check int vhandle_count_text(struct vhandle *h);

/* ---- history and conflicts: 0, -ENOENT, -errno ---- */

must_check int history_resolve(struct workspace *ws, const struct vnode *parent,
	const char *name, struct vspec *out);
must_check int conflicts_resolve(struct workspace *ws, const struct vnode *parent,
	const char *name, struct vspec *out);

/* Adds one name to a listing; false: it is full. */
typedef bool vlist_fn(
	void *ctx, const char *name, size_t len, enum vkind kind, uint64_t number);
must_check int history_list(
	struct workspace *ws, const struct vnode *node, vlist_fn *add, void *ctx);
must_check int conflicts_list(
	struct workspace *ws, const struct vnode *node, vlist_fn *add, void *ctx);
must_check int sets_resolve(struct workspace *ws, const char *name, struct vspec *out);
must_check int sets_list(struct workspace *ws, vlist_fn *add, void *ctx);
/* Undos whose process is gone and which nobody has taken back: how many, 0 also where that
 * cannot be read now. text: what a line of status says of them; json: objects of a list.
 * Either may be NULL. */
unsigned sets_interrupted(struct workspace *ws, struct buf *text, struct buf *json);

/* ctl: the begin, the resuming and the end of an undo, which is a change set. */
struct ctl_command;
must_check int sets_execute(struct workspace *ws, struct process *by,
	const struct ctl_command *cmd, struct buf *answer, struct buf *why);

/* ctl: pin, unpin, moment. */
must_check int pins_execute(struct workspace *ws, struct process *by,
	const struct ctl_command *cmd, struct buf *answer, struct buf *why);

/* conflicts/ID/merged: base and theirs merged into what the path holds now, of which by
 * is taken to know (S5). -ENOENT where they do not fit together. */
must_check int conflicts_merge(struct workspace *ws, const struct vnode *node,
	struct process *by, struct buf *out);
/* Whether there is such a merge, without anybody having looked, and into which version:
 * 1, 0, -errno. */
must_check int conflicts_can_merge(
	struct workspace *ws, const struct refusal *refusal, uint64_t *into);

/* ctl: mark a conflict resolved by its writer, the same user or root. */
must_check int conflicts_settle(struct workspace *ws, struct process *by, uint64_t id,
	const char *how, struct buf *answer, struct buf *why);

void vfile_of_version(struct vfile *f, const struct version *v);

/* An fd for pread of what a V_VERSION or V_CONFLICT_* file stores. */
must_check int history_open(
	struct workspace *ws, const struct vnode *node, struct process *by, int *fd);

/* Owner and mode of a folder of history: those of the folder it tells of, so that what
 * is out of somebody's reach there stays so here. */
void history_folder_stat(struct workspace *ws, const struct vnode *node, struct stat *st);

/* ---- at/ ---- */

/* The place of an inode of the folder's child; for listings. */
uint64_t vnode_child_ino(
	enum vkind kind, const struct vnode *folder, const char *name, size_t len);

/* Whether the caller may do that (R_OK, X_OK) with what a node of at/ has become: out of
 * reach now is out of reach then. 0, -EACCES, -errno. */
/* May the caller do that with what is at the path now, as the backing tells (its ACLs
 * too)? -EACCES; 0 also where nothing is there. */
must_check int live_access(fuse_req_t req, const char *path, int access_mode); /* -ENOENT */
must_check int live_permits(fuse_req_t req, const char *path, int access_mode);
must_check int at_permits(fuse_req_t req, const struct vnode *node, int access_mode);

/* A moment below at/, a name below a folder of a moment. 0, -ENOENT, -errno. */
must_check int at_resolve(struct workspace *ws, const struct vnode *parent,
	const char *name, struct vspec *out);
/* The same by path: kind, file and timeout of out are set, its path is not. */
must_check int at_find(struct workspace *ws, uint64_t seq, const char *path, size_t len,
	struct vspec *out);
void at_stat(enum vkind kind, const struct vfile *file, struct stat *st);
must_check int at_list(
	struct workspace *ws, const struct vnode *node, vlist_fn *add, void *ctx);
must_check int at_open(struct vhandle *h, struct fuse_file_info *fi);
void at_read(fuse_req_t req, struct vhandle *h, size_t size, off_t offset);
/* SEEK_DATA and SEEK_HOLE; -errno. */
off_t at_lseek(struct vhandle *h, off_t offset, int whence);
must_check int at_readlink(struct workspace *ws, const struct vnode *node, struct buf *out);
/* The seq of a moment; -ENOENT: it is yet to come. */
must_check int vtree_moment_seq(
	struct workspace *ws, const struct moment *m, uint64_t *seq);

/* A name of today opened below the root, with no symlink on the way; an fd or -errno. */
must_check int at_open_live(struct workspace *ws, const char *path, int flags);
/* Where a node of a moment is today, as journal_past_path(); malloc'ed. */
must_check int at_path_of_today(
	struct workspace *ws, const struct vnode *node, char **path, size_t *len);
/* Being created at this moment: there is no version of it yet. */
bool at_is_new(struct workspace *ws, const struct stat *st);

/* ---- since/ ---- */

must_check int since_resolve(struct workspace *ws, const char *name, struct vspec *out);
vrender_fn vdoc_since, vdoc_since_json;
/* Who looked at since/last and when; NULL does nothing. */
struct since_looks *since_looks_free(struct since_looks *looks);

/* ---- events/ ---- */

must_check int events_resolve(const char *name, struct vspec *out);
/* A reader of its own. -ENFILE: there are too many. */
must_check int events_open(struct vhandle *h, struct fuse_file_info *fi);
/* Answers at once, or when something happens, or the reader is interrupted. */
void events_read(fuse_req_t req, struct vhandle *h, size_t size, bool wait);
void events_close(struct vhandle *h);

/* ---- documents ---- */

vrender_fn vdoc_readme, vdoc_status, vdoc_status_json, vdoc_me, vdoc_me_json, vdoc_why,
	vdoc_why_json, vdoc_writers, vdoc_writers_json, vdoc_leases, vdoc_leases_json,
	vdoc_log, vdoc_log_json, vdoc_refusals_json, vdoc_policy, vdoc_metrics,
	vdoc_versions, vdoc_versions_json, vdoc_conflict_info, vdoc_conflict_info_json,
	vdoc_conflicts_json, vdoc_conflicts_ndjson, vdoc_sets, vdoc_sets_json,
	vdoc_sets_new_json, vdoc_set, vdoc_set_json;

/* Folders that were renamed: what lay below them has another name now. */
struct vmoves {
	struct buf text, rows;
};

/* Those after seq. -E2BIG: too many. */
must_check int vmoves_load(struct workspace *ws, uint64_t after_seq, struct vmoves *m);
void vmoves_done(struct vmoves *m);
/* "now": what the path of v is called by now, where it is not what it was; "from_now": the
 * same of its other path. */
void json_now(struct buf *b, const struct vmoves *m, const struct version *v);

/* Versions as lines of a log: add them in any order, then print the newest max. */
struct vlines {
	struct buf text, index;
	unsigned n;
};

int vlines_add_version(const struct version *v, void *lines); /* a version_fn */
void vlines_print(struct vlines *lines, unsigned max, struct buf *out);

/* A version as JSON, without the brace at its end. */
void json_version(struct buf *b, const struct version *v);

/* "ok", or a sentence that says what is wrong and what to do. */
void vdoc_health(const struct journal_figures *figures, struct buf *out);
/* The identity also knows writers by their work in earlier mounts, and two that may
 * never come: `unknown` and the daemon itself. */
bool vdoc_was_here(const struct writer *w, uint32_t n_processes);
unsigned vdoc_count_writers(struct workspace *ws);
/* The reader's newest refusals: from memory, else from the journal; how many. */
int vdoc_own_refusals(const struct vreader *r, refusal_fn *fn, void *ctx);

/* Refusals as the log tells them: those that one program of one writer met in one go over
 * several files are one, the others stand alone (n_files 1). Newest first by their first
 * appearance, the newest VTREE_LOG_ROWS. -errno. */
struct incident_file {
	const char *path;
	size_t len;
};

struct incident {
	uint64_t seq;	 /* of the newest, as time_ns, asked, reason, because */
	int64_t time_ns; /* wall clock */
	const char *writer, *command, *asked, *reason, *because; /* each may be NULL */
	pid_t pid;
	uint64_t first_id, last_id; /* refusals, oldest and newest */
	unsigned n_refusals, n_files;
	const struct incident_file *files; /* sorted, each once */
};

typedef void incident_fn(const struct incident *i, void *ctx);
must_check int incidents_each(struct workspace *ws, incident_fn *fn, void *ctx);
/* "incident: git checkout . (claude-4312) was refused 37 files: a.c, b.c, …" */
void put_incident(struct buf *b, const struct incident *i);

const char *version_kind_name(enum version_kind kind);
/* Calls nothing twice: i from 0 until NULL; bit is set to the flag. */
const char *version_flag_name(unsigned i, uint32_t *bit);
/* "ESTALE" for a positive errno; "E116" where it has no name. */
void put_errno_name(struct buf *b, int error);

/* Text with a tab between cells and a newline after each row (the first is the heading),
 * as aligned columns. Cells hold neither: see buf_put_name(). */
void put_columns(struct buf *out, const struct buf *rows);
/* A name, at most width characters wide; the beginning is left out if need be. */
void put_clipped(struct buf *out, const char *name, size_t size, unsigned width);
/* "123", "45 KiB", "6.7 GiB". */
void put_size(struct buf *out, uint64_t bytes);

/* JSON: a comma where one is due, then the key; then the value. */
void json_next(struct buf *b);
void json_key(struct buf *b, const char *key);
void json_string(struct buf *b, const char *key, const char *value); /* NULL: null */
void json_bytes(struct buf *b, const char *key, const char *value, size_t size);
/* A path as one word of ctl, for names that JSON cannot hold. */
void json_word(struct buf *b, const char *key, const char *path, size_t size);
/* A path, and where it is no plain word also as one: JSON cannot hold every name. */
void json_path(
	struct buf *b, const char *key, const char *word_key, const char *path, size_t len);
void json_number(struct buf *b, const char *key, uint64_t value);
void json_signed(struct buf *b, const char *key, int64_t value);
void json_bool(struct buf *b, const char *key, bool value);
void json_time(struct buf *b, const char *key, int64_t wall_ns);

/* An array of rows, bounded (the rest is told by "truncated": true). */
struct json_rows {
	struct buf *out;
	const struct process *reader; /* of rows that do not tell everybody everything */
	unsigned n;
	bool truncated;
};

/* "text" of a refusal: it quotes the file and what was refused, which is for the user that
 * was refused, root, and who runs the daemon; others get its first line. reader: NULL
 * where the folder lets in nobody else. */
void json_refusal_text(
	struct buf *b, const struct refusal *r, const struct process *reader);

void json_rows_begin(struct json_rows *rows, struct buf *out, const char *key);
/* False: no more rows; else write one object. */
bool json_rows_next(struct json_rows *rows);
void json_rows_end(struct json_rows *rows);

/* ---- ctl ---- */

/* Carry out one line for by; 0 or -errno, and the answer in either case. */
must_check int ctl_execute(fuse_req_t req, struct process *by, const char *line,
	size_t size, struct buf *answer);
/* What can be written, for whoever reads ctl without having written. */
const char *ctl_usage(void);

struct lease_row;
void json_lease(struct buf *b, const struct lease_row *row);

#endif
