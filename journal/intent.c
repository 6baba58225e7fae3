#include "journal/intent.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/table.h"
#include "journal/check.h"

enum {
	UNIT_BYTES = 512,
	HEADER_BYTES = 4096,
	FILE_BYTES = HEADER_BYTES + INTENT_SLOTS * UNIT_BYTES,
	UNITS_MAX = 24, /* two paths of PATH_MAX and their author */
	COMMAND_MAX = 200,
	FORMAT = 2,
	WORD_BITS = 64,
	WORDS = INTENT_SLOTS / WORD_BITS,
};

#define MAGIC 0x746e65746e692e73ULL /* "s.intent" */

enum slot_state { SLOT_FREE, SLOT_OPEN, SLOT_CLOSED };

/* The state's word: the state, and above it what the file was closed as (0: not noted), so
 * that both are stored at once. */
enum { STATE_MASK = 3, STATE_BITS = 2 };

struct header {
	uint64_t magic;
	uint32_t format, unit_bytes, units;
};

/* Of which boot of the machine the slots tell; behind the header, 0 in older files. */
enum { BOOT_AT = 512 };

/*
 * In the file. state is stored last by begin and first by end. check covers the rest of
 * the record and its texts: what is left of an older record in a unit is not taken for
 * one that was begun.
 */
struct slot {
	_Atomic uint32_t state;
	uint32_t units;
	uint64_t check;
	/* from here on under the check */
	uint32_t kind, text_bytes;
	uint64_t dev, ino, epoch, base_number, seq;
	int64_t start_ns;
	uint32_t uid;
	int32_t pid;
	uint32_t path_len, to_path_len;
	char text[]; /* path, to_path, shadow, writer, rule, command; each ends in NUL */
};

enum { TEXTS = 6, CHECK_FROM = offsetof(struct slot, kind) };

struct intents {
	int fd;
	char *map;
	_Atomic uint32_t in_use;
	pthread_mutex_t lock; /* guards what follows */
	uint64_t taken[WORDS];
	uint32_t first_free_word; /* none before it */
	uint64_t left[WORDS];	  /* slots of the last daemon */
	bool same_boot;		  /* as theirs */
};

static struct slot *slot_at(const struct intents *s, uint32_t unit)
{
	return (struct slot *)(void *)(s->map + HEADER_BYTES + (size_t)unit * UNIT_BYTES);
}

static bool bit_get(const uint64_t *words, uint32_t bit)
{
	return words[bit / WORD_BITS] >> (bit % WORD_BITS) & 1;
}

static void bits_set(uint64_t *words, uint32_t from, uint32_t n, bool value)
{
	for (uint32_t i = from; i < from + n; i++) {
		uint64_t bit = 1ULL << (i % WORD_BITS);

		if (value)
			words[i / WORD_BITS] |= bit;
		else
			words[i / WORD_BITS] &= ~bit;
	}
}

static uint32_t slot_state(const struct slot *slot)
{
	return atomic_load(&slot->state) & STATE_MASK;
}

static uint64_t slot_check(const struct slot *slot)
{
	size_t size = offsetof(struct slot, text) - CHECK_FROM + slot->text_bytes;

	return table_hash_bytes((const char *)slot + CHECK_FROM, size, slot->units);
}

/* ---- opening ---- */

/* Does a file of an earlier format tell of a change? Each of them has the slot's state at
 * its beginning. */
static bool tells_of_something(int fd)
{
	for (off_t unit = 0; unit < INTENT_SLOTS; unit++) {
		uint32_t state;

		if (pread(fd, &state, sizeof(state), HEADER_BYTES + unit * UNIT_BYTES) ==
				sizeof(state) &&
			state != SLOT_FREE)
			return true;
	}
	return false;
}

/* 1: ours; 0: of an earlier format, and after a clean end; else -EPROTO. */
static int look_at_header(int fd, const struct header *want)
{
	struct header have;

	if (pread(fd, &have, sizeof(have), 0) != sizeof(have) ||
		have.magic != want->magic || have.unit_bytes != want->unit_bytes ||
		have.units != want->units)
		return -EPROTO;
	if (have.format == want->format)
		return 1;
	return have.format < want->format && !tells_of_something(fd) ? 0 : -EPROTO;
}

