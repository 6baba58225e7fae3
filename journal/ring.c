#include "journal/ring.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "journal/patch.h"

enum {
	HEADER_BYTES = 4096,
	RING_BYTES = 8 * 1024 * 1024,
	FILE_BYTES = HEADER_BYTES + RING_BYTES,
	FORMAT = 2,
	ALIGN = 8,
	TEXTS = 5, /* path, from_path, name, rule, command */
};

#define MAGIC 0x65756575712e73ULL /* "s.queue" */

struct header {
	uint64_t magic;
	uint32_t format, bytes;
	_Atomic uint64_t tail; /* where the oldest record begins that is kept */
};

/* Places grow for ever; where they lie is their remainder. A record is in one piece. */
struct record {
	uint64_t at;
	uint32_t bytes; /* with this; a multiple of ALIGN */
	uint32_t skip;	/* nothing: the next one is at the file's beginning */
	uint64_t check; /* of at, bytes, skip and all that follows */
	char body[];
};

struct body {
	uint64_t seq, number, epoch, base_number, size, from_number;
	struct hash128 content;
	int64_t mtime_ns, time_ns, start_ns, root_start_ns, content_id;
	uint32_t kind, flags, mode, uid, gid, author_uid;
	int32_t pid, root_pid;
	uint32_t has_content, has_capture, has_patch;
	uint32_t texts[TEXTS]; /* length + 1; 0: none */
	struct hash128 hash;   /* of the capture */
	uint64_t capture_size, data_bytes;
	uint64_t base_seq, base_size, keep, n_ranges;
};

struct ring {
	int fd;
	char *map;
	struct header *header;
	uint64_t head; /* where the next record begins */
};

/* ---- records ---- */

static struct record *record_at(const struct ring *r, uint64_t at)
{
	return (struct record *)(void *)(r->map + HEADER_BYTES + at % RING_BYTES);
}

static uint64_t check_of(const struct record *rec)
{
	uint64_t seed = rec->at * 31 + rec->bytes * 2 + rec->skip;
	size_t n = rec->skip ? 0 : rec->bytes - sizeof(*rec);

	return XXH3_64bits_withSeed(rec->body, n, seed);
}

/* A patch's ranges follow each other inside of its content, and the bytes are theirs. */
static bool patch_fits(const struct body *b, const char *ranges)
{
	uint64_t end = 0, sum = 0;

	if (b->base_size > INT64_MAX || b->keep > b->base_size ||
		b->capture_size > INT64_MAX)
		return false;
	for (uint64_t i = 0; i < b->n_ranges; i++) {
		struct extent e;

		memcpy(&e, ranges + i * sizeof(e), sizeof(e));
		if (e.at < end || e.at > b->capture_size || e.len > b->capture_size - e.at)
			return false;
		end = e.at + e.len;
		sum += e.len;
	}
	return sum == b->data_bytes;
}

static bool capture_fits(const struct body *b, const char *ranges)
{
	if (!b->has_capture)
		return !b->has_patch && b->data_bytes == 0;
	return b->has_patch ? patch_fits(b, ranges) : b->capture_size == b->data_bytes;
}

/* What the record says of itself is inside of it. The check tells that it is as it was put;
 * that it was us who put it, it does not. */
static bool body_fits(const struct record *rec)
{
	size_t room = rec->bytes - sizeof(*rec), left;
	const char *at = rec->body + sizeof(struct body);
	struct body b;

	if (room < sizeof(b))
		return false;
	memcpy(&b, rec->body, sizeof(b));
	left = room - sizeof(b);
	if (b.texts[0] < 2 || b.kind >= VERSION_KINDS ||
		b.n_ranges > left / sizeof(struct extent))
		return false;
	left -= b.n_ranges * sizeof(struct extent);
	if (!capture_fits(&b, at))
		return false;
	at += b.n_ranges * sizeof(struct extent);
	for (int i = 0; i < TEXTS; i++) {
		if (b.texts[i] > left || (b.texts[i] && at[b.texts[i] - 1]))
			return false;
		left -= b.texts[i];
		at += b.texts[i];
	}
	return b.data_bytes <= left;
}

/* A record that was put whole. */
static bool is_sound(const struct ring *r, uint64_t at)
{
	const struct record *rec = record_at(r, at);
	uint64_t room = RING_BYTES - at % RING_BYTES;

	return room >= sizeof(*rec) && rec->at == at && rec->bytes >= sizeof(*rec) &&
	       rec->bytes <= room && rec->bytes % ALIGN == 0 &&
	       rec->check == check_of(rec) && (rec->skip || body_fits(rec));
}

