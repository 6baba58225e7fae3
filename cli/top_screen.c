#include "cli/top_screen.h"

#include <curses.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <wchar.h>
#include <wctype.h>

#define CELL_MAX 22 /* columns of a cell that is not the flexible one */

static const char *const help_lines[] = {
	"arrows, j, k     select a row; PgUp, PgDn, Home, End",
	"Tab, Shift-Tab   the next pane, the one before",
	"b                break the selected lease (asks)",
	"d                what the selected version changed",
	"u                undo the selected change set, or that of a version",
	"                 (shows what it would do, then asks)",
	"w                everybody's refusals, and why",
	"?                this, and back",
	"q                quit",
};

/* ---- the terminal ---- */

int top_screen_open(struct top_screen *s)
{
	s->terminal = newterm(NULL, stdout, stdin);
	if (!s->terminal)
		return -ENOTTY;
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	set_escdelay(50);
	curs_set(0);
	if (has_colors() && !(getenv("NO_COLOR") && *getenv("NO_COLOR"))) {
		static const short colours[] = {[COLOUR_RED] = COLOR_RED,
			[COLOUR_GREEN] = COLOR_GREEN,
			[COLOUR_YELLOW] = COLOR_YELLOW,
			[COLOUR_CYAN] = COLOR_CYAN};

		start_color();
		use_default_colors();
		for (short c = COLOUR_RED; c <= COLOUR_CYAN; c++)
			init_pair(c, colours[c], -1);
	}
	top_screen_resize(s);
	return 0;
}

void top_screen_close(struct top_screen *s)
{
	for (int i = 0; i < TOP_PANES; i++) {
		free(s->places[i].key);
		s->places[i] = (struct top_place){0};
	}
	if (!s->terminal)
		return;
	top_screen_leave(s);
	delscreen(s->terminal);
	s->terminal = NULL;
}

void top_screen_leave(struct top_screen *s)
{
	if (s->terminal && !isendwin())
		endwin();
}

void top_screen_return(struct top_screen *s)
{
	top_screen_resize(s);
	clearok(stdscr, TRUE);
	refresh();
}

void top_screen_resize(struct top_screen *s)
{
	struct winsize w;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row && w.ws_col)
		resizeterm(w.ws_row, w.ws_col);
}

void top_screen_say(struct top_screen *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->message, sizeof(s->message), fmt, ap);
	va_end(ap);
}

/* ---- text in columns ---- */

/* Columns that a text takes; where out is given it is put on the screen, as far as it
 * fits into the width. What the terminal cannot show is a question mark: nothing of
 * a name may reach it as a control. */
static int text_run(const char *text, int width, bool out)
{
	auto_buf shown = {0};
	mbstate_t state = {0};
	const char *at;
	int used = 0;

	buf_put_name(&shown, text, strlen(text));
	at = shown.data ?: "";
	while (*at) {
		wchar_t wide[2] = {0};
		size_t n = mbrtowc(wide, at, strlen(at), &state);
		int columns;

		if (n == (size_t)-1 || n == (size_t)-2) {
			state = (mbstate_t){0};
			wide[0] = L'?';
			n = 1;
		}
		columns = wcwidth(wide[0]);
		if (columns < 1 || !iswprint((wint_t)wide[0])) {
			wide[0] = L'?';
			columns = 1;
		}
		if (used + columns > width)
			break;
		if (out)
			addwstr(wide);
		used += columns;
		at += n;
	}
	return used;
}

/* Exactly so many columns of the present line, from x on. */
static void put_text(int y, int x, int width, const char *text, bool right)
{
	int used;

	if (y < 0 || y >= LINES || x >= COLS || width <= 0)
		return;
	if (width > COLS - x)
		width = COLS - x;
	used = right ? width - text_run(text, width, false) : 0;
	mvhline(y, x, ' ' | getattrs(stdscr), width);
	move(y, x + used);
	text_run(text, width - used, true);
}

static attr_t attribute_of(enum colour c)
{
	switch (c) {
	case COLOUR_BOLD:
		return A_BOLD;
	case COLOUR_DIM:
		return A_DIM;
	case COLOUR_RED:
	case COLOUR_GREEN:
	case COLOUR_YELLOW:
	case COLOUR_CYAN:
		return has_colors() ? COLOR_PAIR(c) : A_NORMAL;
	case COLOUR_NONE:
		break;
	}
	return A_NORMAL;
}

