#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/content.h"
#include "cli/copy.h"
#include "cli/options.h"
#include "cli/words.h"

static const struct command_spec spec = {
	.name = "cat",
	.usage = "PATH@N",
	.about = "Print the content of version N of PATH, as it was. A file whose own name "
		 "ends\n"
		 "in @3 is given as NAME@3@N. The same as `cat .stomp/history/PATH/N`.",
	.example =
		"  stomp cat src/a.c@3 | less     # `stomp log src/a.c` lists the versions",
	.min_args = 1,
	.max_args = 1,
};

/* The version is not there, or has no content: say which it is. */
static int explain(
	const struct workspace *ws, const char *path, const char *relative, uint64_t number)
{
	auto_versions list = {0};
	const struct version_entry *v;
	int r = versions_enter(ws, spec.name, path, relative, &list);

	if (r != STOMP_DONE)
		return r;
	v = versions_find(&list, relative, number);
	if (!v)
		return versions_missing(&list, spec.name, path, relative, number);
	fprintf(stderr, "stomp cat: version %llu of %s has no content: it is a %s\n",
		(unsigned long long)number, path, v->kind);
	return STOMP_NO;
}

int cmd_cat(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	auto_free char *path = NULL, *relative = NULL;
	auto_close int fd = -1;
	uint64_t number;
	size_t size;
	bool read_failed;
	int r = options_parse(&spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	if (!word_version(o.args[0], &size, &number))
		return options_wrong(&spec,
			"say which version: %s@N (`stomp log %s` lists them)", o.args[0],
			o.args[0]);
	path = strndup(o.args[0], size);
	if (!path)
		return STOMP_FAILED;
	r = workspace_enter(&ws, spec.name, path, &relative);
	if (r != STOMP_DONE)
		return r;
	fd = content_open(&ws, relative, number);
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -EISDIR)
		return explain(&ws, path, relative, number);
	if (fd < 0)
		return report_errno(spec.name, o.args[0], fd);
	r = copy_all(fd, STDOUT_FILENO, &read_failed);
	if (r == 0)
		return STOMP_DONE;
	report_errno(spec.name, read_failed ? o.args[0] : "standard output", r);
	return STOMP_FAILED;
}
