/*
 * contents.h - the three contents of one change, mapped for reading.
 *
 * base: what the writer knew; current: what is there; new: what it wants to put there.
 * Mapped, so that memory stays bounded by the page cache. Blocks on disk and on the
 * journal. The file's lock is held while they are open: nobody else can change them.
 */
#ifndef STOMP_FS_CONTENTS_H
#define STOMP_FS_CONTENTS_H

#include "fs/gate.h"
#include "policy/lost_update.h"

struct contents {
	struct content base, current, new;
	bool known_base;
	void *maps[3];
	size_t map_sizes[3];
	struct content_span *spans[3]; /* of large ones */
};

#define auto_contents __attribute__((cleanup(contents_close))) struct contents

/* new_fd as far as new_size. -errno. */
must_check int contents_open(struct change *c, const struct knowledge *known, int new_fd,
	uint64_t new_size, struct contents *out);
void contents_close(struct contents *t);

/* fd's content as the base of t, for looking at another one. */
must_check int contents_map_base(struct contents *t, int fd);

/* The version that the file of path had at seq, also before it came to that path: 1 and
 * *row, or 0. Its number, if it is one of path's own, else 0. */
must_check int contents_find_base(struct workspace *ws, const char *path, size_t len,
	uint64_t seq, struct version_row *row);
uint64_t contents_base_number(
	struct workspace *ws, const char *path, size_t len, uint64_t seq);

/* The content of the version that was current at base_seq; *fd is -1 where none is
 * known. -errno. */
must_check int contents_open_base(struct change *c, uint64_t base_seq, int *fd);

#endif