/* ---- panes ---- */

static void find_place(struct top_place *place, const struct top_pane *p)
{
	if (place->key) {
		for (size_t i = 0; i < p->n; i++) {
			if (strcmp(p->rows[i].key, place->key) == 0) {
				place->at = i;
				return;
			}
		}
	}
	/* Its row is gone: the one that stands there now. Nothing chosen: the first. */
	if (!place->key)
		place->at = 0;
	else if (place->at >= p->n)
		place->at = p->n ? p->n - 1 : 0;
}

const struct top_row *top_screen_selected(
	struct top_screen *s, const struct top_view *v, enum top_pane_id id)
{
	const struct top_pane *p = &v->panes[id];

	find_place(&s->places[id], p);
	return p->n ? &p->rows[s->places[id].at] : NULL;
}

static void select_row(struct top_screen *s, const struct top_view *v, long by)
{
	struct top_place *place = &s->places[s->focus];
	const struct top_pane *p = &v->panes[s->focus];
	long at;

	if (!p->n)
		return;
	find_place(place, p);
	at = (long)place->at + by;
	if (at >= (long)p->n)
		at = (long)p->n - 1;
	place->at = at < 0 ? 0 : (size_t)at;
	free(place->key);
	/* On the first row of the events one follows what is newest. */
	place->key =
		at <= 0 && s->focus != TOP_LEASES ? NULL : strdup(p->rows[place->at].key);
}

static void measure(
	const struct top_pane *p, const struct text_column *columns, int n, int *widths)
{
	int flexible = -1, rest = COLS - (n - 1);

	for (int c = 0; c < n; c++) {
		widths[c] = text_run(columns[c].title, CELL_MAX, false);
		for (size_t i = 0; i < p->n; i++) {
			int w = text_run(p->rows[i].cells[c], CELL_MAX, false);

			widths[c] = w > widths[c] ? w : widths[c];
		}
		if (columns[c].flexible)
			flexible = c;
		else
			rest -= widths[c];
	}
	if (flexible >= 0)
		widths[flexible] = rest < 8 ? 8 : rest;
}

static void draw_row(int y, char *const *cells, const struct text_column *columns, int n,
	const int *widths, attr_t all)
{
	attrset(all);
	mvhline(y, 0, ' ' | all, COLS);
	for (int c = 0, x = 0; c < n; x += widths[c++] + 1) {
		attrset(all | (all ? 0 : attribute_of(columns[c].colour)));
		put_text(y, x, widths[c], cells ? cells[c] : columns[c].title,
			columns[c].right);
	}
	attrset(A_NORMAL);
}

/* A title, the names of the columns, and rows in what is left of the height. */
static void draw_pane(struct top_screen *s, const struct top_view *v, enum top_pane_id id,
	int y, int height)
{
	const struct top_pane *p = &v->panes[id];
	struct top_place *place = &s->places[id];
	int n, widths[TEXT_TABLE_MAX];
	const struct text_column *columns = top_pane_columns(id, &n);
	size_t shown = height > 2 ? (size_t)height - 2 : 0;
	char title[96];

	snprintf(title, sizeof(title), "%s %s (%zu)", id == s->focus ? ">" : "-",
		top_pane_title(id), p->n);
	attrset(id == s->focus ? A_BOLD | A_UNDERLINE : A_UNDERLINE);
	put_text(y, 0, COLS, title, false);
	attrset(A_NORMAL);
	find_place(place, p);
	if (place->first > place->at)
		place->first = place->at;
	if (shown && place->at >= place->first + shown)
		place->first = place->at - shown + 1;
	measure(p, columns, n, widths);
	if (height > 1)
		draw_row(y + 1, NULL, columns, n, widths, A_DIM);
	for (size_t i = 0; i < shown && place->first + i < p->n; i++) {
		size_t at = place->first + i;
		bool selected = id == s->focus && at == place->at;

		draw_row(y + 2 + (int)i, p->rows[at].cells, columns, n, widths,
			selected ? A_REVERSE : 0);
	}
}

/* How many lines each pane gets: what it wants, up to its share; the rest is for the
 * one in focus, and then for the events. Where there is no room for all, that one. */
