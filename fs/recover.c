#include "fs/recover.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "fs/copy.h"

struct leftover {
	struct intent in; /* its texts are in the slot, which stays until the end */
	bool closed;
	uint32_t slot;
	char *path, *to_path; /* where folders were renamed since it was written */
};

struct recovery {
	struct workspace *ws;
	int root_fd;
	unsigned recovered;
	struct leftover *left;
	size_t n_left;
};

/* Open a path of the workspace and nothing else, whatever links lie on the way. */
static int open_beneath(int root_fd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

static int append(struct recovery *rc, const struct intent *in, const char *path,
	size_t len, enum version_kind kind, uint32_t flags, const struct stat *st,
	struct capture *content, uint64_t number)
{
	struct version v = {
		.path = path,
		.path_len = len,
		.number = number,
		.kind = kind,
		.flags = flags | VERSION_RECOVERED,
		.epoch = in->epoch,
		.base_number = in->base_number,
		.time_ns = clock_wall_ns(rc->ws->clock),
		.author =
			{
				.name = in->writer,
				.uid = in->uid,
				.pid = in->pid,
				.start_ns = in->start_ns,
				.rule = in->rule,
				.command = in->command,
			},
	};
	int r = journal_next_seq(rc->ws->journal, &v.seq);

	if (r < 0)
		return r;
	if (st) {
		v.mode = st->st_mode;
		v.uid = st->st_uid;
		v.gid = st->st_gid;
		v.mtime_ns = st->st_mtim.tv_sec * NS_PER_S + st->st_mtim.tv_nsec;
	}
	if (content) {
		v.has_content = true;
		v.content = content->hash;
		v.size = content->size;
	}
	if (kind == VERSION_REPLACE || kind == VERSION_MOVE) {
		v.from_path = in->path;
		v.from_path_len = in->path_len;
	}
	r = journal_append(rc->ws->journal, &v, content);
	if (r < 0)
		return r;
	rc->recovered++;
	return journal_wait(rc->ws->journal, v.seq); /* the next one looks for it */
}

/* The file at path differs from its newest version: what is there is the author's. */
static int recover_content(struct recovery *rc, const struct intent *in, const char *path,
	size_t len, enum version_kind kind, uint32_t flags)
{
	auto_close int fd = open_beneath(rc->root_fd, path, O_RDONLY);
	struct capture content = CAPTURE_NONE;
	struct version_row head = {0};
	struct intent nobody = {0};
	struct stat st;
	int r;

	if (fd < 0)
		return fd == -ENOENT || fd == -ELOOP || fd == -ENOTDIR ? 0 : fd;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	if (kind == VERSION_REPLACE && (st.st_ino != in->ino || st.st_dev != in->dev))
		return 0;		     /* the rename had not happened yet */
	if (!intent_is_as_closed(in, &st)) { /* somebody was here before us */
		in = &nobody;
		kind = VERSION_EXTERNAL;
		flags = 0;
	}
	r = journal_capture(rc->ws->journal, fd, &content);
	if (r < 0)
		return r;
	r = journal_head(rc->ws->journal, path, len, &head);
	if (kind == VERSION_REPLACE && !head.last_number)
		kind = VERSION_MOVE; /* nothing had ever been there */
	/* A later session on the path began only when this one's version was kept: what
	 * is there is the later one's. */
	if (r == 1 && in->epoch && head.v.epoch > in->epoch)
		r = 0;
	else if (r >= 0 &&
		 !(r == 1 && head.v.has_content && head.v.kind != VERSION_DELETE &&
			 head.v.size == content.size && head.v.mode == st.st_mode &&
			 hash128_equal(head.v.content, content.hash)))
		r = append(rc, in, path, len, kind, flags, &st, &content,
			head.last_number + 1);
	else if (r > 0)
		r = 0;
	version_row_done(&head);
	capture_done(&content);
	return r;
}

static int recover_unlink(struct recovery *rc, const struct intent *in)
{
	auto_close int fd = open_beneath(rc->root_fd, in->path, O_PATH);
	struct version_row head = {0};
	int r;

	if (fd != -ENOENT)
		return 0; /* it is still there, or something new is */
	r = journal_head(rc->ws->journal, in->path, in->path_len, &head);
	if (r == 1 && head.v.kind != VERSION_DELETE)
		r = append(rc, in, in->path, in->path_len, VERSION_DELETE, 0, NULL, NULL,
			head.last_number + 1);
	else if (r > 0)
		r = 0;
	version_row_done(&head);
	return r;
}

/* An accepted change was being copied from its shadow into the file: copy it again. */
static int recover_commit(struct recovery *rc, const struct intent *in)
{
	auto_close int shadow = -1;
	auto_close int fd = -1;
	int r;

	shadow = openat(rc->ws->shadow_fd, in->shadow, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (shadow >= 0) {
		fd = open_beneath(rc->root_fd, in->path, O_WRONLY);
		if (fd < 0)
			return fd == -ENOENT ? 0 : fd;
		r = copy_content(shadow, fd);
		if (r < 0)
			return r;
	}
	return recover_content(rc, in, in->path, in->path_len, VERSION_WRITE, 0);
}

static int recover_one(struct recovery *rc, const struct intent *in, bool closed)
{
	switch (in->kind) {
	case INTENT_WRITE:
		return recover_content(rc, in, in->path, in->path_len, VERSION_WRITE,
			closed ? 0 : VERSION_INCOMPLETE);
	case INTENT_RENAME:
		return recover_content(
			rc, in, in->to_path, in->to_path_len, VERSION_REPLACE, 0);
	case INTENT_UNLINK:
		return recover_unlink(rc, in);
	case INTENT_COMMIT:
		return recover_commit(rc, in);
	case INTENT_OTHER:
		break;
	}
	return 0;
}

static int collect(const struct intent *in, bool closed, uint32_t slot, void *ctx)
{
	struct recovery *rc = ctx;

	assert(rc->n_left < INTENT_SLOTS);
	rc->left[rc->n_left++] =
		(struct leftover){.in = *in, .closed = closed, .slot = slot};
	return 0;
}

/* The latest session first; a commit before the session that it belongs to. */
static int by_epoch(const void *a, const void *b)
{
	const struct intent *x = &((const struct leftover *)a)->in;
	const struct intent *y = &((const struct leftover *)b)->in;

	if (x->epoch != y->epoch)
		return x->epoch < y->epoch ? 1 : -1;
	return (x->kind != INTENT_COMMIT) - (y->kind != INTENT_COMMIT);
}

/* ---- folders that were renamed ---- */

/* Is what was there when the intent was written somewhere else today? *moved then owns
 * where, and *path is it. */
static int follow(struct recovery *rc, const struct intent *in, const char **path,
	size_t *len, char **moved)
{
	size_t now_len;
	char *now;
	int r = journal_past_path(rc->ws->journal, *path, *len, in->seq, &now, &now_len);

	if (r < 0)
		return r;
	if (r == 0 || (now_len == *len && memcmp(now, *path, now_len) == 0)) {
		free(now);
		return 0;
	}
	*moved = now;
	*path = now;
	*len = now_len;
	return 0;
}

static bool is_folder_of(struct recovery *rc, const struct intent *in)
{
	auto_close int fd = -1;
	struct stat st;

	if (in->kind != INTENT_RENAME)
		return false;
	fd = open_beneath(rc->root_fd, in->to_path, O_PATH);
	return fd >= 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) &&
	       st.st_ino == in->ino && st.st_dev == in->dev;
}

/* A folder was renamed, and the journal does not know it. */
static int recover_folder(struct recovery *rc, const struct intent *in)
{
	struct author author = {.name = in->writer,
		.uid = in->uid,
		.pid = in->pid,
		.start_ns = in->start_ns,
		.rule = in->rule,
		.command = in->command};
	struct journal *j = rc->ws->journal;
	auto_free char *moved = NULL;
	const char *path = in->path;
	size_t len = in->path_len;
	uint64_t seq;
	int r = is_folder_of(rc, in) ? follow(rc, in, &path, &len, &moved) : 0;

	if (r < 0 || !is_folder_of(rc, in) || moved)
		return r;
	r = journal_next_seq(j, &seq);
	if (r == 0)
		r = journal_rename_folder(j, seq, in->path, in->path_len, in->to_path,
			in->to_path_len, &author);
	if (r == 0)
		rc->recovered++;
	return r ?: journal_wait(j, seq);
}

/* First the folders, then where everything below them is by now. */
static int find_paths(struct recovery *rc)
{
	int r = 0;

	for (size_t i = 0; i < rc->n_left && r == 0; i++)
		r = recover_folder(rc, &rc->left[i].in);
	for (size_t i = 0; i < rc->n_left && r == 0; i++) {
		struct leftover *l = &rc->left[i];

		if (is_folder_of(rc, &l->in))
			continue;
		r = follow(rc, &l->in, &l->in.path, &l->in.path_len, &l->path);
		if (r == 0 && l->in.to_path)
			r = follow(rc, &l->in, &l->in.to_path, &l->in.to_path_len,
				&l->to_path);
	}
	return r;
}

static int recover_all(struct recovery *rc)
{
	int r = find_paths(rc);

	if (rc->n_left)
		qsort(rc->left, rc->n_left, sizeof(*rc->left), by_epoch);
	for (size_t i = 0; i < rc->n_left && r == 0; i++)
		r = recover_one(rc, &rc->left[i].in, rc->left[i].closed);
	return r;
}

/* What no intent speaks of any more was never acknowledged. */
static void sweep_shadows(struct workspace *ws)
{
	int fd = openat(ws->shadow_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(dir)))
		if (e->d_name[0] != '.')
			unlinkat(ws->shadow_fd, e->d_name, 0);
}