static int prepare_file(int fd)
{
	struct header want = {MAGIC, FORMAT, UNIT_BYTES, INTENT_SLOTS};
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size > 0) {
		r = look_at_header(fd, &want);
		if (r < 0)
			return r;
		if (r == 0 && pwrite(fd, &want, sizeof(want), 0) != sizeof(want))
			return errno ? -errno : -EIO;
		/* A crash may have come between the header and the rest. */
	}
	r = -posix_fallocate(fd, 0, FILE_BYTES);
	if (!r && st.st_size == 0 && pwrite(fd, &want, sizeof(want), 0) != sizeof(want))
		r = errno ? -errno : -EIO;
	/* Half of a new one would be taken for another format when there is room again. */
	if (r && st.st_size == 0)
		(void)!ftruncate(fd, 0);
	return r ?: fsync(fd) < 0 ? -errno : 0;
}

/* A record that was begun and not ended: 1, and how many units it has. */
static bool slot_is_left(const struct intents *s, uint32_t unit)
{
	const struct slot *slot = slot_at(s, unit);
	uint32_t state = slot_state(slot);

	if (state != SLOT_OPEN && state != SLOT_CLOSED)
		return false;
	if (slot->units == 0 || slot->units > UNITS_MAX ||
		slot->units > INTENT_SLOTS - unit)
		return false;
	if (slot->text_bytes > slot->units * UNIT_BYTES - offsetof(struct slot, text))
		return false;
	return slot->check == slot_check(slot);
}

static void find_left(struct intents *s)
{
	for (uint32_t unit = 0; unit < INTENT_SLOTS;) {
		uint32_t units = 1;

		if (slot_is_left(s, unit)) {
			units = slot_at(s, unit)->units;
			bits_set(s->left, unit, 1, true);
			bits_set(s->taken, unit, units, true);
			atomic_fetch_add(&s->in_use, 1);
		} else if (atomic_load(&slot_at(s, unit)->state) != SLOT_FREE) {
			atomic_store(
				&slot_at(s, unit)->state, SLOT_FREE); /* half a record */
		}
		unit += units;
	}
}

/* 0: not known, and then never the same. */
static uint64_t this_boot(void)
{
	auto_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char id[64];
	ssize_t n = fd < 0 ? 0 : read(fd, id, sizeof(id));

	return n > 0 ? table_hash_bytes(id, (size_t)n, 0) | 1 : 0;
}

/* What a file was closed as holds as long as the machine runs: a power cut may take times
 * back that no fsync was asked for. */
static void note_boot(struct intents *s)
{
	uint64_t *boot = (uint64_t *)(void *)(s->map + BOOT_AT), now = this_boot();

	s->same_boot = now && *boot == now;
	*boot = now;
}

int intents_open(struct intents **out, int dirfd)
{
	struct intents *s = calloc(1, sizeof(*s));
	void *map = MAP_FAILED;
	int r;

	if (!s)
		return -ENOMEM;
	s->fd = openat(dirfd, "intents", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->fd < 0)
		r = -errno;
	else if (flock(s->fd, LOCK_EX | LOCK_NB) < 0)
		r = errno == EWOULDBLOCK ? -EBUSY : -errno;
	else
		r = prepare_file(s->fd);
	if (!r) {
		map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
		if (map == MAP_FAILED)
			r = -errno;
	}
	if (r) {
		if (s->fd >= 0)
			close(s->fd);
		free(s);
		return r;
	}
	s->map = map;
	pthread_mutex_init(&s->lock, NULL);
	note_boot(s);
	find_left(s);
	*out = s;
	return 0;
}

void intents_close(struct intents *s)
{
	if (!s)
		return;
	munmap(s->map, FILE_BYTES);
	close(s->fd);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int intents_check(int dirfd, bool repair)
{
	auto_close int fd = openat(dirfd, "intents", O_RDONLY | O_CLOEXEC);
	struct header have;
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? 1 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size == 0 ||
		(pread(fd, &have, sizeof(have), 0) == sizeof(have) && have.magic == MAGIC &&
			have.format > 0 && have.format <= FORMAT &&
			have.unit_bytes == UNIT_BYTES && have.units == INTENT_SLOTS))
		return 1;
	if (!repair)
		return 0;
	return renameat(dirfd, "intents", dirfd, "intents.damaged") < 0 ? -errno : 0;
}

