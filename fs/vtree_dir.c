#include "fs/state.h"
#include "fs/vtree_internal.h"

#include <string.h>

/*
 * A listing is taken whole when it is begun and packed into the handle's text; an offset is
 * the place in it where the next name begins, so it stays good however the folder
 * changes meanwhile.
 */
struct packed {
	uint64_t ino;
	uint32_t type; /* S_IFMT bits */
	uint32_t len;  /* of the name, that follows with a NUL */
};

struct listing {
	struct buf *text;
	const struct vnode *folder;
	bool full;
};

static bool add_packed(
	struct listing *l, const char *name, size_t len, uint64_t ino, mode_t type)
{
	struct packed p = {.ino = ino, .type = type, .len = (uint32_t)len};

	if (l->text->len + sizeof(p) + len + 1 > VTREE_DOCUMENT_MAX) {
		l->full = true;
		return false;
	}
	buf_append(l->text, &p, sizeof(p));
	buf_append(l->text, name, len);
	buf_putc(l->text, '\0');
	return true;
}

uint64_t vnode_child_ino(
	enum vkind kind, const struct vnode *folder, const char *name, size_t len)
{
	auto_buf path = {0};

	buf_append(&path, folder->path, folder->path_len);
	if (folder->path_len)
		buf_putc(&path, '/');
	buf_append(&path, name, len);
	return vnode_ino(kind, folder->number, path.data, path.len);
}

static bool add_name(
	void *ctx, const char *name, size_t len, enum vkind kind, uint64_t number)
{
	struct listing *l = ctx;
	const struct vnode *folder = l->folder;
	uint64_t ino;

	if (folder->kind == V_AT_FOLDER || (folder->kind == V_HISTORY && kind == V_HISTORY))
		ino = vnode_child_ino(kind, folder, name, len);
	else
		ino = vnode_ino(kind, number, folder->path, folder->path_len);
	if (kind == V_AT_LINK)
		return add_packed(l, name, len, ino, S_IFLNK);
	return add_packed(l, name, len, ino, vkind_is_folder(kind) ? S_IFDIR : S_IFREG);
}

static int list_top(struct listing *l)
{
	enum vkind kind;
	const char *name;

	for (unsigned i = 0; (name = vtree_top_name(i, &kind)); i++)
		if (!add_name(l, name, strlen(name), kind, kind == V_DOCUMENT ? i : 0))
			break;
	return 0;
}

static int list(struct workspace *ws, const struct vnode *node, struct buf *text)
{
	struct listing l = {.text = text, .folder = node};
	uint64_t ino = vnode_ino(node->kind, node->number, node->path, node->path_len);
	int r;

	add_packed(&l, ".", 1, ino, S_IFDIR);
	add_packed(&l, "..", 2, ino, S_IFDIR); /* the kernel knows better */
	switch (node->kind) {
	case V_TOP:
		r = list_top(&l);
		break;
	case V_HISTORY:
		r = history_list(ws, node, add_name, &l);
		break;
	case V_CONFLICTS:
	case V_CONFLICT:
		r = conflicts_list(ws, node, add_name, &l);
		break;
	case V_AT:
	case V_EVENTS:
	case V_SINCE:
		r = 0; /* any moment can be looked up, none is listed */
		break;
	case V_AT_FOLDER:
		r = at_list(ws, node, add_name, &l);
		break;
	case V_SETS:
		r = sets_list(ws, add_name, &l);
		break;
	default:
		return -ENOTDIR;
	}
	if (l.full)
		return 0; /* cut off: the walk ended because of it */
	return r < 0 ? r : 0;
}

static int listing_new(fuse_req_t req, fuse_ino_t id, struct vhandle **out)
{
	struct workspace *ws = workspace_of(req);
	struct vhandle *h = NULL;
	int r = vnode_of(id)->kind == V_AT_FOLDER ? at_permits(req, vnode_of(id), R_OK) : 0;

	state_settle(ws, SETTLE_WAIT_MS);
	if (r == 0)
		r = vhandle_new(req, id, &h);
	if (r == 0)
		r = list(ws, h->node, &h->text);
	if (r == 0)
		r = vhandle_count_text(h);
	if (r < 0)
		h = vhandle_free(h);
	*out = h;
	return r;
}

void vtree_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct vhandle *h;
	int r = listing_new(req, id, &h);

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	fi->fh = (uintptr_t)h;
	if (fuse_reply_open(req, fi) < 0)
		vhandle_free(h);
}

static size_t add_entry(fuse_req_t req, char *out, size_t room, const char *name,
	const struct packed *p, off_t next, bool plus)
{
	/* No node id: the kernel takes the name and looks it up when it is wanted. */
	struct fuse_entry_param entry = {
		.attr = {.st_ino = p->ino, .st_mode = (mode_t)p->type},
	};

	if (plus)
		return fuse_add_direntry_plus(req, out, room, name, &entry, next);
	return fuse_add_direntry(req, out, room, name, &entry.attr, next);
}

/* As many names from *at on as fit; *at is where the next one begins. The bytes used. */
static size_t put_names(fuse_req_t req, const struct vhandle *h, off_t *offset, char *out,
	size_t size, bool plus)
{
	size_t at = (size_t)*offset, used = 0;

	while (*offset >= 0 && at < h->text.len) {
		struct packed p;
		const char *name = h->text.data + at + sizeof(p);
		size_t next, need;

		if (at + sizeof(p) > h->text.len)
			break; /* an offset that we never gave out */
		memcpy(&p, h->text.data + at, sizeof(p));
		if (p.len >= h->text.len - at - sizeof(p) || name[p.len])
			break;
		next = at + sizeof(p) + p.len + 1;
		need = add_entry(req, out + used, size - used, name, &p, (off_t)next, plus);
		if (need > size - used)
			break;
		used += need;
		at = next;
	}
	*offset = (off_t)at;
	return used;
}

static void stashed_free(void *stream)
{
	vhandle_free(stream);
}

static void read_names(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
	struct fuse_file_info *fi, bool plus)
{
	struct dir_stash *stash = &workspace_of(req)->dir_stash;
	struct vhandle *h = vhandle_of(fi);
	auto_free char *out = malloc(size ?: 1);
	size_t used;
	int r = out ? 0 : -ENOMEM;

	if (!h && offset)
		h = dir_stash_take(stash, id, offset);
	if (r == 0 && !h)
		r = listing_new(req, id, &h);
	if (r < 0) {
		if (!fi->fh)
			vhandle_free(h);
		fuse_reply_err(req, -r);
		return;
	}
	used = put_names(req, h, &offset, out, size, plus);
	if (!fi->fh && used)
		dir_stash_put(stash, id, offset, h, stashed_free);
	else if (!fi->fh)
		vhandle_free(h);
	fuse_reply_buf(req, out, used);
}

void vtree_readdir(
	fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	read_names(req, id, size, offset, fi, false);
}

void vtree_readdirplus(
	fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	read_names(req, id, size, offset, fi, true);
}

void vtree_releasedir(fuse_req_t req, struct fuse_file_info *fi)
{
	vhandle_free(vhandle_of(fi));
	fuse_reply_err(req, 0);
}
