/*
 * copy.h - bytes from one descriptor to another, and whether they are the same; what is a
 * hole is neither read nor written (V6).
 *
 * Where the source cannot tell its holes, all of it is data. Errors are -errno.
 */
#ifndef STOMP_CLI_COPY_H
#define STOMP_CLI_COPY_H

#include <stdbool.h>

#include "base/cleanup.h"

/* Copy everything from the beginning of one descriptor to where the other stands, which is
 * then behind it. A hole is left out where the target is a file that had nothing there.
 * *read_failed says whose error it is. */
must_check int copy_all(int from, int to, bool *read_failed);

/* Two files of the same size. false also where one cannot be read. */
bool copy_is_same(int a, int b);

#endif