/* ---- leftovers ---- */

/* NULL for a text that is not there; *at moves behind it. */
static const char *next_text(const char **at, const char *end, size_t len)
{
	const char *text = *at;
	size_t room = (size_t)(end - text);

	if (len == SIZE_MAX)
		len = strnlen(text, room);
	if (len >= room)
		return NULL; /* cannot be: it was under the check */
	*at = text + len + 1;
	return len > 0 ? text : NULL;
}

static void read_slot(const struct slot *slot, struct intent *intent)
{
	const char *at = slot->text, *end = slot->text + slot->text_bytes;

	*intent = (struct intent){
		.closed_as = atomic_load(&slot->state) >> STATE_BITS,
		.kind = (enum intent_kind)slot->kind,
		.path_len = slot->path_len,
		.to_path_len = slot->to_path_len,
		.dev = slot->dev,
		.ino = slot->ino,
		.epoch = slot->epoch,
		.base_number = slot->base_number,
		.seq = slot->seq,
		.uid = slot->uid,
		.pid = slot->pid,
		.start_ns = slot->start_ns,
	};
	intent->path = next_text(&at, end, slot->path_len);
	intent->to_path = next_text(&at, end, slot->to_path_len);
	intent->shadow = next_text(&at, end, SIZE_MAX);
	intent->writer = next_text(&at, end, SIZE_MAX);
	intent->rule = next_text(&at, end, SIZE_MAX);
	intent->command = next_text(&at, end, SIZE_MAX);
}

int intents_leftover(struct intents *s, intent_fn *fn, void *ctx)
{
	for (uint32_t unit = 0; unit < INTENT_SLOTS; unit++) {
		const struct slot *slot = slot_at(s, unit);
		struct intent intent;
		bool left;
		int r;

		pthread_mutex_lock(&s->lock);
		left = bit_get(s->left, unit);
		pthread_mutex_unlock(&s->lock);
		if (!left)
			continue;
		read_slot(slot, &intent);
		if (!s->same_boot)
			intent.closed_as = 0;
		r = fn(&intent, slot_state(slot) == SLOT_CLOSED, unit, ctx);
		if (r)
			return r;
	}
	return 0;
}

/* ---- slots ---- */

static bool run_is_free(const struct intents *s, uint32_t from, uint32_t n)
{
	for (uint32_t i = from; i < from + n; i++) {
		if (bit_get(s->taken, i))
			return false;
	}
	return true;
}

/* Lock held. The first free run: low slots are used again and again, so that few pages
 * of the file are ever touched. */
static uint32_t find_run(struct intents *s, uint32_t n)
{
	while (s->first_free_word < WORDS && s->taken[s->first_free_word] == UINT64_MAX)
		s->first_free_word++;
	for (uint32_t word = s->first_free_word; word < WORDS; word++) {
		if (s->taken[word] == UINT64_MAX)
			continue;
		for (uint32_t bit = 0; bit < WORD_BITS; bit++) {
			uint32_t unit = word * WORD_BITS + bit;

			if (unit + n <= INTENT_SLOTS && run_is_free(s, unit, n))
				return unit;
		}
	}
	return INTENT_NONE;
}

static uint32_t take_run(struct intents *s, uint32_t n)
{
	uint32_t unit;

	pthread_mutex_lock(&s->lock);
	unit = find_run(s, n);
	if (unit != INTENT_NONE)
		bits_set(s->taken, unit, n, true);
	pthread_mutex_unlock(&s->lock);
	return unit;
}

struct texts {
	const char *at[TEXTS];
	size_t len[TEXTS], total;
};

static void gather_texts(const struct intent *i, struct texts *t)
{
	*t = (struct texts){
		.at = {i->path, i->to_path, i->shadow, i->writer, i->rule, i->command},
	};
	t->len[0] = i->path ? i->path_len : 0;
	t->len[1] = i->to_path ? i->to_path_len : 0;
	for (int k = 2; k < TEXTS; k++)
		t->len[k] = t->at[k] ? strlen(t->at[k]) : 0;
	if (t->len[TEXTS - 1] > COMMAND_MAX)
		t->len[TEXTS - 1] = COMMAND_MAX;
	for (int k = 0; k < TEXTS; k++)
		t->total += t->len[k] + 1;
}

