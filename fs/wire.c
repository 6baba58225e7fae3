#include "fs/wire.h"

#include "fs/uring.h"

#include <linux/fuse.h>
#include <string.h>
#include <sys/uio.h>

#include "fs/handle.h"
#include "fs/wire_stale.h"

/* Values of the protocol that older kernel headers lack. */
enum {
	OPCODE_CREATE = 35,
	OPCODE_TMPFILE = 51,
	OPCODE_INIT = 26,
	NOTIFY_RESEND = 7,
	NOTIFY_INC_EPOCH = 8,
};

/* In the unique of an INTERRUPT, which else is that of its request. */
#define INTERRUPT_BIT 1ULL

#define WIRE_HANDLE_KILLPRIV_V2 (1ULL << 28)
#define WIRE_MAX_PAGES (1U << 22)
#define WIRE_INIT_EXT (1ULL << 30)
#define WIRE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#define WIRE_PASSTHROUGH (1ULL << 37)

#define WIRE_FOPEN_NOFLUSH (1u << 5)
#define WIRE_FOPEN_PASSTHROUGH (1u << 7)

/* How deep file systems may be stacked, ours included: the backing is not stacked. */
enum { MAX_STACK_DEPTH = 1 };

/*
 * A request that follows from an answer (the release of what an open gave out) is
 * ordered after it by the kernel. A race detector cannot see that; it is told here.
 */
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define SAY_ORDER 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define SAY_ORDER 1
#endif

static inline void order_answer(struct workspace *ws)
{
#ifdef SAY_ORDER
	__atomic_fetch_add(&ws->wire_order, 1, __ATOMIC_ACQ_REL);
#else
	(void)ws;
#endif
}

static inline void order_request(struct workspace *ws)
{
#ifdef SAY_ORDER
	(void)__atomic_load_n(&ws->wire_order, __ATOMIC_ACQUIRE);
#else
	(void)ws;
#endif
}

/* The INIT reply as far as we have to do with it. */
struct init_reply {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
};

/* linux/fuse.h's fuse_open_out, of which older headers do not know the last field. */
struct open_reply {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};

struct create_reply {
	struct fuse_entry_out entry;
	struct open_reply open;
};

/* The INIT request comes and is answered before anything else: no lock is needed. */
static void look_at_init(struct workspace *ws, const char *data, size_t size)
{
	struct fuse_in_header header;
	struct fuse_init_in in = {0};
	size_t body = size - sizeof(header);
	uint32_t flags2 = 0;

	memcpy(&header, data, sizeof(header));
	ws->init_unique = header.unique;
	memcpy(&in, data + sizeof(header), body < sizeof(in) ? body : sizeof(in));
	if ((in.flags & WIRE_INIT_EXT) && body >= 5 * sizeof(uint32_t))
		memcpy(&flags2, data + sizeof(header) + 4 * sizeof(uint32_t),
			sizeof(flags2));
	ws->init_offered = in.flags | (uint64_t)flags2 << 32;
	if (ws->supervised.supervisor && ws->supervised.fuse_fd < 0 &&
		size <= sizeof(ws->supervised.init)) {
		memcpy(ws->supervised.init, data, size);
		ws->supervised.init_size = size;
	}
}

static int answer(int fd, const void *request, int error)
{
	struct fuse_in_header in;
	struct fuse_out_header out = {.len = sizeof(out), .error = error};

	memcpy(&in, request, sizeof(in));
	out.unique = in.unique;
	/* ENOENT: the caller was interrupted and waits no more. */
	return write(fd, &out, sizeof(out)) < 0 && errno != ENOENT ? -errno : 0;
}

/* The next request that is for us; the others are answered here. */
static ssize_t read_ours(int fd, void *buf, size_t size, const struct workspace *ws)
{
	for (;;) {
		ssize_t n = read(fd, buf, size);
		int stale;

		if (n < (ssize_t)sizeof(struct fuse_in_header) ||
			ws->supervised.generation == 0)
			return n;
		stale = stale_check(ws->supervised.generation, buf, (size_t)n);
		if (stale == STALE_NOT)
			return n;
		if (stale != STALE_DROP &&
			answer(fd, buf, stale == STALE_DONE ? 0 : stale) < 0)
			return -1;
	}
}

static void count_request(struct workspace *ws, uint32_t opcode)
{
	if (opcode >= OPCODES)
		opcode = OPCODES - 1;
	__atomic_fetch_add(&ws->requests[opcode], 1, __ATOMIC_RELAXED);
}

