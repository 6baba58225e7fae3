#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/moment_seq.h"
#include "cli/options.h"
#include "cli/undo_act.h"
#include "cli/undo_back.h"
#include "cli/undo_plan.h"
#include "cli/words.h"

enum { OPT_DRY_RUN, OPT_PARTIAL, OPT_SINCE };

static const struct option_spec options[] = {
	[OPT_DRY_RUN] = {"dry-run", 'n', NULL, "say what would be done, change nothing",
		false},
	[OPT_PARTIAL] = {"partial", 0, NULL, "undo what can be, leave the rest alone",
		false},
	[OPT_SINCE] = {"since", 's', "WHEN", "only changes since: 15m, 10:32, an epoch",
		false},
	{0}};

static const struct command_spec spec = {
	.name = "undo",
	.usage = "SET|WRITER [PATH…] [--since WHEN] [--dry-run] [--partial]",
	.about = "Take back what a change set (`stomp log --sets`) or a writer did, and "
		 "keep\n"
		 "what others have changed since: files made, deleted, renamed, edited, "
		 "their\n"
		 "modes. All of it or nothing, unless --partial; what cannot be taken back "
		 "is\n"
		 "listed with the reason. An undo is a change set itself: undo it to have "
		 "the\n"
		 "work again. Without SET or WRITER: take back an undo that was killed in "
		 "the\n"
		 "middle (any other `stomp undo` does that first).",
	.example = "  stomp log --sets                # which one went wrong?\n"
		   "  stomp undo 12 --dry-run && stomp undo 12\n"
		   "  stomp undo claude-4312 --since 2h src",
	.options = options,
	.max_args = -1,
};

struct undo {
	struct workspace ws;
	struct selection selection;
	struct buf what; /* for a person: "set 12", "claude-4312's work" */
	bool dry_run, partial;
	char **paths;
};

static void undo_done(struct undo *u)
{
	for (unsigned i = 0; i < u->selection.n_paths; i++)
		free(u->paths[i]);
	free(u->paths);
	buf_done(&u->what);
	workspace_close(&u->ws);
}

#define auto_undo __attribute__((cleanup(undo_done))) struct undo

/* ---- telling ---- */

static const char *verb_of(const struct undo_file *f)
{
	bool folder = (f->to.exists ? f->to.type : f->from.type) == NODE_FOLDER;

	if (!f->to.exists)
		return folder ? "remove the folder" : "delete";
	if (!f->from.exists)
		return folder ? "make the folder" : "bring back";
	if (f->merged)
		return "take out of";
	if (f->to.type != f->from.type || !node_same_content(&f->from, &f->to))
		return "restore";
	return strcmp(f->from.path, f->to.path) != 0 ? "rename" : "set the mode of";
}

static void tell(const struct undo_file *f, FILE *out)
{
	auto_buf line = {0};

	buf_printf(&line, "  %-17s ", verb_of(f));
	buf_put_name(&line, f->from.path, strlen(f->from.path));
	if (f->to.exists && f->from.exists && strcmp(f->from.path, f->to.path) != 0) {
		buf_puts(&line, " as ");
		buf_put_name(&line, f->to.path, strlen(f->to.path));
	}
	if (f->merged)
		buf_puts(&line, " (others' changes stay)");
	fprintf(out, "%s\n", line.data ?: "");
}

static int tell_plan(const struct undo *u, const struct undo_file *files, size_t n)
{
	size_t refused = 0;

	for (size_t i = 0; i < n; i++) {
		refused += files[i].reason != NULL;
		if (!files[i].reason)
			tell(&files[i], stdout);
	}
	printf("would undo %s in %zu file%s; nothing was changed\n", u->what.data,
		n - refused, n - refused == 1 ? "" : "s");
	fflush(stdout);
	undo_tell_reasons(files, n);
	if (refused && !u->partial)
		fputs("so nothing would be: name PATHs, or say --partial\n", stderr);
	return refused && !u->partial ? STOMP_NO : STOMP_DONE;
}

/* ---- the set of the undo ---- */

static int set_begin(const struct undo *u, uint64_t *id)
{
	auto_buf line = {0};

	buf_puts(&line, "undo begin ");
	if (u->selection.set)
		buf_printf(&line, "of=%llu ", (unsigned long long)u->selection.set);
	else {
		buf_puts(&line, "writer=");
		word_escape(&line, u->selection.writer, strlen(u->selection.writer));
		buf_putc(&line, ' ');
	}
	word_escape(&line, u->what.data, u->what.len);
	return buf_failed(&line) ? -ENOMEM : undo_ctl(&u->ws, line.data, id);
}

/* ---- doing it ---- */

