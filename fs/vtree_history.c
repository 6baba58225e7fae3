#include "fs/vtree_internal.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "fs/state.h"

/*
 * In a folder of history two kinds of names meet: those of what lies below in the
 * workspace, and the numbers, `log` and `log.json` of the path itself (`log-20` and
 * `log-20.json`: its newest 20, which cost no more where there are ten thousand). A number
 * is the path's own version, which only a path that was once a file has. The logs give way
 * to a file or folder of that name, which in a folder is the likelier wish.
 */

/* A number as we write it: no sign, no leading zero. 0: it is none. */
static uint64_t parse_number(const char *name)
{
	uint64_t n = 0;

	if (*name < '1' || *name > '9')
		return 0;
	for (; *name; name++) {
		if (*name < '0' || *name > '9' || n > (UINT64_MAX - 9) / 10)
			return 0;
		n = n * 10 + (uint64_t)(*name - '0');
	}
	return n;
}

void vfile_of_version(struct vfile *f, const struct version *v)
{
	*f = (struct vfile){
		.content = v->content,
		.content_id = v->content_id,
		.size = v->size,
		.mode = v->mode & 0777,
		.uid = v->uid,
		.gid = v->gid,
		.mtime_ns = v->mtime_ns,
	};
}

static int found(const struct version *v, void *ctx)
{
	return 1;
}

/* 1: the path has versions, made there or before a folder above it was renamed; 0;
 * -errno. What is queued is seen. */
static int has_versions(struct workspace *ws, const char *path, size_t len)
{
	const struct log_filter filter = {
		.path = path, .path_len = len, .follow = true, .limit = 1};

	return journal_log(ws->journal, &filter, found, NULL);
}

static int found_name(const char *name, size_t len, bool is_file, bool is_folder, void *ctx)
{
	return 1;
}

static int has_history(struct workspace *ws, const char *path, size_t len)
{
	int r = has_versions(ws, path, len);

	return r ? r : journal_names(ws->journal, path, len, found_name, NULL);
}

/* A version with content: 1, 0, -errno. */
static int find_version(struct workspace *ws, const char *path, size_t len, uint64_t number,
	struct version_row *row)
{
	int r = journal_version(ws->journal, path, len, number, row);

	if (r == 0) { /* perhaps it is still queued: the log waits for it */
		r = has_versions(ws, path, len);
		if (r == 1)
			r = journal_version(ws->journal, path, len, number, row);
	}
	if (r == 1 && !row->v.has_content) {
		version_row_done(row);
		r = 0;
	}
	return r;
}

static int resolve_version(struct workspace *ws, const struct vnode *parent,
	uint64_t number, struct vspec *out)
{
	struct version_row row;
	int r = find_version(ws, parent->path, parent->path_len, number, &row);

	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	out->kind = V_VERSION;
	out->number = number;
	buf_append(&out->path, parent->path, parent->path_len);
	vfile_of_version(&out->file, &row.v);
	version_row_done(&row);
	return 0;
}

static int resolve_below(struct workspace *ws, const struct vnode *parent, const char *name,
	struct vspec *out)
{
	struct buf *path = &out->path;
	int r;

	if (parent->path_len + strlen(name) + 1 > VTREE_PATH_MAX)
		return -ENAMETOOLONG;
	buf_append(path, parent->path, parent->path_len);
	if (path->len)
		buf_putc(path, '/');
	buf_puts(path, name);
	if (buf_failed(path))
		return -ENOMEM;
	r = has_history(ws, path->data, path->len);
	if (r <= 0) {
		buf_reset(path);
		return r < 0 ? r : -ENOENT;
	}
	out->kind = V_HISTORY;
	return 0;
}

struct log_name {
	bool json;
	uint64_t newest; /* 0: all of it */
};