/* The handle lives until this very request is handled. */
static void note_release(const struct fuse_in_header *header)
{
	struct fuse_release_in in;
	struct handle *h;

	if ((header->nodeid & 1) && header->nodeid != FUSE_ROOT_ID)
		return; /* of the virtual folder */
	memcpy(&in, header + 1, sizeof(in));
	h = (struct handle *)(uintptr_t)in.fh;
	__atomic_store_n(&h->releasing, true, __ATOMIC_RELEASE);
}

void wire_received(struct workspace *ws, void *request)
{
	struct fuse_in_header *header = request;

	order_request(ws);
	count_request(ws, header->opcode);
	if (header->opcode == OPCODE_TMPFILE)
		header->opcode = OPCODE_CREATE;
	else if (header->opcode == FUSE_RELEASE)
		note_release(header);
}

static ssize_t wire_read(int fd, void *buf, size_t size, void *userdata)
{
	ssize_t n = read_ours(fd, buf, size, userdata);
	struct fuse_in_header *header = buf;

	if (n < (ssize_t)sizeof(*header))
		return n;
	wire_received(userdata, buf);
	if (header->opcode == OPCODE_INIT)
		look_at_init(userdata, buf, (size_t)n);
	return n;
}

static void add_flags(struct workspace *ws, struct init_reply *reply)
{
	uint64_t want = WIRE_HANDLE_KILLPRIV_V2;

	if (!ws->options.no_dio_mmap)
		want |= WIRE_DIRECT_IO_ALLOW_MMAP;
	if (ws->root && !ws->options.no_passthrough)
		want |= WIRE_PASSTHROUGH;
	want &= ws->init_offered;
	if (!(ws->init_offered & WIRE_INIT_EXT))
		want &= UINT32_MAX;
	if (want >> 32)
		want |= WIRE_INIT_EXT;
	reply->flags |= (uint32_t)want;
	reply->flags2 |= (uint32_t)(want >> 32);
	if (ws->options.no_dio_mmap)
		reply->flags2 &= ~(uint32_t)(WIRE_DIRECT_IO_ALLOW_MMAP >> 32);
	if (want & WIRE_PASSTHROUGH)
		reply->max_stack_depth = MAX_STACK_DEPTH;
	ws->passthrough = want & WIRE_PASSTHROUGH;
	ws->dio_mmap = reply->flags2 & (uint32_t)(WIRE_DIRECT_IO_ALLOW_MMAP >> 32);
}

/* What the kernel wants a buffer of the ring to hold. */
static size_t largest_payload(const struct init_reply *reply)
{
	size_t pages = reply->flags & WIRE_MAX_PAGES ? reply->max_pages : 32;
	size_t size = pages * (size_t)sysconf(_SC_PAGESIZE);

	if (size < reply->max_write)
		size = reply->max_write;
	return size < FUSE_MIN_READ_BUFFER ? FUSE_MIN_READ_BUFFER : size;
}

static size_t size_of(const struct iovec *iov, int count)
{
	size_t size = 0;

	for (int i = 0; i < count; i++)
		size += iov[i].iov_len;
	return size;
}

static ssize_t answer_init(struct workspace *ws, int fd, struct iovec *iov, int count)
{
	struct init_reply *reply = iov[1].iov_base;
	bool ring;
	ssize_t n;

	add_flags(ws, reply);
	ws->init_unique = 0;
	if (ws->supervised.fuse_fd >= 0) /* answered by the first daemon */
		return (ssize_t)size_of(iov, count);
	if (ws->supervised.supervisor)
		supervise_tell(&ws->supervised, fuse_session_fd(ws->session));
	ring = (reply->flags & WIRE_INIT_EXT) && uring_prepare(ws, largest_payload(reply));
	if (ring)
		reply->flags2 |= (uint32_t)(WIRE_OVER_IO_URING >> 32);
	n = writev(fd, iov, count);
	if (ring)
		uring_start(ws->uring);
	return n;
}

static ssize_t wire_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_out_header *header = iov[0].iov_base;
	struct workspace *ws = userdata;

	if (ws->init_unique && header->unique == ws->init_unique && header->error == 0 &&
		count == 2 && iov[1].iov_len >= sizeof(struct init_reply)) {
		order_answer(ws);
		return answer_init(ws, fd, iov, count);
	}
	order_answer(ws);
	if (uring_reply(ws->uring, iov, count) ||
		(header->error == -EAGAIN && (header->unique & INTERRUPT_BIT) &&
			uring_unheard(ws->uring, header->unique & ~INTERRUPT_BIT)))
		return (ssize_t)size_of(iov, count);
	return writev(fd, iov, count);
}

