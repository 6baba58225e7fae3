/*
 * capture.c - content taken from a file while the gate holds it still.
 */
#include <string.h>
#include <sys/stat.h>

#include "journal/internal.h"

static int capture_memory(struct journal *j, int fd, size_t size, struct capture *out)
{
	auto_free char *data = malloc(size + 1);
	int r;

	if (!data)
		return -ENOMEM;
	r = read_all_at(fd, data, size, 0);
	if (r)
		return r;
	*out = (struct capture){.fd = -1, .size = size, .hash = hash128_bytes(data, size)};
	if (j->faults && j->faults->hash)
		out->hash = j->faults->hash(out->hash);
	if (size > 0)
		out->data = steal_ptr(data);
	return 0;
}

int journal_capture(struct journal *j, int fd, struct capture *out)
{
	auto_close int copy = -1;
	struct capture c = CAPTURE_NONE;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size <= CAPTURE_MEMORY_MAX)
		return capture_memory(j, fd, (size_t)st.st_size, out);
	r = temp_file(j->store.dirfd, &copy) ?: sparse_copy(fd, copy);
	if (!r)
		r = content_hash_fd(j->faults, copy, &c.hash, &c.size);
	if (r)
		return r;
	c.fd = steal_fd(&copy);
	*out = c;
	return 0;
}

int journal_capture_bytes(const void *data, size_t size, struct capture *out)
{
	char *copy = NULL;

	if (size > 0) {
		copy = malloc(size);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, data, size);
	}
	*out = (struct capture){.fd = -1, .size = size, .data = copy};
	out->hash = hash128_bytes(copy ?: "", size);
	return 0;
}

void capture_done(struct capture *c)
{
	free(c->data);
	if (c->fd >= 0)
		close(c->fd);
	*c = CAPTURE_NONE;
}
