#include "fs/vtree_ctl.h"

#include <string.h>

#include "base/clock.h"
#include "fs/checker.h"

/* Long enough for any task, short enough that a forgotten lease ends by itself. */
static const int64_t ttl_max_ns = 7 * 24 * 3600 * NS_PER_S;

static const struct {
	const char *name;
	enum ctl_verb verb;
	bool takes_ttl, takes_reason;
} lease_verbs[] = {
	{"acquire", CTL_LEASE_ACQUIRE, true, true},
	{"renew", CTL_LEASE_RENEW, true, false},
	{"release", CTL_LEASE_RELEASE, false, false},
	{"break", CTL_LEASE_BREAK, false, false},
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* Decodes \NNN in place. A NUL cannot be part of any name. */
static int decode(char *word, size_t len, struct buf *why)
{
	size_t out = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned value;

		if (word[i] != '\\') {
			word[out++] = word[i];
			continue;
		}
		if (len - i < 4 || !is_octal(word[i + 1]) || !is_octal(word[i + 2]) ||
			!is_octal(word[i + 3])) {
			buf_puts(why, "a backslash begins three octal digits, as in "
				      "\\040 for a blank; a backslash itself is \\134");
			return -EINVAL;
		}
		value = (unsigned)(word[i + 1] - '0') << 6 |
			(unsigned)(word[i + 2] - '0') << 3 | (unsigned)(word[i + 3] - '0');
		if (value == 0 || value > 255) {
			buf_puts(why, "\\NNN is a byte from \\001 to \\377");
			return -EINVAL;
		}
		word[out++] = (char)value;
		i += 3;
	}
	word[out] = '\0';
	return 0;
}

struct words {
	char *at, *end;
};

/* The next word, decoded; 1, 0 at the end, -EINVAL. */
static int next_word(struct words *w, char **word, struct buf *why)
{
	char *begin;
	int r;

	while (w->at < w->end && is_blank(*w->at))
		w->at++;
	if (w->at == w->end)
		return 0;
	begin = w->at;
	while (w->at < w->end && !is_blank(*w->at))
		w->at++;
	r = decode(begin, (size_t)(w->at - begin), why);
	if (r < 0)
		return r;
	if (w->at < w->end)
		w->at++; /* the blank behind it, where the NUL of the word may be now */
	*word = begin;
	return 1;
}

static int parse_ttl(const char *text, int64_t *ttl_ns, struct buf *why)
{
	static const struct {
		const char *name;
		int64_t ns;
	} units[] = {
		{"ms", NS_PER_MS},
		{"s", NS_PER_S},
		{"m", 60 * NS_PER_S},
		{"h", 3600 * NS_PER_S},
	};
	const char *unit = text;
	int64_t n = 0;

	for (; *unit >= '0' && *unit <= '9' && n <= ttl_max_ns; unit++)
		n = n * 10 + (*unit - '0');
	for (unsigned i = 0; unit > text && i < ARRAY_SIZE(units); i++) {
		if (strcmp(unit, units[i].name) != 0)
			continue;
		if (n == 0 || n > ttl_max_ns / units[i].ns) {
			buf_puts(why, "ttl is from 1ms to 168h");
			return -EINVAL;
		}
		*ttl_ns = n * units[i].ns;
		return 0;
	}
	buf_puts(why, "ttl is a number and a unit (ms, s, m or h), as in ttl=30s");
	return -EINVAL;
}

static bool has_dotdot(const char *path)
{
	for (const char *part = path; part; part = strchr(part, '/')) {
		part += *part == '/';
		if (!strncmp(part, "..", 2) && (!part[2] || part[2] == '/'))
			return true;
	}
	return false;
}

/*
 * Names are relative to the root of the workspace, however they are written: a plain one
 * goes without "./", "/" before and "/" behind it (it stands for what is below it as
 * well); of a pattern, "./" before it is the "/" that ties it to the root.
 */
