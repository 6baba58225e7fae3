/*
 * top_screen.h - the panes of `stomp top` on a terminal, with curses.
 *
 * One screen a process, as curses has it. It draws into whatever size there is, also of
 * one column and one row; what does not fit is clipped. A selection stays with its row
 * when rows move. No threads; signals are the caller's.
 */
#ifndef STOMP_CLI_TOP_SCREEN_H
#define STOMP_CLI_TOP_SCREEN_H

#include "cli/top_data.h"

struct top_place {
	char *key;    /* of the selected row; NULL: the first */
	size_t at;    /* where it was found last */
	size_t first; /* the first row that is shown */
};

struct top_screen {
	void *terminal; /* curses' own; NULL: not open */
	enum top_pane_id focus;
	struct top_place places[TOP_PANES];
	char message[512]; /* the last line; "": the keys */
	bool help;
};

/* Take the terminal. -ENOTTY where curses does not know it. */
must_check int top_screen_open(struct top_screen *s);

/* Give it back as it was; nothing where it is not open. */
void top_screen_close(struct top_screen *s);

/* For a program that has the terminal meanwhile. */
void top_screen_leave(struct top_screen *s);
void top_screen_return(struct top_screen *s);

/* The terminal has another size. */
void top_screen_resize(struct top_screen *s);

/* A key, or -1 where none is there; moves of the selection, Tab and ? are done here
 * and never returned. */
int top_screen_key(struct top_screen *s, const struct top_view *v);

/* late_s: for so long the mount has not answered (0: it does). */
void top_screen_draw(struct top_screen *s, const struct top_view *v, int late_s);

/* The selected row of the pane, or NULL. */
const struct top_row *top_screen_selected(
	struct top_screen *s, const struct top_view *v, enum top_pane_id id);

void top_screen_say(struct top_screen *s, const char *fmt, ...) printf_like(2, 3);

#endif
