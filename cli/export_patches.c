#include "cli/export_patches.h"

#include <dirent.h>
#include <fcntl.h>
#include <git2.h>
#include <git2/sys/mempack.h>
#include <git2/sys/repository.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/workspace.h"

enum { NAME_MAX_BYTES = 52 };

struct export_patches {
	struct export_sink sink;
	const char *command, *folder;
	int dirfd;
	size_t n, n_binary;
	git_repository *repository; /* in memory: the files of one commit at a time */
	git_odb *odb;
	git_odb_backend *memory;
	git_index *before, *after;
	struct buf head, name; /* of the patch at hand */
};

static int git_failed(const struct export_patches *p, const char *path)
{
	const git_error *e = git_error_last();

	fprintf(stderr, "stomp %s: %s: %s\n", p->command, path,
		e ? e->message : "libgit2 failed");
	return -EIO;
}

/* ---- the mail around it ---- */

/* A header of a mail: what is not plain is encoded (RFC 2047). */
static void put_header(struct buf *out, const char *text)
{
	bool plain = true;

	for (const char *c = text; *c; c++)
		plain &= (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
			 (*c >= '0' && *c <= '9') || strchr(" -_./,:+@", *c);
	if (plain) {
		buf_puts(out, text);
		return;
	}
	for (size_t line = 0; *text; text++) {
		unsigned char c = (unsigned char)*text;
		bool first = (c & 0xc0) != 0x80; /* not within a character */

		if (!line || (line > 50 && first)) {
			buf_puts(out, line ? "?=\n =?UTF-8?q?" : "=?UTF-8?q?");
			line = 1;
		}
		if (c == ' ')
			buf_putc(out, '_');
		else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			 (c >= '0' && c <= '9'))
			buf_putc(out, (char)c);
		else
			buf_printf(out, "=%02X", c);
		line += 3;
	}
	buf_puts(out, "?=");
}

static void put_date(struct buf *out, int64_t time_s)
{
	time_t t = (time_t)time_s;
	char text[64] = "";
	struct tm utc;

	if (gmtime_r(&t, &utc))
		strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S +0000", &utc);
	buf_puts(out, text);
}

static void put_name(struct buf *out, size_t n, const char *subject)
{
	buf_printf(out, "%04zu-", n);
	for (const char *c = subject; *c && out->len < NAME_MAX_BYTES; c++) {
		bool safe = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
			    (*c >= '0' && *c <= '9') || *c == '.' || *c == '_';

		if (safe || out->data[out->len - 1] != '-')
			buf_putc(out, safe ? *c : '-');
	}
	while (out->len && strchr("-.", out->data[out->len - 1]))
		out->len--;
	buf_puts(out, ".patch");
}

static int begin(struct export_sink *sink, const struct export_head *h)
{
	struct export_patches *p = container_of(sink, struct export_patches, sink);

	buf_reset(&p->name);
	put_name(&p->name, ++p->n, h->subject);
	buf_reset(&p->head);
	buf_puts(&p->head, "From 0000000000000000000000000000000000000000 "
			   "Mon Sep 17 00:00:00 2001\nFrom: ");
	put_header(&p->head, h->author);
	buf_printf(&p->head, " <%s>\nDate: ", h->email);
	put_date(&p->head, h->time_s);
	buf_puts(&p->head, "\nSubject: [PATCH] ");
	put_header(&p->head, h->subject);
	buf_printf(&p->head,
		"\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
		"Content-Transfer-Encoding: 8bit\n\n%s---\n",
		h->body);
	return buf_failed(&p->head) || buf_failed(&p->name) ? -ENOMEM : 0;
}

/* ---- the files ---- */

static int put_side(struct export_patches *p, git_index *index, const char *path,
	unsigned mode, const struct buf *content)
{
	git_index_entry entry = {.mode = mode, .path = path};

	if (!mode)
		return 0;
	if (git_odb_write(&entry.id, p->odb, content->data ?: "", content->len,
		    GIT_OBJECT_BLOB) != 0 ||
		git_index_add(index, &entry) != 0)
		return git_failed(p, path);
	return 0;
}