/* "log", "log.json", "log-20", "log-20.json" */
static bool parse_log_name(const char *name, struct log_name *out)
{
	const char *suffix = strchr(name, '.');
	size_t len = suffix ? (size_t)(suffix - name) : strlen(name);
	char number[24] = "";

	if (strncmp(name, "log", 3) != 0 || len < 3 || len - 3 >= sizeof(number) ||
		(suffix && strcmp(suffix, ".json") != 0))
		return false;
	*out = (struct log_name){.json = suffix != NULL};
	if (len == 3)
		return true;
	memcpy(number, name + 4, len - 4);
	out->newest = name[3] == '-' ? parse_number(number) : 0;
	return out->newest > 0;
}

int history_resolve(struct workspace *ws, const struct vnode *parent, const char *name,
	struct vspec *out)
{
	uint64_t number = parent->path_len ? parse_number(name) : 0;
	struct log_name log;
	int r = -ENOENT;

	if (number)
		r = resolve_version(ws, parent, number, out);
	if (r == -ENOENT)
		r = resolve_below(ws, parent, name, out);
	if (r != -ENOENT || !parent->path_len || !parse_log_name(name, &log))
		return r;
	r = has_versions(ws, parent->path, parent->path_len);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	out->kind = log.json ? V_VERSIONS_JSON : V_VERSIONS;
	out->number = log.newest;
	buf_append(&out->path, parent->path, parent->path_len);
	return 0;
}

/* ---- listing ---- */

struct history_listing {
	struct workspace *ws;
	const struct vnode *node;
	vlist_fn *add;
	void *ctx;
	struct buf found; /* struct found: versions with content */
	bool any_version, has_log, has_log_json;
};

struct found {
	uint64_t number, seq;
	bool elsewhere; /* under another path: perhaps another file's number */
};

static int collect_version(const struct version *v, void *ctx)
{
	struct history_listing *l = ctx;
	const struct vnode *node = l->node;
	struct found f = {.number = v->number, .seq = v->seq};

	l->any_version = true;
	f.elsewhere = v->path_len != node->path_len ||
		      memcmp(v->path, node->path, node->path_len) != 0;
	if (v->has_content)
		buf_append(&l->found, &f, sizeof(f));
	return l->found.len > VTREE_DOCUMENT_MAX;
}

/* A row of another path is ours where a folder was renamed (its number is looked up to
 * tell), not where a file was: that one has numbers of its own here. */
static bool is_ours(const struct history_listing *l, const struct found *f)
{
	const struct vnode *node = l->node;
	struct version_row row;
	bool ours;

	if (!f->elsewhere)
		return true;
	if (journal_version(l->ws->journal, node->path, node->path_len, f->number, &row) !=
		1)
		return false;
	ours = row.v.seq == f->seq;
	version_row_done(&row);
	return ours;
}

/* Newest first; 1 when the listing is full. Keeps what was listed. */
static int list_versions(struct history_listing *l)
{
	size_t kept = 0;

	for (size_t at = 0; at < l->found.len; at += sizeof(struct found)) {
		struct found f;
		char name[24];
		int len;

		memcpy(&f, l->found.data + at, sizeof(f));
		if (!is_ours(l, &f))
			continue;
		len = snprintf(name, sizeof(name), "%llu", (unsigned long long)f.number);
		if (!l->add(l->ctx, name, (size_t)len, V_VERSION, f.number))
			return 1;
		memmove(l->found.data + kept, &f, sizeof(f));
		kept += sizeof(f);
	}
	l->found.len = kept;
	return 0;
}

static bool is_listed(const struct history_listing *l, uint64_t number)
{
	for (size_t at = 0; at < l->found.len; at += sizeof(struct found)) {
		struct found f;

		memcpy(&f, l->found.data + at, sizeof(f));
		if (f.number == number)
			return true;
	}
	return false;
}

