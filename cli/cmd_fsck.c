#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/unmounted.h"
#include "journal/check.h"
#include "journal/ring.h"

#define POLL_MS 100

enum { OPT_REPAIR, OPT_SCRUB, OPT_RATE, OPT_JSON };

static const struct option_spec options[] = {
	[OPT_REPAIR] = {"repair", 0, NULL, "mend what can be mended without guessing",
		false},
	[OPT_SCRUB] = {"scrub", 0, NULL, "read every stored content as well", false},
	[OPT_RATE] = {"rate", 0, "MIB", "of a mounted workspace, so much a second (32)",
		true},
	[OPT_JSON] = {"json", 0, NULL, "as JSON (schema stompfs/fsck/1)", false},
	{0}};

static const struct command_spec spec = {
	.name = "fsck",
	.usage = "[DIR] [--repair] [--scrub] [--rate MIB] [--json]",
	.about = "Check the history of DIR: the journal against the stored contents, and "
		 "the newest\n"
		 "versions against the tree. Without --repair it only tells. A mounted "
		 "workspace is\n"
		 "checked by its daemon; to mend, unmount first. What is damaged is moved "
		 "aside, what\n"
		 "cannot be had back is marked as lost. Exit code 1 when something is "
		 "wrong or lost.",
	.example = "  stomp fsck --scrub ~/project\n"
		   "  stomp umount ~/project && stomp fsck --repair ~/project",
	.options = options,
	.max_args = 1,
};

/* ---- what is found ---- */

static const char *const grades[] = {
	[CHECK_NOTE] = "note",
	[CHECK_PROBLEM] = "problem",
	[CHECK_MENDED] = "mended",
	[CHECK_LOST] = "lost",
};

struct report {
	bool json;
	struct buf findings;
	unsigned n, bad;
};

static void find(enum check_grade grade, const char *text, void *ctx)
{
	struct report *r = ctx;

	r->bad += grade == CHECK_PROBLEM || grade == CHECK_LOST;
	if (!r->json) {
		printf("%-7s  %s\n", grades[grade], text);
		return;
	}
	buf_printf(&r->findings, "%s{\"grade\":\"%s\",\"text\":", r->n++ ? "," : "",
		grades[grade]);
	buf_put_json_str(&r->findings, text);
	buf_putc(&r->findings, '}');
}

static void put_count(struct buf *out, uint64_t n, const char *what)
{
	buf_printf(out, "%s%llu %s%s", out->len ? ", " : "", (unsigned long long)n, what,
		n == 1 ? "" : "s");
}

static int finish(struct report *r, const struct check_sums *s, bool repair, bool scrub)
{
	uint64_t left =
		repair ? s->problems - (s->problems < s->mended ? s->problems : s->mended)
		       : s->problems;
	auto_buf line = {0};

	if (r->json) {
		printf("{\"schema\":\"stompfs/fsck/1\",\"sound\":%s,\"versions\":%llu,"
		       "\"contents\":%llu,\"contents_read\":%llu,\"bytes_read\":%llu,"
		       "\"files_compared\":%llu,\"files_differ\":%llu,\"problems\":%llu,"
		       "\"mended\":%llu,\"lost\":%llu,\"findings\":[%s]}\n",
			s->problems || s->lost ? "false" : "true",
			(unsigned long long)s->versions, (unsigned long long)s->contents,
			(unsigned long long)s->contents_read,
			(unsigned long long)s->bytes_read,
			(unsigned long long)s->files_compared,
			(unsigned long long)s->files_differ,
			(unsigned long long)s->problems, (unsigned long long)s->mended,
			(unsigned long long)s->lost, r->findings.data ?: "");
		return left || s->lost ? STOMP_NO : STOMP_DONE;
	}
	put_count(&line, s->versions, "version");
	put_count(&line, s->contents, "stored content");
	if (scrub)
		buf_printf(&line, " (%llu read and whole)",
			(unsigned long long)s->contents_read);
	put_count(&line, s->problems, "problem");
	if (repair)
		buf_printf(&line, ", %llu mended, %llu lost", (unsigned long long)s->mended,
			(unsigned long long)s->lost);
	printf("%s\n", line.data ?: "");
	if (s->problems && !repair)
		printf("`stomp fsck --repair` mends what can be mended (unmount first)\n");
	return left || s->lost ? STOMP_NO : STOMP_DONE;
}

/* ---- nothing is mounted ---- */

/* Versions that waited for their rows (journal/ring.h). */
static int check_queue(
	int stomp, bool repair, struct report *report, struct check_sums *sums)
{
	enum check_grade grade = repair ? CHECK_MENDED : CHECK_PROBLEM;
	struct ring_sums ring;
	auto_buf text = {0};
	int r = ring_check(stomp, repair, &ring);

	if (r < 0)
		return r;
	if (ring.state == RING_OTHER)
		find(CHECK_NOTE,
			"another stompfs wrote .stomp/queue; it is left alone, and not "
			"used",
			report);
	if (ring.kept) {
		buf_printf(&text,
			"%llu version%s in .stomp/queue: the next mount writes "
			"the rows",
			(unsigned long long)ring.kept,
			ring.kept == 1 ? " waits" : "s wait");
		find(CHECK_NOTE, text.data ?: "versions wait in .stomp/queue", report);
	}
	if (ring.state == RING_BROKEN) {
		sums->problems++;
		sums->mended += repair;
		find(grade,
			repair ? "the damaged queue of versions is set aside as "
				 ".stomp/queue.damaged; what waited in it is recorded as "
				 "the next mount finds it"
			       : "the queue of versions (.stomp/queue) is damaged",
			report);
	}
	if (ring.damaged) {
		buf_reset(&text);
		buf_printf(&text,
			"%llu of the versions that wait in .stomp/queue %s "
			"damaged%s",
			(unsigned long long)ring.damaged, ring.damaged == 1 ? "is" : "are",
			repair ? " and cannot be had back; those behind it are kept, the "
				 "files are recorded as the next mount finds them"
			       : ", which keeps back those behind it");
		sums->problems += !repair;
		sums->lost += repair ? ring.damaged : 0;
		find(repair ? CHECK_LOST : CHECK_PROBLEM, text.data ?: "damaged", report);
	}
	return 0;
}

