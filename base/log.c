#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

static struct {
	const char *name;
	enum log_level max;
	bool to_syslog;
} settings = {.name = "stompfs", .max = LOG_LEVEL_WARN};

void log_setup(const char *name, enum log_level max, bool to_syslog)
{
	settings.name = name;
	settings.max = max;
	settings.to_syslog = to_syslog;
	if (to_syslog)
		openlog(name, LOG_PID, LOG_DAEMON);
}

void log_write(enum log_level level, const char *fmt, ...)
{
	static const int priority[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};
	char line[1024];
	va_list ap;

	if (level > settings.max)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (settings.to_syslog)
		syslog(priority[level], "%s", line);
	else
		fprintf(stderr, "%s: %s\n", settings.name, line);
}