static int change(struct export_sink *sink, const struct export_change *c)
{
	struct export_patches *p = container_of(sink, struct export_patches, sink);

	return put_side(p, p->before, c->path, c->was.mode, c->old)
		       ?: put_side(p, p->after, c->path, c->is.mode, c->content);
}

static int make_diff(struct export_patches *p, uint32_t flags, git_diff **out)
{
	git_diff_options options = GIT_DIFF_OPTIONS_INIT;
	git_diff_find_options find = GIT_DIFF_FIND_OPTIONS_INIT;
	git_tree *trees[2] = {NULL, NULL};
	git_oid id;
	int r = 0;

	options.flags = GIT_DIFF_SHOW_BINARY | flags;
	options.id_abbrev = GIT_OID_HEXSZ; /* a binary patch is taken by full ids alone */
	find.flags = GIT_DIFF_FIND_RENAMES;
	for (int i = 0; i < 2 && r == 0; i++) {
		r = git_index_write_tree_to(&id, i ? p->after : p->before, p->repository);
		if (r == 0)
			r = git_tree_lookup(&trees[i], p->repository, &id);
	}
	if (r == 0)
		r = git_diff_tree_to_tree(out, p->repository, trees[0], trees[1], &options);
	if (r == 0)
		r = git_diff_find_similar(*out, &find);
	git_tree_free(trees[0]);
	git_tree_free(trees[1]);
	return r == 0 ? 0 : git_failed(p, p->name.data);
}

/* Would it come out of `git am` as it went in? */
static bool is_binary(struct export_patches *p, const git_oid *id)
{
	git_odb_object *object = NULL;
	const char *data;
	bool binary;
	size_t n;

	if (git_oid_is_zero(id) || git_odb_read(&object, p->odb, id) != 0)
		return false;
	data = git_odb_object_data(object);
	n = git_odb_object_size(object);
	binary = memchr(data, '\0', n) || memmem(data, n, "\r\n", 2);
	git_odb_object_free(object);
	return binary;
}

/* As git does: patch(1) takes a name with blanks for one where a tab ends it. */
static void put_body(const char *body, FILE *out)
{
	while (*body && strncmp(body, "@@ ", 3) != 0) {
		size_t n = strcspn(body, "\n");
		bool names = strncmp(body, "--- ", 4) == 0 || strncmp(body, "+++ ", 4) == 0;

		fwrite(body, 1, n, out);
		if (names && body[4] != '"' && memchr(body + 4, ' ', n - 4))
			fputc('\t', out);
		body += n;
		if (*body)
			fputc(*body++, out);
	}
	fputs(body, out);
}

static int put_file(
	struct export_patches *p, git_diff *text, git_diff *binary, size_t i, FILE *out)
{
	const git_diff_delta *d = git_diff_get_delta(text, i);
	bool as_binary = !git_oid_equal(&d->old_file.id, &d->new_file.id) &&
			 (is_binary(p, &d->old_file.id) || is_binary(p, &d->new_file.id));
	git_patch *patch = NULL;
	git_buf body = GIT_BUF_INIT;
	int r = git_patch_from_diff(&patch, as_binary ? binary : text, i);

	if (r == 0)
		r = git_patch_to_buf(&body, patch);
	if (r == 0)
		put_body(body.ptr, out);
	p->n_binary += as_binary;
	git_buf_dispose(&body);
	git_patch_free(patch);
	return r == 0 ? 0 : git_failed(p, d->new_file.path);
}

static int put_files(struct export_patches *p, FILE *out)
{
	git_diff *text = NULL, *binary = NULL;
	int r = make_diff(p, GIT_DIFF_FORCE_TEXT, &text)
			?: make_diff(p, GIT_DIFF_FORCE_BINARY, &binary);

	for (size_t i = 0; r == 0 && i < git_diff_num_deltas(text); i++)
		r = put_file(p, text, binary, i, out);
	git_diff_free(text);
	git_diff_free(binary);
	return r;
}

