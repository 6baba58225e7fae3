#include "cli/top_live.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/top_act.h"
#include "cli/top_screen.h"

enum { LATE_MS = 3000 };

/* What y answers to. */
enum question { ASK_NOTHING, ASK_BREAK, ASK_UNDO };

struct live {
	struct top_fetch *fetch;
	struct top_screen screen;
	struct top_view view;
	struct top_act act;
	enum question question;
	char *path;  /* of the lease in question */
	int64_t set; /* in question */
	int64_t interval_ns, next_ns;
	int code;	 /* to exit with; -1: go on */
	struct buf gone; /* why, where the screen ends by itself */
};

static void live_done(struct live *l)
{
	top_screen_close(&l->screen);
	top_view_done(&l->view);
	free(l->path);
	buf_done(&l->gone);
}

/* ---- answers ---- */

static void take_answer(struct live *l, struct json_object *answer)
{
	int error = (int)json_number(answer, "error", EBADMSG);
	struct top_view fresh;

	if (error == ENOENT || error == ENOTCONN || error == ECONNABORTED ||
		error == ENOTDIR) {
		buf_printf(&l->gone, "stomp top: the workspace %s is gone: %s.\n",
			l->view.root ?: json_text(answer, "root", "?"),
			error == ENOTCONN || error == ECONNABORTED
				? "its daemon has ended"
				: "it is not mounted any more");
		l->code = STOMP_NO;
		return;
	}
	if (error) {
		top_screen_say(
			&l->screen, "the tables could not be read: %s", strerror(error));
		return;
	}
	if (top_view_make(&fresh, answer) < 0) {
		top_screen_say(&l->screen, "out of memory");
		return;
	}
	top_view_done(&l->view);
	l->view = fresh;
	l->act.root = l->view.root;
}

static void take_fetched(struct live *l)
{
	auto_json *answer = NULL;
	int code;

	switch (top_fetch_take(l->fetch, &answer, &code)) {
	case TOP_ANSWER:
		take_answer(l, answer);
		break;
	case TOP_ENDED:
		buf_puts(&l->gone, "stomp top: the process that reads the tables has "
				   "ended\n");
		l->code = STOMP_FAILED;
		break;
	case TOP_NOT_YET:
		break;
	}
}

static int late_s(const struct live *l)
{
	int64_t since =
		l->fetch->asked_ns ? clock_boot_ns(clock_system()) - l->fetch->asked_ns : 0;

	return since > LATE_MS * NS_PER_MS ? (int)(since / NS_PER_S) : 0;
}

/* ---- keys ---- */

/* Run a command on the terminal, with curses out of the way. */
static int run_outside(struct live *l, enum top_act_mode mode, const char *const *words)
{
	int r;

	top_screen_leave(&l->screen);
	r = top_act_run(&l->act, mode, words, NULL);
	if (r == -EINTR)
		return r;
	top_screen_return(&l->screen);
	if (r == -ETIMEDOUT)
		top_screen_say(&l->screen, "given up: %s is still waiting", words[0]);
	else if (r < 0)
		top_screen_say(&l->screen, "%s: %s", words[0], strerror(-r));
	return r;
}

static void ask_break(struct live *l)
{
	const struct top_row *row = top_screen_selected(&l->screen, &l->view, TOP_LEASES);

	if (l->screen.focus != TOP_LEASES || !row || !row->path) {
		top_screen_say(&l->screen, "b breaks a lease: select one first (Tab)");
		return;
	}
	free(l->path);
	l->path = strdup(row->path);
	if (!l->path)
		return;
	l->question = ASK_BREAK;
	top_screen_say(&l->screen, "break the lease of %s on %s? y/n", row->cells[0],
		row->cells[4]);
}

/* As `stomp lease break`, which also knows who has to mean it more than this (L9). */
static void do_break(struct live *l)
{
	auto_buf path = {0}, said = {0};
	const char *words[] = {"lease", "break", NULL, NULL};
	int r;

	/* The path is one of the workspace, whatever it begins with. */
	buf_printf(&path, "./%s", strcmp(l->path, "**") == 0 ? "" : l->path);
	if (buf_failed(&path))
		return;
	words[2] = path.data;
	r = top_act_run(&l->act, TOP_ACT_QUIET, words, &said);
	if (r == 0)
		top_screen_say(&l->screen, "broken: %s", l->path);
	else if (r > 0)
		top_screen_say(&l->screen, "%s", said.data ?: "not broken");
	else
		top_screen_say(&l->screen, "not broken: %s", strerror(-r));
	for (char *c = l->screen.message; r > 0 && *c; c++) {
		if (*c == '\n')
			*c = ' ';
	}
}

static void show_diff(struct live *l)
{
	const struct top_row *row = top_screen_selected(&l->screen, &l->view, TOP_EVENTS);
	auto_buf from = {0}, to = {0};
	const char *words[] = {"diff", NULL, NULL, NULL};

	if (l->screen.focus != TOP_EVENTS || !row || !row->path || !row->number) {
		top_screen_say(&l->screen, "d shows what a version changed: select one "
					   "among the events (Tab)");
		return;
	}
	if (row->number == 1)
		words[0] = "cat";
	else
		buf_printf(&from, "./%s@%lld", row->path, (long long)row->number - 1);
	buf_printf(&to, "./%s@%lld", row->path, (long long)row->number);
	if (buf_failed(&from) || buf_failed(&to))
		return;
	words[1] = row->number == 1 ? to.data : from.data;
	words[2] = row->number == 1 ? NULL : to.data;
	(void)!run_outside(l, row->number == 1 ? TOP_ACT_PAGED : TOP_ACT_TERMINAL, words);
}

