#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/gc_unmounted.h"
#include "cli/options.h"
#include "cli/show.h"
#include "cli/unmounted.h"

#define POLL_MS 50

enum { OPT_DRY_RUN, OPT_JSON };

static const struct option_spec options[] = {
	[OPT_DRY_RUN] = {"dry-run", 'n', NULL, "tell what would go, change nothing", false},
	[OPT_JSON] = {"json", 0, NULL, "as JSON (schema stompfs/gc/1)", false},
	{0}};

static const struct command_spec spec = {
	.name = "gc",
	.usage = "[DIR] [--dry-run] [--json]",
	.about = "Let go of versions that the policy does not keep (keep=, "
		 "stomp-policy(5)). The\n"
		 "daemon does the same by itself, now and then; of a workspace that is not "
		 "mounted\n"
		 "the command does it. Never collected: the current version of a path, "
		 "what is\n"
		 "pinned (`stomp pin`), unresolved conflicts. The file .stomp/journal.db "
		 "does not\n"
		 "shrink: what is freed is used for new versions.",
	.example = "  stomp gc --dry-run\n  stomp gc",
	.options = options,
	.max_args = 1,
};

static void show(struct json_object *json)
{
	bool dry = json_flag(json, "dry_run");

	printf("%lld versions of %lld paths looked at\n",
		(long long)json_number(json, "looked_at", 0),
		(long long)json_number(json, "paths", 0));
	printf("%s %lld versions, %lld contents (%lld bytes stored%s)\n",
		dry ? "would go:" : "gone:", (long long)json_number(json, "versions", 0),
		(long long)json_number(json, "contents", 0),
		(long long)json_number(json, "bytes", 0), dry ? ", at least" : "");
	if (json_number(json, "conflicts", 0) || json_number(json, "log_rows", 0))
		printf("%s the bytes of %lld resolved conflicts, %lld old lines of the "
		       "log\n",
			dry ? "would go:" : "gone:",
			(long long)json_number(json, "conflicts", 0),
			(long long)json_number(json, "log_rows", 0));
}

static int tell(struct json_object *json, bool as_json)
{
	if (as_json)
		return show_json_rows(json, "none", 0);
	show(json);
	return STOMP_DONE;
}

/* The daemon collects; its document says how far it is. */
static int await(const struct workspace *ws, bool as_json)
{
	const struct timespec nap = {.tv_nsec = POLL_MS * 1000000L};

	for (;; nanosleep(&nap, NULL)) {
		auto_buf text = {0};
		auto_json *json = NULL;
		int r = workspace_json(ws, "gc.json", "gc", &text, &json);

		if (r < 0)
			return report_errno(spec.name, ws->root, r);
		if (json_flag(json, "running"))
			continue;
		r = (int)json_number(json, "error", 0);
		if (r)
			return report_errno(spec.name, ws->root, -r);
		return tell(json, as_json);
	}
}

static int gc_mounted(const char *given, bool dry_run, bool as_json)
{
	auto_workspace ws = {.stomp_fd = -1};
	auto_buf answer = {0};
	int r = workspace_enter(&ws, spec.name, given, NULL);

	if (r != STOMP_DONE)
		return r;
	r = workspace_ctl(&ws, dry_run ? "gc dry-run" : "gc", &answer);
	if (r < 0)
		return show_ctl_failure(spec.name, &ws, &answer, r);
	return await(&ws, as_json);
}

int cmd_gc(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	auto_free char *dir = NULL;
	auto_json *json = NULL;
	const char *given;
	int r = options_parse(&spec, argc, argv, &o);
	bool dry_run = o.values[OPT_DRY_RUN], as_json = o.values[OPT_JSON];

	if (r != OPTIONS_GO_ON)
		return r;
	given = o.n_args ? o.args[0] : NULL;
	r = unmounted_find(spec.name, given ?: ".", &ws, &dir);
	if (r == STOMP_DONE)
		return gc_mounted(given, dry_run, as_json);
	if (r == STOMP_NO_WORKSPACE)
		r = gc_unmounted(spec.name, dir, dry_run, &json);
	return r == STOMP_DONE ? tell(json, as_json) : r;
}