static void fill_slot(struct slot *slot, const struct intent *i, const struct texts *t)
{
	char *at = slot->text;

	slot->kind = i->kind;
	slot->text_bytes = (uint32_t)t->total;
	slot->dev = i->dev;
	slot->ino = i->ino;
	slot->epoch = i->epoch;
	slot->base_number = i->base_number;
	slot->seq = i->seq;
	slot->start_ns = i->start_ns;
	slot->uid = i->uid;
	slot->pid = i->pid;
	slot->path_len = (uint32_t)t->len[0];
	slot->to_path_len = (uint32_t)t->len[1];
	for (int k = 0; k < TEXTS; k++) {
		if (t->len[k] > 0)
			memcpy(at, t->at[k], t->len[k]);
		at[t->len[k]] = '\0';
		at += t->len[k] + 1;
	}
	slot->check = slot_check(slot);
}

int intents_begin(struct intents *s, const struct intent *intent, uint32_t *out)
{
	struct texts t;
	struct slot *slot;
	uint32_t unit;
	size_t units;

	assert(intent->path && intent->path_len > 0);
	gather_texts(intent, &t);
	units = (offsetof(struct slot, text) + t.total + UNIT_BYTES - 1) / UNIT_BYTES;
	if (units > UNITS_MAX)
		return -ENAMETOOLONG;
	unit = take_run(s, (uint32_t)units);
	if (unit == INTENT_NONE)
		return -ENOSPC;
	slot = slot_at(s, unit);
	slot->units = (uint32_t)units;
	fill_slot(slot, intent, &t);
	atomic_store(&slot->state, SLOT_OPEN);
	atomic_fetch_add(&s->in_use, 1);
	*out = unit;
	return 0;
}

/* Never 0. */
static uint32_t closed_as(const struct stat *st)
{
	uint64_t h = table_hash_u64((uint64_t)st->st_mtim.tv_sec);

	h = table_hash_u64(h ^ (uint64_t)st->st_mtim.tv_nsec);
	h = table_hash_u64(h ^ (uint64_t)st->st_size);
	h = table_hash_u64(h ^ st->st_ino);
	return (uint32_t)(h >> (32 + STATE_BITS)) | 1;
}

bool intent_is_as_closed(const struct intent *intent, const struct stat *st)
{
	return !intent->closed_as || intent->closed_as == closed_as(st);
}

void intents_mark_closed(struct intents *s, uint32_t slot, const struct stat *st)
{
	uint32_t as = st ? closed_as(st) : 0;

	if (slot == INTENT_NONE)
		return;
	assert(slot < INTENT_SLOTS);
	assert(slot_state(slot_at(s, slot)) != SLOT_FREE);
	atomic_store(&slot_at(s, slot)->state, SLOT_CLOSED | as << STATE_BITS);
}

void intents_mark_open(struct intents *s, uint32_t slot)
{
	if (slot == INTENT_NONE)
		return;
	assert(slot < INTENT_SLOTS);
	assert(atomic_load(&slot_at(s, slot)->state) != SLOT_FREE);
	atomic_store(&slot_at(s, slot)->state, SLOT_OPEN);
}

void intents_end(struct intents *s, uint32_t unit)
{
	struct slot *slot;
	uint32_t units;

	if (unit == INTENT_NONE)
		return;
	assert(unit < INTENT_SLOTS);
	slot = slot_at(s, unit);
	units = slot->units;
	assert(atomic_load(&slot->state) != SLOT_FREE); /* ended once */
	atomic_store(&slot->state, SLOT_FREE);
	/* Text where a later slot will begin must not look like a state there. */
	for (uint32_t i = 1; i < units; i++)
		atomic_store(&slot_at(s, unit + i)->state, SLOT_FREE);
	pthread_mutex_lock(&s->lock);
	bits_set(s->taken, unit, units, false);
	bits_set(s->left, unit, 1, false);
	if (unit / WORD_BITS < s->first_free_word)
		s->first_free_word = unit / WORD_BITS;
	pthread_mutex_unlock(&s->lock);
	atomic_fetch_sub(&s->in_use, 1);
}

int intents_sync(struct intents *s)
{
	return msync(s->map, FILE_BYTES, MS_SYNC) < 0 ? -errno : 0;
}

uint32_t intents_in_use(const struct intents *s)
{
	return atomic_load(&s->in_use);
}