static bool is_interrupted(void)
{
	sigset_t waiting;

	return sigpending(&waiting) == 0 &&
	       (sigismember(&waiting, SIGINT) || sigismember(&waiting, SIGTERM) ||
		       sigismember(&waiting, SIGHUP));
}

/* Signals wait until the undo is whole, or taken back. */
static void hold_signals(void)
{
	sigset_t held;

	sigemptyset(&held);
	sigaddset(&held, SIGINT);
	sigaddset(&held, SIGTERM);
	sigaddset(&held, SIGHUP);
	sigprocmask(SIG_BLOCK, &held, NULL);
}

static bool same_plan(
	const struct undo_file *a, size_t n_a, const struct undo_file *b, size_t n_b)
{
	for (size_t i = 0; i < n_a && n_a == n_b; i++)
		if (!a[i].reason != !b[i].reason || !node_same(&a[i].from, &b[i].from) ||
			!node_same(&a[i].to, &b[i].to))
			return false;
	return n_a == n_b;
}

/* All that has no reason; the leases are held. */
static int act_all(const struct undo *u, const struct undo_file *files, size_t n)
{
	size_t done = 0, failed = 0;
	auto_buf why = {0};
	uint64_t id;
	time_t renewed = time(NULL);
	int r = set_begin(u, &id);

	if (r < 0)
		return STOMP_FAILED;
	for (size_t i = 0; i < n; i++) {
		if (files[i].reason)
			continue;
		if (time(NULL) - renewed > 4) {
			renewed = time(NULL);
			(void)!undo_leases_acquire(&u->ws, files, n, &why);
		}
		r = is_interrupted() ? -EINTR : undo_act(&u->ws, &files[i]);
		done += r == 0;
		if (r == 0)
			continue;
		if (r != -EINTR)
			workspace_explain(&u->ws, spec.name, files[i].from.path,
				files[i].from.path, r);
		failed++;
		if (r == -EINTR || !u->partial)
			break;
	}
	if (failed && (r == -EINTR || !u->partial)) {
		fputs("stomp undo: so what was done is taken back\n", stderr);
		(void)!undo_take_back(&u->ws, id, true);
		return STOMP_NO;
	}
	if (undo_end(&u->ws, id, "done") < 0)
		return STOMP_FAILED;
	printf("undid %s in %zu file%s; to have it again: stomp undo %llu\n", u->what.data,
		done, done == 1 ? "" : "s", (unsigned long long)id);
	return failed ? STOMP_NO : STOMP_DONE;
}

static int explain_plan(const struct undo *u, int r)
{
	if (r == -ENOENT && u->selection.set)
		fprintf(stderr,
			"stomp undo: there is no change set %llu (`stomp log --sets` lists "
			"them)\n",
			(unsigned long long)u->selection.set);
	else if (r == -ENOENT)
		fprintf(stderr,
			"stomp undo: no change by %s is recorded (`stomp log --sets` lists "
			"who did what)\n",
			u->selection.writer);
	else if (r == -E2BIG)
		fprintf(stderr,
			"stomp undo: of one file %s has more than 10,000 versions that "
			"are to be undone, or older than those; say --since, or leave it "
			"out by naming PATHs\n",
			u->what.data);
	else
		return report_errno(spec.name, u->what.data, r);
	return STOMP_NO;
}

/* The plan stands; hold everything, look again, and do it. */
static int hold_and_act(const struct undo *u, const struct undo_file *files, size_t n)
{
	const struct undo_file *again = NULL;
	auto_plan *second = NULL;
	auto_buf why = {0};
	size_t n_again = 0;
	int r;

	hold_signals();
	r = undo_leases_acquire(&u->ws, files, n, &why);
	if (r < 0) {
		fprintf(stderr, "stomp undo: %s; nothing was changed\n",
			why.data ?: strerror(-r));
		return is_refusal(r) ? STOMP_NO : STOMP_FAILED;
	}
	r = undo_plan_new(&u->ws, &u->selection, &second);
	if (r == 0)
		n_again = undo_plan_files(second, &again);
	if (r < 0) {
		r = explain_plan(u, r);
	} else if (!same_plan(files, n, again, n_again)) {
		fputs("stomp undo: somebody has changed one of the files just now; nothing "
		      "was "
		      "undone. Look again (--dry-run) and retry.\n",
			stderr);
		r = STOMP_NO;
	} else {
		r = act_all(u, again, n_again);
	}
	undo_leases_release(&u->ws, files, n);
	return r;
}

