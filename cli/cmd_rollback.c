#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/content.h"
#include "cli/options.h"
#include "cli/words.h"

static const struct command_spec spec = {
	.name = "rollback",
	.usage = "PATH@N",
	.about = "Make PATH what version N was, content and mode. This is a change like "
		 "any\n"
		 "other: it is recorded as a new version, destroys nothing and can be "
		 "rolled\n"
		 "back itself; where another writer is changing the file it is refused. A "
		 "PATH\n"
		 "that is gone is made again.",
	.example = "  stomp log src/a.c              # which version was good?\n"
		   "  stomp rollback src/a.c@3",
	.min_args = 1,
	.max_args = 1,
};

static int without_content(const struct version_list *list, const struct version_entry *v,
	const char *path, const char *relative)
{
	const struct version_entry *before = versions_content_before(list, v);

	fprintf(stderr, "stomp rollback: version %llu of %s has no content: it is a %s\n",
		(unsigned long long)v->number, path, v->kind);
	if (version_is_delete(v) && before && versions_find(list, relative, before->number))
		fprintf(stderr,
			"(rm deletes it again; the last content before that is %s@%llu)\n",
			path, (unsigned long long)before->number);
	return STOMP_NO;
}

static void say_done(const struct version_list *list, const char *path, uint64_t number)
{
	const struct version_entry *newest = &list->entries[0];
	auto_buf undo = {0};

	printf("%s is version %llu again", path, (unsigned long long)number);
	if (version_has_content(newest) && newest->number != number) {
		buf_printf(&undo, "%s@%llu", path, (unsigned long long)newest->number);
		printf("; undo: stomp rollback ");
		if (!buf_failed(&undo)) {
			auto_buf quoted = {0};

			word_quote(&quoted, undo.data);
			fputs(quoted.data ?: "", stdout);
		}
	}
	putchar('\n');
}

int cmd_rollback(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	auto_versions list = {0};
	auto_free char *path = NULL, *relative = NULL;
	const struct version_entry *v;
	uint64_t number;
	size_t size;
	int r = options_parse(&spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	if (!word_version(o.args[0], &size, &number))
		return options_wrong(&spec,
			"say to which version: %s@N (`stomp log %s` lists them)", o.args[0],
			o.args[0]);
	path = strndup(o.args[0], size);
	if (!path)
		return STOMP_FAILED;
	r = workspace_enter(&ws, spec.name, path, &relative);
	if (r == STOMP_DONE)
		r = versions_enter(&ws, spec.name, path, relative, &list);
	if (r != STOMP_DONE)
		return r;
	v = versions_find(&list, relative, number);
	if (!v)
		return versions_missing(&list, spec.name, path, relative, number);
	if (!version_has_content(v))
		return without_content(&list, v, path, relative);
	r = content_put(&ws, spec.name,
		&(struct put){.path = path,
			.relative = relative,
			.source = relative,
			.version = v});
	if (r == STOMP_DONE)
		say_done(&list, path, number);
	return r;
}
