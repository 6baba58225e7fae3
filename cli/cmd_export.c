#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/export_git.h"
#include "cli/export_patches.h"
#include "cli/moment_seq.h"
#include "cli/options.h"
#include "cli/words.h"

enum { OPT_SINCE, OPT_AT, OPT_GIT, OPT_BRANCH, OPT_PATCHES };

static const char default_branch[] = "stomp";

static const struct option_spec options[] = {
	[OPT_SINCE] = {"since", 's', "WHEN", "only changes since: 15m, 10:32, an epoch",
		false},
	[OPT_AT] = {"at", 0, "WHEN", "only changes up to then", false},
	[OPT_GIT] = {"git", 0, "REPO", "as commits in this repository", false},
	[OPT_BRANCH] = {"branch", 0, "NAME", "with --git: on this branch (stomp)", false},
	[OPT_PATCHES] = {"patches", 0, "DIR", "as patches 0001-….patch in this folder",
		false},
	{0}};

static const struct command_spec spec = {
	.name = "export",
	.usage = "SET|WRITER [PATH…] | PATH… [--since WHEN] [--at WHEN]\n"
		 "                    [--git REPO [--branch NAME] | --patches DIR]",
	.about = "What a change set (`stomp log --sets`) or a writer did, or all that "
		 "happened to\n"
		 "files and folders, as git commits: by whom, when and by which command. "
		 "Where\n"
		 "others changed the same files in between, that is commits of theirs. "
		 "Without\n"
		 "--git or --patches: a stream for `git fast-import` on the standard "
		 "output, which\n"
		 "begins with what was there before. The last commit holds what "
		 ".stomp/at/ shows.",
	.example = "  stomp export 12 --git .        # then: git diff HEAD...stomp\n"
		   "  stomp export claude-4312 --since 2h --patches /tmp/claude\n"
		   "  stomp export src | git -C ../history fast-import",
	.options = options,
	.min_args = 1,
	.max_args = -1,
};

struct export
{
	struct workspace ws;
	const struct options *o;
	struct export_choice choice;
	struct export_plan plan;
	struct export_result result;
	char **paths;
	size_t n_chosen;
};

static void export_done(struct export *e)
{
	for (unsigned i = 0; i < e->choice.n_paths; i++)
		free(e->paths[i]);
	free(e->paths);
	export_plan_done(&e->plan);
	workspace_close(&e->ws);
}

#define auto_export __attribute__((cleanup(export_done))) struct export

/* ---- telling ---- */

static void tell(const struct export *e, const char *where)
{
	const struct export_result *r = &e->result;

	fprintf(stderr, "%zu commit%s %s", r->n_commits, r->n_commits == 1 ? "" : "s",
		where);
	if (r->n_others)
		fprintf(stderr,
			"; %zu of them others' changes of the same files in between",
			r->n_others);
	fputc('\n', stderr);
	if (r->has_base)
		fputs("the commit before them is what was there before\n", stderr);
	fprintf(stderr, "the last one holds what .stomp/at/seq:%llu shows of these files\n",
		(unsigned long long)e->plan.last);
	if (r->n_left_out)
		fprintf(stderr, "left out: %zu name%s that git does not take (.git)\n",
			r->n_left_out, r->n_left_out == 1 ? "" : "s");
}

static int tell_none(const struct export *e)
{
	const char *what = e->o->args[0];

	if (e->choice.set || e->choice.writer)
		fprintf(stderr,
			"stomp export: nothing of %s is to be exported (`stomp log --sets` "
			"lists who did what)\n",
			what);
	else
		fprintf(stderr,
			"stomp export: no change at %s is recorded, and no writer of that "
			"name is known (`stomp log --sets`)\n",
			what);
	return STOMP_NO;
}

static int explain_plan(const struct export *e, int r)
{
	if (r == -ENOENT && e->choice.set) {
		fprintf(stderr,
			"stomp export: there is no change set %llu (`stomp log --sets` "
			"lists them)\n",
			(unsigned long long)e->choice.set);
		return STOMP_NO;
	}
	return report_errno(spec.name, ".stomp/events", r);
}

/* ---- the three ways out ---- */

static int to_git(struct export *e)
{
	const char *branch = e->o->values[OPT_BRANCH] ?: default_branch;
	struct export_git *git;
	auto_buf where = {0};
	int r = export_git_open(spec.name, e->o->values[OPT_GIT], branch, &git), ended;

	if (r == STOMP_DONE) {
		r = export_run(
			&e->ws, spec.name, &e->plan, export_git_sink(git), &e->result);
		ended = export_git_end(git, r == STOMP_DONE);
		r = r != STOMP_DONE ? r : ended;
		buf_printf(&where, "on %s", export_git_ref(git));
	}
	if (r == STOMP_DONE)
		tell(e, where.data ?: "");
	export_git_free(git);
	return r;
}

