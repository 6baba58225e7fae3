/*
 * lost_update_internal.h - one comparison of three contents, shared by the test and its
 * description; nobody else includes it.
 */
#ifndef STOMP_POLICY_LOST_UPDATE_INTERNAL_H
#define STOMP_POLICY_LOST_UPDATE_INTERNAL_H

#include "policy/line_diff.h"
#include "policy/lost_update.h"

/* A text made ready: lines end alike, the last one has its newline. */
struct text {
	char *owned; /* where a copy was needed */
	const char *data;
	size_t size;
	struct lines lines;
};

struct comparison {
	struct text base, current, new;
	bool known_base;
	bool complete;
	/* Incomplete: new has come as far as line `sure` of current, and the lines from
	 * `sure_from` to there are common to both. */
	uint32_t sure_from, sure;
	struct hunks base_current, current_new, base_new;
	enum lost_update *verdicts; /* of each hunk of base_current, or, where the base is
				     * not known, of current_new */
};

#define auto_comparison __attribute__((cleanup(comparison_done))) struct comparison

/* 0; 1 when the contents are too long for lines; -ENOMEM; -EIO. */
must_check int comparison_init(struct comparison *c, const struct content *base,
	bool known_base, const struct content *current, const struct content *new,
	bool complete);
void comparison_done(struct comparison *c);

/* The hunks that have a verdict, and where hunk i stands in current. */
static inline uint32_t comparison_size(const struct comparison *c)
{
	return c->known_base ? c->base_current.n : c->current_new.n;
}

static inline void comparison_range(
	const struct comparison *c, uint32_t i, uint32_t *first, uint32_t *end)
{
	*first = c->known_base ? c->base_current.v[i].b0 : c->current_new.v[i].a0;
	*end = c->known_base ? c->base_current.v[i].b1 : c->current_new.v[i].a1;
}

/* Fills c->verdicts. */
void comparison_judge(struct comparison *c);

/* Incomplete: hunk i is reverted, wherever sure is. Uses current_new of the bare new. */
bool comparison_replaced(const struct comparison *c, uint32_t i);

bool contents_by_block(const struct content *base, const struct content *current,
	const struct content *new);

/* From at on: where there may be other bytes than 0, or the end. */
uint64_t content_next_data(const struct content *c, uint64_t at);

/* So many blocks from i on, itself included, are alike in each of the three (holes, or
 * behind its end): what is said of i holds for them. */
uint64_t blocks_alike(const struct content *base, const struct content *current,
	const struct content *new, uint64_t i);

/* The verdict on block i of current; LOST_UPDATE_SAME where nobody changed anything. */
enum lost_update block_verdict(const struct content *base, bool known_base,
	const struct content *current, const struct content *new, uint64_t i);
uint64_t content_blocks(const struct content *base, const struct content *current);

void lost_update_by_block(const struct content *base, bool known_base,
	const struct content *current, const struct content *new, bool complete,
	struct lost_update_result *result);

#endif
