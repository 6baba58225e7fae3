#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/show.h"
#include "cli/table.h"
#include "cli/words.h"
#include "policy/rules.h"

enum { FILE_MAX = 1 << 20 };

/* Places in the tables below. */
enum { OPT_JSON, OPT_FILE };

static const struct option_spec check_options[] = {
	[OPT_JSON] = {"json", 0, NULL, "as JSON (schema stompfs/policy-check/1)", false},
	[OPT_FILE] = {"file", 'f', "F", "by the policy in F, not the one in force", false},
	{0}};

static const struct command_spec check_spec = {
	.name = "policy check",
	.usage = "PATH… [--file F] [--json]",
	.about = "Which rule holds for PATH, key by key, and the line that decided: its "
		 "number\n"
		 "in " RULES_FILE " of the workspace, or among the built-in lines. PATH "
		 "need not\n"
		 "be there; a slash at its end says that it is a folder.",
	.example = "  stomp policy check src/a.c\n"
		   "  stomp policy check --file new-policy src/ docs/a.md   # before it is "
		   "installed",
	.options = check_options,
	.min_args = 1,
	.max_args = -1,
};

static const struct command_spec show_spec = {
	.name = "policy show",
	.usage = "[DIR]",
	.about = "The policy in force: the built-in lines, then those of " RULES_FILE
		 " in the\n"
		 "root of the workspace. The last line that matches decides, key by key.",
	.example = "  stomp policy show",
	.max_args = 1,
};

static const struct command_spec test_spec = {
	.name = "policy test",
	.usage = "FILE",
	.about = "Read FILE (- for the standard input) as a policy, without installing it. "
		 "Exit\n"
		 "code 1 and the first bad line when it is none.",
	.example = "  stomp policy test new-policy && mv new-policy " RULES_FILE,
	.min_args = 1,
	.max_args = 1,
};

static int usage(FILE *f)
{
	fputs("usage: stomp policy check|show|test …\n\n"
	      "  check PATH…   which rule holds for a path, and which line says so\n"
	      "  show          the policy in force\n"
	      "  test FILE     is this a policy? (it is not installed)\n\n"
	      "example\n"
	      "  stomp policy check src/a.c\n\n"
	      "`stomp policy check --help` (and so on) says more; the format is in "
	      "stomp-policy(5).\n",
		f);
	return f == stdout ? STOMP_DONE : STOMP_USAGE;
}

static void rules_done(struct rules **r)
{
	rules_free(*r);
}

#define auto_rules __attribute__((cleanup(rules_done))) struct rules

static int read_file(const char *name, struct buf *out)
{
	bool is_stdin = strcmp(name, "-") == 0;
	auto_close int fd = is_stdin ? dup(0) : open(name, O_RDONLY | O_CLOEXEC);
	char chunk[65536];
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			buf_append(out, chunk, (size_t)n);
		if (out->len > FILE_MAX)
			break; /* the parser says so */
	}
	return buf_failed(out) ? -ENOMEM : 0;
}

/* The file as a policy; STOMP_DONE, or the code to exit with after a message. */
static int parse_file(const char *command, const char *name, struct rules **out)
{
	auto_buf text = {0}, error = {0};
	int r = read_file(name, &text);

	if (r < 0)
		return report_errno(command, name, r);
	r = rules_parse(out, text.data ?: "", text.len, &error);
	if (r == -EINVAL) {
		fprintf(stderr, "stomp %s: %s: %s\n", command, name, error.data ?: "bad");
		return STOMP_NO;
	}
	return r < 0 ? report_errno(command, name, r) : STOMP_DONE;
}

/* What the mount has in force; its own lines are numbered as in the file. */
static int parse_in_force(
	const struct workspace *ws, const char *command, struct rules **out)
{
	auto_buf text = {0}, error = {0};
	const char *file;
	size_t size;
	int r = workspace_read(ws, "policy", &text);

	if (r < 0)
		return report_errno(command, ".stomp/policy", r);
	rules_text_file(text.data ?: "", text.len, &file, &size);
	r = rules_parse(out, file, size, &error);
	if (r == -EINVAL)
		fprintf(stderr,
			"stomp %s: .stomp/policy is not what this version of stomp "
			"understands\n(%s); are stomp and the daemon of one version? "
			"(stomp doctor)\n",
			command, error.data ?: "?");
	else if (r < 0)
		return report_errno(command, ".stomp/policy", r);
	return r < 0 ? STOMP_FAILED : STOMP_DONE;
}

