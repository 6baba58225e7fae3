/* The ring of a build without liburing: none. */
#include "base/log.h"
#include "fs/uring.h"
#include "fs/workspace.h"

bool uring_prepare(struct workspace *ws, size_t payload_size)
{
	(void)payload_size;
	ws->uring_refusal = ws->options.uring == URING_OFF
				    ? "it is not asked for (-o uring)"
				    : "this stompfs was built without liburing";
	if (ws->options.uring == URING_ON)
		log_warn("no io_uring: %s", ws->uring_refusal);
	return false;
}

void uring_start(struct uring *u)
{
	(void)u;
}

void uring_stop(struct uring *u)
{
	(void)u;
}

struct uring *uring_free(struct uring *u)
{
	return u;
}

bool uring_reply(struct uring *u, const struct iovec *iov, int count)
{
	(void)u, (void)iov, (void)count;
	return false;
}

ssize_t uring_splice(struct uring *u, int pipe_fd, size_t size)
{
	(void)u, (void)pipe_fd, (void)size;
	return 0;
}

void *uring_room(struct uring *u, size_t size)
{
	(void)u, (void)size;
	return NULL;
}

bool uring_unheard(struct uring *u, uint64_t unique)
{
	(void)u, (void)unique;
	return false;
}

void uring_describe(const struct workspace *ws, struct buf *out)
{
	buf_puts(out, "/dev/fuse");
	if (ws->options.uring != URING_OFF)
		buf_printf(out, " (no io_uring: %s)", ws->uring_refusal);
}
