/*
 * wire.h - what an older libfuse cannot say, said on the wire.
 *
 * libfuse 3.14 knows neither FUSE_DIRECT_IO_ALLOW_MMAP nor HANDLE_KILLPRIV_V2 nor the
 * TMPFILE request. The session's reads and writes go through here: the INIT reply gets
 * the flags that kernel and we both want, and TMPFILE arrives as the CREATE it is in all
 * but name (its flags carry O_TMPFILE). With a libfuse that does this itself, nothing is
 * changed. Nor does it know passthrough: answers to OPEN and CREATE are made here. Under
 * a supervisor, requests about an earlier daemon's nodes and handles are answered here
 * (wire_stale.h).
 */
#ifndef STOMP_FS_WIRE_H
#define STOMP_FS_WIRE_H

#include "fs/workspace.h"

/* After the session is mounted, before its loop. */
must_check int wire_install(struct workspace *ws);

/* As fuse_reply_open() and fuse_reply_create(); backing_id: 0, or the kernel shall read
 * that backing file itself. -errno: the caller is gone, the kernel has not taken it. */
int wire_reply_open(fuse_req_t req, const struct fuse_file_info *fi, int backing_id);
int wire_reply_create(fuse_req_t req, const struct fuse_entry_param *e,
	const struct fuse_file_info *fi, int backing_id);

/* The connection is an earlier daemon's (supervise.h): let libfuse see the INIT it began
 * with, whose answer stays here, and make the kernel forget what it was told. Instead of
 * waiting for an INIT; before the loop. */
must_check int wire_go_on(struct workspace *ws);

/* A request has come, whichever way: make it one that libfuse knows. */
void wire_received(struct workspace *ws, void *request);

#endif
