/*
 * numbers.c - epochs, seqs and refusal ids: never twice, whatever happens.
 *
 * The database says up to where numbers may have been given out. The writer's thread
 * raises that by a block, durably, before the block is used, and when half of it is gone
 * already, so that callers hardly ever wait.
 */
#include "journal/internal.h"

static const struct {
	const char *name;
	uint64_t block;
} kinds[NUMBER_KINDS] = {
	[NUMBER_EPOCH] = {"epoch", 1024},
	[NUMBER_SEQ] = {"seq", 8192},
	[NUMBER_REFUSAL] = {"refusal", 64},
};

static int counter_get(struct db *db, enum number_kind kind, uint64_t *reserved)
{
	auto_stmt *s = NULL;
	int r = db_stmt(db, STMT_COUNTER_GET, &s);

	if (r)
		return r;
	bind_text(s, 1, kinds[kind].name);
	r = db_step(db, s);
	*reserved = r == 1 ? column_int(s, 0) : 0;
	return r < 0 ? r : 0;
}

int numbers_load(struct journal *j)
{
	for (int i = 0; i < NUMBER_KINDS; i++) {
		struct number *n = &j->numbers[i];
		uint64_t reserved;
		int r = counter_get(j->db, (enum number_kind)i, &reserved);

		if (r)
			return r;
		n->next = n->limit = reserved + 1;
	}
	return 0;
}

bool numbers_wanted(struct journal *j)
{
	for (int i = 0; i < NUMBER_KINDS; i++) {
		if (atomic_load(&j->numbers[i].wanted))
			return true;
	}
	return false;
}

/* In the writer's transaction. from is 0 where nothing was wanted. */
int numbers_reserve(struct journal *j, bool *any, uint64_t from[NUMBER_KINDS],
	uint64_t to[NUMBER_KINDS])
{
	*any = false;
	for (int i = 0; i < NUMBER_KINDS; i++) {
		auto_stmt *s = NULL;
		uint64_t reserved;
		int r;

		from[i] = to[i] = 0;
		if (!atomic_load(&j->numbers[i].wanted))
			continue;
		r = counter_get(j->db, (enum number_kind)i, &reserved);
		if (!r)
			r = db_stmt(j->db, STMT_COUNTER_SET, &s);
		if (r)
			return r;
		bind_text(s, 1, kinds[i].name);
		bind_int(s, 2, reserved + kinds[i].block);
		r = db_step(j->db, s);
		if (r)
			return r;
		from[i] = reserved + 1;
		to[i] = reserved + 1 + kinds[i].block;
		*any = true;
	}
	return 0;
}

void numbers_publish(struct journal *j, const uint64_t from[NUMBER_KINDS],
	const uint64_t to[NUMBER_KINDS])
{
	for (int i = 0; i < NUMBER_KINDS; i++) {
		struct number *n = &j->numbers[i];

		if (!from[i])
			continue;
		pthread_mutex_lock(&n->lock);
		/* Somebody else reserved in between: what is left of our block stays a gap.
		 */
		if (from[i] != n->limit)
			n->next = from[i];
		n->limit = to[i];
		pthread_mutex_unlock(&n->lock);
		atomic_store(&n->wanted, false);
	}
}

/* At an orderly end: what was reserved and not given out need not be a gap. Not when
 * another process has reserved since. */
void numbers_return(struct journal *j)
{
	for (int i = 0; i < NUMBER_KINDS; i++) {
		struct number *n = &j->numbers[i];
		auto_stmt *s = NULL;

		if (n->next == n->limit || db_stmt(j->db, STMT_COUNTER_RETURN, &s))
			continue;
		bind_text(s, 1, kinds[i].name);
		bind_int(s, 2, n->next - 1);
		bind_int(s, 3, n->limit - 1);
		(void)!db_step(j->db, s); /* a gap is no harm */
	}
}

static void ask(struct journal *j, struct number *n)
{
	if (atomic_exchange(&n->wanted, true))
		return;
	pthread_mutex_lock(&j->lock);
	writer_wake(j);
	pthread_mutex_unlock(&j->lock);
}

static bool take(struct journal *j, enum number_kind kind, uint64_t *out)
{
	struct number *n = &j->numbers[kind];
	bool found, low;

	pthread_mutex_lock(&n->lock);
	found = n->next < n->limit;
	if (found)
		*out = n->next++;
	low = n->limit - n->next < kinds[kind].block / 2;
	pthread_mutex_unlock(&n->lock);
	if (low)
		ask(j, n);
	return found;
}

static int next_number(struct journal *j, enum number_kind kind, uint64_t *out)
{
	struct number *n = &j->numbers[kind];
	int r = 0;

	while (!take(j, kind, out)) {
		pthread_mutex_lock(&j->lock);
		while (atomic_load(&n->wanted) && !(r = atomic_load(&j->health)))
			writer_wait_done(j, NULL);
		pthread_mutex_unlock(&j->lock);
		if (r)
			return r;
	}
	return 0;
}

int journal_next_epoch(struct journal *j, uint64_t *epoch)
{
	return next_number(j, NUMBER_EPOCH, epoch);
}

int journal_next_seq(struct journal *j, uint64_t *seq)
{
	return next_number(j, NUMBER_SEQ, seq);
}

int journal_next_refusal(struct journal *j, uint64_t *id)
{
	return next_number(j, NUMBER_REFUSAL, id);
}

uint64_t journal_last_seq(struct journal *j)
{
	struct number *n = &j->numbers[NUMBER_SEQ];
	uint64_t last;

	pthread_mutex_lock(&n->lock);
	last = n->next - 1;
	pthread_mutex_unlock(&n->lock);
	return last;
}
