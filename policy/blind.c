#include "policy/blind.h"

#include <string.h>

/* git's commands that put older content in place; apply, merge and stash pop carry what
 * they have read, but `git stash` alone wipes: told apart by the word after it. */
static const char *const wiping[] = {"checkout", "reset", "restore", "switch", "clean"};

/* The next word of a command line; *len 0 at its end. */
static const char *next_word(const char *at, size_t *len)
{
	at += strspn(at, " ");
	*len = strcspn(at, " ");
	return at;
}

static bool word_is(const char *at, size_t len, const char *word)
{
	return strlen(word) == len && memcmp(at, word, len) == 0;
}

/* git [-C DIR] [-c NAME=VALUE] [--option]… COMMAND … */
static bool git_wipes(const char *command)
{
	size_t len;
	const char *at = next_word(command, &len);

	at = next_word(at + len, &len);
	while (len && at[0] == '-') {
		if (word_is(at, len, "-C") || word_is(at, len, "-c"))
			at = next_word(at + len, &len); /* its value */
		at = next_word(at + len, &len);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wiping); i++)
		if (word_is(at, len, wiping[i]))
			return true;
	if (!word_is(at, len, "stash"))
		return false;
	at = next_word(at + len, &len);
	return len == 0 || at[0] == '-' || word_is(at, len, "push") ||
	       word_is(at, len, "save");
}

bool process_reads_blindly(const struct process *p)
{
	if (strcmp(p->comm, "rsync") == 0)
		return true;
	return strcmp(p->comm, "git") == 0 && p->command && git_wipes(p->command);
}