static int check_folder(const char *dir, const struct options *o, struct report *report)
{
	auto_unmounted f = UNMOUNTED_NONE;
	struct check_options check = {
		.scrub = o->values[OPT_SCRUB],
		.repair = o->values[OPT_REPAIR],
		.say = find,
		.ctx = report,
	};
	struct check_sums sums;
	int r = unmounted_lock(&f, spec.name, dir);

	if (r != STOMP_DONE)
		return r;
	check.dirfd = f.stomp_fd;
	check.root_fd = f.root_fd;
	r = journal_check(&check, &sums);
	if (r == -ENOENT) {
		fprintf(stderr, "stomp fsck: %s/.stomp has no journal.db%s\n", dir,
			check.repair ? "; mounting it begins a new history" : "");
		return STOMP_NO;
	}
	if (r == -EPROTO) {
		fprintf(stderr, "stomp fsck: a newer stompfs wrote this journal; use that "
				"one's stomp\n");
		return STOMP_FAILED;
	}
	if (r < 0)
		return report_errno(spec.name, dir, r);
	r = intents_check(f.stomp_fd, check.repair);
	if (r == 0) {
		sums.problems++;
		sums.mended += check.repair;
		find(check.repair ? CHECK_MENDED : CHECK_PROBLEM,
			check.repair
				? "the damaged list of unfinished changes is set aside "
				  "as .stomp/intents.damaged"
				: "the list of unfinished changes (.stomp/intents) is "
				  "damaged",
			report);
	}
	r = r < 0 ? r : check_queue(f.stomp_fd, check.repair, report, &sums);
	return r < 0 ? report_errno(spec.name, dir, r)
		     : finish(report, &sums, check.repair, check.scrub);
}

/* ---- mounted ---- */

static void take_findings(struct json_object *json, struct report *report)
{
	struct json_object *list = json_list(json, "findings");

	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *row = json_object_array_get_idx(list, i);
		const char *grade = json_text(row, "grade", "problem");

		for (size_t g = 0; g < ARRAY_SIZE(grades); g++)
			if (!strcmp(grade, grades[g]))
				find((enum check_grade)g, json_text(row, "text", ""),
					report);
	}
}

static struct check_sums take_sums(struct json_object *json)
{
	return (struct check_sums){
		.versions = (uint64_t)json_number(json, "versions", 0),
		.contents = (uint64_t)json_number(json, "contents", 0),
		.contents_read = (uint64_t)json_number(json, "contents_read", 0),
		.bytes_read = (uint64_t)json_number(json, "bytes_read", 0),
		.problems = (uint64_t)json_number(json, "problems", 0),
	};
}

/* The daemon checks by itself; its document says how far it is. */
static int check_mounted(
	const struct workspace *ws, const struct options *o, struct report *report)
{
	auto_buf line = {0}, answer = {0};
	const struct timespec nap = {.tv_nsec = POLL_MS * 1000000L};
	int r;

	buf_puts(&line, o->values[OPT_SCRUB] ? "fsck scrub" : "fsck");
	if (o->values[OPT_RATE])
		buf_printf(&line, " rate=%s", o->values[OPT_RATE]);
	r = workspace_ctl(ws, line.data, &answer);
	if (r < 0) {
		fprintf(stderr, "stomp fsck: %s: %s", ws->root,
			answer.len ? answer.data : strerror(-r));
		return r == -EINVAL ? STOMP_USAGE : STOMP_NO;
	}
	for (;; nanosleep(&nap, NULL)) {
		auto_buf text = {0};
		auto_json *json = NULL;
		struct check_sums sums;

		r = workspace_json(ws, "fsck.json", "fsck", &text, &json);
		if (r < 0)
			return report_errno(spec.name, ws->root, r);
		if (json_flag(json, "running"))
			continue;
		take_findings(json, report);
		sums = take_sums(json);
		r = (int)json_number(json, "error", 0);
		if (r)
			return report_errno(spec.name, ws->root, -r);
		return finish(report, &sums, false, o->values[OPT_SCRUB]);
	}
}

int cmd_fsck(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	auto_free char *dir = NULL;
	struct report report = {0};
	int r = options_parse(&spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	report.json = o.values[OPT_JSON];
	r = unmounted_find(spec.name, o.n_args ? o.args[0] : ".", &ws, &dir);
	if (r != STOMP_DONE && r != STOMP_NO_WORKSPACE)
		return r;
	if (r == STOMP_DONE && o.values[OPT_REPAIR]) {
		fprintf(stderr,
			"stomp fsck: %s is mounted; to mend it: `stomp umount %s`, then "
			"this "
			"again\n",
			ws.root, ws.root);
		return STOMP_NO;
	}
	r = r == STOMP_DONE ? check_mounted(&ws, &o, &report)
			    : check_folder(dir, &o, &report);
	buf_done(&report.findings);
	return r;
}
