#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/moment.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/report_data.h"
#include "cli/report_write.h"
#include "cli/show.h"
#include "cli/words.h"

enum { OPT_SINCE, OPT_UNTIL, OPT_OUTPUT, OPT_FORCE };

static const struct option_spec options[] = {
	[OPT_SINCE] = {"since", 's', "TIME", "from then on: 15m, 10:32, 2026-11-24", false},
	[OPT_UNTIL] = {"until", 'u', "TIME", "up to then", false},
	[OPT_OUTPUT] = {"output", 'o', "FILE", "where to (stomp-report.html); -: stdout",
		false},
	[OPT_FORCE] = {"force", 'f', NULL, "replace FILE where it is there", false},
	{0}};

static const struct command_spec spec = {
	.name = "report",
	.usage = "[DIR] [--since TIME] [--until TIME] [-o FILE] [--force]",
	.about = "A picture of what happened, as one page for a browser that needs nothing "
		 "else: a\n"
		 "lane per writer, with versions, refusals, conflicts, merges and undos; "
		 "which files\n"
		 "were fought over; the diff of what you click. It holds lines of your "
		 "files.",
	.example = "  stomp report --since 12h -o /tmp/night.html",
	.options = options,
	.max_args = 1,
};

static const char default_name[] = "stomp-report.html";

/* A span ago, a time of day, a date, or a time with a zone. */
static bool parse_time(const char *word, int64_t now_ns, int64_t *ms)
{
	struct moment m;
	int64_t ns;

	if (word_moment_ns(word, now_ns, &ns)) {
		*ms = ns / NS_PER_MS;
		return true;
	}
	if (!moment_parse(word, now_ns, &m) || m.kind != MOMENT_TIME)
		return false;
	*ms = m.wall_ns / NS_PER_MS;
	return true;
}

static int write_all(const struct buf *page, FILE *f)
{
	size_t written = fwrite(page->data, 1, page->len, f);

	return written == page->len && fflush(f) == 0 ? 0 : -errno;
}

/* A page that could not be written whole does not stay. */
static int write_file(const struct buf *page, const char *path, bool force)
{
	int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (force ? O_TRUNC : O_EXCL);
	int fd = open(path, flags, 0666);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	int r;

	if (fd < 0 && errno == EEXIST) {
		fprintf(stderr,
			"stomp report: %s is there already; --force replaces it, -o names "
			"another\n",
			path);
		return STOMP_NO;
	}
	if (!f) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return report_errno(spec.name, path, r);
	}
	r = write_all(page, f);
	if (fclose(f) != 0 && r == 0)
		r = -errno;
	if (r == 0)
		return STOMP_DONE;
	if (!force)
		unlink(path);
	return report_errno(spec.name, path, r);
}

static int deliver(
	const struct report *report, const struct buf *page, const char *path, bool force)
{
	auto_buf size = {0};
	int r;

	if (strcmp(path, "-") == 0) {
		r = write_all(page, stdout);
		return r < 0 ? report_errno(spec.name, "standard output", r) : STOMP_DONE;
	}
	r = write_file(page, path, force);
	if (r != STOMP_DONE)
		return r;
	put_size(&size, page->len);
	printf("%s: %zu events, %s\n", path, report->n, size.data ?: "");
	return STOMP_DONE;
}

/* Before the work: a file that is there is not replaced by chance. */
static bool is_there(const char *path, bool force)
{
	struct stat st;

	if (force || strcmp(path, "-") == 0 || lstat(path, &st) != 0)
		return false;
	fprintf(stderr,
		"stomp report: %s is there already; --force replaces it, -o names "
		"another\n",
		path);
	return true;
}

int cmd_report(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	auto_report report = {.until_ms = INT64_MAX};
	auto_buf page = {0}, failed = {0};
	int64_t now_ns = clock_wall_ns(clock_system());
	int r = options_parse(&spec, argc, argv, &o);
	const char *since, *until, *path;
	bool force;

	if (r != OPTIONS_GO_ON)
		return r;
	since = o.values[OPT_SINCE];
	until = o.values[OPT_UNTIL];
	path = o.values[OPT_OUTPUT] ?: default_name;
	force = o.values[OPT_FORCE] != NULL;
	if ((since && !parse_time(since, now_ns, &report.since_ms)) ||
		(until && !parse_time(until, now_ns, &report.until_ms)))
		return options_wrong(
			&spec, "a time is 15m, 10:32 or 2026-11-24T10:32, and past");
	if (report.since_ms > report.until_ms)
		return options_wrong(&spec, "--since is later than --until");
	if (is_there(path, force))
		return STOMP_NO;
	r = workspace_enter(&ws, spec.name, o.n_args ? o.args[0] : NULL, NULL);
	if (r != STOMP_DONE)
		return r;
	r = report_collect(&report, &ws, &failed);
	if (r < 0)
		return report_errno(spec.name, failed.data ?: ".stomp", r);
	r = report_write(&report, &ws, &page);
	if (r < 0)
		return report_errno(spec.name, path, r);
	return deliver(&report, &page, path, force);
}
