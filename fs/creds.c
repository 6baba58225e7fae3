#include "fs/creds.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "base/cleanup.h"
#include "fs/workspace.h"

enum { FEW_GROUPS = 64 };

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
