/*
 * Any path below .stomp, name by name as the kernel looks it up: no crash and no hang, a
 * name that is found is found again as the same, what it leads to can be listed, rendered
 * or read, and nothing leads out of the workspace.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/vtree_internal.h"
#include "tests/fuzz/sample.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NAMES_MAX = 24, NAME_BYTES = 255 };

#define NOW_NS (1700001000 * NS_PER_S)

static struct {
	struct workspace ws;
	struct clock_fake clock;
	char folder[256];
} mount;

/* ---- a workspace as the daemon has it, but for the kernel ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void remove_all(void)
{
	nftw(mount.folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void make_file(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert(fd >= 0);
	(void)!write(fd, name, strlen(name));
	close(fd);
}

/* What is there today: some with a history, some without. */
static int make_tree(void)
{
	int fd;

	snprintf(mount.folder, sizeof(mount.folder), "%s/stomp-tree.XXXXXX",
		getenv("TMPDIR") ?: "/tmp");
	if (!mkdtemp(mount.folder))
		abort();
	atexit(remove_all);
	fd = open(mount.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(fd >= 0);
	if (mkdirat(fd, "d2", 0755) < 0 || mkdirat(fd, "d2/f", 0755) < 0 ||
		symlinkat("/etc", fd, "out") < 0 || symlinkat("d2/e", fd, "soft") < 0)
		abort();
	for (const char *const *p = sample_paths; *p; p++)
		if (faccessat(fd, *p, F_OK, 0) < 0 && !strstr(*p, "d/"))
			make_file(fd, strchr(*p, '/') && **p != 'd' ? "untouched" : *p);
	return fd;
}

static void must(int r)
{
	if (r != 0) {
		fprintf(stderr, "fuzz_paths: the workspace: %s\n", strerror(-r));
		abort();
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct workspace *ws = &mount.ws;
	struct sample *s = sample_new();
	auto_buf why = {0};

	log_setup("fuzz", LOG_LEVEL_ERROR, false);
	sample_lay(s);
	clock_fake_init(&mount.clock);
	mount.clock.wall = NOW_NS;
	ws->clock = &mount.clock.clock;
	ws->stomp_fd = sample_dirfd(s);
	ws->proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pthread_mutex_init(&ws->sessions_lock, NULL);
	list_init(&ws->sessions);
	must(inode_table_init(&ws->inodes, 100));
	must(inode_root_new(ws, make_tree(), &ws->root_inode));
	must(journal_open(&ws->journal,
		&(struct journal_options){.dirfd = ws->stomp_fd, .clock = ws->clock}));
	must(rules_parse(&ws->rules, "", 0, &why));
	must(identity_new(&ws->identity, &(struct identity_options){.proc_fd = ws->proc_fd,
						 .table = writer_table_builtin(),
						 .clock = ws->clock}));
	must(vtree_new(ws, &ws->vtree));
	return 0;
}

/* ---- a path ---- */

static struct vnode *node_of(const struct vspec *spec)
{
	struct vnode *node = calloc(1, sizeof(*node) + spec->path.len + 1);

	assert(node);
	node->kind = spec->kind;
	node->number = spec->number;
	node->file = spec->file;
	node->path_len = spec->path.len;
	if (spec->path.len)
		memcpy(node->path, spec->path.data, spec->path.len);
	return node;
}

static void check_same(const struct vnode *parent, const char *name, const struct vspec *a)
{
	struct vspec b = {0};
	int r = vtree_resolve(&mount.ws, parent, name, &b);

	assert(r == 0 && a->kind == b.kind && a->number == b.number);
	assert(a->path.len == b.path.len && a->file.size == b.file.size);
	assert(!a->path.len || memcmp(a->path.data, b.path.data, a->path.len) == 0);
	buf_done(&b.path);
}

static bool add(void *ctx, const char *name, size_t len, enum vkind kind, uint64_t number)
{
	unsigned *n = ctx;

	assert(len > 0 && len <= NAME_BYTES);
	assert(!memchr(name, '/', len) && !memchr(name, '\0', len));
	return ++*n < 10000;
}

static int list(const struct vnode *node, unsigned *n)
{
	struct workspace *ws = &mount.ws;

	switch (node->kind) {
	case V_HISTORY:
		return history_list(ws, node, add, n);
	case V_CONFLICTS:
	case V_CONFLICT:
		return conflicts_list(ws, node, add, n);
	case V_AT_FOLDER:
		return at_list(ws, node, add, n);
	case V_SETS:
		return sets_list(ws, add, n);
	default:
		return 0;
	}
}

static void read_content(const struct vnode *node)
{
	const struct version v = {.has_content = true,
		.content = node->file.content,
		.content_id = node->file.content_id,
		.size = node->file.size};
	char byte;
	int fd = -1, r = journal_version_content(mount.ws.journal, &v, &fd);

	assert(r == 0);
	assert(node->file.size == 0 || pread(fd, &byte, 1, (off_t)v.size - 1) == 1);
	close(fd);
}

/* What stands at the end of the path. */
static void look_at(const struct vnode *node)
{
	const struct vreader reader = {
		.ws = &mount.ws, .node = node, .by = identity_daemon(mount.ws.identity)};
	vrender_fn *render = node->kind == V_DOCUMENT ? NULL : vtree_renderer(node);
	auto_buf out = {0};
	unsigned n = 0;
	int r;

	if (vkind_is_folder(node->kind)) {
		r = list(node, &n);
		assert(r >= 0 && n < 10000);
	} else if (render) {
		render(&reader, &out);
		assert(out.len > 0);
	} else if (node->kind == V_AT_LINK) {
		r = at_readlink(&mount.ws, node, &out);
		assert(r == 0 && out.len > 0);
	} else if (node->kind == V_VERSION || node->kind == V_CONFLICT_BASE ||
		   node->kind == V_CONFLICT_OURS || node->kind == V_CONFLICT_THEIRS) {
		read_content(node);
	}
}

static void check_found(const struct vnode *node)
{
	uint64_t last = journal_last_seq(mount.ws.journal);

	assert(node->kind != V_AT_FOLDER || node->number <= last);
	assert(node->kind != V_AT_FILE || node->number <= last);
	assert(node->path_len <= VTREE_PATH_MAX);
	assert(node->path_len == 0 || *node->path != '/');
	assert(!memchr(node->path, '\0', node->path_len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vnode *node = node_of(&(struct vspec){.kind = V_TOP});
	const uint8_t *end = data + size;

	for (unsigned i = 0; i < NAMES_MAX && data < end; i++) {
		const uint8_t *slash = memchr(data, '/', (size_t)(end - data)) ?: end;
		size_t len = (size_t)(slash - data);
		struct vspec spec = {0};
		char name[NAME_BYTES + 1];
		int r;

		len = len < NAME_BYTES ? len : NAME_BYTES;
		snprintf(name, sizeof(name), "%.*s", (int)len, (const char *)data);
		data = slash + 1;
		if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
			continue; /* the kernel does those itself */
		if (!vkind_is_folder(node->kind))
			break;
		r = vtree_resolve(&mount.ws, node, name, &spec);
		assert(r == 0 || (r > -4096 && r < 0 && r != -EIO));
		if (r == 0) {
			check_same(node, name, &spec);
			free(node);
			node = node_of(&spec);
			check_found(node);
		}
		buf_done(&spec.path);
		if (r < 0)
			break;
	}
	look_at(node);
	free(node);
	return 0;
}
