#include "cli/patch.h"

#include <string.h>

#include <git2.h>

#include "cli/cli.h"

static int print_line(const git_diff_delta *delta, const git_diff_hunk *hunk,
	const git_diff_line *line, void *ctx)
{
	const struct output *o = ctx;
	enum colour colour = COLOUR_NONE;
	size_t size = line->content_len;
	bool newline;

	switch (line->origin) {
	case GIT_DIFF_LINE_FILE_HDR:
	case GIT_DIFF_LINE_BINARY:
		return 0;
	case GIT_DIFF_LINE_HUNK_HDR:
		colour = COLOUR_CYAN;
		break;
	case GIT_DIFF_LINE_ADDITION:
		colour = COLOUR_GREEN;
		break;
	case GIT_DIFF_LINE_DELETION:
		colour = COLOUR_RED;
		break;
	default:
		break;
	}
	newline = size && line->content[size - 1] == '\n';
	fputs(output_on(o, colour), o->f);
	if (strchr("+- ", line->origin))
		fputc(line->origin, o->f);
	fwrite(line->content, 1, size - newline, o->f);
	fputs(output_off(o, colour), o->f);
	if (newline)
		fputc('\n', o->f);
	return 0;
}

/* A file's name in a patch, quoted as git does where it must be. */
static void put_patch_name(struct buf *out, const char *prefix, const struct patch_side *s)
{
	bool plain = true;

	if (s->gone) {
		buf_puts(out, "/dev/null");
		return;
	}
	for (const char *c = s->relative; *c; c++)
		plain &= *c >= ' ' && *c != 0x7f && *c != '"' && *c != '\\';
	buf_printf(out, "%s%s", plain ? "" : "\"", prefix);
	for (const char *c = s->relative; *c; c++) {
		if (*c == '"' || *c == '\\')
			buf_printf(out, "\\%c", *c);
		else if (!plain && (*c < ' ' || *c == 0x7f))
			buf_printf(out, "\\%03o", (unsigned char)*c);
		else
			buf_putc(out, *c);
	}
	if (!plain)
		buf_putc(out, '"');
}

static bool is_binary(const struct patch_side *s)
{
	return memchr(
		s->content->data ?: "", 0, s->content->len < 8000 ? s->content->len : 8000);
}

static int print_patch(const struct patch_side *old, const struct patch_side *new,
	git_patch *patch, struct output *o)
{
	auto_buf from = {0}, to = {0};

	put_patch_name(&from, "a/", old);
	put_patch_name(&to, "b/", new);
	if (is_binary(old) || is_binary(new)) {
		fprintf(o->f, "%s (%s, %zu bytes) and %s (%s, %zu bytes) differ: binary\n",
			from.data ?: "", old->label, old->content->len, to.data ?: "",
			new->label, new->content->len);
		return 0;
	}
	fprintf(o->f, "%s--- %s\t%s%s\n", output_on(o, COLOUR_BOLD), from.data ?: "",
		old->label, output_off(o, COLOUR_BOLD));
	fprintf(o->f, "%s+++ %s\t%s%s\n", output_on(o, COLOUR_BOLD), to.data ?: "",
		new->label, output_off(o, COLOUR_BOLD));
	return git_patch_print(patch, print_line, o);
}

bool patch_is_empty(const struct patch_side *old, const struct patch_side *new)
{
	return old->gone == new->gone && old->content->len == new->content->len &&
	       (!old->content->len || memcmp(old->content->data, new->content->data,
					      old->content->len) == 0);
}

int patch_print(const char *command, const struct patch_side *old,
	const struct patch_side *new, struct output *o)
{
	git_diff_options options = GIT_DIFF_OPTIONS_INIT;
	git_patch *patch = NULL;
	int r;

	if (patch_is_empty(old, new))
		return STOMP_DONE;
	git_libgit2_init();
	r = git_patch_from_buffers(&patch, old->content->data ?: "", old->content->len,
		old->relative, new->content->data ?: "", new->content->len, new->relative,
		&options);
	if (r == 0)
		r = print_patch(old, new, patch, o);
	else
		fprintf(stderr, "stomp %s: %s\n", command, git_error_last()->message);
	git_patch_free(patch);
	git_libgit2_shutdown();
	return r == 0 ? STOMP_DONE : STOMP_FAILED;
}
