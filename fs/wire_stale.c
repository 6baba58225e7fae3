#include "fs/wire_stale.h"

#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "fs/supervise.h"

/* The kernel marks what it sends a second time (FUSE_NOTIFY_RESEND, Linux 6.9). */
#define UNIQUE_RESENT (1ULL << 63)

struct request {
	struct fuse_in_header header;
	char *body;
	size_t size; /* of the body */
};

static uint64_t body_u64(const struct request *r, size_t at)
{
	uint64_t value = 0;

	if (at + sizeof(value) <= r->size)
		memcpy(&value, r->body + at, sizeof(value));
	return value;
}

/* The root is everybody's, and 0 is nobody. */
static bool is_old(uint64_t id, unsigned generation)
{
	return id > FUSE_ROOT_ID && id >> GENERATION_SHIFT != generation;
}

/* A handle of the root folder: its node does not tell whose it is. */
static bool is_old_root_handle(const struct request *r, unsigned generation)
{
	switch (r->header.opcode) {
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_RELEASEDIR:
	case FUSE_FSYNCDIR:
	case FUSE_IOCTL:
		return r->header.nodeid == FUSE_ROOT_ID &&
		       is_old(body_u64(r, 0), generation);
	default:
		return false;
	}
}

/* The other node of a request that names two. */
static uint64_t second_node(const struct request *r)
{
	switch (r->header.opcode) {
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_LINK:
		return body_u64(r, 0);
	case FUSE_COPY_FILE_RANGE:
		return body_u64(r, offsetof(struct fuse_copy_file_range_in, nodeid_out));
	default:
		return 0;
	}
}

/* Keep those that are ours, in place. */
static int keep_forgets(struct request *r, unsigned generation)
{
	struct fuse_batch_forget_in batch;
	size_t at = sizeof(batch), kept = sizeof(batch);
	uint32_t n = 0;

	if (r->size < sizeof(batch))
		return STALE_NOT;
	memcpy(&batch, r->body, sizeof(batch));
	for (uint32_t i = 0; i < batch.count; i++, at += sizeof(struct fuse_forget_one)) {
		if (at + sizeof(struct fuse_forget_one) > r->size)
			break;
		if (is_old(body_u64(r, at), generation))
			continue;
		memmove(r->body + kept, r->body + at, sizeof(struct fuse_forget_one));
		kept += sizeof(struct fuse_forget_one);
		n++;
	}
	batch.count = n;
	memcpy(r->body, &batch, sizeof(batch));
	return n ? STALE_NOT : STALE_DROP;
}

/* Done twice is the same as done once. */
static bool only_asks(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_GETATTR:
	case FUSE_READLINK:
	case FUSE_READ:
	case FUSE_STATFS:
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
	case FUSE_OPENDIR:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_ACCESS:
	case FUSE_LSEEK:
		return true;
	default:
		return false;
	}
}

int stale_check(unsigned generation, void *request, size_t size)
{
	struct request r = {.size = size - sizeof(r.header)};
	bool resent, old;

	memcpy(&r.header, request, sizeof(r.header));
	r.body = (char *)request + sizeof(r.header);
	if (r.header.opcode == FUSE_BATCH_FORGET)
		return keep_forgets(&r, generation);
	if (r.header.opcode == FUSE_INTERRUPT)
		return STALE_NOT;
	resent = (r.header.unique & UNIQUE_RESENT) && !only_asks(r.header.opcode);
	old = is_old(r.header.nodeid, generation) || is_old(second_node(&r), generation) ||
	      is_old_root_handle(&r, generation);
	if (!resent && !old)
		return STALE_NOT;
	if (r.header.opcode == FUSE_FORGET)
		return STALE_DROP;
	if (r.header.opcode == FUSE_RELEASE || r.header.opcode == FUSE_RELEASEDIR)
		return STALE_DONE;
	/* An open that only reads did nothing that matters; of an old node the kernel then
	 * looks the path up again, as for every ESTALE. */
	return resent && r.header.opcode != FUSE_OPEN ? -ECONNABORTED : -ESTALE;
}
