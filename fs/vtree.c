#include "fs/state.h"
#include "fs/vtree_internal.h"

#include <string.h>

/*
 * The names at the top never change: the kernel may keep them. Everything else is asked
 * for each time, so that ls and cat tell what is so now.
 */
enum { FIXED_TIMEOUT_S = 3600 };

static const struct {
	const char *name;
	enum vkind kind;
	vrender_fn *render;
} top[] = {
	{"README", V_DOCUMENT, vdoc_readme},
	{"status", V_DOCUMENT, vdoc_status},
	{"status.json", V_DOCUMENT, vdoc_status_json},
	{"me", V_DOCUMENT, vdoc_me},
	{"me.json", V_DOCUMENT, vdoc_me_json},
	{"why", V_DOCUMENT, vdoc_why},
	{"why.json", V_DOCUMENT, vdoc_why_json},
	{"writers", V_DOCUMENT, vdoc_writers},
	{"writers.json", V_DOCUMENT, vdoc_writers_json},
	{"leases", V_DOCUMENT, vdoc_leases},
	{"leases.json", V_DOCUMENT, vdoc_leases_json},
	{"log", V_DOCUMENT, vdoc_log},
	{"log.json", V_DOCUMENT, vdoc_log_json},
	{"refusals.json", V_DOCUMENT, vdoc_refusals_json},
	{"conflicts.json", V_DOCUMENT, vdoc_conflicts_json},
	{"conflicts.ndjson", V_DOCUMENT, vdoc_conflicts_ndjson},
	{"policy", V_DOCUMENT, vdoc_policy},
	{"metrics", V_DOCUMENT, vdoc_metrics},
	{"fsck", V_DOCUMENT, vdoc_fsck},
	{"fsck.json", V_DOCUMENT, vdoc_fsck_json},
	{"gc", V_DOCUMENT, vdoc_gc},
	{"gc.json", V_DOCUMENT, vdoc_gc_json},
	{"pins", V_DOCUMENT, vdoc_pins},
	{"pins.json", V_DOCUMENT, vdoc_pins_json},
	{"ctl", V_CTL, NULL},
	{"history", V_HISTORY, NULL},
	{"conflicts", V_CONFLICTS, NULL},
	{"at", V_AT, NULL},
	{"since", V_SINCE, NULL},
	{"events", V_EVENTS, NULL},
	{"sets", V_SETS, NULL},
};

const char *vtree_top_name(unsigned i, enum vkind *kind)
{
	if (i >= ARRAY_SIZE(top))
		return NULL;
	*kind = top[i].kind;
	return top[i].name;
}

vrender_fn *vtree_renderer(const struct vnode *node)
{
	switch (node->kind) {
	case V_DOCUMENT:
		return top[node->number].render;
	case V_VERSIONS:
		return vdoc_versions;
	case V_VERSIONS_JSON:
		return vdoc_versions_json;
	case V_CONFLICT_INFO:
		return vdoc_conflict_info;
	case V_CONFLICT_INFO_JSON:
		return vdoc_conflict_info_json;
	case V_SINCE_TEXT:
		return vdoc_since;
	case V_SINCE_JSON:
		return vdoc_since_json;
	case V_SETS_LOG:
		return vdoc_sets;
	case V_SETS_LOG_JSON:
		return vdoc_sets_json;
	case V_SETS_NEW_JSON:
		return vdoc_sets_new_json;
	case V_SET:
		return vdoc_set;
	case V_SET_JSON:
		return vdoc_set_json;
	default:
		return NULL;
	}
}

bool vkind_is_folder(enum vkind kind)
{
	return kind == V_TOP || kind == V_HISTORY || kind == V_CONFLICTS ||
	       kind == V_CONFLICT || kind == V_SETS || kind == V_AT ||
	       kind == V_AT_FOLDER || kind == V_SINCE || kind == V_EVENTS;
}

static bool vkind_is_past(enum vkind kind)
{
	return kind == V_AT_FOLDER || kind == V_AT_FILE || kind == V_AT_LINK;
}

static bool vkind_is_stored(enum vkind kind)
{
	return kind == V_VERSION || kind == V_CONFLICT_BASE || kind == V_CONFLICT_OURS ||
	       kind == V_CONFLICT_THEIRS;
}

static uint64_t key_hash(enum vkind kind, uint64_t number, const char *path, size_t len)
{
	uint64_t seed = table_hash_u64(number * 32 + (uint64_t)kind);

	return table_hash_bytes(path, len, seed);
}

/* Far from the numbers that backing file systems give out, and the same at each visit. */
uint64_t vnode_ino(enum vkind kind, uint64_t number, const char *path, size_t len)
{
	return key_hash(kind, number, path, len) | 1ULL << 63;
}

/* ---- the table of nodes ---- */

int vtree_new(struct workspace *ws, struct vtree **out)
{
	struct vtree *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return -ENOMEM;
	r = table_init(&v->nodes);
	if (r < 0) {
		free(v);
		return r;
	}
	v->ws = ws;
	v->uid = geteuid();
	v->gid = getegid();
	pthread_mutex_init(&v->lock, NULL);
	*out = v;
	return 0;
}