struct texts {
	const char *at[TEXTS];
	size_t len[TEXTS];
};

static void gather(const struct version *v, struct texts *t)
{
	*t = (struct texts){.at = {v->path, v->from_path, v->author.name, v->author.rule,
				    v->author.command}};
	for (int i = 0; i < TEXTS; i++)
		t->len[i] = i == 0     ? v->path_len
			    : i == 1   ? v->from_path_len
			    : t->at[i] ? strlen(t->at[i])
				       : 0;
}

static void fill_body(struct body *b, const struct item *item, const struct texts *t)
{
	const struct version *v = &item->version;
	const struct patch *p = item->content.patch;

	*b = (struct body){
		.seq = v->seq,
		.number = v->number,
		.epoch = v->epoch,
		.base_number = v->base_number,
		.size = v->size,
		.from_number = v->from_number,
		.content = v->content,
		.mtime_ns = v->mtime_ns,
		.time_ns = v->time_ns,
		.start_ns = v->author.start_ns,
		.root_start_ns = v->author.root_start_ns,
		.content_id = v->content_id,
		.kind = v->kind,
		.flags = v->flags,
		.mode = v->mode,
		.uid = v->uid,
		.gid = v->gid,
		.author_uid = v->author.uid,
		.pid = v->author.pid,
		.root_pid = v->author.root_pid,
		.has_content = v->has_content,
		.has_capture = item->has_capture,
		.has_patch = p != NULL,
		.hash = item->content.hash,
		.capture_size = item->content.size,
		.data_bytes = item->has_capture ? capture_bytes(&item->content) : 0,
	};
	for (int i = 0; i < TEXTS; i++)
		b->texts[i] = t->at[i] ? (uint32_t)t->len[i] + 1 : 0;
	if (p) {
		b->base_seq = p->base_seq;
		b->base_size = p->base_size;
		b->keep = p->keep;
		b->n_ranges = p->n_ranges;
	}
}

static char *put_bytes(char *at, const void *data, size_t size)
{
	if (size > 0)
		memcpy(at, data, size);
	return at + size;
}

static void fill(struct record *rec, const struct item *item, const struct texts *t)
{
	const struct patch *p = item->content.patch;
	char *at = rec->body + sizeof(struct body);
	struct body b;

	fill_body(&b, item, t);
	memcpy(rec->body, &b, sizeof(b));
	if (p)
		at = put_bytes(at, p->ranges, p->n_ranges * sizeof(p->ranges[0]));
	for (int i = 0; i < TEXTS; i++) {
		if (!t->at[i])
			continue;
		at = put_bytes(at, t->at[i], t->len[i]);
		*at++ = '\0';
	}
	at = put_bytes(at, item->content.data, item->content.data ? b.data_bytes : 0);
	memset(at, 0, (size_t)((char *)rec + rec->bytes - at));
}