/* The file in the root is another one than what is in force: it has a bad line, or was
 * changed a moment ago. */
static void warn_not_in_force(const struct workspace *ws, const char *command)
{
	auto_buf name = {0}, text = {0}, error = {0};
	auto_rules *rules = NULL;

	buf_printf(&name, "%s/%s", ws->root, RULES_FILE);
	if (buf_failed(&name) || read_file(name.data, &text) < 0)
		return;
	if (rules_parse(&rules, text.data ?: "", text.len, &error) == -EINVAL)
		fprintf(stderr, "stomp %s: note: %s as it is now is not in force: %s\n",
			command, RULES_FILE, error.data ?: "bad");
}

struct check {
	const struct rules *rules;
	const char *source; /* what the lines that are not built in stand in */
	struct text_table table;
	struct buf json;
	size_t n;
};

static void put_reason(const struct rule_reason *reason, void *ctx)
{
	struct check *c = ctx;
	auto_buf line = {0};

	buf_put_name(&line, reason->line, reason->line_size);
	text_table_cell(&c->table, "%s", reason->key);
	text_table_cell(&c->table, "%s", reason->value);
	text_table_cell(&c->table, "%s:%u", reason->builtin ? "built-in" : c->source,
		reason->number);
	text_table_cell(&c->table, "%s", line.data ?: "");
}

static void json_reason(const struct rule_reason *reason, void *ctx)
{
	struct check *c = ctx;
	struct buf *b = &c->json;

	buf_puts(b, c->n++ ? ",{\"key\":" : "{\"key\":");
	buf_put_json_str(b, reason->key);
	buf_puts(b, ",\"value\":");
	buf_put_json_str(b, reason->value);
	buf_puts(b, ",\"file\":");
	buf_put_json_str(b, reason->builtin ? NULL : c->source);
	buf_printf(b, ",\"line\":%u,\"text\":", reason->number);
	buf_put_json(b, reason->line, reason->line_size);
	buf_putc(b, '}');
}

static int print_table(
	struct check *c, const char *relative, bool is_dir, struct output *out)
{
	static const struct text_column columns[] = {{"KEY", false, false, COLOUR_BOLD},
		{"VALUE", false, false, COLOUR_CYAN}, {"LINE", false, false, COLOUR_NONE},
		{"WHAT IT SAYS", false, true, COLOUR_DIM}};
	auto_buf name = {0};
	int r;

	buf_put_name(&name, relative, strlen(relative));
	fprintf(out->f, "%s%s%s%s%s\n", c->n++ ? "\n" : "", output_on(out, COLOUR_BOLD),
		*relative ? name.data ?: "?" : ".", is_dir ? "/" : "",
		output_off(out, COLOUR_BOLD));
	text_table_init(&c->table, columns, ARRAY_SIZE(columns));
	rules_each_reason(c->rules, relative, strlen(relative), is_dir, put_reason, c);
	r = text_table_print(&c->table, out);
	text_table_done(&c->table);
	return r;
}

static void put_json_path(struct check *c, const char *relative, bool is_dir)
{
	buf_puts(&c->json, c->json.len
				   ? ",{\"path\":"
				   : "{\"schema\":\"stompfs/policy-check/1\",\"paths\":["
				     "{\"path\":");
	buf_put_json(&c->json, relative, strlen(relative));
	buf_printf(&c->json, ",\"folder\":%s,\"rules\":[", is_dir ? "true" : "false");
	c->n = 0;
	rules_each_reason(c->rules, relative, strlen(relative), is_dir, json_reason, c);
	buf_puts(&c->json, "]}");
}

/* A link is what its own name says, as the mount sees it. */
static bool is_folder(const char *path)
{
	size_t size = strlen(path);
	struct stat st;

	return (size && path[size - 1] == '/') ||
	       (lstat(path, &st) == 0 && S_ISDIR(st.st_mode));
}

