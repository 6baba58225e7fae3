#include <string.h>

#include "fs/inode.h"
#include "fs/inode_internal.h"
#include "fs/workspace.h"

enum { MAX_DEPTH = 4096 };

static struct link_name **link_find(
	struct inode *inode, const struct inode *parent, const char *name)
{
	struct link_name **at = &inode->links;

	while (*at && ((*at)->parent != parent || strcmp((*at)->name, name) != 0))
		at = &(*at)->next;
	return at;
}

void inode_link_add(struct inode *inode, struct inode *parent, const char *name)
{
	struct link_name **at;

	pthread_mutex_lock(&inode->lock);
	/* A folder has one name; what it was called before was changed round the mount. */
	at = link_find(inode, parent, name);
	if (!*at) {
		struct link_name *link = calloc(1, sizeof(*link));

		if (link)
			link->name = strdup(name);
		if (link && link->name) {
			inode_ref(parent);
			link->parent = parent;
			*at = link;
		} else {
			free(link); /* without memory it has no path until the next lookup
				     */
		}
	}
	pthread_mutex_unlock(&inode->lock);
}

void inode_link_remove(
	struct workspace *ws, struct inode *inode, struct inode *parent, const char *name)
{
	struct link_name **at, *link;

	pthread_mutex_lock(&inode->lock);
	at = link_find(inode, parent, name);
	link = *at;
	if (link) {
		/* Without a name it cannot be reopened: make sure that it is open. */
		if (inode->fd < 0 && !link->next && inode->links == link)
			(void)!inode_reopen(ws, inode);
		*at = link->next;
	}
	pthread_mutex_unlock(&inode->lock);
	if (link)
		inode_link_free(ws, link);
}

bool inode_has_several_links(struct inode *inode)
{
	bool has;

	pthread_mutex_lock(&inode->lock);
	has = inode->links && inode->links->next;
	pthread_mutex_unlock(&inode->lock);
	return has;
}

bool inode_has_links(struct inode *inode)
{
	bool has;

	pthread_mutex_lock(&inode->lock);
	has = inode->links != NULL;
	pthread_mutex_unlock(&inode->lock);
	return has;
}

int inode_first_name(struct inode *inode, struct inode **parent, char **name)
{
	int r = -ENOENT;

	pthread_mutex_lock(&inode->lock);
	if (inode->links) {
		*name = strdup(inode->links->name);
		r = *name ? 0 : -ENOMEM;
	}
	if (r == 0) {
		*parent = inode->links->parent;
		inode_ref(*parent);
	}
	pthread_mutex_unlock(&inode->lock);
	return r;
}

static void prepend(struct buf *out, const char *name)
{
	size_t len = strlen(name), old = out->len;

	buf_puts(out, name);
	if (old)
		buf_putc(out, '/');
	if (buf_failed(out) || !old)
		return;
	memmove(out->data + len + 1, out->data, old);
	memcpy(out->data, name, len);
	out->data[len] = '/';
}

/* Climb from inode to the root; *out holds the path below inode so far. */
static int climb(struct inode *inode, struct buf *out)
{
	for (int depth = 0; depth < MAX_DEPTH; depth++) {
		struct inode *parent = NULL;

		pthread_mutex_lock(&inode->lock);
		if (inode->links) {
			prepend(out, inode->links->name);
			parent = inode->links->parent;
		}
		pthread_mutex_unlock(&inode->lock);
		if (!parent) /* the root has no name; neither has an unlinked file */
			return buf_failed(out) ? -ENOMEM : depth;
		inode = parent;
	}
	return -ELOOP;
}

int inode_path(struct inode *inode, struct buf *out)
{
	int depth = climb(inode, out);

	if (depth < 0)
		return depth;
	return depth == 0 && !S_ISDIR(inode->type) ? -ENOENT : 0;
}

int inode_child_path(struct inode *parent, const char *name, struct buf *out)
{
	int depth;

	buf_puts(out, name);
	depth = climb(parent, out);
	return depth < 0 ? depth : 0;
}