/* What was kept for one patch is not needed for the next. */
static void forget(struct export_patches *p)
{
	(void)!git_index_clear(p->before);
	(void)!git_index_clear(p->after);
	(void)!git_mempack_reset(p->memory);
}

static int end(struct export_sink *sink)
{
	struct export_patches *p = container_of(sink, struct export_patches, sink);
	int fd = openat(
		p->dirfd, p->name.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
	int r = out ? 0 : -errno;

	if (out) {
		fprintf(out, "%s\n", p->head.data);
		r = put_files(p, out);
		fputs("-- \nstompfs " STOMPFS_VERSION "\n\n", out);
		if (r == 0 && (fflush(out) != 0 || ferror(out)))
			r = -errno;
		fclose(out);
	} else if (fd >= 0) {
		close(fd);
	}
	forget(p);
	if (r < 0 && r != -EIO)
		fprintf(stderr, "stomp %s: %s/%s: %s\n", p->command, p->folder,
			p->name.data, strerror(-r));
	return r;
}

/* ---- begin and end ---- */

static bool has_patches(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	while (dir && (e = readdir(dir))) {
		const char *dot = strrchr(e->d_name, '.');

		if (dot && strcmp(dot, ".patch") == 0)
			return true;
	}
	return false;
}

static int open_folder(struct export_patches *p)
{
	if (mkdir(p->folder, 0777) < 0 && errno != EEXIST)
		return report_errno(p->command, p->folder, -errno);
	p->dirfd = open(p->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->dirfd < 0)
		return report_errno(p->command, p->folder, -errno);
	if (!has_patches(p->dirfd))
		return STOMP_DONE;
	fprintf(stderr,
		"stomp %s: %s has patches in it already; name a folder without, so that "
		"two series do not mix\n",
		p->command, p->folder);
	return STOMP_NO;
}

/* No file of configuration has a say in what a patch looks like. */
static int open_memory(struct export_patches *p)
{
	static const int levels[] = {GIT_CONFIG_LEVEL_SYSTEM, GIT_CONFIG_LEVEL_XDG,
		GIT_CONFIG_LEVEL_GLOBAL, GIT_CONFIG_LEVEL_PROGRAMDATA};

	for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
		(void)!git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, levels[i], "");
	if (git_odb_new(&p->odb) != 0 || git_mempack_new(&p->memory) != 0 ||
		git_odb_add_backend(p->odb, p->memory, 1) != 0 ||
		git_repository_wrap_odb(&p->repository, p->odb) != 0 ||
		git_index_new(&p->before) != 0 || git_index_new(&p->after) != 0) {
		(void)git_failed(p, p->folder);
		return STOMP_FAILED;
	}
	return STOMP_DONE;
}

int export_patches_new(const char *command, const char *folder, struct export_patches **out)
{
	struct export_patches *p = calloc(1, sizeof(*p));
	int r;

	*out = p;
	git_libgit2_init();
	if (!p)
		return STOMP_FAILED;
	*p = (struct export_patches){
		.sink = {.begin = begin, .change = change, .end = end, .wants_old = true},
		.command = command,
		.folder = folder,
		.dirfd = -1,
	};
	r = open_folder(p);
	return r == STOMP_DONE ? open_memory(p) : r;
}

struct export_patches *export_patches_free(struct export_patches *p)
{
	if (p) {
		git_index_free(p->before);
		git_index_free(p->after);
		git_repository_free(p->repository);
		git_odb_free(p->odb);
		buf_done(&p->head);
		buf_done(&p->name);
		if (p->dirfd >= 0)
			close(p->dirfd);
		free(p);
	}
	git_libgit2_shutdown();
	return NULL;
}

struct export_sink *export_patches_sink(struct export_patches *p)
{
	return &p->sink;
}

size_t export_patches_n_binary(const struct export_patches *p)
{
	return p->n_binary;
}
