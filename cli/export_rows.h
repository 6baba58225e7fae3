/*
 * export_rows.h - the rows of the journal that an export is made of, in order.
 *
 * Read out of .stomp/events/ once, then plain data. Names are numbers: 0 is none. No
 * threads. Errors: -errno.
 */
#ifndef STOMP_CLI_EXPORT_ROWS_H
#define STOMP_CLI_EXPORT_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "cli/report_names.h"
#include "cli/workspace.h"

enum export_kind {
	EXPORT_CONTENT, /* the path has this content now: written, made, replaced */
	EXPORT_CAME,	/* the same; it was `from` before */
	EXPORT_MODE,
	EXPORT_GONE,   /* deleted; from: what it is called now, where it was renamed */
	EXPORT_FOLDER, /* the folder `from` is called path now, with all below it */
};

struct export_row {
	uint64_t seq, set;
	int64_t time_ms;
	uint32_t path, from, writer, command, flags; /* names */
	enum export_kind kind;
};

struct export_rows {
	struct report_names names;
	struct export_row *rows; /* by seq */
	size_t n, room;
};

/* All with after < seq <= last. Those of what was there before the first change, and of
 * folders made or removed, are left out: git knows neither. rows is all 0 before, and to be
 * done with in any case. */
must_check int export_rows_read(struct export_rows *rows, const struct workspace *ws,
	uint64_t after, uint64_t last);
void export_rows_done(struct export_rows *rows);

static inline const char *export_name(const struct export_rows *rows, uint32_t name)
{
	return rows->names.texts[name];
}

#endif