static ssize_t wire_splice_send(int fdin, off_t *offin, int fdout, off_t *offout,
	size_t len, unsigned flags, void *ud)
{
	struct workspace *ws = ud;
	ssize_t n;

	order_answer(ws);
	n = uring_splice(ws->uring, fdin, len);
	if (n)
		return n;
	return splice(fdin, offin, fdout, offout, len, flags);
}

/* ---- answers ---- */

static struct open_reply open_reply_of(const struct fuse_file_info *fi, int backing_id)
{
	struct open_reply reply = {.fh = fi->fh, .backing_id = backing_id};

	reply.open_flags = (fi->direct_io ? FOPEN_DIRECT_IO : 0) |
			   (fi->keep_cache ? FOPEN_KEEP_CACHE : 0) |
			   (fi->noflush ? WIRE_FOPEN_NOFLUSH : 0) |
			   (backing_id ? WIRE_FOPEN_PASSTHROUGH : 0);
	return reply;
}

int wire_reply_open(fuse_req_t req, const struct fuse_file_info *fi, int backing_id)
{
	struct open_reply reply = open_reply_of(fi, backing_id);

	return fuse_reply_buf(req, (const char *)&reply, sizeof(reply));
}

static void split_time(double seconds, uint64_t *whole, uint32_t *ns)
{
	*whole = (uint64_t)seconds;
	*ns = (uint32_t)((seconds - (double)*whole) * 1e9);
}

static struct fuse_entry_out entry_reply_of(const struct fuse_entry_param *e)
{
	const struct stat *st = &e->attr;
	struct fuse_entry_out out = {
		.nodeid = e->ino,
		.generation = e->generation,
		.attr =
			{
				.ino = st->st_ino,
				.mode = st->st_mode,
				.nlink = (uint32_t)st->st_nlink,
				.uid = st->st_uid,
				.gid = st->st_gid,
				.rdev = (uint32_t)st->st_rdev,
				.size = (uint64_t)st->st_size,
				.blksize = (uint32_t)st->st_blksize,
				.blocks = (uint64_t)st->st_blocks,
				.atime = (uint64_t)st->st_atim.tv_sec,
				.mtime = (uint64_t)st->st_mtim.tv_sec,
				.ctime = (uint64_t)st->st_ctim.tv_sec,
				.atimensec = (uint32_t)st->st_atim.tv_nsec,
				.mtimensec = (uint32_t)st->st_mtim.tv_nsec,
				.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
			},
	};

	split_time(e->attr_timeout, &out.attr_valid, &out.attr_valid_nsec);
	split_time(e->entry_timeout, &out.entry_valid, &out.entry_valid_nsec);
	return out;
}

int wire_reply_create(fuse_req_t req, const struct fuse_entry_param *e,
	const struct fuse_file_info *fi, int backing_id)
{
	struct create_reply reply = {
		.entry = entry_reply_of(e),
		.open = open_reply_of(fi, backing_id),
	};

	return fuse_reply_buf(req, (const char *)&reply, sizeof(reply));
}

int wire_install(struct workspace *ws)
{
	static const struct fuse_custom_io io = {
		.read = wire_read,
		.writev = wire_writev,
		.splice_send = wire_splice_send,
	};

	return fuse_session_custom_io(ws->session, &io, fuse_session_fd(ws->session));
}

/* A message of ours to the kernel that has no body. */
static int notify(int fd, int code)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = code};

	return write(fd, &out, sizeof(out)) < 0 ? -errno : 0;
}

int wire_go_on(struct workspace *ws)
{
	struct supervised *s = &ws->supervised;
	struct fuse_buf init = {.size = s->init_size, .mem = s->init};
	int fd = fuse_session_fd(ws->session), r;

	look_at_init(ws, s->init, s->init_size);
	fuse_session_process_buf(ws->session, &init);
	if (ws->init_unique)
		return -EPROTO; /* libfuse has said why */
	supervise_tell(s, fd);
	/* Names first: from here on no path leads to an old node. */
	r = notify(fd, NOTIFY_INC_EPOCH);
	if (r == 0) /* the one node that stays: its attributes and its listing */
		r = fuse_lowlevel_notify_inval_inode(ws->session, FUSE_ROOT_ID, 0, 0);
	if (r == 0 || r == -ENOENT)
		r = notify(fd, NOTIFY_RESEND);
	if (r == -ENODEV)
		return 0; /* unmounted meanwhile: the loop will see */
	return r;
}
