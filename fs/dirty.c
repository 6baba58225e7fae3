#include "fs/dirty.h"

#include <string.h>

#include "base/cleanup.h"

enum {
	EXTENTS_MAX = 32,
	WORD_BITS = 64,
};

/* A larger file has no map of blocks (that would be 8 MiB), and of more than this cut away
 * at once the old terms are not read. */
static const uint64_t map_size_max = 256ULL << 30;
static const uint64_t cut_max = 64ULL << 20;

static uint64_t block_of(uint64_t at)
{
	return at / DIGEST_BLOCK_BYTES;
}

static uint64_t blocks_of(uint64_t size)
{
	return (size + DIGEST_BLOCK_BYTES - 1) / DIGEST_BLOCK_BYTES;
}

void dirty_init(struct dirty *d)
{
	*d = (struct dirty){.all = true, .fd = -1};
}

void dirty_end(struct dirty *d)
{
	if (d->fd >= 0)
		close(d->fd);
	free(d->extents);
	free(d->blocks);
	dirty_init(d);
}

void dirty_begin(struct dirty *d, uint64_t size)
{
	free(d->blocks);
	*d = (struct dirty){.fd = d->fd, .size = size, .keep = size, .extents = d->extents};
	d->blocks = NULL;
}

void dirty_all(struct dirty *d)
{
	dirty_end(d);
}

/* ---- which blocks an earlier change has touched ---- */

static bool bit(const struct dirty *d, uint64_t block)
{
	return d->blocks[block / WORD_BITS] >> (block % WORD_BITS) & 1;
}

static bool is_touched(const struct dirty *d, uint64_t block)
{
	uint64_t from = block * DIGEST_BLOCK_BYTES, to = from + DIGEST_BLOCK_BYTES;

	if (d->keep < d->size && block >= block_of(d->keep))
		return true; /* it went with what was cut */
	if (d->blocks)
		return bit(d, block);
	for (size_t i = 0; i < d->n_extents; i++)
		if (d->extents[i].at < to && d->extents[i].at + d->extents[i].len > from)
			return true;
	return false;
}

/* Small files are hashed whole. */
static bool has_terms(const struct dirty *d)
{
	return d->size > DIGEST_FLAT_MAX;
}

/* Take away the old terms of the blocks [first, end) that are still as they were. */
static int remove_terms(struct dirty *d, uint64_t first, uint64_t end)
{
	while (first < end) {
		struct hash128 sum = {0};
		uint64_t stop = first;
		int r;

		if (is_touched(d, first)) {
			first++;
			continue;
		}
		while (stop < end && !is_touched(d, stop))
			stop++;
		r = digest_blocks(d->fd, first, stop, d->keep, &sum);
		if (r < 0)
			return r;
		d->removed = digest_add(d->removed, sum);
		first = stop;
	}
	return 0;
}

static bool have_fd(struct dirty *d, dirty_open_fn *open_file, void *ctx)
{
	if (d->fd < 0)
		d->fd = open_file(ctx);
	return d->fd >= 0;
}

/* ---- keeping what changed ---- */

static void mark(struct dirty *d, uint64_t at, uint64_t end)
{
	for (uint64_t b = block_of(at); b < blocks_of(end); b++)
		d->blocks[b / WORD_BITS] |= 1ULL << (b % WORD_BITS);
}

/* Too many runs: blocks from now on. */
static bool begin_map(struct dirty *d)
{
	size_t words = (size_t)(blocks_of(d->size) / WORD_BITS + 1);

	if (d->size > map_size_max)
		return false;
	d->blocks = calloc(words, sizeof(*d->blocks));
	if (!d->blocks)
		return false;
	for (size_t i = 0; i < d->n_extents; i++)
		mark(d, d->extents[i].at, d->extents[i].at + d->extents[i].len);
	d->n_extents = 0;
	return true;
}

