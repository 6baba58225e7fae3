#include "fs/vtree_internal.h"

#include <fcntl.h>
#include <string.h>

/*
 * The names in a folder of at/: those that the journal knows to have been there, each asked
 * for, and those of today that it has never heard of: nothing ever happened to them.
 */

struct heard {
	struct buf text, index; /* index: struct place_in, sorted as bytes */
	size_t n;
};

struct place_in {
	size_t at, len;
};

struct at_listing {
	struct workspace *ws;
	const struct vnode *node;
	vlist_fn *add;
	void *ctx;
	struct heard heard;
};

static int hear(const char *name, size_t len, bool is_file, bool is_folder, void *ctx)
{
	struct heard *h = ctx;
	struct place_in p = {h->text.len, len};

	buf_append(&h->text, name, len);
	buf_append(&h->index, &p, sizeof(p));
	h->n++;
	return h->text.len > VTREE_DOCUMENT_MAX ? -ENOMEM : 0;
}

static int compare(const struct heard *h, size_t i, const char *name, size_t len)
{
	const struct place_in *p = (const void *)h->index.data;
	size_t shorter = p[i].len < len ? p[i].len : len;
	int c = memcmp(h->text.data + p[i].at, name, shorter);

	return c ?: (p[i].len > len) - (p[i].len < len);
}

static bool is_heard(const struct heard *h, const char *name, size_t len)
{
	size_t low = 0, high = h->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int c = compare(h, middle, name, len);

		if (c == 0)
			return true;
		if (c < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* 1: the listing is full. */
static int list_heard(struct at_listing *l)
{
	const struct place_in *p = (const void *)l->heard.index.data;
	const struct vnode *node = l->node;
	auto_buf path = {0};

	for (size_t i = 0; i < l->heard.n; i++) {
		const char *name = l->heard.text.data + p[i].at;
		struct vspec found = {0};
		int r;

		buf_reset(&path);
		buf_append(&path, node->path, node->path_len);
		if (node->path_len)
			buf_putc(&path, '/');
		buf_append(&path, name, p[i].len);
		if (buf_failed(&path))
			return -ENOMEM;
		r = at_find(l->ws, node->number, path.data, path.len, &found);
		if (r < 0 && r != -ENOENT)
			return r;
		if (r == 0 && !l->add(l->ctx, name, p[i].len, found.kind, 0))
			return 1;
	}
	return 0;
}

static bool has_sessions(struct workspace *ws)
{
	bool any;

	pthread_mutex_lock(&ws->sessions_lock);
	any = !list_empty(&ws->sessions);
	pthread_mutex_unlock(&ws->sessions_lock);
	return any;
}

/* The kind of a name of today; V_TOP: not to be listed. */
static enum vkind kind_of(
	struct workspace *ws, int dirfd, const struct dirent *e, bool sessions)
{
	unsigned char type = e->d_type;
	struct stat st;

	if (type == DT_UNKNOWN || (type == DT_REG && sessions)) {
		if (fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return V_TOP;
		type = IFTODT(st.st_mode);
		if (type == DT_REG && at_is_new(ws, &st))
			return V_TOP;
	}
	switch (type) {
	case DT_REG:
		return V_AT_FILE;
	case DT_DIR:
		return V_AT_FOLDER;
	case DT_LNK:
		return V_AT_LINK;
	default:
		return V_TOP;
	}
}

static int list_unheard(struct at_listing *l, const char *path)
{
	int fd = at_open_live(l->ws, path, O_RDONLY | O_DIRECTORY);
	bool sessions = has_sessions(l->ws);
	auto_dir DIR *dir = NULL;
	const struct dirent *e;

	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 0 : fd;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while ((e = readdir(dir))) {
		size_t len = strlen(e->d_name);
		enum vkind kind;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
			(!l->node->path_len && !strcmp(e->d_name, ".stomp")) ||
			is_heard(&l->heard, e->d_name, len))
			continue;
		kind = kind_of(l->ws, fd, e, sessions);
		if (kind != V_TOP && !l->add(l->ctx, e->d_name, len, kind, 0))
			return 1;
	}
	return 0;
}

int at_list(struct workspace *ws, const struct vnode *node, vlist_fn *add, void *ctx)
{
	struct at_listing l = {.ws = ws, .node = node, .add = add, .ctx = ctx};
	auto_free char *today = NULL;
	bool is_there = false;
	size_t len;
	int r = journal_past_names(
		ws->journal, node->path, node->path_len, node->number, hear, &l.heard);

	if (r == 0 && (buf_failed(&l.heard.text) || buf_failed(&l.heard.index)))
		r = -ENOMEM;
	if (r == 0)
		r = at_path_of_today(ws, node, &today, &len);
	is_there = r == 1;
	if (r >= 0)
		r = list_heard(&l);
	if (r == 0 && is_there)
		r = list_unheard(&l, today);
	buf_done(&l.heard.text);
	buf_done(&l.heard.index);
	return r < 0 ? r : 0;
}
