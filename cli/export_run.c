#include "cli/export_run.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/export_message.h"
#include "policy/rules.h"

#define FILE_MAX ((off_t)1 << 30)
#define BASE_TURN SIZE_MAX

/* What a name was when it was looked at last. */
struct state {
	struct export_file file;
	uint64_t at;  /* the seq of that moment */
	size_t touch; /* in which commit it is on the list already */
};

struct run {
	const struct workspace *ws;
	const char *command;
	struct export_plan *plan;
	struct export_sink *sink;
	struct export_result *result;
	struct rules *rules;
	struct buf states;  /* of struct state, by name */
	struct buf touched; /* of uint32_t: names of the commit at hand */
	size_t turn;	    /* which commit that is, from 1; or BASE_TURN */
	bool failed;	    /* and it was said why */
};

static void run_done(struct run *r)
{
	rules_free(r->rules);
	buf_done(&r->states);
	buf_done(&r->touched);
}

#define auto_run __attribute__((cleanup(run_done))) struct run

static int fail(struct run *r, const char *path, int error)
{
	auto_buf name = {0};

	if (r->failed)
		return error;
	r->failed = true;
	buf_put_name(&name, path, strlen(path));
	fprintf(stderr, "stomp %s: %s: %s\n", r->command, name.data ?: "",
		error == -EFBIG ? "larger than 1 GiB: name PATHs without it"
				: strerror(-error));
	return error;
}

/* ---- names ---- */

static struct state *state_of(struct run *r, uint32_t name)
{
	const struct state none = {0};

	while (r->states.len <= name * sizeof(none)) {
		buf_append(&r->states, &none, sizeof(none));
		if (buf_failed(&r->states))
			return NULL;
	}
	return (struct state *)(void *)r->states.data + name;
}

/* git takes no path with such a part. */
static bool is_of_git(const char *path)
{
	for (const char *part = path; part; part = strchr(part, '/')) {
		part += *part == '/';
		if (strncasecmp(part, ".git", 4) == 0 && (!part[4] || part[4] == '/'))
			return true;
	}
	return false;
}

static int touch(struct run *r, uint32_t name)
{
	struct state *s = state_of(r, name);

	if (!s)
		return -ENOMEM;
	if (s->touch == r->turn || !name)
		return 0;
	s->touch = r->turn;
	buf_append(&r->touched, &name, sizeof(name));
	return buf_failed(&r->touched) ? -ENOMEM : 0;
}

/* ---- what was there ---- */

static int read_all(int fd, off_t size, struct buf *out)
{
	char chunk[1 << 16];
	ssize_t n;

	if (size > FILE_MAX)
		return -EFBIG;
	while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			buf_append(out, chunk, (size_t)n);
		if (out->len > FILE_MAX)
			return -EFBIG;
	}
	return 0;
}

static int read_link(int stomp_fd, const char *name, struct buf *out)
{
	char target[4096];
	ssize_t n = readlinkat(stomp_fd, name, target, sizeof(target));

	if (n < 0)
		return -errno;
	buf_append(out, target, (size_t)n);
	return 0;
}

/* content is empty before, and has the bytes then. */
static int read_file(struct run *r, uint32_t path, uint64_t at, struct export_file *file,
	struct buf *content)
{
	const char *relative = export_name(&r->plan->rows, path);
	auto_buf name = {0};
	auto_close int fd = -1;
	struct stat st;
	int e = 0;

