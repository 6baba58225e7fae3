#include "cli/report_names.h"

#include <string.h>

void report_names_done(struct report_names *names)
{
	for (uint32_t i = 0; i < names->n; i++)
		free(names->texts[i]);
	free(names->texts);
	free(names->slots);
	*names = (struct report_names){0};
}

static uint32_t hash(const char *text)
{
	uint32_t h = 2166136261u;

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * 16777619u;
	return h;
}

/* Where text is, or would be. */
static uint32_t *slot_of(const struct report_names *names, const char *text)
{
	uint32_t at = hash(text) & (names->n_slots - 1);

	while (names->slots[at] && strcmp(names->texts[names->slots[at] - 1], text) != 0)
		at = (at + 1) & (names->n_slots - 1);
	return &names->slots[at];
}

/* Room for one more: at most half of the slots are taken. */
static int grow(struct report_names *names)
{
	struct report_names bigger = *names;

	if (names->n < names->n_slots / 2)
		return 0;
	bigger.n_slots = names->n_slots ? names->n_slots * 2 : 64;
	bigger.texts =
		reallocarray(names->texts, bigger.n_slots / 2, sizeof(*bigger.texts));
	if (!bigger.texts)
		return -ENOMEM;
	names->texts = bigger.texts;
	bigger.slots = calloc(bigger.n_slots, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < bigger.n; i++)
		*slot_of(&bigger, bigger.texts[i]) = i + 1;
	free(names->slots);
	*names = bigger;
	return 0;
}

int64_t report_names_take(struct report_names *names, const char *text)
{
	uint32_t *slot;

	if (grow(names) < 0)
		return -ENOMEM;
	slot = slot_of(names, text);
	if (*slot)
		return *slot - 1;
	names->texts[names->n] = strdup(text);
	if (!names->texts[names->n])
		return -ENOMEM;
	*slot = ++names->n;
	return names->n - 1;
}
