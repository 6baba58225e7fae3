#include "fs/creds.h"

#include <stdio.h>
#include <stdlib.h>
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

mode_t creds_mode(struct workspace *ws, fuse_req_t req, int dirfd, mode_t mode)
{
	char path[64];

	if (!ws->acl)
		return mode; /* the kernel has done it */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", dirfd);
	if (getxattr(path, "system.posix_acl_default", NULL, 0) > 0)
		return mode;
	return mode & ~fuse_req_ctx(req)->umask;
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
