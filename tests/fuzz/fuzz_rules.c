/*
 * A policy file, a NUL, a path: parse, look up, explain; the index must find what trying
 * line by line finds, each driver must be there, the writer table must hold names alone,
 * and the text in force must parse again, also the file's part of it (P1, P3).
 */
#include <string.h>

#include "policy/rules.h"
#include "policy/rules_internal.h"
#include "policy/writer_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_lookup(const struct rules *r, const char *path, size_t size, bool is_dir)
{
	int64_t expected = 0;
	struct rule rule;

	for (uint32_t i = 0; i < r->n_lines; i++) {
		const struct rule_line *line = &r->lines[i];
		bool matches = pattern_match(&line->pattern, path, size, is_dir);

		assert(matches == rules_match(line->pattern_text, path, size, is_dir));
		if (matches && (line->keys & 1u << KEY_TTL))
			expected = line->values.ttl_ns;
	}
	rules_lookup(r, path, size, is_dir, &rule);
	assert(rule.ttl_ns == expected);
	assert((rule.strategy == STRATEGY_DRIVER) == (rule.driver != NULL));
	assert(!rule.driver || *rules_driver(r, rule.driver)->command);
}

static void check_names(const char *const *names)
{
	for (; names && *names; names++)
		assert(**names && strlen(*names) <= 128);
}

static void check_table(const struct rules *r, const char *word, size_t size)
{
	const struct writer_table *t = rules_writer_table(r);
	auto_free char *args = calloc(1, size + 2);
	struct program p = {.comm = args, .exe = args, .args = args, .args_size = size + 1};
	const struct agent_entry *found = NULL;

	assert(args);
	if (size)
		memcpy(args, word, size);
	for (const struct agent_entry *a = t->agents; a->name; a++) {
		assert(writer_name_valid(a->name) && a->programs);
		assert(a->programs[0] || a->variables);
		check_names(a->programs);
		check_names(a->variables);
		check_names(a->helpers);
		check_names(a->tools);
	}
	check_names(t->viewers);
	(void)writer_table_is_viewer(t, &p);
	assert((writer_table_match(t, &p, &found) == PART_NONE) == !found);
}

/* The file's part of the text in force is the file, but for a newline at its end. */
static void check_text(const struct rules *r)
{
	auto_buf out = {0}, error = {0};
	struct rules *again = NULL;
	const char *file;
	size_t size;
	int result;

	rules_text(r, &out);
	result = rules_parse(&again, out.data, out.len, &error);
	assert(result == 0);
	again = rules_free(again);
	rules_text_file(out.data, out.len, &file, &size);
	assert(size >= r->text_size && size <= r->text_size + 1);
	assert(r->text_size == 0 || memcmp(file, r->text, r->text_size) == 0);
	result = rules_parse(&again, file, size, &error);
	assert(result == 0);
	rules_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	const char *nul = size ? memchr(text, '\0', size) : NULL;
	size_t text_size = nul ? (size_t)(nul - text) : size;
	const char *path = nul ? nul + 1 : "";
	size_t path_size = nul ? size - text_size - 1 : 0;
	auto_buf error = {0}, out = {0};
	struct rules *r = NULL;
	int result = rules_parse(&r, text, text_size, &error);

	if (result < 0) {
		assert(result == -EINVAL && !r);
		assert(strncmp(error.data, "line ", 5) == 0 && !strchr(error.data, '\n'));
		return 0;
	}
	check_lookup(r, path, path_size, false);
	check_lookup(r, path, path_size, true);
	rules_explain(r, path, path_size, false, &out);
	check_table(r, path, path_size);
	check_text(r);
	rules_free(r);
	return 0;
}
