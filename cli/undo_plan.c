#include "cli/undo_plan.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "cli/content.h"
#include "cli/undo_history.h"
#include "policy/merge.h"

struct undo_plan {
	const struct workspace *ws;
	struct histories *h;
	struct buf files; /* of struct undo_file */
	struct buf made;  /* of struct buf *: merged contents */
};

bool node_same_content(const struct node *a, const struct node *b)
{
	if (a->made && b->made)
		return a->made->len == b->made->len &&
		       memcmp(a->made->data ?: "", b->made->data ?: "", a->made->len) == 0;
	if (!a->hash || !b->hash)
		return !a->hash && !b->hash;
	return strcmp(a->hash, b->hash) == 0;
}

bool node_same(const struct node *a, const struct node *b)
{
	if (!a->exists || !b->exists)
		return a->exists == b->exists;
	return a->type == b->type && a->mode == b->mode && a->uid == b->uid &&
	       a->gid == b->gid && strcmp(a->path, b->path) == 0 && node_same_content(a, b);
}

/* ---- reasons ---- */

/* A run of selected steps, and who came after it. */
struct run {
	const struct lineage *l;
	size_t begin, end; /* steps [begin, end) */
	struct node before, after;
};

static const char *say(struct undo_plan *p, const struct run *run, const char *what)
{
	auto_buf text = {0};
	const struct step *by = NULL;

	for (size_t i = run->l->n; i-- > run->end && !by;)
		if (!run->l->steps[i]->selected)
			by = run->l->steps[i];
	if (by)
		buf_printf(&text, "%s (%s, version %llu)", what,
			by->writer ?: "nobody known", (unsigned long long)by->number);
	else
		buf_puts(&text, what);
	return histories_keep(p->h, buf_take(&text, NULL)) ?: "out of memory";
}

/* ---- content ---- */

static int read_node(struct undo_plan *p, const struct node *n, struct buf *out)
{
	if (!n->made)
		return content_read(p->ws, n->source, n->number, out);
	buf_append(out, n->made->data ?: "", n->made->len);
	return buf_failed(out) ? -ENOMEM : 0;
}

static struct content content_of(const struct buf *b)
{
	return (struct content){.data = b->data, .size = b->len};
}

static const char *keep_hash(struct undo_plan *p, const struct buf *b)
{
	char hex[33];

	hash128_hex(hash128_bytes(b->data ?: "", b->len), hex);
	return histories_keep(p->h, strdup(hex));
}

/* ours without what led from before to after: 1 clean, 0 not, -errno. */
static int merge_content(struct undo_plan *p, const struct run *run, struct node *ours)
{
	auto_buf base = {0}, theirs = {0}, current = {0};
	struct content b, c, t;
	enum merge_answer answer;
	struct buf *merged;
	int r = read_node(p, &run->after, &base) ?: read_node(p, ours, &current)
		?: read_node(p, &run->before, &theirs);

	if (r < 0)
		return r;
	b = content_of(&base);
	c = content_of(&current);
	t = content_of(&theirs);
	merged = calloc(1, sizeof(*merged));
	if (merged)
		buf_append(&p->made, &merged, sizeof(merged));
	if (!merged || buf_failed(&p->made)) {
		free(merged);
		return -ENOMEM;
	}
	r = merge_lines(&b, &c, &t, &answer, merged);
	if (r < 0 || answer != MERGE_CLEAN)
		return r < 0 ? r : 0;
	ours->made = merged;
	ours->hash = keep_hash(p, merged);
	return ours->hash ? 1 : -ENOMEM;
}

static void copy_content(struct node *to, const struct node *from)
{
	to->type = from->type;
	to->hash = from->hash;
	to->made = from->made;
	to->source = from->source;
	to->number = from->number;
}

static int take_out_content(struct undo_plan *p, const struct run *run, struct undo_file *f)
{
	const struct node *before = &run->before, *after = &run->after;
	struct node *ours = &f->to;
	int r;

	if (before->type == after->type && node_same_content(before, after))
		return 0;
	if (ours->type == after->type && node_same_content(ours, after)) {
		copy_content(ours, before);
		return 0;
	}
	if (ours->type == before->type && node_same_content(ours, before))
		return 0;
	if (before->type != NODE_FILE || after->type != NODE_FILE ||
		ours->type != NODE_FILE) {
		f->reason = say(p, run, "something else was put there since");
		return 0;
	}
	r = merge_content(p, run, ours);
	if (r == 0)
		f->reason =
			say(p, run, "the same lines were changed since, or it is not text");
	f->merged |= r == 1;
	return r < 0 ? r : 0;
}

/* ---- one run ---- */

/* Others' steps after a run, and what they changed. A value that is again what the run
 * made it may be theirs, so it is asked who made it, not only what it is. */