/* Where a file is given there need be no workspace: names are then below this folder. */
static int name_below_here(const char *command, const char *path, char **relative)
{
	auto_free char *here = NULL, *absolute = NULL;
	size_t n;
	int r = path_resolve(".", &here);

	if (r == 0)
		r = path_resolve(path, &absolute);
	if (r < 0)
		return report_errno(command, path, r);
	n = strcmp(here, "/") == 0 ? 0 : strlen(here);
	if (strncmp(absolute, here, n) != 0 || (absolute[n] && absolute[n] != '/')) {
		fprintf(stderr, "stomp %s: %s is outside the current folder\n", command,
			path);
		return STOMP_USAGE;
	}
	*relative = strdup(absolute[n] ? absolute + n + 1 : "");
	return *relative ? STOMP_DONE : report_errno(command, path, -ENOMEM);
}

/* The rules to check by, and the workspace where there is one. */
static int begin_check(const struct options *o, struct workspace *ws, struct rules **rules)
{
	const char *file = o->values[OPT_FILE];
	auto_free char *absolute = NULL;
	int r;

	if (file) {
		r = path_resolve(o->args[0], &absolute);
		if (r < 0)
			return report_errno(check_spec.name, o->args[0], r);
		if (workspace_find(ws, absolute) < 0)
			workspace_close(ws);
		return parse_file(check_spec.name, file, rules);
	}
	r = workspace_enter(ws, check_spec.name, o->args[0], NULL);
	if (r != STOMP_DONE)
		return r;
	warn_not_in_force(ws, check_spec.name);
	return parse_in_force(ws, check_spec.name, rules);
}

static int check(const struct options *o)
{
	auto_workspace ws = {.stomp_fd = -1};
	auto_rules *rules = NULL;
	auto_buf json = {0};
	struct check c = {0};
	struct output out;
	int r = begin_check(o, &ws, &rules), failed = 0;

	if (r != STOMP_DONE)
		return r;
	c.rules = rules;
	c.source = o->values[OPT_FILE] ?: RULES_FILE;
	output_begin(&out, true);
	for (int i = 0; i < o->n_args && r == STOMP_DONE && !failed; i++) {
		const char *path = o->args[i];
		auto_free char *relative = NULL;

		r = ws.root ? workspace_path(&ws, check_spec.name, path, &relative)
			    : name_below_here(check_spec.name, path, &relative);
		if (r != STOMP_DONE)
			break;
		if (o->values[OPT_JSON])
			put_json_path(&c, relative, is_folder(path));
		else
			failed = print_table(&c, relative, is_folder(path), &out);
	}
	json = c.json;
	if (o->values[OPT_JSON] && r == STOMP_DONE)
		fprintf(out.f, "%s]}\n", json.data ?: "");
	if (failed < 0 || buf_failed(&json))
		fputs("(out of memory)\n", out.f);
	return output_end(&out) ?: r;
}

static int show(const struct options *o)
{
	auto_workspace ws = {.stomp_fd = -1};
	int r = workspace_enter(&ws, show_spec.name, o->n_args ? o->args[0] : NULL, NULL);

	if (r != STOMP_DONE)
		return r;
	warn_not_in_force(&ws, show_spec.name);
	return show_file(&ws, show_spec.name, "policy", "");
}

static int test(const struct options *o)
{
	auto_rules *rules = NULL;
	unsigned n_rules, n_directives;
	int r = parse_file(test_spec.name, o->args[0], &rules);

	if (r != STOMP_DONE)
		return r;
	rules_count(rules, &n_rules, &n_directives);
	printf("%s: good: %u rule%s and %u directive%s beside the built-in ones\n",
		o->args[0], n_rules, n_rules == 1 ? "" : "s", n_directives,
		n_directives == 1 ? "" : "s");
	return STOMP_DONE;
}

int cmd_policy(int argc, char **argv)
{
	static const char *const verbs[] = {"check", "show", "test", NULL};
	static const struct command_spec *const specs[] = {
		&check_spec, &show_spec, &test_spec};
	static int (*const run[])(const struct options *) = {check, show, test};
	const char *near;

	if (argc < 2)
		return usage(stderr);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return usage(stdout);
	for (size_t i = 0; verbs[i]; i++) {
		auto_options o = {0};
		int r;

		if (strcmp(argv[1], verbs[i]) != 0)
			continue;
		r = options_parse(specs[i], argc - 1, argv + 1, &o);
		return r == OPTIONS_GO_ON ? run[i](&o) : r;
	}
	near = word_nearest(argv[1], verbs);
	fprintf(stderr, "stomp policy: there is no `%s`", argv[1]);
	if (near)
		fprintf(stderr, "; did you mean `%s`?", near);
	fputc('\n', stderr);
	return usage(stderr);
}