/* The undo that stands of a set: done, and not undone itself. 0: none. */
static uint64_t undone_by(const struct workspace *ws, uint64_t id)
{
	auto_json *json = NULL;
	auto_buf text = {0};
	struct json_object *sets = NULL;

	if (workspace_json(ws, "sets/log.json", "sets", &text, &json) == 0)
		sets = json_list(json, "sets");
	/* Newest first: the first that is about it tells. */
	for (size_t i = 0; sets && i < json_object_array_length(sets); i++) {
		struct json_object *set = json_object_array_get_idx(sets, i);
		uint64_t by = (uint64_t)json_number(set, "id", 0);

		if ((uint64_t)json_number(set, "undo_of", 0) == id &&
			strcmp(json_text(set, "undo", ""), "done") == 0)
			return undone_by(ws, by) ? 0 : by;
	}
	return 0;
}

static size_t n_reasons(const struct undo_file *files, size_t n)
{
	size_t found = 0;

	for (size_t i = 0; i < n; i++)
		found += files[i].reason != NULL;
	return found;
}

static int run(const struct undo *u)
{
	const struct undo_file *files = NULL;
	auto_plan *plan = NULL;
	size_t n, refused;
	uint64_t by;
	int r = undo_plan_new(&u->ws, &u->selection, &plan);

	if (r < 0)
		return explain_plan(u, r);
	n = undo_plan_files(plan, &files);
	by = u->selection.set ? undone_by(&u->ws, u->selection.set) : 0;
	if (!n || (by && n_reasons(files, n) == n)) {
		fprintf(stderr, "stomp undo: nothing of %s is left to undo", u->what.data);
		if (by)
			fprintf(stderr,
				": undo %llu did it (stomp undo %llu brings it back)",
				(unsigned long long)by, (unsigned long long)by);
		fputc('\n', stderr);
		return STOMP_NO;
	}
	if (u->dry_run)
		return tell_plan(u, files, n);
	refused = undo_tell_reasons(files, n);
	if (refused == n || (refused && !u->partial)) {
		fputs("nothing was changed", stderr);
		fputs(refused == n ? "\n" : " (name PATHs, or say --partial)\n", stderr);
		return STOMP_NO;
	}
	r = hold_and_act(u, files, n);
	return r == STOMP_DONE && refused ? STOMP_NO : r;
}

/* ---- the command line ---- */

static void put_what(struct undo *u, char *const *paths, const char *since)
{
	if (u->selection.set)
		buf_printf(&u->what, "set %llu", (unsigned long long)u->selection.set);
	else
		buf_printf(&u->what, "%s's work", u->selection.writer);
	if (since)
		buf_printf(&u->what, " since %s", since);
	for (unsigned i = 0; i < u->selection.n_paths && u->what.len < 1000; i++)
		buf_printf(&u->what, "%s%s", i ? ", " : " in ", paths[i]);
}

static int read_paths(struct undo *u, char *const *args, int n)
{
	u->paths = calloc((size_t)n + 1, sizeof(*u->paths));
	if (!u->paths)
		return report_errno(spec.name, "paths", -ENOMEM);
	u->selection.paths = u->paths;
	for (int i = 0; i < n; i++) {
		int r = workspace_path(
			&u->ws, spec.name, args[i], &u->paths[u->selection.n_paths]);

		if (r != STOMP_DONE)
			return r;
		u->selection.n_paths++;
	}
	return STOMP_DONE;
}

int cmd_undo(int argc, char **argv)
{
	auto_options o = {0};
	auto_undo u = {.ws = {.stomp_fd = -1}};
	unsigned n_back = 0;
	int r = options_parse(&spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	u.dry_run = o.values[OPT_DRY_RUN] != NULL;
	u.partial = o.values[OPT_PARTIAL] != NULL;
	r = workspace_enter(&u.ws, spec.name, o.n_args > 1 ? o.args[1] : NULL, NULL);
	if (r == STOMP_DONE && !u.dry_run)
		r = undo_take_back_interrupted(&u.ws, &n_back);
	if (r != STOMP_DONE)
		return r;
	if (!o.n_args && (n_back || u.dry_run))
		return STOMP_DONE;
	if (!o.n_args)
		return options_wrong(&spec,
			"say which set or writer to undo (`stomp log --sets` lists them)");
	if (!word_count(o.args[0], &u.selection.set))
		u.selection.writer = o.args[0];
	r = read_paths(&u, o.args + 1, o.n_args - 1);
	if (r == STOMP_DONE && o.values[OPT_SINCE])
		r = moment_seq(&u.ws, spec.name, "since", o.values[OPT_SINCE],
			&u.selection.since_seq);
	if (r != STOMP_DONE)
		return r;
	put_what(&u, u.paths, o.values[OPT_SINCE]);
	return buf_failed(&u.what) ? STOMP_FAILED : run(&u);
}