static void ask_undo(struct live *l)
{
	enum top_pane_id pane = l->screen.focus == TOP_SETS ? TOP_SETS : TOP_EVENTS;
	const struct top_row *row = top_screen_selected(&l->screen, &l->view, pane);
	const char *words[] = {"undo", NULL, "--dry-run", NULL};
	char set[24];
	int r;

	if (l->screen.focus != pane || !row || !row->set) {
		top_screen_say(&l->screen,
			"u undoes a change set: select one, or a version "
			"among the events (Tab)");
		return;
	}
	l->set = row->set;
	snprintf(set, sizeof(set), "%lld", (long long)l->set);
	words[1] = set;
	r = run_outside(l, TOP_ACT_PAGED, words);
	if (r < 0)
		return;
	if (r > 0) {
		top_screen_say(&l->screen,
			"set %s cannot be undone as it is; `stomp "
			"undo %s --partial` does what can be",
			set, set);
		return;
	}
	l->question = ASK_UNDO;
	top_screen_say(&l->screen, "undo set %s? y/n", set);
}

static void do_undo(struct live *l)
{
	const char *words[] = {"undo", NULL, NULL};
	char set[24];
	int r;

	snprintf(set, sizeof(set), "%lld", (long long)l->set);
	words[1] = set;
	r = run_outside(l, TOP_ACT_PAGED, words);
	if (r >= 0)
		top_screen_say(
			&l->screen, "%s: set %s", r == 0 ? "undone" : "not undone", set);
}

static void take_key(struct live *l, int key)
{
	enum question question = l->question;

	l->question = ASK_NOTHING;
	l->screen.message[0] = '\0';
	if (question != ASK_NOTHING) {
		if (key != 'y' && key != 'Y')
			top_screen_say(&l->screen, "left as it is");
		else if (question == ASK_BREAK)
			do_break(l);
		else
			do_undo(l);
		l->next_ns = 0; /* what came of it is wanted at once */
		return;
	}
	if (key == 'q' || key == 'Q')
		l->code = STOMP_DONE;
	else if (key == 'b')
		ask_break(l);
	else if (key == 'd')
		show_diff(l);
	else if (key == 'u')
		ask_undo(l);
	else if (key == 'w')
		(void)!run_outside(
			l, TOP_ACT_TERMINAL, (const char *const[]){"why", "--all", NULL});
}

/* ---- the loop ---- */

static void take_signals(struct live *l)
{
	struct signalfd_siginfo info;

	while (read(l->act.signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGWINCH)
			top_screen_resize(&l->screen);
		else
			l->act.ended_by = (int)info.ssi_signo;
	}
}

static void go_round(struct live *l)
{
	int64_t now = clock_boot_ns(clock_system());
	struct pollfd p[] = {{.fd = STDIN_FILENO, .events = POLLIN},
		{.fd = l->act.signal_fd, .events = POLLIN},
		{.fd = l->fetch->fd, .events = POLLIN}};
	int64_t left;
	int key;

	if (now >= l->next_ns) {
		top_fetch_ask(l->fetch);
		l->next_ns = now + l->interval_ns;
	}
	top_screen_draw(&l->screen, &l->view, late_s(l));
	left = (l->next_ns - now) / NS_PER_MS + 1;
	/* A second at most, for the clock in the head and the count of a wait. */
	if (poll(p, ARRAY_SIZE(p), left > 1000 ? 1000 : (int)left) <= 0)
		return;
	if (p[1].revents)
		take_signals(l);
	if (p[2].revents)
		take_fetched(l);
	while (l->code < 0 && !l->act.ended_by &&
		(key = top_screen_key(&l->screen, &l->view)) >= 0)
		take_key(l, key);
	/* The terminal is gone. */
	if (p[0].revents & (POLLHUP | POLLERR | POLLNVAL))
		l->act.ended_by = SIGHUP;
}

/* End as whoever sent the signal expects it. */
static void end_by(int number)
{
	sigset_t one;

	signal(number, SIG_DFL);
	sigemptyset(&one);
	sigaddset(&one, number);
	raise(number);
	sigprocmask(SIG_UNBLOCK, &one, NULL);
}

int top_live(struct top_fetch *fetch, struct json_object *first, int64_t interval_ms)
{
	struct live l = {.fetch = fetch,
		.screen = {.focus = TOP_EVENTS},
		.interval_ns = interval_ms * NS_PER_MS,
		.code = -1};
	auto_close int signal_fd = -1;
	sigset_t ours;
	int code;

	sigemptyset(&ours);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGHUP);
	sigaddset(&ours, SIGWINCH);
	sigprocmask(SIG_BLOCK, &ours, NULL);
	signal_fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signal_fd < 0)
		return STOMP_FAILED;
	l.act.signal_fd = signal_fd;
	take_answer(&l, first);
	if (l.code < 0 && top_screen_open(&l.screen) < 0) {
		buf_printf(&l.gone,
			"stomp top: the terminal (TERM=%s) is not known here. `stomp top "
			"--once` needs none.\n",
			getenv("TERM") ?: "");
		l.code = STOMP_FAILED;
	}
	while (l.code < 0 && !l.act.ended_by)
		go_round(&l);
	top_screen_leave(&l.screen);
	if (l.gone.len)
		fputs(l.gone.data, stderr);
	code = l.code;
	if (l.act.ended_by)
		top_fetch_stop(fetch);
	if (l.act.ended_by)
		end_by(l.act.ended_by);
	live_done(&l);
	return code < 0 ? STOMP_DONE : code;
}