struct since {
	bool any, mode, owner;
};

static struct since since_run(const struct run *run)
{
	struct since since = {0};

	for (size_t i = run->end; i < run->l->n; i++) {
		const struct step *step = run->l->steps[i];
		const struct node *was = &run->l->steps[i - 1]->after, *is = &step->after;

		if (step->selected)
			continue;
		since.any = true;
		since.mode |= was->mode != is->mode;
		since.owner |= was->uid != is->uid || was->gid != is->gid;
	}
	return since;
}

static bool pick(unsigned before, unsigned after, bool theirs, unsigned *ours)
{
	if (before == after || *ours == before)
		return true;
	if (*ours != after || theirs)
		return false;
	*ours = before;
	return true;
}

static void take_out_attributes(
	struct undo_plan *p, const struct run *run, struct undo_file *f)
{
	const struct node *before = &run->before, *after = &run->after;
	struct node *ours = &f->to;

	const struct since since = since_run(run);

	if (!pick(before->mode, after->mode, since.mode, &ours->mode))
		f->reason = say(p, run, "its mode was changed since");
	if (!pick(before->uid, after->uid, since.owner, &ours->uid) ||
		!pick(before->gid, after->gid, since.owner, &ours->gid))
		f->reason = say(p, run, "its owner was changed since");
	if (strcmp(before->path, after->path) == 0 || strcmp(ours->path, before->path) == 0)
		return;
	if (strcmp(ours->path, after->path) == 0)
		ours->path = before->path;
	else
		f->reason = say(p, run, "it was renamed since");
}

static int take_out(struct undo_plan *p, const struct run *run, struct undo_file *f)
{
	const struct node *before = &run->before, *after = &run->after;
	struct node *ours = &f->to;
	int r;

	if (node_same(before, after) || node_same(ours, before))
		return 0;
	if (node_same(ours, after) &&
		(!since_run(run).any || !before->exists || !after->exists)) {
		*ours = *before;
		return 0;
	}
	if (!ours->exists) {
		f->reason = say(p, run, "it was deleted since");
		return 0;
	}
	if (!after->exists) {
		f->reason = say(p, run, "it was made anew since");
		return 0;
	}
	if (!before->exists) {
		f->reason = say(p, run, "it was made by this and changed since");
		return 0;
	}
	r = take_out_content(p, run, f);
	if (r == 0 && !f->reason)
		take_out_attributes(p, run, f);
	return r;
}

/* What was there before the first step that is known. False: that is not known. */
static bool before_first(const struct step *first, struct node *before)
{
	*before = first->after;
	if (strcmp(first->kind, "rmdir") == 0) {
		before->exists = true;
		before->type = NODE_FOLDER;
		before->hash = NULL;
		return true;
	}
	before->exists = false;
	return strcmp(first->kind, "mkdir") == 0 || strcmp(first->kind, "symlink") == 0 ||
	       strcmp(first->kind, "link") == 0 || strcmp(first->kind, "move") == 0 ||
	       strcmp(first->kind, "initial") == 0 ||
	       (strcmp(first->kind, "write") == 0 && !first->base);
}

static bool has_gap(const struct run *run)
{
	for (size_t i = run->begin; i < run->end; i++)
		if (run->l->steps[i]->gap)
			return true;
	return false;
}

static int reverse(struct undo_plan *p, const struct lineage *l, struct undo_file *f)
{
	size_t end = l->n;
	int r = 0;

	f->from = f->to = l->steps[l->n - 1]->after;
	while (end > 0 && r == 0 && !f->reason) {
		struct run run = {.l = l};

		if (!l->steps[end - 1]->selected) {
			end--;
			continue;
		}
		run.end = end;
		while (end > 0 && l->steps[end - 1]->selected)
			end--;
		run.begin = end;
		run.after = l->steps[run.end - 1]->after;
		/* What was collected before one of them may have been others' work. */
		if (has_gap(&run))
			f->reason =
				"versions before it were collected (keep=), and what was "
				"there is not known any more";
		else if (end > 0)
			run.before = l->steps[end - 1]->after;
		else if (!before_first(l->steps[0], &run.before))
			f->reason = "what was there before is not known any more";
		if (!f->reason)
			r = take_out(p, &run, f);
	}
	return r;
}

/* ---- the files together ---- */

static struct undo_file *file_at(const struct undo_plan *p, size_t i)
{
	return (struct undo_file *)(void *)p->files.data + i;
}

static size_t n_files(const struct undo_plan *p)
{
	return p->files.len / sizeof(struct undo_file);
}

