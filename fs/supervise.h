/*
 * supervise.h - a process that outlives the daemon, and starts it again when it dies.
 *
 * The supervisor keeps the descriptor of the kernel's connection and the INIT request it
 * began with. When the daemon ends other than by an unmount, a new one is forked, reads
 * what the journal and the intents tell (recover.h), is given that INIT again and goes on
 * with the connection: the mount never goes away, and what is asked meanwhile waits.
 *
 * Of what the old daemon gave out nothing is believed (L8). Each daemon has a generation,
 * which is the upper 16 bits of every node id; wire.c answers ESTALE to what names a node
 * or a folder's handle of an older one, and the kernel is told to look every name up
 * again (FUSE_NOTIFY_INC_EPOCH, Linux 6.16). So a path leads to its file at once, an
 * old handle answers ESTALE for ever, and none ever reaches a wrong file. Requests that the
 * old daemon had taken are sent again (FUSE_NOTIFY_RESEND): what only asks is answered,
 * what may have changed something already ends with ECONNABORTED. On older kernels the
 * connection is closed, the dead mount taken away, and the new daemon mounts anew.
 *
 * When the daemon cannot even start, five times in a row, the supervisor gives up and
 * leaves a dead mount: better that nothing can be written than that it is unguarded.
 *
 * The supervisor has one thread and nothing of the workspace but the descriptor of its
 * root. SIGTERM, SIGINT and SIGHUP go on to the daemon, which unmounts.
 */
#ifndef STOMP_FS_SUPERVISE_H
#define STOMP_FS_SUPERVISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct options;

enum {
	SUPERVISE_INIT_MAX = 256,
	GENERATION_SHIFT = 48, /* addresses have fewer bits */
	GENERATION_MAX = UINT16_MAX,
};

#define ID_OF_GENERATION(id) ((id) & ((1ULL << GENERATION_SHIFT) - 1))

/* What a daemon knows of its supervisor; all zero but for the descriptors (-1) where
 * there is none. */
struct supervised {
	pid_t supervisor; /* 0: none */
	int channel;	  /* to it */
	unsigned generation;
	int fuse_fd; /* a connection to go on with, or -1: mount */
	size_t init_size;
	char init[SUPERVISE_INIT_MAX]; /* the connection's INIT request */
	char last_end[64];	       /* how the daemon before this one ended */
	int64_t last_end_wall_ns;
};

/* Fork: returns 0 in the daemon, each time anew; the supervisor never returns, and ends
 * with the daemon's last exit code. report_fd: as in daemon.h, or -1. -errno. */
must_check int supervise(
	struct supervised *s, const struct options *options, int report_fd);

/* The daemon: it serves this connection, which began with this INIT request. */
void supervise_tell(const struct supervised *s, int fuse_fd);

#endif
