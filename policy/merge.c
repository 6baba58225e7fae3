#include "policy/merge.h"

#include <git2.h>
#include <string.h>

#include "policy/line_diff.h"
#include "policy/lost_update_internal.h"

static void cleanup_result(git_merge_file_result *r)
{
	git_merge_file_result_free(r);
}

static bool is_long(const struct content *c)
{
	uint32_t n = 0;

	for (const char *p = c->data, *end = p + c->size; p < end && n <= MERGE_MAX_LINES;
		n++) {
		const char *newline = memchr(p, '\n', end - p);

		p = newline ? newline + 1 : end;
	}
	return n > MERGE_MAX_LINES;
}

static git_merge_file_input input(const struct content *c)
{
	git_merge_file_input in = GIT_MERGE_FILE_INPUT_INIT;

	in.ptr = c->size ? c->data : "";
	in.size = c->size;
	return in;
}

static int merge(const struct content *base, const struct content *current,
	const struct content *new, git_merge_file_favor_t favor, enum merge_answer *answer,
	struct buf *merged)
{
	__attribute__((cleanup(cleanup_result))) git_merge_file_result result = {0};
	git_merge_file_options options = GIT_MERGE_FILE_OPTIONS_INIT;
	git_merge_file_input b = input(base), c = input(current), n = input(new);

	*answer = MERGE_CONFLICT;
	if (contents_by_block(base, current, new) || is_long(base) || is_long(current) ||
		is_long(new))
		return 0;
	options.favor = favor;
	if (!line_diff_library_ready() || git_merge_file(&result, &b, &c, &n, &options) < 0)
		return -EIO;
	if (!result.automergeable)
		return 0;
	buf_append(merged, result.ptr, result.len);
	if (buf_failed(merged))
		return -ENOMEM;
	*answer = MERGE_CLEAN;
	return 0;
}

int merge_lines(const struct content *base, const struct content *current,
	const struct content *new, enum merge_answer *answer, struct buf *merged)
{
	return merge(base, current, new, GIT_MERGE_FILE_FAVOR_NORMAL, answer, merged);
}

int merge_union(const struct content *base, const struct content *current,
	const struct content *new, enum merge_answer *answer, struct buf *merged)
{
	return merge(base, current, new, GIT_MERGE_FILE_FAVOR_UNION, answer, merged);
}
