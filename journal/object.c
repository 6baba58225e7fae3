/*
 * object.c - object files: named once complete, never changed, synced before the rows
 * that tell of them can outlive a power cut.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "journal/store.h"

enum { CHUNK = 128 * 1024, SAMPLE = 256 * 1024, COPIES_MAX = 1000 };

void object_name(struct hash128 hash, uint64_t copy, char name[OBJECT_NAME_SIZE])
{
	char hex[33];

	hash128_hex(hash, hex);
	snprintf(name, OBJECT_NAME_SIZE, "%.2s/%s.%llu", hex, hex + 2,
		(unsigned long long)copy);
}

static bool parse_hex(const char *hex, uint64_t *out)
{
	*out = 0;
	for (int i = 0; i < 16; i++) {
		const char *digits = "0123456789abcdef";
		const char *at = hex[i] ? strchr(digits, hex[i]) : NULL;

		if (!at)
			return false;
		*out = *out << 4 | (uint64_t)(at - digits);
	}
	return true;
}

bool object_parse_name(
	unsigned folder, const char *name, struct hash128 *hash, uint64_t *copy)
{
	char whole[OBJECT_NAME_SIZE], back[OBJECT_NAME_SIZE];
	char hex[33];

	if (strlen(name) < 32 || strlen(name) > OBJECT_NAME_SIZE - 4)
		return false;
	snprintf(hex, sizeof(hex), "%02x%.30s", folder, name);
	if (!parse_hex(hex, &hash->hi) || !parse_hex(hex + 16, &hash->lo))
		return false;
	*copy = strtoull(name + 31, NULL, 10);
	object_name(*hash, *copy, back);
	snprintf(whole, sizeof(whole), "%02x/%s", folder, name);
	return strcmp(whole, back) == 0;
}

static void dirty_add(struct store *s, int fd, struct hash128 hash)
{
	assert(s->n_dirty < STORE_DIRTY_MAX); /* object_give_name() made room */
	s->dirty_folder[s->n_dirty] = (unsigned char)(hash.hi >> 56);
	s->dirty[s->n_dirty++] = fd;
}