static int list_below(const char *name, size_t len, bool is_file, bool is_folder, void *ctx)
{
	struct history_listing *l = ctx;
	uint64_t number;

	l->has_log |= len == 3 && !memcmp(name, "log", 3);
	l->has_log_json |= len == 8 && !memcmp(name, "log.json", 8);
	if (l->found.len && len < 21) {
		char text[24] = {0};

		memcpy(text, name, len);
		number = parse_number(text);
		if (number && is_listed(l, number))
			return 0;
	}
	return l->add(l->ctx, name, len, V_HISTORY, 0) ? 0 : 1;
}

int history_list(struct workspace *ws, const struct vnode *node, vlist_fn *add, void *ctx)
{
	const struct log_filter filter = {
		.path = node->path, .path_len = node->path_len, .follow = true};
	struct history_listing l = {.ws = ws, .node = node, .add = add, .ctx = ctx};
	int r = 0;

	if (node->path_len)
		r = journal_log(ws->journal, &filter, collect_version, &l);
	if (r >= 0)
		r = buf_failed(&l.found) ? -ENOMEM : list_versions(&l);
	if (r == 0)
		r = journal_names(ws->journal, node->path, node->path_len, list_below, &l);
	if (r == 0 && l.any_version && !l.has_log)
		add(ctx, "log", 3, V_VERSIONS, 0);
	if (r == 0 && l.any_version && !l.has_log_json)
		add(ctx, "log.json", 8, V_VERSIONS_JSON, 0);
	buf_done(&l.found);
	return r;
}

/* ---- who may go in ---- */

/* The folder as it is in the backing now; false: there is none. */
static bool stat_live_folder(
	struct workspace *ws, const struct vnode *node, struct stat *st)
{
	struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int root = inode_fd_get(ws, ws->root_inode);
	auto_close int fd = -1;

	if (root < 0)
		return false;
	fd = (int)syscall(SYS_openat2, root, node->path, &how, sizeof(how));
	inode_fd_put(ws->root_inode);
	return fd >= 0 && fstat(fd, st) == 0 && S_ISDIR(st->st_mode);
}

enum { FOLDER_ROWS = 64 }; /* looked through for what a path was as a folder */

struct bygone {
	struct stat *st;
	bool file, folder;
};

static int find_folder(const struct version *v, void *ctx)
{
	struct bygone *past = ctx;
	bool folder = v->kind == VERSION_MKDIR || v->kind == VERSION_RMDIR;

	past->file |= v->has_content;
	if (!S_ISDIR(v->mode) && !(folder && (v->mode & 0777)))
		return 0;
	past->folder = true;
	past->st->st_mode = S_IFDIR | (v->mode & 0555);
	past->st->st_uid = v->uid;
	past->st->st_gid = v->gid;
	return 1;
}

void history_folder_stat(struct workspace *ws, const struct vnode *node, struct stat *st)
{
	const struct log_filter filter = {
		.path = node->path,
		.path_len = node->path_len,
		.follow = true,
		.limit = FOLDER_ROWS,
	};
	struct bygone past = {.st = st};
	struct stat live;
	int r;

	if (stat_live_folder(ws, node, &live)) {
		st->st_mode = S_IFDIR | (live.st_mode & 0555);
		st->st_uid = live.st_uid;
		st->st_gid = live.st_gid;
		return;
	}
	r = journal_log(ws->journal, &filter, find_folder, &past);
	/* Of a folder that is gone and of which nothing is known: the safe side. */
	if (r < 0 || (!past.folder && !past.file))
		st->st_mode = S_IFDIR | 0500;
}

/* ---- content ---- */

int history_open(
	struct workspace *ws, const struct vnode *node, struct process *by, int *fd)
{
	const struct vfile *f = &node->file;
	const struct version v = {
		.has_content = true,
		.content = f->content,
		.content_id = f->content_id,
		.size = f->size,
	};
	int r = journal_version_content(ws->journal, &v, fd);

	/* Whoever reads another side of a conflict means to bring it in. */
	if (r == 0 && node->kind != V_CONFLICT_OURS)
		state_observe_history(ws, node->path, node->path_len, by);
	return r;
}
