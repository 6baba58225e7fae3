/*
 * vtree_ctl.h - one line written to .stomp/ctl, taken apart (docs/STOMP-FOLDER.md).
 *
 * Pure: no FUSE, no workspace. The line may hold any bytes.
 */
#ifndef STOMP_FS_VTREE_CTL_H
#define STOMP_FS_VTREE_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum {
	CTL_LINE_MAX = 4096, /* bytes, without the newline */
	CTL_WORDS_MAX = 1024,
};

enum ctl_verb {
	CTL_LEASE_ACQUIRE,
	CTL_LEASE_RENEW,
	CTL_LEASE_RELEASE,
	CTL_LEASE_BREAK,
	CTL_CHECKPOINT,
	CTL_RESOLVE,
	CTL_PING,
	CTL_FSCK,
	CTL_GC,
	CTL_MOMENT,
	CTL_PIN,
	CTL_UNPIN,
	CTL_UNDO_BEGIN,
	CTL_UNDO_RESUME,
	CTL_UNDO_END,
};

struct ctl_command {
	enum ctl_verb verb;
	int64_t ttl_ns;	    /* -1: not said */
	const char *reason; /* NULL: not said */
	uint64_t conflict;  /* CTL_RESOLVE */
	/* CTL_RESOLVE: "ours", "theirs", "merged", "file"; CTL_UNDO_END: "done", "back" */
	const char *how;
	uint64_t set;	       /* CTL_UNDO_*: of BEGIN what is undone, 0: not said */
	const char *of, *what; /* CTL_UNDO_BEGIN: a writer or NULL; what is undone */
	bool scrub;	       /* CTL_FSCK */
	uint64_t rate_mib;     /* CTL_FSCK; 0: unbounded */
	bool dry_run;	       /* CTL_GC */
	const char *name;      /* CTL_PIN, CTL_UNPIN */
	const char *at;	       /* CTL_PIN, CTL_MOMENT: a moment, NULL: now */
	unsigned n_paths;
	char *paths[CTL_WORDS_MAX];  /* relative to the workspace, or patterns */
	char text[CTL_LINE_MAX + 1]; /* what the pointers point into */
};

/* -E2BIG, -EINVAL: then *why tells what is wrong and what would be right. */
must_check int ctl_parse(
	struct ctl_command *cmd, const char *line, size_t size, struct buf *why);

#endif
