#include "fs/durability.h"

#include <unistd.h>

#include "fs/file.h"
#include "fs/gate.h"
#include "fs/inode.h"
#include "fs/session.h"
#include "fs/workspace.h"

static int sync_fd(int fd, bool datasync)
{
	return (datasync ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
}

static int sync_inode(struct workspace *ws, struct inode *dir)
{
	auto_close int fd = inode_open(ws, dir, O_RDONLY | O_DIRECTORY);

	return fd < 0 ? fd : sync_fd(fd, false);
}

/* What there is to do beyond the file's own bytes. */
struct duty {
	enum rule_durability level;
	struct inode *parent; /* counted: where its name is new; else NULL */
	uint64_t seq;	      /* of rows that must last; 0: none */
	bool intents;
};

/* The folder of the name that no version on stable storage tells of; counted. */
static struct inode *folder_of(struct inode *inode)
{
	struct inode *parent = NULL;

	pthread_mutex_lock(&inode->lock);
	if (inode->links) {
		parent = inode->links->parent;
		inode_ref(parent);
	}
	pthread_mutex_unlock(&inode->lock);
	return parent;
}

static struct duty duty_of(struct workspace *ws, struct handle *h, bool at_close)
{
	struct duty d = {.level = DURABILITY_PROCESS};
	struct file *f;

	if (!h->guarded || (at_close && !h->writable))
		return d;
	f = file_lock_of(ws, h->inode);
	if (!f)
		return d;
	d.level = f->rule.durability;
	if (at_close && (d.level != DURABILITY_CLOSE || !f->session.by ||
				!f->session.dirty || !gate_holds(f, h)))
		d.level = DURABILITY_PROCESS;
	if (d.level != DURABILITY_PROCESS) {
		bool rows = f->submitted_seq &&
			    !journal_is_synced(ws->journal, f->submitted_seq);

		d.intents = f->session.by != NULL;
		f->session.synced |= d.intents;
		d.seq = rows ? f->submitted_seq : 0;
		if (f->inode && (rows || !f->head.exists))
			d.parent = folder_of(f->inode);
	}
	file_unlock(f);
	file_put(ws, f);
	return d;
}

static int do_duty(struct workspace *ws, const struct duty *d)
{
	int r = 0;

	if (d->parent)
		r = sync_inode(ws, d->parent);
	if (r == 0 && d->intents)
		r = intents_sync(ws->intents);
	if (r == 0 && d->seq)
		r = journal_sync(ws->journal, d->seq);
	inode_put(ws, d->parent);
	return r;
}

int durable_file(struct workspace *ws, struct handle *h, bool datasync)
{
	struct duty d = duty_of(ws, h, false);
	int fd = handle_fd(ws, h), r;

	r = fd < 0 ? fd : sync_fd(fd, datasync);
	if (r < 0) {
		inode_put(ws, d.parent);
		return r;
	}
	return do_duty(ws, &d);
}

int durable_close(struct workspace *ws, struct handle *h)
{
	struct duty d = duty_of(ws, h, true);
	int fd, r;

	if (d.level != DURABILITY_CLOSE)
		return 0;
	fd = handle_fd(ws, h);
	r = fd < 0 ? fd : sync_fd(fd, false);
	if (r < 0) {
		inode_put(ws, d.parent);
		return r;
	}
	return do_duty(ws, &d);
}

int durable_folder(struct workspace *ws, int fd, bool datasync)
{
	int r = sync_fd(fd, datasync);

	if (r == 0)
		r = intents_sync(ws->intents);
	return r < 0 ? r : journal_sync(ws->journal, journal_last_seq(ws->journal));
}

int durable_name(struct workspace *ws, struct inode *parent, const struct rule *rule)
{
	int r;

	if (rule->durability != DURABILITY_CLOSE || rule->mode == MODE_PASS)
		return 0;
	r = sync_inode(ws, parent);
	return r < 0 ? r : journal_sync(ws->journal, journal_last_seq(ws->journal));
}
