/*
 * reserve.h - room set aside for the day on which the disk is full.
 *
 * Letting go of old versions needs room itself, for the log of the database. A file of the
 * history's folder, "reserve", holds RESERVE_BYTES of it, allocated and never written. It
 * is given up for a pass of the collector and taken again afterwards (gc.h).
 *
 * Thread-safe, no state but the file.
 */
#ifndef STOMP_JOURNAL_RESERVE_H
#define STOMP_JOURNAL_RESERVE_H

#include <stdbool.h>

#include "base/cleanup.h"

enum { RESERVE_BYTES = 4 * 1024 * 1024 };

/* Set it aside, where that leaves at least as much for others; nothing where it is there.
 * Blocks on disk. -ENOSPC, -EIO…: none of it is held. */
must_check int reserve_take(int dirfd);

/* Give it up; false: there was none. */
must_check bool reserve_give(int dirfd);

#endif
