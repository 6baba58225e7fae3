#include "policy/directives.h"
#include "policy/observe.h"

#include <string.h>

#include "policy/writer_table.h"

/* Values are words without blanks, or in quotes. */
struct setting {
	struct word key, value; /* value.s NULL: a word alone */
	bool adds;		/* += */
};

struct driver {
	struct driver_entry entry;
	uint32_t number; /* of its line */
};

/* Entries have room for all there may be, so that none moves when one is added. */
struct directives {
	struct writer_table table; /* of the two below */
	struct agent_entry *agents;
	const char **viewers;
	size_t n_agents, n_viewers, max_agents, max_viewers;
	struct driver drivers[DIRECTIVES_MAX_DRIVERS];
	size_t n_drivers;
	uint16_t observations; /* 0: as built in */
	void **memory;	       /* what the entries point to */
	size_t n_memory, cap_memory;
	unsigned count;
};

/* A line being read; what was quoted is unquoted into space. */
struct line {
	const struct place *at;
	const char *s;
	size_t size, i;
	char *space;
};

/* ---- memory ---- */

static const char *const none[] = {NULL};

int directives_new(struct directives **out)
{
	const struct writer_table *builtin = writer_table_builtin();
	struct directives *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	while (builtin->agents[d->n_agents].name)
		d->n_agents++;
	while (builtin->viewers[d->n_viewers])
		d->n_viewers++;
	d->max_agents = d->n_agents + DIRECTIVES_MAX_AGENTS;
	d->max_viewers = d->n_viewers + DIRECTIVES_MAX_VIEWERS;
	d->agents = calloc(d->max_agents + 1, sizeof(*d->agents));
	d->viewers = calloc(d->max_viewers + 1, sizeof(*d->viewers));
	if (!d->agents || !d->viewers) {
		directives_free(d);
		return -ENOMEM;
	}
	memcpy(d->agents, builtin->agents, d->n_agents * sizeof(*d->agents));
	memcpy(d->viewers, builtin->viewers, d->n_viewers * sizeof(*d->viewers));
	d->table = (struct writer_table){d->agents, d->viewers};
	*out = d;
	return 0;
}

struct directives *directives_free(struct directives *d)
{
	if (!d)
		return NULL;
	for (size_t i = 0; i < d->n_memory; i++)
		free(d->memory[i]);
	free(d->memory);
	free(d->agents);
	free(d->viewers);
	free(d);
	return NULL;
}

/* Zeroed memory that lives as long as d; NULL: there is none. */
static void *keep(struct directives *d, size_t size)
{
	void *p;

	if (d->n_memory == d->cap_memory) {
		size_t cap = d->cap_memory ? 2 * d->cap_memory : 16;
		void **memory = reallocarray(d->memory, cap, sizeof(*memory));

		if (!memory)
			return NULL;
		d->memory = memory;
		d->cap_memory = cap;
	}
	p = calloc(1, size);
	if (p)
		d->memory[d->n_memory++] = p;
	return p;
}

static const char *keep_word(struct directives *d, struct word w)
{
	char *s = keep(d, w.size + 1);

	if (s)
		memcpy(s, w.s, w.size);
	return s;
}

/* ---- words of a line ---- */

/* At a quote: what is in it, without a NUL. */
static int read_quoted(struct line *l, const char *what, struct word *out)
{
	struct word whole = {l->s + l->i, l->size - l->i};
	size_t size, used;
	int r = rules_word_unquote(
		l->at, what, whole.s, whole.size, l->space, &size, &used);

	if (r < 0)
		return r;
	if (memchr(l->space, '\0', size))
		return rules_say_wrong(l->at, "a NUL byte in ", whole, "");
	*out = (struct word){l->space, size};
	l->space += size;
	l->i += used;
	return 0;
}

/* 1: there is a word; 0: the line has ended. */
static int next_word(struct line *l, struct word *out)
{
	size_t end;

	l->i = rules_skip_blanks(l->s, l->size, l->i);
	if (l->i == l->size)
		return 0;
	if (l->s[l->i] == '"')
		return read_quoted(l, "name", out) ?: 1;
	end = rules_skip_word(l->s, l->size, l->i);
	*out = (struct word){l->s + l->i, end - l->i};
	l->i = end;
	return 1;
}

