#include "tests/fuzz/sample.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "journal/gc.h"
#include "journal/intent.h"
#include "journal/patch.h"

enum { FILES_MAX = 32, BIG = 140 * 1024, LOG_LINES = 6 };

#define must(condition)                                                                    \
	do {                                                                               \
		if (!(condition)) {                                                        \
			fprintf(stderr, "sample.c:%d: %s\n", __LINE__, #condition);        \
			abort();                                                           \
		}                                                                          \
	} while (0)

struct stored {
	char name[128];
	char *data;
	size_t size;   /* of the file */
	size_t filled; /* zeros after that */
};

struct sample {
	char folder[256];
	int dirfd;
	struct stored files[FILES_MAX];
	unsigned n;
};

const char *const sample_paths[] = {"a", "log", "big", "text", "d/e", "d2/e", "d2/f/g",
	"gone", "soft", "hard", "moved", "log/7", "queued", "1", NULL};

/* ---- what happens in it ---- */

struct making {
	struct journal *j;
	int dirfd;
	const char *who;
	bool full; /* nothing can be committed any more */
};

static int before_commit(void *ctx)
{
	const struct making *m = ctx;

	return m->full ? -ENOSPC : 0;
}

static void open_journal(struct making *m, struct journal_faults *faults)
{
	*faults = (struct journal_faults){.before_commit = before_commit, .ctx = m};
	must(journal_open(&m->j, &(struct journal_options){.dirfd = m->dirfd,
					 .clock = clock_system(),
					 .faults = faults}) == 0);
}

static struct version version_of(
	struct making *m, const char *path, uint64_t number, enum version_kind kind)
{
	uint64_t seq, epoch;

	must(journal_next_seq(m->j, &seq) == 0 && journal_next_epoch(m->j, &epoch) == 0);
	return (struct version){
		.path = path,
		.path_len = strlen(path),
		.number = number,
		.seq = seq,
		.kind = kind,
		.epoch = epoch,
		.base_number = number - 1,
		.mode = 0100644,
		.mtime_ns = 1700000000 * NS_PER_S,
		.time_ns = 1700000000 * NS_PER_S + (int64_t)seq * NS_PER_S,
		.author = {.name = m->who,
			.pid = 42,
			.start_ns = 5,
			.root_pid = 41,
			.root_start_ns = 4,
			.rule = "run",
			.command = "sh -c edit"},
	};
}

static uint64_t put_capture(struct making *m, struct version v, struct capture *c)
{
	v.has_content = true;
	v.content = c->hash;
	v.size = c->size;
	must(journal_append(m->j, &v, c) == 0);
	return v.seq;
}

static uint64_t put(struct making *m, const char *path, uint64_t number,
	enum version_kind kind, const void *data, size_t size)
{
	struct capture c = CAPTURE_NONE;

	must(journal_capture_bytes(data, size, &c) == 0);
	return put_capture(m, version_of(m, path, number, kind), &c);
}

static void put_text(struct making *m, const char *path, uint64_t number, const char *text)
{
	put(m, path, number, VERSION_WRITE, text, strlen(text));
}

/* data[at..] of size bytes was written over the version of base_seq. */
static uint64_t put_patch(struct making *m, const char *path, uint64_t number,
	uint64_t base_seq, uint64_t base_size, const char *data, size_t size, size_t at,
	size_t n)
{
	struct capture c = {.hash = digest_bytes(data, size), .size = size, .fd = -1};

	c.data = malloc(n);
	c.patch = patch_new(1);
	must(c.data && c.patch);
	memcpy(c.data, data + at, n);
	c.patch->base_seq = base_seq;
	c.patch->base_size = base_size;
	c.patch->keep = base_size;
	c.patch->bytes = n;
	c.patch->ranges[0] = (struct extent){at, n};
	return put_capture(m, version_of(m, path, number, VERSION_WRITE), &c);
}

static void put_from(struct making *m, const char *path, uint64_t number,
	enum version_kind kind, const char *from, uint64_t from_number)
{
	struct version v = version_of(m, path, number, kind);

	v.from_path = from;
	v.from_path_len = from ? strlen(from) : 0;
	v.from_number = from_number;
	if (kind == VERSION_MKDIR)
		v.mode = 0040755;
	must(journal_append(m->j, &v, NULL) == 0);
}

static void refuse(struct making *m, const char *path, const char *bytes)
{
	struct refusal r = {.time_ns = 1700000100 * NS_PER_S,
		.path = path,
		.path_len = strlen(path),
		.asked = "write",
		.reason = "stale",
		.error = ESTALE,
		.author = {.name = m->who, .pid = 42, .rule = "run"},
		.base_number = 1,
		.current_number = 2,
		.current_writer = "bob",
		.hunks = "lines 1-2",
		.text = "somebody else changed it\n"};
	struct capture c = CAPTURE_NONE;

	must(journal_next_seq(m->j, &r.seq) == 0);
	must(journal_next_refusal(m->j, &r.id) == 0);
	if (bytes) {
		must(journal_capture_bytes(bytes, strlen(bytes), &c) == 0);
		r.kept = true;
		r.content = c.hash;
		r.size = c.size;
	}
	must(journal_refuse(m->j, &r, bytes ? &c : NULL) == 0);
	must(journal_event(m->j, &(struct event){.seq = r.seq,
					 .time_ns = r.time_ns,
					 .kind = "refuse",
					 .path = path,
					 .path_len = strlen(path),
					 .writer = m->who,
					 .number = r.id,
					 .text = "refused"}) == 0);
}

static void fill_noise(char *data, size_t size)
{
	uint64_t x = 88172645463325252ULL;

	for (size_t i = 0; i < size; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		data[i] = (char)x;
	}
}

/* Whole contents, patches of them, a growing segment, an object file. */
static void make_contents(struct making *m)
{
	auto_free char *big = malloc(BIG), *text = malloc(BIG);
	size_t size = 0;
	uint64_t seq;

	must(big && text);
	fill_noise(big, BIG);
	seq = put(m, "big", 1, VERSION_INITIAL, big, BIG);
	memcpy(big + 70000, "changed", 7);
	put_patch(m, "big", 2, seq, BIG, big, BIG, 70000, 7);
	for (size_t i = 0; i < BIG; i++)
		text[i] = "all work and no play makes Jack a dull boy\n"[i % 43];
	put(m, "text", 1, VERSION_WRITE, text, BIG / 8);
	seq = put(m, "log", 1, VERSION_WRITE, "", 0);
	for (uint64_t i = 0; i < LOG_LINES; i++, size += 43)
		seq = put_patch(m, "log", i + 2, seq, size, text, size + 43, size, 43);
	put_text(m, "log/7", 1, "below a log\n");
	put_text(m, "1", 1, "one\n");
}

static void make_names(struct making *m)
{
	uint64_t seq;

	put(m, "a", 1, VERSION_INITIAL, "one\ntwo\n", 8);
	put_text(m, "a", 2, "one\n2\n");
	m->who = "bob";
	put_text(m, "a", 3, "one\n2\nthree\n");
	put_from(m, "hard", 1, VERSION_LINK, "a", 3);
	put_from(m, "d", 1, VERSION_MKDIR, NULL, 0);
	put_text(m, "d/e", 1, "e\n");
	put_text(m, "d/f/g", 1, "g\n");
	must(journal_next_seq(m->j, &seq) == 0);
	must(journal_rename_folder(m->j, seq, "d", 1, "d2", 2, NULL) == 0);
	put_from(m, "d2", 1, VERSION_MOVE, "d", 1);
	put_text(m, "d2/e", 2, "e, moved\n");
	put_text(m, "d/e", 2, "another e\n");
	put_text(m, "gone", 1, "soon gone\n");
	put_from(m, "gone", 2, VERSION_DELETE, NULL, 0);
	put_from(m, "moved", 1, VERSION_MOVE, "gone", 1);
	put(m, "soft", 1, VERSION_SYMLINK, "d2/e", 4);
}

static void make_the_rest(struct making *m)
{
	struct pin pins[] = {{.name = "night", .seq = 5, .path = "", .writer = "bob"},
		{.name = "one", .seq = 7, .path = "a", .path_len = 1, .writer = "bob"}};
	struct version by = version_of(m, "a", 4, VERSION_WRITE);
	struct resolution done = {.id = 1, .by = "bob", .how = "theirs"};
	uint64_t set;

	refuse(m, "a", "one\nrefused\n");
	refuse(m, "a", NULL);
	refuse(m, "d2/e", "kept\n");
	must(journal_next_seq(m->j, &done.seq) == 0);
	must(journal_resolve(m->j, &done) == RESOLVE_DONE);
	must(journal_pin(m->j, pins, ARRAY_SIZE(pins)) == PIN_DONE);
	must(journal_set_begin(m->j, &by.author, 1, NULL, "set 1", &set) == 0);
	put_text(m, "a", 4, "one\n2\nundone\n");
	must(journal_set_end(m->j, set, SET_DONE) == 0);
}

static void make_intents(int dirfd)
{
	static const struct intent under_way[] = {{.kind = INTENT_WRITE,
							  .path = "a",
							  .ino = 5,
							  .writer = "bob",
							  .rule = "run"},
		{.kind = INTENT_RENAME, .path = "tmp", .to_path = "a", .to_path_len = 1},
		{.kind = INTENT_COMMIT,
			.path = "b",
			.shadow = "7",
			.command = "sh -c edit"}};
	struct intents *s;
	uint32_t slot;

	must(intents_open(&s, dirfd) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(under_way); i++) {
		struct intent intent = under_way[i];

		intent.path_len = strlen(intent.path);
		must(intents_begin(s, &intent, &slot) == 0);
	}
	intents_mark_closed(s, slot, NULL);
}

static void work_and_die(int dirfd)
{
	struct making m = {.dirfd = dirfd, .who = "alice"};
	struct journal_faults faults;

	open_journal(&m, &faults);
	make_contents(&m);
	make_names(&m);
	journal_close(m.j);
	open_journal(&m, &faults);
	make_the_rest(&m);
	must(journal_wait(m.j, journal_last_seq(m.j)) == 0);
	make_intents(dirfd);
	m.full = true;
	put_text(&m, "queued", 1, "in the queue alone\n");
	put_text(&m, "queued", 2, "in the queue alone, again\n");
	put_from(&m, "queued", 3, VERSION_DELETE, NULL, 0);
	must(journal_is_kept(m.j, journal_last_seq(m.j)));
	kill(getpid(), SIGKILL);
}

/* ---- kept, and laid down ---- */

static size_t filled(const char *data, size_t size)
{
	while (size > 0 && !data[size - 1])
		size--;
	return size;
}

static void take_file(struct sample *s, const char *name)
{
	struct stored *f = &s->files[s->n];
	int fd = openat(s->dirfd, name, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return;
	must(s->n < FILES_MAX && strlen(name) < sizeof(f->name));
	must(fstat(fd, &st) == 0 && S_ISREG(st.st_mode));
	strcpy(f->name, name);
	f->size = (size_t)st.st_size;
	f->data = malloc(f->size + 1);
	must(f->data && pread(fd, f->data, f->size, 0) == (ssize_t)f->size);
	f->filled = filled(f->data, f->size);
	close(fd);
	s->n++;
}

static void take_objects(struct sample *s)
{
	for (unsigned i = 0; i < 256; i++) {
		auto_dir DIR *dir = NULL;
		char name[128];
		struct dirent *e;
		int fd;

		snprintf(name, sizeof(name), "objects/%02x", i);
		fd = openat(s->dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			continue;
		dir = fdopendir(fd);
		must(dir);
		while ((e = readdir(dir))) {
			if (*e->d_name == '.')
				continue;
			must(snprintf(name, sizeof(name), "objects/%02x/%s", i, e->d_name) <
				(int)sizeof(name));
			take_file(s, name);
		}
	}
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return ftw->level ? remove(path) : 0;
}

static void empty(const struct sample *s)
{
	must(nftw(s->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

static struct sample the_sample; /* for atexit() */

static void remove_all(void)
{
	empty(&the_sample);
	rmdir(the_sample.folder);
}

struct sample *sample_new(void)
{
	struct sample *s = &the_sample;
	pid_t child;
	int status;

	must(snprintf(s->folder, sizeof(s->folder), "%s/stomp-sample.XXXXXX",
		     getenv("TMPDIR") ?: "/tmp") < (int)sizeof(s->folder));
	must(mkdtemp(s->folder));
	s->dirfd = open(s->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(s->dirfd >= 0);
	child = fork();
	must(child >= 0);
	if (child == 0)
		work_and_die(s->dirfd);
	must(waitpid(child, &status, 0) == child);
	must(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	take_file(s, "journal.db");
	take_file(s, "journal.db-wal");
	take_file(s, "queue");
	take_file(s, "intents");
	must(s->n == 4);
	take_objects(s);
	must(s->n > 4);
	atexit(remove_all);
	return s;
}

void sample_lay(struct sample *s)
{
	empty(s);
	must(mkdirat(s->dirfd, "objects", 0700) == 0);
	for (unsigned i = 0; i < s->n; i++) {
		const struct stored *f = &s->files[i];
		char folder[] = "objects/00";
		int fd;

		if (strchr(f->name, '/')) {
			memcpy(folder, f->name, strlen(folder));
			(void)!mkdirat(s->dirfd, folder, 0700); /* perhaps there is one */
		}
		fd = openat(
			s->dirfd, f->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		must(fd >= 0 && ftruncate(fd, (off_t)f->size) == 0);
		must(pwrite(fd, f->data, f->filled, 0) == (ssize_t)f->filled);
		close(fd);
	}
}

int sample_dirfd(const struct sample *s)
{
	return s->dirfd;
}

const char *sample_file(const struct sample *s, unsigned i)
{
	return i < s->n ? s->files[i].name : NULL;
}

int sample_open(const struct sample *s, unsigned i)
{
	return openat(s->dirfd, s->files[i % s->n].name, O_RDWR | O_CLOEXEC);
}
