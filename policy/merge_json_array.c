#include "policy/merge_json_internal.h"

/* What one side has added to the base's array, and where. */
struct additions {
	struct addition {
		uint32_t gap;	  /* before the base's element of this number, from 0 */
		uint32_t element; /* a node of the side's document */
		bool twin;	  /* the other side has added the same */
	} * all;
	uint32_t n;
};

#define auto_additions __attribute__((cleanup(additions_done))) struct additions

static void additions_done(struct additions *a)
{
	free(a->all);
}

/* *only: the array has all of the base's elements, in order. Each of them is taken to be
 * the first that will do; which one of several equal ones it is, makes no difference. */
static int find_additions(const struct json_merge *m, uint32_t base,
	const struct json_doc *side, uint32_t array, struct additions *a, bool *only)
{
	uint32_t b = json_first(&m->base, base), gap = 0;

	a->n = 0;
	a->all = calloc(side->nodes[array].n_children + 1, sizeof(*a->all));
	if (!a->all)
		return -ENOMEM;
	for (uint32_t c = json_first(side, array); c != JSON_NONE;
		c = json_next(side, array, c)) {
		if (json_same(&m->base, b, side, c)) {
			b = json_next(&m->base, base, b);
			gap++;
		} else {
			a->all[a->n++] = (struct addition){.gap = gap, .element = c};
		}
	}
	*only = b == JSON_NONE;
	return 0;
}

static int compare_hashes(const void *x, const void *y, void *ctx)
{
	const struct json_doc *doc = ctx;
	const struct addition *a = x, *b = y;
	uint64_t i = doc->nodes[a->element].hash, j = doc->nodes[b->element].hash;

	if (i != j)
		return i < j ? -1 : 1;
	return a->element < b->element ? -1 : a->element > b->element;
}

static int compare_elements(const void *x, const void *y)
{
	const struct addition *a = x, *b = y;

	return a->element < b->element ? -1 : a->element > b->element;
}

/* Marks those of new's that current has added, too, one for one. */
static void mark_twins(
	struct json_merge *m, struct additions *current, struct additions *new)
{
	uint32_t first = 0; /* of current's that may still be a twin */

	qsort_r(current->all, current->n, sizeof(*current->all), compare_hashes,
		&m->current);
	qsort_r(new->all, new->n, sizeof(*new->all), compare_hashes, &m->new);
	for (uint32_t i = 0; i < new->n; i++) {
		uint32_t element = new->all[i].element;
		uint64_t hash = m->new.nodes[element].hash, other = 0;

		while (first < current->n &&
			(current->all[first].twin ||
				m->current.nodes[current->all[first].element].hash < hash))
			first++;
		/* The first will do, but for different values of one hash. */
		for (uint32_t j = first; j < current->n; j++) {
			struct addition *a = &current->all[j];

			other = m->current.nodes[a->element].hash;
			if (other != hash)
				break;
			if (a->twin ||
				!json_equal(&m->current, a->element, &m->new, element))
				continue;
			a->twin = new->all[i].twin = true;
			break;
		}
	}
	qsort(current->all, current->n, sizeof(*current->all), compare_elements);
	qsort(new->all, new->n, sizeof(*new->all), compare_elements);
}

static int put_new(
	struct json_items *list, const struct additions *new, uint32_t *next, uint32_t gap)
{
	int r = 0;

	for (; *next < new->n &&new->all[*next].gap <= gap &&r == 0; (*next)++) {
		if (!new->all[*next].twin)
			r = json_items_add(list, (struct json_item){.take = TAKE_NEW,
							 .at = {JSON_NONE, JSON_NONE,
								 new->all[*next].element}});
	}
	return r;
}

static int put_all(struct json_merge *m, uint32_t array, const struct additions *current,
	const struct additions *new, struct json_items *list)
{
	uint32_t gap = 0, n_current = 0, n_new = 0;
	int r = 0;

	for (uint32_t c = json_first(&m->current, array); c != JSON_NONE && r == 0;
		c = json_next(&m->current, array, c)) {
		if (n_current < current->n && current->all[n_current].element == c)
			n_current++;
		else
			r = put_new(list, new, &n_new, gap++);
		if (r == 0)
			r = json_items_add(list, (struct json_item){.take = TAKE_CURRENT,
							 .at = {JSON_NONE, c, JSON_NONE}});
	}
	return r ?: put_new(list, new, &n_new, gap);
}

static int merge_elements(
	struct json_merge *m, struct json_three at, struct json_items *list)
{
	struct json_three e = {json_first(&m->base, at.base),
		json_first(&m->current, at.current), json_first(&m->new, at.new)};
	int r = 0;

	for (uint32_t i = 0; e.current != JSON_NONE && r == 0; i++) {
		struct json_item item = {.take = TAKE_CURRENT, .at = e};

		if (!json_equal(&m->current, e.current, &m->new, e.new) &&
			!json_equal(&m->base, e.base, &m->new, e.new)) {
			item.take = TAKE_NEW;
			if (!json_equal(&m->base, e.base, &m->current, e.current))
				json_conflict_at(m, NULL, i, "both changed it");
		}
		r = json_items_add(list, item);
		e.base = json_next(&m->base, at.base, e.base);
		e.current = json_next(&m->current, at.current, e.current);
		e.new = json_next(&m->new, at.new, e.new);
	}
	return r;
}

int json_merge_array(struct json_merge *m, struct json_three at, struct json_items *list)
{
	auto_additions current = {0}, new = {0};
	uint32_t n = m->base.nodes[at.base].n_children;
	bool only, also;
	int r;

	if (m->current.nodes[at.current].n_children == n &&
		m->new.nodes[at.new].n_children == n)
		return merge_elements(m, at, list);
	r = find_additions(m, at.base, &m->current, at.current, &current, &only);
	if (r == 0)
		r = find_additions(m, at.base, &m->new, at.new, &new, &also);
	if (r < 0)
		return r;
	if (!only || !also) {
		json_conflict(m, "both changed this array, not only by adding to it");
		return 0;
	}
	mark_twins(m, &current, &new);
	return put_all(m, at.current, &current, &new, list);
}