static int sync_folder(const struct store *s, unsigned folder)
{
	char name[4];
	auto_close int fd = -1;

	snprintf(name, sizeof(name), "%02x", folder);
	fd = openat(s->dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int store_sync(struct store *s)
{
	if (s->n_dirty == 0)
		return 0;
	/* All of them on their way first: then the file system commits once, not each time.
	 */
	for (size_t i = 0; i < s->n_dirty; i++)
		sync_file_range(s->dirty[i], 0, 0, SYNC_FILE_RANGE_WRITE);
	for (size_t i = 0; i < s->n_dirty; i++) {
		int r = fdatasync(s->dirty[i]) < 0 ? -errno : 0;

		r = r ?: sync_folder(s, s->dirty_folder[i]);
		if (r)
			return r;
	}
	if (fsync(s->dirfd) < 0)
		return -errno;
	while (s->n_dirty > 0)
		close(s->dirty[--s->n_dirty]);
	return 0;
}

/* A file made without O_TMPFILE cannot be given a name any more: copy it to one. */
static int link_by_copy(const struct store *s, int fd, const char *name)
{
	static const char temp[] = "tmp-object"; /* the writer's thread alone */
	auto_close int out =
		openat(s->dirfd, temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0400);
	int r = out < 0 ? -errno : sparse_copy(fd, out);

	if (!r && linkat(s->dirfd, temp, s->dirfd, name, 0) < 0)
		r = -errno;
	unlinkat(s->dirfd, temp, 0);
	return r;
}

static int link_object(const struct store *s, int fd, const char *name)
{
	char self[64], folder[3] = {name[0], name[1], '\0'};

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	for (int try = 0;; try++) {
		if (linkat(AT_FDCWD, self, s->dirfd, name, AT_SYMLINK_FOLLOW) == 0)
			return 0;
		if (errno != ENOENT || try > 0)
			break;
		if (mkdirat(s->dirfd, folder, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	if (errno == ENOENT || errno == EXDEV || errno == EOPNOTSUPP || errno == EPERM)
		return link_by_copy(s, fd, name);
	return -errno;
}

/* 1 when the file of that name holds the bytes of fd, 0 when others. */
static int same_file(const struct store *s, const char *name, int fd, int *existing)
{
	auto_close int have = openat(s->dirfd, name, O_RDONLY | O_CLOEXEC);
	struct stat sa, sb;
	int r;

	if (have < 0 || fstat(have, &sa) < 0 || fstat(fd, &sb) < 0)
		return -errno;
	r = sa.st_size == sb.st_size ? sparse_equal(have, fd, (uint64_t)sa.st_size) : 0;
	if (r == 1)
		*existing = steal_fd(&have);
	return r;
}

/*
 * Give a complete file its name: the first copy, from copy_from on, that is free or was
 * left with just these bytes by a transaction that did not come to its end.
 */
static int object_give_name(struct store *s, int fd, uint64_t copy_from,
	struct content_row *row, uint64_t *bytes)
{
	char name[OBJECT_NAME_SIZE];
	auto_close int keep = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	struct stat st;
	int r;

	if (keep < 0 || fchmod(fd, 0400) < 0)
		return -errno;
	if (s->n_dirty == STORE_DIRTY_MAX) {
		r = store_sync(s);
		if (r)
			return r;
	}
	for (row->copy = copy_from; row->copy < copy_from + COPIES_MAX; row->copy++) {
		object_name(row->hash, row->copy, name);
		r = link_object(s, fd, name);
		if (r == -EEXIST) {
			int have = -1;

			r = same_file(s, name, fd, &have);
			if (r == 0)
				continue;
			if (r == 1) {
				close(keep);
				keep = have;
				r = 0;
			}
		}
		if (r)
			return r;
		if (fstat(keep, &st) < 0)
			return -errno;
		*bytes = (uint64_t)st.st_blocks * 512;
		dirty_add(s, steal_fd(&keep), row->hash);
		return 0;
	}
	return -EIO;
}

static int fault(const struct store *s)
{
	const struct journal_faults *f = s->faults;

	return f && f->before_object ? f->before_object(f->ctx) : 0;
}

/* Whether two samples shrink by an eighth: else the rest is not worth reading. */
static int worth_packing(struct store *s, const struct capture *c, bool *worth)
{
	size_t bound = ZSTD_compressBound(SAMPLE), in = 0, out = 0;
	auto_free char *raw = malloc(SAMPLE);
	auto_free char *packed = malloc(bound);

	if (!raw || !packed)
		return -ENOMEM;
	for (int i = 0; i < 2; i++) {
		uint64_t at = i == 0 ? 0 : c->size / 2;
		size_t n = c->size - at < SAMPLE ? (size_t)(c->size - at) : SAMPLE;
		int r = read_all_at(c->fd, raw, n, at);

		if (r)
			return r;
		in += n;
		n = ZSTD_compressCCtx(s->cctx, packed, bound, raw, n, s->level);
		if (ZSTD_isError(n))
			return -ENOMEM;
		out += n;
	}
	*worth = out <= in - in / 8;
	return 0;
}

static int pack_chunk(
	struct store *s, ZSTD_inBuffer *in, bool last, char *out_data, int out)
{
	ZSTD_EndDirective mode = last ? ZSTD_e_end : ZSTD_e_continue;
	size_t left;

	do {
		ZSTD_outBuffer to = {.dst = out_data, .size = CHUNK};
		int r;

		left = ZSTD_compressStream2(s->cctx, &to, in, mode);
		if (ZSTD_isError(left))
			return -ENOMEM;
		r = write_all(out, out_data, to.pos);
		if (r)
			return r;
	} while (last ? left != 0 : in->pos < in->size);
	return 0;
}

static int pack_file(struct store *s, const struct capture *c, int out)
{
	auto_free char *buffers = malloc(2 * (size_t)CHUNK);
	int r = 0;

	if (!buffers)
		return -ENOMEM;
	ZSTD_CCtx_reset(s->cctx, ZSTD_reset_session_and_parameters);
	ZSTD_CCtx_setParameter(s->cctx, ZSTD_c_compressionLevel, s->level);
	ZSTD_CCtx_setPledgedSrcSize(s->cctx, c->size);
	for (uint64_t at = 0; at < c->size && !r;) {
		size_t n = c->size - at < CHUNK ? (size_t)(c->size - at) : CHUNK;

		r = read_all_at(c->fd, buffers, n, at);
		at += n;
		if (!r)
			r = pack_chunk(s, &(ZSTD_inBuffer){.src = buffers, .size = n},
				at == c->size, buffers + CHUNK, out);
	}
	return r;
}

int object_add(struct store *s, const struct capture *c, uint64_t copy_from,
	struct content_row *row, uint64_t *stored)
{
	auto_close int packed = -1;
	bool worth = false;
	struct stat st;
	int r = fault(s);

	/* What has holes stays as it is: the holes are worth more than packing. */
	if (!r && !sparse_has_holes(c->fd, c->size))
		r = worth_packing(s, c, &worth);
	if (!r && worth)
		r = temp_file(s->dirfd, &packed) ?: pack_file(s, c, packed);
	if (r)
		return r;
	if (worth && fstat(packed, &st) < 0)
		return -errno;
	row->codec = worth && (uint64_t)st.st_size <= c->size - c->size / 8 ? CODEC_ZSTD
									    : CODEC_RAW;
	return object_give_name(
		s, row->codec == CODEC_ZSTD ? packed : c->fd, copy_from, row, stored);
}

int object_add_bytes(struct store *s, const struct capture *c, const void *data,
	size_t size, enum store_codec codec, uint64_t copy_from, struct content_row *row)
{
	auto_close int fd = -1;
	uint64_t bytes;
	int r = fault(s) ?: temp_file(s->dirfd, &fd);

	if (!r)
		r = write_all(fd, data, size);
	row->codec = codec;
	return r ?: object_give_name(s, fd, copy_from, row, &bytes);
}

/* Runs of zeros become holes again. */
static int write_sparse(int fd, const char *data, size_t size)
{
	if (size > 0 && data[0] == 0 && memcmp(data, data + 1, size - 1) == 0)
		return lseek(fd, (off_t)size, SEEK_CUR) < 0 ? -errno : 0;
	return write_all(fd, data, size);
}

static int unpack_stream(ZSTD_DCtx *dctx, int in, int out, uint64_t size)
{
	auto_free char *buffers = malloc(2 * (size_t)CHUNK);
	uint64_t done = 0;
	size_t left = 1;
	ssize_t n;

	if (!buffers)
		return -ENOMEM;
	for (off_t at = 0; (n = pread(in, buffers, CHUNK, at)) > 0; at += n) {
		ZSTD_inBuffer from = {.src = buffers, .size = (size_t)n};

		while (from.pos < from.size) {
			ZSTD_outBuffer to = {.dst = buffers + CHUNK, .size = CHUNK};
			int r;

			left = ZSTD_decompressStream(dctx, &to, &from);
			if (ZSTD_isError(left) || done + to.pos > size)
				return -EIO;
			r = write_sparse(out, buffers + CHUNK, to.pos);
			if (r)
				return r;
			done += to.pos;
		}
	}
	if (n < 0)
		return -errno;
	if (done != size || left != 0)
		return -EIO;
	return ftruncate(out, (off_t)size) < 0 ? -errno : 0;
}

int object_unpack(const struct store *s, int in, uint64_t size, int *fd)
{
	ZSTD_DCtx *dctx = ZSTD_createDCtx();
	auto_close int out = -1;
	int r = dctx ? 0 : -ENOMEM;

	/* Small ones in memory, so that history can be read on a full disk. */
	if (!r)
		r = size <= CAPTURE_MEMORY_MAX ? memory_file(size, &out)
					       : temp_file(s->dirfd, &out);
	if (!r)
		r = unpack_stream(dctx, in, out, size);
	ZSTD_freeDCtx(dctx);
	if (!r)
		*fd = steal_fd(&out);
	return r;
}

int object_open(const struct store *s, const struct content_row *row, int *fd)
{
	char name[OBJECT_NAME_SIZE];
	auto_close int in = -1;

	object_name(row->hash, row->copy, name);
	in = openat(s->dirfd, name, O_RDONLY | O_CLOEXEC);
	if (in < 0)
		return errno == ENOENT ? -EIO : -errno; /* the row says it is there */
	if (row->codec == CODEC_ZSTD)
		return object_unpack(s, in, row->size, fd);
	*fd = steal_fd(&in);
	return 0;
}