static char *plain_name(char *path)
{
	bool pattern = strpbrk(path, "*?[") != NULL;
	size_t len;

	while (path[0] == '.' && path[1] == '/')
		path += pattern && path[2] != '.' ? 1 : 2;
	if (pattern)
		return path;
	while (*path == '/')
		path++;
	len = strlen(path);
	while (len && path[len - 1] == '/')
		path[--len] = '\0';
	return path;
}

static int add_path(struct ctl_command *cmd, char *path, struct buf *why)
{
	path = plain_name(path);
	if (!*path || !strcmp(path, ".")) {
		buf_puts(why, "a path is empty; name a file, a folder or a pattern, "
			      "relative to the workspace");
		return -EINVAL;
	}
	if (has_dotdot(path)) {
		buf_puts(why,
			"a path has \"..\" in it; name it relative to the root of the "
			"workspace");
		return -EINVAL;
	}
	if (cmd->n_paths == CTL_WORDS_MAX) {
		buf_printf(why, "more than %d paths in one line", CTL_WORDS_MAX);
		return -E2BIG;
	}
	cmd->paths[cmd->n_paths++] = path;
	return 0;
}

static int parse_lease(struct ctl_command *cmd, struct words *words, struct buf *why)
{
	char *word = NULL;
	unsigned i;
	int r = next_word(words, &word, why);

	if (r < 0)
		return r;
	for (i = 0; r && i < ARRAY_SIZE(lease_verbs); i++)
		if (!strcmp(word, lease_verbs[i].name))
			break;
	if (!r || i == ARRAY_SIZE(lease_verbs)) {
		buf_puts(why, "lease what? acquire, renew, release or break");
		return -EINVAL;
	}
	cmd->verb = lease_verbs[i].verb;
	while ((r = next_word(words, &word, why)) > 0) {
		/* Options come first: a file may well be called ttl=1. */
		if (!cmd->n_paths && lease_verbs[i].takes_ttl && !strncmp(word, "ttl=", 4))
			r = parse_ttl(word + 4, &cmd->ttl_ns, why);
		else if (!cmd->n_paths && lease_verbs[i].takes_reason &&
			 !strncmp(word, "reason=", 7))
			cmd->reason = word + 7;
		else
			r = add_path(cmd, word, why);
		if (r < 0)
			return r;
	}
	if (r == 0 && !cmd->n_paths) {
		buf_printf(
			why, "lease %s what? name at least one path", lease_verbs[i].name);
		return -EINVAL;
	}
	return r;
}

static int no_more(struct words *words, struct buf *why)
{
	char *word;
	int r = next_word(words, &word, why);

	if (r > 0) {
		buf_puts(why, "this command takes nothing more");
		return -EINVAL;
	}
	return r;
}

static int parse_id(const char *word, uint64_t *id, struct buf *why)
{
	uint64_t n = 0;

	for (; *word >= '0' && *word <= '9' && n <= UINT32_MAX; word++)
		n = n * 10 + (uint64_t)(*word - '0');
	if (*word || !n || n > UINT32_MAX) {
		buf_puts(why, "it is known by a number: .stomp/conflicts and .stomp/sets "
			      "list them");
		return -EINVAL;
	}
	*id = n;
	return 0;
}

static int parse_resolve(struct ctl_command *cmd, struct words *words, struct buf *why)
{
	static const char *const ways[] = {"ours", "theirs", "merged", "file"};
	char *id, *how;
	int r;

	cmd->verb = CTL_RESOLVE;
	r = next_word(words, &id, why);
	if (r > 0)
		r = parse_id(id, &cmd->conflict, why);
	else if (r == 0) {
		buf_puts(why, "resolve what? name the number of a conflict");
		r = -EINVAL;
	}
	if (r < 0)
		return r;
	r = next_word(words, &how, why);
	if (r < 0)
		return r;
	for (unsigned i = 0; r && i < ARRAY_SIZE(ways); i++)
		if (!strcmp(how, ways[i]))
			cmd->how = ways[i];
	if (!cmd->how) {
		buf_puts(why, "resolve it how? ours, theirs, merged or file");
		return -EINVAL;
	}
	return no_more(words, why);
}

