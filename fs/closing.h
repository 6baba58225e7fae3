/*
 * closing.h - what is known of descriptors that are being closed.
 *
 * The kernel tells of a close twice: FLUSH, for which close(2) waits, and RELEASE, once no
 * descriptor and no mapping is left, for which nobody waits. What comes after the close may
 * overtake the RELEASE: over io_uring each processor has a queue of its own.
 *
 * All calls with the file's lock held. They may look into /proc.
 */
#ifndef STOMP_FS_CLOSING_H
#define STOMP_FS_CLOSING_H

#include <stdbool.h>

struct file;
struct workspace;

/* Every handle that wrote in the open session was closed, and no process of its writer has
 * it open by another descriptor: only the release is still on its way from the kernel. */
bool closing_session(struct workspace *ws, const struct file *f);

/* The same of every handle through which the holder could write, mappings included: his
 * lease ends in a moment. */
bool closing_lease(struct workspace *ws, const struct file *f);

#endif
