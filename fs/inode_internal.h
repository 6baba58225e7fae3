/*
 * inode_internal.h - what inode.c and inode_names.c share.
 */
#ifndef STOMP_FS_INODE_INTERNAL_H
#define STOMP_FS_INODE_INTERNAL_H

#include "fs/inode.h"

/* Open the O_PATH descriptor again; inode->lock is held. -ESTALE: it is not there. */
must_check int inode_reopen(struct workspace *ws, struct inode *inode);

void inode_link_free(struct workspace *ws, struct link_name *link);

#endif