/* fsck [scrub] [rate=MIB] */
static int parse_fsck(struct ctl_command *cmd, struct words *words, struct buf *why)
{
	char *word = NULL, *end;
	int r;

	cmd->verb = CTL_FSCK;
	while ((r = next_word(words, &word, why)) > 0) {
		if (!strcmp(word, "scrub")) {
			cmd->scrub = true;
			continue;
		}
		if (!strncmp(word, "rate=", 5) && word[5] >= '0' && word[5] <= '9') {
			cmd->rate_mib = strtoull(word + 5, &end, 10);
			if (!*end && cmd->rate_mib <= 1 << 20)
				continue;
		}
		buf_puts(why,
			"fsck takes scrub, and rate=N: MiB a second to read, 0 for as "
			"many as there are");
		return -EINVAL;
	}
	return r;
}

static int parse_gc(struct ctl_command *cmd, struct words *words, struct buf *why)
{
	char *word = NULL;
	int r = next_word(words, &word, why);

	cmd->verb = CTL_GC;
	if (r <= 0)
		return r;
	cmd->dry_run = !strcmp(word, "dry-run");
	if (cmd->dry_run)
		return no_more(words, why);
	buf_puts(why, "gc takes nothing but dry-run");
	return -EINVAL;
}

static int parse_name(struct ctl_command *cmd, struct words *words, struct buf *why)
{
	char *word = NULL;
	int r = next_word(words, &word, why);

	if (r < 0)
		return r;
	if (r && *word != '.' && strlen(word) <= 64 &&
		strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			     "0123456789._-") == strlen(word)) {
		cmd->name = word;
		return 0;
	}
	buf_puts(why, "a pin has a name: letters, digits, _, - and . (not first), at most "
		      "64");
	return -EINVAL;
}

/* pin NAME [at=MOMENT] [PATH…] */
static int parse_pin(struct ctl_command *cmd, struct words *words, struct buf *why)
{
	char *word = NULL;
	int r = parse_name(cmd, words, why);

	cmd->verb = CTL_PIN;
	while (r >= 0 && (r = next_word(words, &word, why)) > 0) {
		if (!cmd->n_paths && !cmd->at && !strncmp(word, "at=", 3)) {
			cmd->at = word + 3;
			continue;
		}
		r = add_path(cmd, word, why);
	}
	return r;
}

static int parse_unpin(struct ctl_command *cmd, struct words *words, struct buf *why)
{
	cmd->verb = CTL_UNPIN;
	return parse_name(cmd, words, why) ?: no_more(words, why);
}

static int parse_moment(struct ctl_command *cmd, struct words *words, struct buf *why)
{
	char *word = NULL;
	int r = next_word(words, &word, why);

	cmd->verb = CTL_MOMENT;
	cmd->at = r > 0 ? word : NULL;
	return r < 0 ? r : no_more(words, why);
}

static int parse_undo_begin(struct ctl_command *cmd, struct words *words, struct buf *why)
{
	char *word;
	int r;

	cmd->verb = CTL_UNDO_BEGIN;
	while ((r = next_word(words, &word, why)) > 0) {
		if (!strncmp(word, "of=", 3)) {
			r = parse_id(word + 3, &cmd->set, why);
			if (r < 0)
				return r;
		} else if (!strncmp(word, "writer=", 7)) {
			cmd->of = word + 7;
		} else {
			cmd->what = word;
			return no_more(words, why);
		}
	}
	if (r == 0)
		buf_puts(why, "undo begin what? a word that tells what is undone");
	return r ?: -EINVAL;
}