static void announce(struct recovery *rc)
{
	const struct supervised *s = &rc->ws->supervised;
	auto_buf text = {0};
	struct event e = {.time_ns = clock_wall_ns(rc->ws->clock), .kind = "recover"};

	if (s->generation)
		buf_printf(&text, "the daemon ended with %s and was started again",
			s->last_end);
	else
		buf_puts(&text, "the daemon had ended without unmounting");
	buf_printf(&text, ": %u unfinished change%s recorded", rc->recovered,
		rc->recovered == 1 ? "" : "s");
	if (s->generation)
		buf_puts(&text, "; what was open answers ESTALE, open it again");
	e.text = text.data;
	if (journal_next_seq(rc->ws->journal, &e.seq) == 0)
		(void)!journal_event(rc->ws->journal, &e);
}

int recover(struct workspace *ws, int root_fd, unsigned *recovered)
{
	struct recovery rc = {.ws = ws, .root_fd = root_fd};
	auto_free struct leftover *left = calloc(INTENT_SLOTS, sizeof(*left));
	int r;

	if (!left)
		return -ENOMEM;
	rc.left = left;
	r = intents_leftover(ws->intents, collect, &rc);
	if (r == 0)
		r = recover_all(&rc);
	for (size_t i = 0; i < rc.n_left; i++) {
		free(left[i].path);
		free(left[i].to_path);
	}
	if (r < 0)
		return r;
	for (size_t i = 0; i < rc.n_left; i++)
		intents_end(ws->intents, left[i].slot);
	sweep_shadows(ws);
	if (rc.recovered || ws->supervised.generation)
		announce(&rc);
	*recovered = rc.recovered;
	return 0;
}
