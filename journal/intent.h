/*
 * intent.h - what is being changed right now, so that kill -9 loses no attribution (V4).
 *
 * A file of fixed slots in the backing's .stomp/, mapped shared: a store into it
 * survives the death of the daemon without a system call, and a power cut once
 * intents_sync() returned. A slot is taken before the first byte of a change reaches
 * the backing and freed when the version that tells of it is written.
 *
 *   FREE --begin--> OPEN --close--> CLOSED --end--> FREE
 *                     \------------end------------/
 *   kill -9 at OPEN:   the file on disk may hold a half-done change by this author;
 *                      recovery records what it finds as his, incomplete.
 *   kill -9 at CLOSED: the change was acknowledged whole; recovery records it as his.
 *   kill -9 inside begin: the slot's state is stored last; it is still FREE.
 *
 * A slot is as many units of the file as its texts need, mostly one. The file's blocks
 * are allocated at once, so that a full disk cannot make a store into it fail.
 *
 * Thread-safe. begin: -ENOSPC when all slots are taken (the caller waits or refuses),
 * -ENAMETOOLONG when path and texts do not fit (two paths of PATH_MAX do; of a long
 * command line only the beginning is kept).
 */
#ifndef STOMP_JOURNAL_INTENT_H
#define STOMP_JOURNAL_INTENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct intents;

enum intent_kind {
	INTENT_WRITE,  /* content of path, in place or newly created */
	INTENT_RENAME, /* from path to to_path; also of a folder */
	INTENT_UNLINK,
	INTENT_COMMIT, /* a pending change is being copied from its shadow into path */
	INTENT_OTHER,  /* mkdir, symlink, link, mode */
};

struct intent {
	enum intent_kind kind;
	const char *path, *to_path; /* to_path may be NULL */
	size_t path_len, to_path_len;
	uint64_t dev, ino; /* of the file that is changed or moved */
	uint64_t epoch, base_number;
	uint64_t seq; /* the paths are as after that seq: folders may be renamed later */
	const char *shadow; /* INTENT_COMMIT: name in .stomp/shadow; else NULL */
	/* author */
	const char *writer, *rule, *command;
	uid_t uid;
	pid_t pid;
	int64_t start_ns;
	uint32_t closed_as; /* of leftovers: what intent_is_as_closed() compares */
};

#define INTENT_NONE UINT32_MAX
enum { INTENT_SLOTS = 16384 };

/* Called at open for each slot that was OPEN or CLOSED when the last daemon ended. The
 * slot stays until intents_end(slot). */
typedef int intent_fn(const struct intent *intent, bool closed, uint32_t slot, void *ctx);

/* Opens or creates the file "intents" in dirfd. -EBUSY while another process has it open
 * (one daemon per workspace), -EPROTO when it is of another format. */
must_check int intents_open(struct intents **out, int dirfd);
void intents_close(struct intents *s);
must_check int intents_leftover(struct intents *s, intent_fn *fn, void *ctx);

must_check int intents_begin(
	struct intents *s, const struct intent *intent, uint32_t *slot);
/* st: the file as it was closed, so that recovery can tell what somebody else has made of
 * it since (intent_is_as_closed()); NULL: that cannot be told. */
void intents_mark_closed(struct intents *s, uint32_t slot, const struct stat *st);
void intents_mark_open(struct intents *s, uint32_t slot); /* written again after all */

/* Of a leftover that is CLOSED: is the file still as it was then, as far as its size and
 * modification time tell? True where that was not noted, and after a restart of the
 * machine. */
bool intent_is_as_closed(const struct intent *intent, const struct stat *st);
void intents_end(struct intents *s, uint32_t slot); /* INTENT_NONE does nothing */
must_check int intents_sync(struct intents *s);
uint32_t intents_in_use(const struct intents *s);

#endif