	*file = (struct export_file){0};
	if (is_of_git(relative)) {
		r->result->n_left_out += r->turn == BASE_TURN;
		return 0;
	}
	buf_printf(&name, "at/seq:%llu/%s", (unsigned long long)at, relative);
	if (buf_failed(&name))
		return -ENOMEM;
	if (fstatat(r->ws->stomp_fd, name.data, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : fail(r, relative, -errno);
	if (S_ISLNK(st.st_mode)) {
		e = read_link(r->ws->stomp_fd, name.data, content);
	} else if (S_ISREG(st.st_mode)) {
		fd = openat(r->ws->stomp_fd, name.data, O_RDONLY | O_CLOEXEC);
		e = fd < 0 ? -errno : read_all(fd, st.st_size, content);
	} else {
		return 0;
	}
	if (e == 0 && buf_failed(content))
		e = -ENOMEM;
	if (e < 0)
		return fail(r, relative, e);
	file->mode = S_ISLNK(st.st_mode) ? 0120000 : st.st_mode & 0100 ? 0100755 : 0100644;
	file->hash = hash128_bytes(content->data ?: "", content->len);
	file->size = content->len;
	return 0;
}

static bool is_same(const struct export_file *a, const struct export_file *b)
{
	return a->mode == b->mode &&
	       (!a->mode || (a->size == b->size && hash128_equal(a->hash, b->hash)));
}

/* ---- folders ---- */

/* What has no history is no part of one. */
static bool is_passed(const struct run *r, const char *path, bool folder)
{
	struct rule rule;

	rules_lookup(r->rules, path, strlen(path), folder, &rule);
	return rule.mode == MODE_PASS;
}

static int push(struct buf *stack, const char *path)
{
	buf_append(stack, path, strlen(path) + 1);
	return buf_failed(stack) ? -ENOMEM : 0;
}

static bool pop(struct buf *stack, struct buf *path)
{
	size_t at;

	if (!stack->len)
		return false;
	for (at = stack->len - 1; at > 0 && stack->data[at - 1]; at--)
		;
	buf_reset(path);
	buf_puts(path, stack->data + at);
	stack->len = at;
	return !buf_failed(path);
}

/* A file, or the names in a folder onto the stack. */
static int visit(struct run *r, uint64_t at, const char *path, struct buf *stack)
{
	auto_buf name = {0};
	auto_dir DIR *dir = NULL;
	const struct dirent *e;
	int64_t number;
	int fd, error = 0;

	buf_printf(&name, "at/seq:%llu/%s", (unsigned long long)at, path);
	if (buf_failed(&name))
		return -ENOMEM;
	fd = openat(r->ws->stomp_fd, name.data,
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP) && *path) {
		number = report_names_take(&r->plan->rows.names, path);
		if (number < 0)
			return -ENOMEM;
		return export_plan_has(r->plan, (uint32_t)number)
			       ? touch(r, (uint32_t)number)
			       : 0;
	}
	if (fd < 0)
		return errno == ENOENT ? 0 : fail(r, path, -errno);
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while (error == 0 && (e = readdir(dir))) {
		auto_buf below = {0};

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		buf_printf(&below, "%s%s%s", path, *path ? "/" : "", e->d_name);
		if (buf_failed(&below))
			return -ENOMEM;
		if (is_of_git(below.data))
			r->result->n_left_out++;
		else if (!is_passed(r, below.data, e->d_type == DT_DIR))
			error = push(stack, below.data);
	}
	return error;
}

/* Every file that was at or below a path at that moment. */
static int touch_tree(struct run *r, uint64_t at, const char *path)
{
	auto_buf stack = {0}, next = {0};
	int e = push(&stack, path);

	while (e == 0 && pop(&stack, &next))
		e = visit(r, at, next.data, &stack);
	return e ?: buf_failed(&next) ? -ENOMEM : 0;
}

/* ---- a commit ---- */

/* What is known below the folder, and what came there. */
static int touch_folder(struct run *r, uint64_t at, uint32_t folder)
{
	const char *path = export_name(&r->plan->rows, folder);
	int e = 0;

	for (uint32_t i = 1; i < r->plan->rows.names.n && e == 0; i++) {
		const struct state *s = state_of(r, i);

		if (!s)
			return -ENOMEM;
		if (export_is_below(export_name(&r->plan->rows, i), path) &&
			(s->file.mode || (i < r->plan->n_named && r->plan->is_named[i])))
			e = touch(r, i);
	}
	if (e == 0 && r->plan->below.len)
		e = touch_tree(r, at, path);
	return e;
}

static int touch_row(struct run *r, const struct export_row *row, uint64_t at)
{
	int e;

	if (row->kind == EXPORT_FOLDER)
		return touch_folder(r, at, row->from) ?: touch_folder(r, at, row->path);
	e = touch(r, row->path);
	if (e == 0 && row->from && export_plan_has(r->plan, row->from))
		e = touch(r, row->from);
	return e;
}

/* Removals first, then by path: by what the paths of the commit are now. */
static int by_order(const void *a, const void *b)
{
	const struct export_change *x = a, *y = b;

	if (!x->is.mode != !y->is.mode)
		return x->is.mode ? 1 : -1;
	return strcmp(x->path, y->path);
}

/* What the touched names were and are, where that differs. */
static int find_changes(struct run *r, uint64_t at, struct buf *changes)
{
	const uint32_t *names = (const void *)r->touched.data;
	int e = 0;

	for (size_t i = 0; i < r->touched.len / sizeof(*names) && e == 0; i++) {
		struct state *s = state_of(r, names[i]);
		struct export_change c = {.path = export_name(&r->plan->rows, names[i])};
		auto_buf content = {0};

		if (!s)
			return -ENOMEM;
		c.was = s->file;
		e = read_file(r, names[i], at, &c.is, &content);
		s->at = at;
		s->file = c.is;
		if (e == 0 && !is_same(&c.was, &c.is))
			buf_append(changes, &c, sizeof(c));
	}
	if (e == 0 && changes->len)
		qsort(changes->data, changes->len / sizeof(struct export_change),
			sizeof(struct export_change), by_order);
	return e ?: buf_failed(changes) ? -ENOMEM : 0;
}

static int read_again(struct run *r, const struct export_change *c, uint64_t at,
	const struct export_file *expected, struct buf *content)
{
	int64_t name = report_names_take(&r->plan->rows.names, c->path);
	struct export_file file;
	int e = name < 0 ? -ENOMEM : read_file(r, (uint32_t)name, at, &file, content);

	if (e == 0 && !is_same(&file, expected))
		e = fail(r, c->path, -EIO);
	return e;
}

static int tell_change(struct run *r, struct export_change *c, uint64_t before, uint64_t at)
{
	auto_buf old = {0}, content = {0};
	int e = 0;

	if (c->is.mode)
		e = read_again(r, c, at, &c->is, &content);
	if (e == 0 && c->was.mode && r->sink->wants_old)
		e = read_again(r, c, before, &c->was, &old);
	c->old = &old;
	c->content = &content;
	if (e == 0) {
		e = r->sink->change(r->sink, c);
		r->failed |= e < 0;
	}
	return e;
}

static int tell_commit(struct run *r, const struct export_commit *commit)
{
	auto_buf changes = {0};
	struct export_message message = {0};
	struct export_change *all;
	struct export_head head;
	size_t n;
	int e = 0;

	buf_reset(&r->touched);
	r->turn++;
	for (size_t i = commit->begin; i < commit->end && e == 0; i++)
		e = touch_row(r, r->plan->order[i], commit->at);
	if (e == 0)
		e = find_changes(r, commit->at, &changes);
	n = changes.len / sizeof(*all);
	if (e < 0 || !n)
		return e;
	all = (void *)changes.data;
	export_message_put(&message, r->plan, commit, all, n);
	e = export_message_head(&message, &head);
	head.time_s = commit->time_ms / 1000;
	if (e == 0) {
		e = r->sink->begin(r->sink, &head);
		r->failed |= e < 0;
	}
	export_message_done(&message);
	for (size_t i = 0; i < n && e == 0; i++)
		e = tell_change(r, &all[i], commit->before, commit->at);
	if (e == 0) {
		e = r->sink->end(r->sink);
		r->failed |= e < 0;
	}
	r->result->n_commits++;
	r->result->n_others += !commit->chosen;
	return e;
}

/* ---- the base ---- */

static int touch_base(struct run *r)
{
	const uint32_t *below = (const void *)r->plan->below.data;
	int e = 0;

	for (uint32_t i = 1; i < r->plan->n_named && e == 0; i++)
		if (r->plan->is_named[i])
			e = touch(r, i);
	for (size_t i = 0; i < r->plan->below.len / sizeof(*below) && e == 0; i++)
		e = touch_tree(r, r->plan->base, export_name(&r->plan->rows, below[i]));
	/* What is made later below them, as the target may have something there. */
	for (size_t i = 0; i < r->plan->n_order && e == 0; i++)
		if (r->plan->order[i]->kind != EXPORT_FOLDER)
			e = touch(r, r->plan->order[i]->path);
	return e;
}

static int begin_base(struct run *r)
{
	struct export_message message = {0};
	struct export_head head;
	int e;

	if (r->result->has_base)
		return 0;
	export_message_put_base(&message, r->plan);
	e = export_message_head(&message, &head);
	head.time_s = r->plan->base_ms / 1000;
	head.base = true;
	if (e == 0) {
		e = r->sink->begin(r->sink, &head);
		r->failed |= e < 0;
	}
	r->result->has_base = e == 0;
	export_message_done(&message);
	return e;
}

/* One file at a time: there may be many. */
static int tell_base_file(struct run *r, uint32_t name, bool removals)
{
	struct export_change c = {.path = export_name(&r->plan->rows, name)};
	struct state *s = state_of(r, name);
	auto_buf content = {0};
	int e;

	if (!s || (!removals && !s->file.mode))
		return s ? 0 : -ENOMEM;
	e = removals || r->sink->takes_base
		    ? read_file(r, name, r->plan->base, &c.is, &content)
		    : 0;
	if (e < 0)
		return e;
	if (removals) {
		s->file = c.is;
		s->at = r->plan->base;
	}
	c.content = &content;
	if (!r->sink->takes_base || (c.is.mode != 0) == removals ||
		(r->sink->has ? r->sink->has(r->sink, &c) : removals))
		return 0;
	e = begin_base(r);
	if (e == 0) {
		e = r->sink->change(r->sink, &c);
		r->failed |= e < 0;
	}
	return e;
}

static int tell_base(struct run *r)
{
	const uint32_t *names;
	size_t n;
	int e = touch_base(r);

	names = (const void *)r->touched.data;
	n = r->touched.len / sizeof(*names);
	for (int removals = 1; removals >= 0; removals--)
		for (size_t i = 0; i < n && e == 0; i++)
			e = tell_base_file(r, names[i], removals);
	if (e == 0 && r->result->has_base) {
		e = r->sink->end(r->sink);
		r->failed |= e < 0;
	}
	return e;
}

/* The policy that is in force now. */
static int read_rules(struct run *r)
{
	auto_buf text = {0};
	const char *file;
	size_t size;
	int e = workspace_read(r->ws, "policy", &text);

	if (e < 0)
		return fail(r, ".stomp/policy", e);
	rules_text_file(text.data ?: "", text.len, &file, &size);
	e = rules_parse(&r->rules, file, size, NULL);
	return e < 0 ? fail(r, ".stomp/policy", e) : 0;
}

int export_run(const struct workspace *ws, const char *command, struct export_plan *plan,
	struct export_sink *sink, struct export_result *result)
{
	auto_run r = {.ws = ws,
		.command = command,
		.plan = plan,
		.sink = sink,
		.result = result,
		.turn = BASE_TURN};
	int e = read_rules(&r);

	if (e == 0)
		e = tell_base(&r);
	r.turn = 0;
	for (size_t i = 0; i < plan->n_commits && e == 0; i++)
		e = tell_commit(&r, &plan->commits[i]);
	if (e < 0 && !r.failed)
		(void)fail(&r, ws->root, e);
	return e < 0 ? STOMP_FAILED : STOMP_DONE;
}