/* key=value, key+=value, with the value perhaps in quotes, or a word alone. */
static int next_setting(struct line *l, struct setting *out)
{
	const char *equals, *from;
	size_t end;

	*out = (struct setting){0};
	l->i = rules_skip_blanks(l->s, l->size, l->i);
	if (l->i == l->size)
		return 0;
	from = l->s + l->i;
	end = rules_skip_word(l->s, l->size, l->i);
	equals = memchr(from, '=', end - l->i);
	if (!equals) {
		out->key = (struct word){from, end - l->i};
		l->i = end;
		return 1;
	}
	out->adds = equals > from && equals[-1] == '+';
	out->key = (struct word){from, (size_t)(equals - from) - out->adds};
	l->i = (size_t)(equals + 1 - l->s);
	if (l->i < l->size && *(equals + 1) == '"')
		return read_quoted(l, "value", &out->value) ?: 1;
	out->value = (struct word){equals + 1, end - l->i};
	l->i = end;
	return 1;
}

static int check_setting(const struct place *at, const struct setting *s,
	const char *const *keys, size_t n_keys, int *key)
{
	*key = rules_word_find(s->key, keys, n_keys);
	if (*key < 0)
		return rules_say_unknown(at, "key", s->key, keys, n_keys);
	if (!s->value.size)
		return rules_say_wrong(
			at, "no value for ", s->key, ": write key=value without blanks");
	return 0;
}

/* ---- %agent ---- */

enum agent_key { AGENT_PROGRAM, AGENT_VARIABLE, AGENT_HELPER, AGENT_TOOL, AGENT_ERRNO };

static const char *const agent_keys[] = {
	[AGENT_PROGRAM] = "program",
	[AGENT_VARIABLE] = "variable",
	[AGENT_HELPER] = "helper",
	[AGENT_TOOL] = "tool",
	[AGENT_ERRNO] = "errno",
};

static bool is_variable(struct word w)
{
	for (size_t i = 0; i < w.size; i++) {
		char c = w.s[i];
		bool digit = c >= '0' && c <= '9';

		if (!(c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			    (digit && i > 0)))
			return false;
	}
	return true;
}

static int check_name(const struct place *at, enum agent_key key, struct word w)
{
	if (w.size > DIRECTIVES_MAX_NAME)
		return rules_say_wrong(at, "too long (at most 128 bytes): ", w, "");
	if (key == AGENT_PROGRAM && w.s[0] == '/')
		return rules_say_wrong(at, "a path: ", w,
			": write the program's name alone, as in program=claude");
	if (key == AGENT_VARIABLE && !is_variable(w))
		return rules_say_wrong(at, "not a variable's name: ", w,
			" (letters, digits and _, no digit first)");
	if (key == AGENT_VARIABLE && rules_word_is(w, "STOMP_AGENT"))
		return rules_say_wrong(
			at, "", w, " names its writer itself: it is no agent's own");
	return 0;
}

static size_t list_length(const char *const *names)
{
	size_t n = 0;

	while (names && names[n])
		n++;
	return n;
}

/* The names in "a,b", after those of before. */
static int parse_list(struct directives *d, const struct place *at, enum agent_key key,
	struct word value, const char *const *before, const char *const **out)
{
	size_t n = list_length(before);
	const char **list = keep(d, (DIRECTIVES_MAX_NAMES + 1) * sizeof(*list));

	if (!list)
		return -ENOMEM;
	if (n)
		memcpy(list, before, n * sizeof(*list));
	for (size_t i = 0; i <= value.size;) {
		const char *comma = memchr(value.s + i, ',', value.size - i);
		size_t end = comma ? (size_t)(comma - value.s) : value.size;
		struct word name = {value.s + i, end - i};
		int r;

		if (!name.size)
			return rules_say_wrong(at, "an empty name in ", value,
				": write a,b without blanks");
		r = check_name(at, key, name);
		if (r < 0)
			return r;
		if (n == DIRECTIVES_MAX_NAMES)
			return rules_say_wrong(
				at, "too many names (at most 64) at ", name, "");
		list[n] = keep_word(d, name);
		if (!list[n++])
			return -ENOMEM;
		i = end + 1;
	}
	*out = list;
	return 0;
}

