/*
 * programs.h - finding the programs that `stomp` starts.
 *
 * No state. Results go into the caller's memory.
 */
#ifndef STOMP_CLI_PROGRAMS_H
#define STOMP_CLI_PROGRAMS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

/* An executable of that name in PATH. */
bool program_in_path(const char *name, char *path, size_t size);

/* The daemon's program: beside our own executable, in ../fs (a build tree), in
 * ../libexec, then in PATH. */
bool program_stompfs(char *path, size_t size);

/* Run and wait; argv[0] is a path. The exit code, 128 + n after signal n, or -errno. */
must_check int program_run(const char *const *argv);

#endif