static int add_file(struct undo_plan *p, const char *path)
{
	struct undo_file f = {0};
	struct lineage l;
	int r = histories_follow(p->h, path, &l);

	if (r < 0)
		return r;
	/* Two of the paths may be one file, before and after a rename. */
	for (size_t i = 0; i < n_files(p); i++)
		if (strcmp(file_at(p, i)->from.path, l.path) == 0)
			l.n = 0;
	if (l.n > 0)
		r = reverse(p, &l, &f);
	if (r == 0 && l.n > 0 && (f.reason || !node_same(&f.from, &f.to)))
		buf_append(&p->files, &f, sizeof(f));
	lineage_done(&l);
	return r < 0 ? r : buf_failed(&p->files) ? -ENOMEM : 0;
}

static bool is_folder_move(const struct undo_file *f)
{
	return f->from.exists && f->to.exists && f->to.type == NODE_FOLDER &&
	       strcmp(f->from.path, f->to.path) != 0;
}

/* Folders to be made first, from above; folders to be removed last, from below. */
static int rank(const struct undo_file *f)
{
	if (is_folder_move(f))
		return 2; /* once all below has been done, before what it is in goes */
	if (f->to.exists && f->to.type == NODE_FOLDER)
		return 0;
	if (f->from.exists && f->from.type == NODE_FOLDER)
		return 2;
	return 1;
}

static int by_order(const void *a, const void *b)
{
	const struct undo_file *x = a, *y = b;
	int order = strcmp(x->from.path, y->from.path);

	if (rank(x) != rank(y))
		return rank(x) - rank(y);
	return rank(x) == 2 ? -order : order;
}

static bool lstat_at(const struct undo_plan *p, const char *path, struct stat *st)
{
	auto_buf whole = {0};

	buf_printf(&whole, "%s/%s", p->ws->root, path);
	return !buf_failed(&whole) && lstat(whole.data, st) == 0;
}

/* Will it be there, as a folder, by the time it is needed? */
static bool is_made(const struct undo_plan *p, const char *path, size_t len)
{
	for (size_t i = 0; i < n_files(p); i++) {
		const struct undo_file *f = file_at(p, i);

		if (!f->reason && f->to.exists && f->to.type == NODE_FOLDER &&
			strlen(f->to.path) == len && memcmp(f->to.path, path, len) == 0)
			return true;
	}
	return false;
}

static void check_place(struct undo_plan *p, struct undo_file *f)
{
	const char *slash = strrchr(f->to.path, '/');
	size_t len = slash ? (size_t)(slash - f->to.path) : 0;
	auto_free char *folder = strndup(f->to.path, len);
	struct stat st;

	if (f->from.exists && strcmp(f->from.path, f->to.path) == 0)
		return;
	if (lstat_at(p, f->to.path, &st))
		f->reason = "something else is at that name now";
	else if (len && folder && !(lstat_at(p, folder, &st) && S_ISDIR(st.st_mode)) &&
		 !is_made(p, f->to.path, len))
		f->reason = "its folder is gone";
}

static bool is_removed(const struct undo_plan *p, const char *folder, const char *name)
{
	auto_buf path = {0};

	buf_printf(&path, "%s/%s", folder, name);
	for (size_t i = 0; i < n_files(p); i++) {
		const struct undo_file *f = file_at(p, i);

		if (!f->reason && f->from.exists && !buf_failed(&path) &&
			strcmp(f->from.path, path.data) == 0 &&
			(!f->to.exists || strcmp(f->to.path, f->from.path) != 0))
			return true;
	}
	return false;
}

static void check_empty(struct undo_plan *p, struct undo_file *f)
{
	auto_buf whole = {0}, reason = {0};
	auto_dir DIR *dir = NULL;
	const struct dirent *e;

	buf_printf(&whole, "%s/%s", p->ws->root, f->from.path);
	dir = buf_failed(&whole) ? NULL : opendir(whole.data);
	while (dir && (e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
			is_removed(p, f->from.path, e->d_name))
			continue;
		buf_puts(&reason, "the folder holds ");
		buf_put_name(&reason, e->d_name, strlen(e->d_name));
		buf_puts(&reason, ", which is not undone");
		f->reason = histories_keep(p->h, buf_take(&reason, NULL)) ?: "not empty";
		return;
	}
}

static void check_owner(struct undo_file *f)
{
	if (f->to.exists && f->from.exists && geteuid() != 0 &&
		(f->from.uid != f->to.uid || f->from.gid != f->to.gid))
		f->reason = "only root can give it back its owner";
}

/* From below, so that a folder that stays keeps those above it. */
static void check_together(struct undo_plan *p)
{
	for (size_t i = 0; i < n_files(p); i++) {
		struct undo_file *f = file_at(p, i);

		if (!f->reason)
			check_owner(f);
		if (!f->reason && f->to.exists)
			check_place(p, f);
		if (!f->reason && !f->to.exists && f->from.type == NODE_FOLDER)
			check_empty(p, f);
	}
}

