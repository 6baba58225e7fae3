/*
 * session.h - write sessions: from a writer's first change to its version (V1–V4).
 *
 * All calls with the file's lock held. They may block on disk. -errno as the journal's.
 */
#ifndef STOMP_FS_SESSION_H
#define STOMP_FS_SESSION_H

#include <sys/stat.h>

#include "fs/file.h"
#include "fs/gate.h"

/* Before the first byte changes: wait until earlier versions are kept, record what
 * was there (V2), note the intent. Joins the open session of the same writer. */
must_check int session_begin(struct workspace *ws, struct change *c);

/* One version if anything changed since the last (V1); the session goes on. flags: enum
 * version_flags. */
must_check int session_checkpoint(struct workspace *ws, struct file *f, uint32_t flags);

/* The same, and the session ends. */
must_check int session_finish(struct workspace *ws, struct file *f, uint32_t flags);

/* All that was written so far was closed by its writer, through fd: a crash from now on
 * finds it whole. True where the kernel is being told of another mtime (S12): the closer is
 * answered once it knows. */
bool session_mark_closed(struct workspace *ws, struct file *f, int fd);
/* More is about to change, or its times are. Before each change of an open session. */
void session_mark_open(struct workspace *ws, struct file *f);

/* V6: what is about to change in the file whose session is open (nothing happens where none
 * is), before it does: then only that is captured. */
void session_will_write(struct workspace *ws, struct file *f, uint64_t at, uint64_t len);
void session_will_resize(struct workspace *ws, struct file *f, uint64_t size);
void session_will_change_all(struct file *f);

/* What its writer has closed is a version (V1), though its release is still on its way. */
must_check int session_settle(struct workspace *ws, struct file *f);

/* Nothing was changed after all. */
void session_cancel(struct workspace *ws, struct file *f);

/* Append a version by p (NULL: nobody) and make it the head. v: kind, flags, base_number,
 * from_* are the caller's, and has_content, content, size where there is content; the
 * rest is filled here. st: what is there; NULL for a delete. The seq is in v after (and
 * stays what it was if it was not 0, as the time does). */
must_check int session_record(struct workspace *ws, struct file *f, const struct process *p,
	const char *path, size_t path_len, const struct stat *st, struct version *v,
	struct capture *content);

/* Does p, with this content, knowingly put back what an earlier version had (S5)? */
bool session_is_decision(struct workspace *ws, const struct file *f,
	const struct process *p, const char *path, size_t path_len,
	const struct capture *content);

/* What is there now as the initial version, if the history has none (V2). */
must_check int session_record_initial(
	struct workspace *ws, struct file *f, const char *path, size_t path_len);

/* V4: a change of which no intent speaks is acknowledged once its row is there. A journal
 * that fails in that moment keeps the row until it works again; as the change has happened,
 * it is no error then. */
void session_await_row(struct workspace *ws, uint64_t seq);

/* What is there now as a version of nobody: v has the kind, and what session_record() wants
 * of the caller. */
must_check int session_record_found(struct workspace *ws, struct file *f, const char *path,
	size_t path_len, struct version *v);

/* S12: the mtime of what is there must be above that of the version before. Returns true
 * when it had to be raised. */
bool session_raise_mtime(int fd, const struct head *head, struct stat *st);

struct author author_of(const struct process *p);

#endif
