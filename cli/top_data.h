/*
 * top_data.h - what `stomp top` shows: the daemon's tables as five panes of rows.
 *
 * A view is made of one answer (top_fetch.h) and owns all its texts; paths are as
 * the daemon spells them, cells may hold control bytes (whoever shows them escapes
 * them). Pure but for the wall clock, which the rates are counted back from. No threads.
 */
#ifndef STOMP_CLI_TOP_DATA_H
#define STOMP_CLI_TOP_DATA_H

#include "cli/json.h"
#include "cli/table.h"

enum top_pane_id { TOP_WRITERS, TOP_LEASES, TOP_REFUSED, TOP_SETS, TOP_EVENTS, TOP_PANES };

struct top_row {
	char *cells[TEXT_TABLE_MAX];
	char *key;	/* the same row in the next view has the same */
	char *path;	/* bytes as in the tree; NULL: none */
	int64_t number; /* of a version; 0: this is none */
	int64_t set;	/* its change set, or the set it is; 0: none */
};

struct top_pane {
	struct top_row *rows;
	size_t n, cap;
};

struct top_view {
	struct top_pane panes[TOP_PANES];
	char *root, *health;
	int64_t writers, leases, waiting, refusals, conflicts, versions;
	double changes_s, refusals_s; /* of the last ten seconds, each second */
};

#define auto_top_view __attribute__((cleanup(top_view_done))) struct top_view

/* -ENOMEM; the view is empty then. */
must_check int top_view_make(struct top_view *v, struct json_object *answer);
void top_view_done(struct top_view *v);

const char *top_pane_title(enum top_pane_id id);
const struct text_column *top_pane_columns(enum top_pane_id id, int *n);

/* "writers 2 · leases 1, …": the counts and the rates, one line. */
void top_put_counts(struct buf *out, const struct top_view *v);

#endif