static size_t bytes_of(const struct item *item, const struct texts *t)
{
	const struct patch *p = item->content.patch;
	size_t bytes = sizeof(struct record) + sizeof(struct body);

	for (int i = 0; i < TEXTS; i++)
		bytes += t->at[i] ? t->len[i] + 1 : 0;
	if (p)
		bytes += p->n_ranges * sizeof(p->ranges[0]);
	if (item->content.data)
		bytes += (size_t)capture_bytes(&item->content);
	return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Room for so many bytes in one piece, skipping the file's end if need be. */
static struct record *take_room(struct ring *r, size_t bytes)
{
	uint64_t tail = atomic_load(&r->header->tail);
	uint64_t to_end = RING_BYTES - r->head % RING_BYTES;
	uint64_t skip = to_end < bytes ? to_end : 0;
	struct record *rec = record_at(r, r->head);

	if (r->head + skip + bytes - tail > RING_BYTES)
		return NULL;
	if (skip >= sizeof(*rec)) {
		*rec = (struct record){.at = r->head, .bytes = (uint32_t)skip, .skip = 1};
		rec->check = check_of(rec);
	}
	r->head += skip;
	return record_at(r, r->head);
}

bool ring_put(struct ring *r, struct item *item)
{
	struct record *rec;
	struct texts t;
	size_t bytes;

	if (!r || item->kind != ITEM_VERSION || item->content.fd >= 0 ||
		(item->has_capture && capture_bytes(&item->content) > RING_CONTENT_MAX))
		return false;
	gather(&item->version, &t);
	bytes = bytes_of(item, &t);
	if (bytes > RING_BYTES / 4)
		return false;
	rec = take_room(r, bytes);
	if (!rec)
		return false;
	rec->check = 0;
	rec->at = r->head;
	rec->bytes = (uint32_t)bytes;
	rec->skip = 0;
	fill(rec, item, &t);
	atomic_thread_fence(memory_order_release); /* the check is stored last */
	rec->check = check_of(rec);
	r->head += bytes;
	item->kept_until = r->head;
	return true;
}

void ring_release(struct ring *r, uint64_t until)
{
	if (r && until > atomic_load(&r->header->tail))
		atomic_store(&r->header->tail, until);
}

/* ---- what the last daemon left ---- */

static const char *get_text(const char **at, uint32_t len_plus_1)
{
	const char *text = *at;

	*at += len_plus_1;
	return len_plus_1 ? text : NULL;
}

static void get_version(const struct body *b, const char **at, struct version *v)
{
	*v = (struct version){
		.seq = b->seq,
		.number = b->number,
		.epoch = b->epoch,
		.base_number = b->base_number,
		.size = b->size,
		.from_number = b->from_number,
		.content = b->content,
		.mtime_ns = b->mtime_ns,
		.time_ns = b->time_ns,
		.content_id = b->content_id,
		.kind = (enum version_kind)b->kind,
		.flags = b->flags,
		.mode = b->mode,
		.uid = b->uid,
		.gid = b->gid,
		.has_content = b->has_content,
	};
	v->path_len = b->texts[0] ? b->texts[0] - 1 : 0;
	v->from_path_len = b->texts[1] ? b->texts[1] - 1 : 0;
	v->path = get_text(at, b->texts[0]);
	v->from_path = get_text(at, b->texts[1]);
	v->author = (struct author){
		.uid = b->author_uid,
		.pid = b->pid,
		.start_ns = b->start_ns,
		.root_pid = b->root_pid,
		.root_start_ns = b->root_start_ns,
	};
	v->author.name = get_text(at, b->texts[2]);
	v->author.rule = get_text(at, b->texts[3]);
	v->author.command = get_text(at, b->texts[4]);
}

static int get_capture(const struct body *b, const struct extent *ranges, const char *data,
	struct capture *c)
{
	*c = (struct capture){.hash = b->hash, .size = b->capture_size, .fd = -1};
	if (b->has_patch) {
		c->patch = patch_new(b->n_ranges);
		if (!c->patch)
			return -ENOMEM;
		c->patch->base_seq = b->base_seq;
		c->patch->base_size = b->base_size;
		c->patch->keep = b->keep;
		c->patch->bytes = b->data_bytes;
		put_bytes((char *)c->patch->ranges, ranges, b->n_ranges * sizeof(*ranges));
	}
	if (b->data_bytes > 0) {
		c->data = malloc((size_t)b->data_bytes);
		if (!c->data)
			return -ENOMEM;
		memcpy(c->data, data, (size_t)b->data_bytes);
	}
	return 0;
}

/* Of a record that is sound. */
static int read_record(const struct record *rec, struct item **out)
{
	const char *at = rec->body + sizeof(struct body);
	const struct extent *ranges = (const void *)at;
	struct capture c = CAPTURE_NONE;
	struct version v;
	struct body b;
	int r = 0;

	memcpy(&b, rec->body, sizeof(b));
	at += b.n_ranges * sizeof(*ranges);
	get_version(&b, &at, &v);
	if (b.has_capture)
		r = get_capture(&b, ranges, at, &c);
	*out = r ? NULL : item_of_version(&v);
	if (*out && b.has_capture)
		item_take_content(*out, &c, 0);
	capture_done(&c);
	if (!*out)
		return r ?: -ENOMEM;
	(*out)->kept_until = rec->at + rec->bytes;
	(*out)->replayed = true;
	return 0;
}

int ring_replay(struct ring *r, ring_fn *fn, void *ctx)
{
	uint64_t at = atomic_load(&r->header->tail), tail = at;

	for (; at - tail < RING_BYTES; r->head = at) {
		uint64_t to_end = RING_BYTES - at % RING_BYTES;
		const struct record *rec = record_at(r, at);
		struct item *item;
		int e;

		if (to_end < sizeof(*rec)) { /* too short for any record */
			at += to_end;
			continue;
		}
		if (!is_sound(r, at))
			return 0;
		at += rec->bytes;
		if (rec->skip)
			continue;
		e = read_record(rec, &item);
		if (e)
			return e;
		fn(item, ctx);
	}
	return 0;
}

/* ---- the file ---- */

static int prepare(int fd)
{
	struct header want = {.magic = MAGIC, .format = FORMAT, .bytes = RING_BYTES}, have;
	struct stat st;
	int r;

	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size > 0 &&
		(pread(fd, &have, sizeof(have), 0) != sizeof(have) ||
			have.magic != want.magic || have.format != want.format ||
			have.bytes != want.bytes || have.tail % ALIGN))
		return -EPROTO;
	/* All of it at once: a full disk cannot make a store fail. */
	r = -posix_fallocate(fd, 0, FILE_BYTES);
	if (!r && st.st_size == 0 && pwrite(fd, &want, sizeof(want), 0) != sizeof(want))
		r = errno ? -errno : -EIO;
	/* Half of a new one is none: it holds room, and would be taken for another format.
	 */
	if (r && st.st_size == 0)
		(void)!ftruncate(fd, 0);
	return r;
}