static int parse_errno(const struct place *at, struct word value, struct agent_entry *a)
{
	static const char *const names[] = {"EBUSY", "ESTALE"};
	int i = rules_word_find(value, names, ARRAY_SIZE(names));

	if (i < 0)
		return rules_say_unknown(at, "errno", value, names, ARRAY_SIZE(names));
	a->refusal_errno = i == 0 ? EBUSY : 0;
	return 0;
}

static int apply_agent_setting(struct directives *d, const struct place *at,
	const struct setting *s, struct agent_entry *a)
{
	const char *const **const lists[] = {
		[AGENT_PROGRAM] = &a->programs,
		[AGENT_VARIABLE] = &a->variables,
		[AGENT_HELPER] = &a->helpers,
		[AGENT_TOOL] = &a->tools,
	};
	int key, r = check_setting(at, s, agent_keys, ARRAY_SIZE(agent_keys), &key);

	if (r < 0)
		return r;
	if (key != AGENT_ERRNO)
		return parse_list(d, at, (enum agent_key)key, s->value,
			s->adds ? *lists[key] : NULL, lists[key]);
	if (s->adds)
		return rules_say_wrong(at, "nothing to add to: ", s->key,
			": write errno=EBUSY or errno=ESTALE");
	return parse_errno(at, s->value, a);
}

static struct agent_entry *find_agent(struct directives *d, struct word name)
{
	for (struct agent_entry *a = d->agents; a->name; a++)
		if (rules_word_is(name, a->name))
			return a;
	return NULL;
}

/* Nothing tells by what to know a new agent: a slip in the name of an old one? */
static int say_no_agent(
	const struct directives *d, const struct place *at, struct word name)
{
	const char *names[DIRECTIVES_MAX_AGENTS];
	const char *near;
	auto_buf rest = {0};
	size_t n = 0;

	for (; d->agents[n].name && n < ARRAY_SIZE(names); n++)
		names[n] = d->agents[n].name;
	near = rules_word_nearest(name, names, n);
	if (near)
		buf_printf(&rest, ": did you mean \"%s\"? ", near);
	buf_printf(&rest, "%sa new agent needs program= or variable=", near ? "(" : ": ");
	if (near)
		buf_putc(&rest, ')');
	return rules_say_wrong(at, "unknown agent ", name, rest.data ?: "");
}

/* A new agent goes before the others: what the file says comes before what is built in,
 * and a later line before an earlier one. */
static int add_agent(struct directives *d, const struct place *at, struct word name,
	const struct agent_entry *a)
{
	if (!a->programs && !a->variables)
		return say_no_agent(d, at, name);
	if (d->n_agents == d->max_agents)
		return rules_say_wrong(
			at, "too many agents (at most 64 new ones): ", name, "");
	memmove(d->agents + 1, d->agents, d->n_agents * sizeof(*d->agents));
	d->agents[0] = *a;
	d->agents[0].name = keep_word(d, name);
	d->agents[0].programs = a->programs ?: none;
	d->n_agents++;
	return d->agents[0].name ? 0 : -ENOMEM;
}

static int parse_agent(struct directives *d, struct line *l)
{
	struct agent_entry made = {0}, *known;
	char text[WRITER_NAME_SIZE] = "";
	struct setting s;
	struct word name;
	bool said = false;
	int r = next_word(l, &name);

	if (r < 0)
		return r;
	if (r == 0)
		return rules_say_wrong(l->at, "no name after ",
			(struct word){l->s, l->size}, ": write %agent NAME program=…");
	if (name.size < sizeof(text))
		memcpy(text, name.s, name.size);
	if (!writer_name_valid(text))
		return rules_say_wrong(l->at, "not an agent's name: ", name,
			" (letters, digits, ., _ and -, at most 32)");
	known = find_agent(d, name);
	if (known)
		made = *known;
	while ((r = next_setting(l, &s)) > 0) {
		r = apply_agent_setting(d, l->at, &s, &made);
		if (r < 0)
			return r;
		said = true;
	}
	if (r < 0)
		return r;
	if (!known)
		return add_agent(d, l->at, name, &made);
	if (!said)
		return rules_say_wrong(l->at, "nothing is said about ", name,
			": write program=, variable=, helper=, tool= or errno=");
	*known = made;
	return 0;
}