static void share_out(
	const struct top_screen *s, const struct top_view *v, int room, int *heights)
{
	int want[TOP_PANES], order[] = {s->focus, TOP_EVENTS, TOP_SETS, TOP_REFUSED,
				     TOP_LEASES, TOP_WRITERS};
	int share = room / TOP_PANES, left = room;

	for (int i = 0; i < TOP_PANES; i++) {
		want[i] = 2 + (v->panes[i].n < 500 ? (int)v->panes[i].n : 500);
		heights[i] = share < 3 ? 0 : want[i] < share ? want[i] : share;
		left -= heights[i];
	}
	if (share < 3) {
		heights[s->focus] = room;
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(order) && left > 0; i++) {
		int more = want[order[i]] - heights[order[i]];

		more = more < 0 ? 0 : more > left ? left : more;
		heights[order[i]] += more;
		left -= more;
	}
}

static void draw_head(const struct top_view *v, int late_s)
{
	auto_buf top = {0}, counts = {0};
	char now[16];
	time_t t = time(NULL);
	struct tm tm;

	strftime(now, sizeof(now), "%H:%M:%S", localtime_r(&t, &tm));
	buf_printf(&top, "stomp top  %s  ", now);
	if (late_s)
		buf_printf(&top, "NO ANSWER from the mount for %d s  ", late_s);
	buf_printf(&top, "%s  health: %s", v->root, v->health);
	top_put_counts(&counts, v);
	attrset(late_s || strcmp(v->health, "ok") != 0 ? A_BOLD | attribute_of(COLOUR_RED)
						       : A_BOLD);
	put_text(0, 0, COLS, top.data ?: "", false);
	attrset(A_NORMAL);
	if (LINES > 3)
		put_text(1, 0, COLS, counts.data ?: "", false);
}

void top_screen_draw(struct top_screen *s, const struct top_view *v, int late_s)
{
	int heights[TOP_PANES], y = LINES > 3 ? 2 : 1;
	const char *last = s->message[0] ? s->message
					 : "q quit  Tab pane  j/k row  b break lease  "
					   "d diff  u undo set  w why  ? help";

	erase();
	draw_head(v, late_s);
	share_out(s, v, LINES - y - 1 < 0 ? 0 : LINES - y - 1, heights);
	for (int i = 0; i < TOP_PANES && !s->help; y += heights[i++]) {
		if (heights[i] > 0)
			draw_pane(s, v, (enum top_pane_id)i, y, heights[i]);
	}
	for (size_t i = 0; s->help && i < ARRAY_SIZE(help_lines); i++) {
		if (y + (int)i < LINES - 1)
			put_text(y + (int)i, 0, COLS, help_lines[i], false);
	}
	attrset(s->message[0] ? A_BOLD : A_REVERSE);
	if (LINES > 1)
		put_text(LINES - 1, 0, COLS, last, false);
	attrset(A_NORMAL);
	refresh();
}

/* ---- keys ---- */

static bool moves(struct top_screen *s, const struct top_view *v, int key)
{
	int page = LINES / 2 > 1 ? LINES / 2 : 1;

	switch (key) {
	case KEY_DOWN:
	case 'j':
		select_row(s, v, 1);
		return true;
	case KEY_UP:
	case 'k':
		select_row(s, v, -1);
		return true;
	case KEY_NPAGE:
		select_row(s, v, page);
		return true;
	case KEY_PPAGE:
		select_row(s, v, -page);
		return true;
	case KEY_HOME:
		select_row(s, v, -(long)v->panes[s->focus].n);
		return true;
	case KEY_END:
		select_row(s, v, (long)v->panes[s->focus].n);
		return true;
	case '\t':
		s->focus = (s->focus + 1) % TOP_PANES;
		return true;
	case KEY_BTAB:
		s->focus = (s->focus + TOP_PANES - 1) % TOP_PANES;
		return true;
	case '?':
		s->help = !s->help;
		return true;
	case KEY_RESIZE:
		return true;
	default:
		return false;
	}
}

int top_screen_key(struct top_screen *s, const struct top_view *v)
{
	int key;

	while ((key = getch()) != ERR) {
		if (!moves(s, v, key))
			return key;
	}
	return -1;
}