static void free_node(struct table_node *by_key, void *ctx)
{
	struct vtree *v = ctx;

	table_remove(&v->nodes, by_key);
	free(container_of(by_key, struct vnode, by_key));
}

struct vtree *vtree_free(struct vtree *v)
{
	if (!v)
		return NULL;
	table_each(&v->nodes, free_node, v);
	table_done(&v->nodes);
	since_looks_free(v->looks);
	pthread_mutex_destroy(&v->lock);
	free(v);
	return NULL;
}

static struct vnode *find_node(struct vtree *v, const struct vspec *spec, uint64_t hash)
{
	struct table_node *at;

	table_for_each (at, &v->nodes, hash) {
		struct vnode *node = container_of(at, struct vnode, by_key);

		if (node->kind == spec->kind && node->number == spec->number &&
			node->path_len == spec->path.len &&
			(!node->path_len ||
				!memcmp(node->path, spec->path.data, node->path_len)))
			return node;
	}
	return NULL;
}

static struct vnode *new_node(const struct vspec *spec)
{
	struct vnode *node = calloc(1, sizeof(*node) + spec->path.len + 1);

	if (!node)
		return NULL;
	node->kind = spec->kind;
	node->number = spec->number;
	node->file = spec->file;
	node->path_len = spec->path.len;
	if (spec->path.len)
		memcpy(node->path, spec->path.data, spec->path.len);
	return node;
}

/* The node of that key, with one more lookup; NULL: no memory. */
static struct vnode *take_node(struct vtree *v, const struct vspec *spec)
{
	uint64_t hash = key_hash(spec->kind, spec->number, spec->path.data, spec->path.len);
	struct vnode *node;

	pthread_mutex_lock(&v->lock);
	node = find_node(v, spec, hash);
	if (!node) {
		node = new_node(spec);
		if (node)
			table_insert(&v->nodes, &node->by_key, hash);
	}
	if (node)
		node->nlookup++;
	pthread_mutex_unlock(&v->lock);
	return node;
}

void vtree_forget(struct workspace *ws, fuse_ino_t id, uint64_t nlookup)
{
	struct vtree *v = ws->vtree;
	struct vnode *node = vnode_of(id);
	bool gone;

	pthread_mutex_lock(&v->lock);
	assert(node->nlookup >= nlookup); /* the kernel returns what it was given */
	node->nlookup -= nlookup;
	gone = !node->nlookup;
	if (gone)
		table_remove(&v->nodes, &node->by_key);
	pthread_mutex_unlock(&v->lock);
	if (gone) {
		dir_stash_forget(&v->ws->dir_stash, workspace_id(v->ws, node) | 1);
		free(node);
	}
}

/* ---- attributes ---- */

static void set_times(struct stat *st, int64_t wall_ns)
{
	st->st_mtim.tv_sec = wall_ns / NS_PER_S;
	st->st_mtim.tv_nsec = wall_ns % NS_PER_S;
	if (st->st_mtim.tv_nsec < 0) { /* before 1970 */
		st->st_mtim.tv_nsec += NS_PER_S;
		st->st_mtim.tv_sec--;
	}
	st->st_atim = st->st_ctim = st->st_mtim;
}

static void stat_stored(const struct vnode *node, struct stat *st)
{
	st->st_mode = S_IFREG | (node->file.mode & 0777);
	st->st_uid = node->file.uid;
	st->st_gid = node->file.gid;
	st->st_size = (off_t)node->file.size;
	st->st_blocks = vfile_blocks(&node->file);
	set_times(st, node->file.mtime_ns);
}

/* file: of what is stored, as it was looked up just now. */
static void stat_node(const struct vtree *v, const struct vnode *node,
	const struct vfile *file, struct stat *st)
{
	struct workspace *ws = v->ws;

	*st = (struct stat){
		.st_ino = vnode_ino(node->kind, node->number, node->path, node->path_len),
		.st_nlink = 1, /* of a folder: "not counted" */
		.st_uid = v->uid,
		.st_gid = v->gid,
		.st_blksize = 4096,
	};
	if (vkind_is_past(node->kind)) {
		at_stat(node->kind, file, st);
		set_times(st, file->mtime_ns);
		return;
	}
	if (vkind_is_stored(node->kind)) {
		stat_stored(node, st);
		return;
	}
	set_times(st, clock_wall_ns(ws->clock));
	if (node->kind == V_CONFLICT_MERGED) { /* made, of what is its writer's own */
		st->st_mode = S_IFREG | 0400;
		st->st_uid = node->file.uid;
		return;
	}
	if (!vkind_is_folder(node->kind)) {
		st->st_mode = S_IFREG | (node->kind == V_CTL ? 0666 : 0444);
		return;
	}
	st->st_mode = S_IFDIR | 0555;
	if (node->kind == V_HISTORY && node->path_len) {
		history_folder_stat(ws, node, st);
	} else if (node->kind == V_CONFLICT) {
		/* Its writer's own affair, and root's: refusals.json tells everybody else.
		 */
		st->st_mode = S_IFDIR | 0500;
		st->st_uid = node->file.uid;
		st->st_gid = node->file.gid;
	}
}