/* ---- %viewer ---- */

/* "cat" or "sed -n". */
static bool is_viewer(struct word w)
{
	const char *blank = memchr(w.s, ' ', w.size);
	const char *option = blank ? blank + 1 : NULL;
	const char *end = w.s + w.size;

	if (!w.size || w.size > DIRECTIVES_MAX_NAME || w.s[0] == ' ' || w.s[0] == '-' ||
		memchr(w.s, '/', w.size) || memchr(w.s, '\t', w.size))
		return false;
	return !option || (end - option > 1 && *option == '-' &&
				  !memchr(option, ' ', (size_t)(end - option)));
}

static int remove_viewer(struct directives *d, const struct place *at, struct word name)
{
	int i = rules_word_find(name, d->viewers, d->n_viewers);

	if (i < 0)
		return rules_say_unknown(at, "viewer", name, d->viewers, d->n_viewers);
	/* the NULL at the end too */
	memmove(d->viewers + i, d->viewers + i + 1,
		(d->n_viewers - (size_t)i) * sizeof(*d->viewers));
	d->n_viewers--;
	return 0;
}

static int change_viewer(struct directives *d, const struct place *at, struct word w)
{
	bool removes = w.size && w.s[0] == '-';
	struct word name = {w.s + removes, w.size - removes};

	if (!is_viewer(name))
		return rules_say_wrong(at, "not a viewer: ", w,
			": write a program's name, or with its first option \"sed -n\"");
	if (removes)
		return remove_viewer(d, at, name);
	if (rules_word_find(name, d->viewers, d->n_viewers) >= 0)
		return 0;
	if (d->n_viewers == d->max_viewers)
		return rules_say_wrong(
			at, "too many viewers (at most 256 new ones): ", w, "");
	d->viewers[d->n_viewers] = keep_word(d, name);
	return d->viewers[d->n_viewers++] ? 0 : -ENOMEM;
}

static int parse_viewers(struct directives *d, struct line *l)
{
	struct word name;
	bool any = false;
	int r;

	while ((r = next_word(l, &name)) > 0) {
		r = change_viewer(d, l->at, name);
		if (r < 0)
			return r;
		any = true;
	}
	if (r == 0 && !any)
		return rules_say_wrong(l->at, "no name after ",
			(struct word){l->s, l->size}, ": write %viewer NAME");
	return r;
}

/* ---- %driver ---- */

enum { DRIVER_COMMAND, DRIVER_TIMEOUT };

static int parse_driver_settings(
	struct directives *d, struct line *l, struct driver_entry *entry)
{
	static const char *const keys[] = {
		[DRIVER_COMMAND] = "command", [DRIVER_TIMEOUT] = "timeout"};
	static const struct rules_span timeout = {
		100 * NS_PER_MS, 5 * NS_PER_MIN, "timeout is 100ms to 5m"};
	struct setting s;
	int key, r;

	while ((r = next_setting(l, &s)) > 0) {
		r = check_setting(l->at, &s, keys, ARRAY_SIZE(keys), &key);
		if (r < 0)
			return r;
		if (s.adds)
			return rules_say_wrong(
				l->at, "nothing to add to: ", s.key, ": write key=value");
		if (key == DRIVER_TIMEOUT) {
			r = rules_word_span(l->at, &timeout, s.value, &entry->timeout_ns);
			if (r < 0)
				return r;
			continue;
		}
		if (s.value.size > DIRECTIVES_MAX_COMMAND)
			return rules_say_wrong(
				l->at, "too long (at most 4096 bytes): ", s.value, "");
		entry->command = keep_word(d, s.value);
		if (!entry->command)
			return -ENOMEM;
	}
	return r;
}

static const struct driver *find_driver(const struct directives *d, struct word name)
{
	for (size_t i = 0; i < d->n_drivers; i++)
		if (rules_word_is(name, d->drivers[i].entry.name))
			return &d->drivers[i];
	return NULL;
}