/* ---- folders that were renamed ---- */

static bool overlap(const char *a, const char *b)
{
	size_t n_a = strlen(a), n_b = strlen(b), n = n_a < n_b ? n_a : n_b;

	return memcmp(a, b, n) == 0 && (n_a == n_b || (n_a < n_b ? b[n] : a[n]) == '/');
}

/* Can it be told apart from the other renames? Else their order would matter. */
static bool stands_alone(
	const struct folder_move *all, size_t n, const struct folder_move *m)
{
	for (size_t i = 0; i < n; i++)
		if (&all[i] != m &&
			(overlap(all[i].now, m->now) || overlap(all[i].now, m->from) ||
				overlap(all[i].from, m->now) ||
				overlap(all[i].from, m->from)))
			return false;
	return strcmp(m->now, m->to) == 0;
}

static bool is_folder_removed(const struct undo_plan *p, const char *path)
{
	for (size_t i = 0; i < n_files(p); i++)
		if (strcmp(file_at(p, i)->from.path, path) == 0 &&
			!file_at(p, i)->to.exists)
			return true;
	return false;
}

static int add_moves(struct undo_plan *p)
{
	const struct folder_move *all;
	size_t n = histories_moves(p->h, &all);

	for (size_t i = 0; i < n; i++) {
		const struct folder_move *m = &all[i];
		struct undo_file f = {0};
		struct stat st;

		/* Back already, gone since, or what made it is undone as well. */
		if (strcmp(m->now, m->from) == 0 || !lstat_at(p, m->now, &st) ||
			!S_ISDIR(st.st_mode) || is_folder_removed(p, m->now))
			continue;
		f.from = f.to = (struct node){
			.exists = true,
			.type = NODE_FOLDER,
			.path = m->now,
			.mode = st.st_mode & 07777,
			.uid = st.st_uid,
			.gid = st.st_gid,
		};
		f.to.path = m->from;
		if (!stands_alone(all, n, m))
			f.reason = "it, or a folder that it is or was in, was renamed more "
				   "than once";
		buf_append(&p->files, &f, sizeof(f));
	}
	return buf_failed(&p->files) ? -ENOMEM : 0;
}

static void put_quoted(struct buf *b, const char *path)
{
	buf_putc(b, '\'');
	for (; *path; path++)
		if (*path == '\'')
			buf_puts(b, "'\\''");
		else
			buf_putc(b, *path);
	buf_putc(b, '\'');
}

/* What is refused of a rename can be done by hand. */
static void say_by_hand(struct undo_plan *p)
{
	for (size_t i = 0; i < n_files(p); i++) {
		struct undo_file *f = file_at(p, i);
		auto_buf reason = {0}, command = {0};

		if (!f->reason || !is_folder_move(f))
			continue;
		buf_puts(&command, "mv ");
		put_quoted(&command, f->from.path);
		buf_putc(&command, ' ');
		put_quoted(&command, f->to.path);
		buf_printf(&reason,
			"the folder keeps the name it was given: %s; by hand: ", f->reason);
		buf_put_name(&reason, command.data ?: "", command.len);
		if (!buf_failed(&reason))
			f->reason =
				histories_keep(p->h, buf_take(&reason, NULL)) ?: f->reason;
	}
}

int undo_plan_new(const struct workspace *ws, const struct selection *selection,
	struct undo_plan **plan)
{
	struct undo_plan *p = calloc(1, sizeof(*p));
	const char *const *paths;
	size_t n;
	int r;

	*plan = p;
	if (!p)
		return -ENOMEM;
	p->ws = ws;
	r = histories_new(ws, selection, &p->h);
	n = r == 0 ? histories_paths(p->h, &paths) : 0;
	for (size_t i = 0; i < n && r == 0; i++)
		r = add_file(p, paths[i]);
	if (r == 0)
		r = add_moves(p);
	if (r < 0)
		return r;
	if (p->files.len)
		qsort(p->files.data, n_files(p), sizeof(struct undo_file), by_order);
	check_together(p);
	say_by_hand(p);
	return 0;
}

struct undo_plan *undo_plan_free(struct undo_plan *p)
{
	struct buf **made;

	if (!p)
		return NULL;
	made = (void *)p->made.data;
	for (size_t i = 0; i < p->made.len / sizeof(*made); i++) {
		buf_done(made[i]);
		free(made[i]);
	}
	buf_done(&p->made);
	buf_done(&p->files);
	histories_free(p->h);
	free(p);
	return NULL;
}

size_t undo_plan_files(const struct undo_plan *p, const struct undo_file **files)
{
	*files = (const void *)p->files.data;
	return n_files(p);
}

size_t undo_plan_n_versions(const struct undo_plan *p)
{
	return histories_n_selected(p->h);
}