static int parse_undo_end(struct ctl_command *cmd, struct words *words, struct buf *why)
{
	char *how;
	int r = next_word(words, &how, why);

	cmd->verb = CTL_UNDO_END;
	if (r < 0)
		return r;
	if (r && !strcmp(how, "done"))
		cmd->how = "done";
	else if (r && !strcmp(how, "back"))
		cmd->how = "back";
	if (!cmd->how) {
		buf_puts(why, "undo end ID how? done or back");
		return -EINVAL;
	}
	return no_more(words, why);
}

static int parse_undo(struct ctl_command *cmd, struct words *words, struct buf *why)
{
	char *verb, *id;
	bool ends;
	int r = next_word(words, &verb, why);

	if (r < 0)
		return r;
	if (r && !strcmp(verb, "begin"))
		return parse_undo_begin(cmd, words, why);
	ends = r && !strcmp(verb, "end");
	if (!r || (!ends && strcmp(verb, "resume") != 0)) {
		buf_puts(why, "undo what? begin, resume or end");
		return -EINVAL;
	}
	r = next_word(words, &id, why);
	if (r == 0) {
		buf_puts(why, "which one? name the number of its change set");
		r = -EINVAL;
	}
	if (r > 0)
		r = parse_id(id, &cmd->set, why);
	if (r < 0)
		return r;
	cmd->verb = CTL_UNDO_RESUME;
	return ends ? parse_undo_end(cmd, words, why) : no_more(words, why);
}

int ctl_parse(struct ctl_command *cmd, const char *line, size_t size, struct buf *why)
{
	struct words words;
	char *word = NULL;
	int r;

	if (size && line[size - 1] == '\n')
		size--;
	if (size > CTL_LINE_MAX) {
		buf_printf(why, "a line has at most %d bytes", CTL_LINE_MAX);
		return -E2BIG;
	}
	if (memchr(line, '\n', size) || memchr(line, '\0', size)) {
		buf_puts(why, "one line at a time, and no NUL in it");
		return -EINVAL;
	}
	memcpy(cmd->text, line, size);
	cmd->text[size] = '\0';
	cmd->ttl_ns = -1;
	cmd->reason = NULL;
	cmd->conflict = 0;
	cmd->how = NULL;
	cmd->scrub = false;
	cmd->rate_mib = CHECKER_RATE_MIB;
	cmd->set = 0;
	cmd->of = cmd->what = NULL;
	cmd->dry_run = false;
	cmd->name = cmd->at = NULL;
	cmd->n_paths = 0;
	words = (struct words){cmd->text, cmd->text + size};
	r = next_word(&words, &word, why);
	if (r < 0)
		return r;
	if (r && !strcmp(word, "lease"))
		return parse_lease(cmd, &words, why);
	if (r && !strcmp(word, "checkpoint")) {
		cmd->verb = CTL_CHECKPOINT;
		return no_more(&words, why);
	}
	if (r && !strcmp(word, "ping")) {
		cmd->verb = CTL_PING;
		return no_more(&words, why);
	}
	if (r && !strcmp(word, "fsck"))
		return parse_fsck(cmd, &words, why);
	if (r && !strcmp(word, "resolve"))
		return parse_resolve(cmd, &words, why);
	if (r && !strcmp(word, "undo"))
		return parse_undo(cmd, &words, why);
	if (r && !strcmp(word, "gc"))
		return parse_gc(cmd, &words, why);
	if (r && !strcmp(word, "moment"))
		return parse_moment(cmd, &words, why);
	if (r && !strcmp(word, "pin"))
		return parse_pin(cmd, &words, why);
	if (r && !strcmp(word, "unpin"))
		return parse_unpin(cmd, &words, why);
	buf_puts(why,
		"the commands are: lease acquire|renew|release|break, resolve, "
		"undo begin|resume|end, checkpoint, moment, fsck, gc, pin, unpin, ping");
	return -EINVAL;
}
