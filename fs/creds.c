#include "fs/creds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "base/cleanup.h"
#include "fs/inode.h"
#include "fs/notify.h"
#include "fs/op.h"
#include "fs/workspace.h"

enum { FEW_GROUPS = 64, MANY_GROUPS = 1024 };

static int set_groups(fuse_req_t req)
{
	gid_t few[FEW_GROUPS];
	auto_free gid_t *many = NULL;
	gid_t *groups = few;
	int n = fuse_req_getgroups(req, FEW_GROUPS, few);

	if (n > FEW_GROUPS) {
		int room = n;

		many = calloc((size_t)room, sizeof(*many));
		if (!many)
			return -ENOMEM;
		groups = many;
		n = fuse_req_getgroups(req, room, many);
		if (n > room)
			n = room;
	}
	if (n < 0)
		n = 0; /* the caller is gone: it acts with no supplementary group */
	return syscall(SYS_setgroups, (size_t)n, groups) < 0 ? -errno : 0;
}

int creds_assume(struct workspace *ws, fuse_req_t req, struct creds *saved)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	int r;

	saved->changed = false;
	if (!ws->root || (ctx->uid == 0 && ctx->gid == 0))
		return 0;
	r = set_groups(req);
	if (r < 0)
		return r;
	saved->changed = true;
	syscall(SYS_setfsgid, ctx->gid);
	syscall(SYS_setfsuid, ctx->uid);
	return 0;
}

void creds_restore(struct creds *saved)
{
	if (!saved->changed)
		return;
	syscall(SYS_setfsuid, 0);
	syscall(SYS_setfsgid, 0);
	(void)!syscall(SYS_setgroups, (size_t)0, NULL);
	saved->changed = false;
}

/* inode.default_acl: what is known of it, below a count of its changes, so that an answer
 * that a change has overtaken is not kept. */
enum { ACL_UNKNOWN, ACL_NONE, ACL_SET, ACL_CHANGE };

void creds_xattr_changed(struct inode *inode, const char *name)
{
	uint32_t was = __atomic_load_n(&inode->default_acl, __ATOMIC_RELAXED);

	if (strcmp(name, "system.posix_acl_default") != 0)
		return;
	while (!__atomic_compare_exchange_n(&inode->default_acl, &was,
		(was / ACL_CHANGE + 1) * ACL_CHANGE + ACL_UNKNOWN, false, __ATOMIC_SEQ_CST,
		__ATOMIC_RELAXED))
		;
}

static bool has_default_acl(struct workspace *ws, struct inode *folder, int dirfd)
{
	uint32_t was = __atomic_load_n(&folder->default_acl, __ATOMIC_SEQ_CST), now;
	char path[64];
	ssize_t n;

	if (was % ACL_CHANGE != ACL_UNKNOWN)
		return was % ACL_CHANGE == ACL_SET;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", dirfd);
	n = getxattr(path, "system.posix_acl_default", NULL, 0);
	now = n > 0 ? ACL_SET : ACL_NONE;
	/* Else it may be changed round the mount. */
	if (ws->over_itself && (n >= 0 || errno == ENODATA))
		__atomic_compare_exchange_n(&folder->default_acl, &was, was + now, false,
			__ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	return now == ACL_SET;
}

mode_t creds_mode(
	struct workspace *ws, fuse_req_t req, struct inode *folder, int dirfd, mode_t mode)
{
	mode_t umask = fuse_req_ctx(req)->umask;

	/* Without ACLs the kernel has done it. */
	if (!ws->acl || !(mode & umask) || has_default_acl(ws, folder, dirfd))
		return mode;
	return mode & ~umask;
}

static bool is_in_group(fuse_req_t req, gid_t gid)
{
	gid_t groups[MANY_GROUPS];
	int n;

	if (fuse_req_ctx(req)->gid == gid)
		return true;
	n = fuse_req_getgroups(req, MANY_GROUPS, groups);
	for (int i = 0; i < n && i < MANY_GROUPS; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* The mode that is left of a file after a change by who sent the request. */
static mode_t without_privilege(fuse_req_t req, const struct stat *st)
{
	mode_t mode = st->st_mode & 07777 & ~(mode_t)S_ISUID;

	if ((mode & S_ISGID) && ((mode & S_IXGRP) || !is_in_group(req, st->st_gid)))
		mode &= ~(mode_t)S_ISGID;
	return mode;
}

bool creds_write_drops_bits(fuse_req_t req, const struct stat *st)
{
	return (st->st_mode & (S_ISUID | S_ISGID)) && fuse_req_ctx(req)->uid != 0 &&
	       without_privilege(req, st) != (st->st_mode & 07777);
}

void creds_drop_privilege_bits(struct op *op, struct inode *inode, int fd)
{
	struct inode *current;
	struct stat st;

	if (fuse_req_ctx(op->req)->uid == 0 || fstat(fd, &st) < 0 ||
		!creds_write_drops_bits(op->req, &st) ||
		fchmod(fd, without_privilege(op->req, &st)) < 0)
		return;
	notify_attr_now(op->ws, inode);
	current = inode_current(inode);
	if (current != inode)
		notify_attr_now(op->ws, current);
}