int ring_open(struct ring **out, int dirfd)
{
	struct ring *r = calloc(1, sizeof(*r));
	void *map = MAP_FAILED;
	int e;

	if (!r)
		return -ENOMEM;
	r->fd = openat(dirfd, "queue", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	e = r->fd < 0 ? -errno : prepare(r->fd);
	if (!e) {
		map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
		e = map == MAP_FAILED ? -errno : 0;
	}
	if (e) {
		if (r->fd >= 0)
			close(r->fd);
		free(r);
		return e;
	}
	r->map = map;
	r->header = map;
	r->head = atomic_load(&r->header->tail);
	*out = r;
	return 0;
}

void ring_close(struct ring *r)
{
	if (!r)
		return;
	munmap(r->map, FILE_BYTES);
	close(r->fd);
	free(r);
}

/* ---- fsck ---- */

/* A damaged record that was put whole, whose length can be believed. One that was not has
 * no check yet; what its place is not, is older. */
static bool is_damaged(const struct ring *r, uint64_t at)
{
	const struct record *rec = record_at(r, at);
	uint64_t room = RING_BYTES - at % RING_BYTES;

	return rec->at == at && rec->check != 0 && rec->bytes >= sizeof(*rec) &&
	       rec->bytes <= room && rec->bytes % ALIGN == 0;
}

static void walk(struct ring *r, bool repair, struct ring_sums *sums)
{
	uint64_t at = atomic_load(&r->header->tail), tail = at;

	while (at - tail < RING_BYTES) {
		uint64_t to_end = RING_BYTES - at % RING_BYTES;
		struct record *rec = record_at(r, at);

		if (to_end < sizeof(*rec)) {
			at += to_end;
			continue;
		}
		if (is_sound(r, at)) {
			sums->kept += !rec->skip;
		} else if (is_damaged(r, at)) {
			sums->damaged++;
			if (repair) {
				rec->skip = 1;
				rec->check = check_of(rec);
			}
		} else {
			return;
		}
		at += rec->bytes;
	}
}

static int check_file(int fd, bool repair, struct ring_sums *sums)
{
	struct ring r = {.fd = fd};
	struct header have;
	struct stat st;
	ssize_t n = pread(fd, &have, sizeof(have), 0);

	if (n < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size == 0)
		return 0;
	if (n != sizeof(have) || have.magic != MAGIC || have.tail % ALIGN ||
		(have.format == FORMAT &&
			(have.bytes != RING_BYTES || st.st_size < FILE_BYTES)))
		sums->state = RING_BROKEN;
	else if (have.format != FORMAT)
		sums->state = RING_OTHER;
	if (sums->state != RING_SOUND)
		return 0;
	r.map = mmap(NULL, FILE_BYTES, repair ? PROT_READ | PROT_WRITE : PROT_READ,
		MAP_SHARED, fd, 0);
	if (r.map == MAP_FAILED)
		return -errno;
	r.header = (struct header *)(void *)r.map;
	walk(&r, repair, sums);
	munmap(r.map, FILE_BYTES);
	return 0;
}

int ring_check(int dirfd, bool repair, struct ring_sums *sums)
{
	auto_close int fd = openat(
		dirfd, "queue", (repair ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
	int r;

	*sums = (struct ring_sums){0};
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	r = check_file(fd, repair, sums);
	if (r == 0 && repair && sums->state == RING_BROKEN &&
		renameat(dirfd, "queue", dirfd, "queue.damaged") < 0)
		r = -errno;
	return r;
}