void vtree_top_stat(struct workspace *ws, struct stat *st)
{
	const struct vnode node = {.kind = V_TOP};

	stat_node(ws->vtree, &node, NULL, st);
	set_times(st, ws->mounted_wall_ns);
}

static bool is_fixed(const struct vnode *node)
{
	return node->kind <= V_CTL || node->kind == V_CONFLICTS || node->kind == V_SETS ||
	       node->kind == V_AT || node->kind == V_SINCE || node->kind == V_EVENTS ||
	       (node->kind == V_HISTORY && !node->path_len);
}

static void reply_entry(fuse_req_t req, struct vspec *spec)
{
	struct workspace *ws = workspace_of(req);
	struct vnode *node = take_node(ws->vtree, spec);
	struct fuse_entry_param entry = {0};

	if (!node) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	entry.ino = workspace_id(ws, node) | 1;
	entry.entry_timeout = is_fixed(node) ? FIXED_TIMEOUT_S : spec->timeout_s;
	if (vkind_is_past(node->kind))
		entry.attr_timeout = spec->timeout_s;
	stat_node(ws->vtree, node, &spec->file, &entry.attr);
	if (fuse_reply_entry(req, &entry) < 0)
		vtree_forget(ws, entry.ino, 1); /* the caller went away */
}

/* ---- lookup ---- */

static int resolve_top(const char *name, struct vspec *out)
{
	for (unsigned i = 0; i < ARRAY_SIZE(top); i++)
		if (!strcmp(top[i].name, name)) {
			out->kind = top[i].kind;
			out->number = out->kind == V_DOCUMENT ? i : 0;
			return 0;
		}
	return -ENOENT;
}

int vtree_resolve(struct workspace *ws, const struct vnode *parent, const char *name,
	struct vspec *out)
{
	switch (parent->kind) {
	case V_TOP:
		return resolve_top(name, out);
	case V_HISTORY:
		return history_resolve(ws, parent, name, out);
	case V_CONFLICTS:
	case V_CONFLICT:
		return conflicts_resolve(ws, parent, name, out);
	case V_AT:
	case V_AT_FOLDER:
		return at_resolve(ws, parent, name, out);
	case V_SINCE:
		return since_resolve(ws, name, out);
	case V_EVENTS:
		return events_resolve(name, out);
	case V_SETS:
		return sets_resolve(ws, name, out);
	default:
		return -ENOTDIR;
	}
}

void vtree_lookup_top(fuse_req_t req)
{
	struct vspec spec = {.kind = V_TOP};

	state_settle(workspace_of(req), 0);
	reply_entry(req, &spec);
}

void vtree_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	const struct vnode *folder = vnode_of(parent);
	struct vspec spec = {0};
	int r = folder->kind == V_AT_FOLDER ? at_permits(req, folder, X_OK) : 0;

	/* what was closed a moment ago is history */
	state_settle(workspace_of(req), folder->kind == V_TOP ? 0 : SETTLE_WAIT_MS);
	if (r == 0)
		r = vtree_resolve(workspace_of(req), folder, name, &spec);
	if (r == 0 && buf_failed(&spec.path))
		r = -ENOMEM;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		reply_entry(req, &spec);
	buf_done(&spec.path);
}

void vtree_getattr(fuse_req_t req, fuse_ino_t id)
{
	struct workspace *ws = workspace_of(req);
	const struct vnode *node = vnode_of(id);
	struct vspec now = {.file = node->file};
	struct stat st;

	if (vkind_is_past(node->kind)) {
		int r = at_find(ws, node->number, node->path, node->path_len, &now);

		if (r == 0 && now.kind != node->kind)
			r = -ESTALE;
		if (r < 0) {
			fuse_reply_err(req, -r);
			return;
		}
	}
	stat_node(ws->vtree, node, &now.file, &st);
	fuse_reply_attr(req, &st, now.timeout_s);
}

void vtree_readlink(fuse_req_t req, fuse_ino_t id)
{
	const struct vnode *node = vnode_of(id);
	auto_buf target = {0};
	int r = node->kind == V_AT_LINK ? at_permits(req, node, 0) : -EINVAL;

	if (r == 0)
		r = at_readlink(workspace_of(req), node, &target);
	if (r == 0 && buf_failed(&target))
		r = -ENOMEM;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_readlink(req, target.data ?: "");
}

void vtree_setattr(fuse_req_t req, fuse_ino_t id, struct stat *attr, int to_set)
{
	const int refused = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;

	if (vnode_of(id)->kind == V_CTL && (to_set & FUSE_SET_ATTR_SIZE) &&
		!(to_set & refused))
		vtree_getattr(req, id); /* `> ctl` */
	else
		fuse_reply_err(req, EPERM);
}
