/*
 * log.h - the daemon's messages: stderr in the foreground, syslog once daemonized.
 *
 * Thread-safe. Only the outer shell (daemon, commands) logs above debug.
 */
#ifndef STOMP_BASE_LOG_H
#define STOMP_BASE_LOG_H

#include <stdbool.h>

#include "base/cleanup.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* name must live as long as the process. */
void log_setup(const char *name, enum log_level max, bool to_syslog);

void log_write(enum log_level level, const char *fmt, ...) printf_like(2, 3);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