static int parse_driver(struct directives *d, struct line *l)
{
	struct driver_entry entry = {.timeout_ns = 5 * NS_PER_S};
	const struct driver *known;
	struct word name;
	int r = next_word(l, &name);

	if (r < 0)
		return r;
	if (r == 0)
		return rules_say_wrong(l->at, "no name after ",
			(struct word){l->s, l->size}, ": write %driver NAME command=\"…\"");
	if (!rules_word_is_name(name))
		return rules_say_wrong(l->at, "not a driver's name: ", name,
			" (letters, digits, _, - and ., at most 64)");
	known = find_driver(d, name);
	if (known) {
		auto_buf rest = {0};

		buf_printf(&rest, ": line %u has it already", known->number);
		return rules_say_wrong(l->at, "a second driver ", name, rest.data ?: "");
	}
	if (d->n_drivers == DIRECTIVES_MAX_DRIVERS)
		return rules_say_wrong(l->at, "too many drivers (at most 64): ", name, "");
	r = parse_driver_settings(d, l, &entry);
	if (r < 0)
		return r;
	if (!entry.command)
		return rules_say_wrong(l->at, "no command for the driver ", name,
			": write command=\"…\" after its name");
	entry.name = keep_word(d, name);
	if (!entry.name)
		return -ENOMEM;
	d->drivers[d->n_drivers++] = (struct driver){entry, l->at->number};
	return 0;
}

/* ---- %limit ---- */

static int parse_limit(struct directives *d, struct line *l)
{
	static const char *const keys[] = {"observations"};
	struct setting s;
	int key, r;

	while ((r = next_setting(l, &s)) > 0) {
		uint32_t n = 0;
		size_t i = 0;

		r = check_setting(l->at, &s, keys, ARRAY_SIZE(keys), &key);
		if (r < 0)
			return r;
		for (; i < s.value.size && s.value.s[i] >= '0' && s.value.s[i] <= '9' &&
			n < 10000;
			i++)
			n = n * 10 + (uint32_t)(s.value.s[i] - '0');
		if (i < s.value.size || n < OBSERVE_MIN_ACTORS || n > OBSERVE_MAX_ACTORS)
			return rules_say_wrong(l->at, "not 8 to 4096: ", s.value, "");
		d->observations = (uint16_t)n;
	}
	if (r == 0 && !d->observations)
		return rules_say_wrong(l->at, "nothing limited by ",
			(struct word){l->s, l->size}, ": write %limit observations=N");
	return r;
}

/* ---- the whole ---- */

int directives_parse(
	struct directives *d, const struct place *at, const char *s, size_t size)
{
	static const char *const names[] = {"%agent", "%viewer", "%driver", "%limit"};
	static int (*const parse[])(struct directives *, struct line *) = {
		parse_agent, parse_viewers, parse_driver, parse_limit};
	size_t end = rules_skip_word(s, size, 0);
	int i = rules_word_find((struct word){s, end}, names, ARRAY_SIZE(names));
	auto_free char *space = NULL;
	struct line l = {at, s, size, end, NULL};

	if (memchr(s, '\0', size))
		return rules_say_wrong(at, "a NUL byte in ", (struct word){s, size}, "");
	if (i < 0)
		return rules_say_unknown(
			at, "directive", (struct word){s, end}, names, ARRAY_SIZE(names));
	l.space = space = malloc(size);
	if (!space)
		return -ENOMEM;
	d->count++;
	return parse[i](d, &l);
}

const struct writer_table *directives_writer_table(const struct directives *d)
{
	return &d->table;
}

const struct driver_entry *directives_driver(const struct directives *d, const char *name)
{
	const struct driver *found = find_driver(d, (struct word){name, strlen(name)});

	return found ? &found->entry : NULL;
}

uint16_t directives_observations(const struct directives *d)
{
	return d->observations;
}

unsigned directives_count(const struct directives *d)
{
	return d->count;
}

int directives_no_driver(
	const struct directives *d, const struct place *at, const char *name)
{
	struct word w = {name, strlen(name)};
	const char *names[DIRECTIVES_MAX_DRIVERS];
	size_t n = 0;

	for (; d && n < d->n_drivers; n++)
		names[n] = d->drivers[n].entry.name;
	if (n)
		return rules_say_unknown(at, "driver", w, names, n);
	return rules_say_wrong(
		at, "no driver ", w, ": a line %driver NAME command=\"…\" says what it is");
}
