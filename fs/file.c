#include "fs/file.h"

#include "fs/behind.h"
#include "fs/handle.h"
#include "fs/inode.h"
#include "fs/lineage.h"
#include "fs/workspace.h"

int file_new(struct file **out)
{
	struct file *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	pthread_mutex_init(&f->lock, NULL);
	f->refs = 1;
	list_init(&f->handles);
	list_init(&f->waiters);
	list_init(&f->session.node);
	f->session.slot = INTENT_NONE;
	dirty_init(&f->session.ranges);
	*out = f;
	return 0;
}

void file_ref(struct file *f)
{
	__atomic_fetch_add(&f->refs, 1, __ATOMIC_RELAXED);
}

void file_put(struct workspace *ws, struct file *f)
{
	(void)ws;
	if (!f || __atomic_sub_fetch(&f->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	/* Handles, waiters and sessions hold references: none can be left. */
	assert(list_empty(&f->handles));
	assert(list_empty(&f->waiters));
	assert(!f->behind);
	observations_done(&f->seen);
	dirty_end(&f->session.ranges);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

void file_end(struct workspace *ws, struct file *f)
{
	struct handle *h, *tmp;

	list_for_each_safe (h, tmp, &f->handles, node) {
		list_remove(&h->node);
		if (h->fd >= 0)
			close(h->fd);
		process_put(ws->identity, h->by);
		free(h);
	}
	file_put(ws, f);
}

/* A folder removed and made anew may get its old number: it is another place. */
static uint64_t place_of(const struct inode *folder)
{
	return folder->dev ^ folder->born;
}

/* The inode's lock is held. */
static struct file *file_first_of(struct workspace *ws, struct inode *inode)
{
	struct file *f = NULL;

	if (inode->links)
		f = lineages_take(ws, place_of(inode->links->parent),
			inode->links->parent->ino, inode->links->name);
	if (!f && file_new(&f) < 0)
		return NULL;
	/* Nobody else can reach f yet, but who has just parked it (inode_destroy()). */
	__atomic_store_n(&f->inode, inode, __ATOMIC_RELEASE);
	inode->file = f;
	return f;
}

struct file *file_of(struct workspace *ws, struct inode *inode)
{
	struct file *f;

	pthread_mutex_lock(&inode->lock);
	f = inode->file ? inode->file : file_first_of(ws, inode);
	if (f)
		file_ref(f);
	pthread_mutex_unlock(&inode->lock);
	return f;
}

struct file *file_lock_to_look(struct workspace *ws, struct inode *inode)
{
	for (;;) {
		struct file *f;

		inode = inode_current(
			inode); /* old mappings have nothing to do with files */
		f = file_of(ws, inode);

		if (!f)
			return NULL;
		pthread_mutex_lock(&f->lock);
		if (f->inode == inode && !inode_is_detached(inode))
			return f;
		pthread_mutex_unlock(&f->lock);
		file_put(ws, f);
	}
}

struct file *file_lock_of(struct workspace *ws, struct inode *inode)
{
	for (;;) {
		struct file *f = file_lock_to_look(ws, inode);

		if (!f || !f->behind)
			return f;
		behind_settle(ws, f);
		pthread_mutex_unlock(&f->lock);
		file_put(ws, f);
	}
}

void file_unlock(struct file *f)
{
	pthread_mutex_unlock(&f->lock);
}

struct file *file_of_name(struct workspace *ws, struct inode *parent, const char *name)
{
	struct file *f = lineages_take(ws, place_of(parent), parent->ino, name);

	if (!f && file_new(&f) < 0)
		return NULL;
	return f;
}

void file_attach(struct workspace *ws, struct file *f, struct inode *inode)
{
	struct file *old = NULL;

	if (f->inode && f->inode != inode) {
		pthread_mutex_lock(&f->inode->lock);
		if (f->inode->file == f) {
			f->inode->file = NULL;
			old = f;
		}
		pthread_mutex_unlock(&f->inode->lock);
		file_put(ws, old); /* not the last one: the caller holds f */
		old = NULL;
	}
	f->inode = inode;
	if (!inode)
		return;
	file_ref(f);
	pthread_mutex_lock(&inode->lock);
	old = inode->file;
	inode->file = f;
	pthread_mutex_unlock(&inode->lock);
	file_put(ws, old);
}

int file_leave_inode(struct workspace *ws, struct file *f)
{
	struct inode *inode = f->inode;
	struct file *left;
	struct handle *h, *tmp;

	if (!inode)
		return 0;
	if (list_empty(&f->handles)) {
		file_attach(ws, f, NULL);
		return 0;
	}
	if (file_new(&left) < 0)
		return -ENOMEM;
	file_attach(ws, f, NULL);
	pthread_mutex_lock(&left->lock);
	file_attach(ws, left, inode);
	list_for_each_safe (h, tmp, &f->handles, node) {
		list_remove(&h->node);
		list_append(&left->handles, &h->node);
	}
	pthread_mutex_unlock(&left->lock);
	file_put(ws, left);
	return 0;
}

/* A handle that held the lease of the one file holds that of the other, if its writer
 * does. */
static void hand_over(struct list *handles, struct file *from, struct file *to)
{
	struct handle *h, *tmp;

	list_for_each_safe (h, tmp, handles, node) {
		bool held = h->epoch && h->epoch == from->lease.epoch &&
			    from->lease.holder == h->by->writer;

		list_remove(&h->node);
		list_append(&to->handles, &h->node);
		h->epoch = held && to->lease.holder == h->by->writer ? to->lease.epoch : 0;
	}
}

void file_move_handles(struct file *from, struct file *to)
{
	hand_over(&from->handles, from, to);
}

void file_swap_handles(struct file *a, struct file *b)
{
	struct list of_a;

	list_init(&of_a);
	while (!list_empty(&a->handles)) {
		struct list *node = a->handles.next;

		list_remove(node);
		list_append(&of_a, node);
	}
	hand_over(&b->handles, b, a);
	hand_over(&of_a, a, b);
}

void file_park(struct workspace *ws, struct file *f, struct inode *parent, const char *name)
{
	lineages_park(ws, place_of(parent), parent->ino, name, f);
}

void file_give_back(
	struct workspace *ws, struct file *f, struct inode *parent, const char *name)
{
	if (!f->inode) {
		file_ref(f);
		file_park(ws, f, parent, name);
	}
	file_unlock(f);
	file_put(ws, f);
}

bool file_rule_is_known(struct workspace *ws, const struct file *f)
{
	return f->rule_epoch == __atomic_load_n(&ws->rule_epoch, __ATOMIC_ACQUIRE);
}

const struct rule *file_rule(
	struct workspace *ws, struct file *f, const char *path, size_t len)
{
	uint64_t epoch = __atomic_load_n(&ws->rule_epoch, __ATOMIC_ACQUIRE);

	if (f->rule_epoch != epoch) {
		const struct rules *rules = __atomic_load_n(&ws->rules, __ATOMIC_ACQUIRE);
		const struct options *o = &ws->options;

		rules_lookup(rules, path, len, false, &f->rule);
		if (o->ttl_ns >= 0)
			f->rule.ttl_ns = o->ttl_ns;
		if (o->wait_ns >= 0)
			f->rule.wait_ns = o->wait_ns;
		if (o->linger_ns >= 0)
			f->rule.linger_ns = o->linger_ns;
		if (o->settle_ns >= 0)
			f->rule.settle_ns = o->settle_ns;
		if (o->checkpoint_ns >= 0)
			f->rule.checkpoint_ns = o->checkpoint_ns;
		f->rule_epoch = epoch;
	}
	return &f->rule;
}

/* Who counts as having made the content of a version; nobody for what was found. */
static struct writer *author_of_version(struct workspace *ws, const struct version *v)
{
	/* Of two writers, or made round the mount: no one's own. */
	if (v->kind == VERSION_EXTERNAL || (v->flags & (VERSION_MERGED | VERSION_OUTSIDE)))
		return identity_daemon(ws->identity)->writer;
	if (!v->author.name || v->kind == VERSION_INITIAL)
		return NULL;
	return identity_writer(ws->identity, v->author.name, v->author.uid);
}

static void head_from_version(struct workspace *ws, struct head *h, const struct version *v)
{
	h->exists = true;
	h->gone = v->kind == VERSION_DELETE || v->kind == VERSION_RMDIR;
	h->number = v->number;
	h->seq = v->seq;
	h->has_hash = v->has_content;
	h->hash = v->content;
	h->size = v->size;
	h->mode = v->mode;
	h->uid = v->uid;
	h->gid = v->gid;
	h->mtime_ns = v->mtime_ns;
	h->content.seq = v->seq;
	h->content.made_ns = lineages_made_before(ws, v->seq);
	h->content.author = author_of_version(ws, v);
	h->outside = v->kind == VERSION_EXTERNAL || (v->flags & VERSION_OUTSIDE);
}

/* MOVE and MODE versions keep the content: find the version that made it. */
static void head_find_content(struct workspace *ws, struct head *h, const struct version *v)
{
	struct version_row row = {0};
	enum { MAX_STEPS = 32 };

	for (int i = 0; i < MAX_STEPS; i++) {
		const char *path = v->kind == VERSION_MODE ? v->path : v->from_path;
		size_t len = v->kind == VERSION_MODE ? v->path_len : v->from_path_len;
		uint64_t number = v->kind == VERSION_MODE ? v->number - 1 : v->from_number;
		struct version_row before = {0};

		if ((v->kind != VERSION_MODE && v->kind != VERSION_MOVE &&
			    v->kind != VERSION_LINK) ||
			!path || !number ||
			journal_version(ws->journal, path, len, number, &before) != 1)
			break;
		version_row_done(&row);
		row = before;
		v = &row.v;
		h->content.author = author_of_version(ws, v);
		h->outside = v->kind == VERSION_EXTERNAL;
		h->content.seq = v->seq;
		h->content.made_ns = lineages_made_before(ws, v->seq);
	}
	version_row_done(&row);
}

/* What a trace told, on top of what the journal does. */
static void head_recall(struct head *h, const struct head *told)
{
	h->content = told->content;
	h->outside = told->outside;
	h->checked = told->checked;
	h->seen_mtime_ns = told->seen_mtime_ns;
}

int file_load_head(struct workspace *ws, struct file *f, const char *path, size_t len)
{
	struct version_row row = {0};
	struct head was = f->head;
	bool several = was.several || (f->inode && inode_has_several_links(f->inode));
	struct hash128 hash = hash128_bytes(path, len);
	bool known;
	int r;

	if (f->head.loaded && hash128_equal(hash, f->head.path)) {
		f->head.several = several;
		return 0;
	}
	/* Another of its names, or a folder above it was renamed: there the path may have
	 * had numbers of its own. What is submitted under the old one must be found. */
	known = several || was.loaded || f->submitted_seq;
	r = known ? journal_wait(ws->journal, f->submitted_seq) : 0;
	if (r == 0 && journal_may_have(ws->journal, path, len))
		r = journal_head(ws->journal, path, len, &row);
	if (r < 0)
		return r;
	f->head = (struct head){
		.loaded = true,
		.several = several,
		.path = hash,
		.last_number = row.last_number,
		.content = was.content,
	};
	if (r == 0)
		return 0;
	head_from_version(ws, &f->head, &row.v);
	head_find_content(ws, &f->head, &row.v);
	if (was.content.seq && !was.loaded)
		head_recall(&f->head, &was);
	else if (known && was.content.seq)
		f->head.content = was.content;
	/* S12: of the version before the one that made the content that is there. */
	f->head.previous_mtime_ns = row.previous_mtime_ns;
	if (f->head.gone)
		f->head.mtime_ns = row.previous_mtime_ns;
	version_row_done(&row);
	return 0;
}