/* Those that it overlaps or meets become one with it. */
static bool add_extent(struct dirty *d, uint64_t at, uint64_t end)
{
	struct extent *e = d->extents;
	size_t from = 0, to;

	if (!e)
		e = d->extents = calloc(EXTENTS_MAX, sizeof(*e));
	if (!e)
		return false;
	while (from < d->n_extents && e[from].at + e[from].len < at)
		from++;
	for (to = from; to < d->n_extents && e[to].at <= end; to++) {
		uint64_t last = e[to].at + e[to].len;

		at = e[to].at < at ? e[to].at : at;
		end = last > end ? last : end;
	}
	if (to == from && d->n_extents == EXTENTS_MAX) {
		if (!begin_map(d))
			return false;
		mark(d, at, end);
		return true;
	}
	memmove(e + from + 1, e + to, (d->n_extents - to) * sizeof(*e));
	d->n_extents = d->n_extents - (to - from) + 1;
	e[from] = (struct extent){at, end - at};
	return true;
}

void dirty_note(
	struct dirty *d, uint64_t at, uint64_t len, dirty_open_fn *open_file, void *ctx)
{
	uint64_t end = len > UINT64_MAX - at ? UINT64_MAX : at + len;

	if (d->all || at >= d->keep || len == 0)
		return;
	end = end < d->keep ? end : d->keep;
	if (has_terms(d) && (!have_fd(d, open_file, ctx) ||
				    remove_terms(d, block_of(at), blocks_of(end)) < 0)) {
		dirty_all(d);
		return;
	}
	if (d->blocks)
		mark(d, at, end);
	else if (!add_extent(d, at, end))
		dirty_all(d);
}

static void trim_extents(struct dirty *d)
{
	while (d->n_extents) {
		struct extent *last = &d->extents[d->n_extents - 1];

		if (last->at + last->len <= d->keep)
			return;
		if (last->at < d->keep) {
			last->len = d->keep - last->at;
			return;
		}
		d->n_extents--;
	}
}

void dirty_resize(struct dirty *d, uint64_t size, dirty_open_fn *open_file, void *ctx)
{
	if (d->all || size >= d->keep)
		return;
	if (size == 0 ||
		(has_terms(d) &&
			(d->keep - size > cut_max || !have_fd(d, open_file, ctx) ||
				remove_terms(d, block_of(size), blocks_of(d->keep)) < 0))) {
		dirty_all(d);
		return;
	}
	d->keep = size;
	if (!d->blocks)
		trim_extents(d);
}

/* ---- for a capture ---- */

static size_t runs_of_map(const struct dirty *d, struct extent *out)
{
	uint64_t n_blocks = blocks_of(d->keep);
	size_t n = 0;

	for (uint64_t b = 0; b < n_blocks;) {
		uint64_t first = b, at, end;

		if (b % WORD_BITS == 0 && d->blocks[b / WORD_BITS] == 0) {
			b += WORD_BITS;
			continue;
		}
		while (b < n_blocks && bit(d, b))
			b++;
		if (b == first) {
			b++;
			continue;
		}
		at = first * DIGEST_BLOCK_BYTES;
		end = b * DIGEST_BLOCK_BYTES;
		if (out)
			out[n] = (struct extent){at, (end < d->keep ? end : d->keep) - at};
		n++;
	}
	return n;
}

uint64_t dirty_bytes(const struct dirty *d, uint64_t size)
{
	uint64_t bytes = size > d->keep ? size - d->keep : 0;

	if (d->all)
		return size;
	for (size_t i = 0; i < d->n_extents; i++)
		bytes += d->extents[i].len;
	for (uint64_t i = 0; d->blocks && i <= blocks_of(d->size) / WORD_BITS; i++)
		bytes += (uint64_t)__builtin_popcountll(d->blocks[i]) * DIGEST_BLOCK_BYTES;
	return bytes;
}

bool dirty_base(const struct dirty *d, struct capture_base *out, struct extent **extents)
{
	struct extent *list = NULL;
	size_t n = d->n_extents;

	*extents = NULL;
	if (d->all)
		return false;
	if (d->blocks)
		n = runs_of_map(d, NULL);
	if (n) {
		list = calloc(n, sizeof(*list));
		if (!list)
			return false;
		if (d->blocks)
			runs_of_map(d, list);
		else
			memcpy(list, d->extents, n * sizeof(*list));
	}
	out->size = d->size;
	out->keep = d->keep;
	out->removed = d->removed;
	out->extents = list;
	out->n_extents = n;
	*extents = list;
	return true;
}
