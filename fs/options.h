/*
 * options.h - the command line of stompfs, as a person, mount(8) or fstab give it.
 */
#ifndef STOMP_FS_OPTIONS_H
#define STOMP_FS_OPTIONS_H

#include "fs/workspace.h"

/* Fills *o and leaves libfuse's own options in *args. 0; 1: --help or --version was
 * answered; -EINVAL: a message was printed. */
must_check int options_parse(struct options *o, struct fuse_args *args);
void options_done(struct options *o);

#endif