static int to_patches(struct export *e)
{
	struct export_patches *patches;
	auto_buf where = {0};
	int r = export_patches_new(spec.name, e->o->values[OPT_PATCHES], &patches);

	if (r == STOMP_DONE)
		r = export_run(&e->ws, spec.name, &e->plan, export_patches_sink(patches),
			&e->result);
	if (r == STOMP_DONE) {
		buf_printf(&where, "as patches in %s, on what .stomp/at/seq:%llu shows",
			e->o->values[OPT_PATCHES], (unsigned long long)e->plan.base);
		tell(e, where.data ?: "");
		if (export_patches_n_binary(patches))
			fprintf(stderr,
				"%zu files are not text, or end lines in CR LF: binary "
				"patches, for git only\n",
				export_patches_n_binary(patches));
	}
	export_patches_free(patches);
	return r;
}

static int to_stream(struct export *e)
{
	struct export_stream stream;
	int r;

	if (isatty(STDOUT_FILENO))
		return options_wrong(&spec,
			"the stream is for `git fast-import`, not for a terminal: pipe it, "
			"or say --git REPO or --patches DIR");
	export_stream_init(&stream, spec.name, stdout, "refs/heads/stomp", NULL);
	r = export_run(&e->ws, spec.name, &e->plan, &stream.sink, &e->result);
	if (r == STOMP_DONE && export_stream_end(&stream) < 0)
		r = STOMP_FAILED;
	if (r == STOMP_DONE)
		tell(e, "for refs/heads/stomp");
	return r;
}

/* ---- the command line ---- */

static int read_paths(struct export *e, char *const *args, int n)
{
	e->paths = calloc((size_t)n + 1, sizeof(*e->paths));
	if (!e->paths)
		return report_errno(spec.name, "paths", -ENOMEM);
	e->choice.paths = e->paths;
	for (int i = 0; i < n; i++) {
		int r = workspace_path(
			&e->ws, spec.name, args[i], &e->paths[e->choice.n_paths]);

		if (r != STOMP_DONE)
			return r;
		e->choice.n_paths++;
	}
	return STOMP_DONE;
}

static bool is_writer(const struct workspace *ws, const char *name)
{
	auto_json *json = NULL;
	auto_buf text = {0};
	struct json_object *sets = NULL;

	if (strchr(name, '/') ||
		workspace_json(ws, "sets/log.json", "sets", &text, &json) < 0)
		return false;
	sets = json_list(json, "sets");
	for (size_t i = 0; sets && i < json_object_array_length(sets); i++)
		if (strcmp(json_text(json_object_array_get_idx(sets, i), "writer", ""),
			    name) == 0)
			return true;
	return false;
}

/* A number is a set, the name of a writer is that (./NAME is the path), all else a path. */
static int read_choice(struct export *e)
{
	char *const *args = e->o->args;
	int n = e->o->n_args;

	if (!word_count(args[0], &e->choice.set) && is_writer(&e->ws, args[0]))
		e->choice.writer = args[0];
	if (e->choice.set || e->choice.writer) {
		args++;
		n--;
	}
	return read_paths(e, args, n);
}

static int read_moments(struct export *e)
{
	const char *since = e->o->values[OPT_SINCE];
	int r = moment_seq(&e->ws, spec.name, "at", e->o->values[OPT_AT], &e->choice.at);

	if (r == STOMP_DONE && since)
		r = moment_seq(&e->ws, spec.name, "since", since, &e->choice.since);
	return r;
}

/* Which word says where the workspace is, if not the current folder. */
static const char *place_of(const struct options *o)
{
	const char *last = o->args[o->n_args - 1];
	struct stat st;

	return strchr(last, '/') || lstat(last, &st) == 0 ? last : NULL;
}

int cmd_export(int argc, char **argv)
{
	auto_options o = {0};
	auto_export e = {.ws = {.stomp_fd = -1}, .o = &o};
	int r = options_parse(&spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	if (o.values[OPT_GIT] && o.values[OPT_PATCHES])
		return options_wrong(&spec, "--git and --patches are two exports");
	if (o.values[OPT_BRANCH] && !o.values[OPT_GIT])
		return options_wrong(&spec, "--branch goes with --git REPO");
	r = workspace_enter(&e.ws, spec.name, place_of(&o), NULL);
	if (r == STOMP_DONE)
		r = read_moments(&e);
	if (r == STOMP_DONE)
		r = read_choice(&e);
	if (r != STOMP_DONE)
		return r;
	r = export_plan_make(&e.plan, &e.ws, &e.choice, &e.n_chosen);
	if (r < 0)
		return explain_plan(&e, r);
	if (!e.n_chosen)
		return tell_none(&e);
	if (o.values[OPT_GIT])
		return to_git(&e);
	return o.values[OPT_PATCHES] ? to_patches(&e) : to_stream(&e);
}
