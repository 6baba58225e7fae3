#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/content.h"
#include "cli/options.h"
#include "cli/patch.h"
#include "cli/words.h"

static const struct command_spec spec = {
	.name = "diff",
	.usage = "PATH[@N] [PATH[@M]]",
	.about =
		"What changed, as a unified diff that patch and git apply understand.\n"
		"  PATH             the newest version against the one before\n"
		"  PATH@N           version N against the file as it is now\n"
		"  PATH@N PATH@M    version N against version M; without @M: the file now\n"
		"Exit code 0: the same; 1: they differ.",
	.example = "  stomp diff src/a.c             # what did the last writer do?\n"
		   "  stomp diff src/a.c@2 src/a.c@5",
	.min_args = 1,
	.max_args = 2,
};

/* One side of the comparison. */
struct side {
	char *path;	 /* as given, without @N */
	char *relative;	 /* in the workspace */
	char *source;	 /* where its content is; another name before a rename */
	uint64_t number; /* 0: the file as it is now */
	bool gone;	 /* deleted, or not there */
	struct buf label, content;
};

#define auto_side __attribute__((cleanup(side_done))) struct side

static void side_done(struct side *s)
{
	free(s->path);
	free(s->relative);
	free(s->source);
	buf_done(&s->label);
	buf_done(&s->content);
}

static int side_parse(struct side *s, const char *word)
{
	size_t size;

	word_version(word, &size, &s->number);
	s->path = strndup(word, size);
	return s->path ? STOMP_DONE : STOMP_FAILED;
}

/* The side is this version. */
static int take_version(const struct workspace *ws, struct side *s,
	const struct version_list *list, const struct version_entry *v)
{
	bool own = versions_find(list, s->relative, v->number) == v;
	int r;

	version_describe(&s->label, v);
	s->number = v->number;
	s->gone = !version_has_content(v);
	s->source = strdup(own ? s->relative : v->path);
	if (!s->source)
		return STOMP_FAILED;
	r = s->gone ? 0 : content_read(ws, s->source, v->number, &s->content);
	return r < 0 ? report_errno(spec.name, s->path, r) : STOMP_DONE;
}

static int take_current(const struct workspace *ws, struct side *s)
{
	int r = content_read_current(ws, s->relative, &s->content);

	buf_puts(&s->label, "now");
	s->gone = r == -ENOENT;
	return r < 0 && !s->gone ? report_errno(spec.name, s->path, r) : STOMP_DONE;
}

static int take_side(const struct workspace *ws, struct side *s)
{
	auto_versions list = {0};
	const struct version_entry *v;
	int r;

	if (!s->number)
		return take_current(ws, s);
	r = versions_enter(ws, spec.name, s->path, s->relative, &list);
	if (r != STOMP_DONE)
		return r;
	v = versions_find(&list, s->relative, s->number);
	if (!v)
		return versions_missing(&list, spec.name, s->path, s->relative, s->number);
	return take_version(ws, s, &list, v);
}

/* PATH alone: its newest version against the one before; where there is only one,
 * that one against the file as it is now. */
static int take_newest(const struct workspace *ws, struct side *old, struct side *new)
{
	auto_versions list = {0};
	const struct version_entry *newest, *before;
	int r = versions_enter(ws, spec.name, new->path, new->relative, &list);

	if (r != STOMP_DONE)
		return r;
	newest = &list.entries[0];
	before = versions_content_before(&list, newest);
	r = take_version(ws, old, &list, before ?: newest);
	if (r != STOMP_DONE)
		return r;
	return before ? take_version(ws, new, &list, newest) : take_current(ws, new);
}

static int compare(const struct side *old, const struct side *new)
{
	const struct patch_side from = {.relative = old->relative,
		.label = old->label.data ?: "",
		.content = &old->content,
		.gone = old->gone};
	const struct patch_side to = {.relative = new->relative,
		.label = new->label.data ?: "",
		.content = &new->content,
		.gone = new->gone};
	struct output out;
	int r;

	if (patch_is_empty(&from, &to)) {
		fprintf(stderr, "no difference: %s has the same content in %s and %s\n",
			new->path, from.label, to.label);
		return STOMP_DONE;
	}
	output_begin(&out, true);
	r = patch_print(spec.name, &from, &to, &out);
	if (output_end(&out) != STOMP_DONE)
		r = STOMP_FAILED;
	return r == STOMP_DONE ? STOMP_NO : STOMP_FAILED;
}

int cmd_diff(int argc, char **argv)
{
	auto_options o = {0};
	auto_workspace ws = {.stomp_fd = -1};
	auto_side old = {0}, new = {0};
	int r = options_parse(&spec, argc, argv, &o);

	if (r != OPTIONS_GO_ON)
		return r;
	r = side_parse(&old, o.args[0]) ?: side_parse(&new, o.args[o.n_args - 1]);
	if (r != STOMP_DONE)
		return r;
	r = workspace_enter(&ws, spec.name, old.path, &old.relative)
		    ?: workspace_path(&ws, spec.name, new.path, &new.relative);
	if (r != STOMP_DONE)
		return r;
	if (o.n_args == 1 && !old.number) {
		r = take_newest(&ws, &old, &new);
	} else {
		if (o.n_args == 1)
			new.number = 0;
		r = take_side(&ws, &old) ?: take_side(&ws, &new);
	}
	if (r != STOMP_DONE)
		return r;
	if (old.gone && new.gone) {
		fprintf(stderr, "stomp diff: %s: there is nothing on either side\n",
			new.path);
		return STOMP_NO;
	}
	return compare(&old, &new);
}
