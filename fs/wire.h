/*
 * wire.h - what an older libfuse cannot say, said on the wire.
 *
 * libfuse 3.14 knows neither FUSE_DIRECT_IO_ALLOW_MMAP nor HANDLE_KILLPRIV_V2 nor the
 * TMPFILE request. The session's reads and writes go through here: the INIT reply gets
 * the flags that kernel and we both want, and TMPFILE arrives as the CREATE it is in all
 * but name (its flags carry O_TMPFILE). With a libfuse that does this itself, nothing is
 * changed.
 */
#ifndef STOMP_FS_WIRE_H
#define STOMP_FS_WIRE_H

#include "fs/workspace.h"

/* After the session is mounted, before its loop. */
must_check int wire_install(struct workspace *ws);

#endif
