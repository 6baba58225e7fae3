#include "fs/contents.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "fs/inode.h"
#include "fs/workspace.h"

enum { BASE, CURRENT, NEW };

/* The version that the path's file had at seq. What was read before the path had its
 * first version is told by where that came from: a move or a further name, else it is
 * what lay there, version 1. */
int contents_find_base(struct workspace *ws, const char *path, size_t len, uint64_t seq,
	struct version_row *row)
{
	struct version_row first = {0}, next = {0};
	enum { MAX_MOVES = 32 };
	int r = 0;

	for (int i = 0; i < MAX_MOVES; i++) {
		r = journal_version_at(ws->journal, path, len, seq, row);
		if (r)
			break;
		r = journal_version(ws->journal, path, len, 1, &next);
		if (r <= 0)
			break;
		version_row_done(&first);
		first = next;
		if (first.v.kind == VERSION_INITIAL && first.v.seq > seq) {
			*row = first;
			return 1;
		}
		r = 0;
		if (!first.v.from_path ||
			(first.v.kind != VERSION_MOVE && first.v.kind != VERSION_LINK))
			break;
		path = first.v.from_path;
		len = first.v.from_path_len;
	}
	version_row_done(&first);
	return r;
}

int contents_open_base(struct change *c, uint64_t base_seq, int *fd)
{
	struct version_row row = {0};
	int r;

	*fd = -1;
	if (!base_seq)
		return 0;
	r = contents_find_base(c->ws, c->path, c->path_len, base_seq, &row);
	if (r <= 0)
		return r;
	r = row.v.has_content ? journal_version_content(c->ws->journal, &row.v, fd) : 0;
	version_row_done(&row);
	return r;
}

uint64_t contents_base_number(
	struct workspace *ws, const char *path, size_t len, uint64_t seq)
{
	struct version_row row = {0}, first = {0};
	uint64_t number = 0;

	if (!seq || contents_find_base(ws, path, len, seq, &row) != 1)
		return 0;
	if (row.v.path_len == len && memcmp(row.v.path, path, len) == 0)
		number = row.v.number;
	else if (journal_version(ws->journal, path, len, 1, &first) == 1 &&
		 first.v.has_content && hash128_equal(first.v.content, row.v.content))
		number = 1; /* as it came here */
	version_row_done(&first);
	version_row_done(&row);
	return number;
}

/* Where the data of a large file is; NULL: it may be anywhere. What is there after the
 * last span that fits counts as data. */
static struct content_span *find_spans(int fd, uint64_t size, size_t *n)
{
	enum { SPANS_MAX = 4096 };
	struct content_span *spans = calloc(SPANS_MAX, sizeof(*spans));
	off_t data = 0, hole;

	*n = 0;
	while (spans && *n < SPANS_MAX && (uint64_t)data < size) {
		data = lseek(fd, data, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			return spans; /* only a hole is left */
		hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		if (hole <= data) {
			free(spans); /* the backing does not tell */
			*n = 0;
			return NULL;
		}
		spans[(*n)++] = (struct content_span){(uint64_t)data, (uint64_t)hole};
		data = hole;
	}
	if (spans && (uint64_t)data < size)
		spans[*n - 1].end = size;
	return spans;
}

/* Reading ahead would fill the page cache with the zeros of holes, milliseconds each. */
static void advise(void *map, const struct content *c)
{
	uint64_t data = 0;

	for (size_t i = 0; i < c->n_spans; i++)
		data += c->spans[i].end - c->spans[i].at;
	if (c->spans && data < c->size / 2)
		(void)!madvise(map, c->size, MADV_RANDOM);
}

static int map_fd(struct contents *t, int which, int fd, struct content *content)
{
	struct stat st;
	void *map;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size == 0)
		return 0;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	t->maps[which] = map;
	t->map_sizes[which] = (size_t)st.st_size;
	*content = (struct content){.data = map, .size = (size_t)st.st_size};
	if (content->size > LOST_UPDATE_MAX_BYTES) /* what is compared by block */
		content->spans = t->spans[which] =
			find_spans(fd, content->size, &content->n_spans);
	advise(map, content);
	return 0;
}

int contents_map_base(struct contents *t, int fd)
{
	return map_fd(t, BASE, fd, &t->base);
}

void contents_close(struct contents *t)
{
	for (int i = 0; i < 3; i++) {
		if (t->maps[i])
			munmap(t->maps[i], t->map_sizes[i]);
		free(t->spans[i]);
	}
	*t = (struct contents){0};
}

int contents_open(struct change *c, const struct knowledge *known, int new_fd,
	uint64_t new_size, struct contents *out)
{
	auto_close int base_fd = -1;
	auto_close int current_fd = -1;
	int r;

	*out = (struct contents){0};
	if (!c->inode)
		return -ENOENT;
	/* Versions still queued are what is compared with: let them be written. */
	r = journal_wait(c->ws->journal, c->file->submitted_seq);
	if (r == 0)
		r = contents_open_base(c, known->base_seq, &base_fd);
	if (r < 0)
		return r;
	current_fd = inode_open(c->ws, c->inode, O_RDONLY | O_NOATIME);
	if (current_fd < 0)
		return current_fd;
	r = map_fd(out, CURRENT, current_fd, &out->current);
	if (r == 0)
		r = map_fd(out, NEW, new_fd, &out->new);
	out->known_base = base_fd >= 0;
	if (r == 0 && out->known_base)
		r = map_fd(out, BASE, base_fd, &out->base);
	if (out->new.size > new_size)
		out->new.size = new_size;
	if (r < 0)
		contents_close(out);
	return r;
}
