#include "policy/writer_table.h"

#include <stdio.h>
#include <string.h>

enum { ARGS_LOOKED_AT = 16, KERNEL_COMM_LEN = 15 };

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

/*
 * A name with a '/' is a package folder in the path of a script that an interpreter
 * runs. Variables stand in the order in which they are asked for: one with an id first.
 * Forks of an agent stand before it where they set its variables too. EBUSY is for those
 * that are known to print ESTALE as a number and to take EBUSY for an answer; why not for
 * the others is in docs/ERRNO.md (S14).
 */
static const struct agent_entry agents[] = {
	{
		.name = "claude",
		.programs = NAMES("claude", "claude-code", "@anthropic-ai/claude-code"),
		.variables = NAMES("CLAUDE_CODE_SESSION_ID", "CLAUDECODE"),
		.tools = NAMES("rg", "--ripgrep", "ugrep", "bfs"),
	},
	{
		.name = "codex",
		.programs = NAMES("codex", "codex-cli", "codex-exec", "@openai/codex"),
		.variables = NAMES("CODEX_SESSION_ID", "CODEX_THREAD_ID"),
		.helpers = NAMES("apply_patch", "applypatch", "codex-linux-sandbox",
			"--codex-run-as-apply-patch", "codex-execve-wrapper"),
	},
	{
		.name = "qwen",
		.programs = NAMES("qwen", "qwen-code", "@qwen-code/qwen-code"),
		.variables = NAMES("QWEN_CODE_SESSION_ID", "QWEN_CODE"),
		.refusal_errno = EBUSY,
	},
	{
		.name = "gemini",
		.programs = NAMES("gemini", "gemini-cli", "@google/gemini-cli"),
		.variables = NAMES("GEMINI_CLI"),
		.refusal_errno = EBUSY,
	},
	{
		.name = "opencode",
		.programs = NAMES("opencode", "opencode-ai", "sst/opencode"),
		.variables = NAMES("OPENCODE_PID", "OPENCODE"),
	},
	{
		.name = "cline",
		.programs = NAMES("cline", "cline-core", "node_modules/cline"),
		.variables = NAMES("CLINE_ACTIVE"),
	},
	{
		.name = "pi",
		.programs = NAMES("pi", "pi-coding-agent", "@mariozechner/pi-coding-agent"),
		.variables = NAMES("PI_CODING_AGENT"),
		.refusal_errno = EBUSY,
	},
	{.name = "aider", .programs = NAMES("aider", "aider-chat")},
	{.name = "goose", .programs = NAMES("goose", "goosed")},
	{.name = "amp", .programs = NAMES("amp", "@sourcegraph/amp")},
	{
		.name = "cursor-agent",
		.programs = NAMES("cursor-agent"),
		.variables = NAMES("CURSOR_AGENT"),
	},
	{.name = "copilot", .programs = NAMES("copilot", "@github/copilot")},
	{.name = "crush", .programs = NAMES("crush", "@charmland/crush")},
	{.name = "openhands", .programs = NAMES("openhands")},
	{.name = "auggie", .programs = NAMES("auggie", "@augmentcode/auggie")},
	{.name = "droid", .programs = NAMES("droid")},
	{.name = "kimi", .programs = NAMES("kimi", "kimi-cli")},
	{
		.name = "mcp-server-filesystem",
		.programs = NAMES(
			"mcp-server-filesystem", "@modelcontextprotocol/server-filesystem"),
		.refusal_errno = EBUSY,
		.is_server = true,
	},
	{.name = NULL},
};

/*
 * Programs that print a file from some line on, for a reader. grep is none of them: it
 * shows single lines, and a recursive one opens the whole tree, which would let a mind
 * pass for one that has seen every file. awk is a program, like any script.
 */
static const char *const viewers[] = {"cat", "head", "tail", "less", "more", "bat",
	"batcat", "nl", "tac", "view", "sed -n", NULL};

const struct writer_table *writer_table_builtin(void)
{
	static const struct writer_table table = {.agents = agents, .viewers = viewers};

	return &table;
}

static bool listed(const char *const *names, const char *name)
{
	for (; names && *names; names++)
		if (strcmp(*names, name) == 0)
			return true;
	return false;
}

static bool starts_with(const char *s, const char *head)
{
	return strncmp(s, head, strlen(head)) == 0;
}

const char *program_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static const char *args_first(const struct program *p)
{
	return p->args_size ? p->args : NULL;
}

static const char *args_next(const struct program *p, const char *arg)
{
	const char *end = p->args + p->args_size;

	arg += strlen(arg) + 1;
	return arg < end ? arg : NULL;
}

struct base_name {
	char text[64];
};

/* "/usr/bin/claude.js" → "claude", "-bash" → "bash", "claude --x" (a process title) →
 * "claude". */
static struct base_name plain_name(const char *path)
{
	static const char *const endings[] = {".js", ".mjs", ".cjs", ".py", ".exe"};
	const char *base = program_base(path);
	struct base_name name;
	size_t len;

	if (*base == '-')
		base++;
	len = strcspn(base, " ");
	if (len >= sizeof(name.text))
		len = sizeof(name.text) - 1;
	memcpy(name.text, base, len);
	name.text[len] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
		size_t tail = strlen(endings[i]);

		if (len > tail && strcmp(name.text + len - tail, endings[i]) == 0) {
			name.text[len - tail] = '\0';
			break;
		}
	}
	return name;
}

static bool is_shell(const char *name)
{
	return listed(NAMES("sh", "bash", "dash", "zsh", "ksh", "fish", "ash"), name);
}

static bool is_interpreter(const char *name)
{
	return starts_with(name, "python") || starts_with(name, "pypy") ||
	       listed(NAMES("node", "nodejs", "bun", "bunx", "deno", "npx", "npm", "pnpm",
			      "yarn", "tsx", "uv", "uvx", "pipx", "ruby", "perl"),
		       name);
}

/* Words between an interpreter and what it runs: `npm exec X`, `uv run X`. */
static bool is_subcommand(const char *arg)
{
	return listed(NAMES("run", "exec", "x", "dlx", "tool"), arg);
}

/* The argument is no program but its text: `sh -c TEXT`, `node -e TEXT`. */
static bool takes_text(const char *option)
{
	if (option[1] == '-')
		return listed(NAMES("--eval", "--print"), option);
	return strpbrk(option, "ce") && strlen(option) <= 4;
}

static bool takes_value(const char *option)
{
	return listed(NAMES("-r", "--require", "--import", "--loader", "-C", "--conditions",
			      "--experimental-loader", "--env-file", "-W", "-X", "-o", "-p",
			      "--package", "--from", "--with"),
		option);
}

/* What an interpreter (or a shell) runs: the path of the script, or NULL. */
static const char *script_of(const struct program *p)
{
	const char *arg = args_first(p);
	bool after_interpreter = false;

	for (int i = 0; arg && i < ARGS_LOOKED_AT; i++, arg = args_next(p, arg)) {
		struct base_name name = plain_name(arg);

		if (arg[0] == '-' && arg[1] && i > 0) {
			if (strcmp(arg, "-m") == 0)
				return args_next(p, arg); /* python -m aider */
			if (takes_text(arg))
				return NULL;
			if (takes_value(arg))
				arg = args_next(p, arg);
			if (!arg)
				return NULL;
			continue;
		}
		if (is_interpreter(name.text) || (i == 0 && is_shell(name.text))) {
			after_interpreter = true;
			continue;
		}
		if (!after_interpreter)
			return NULL; /* an ordinary program, and this its argument */
		if (!is_subcommand(arg))
			return arg;
	}
	return NULL;
}

/* path has the package folder: whole components, the last perhaps with "@version". */
static bool has_package(const char *path, const char *package)
{
	size_t len = strlen(package);

	for (const char *at = strstr(path, package); at; at = strstr(at + 1, package)) {
		bool begins = at == path || at[-1] == '/';

		if (begins && (at[len] == '\0' || at[len] == '/' || at[len] == '@'))
			return true;
	}
	return false;
}

static bool names_script(const char *const *programs, const char *script)
{
	struct base_name name = plain_name(script);

	if (listed(programs, name.text))
		return true;
	for (; programs && *programs; programs++)
		if (strchr(*programs, '/') && has_package(script, *programs))
			return true;
	return false;
}

/* The kernel cuts comm after 15 bytes. */
static bool names_comm(const char *const *programs, const char *comm)
{
	bool cut = strlen(comm) == KERNEL_COMM_LEN;

	for (; *programs; programs++)
		if (cut ? strncmp(*programs, comm, KERNEL_COMM_LEN) == 0
			: strcmp(*programs, comm) == 0)
			return true;
	return false;
}

static enum agent_part match_entry(const struct agent_entry *a, const struct program *p,
	const char *argv0, const char *argv1, const char *script)
{
	struct base_name name = plain_name(argv0 ?: "");
	struct base_name exe = plain_name(p->exe);
	bool named = argv0 && listed(a->programs, name.text);
	bool by_file = listed(a->programs, exe.text) || names_comm(a->programs, p->comm);

	if (!named && script)
		named = names_script(a->programs, script);
	if (!named && !by_file)
		return PART_NONE;
	if (listed(a->helpers, name.text) || (argv1 && listed(a->helpers, argv1)))
		return PART_HELPER;
	if (listed(a->tools, name.text) || (argv1 && listed(a->tools, argv1)))
		return PART_TOOL;
	/* The file says agent, argv[0] another program: one executable with many faces.
	 * A script's interpreter says nothing, nor does an argv[0] that cannot be read. */
	if (named || !argv0 || is_interpreter(name.text) || is_shell(name.text))
		return PART_INSTANCE;
	return PART_TOOL;
}

enum agent_part writer_table_match(const struct writer_table *table,
	const struct program *p, const struct agent_entry **agent)
{
	const char *argv0 = args_first(p);
	const char *argv1 = argv0 ? args_next(p, argv0) : NULL;
	const char *script = script_of(p);

	for (const struct agent_entry *a = table->agents; a->name; a++) {
		enum agent_part part = match_entry(a, p, argv0, argv1, script);

		if (part != PART_NONE) {
			*agent = a;
			return part;
		}
	}
	return PART_NONE;
}

/* Does a cluster such as "-nE" have the letter? Where a letter takes the rest as its
 * value (sed's -e, -f, -l) the cluster ends. */
static bool cluster_has(const char *arg, char letter)
{
	if (arg[0] != '-' || arg[1] == '-')
		return false;
	for (const char *c = arg + 1; *c; c++) {
		if (*c == letter)
			return true;
		if (strchr("efl", *c))
			return false;
	}
	return false;
}

static bool has_option(const struct program *p, const char *option, bool is_sed)
{
	const char *arg = args_first(p);
	bool found = false;

	for (int i = 0; arg && i < ARGS_LOOKED_AT; i++, arg = args_next(p, arg)) {
		if (i == 0)
			continue;
		if (strcmp(arg, "--") == 0)
			break;
		if (is_sed && (cluster_has(arg, 'i') || starts_with(arg, "--in-place")))
			return false; /* it edits, and shows nothing */
		if (strcmp(arg, option) == 0 ||
			(strlen(option) == 2 && cluster_has(arg, option[1])))
			found = true;
		if (is_sed && listed(NAMES("--quiet", "--silent"), arg))
			found = true;
	}
	return found;
}

bool writer_table_is_viewer(const struct writer_table *table, const struct program *p)
{
	struct base_name argv0 = plain_name(args_first(p) ?: "");

	for (const char *const *v = table->viewers; *v; v++) {
		size_t len = strcspn(*v, " ");
		bool is_it =
			(strlen(p->comm) == len && strncmp(*v, p->comm, len) == 0) ||
			(strlen(argv0.text) == len && strncmp(*v, argv0.text, len) == 0);

		if (!is_it)
			continue;
		if ((*v)[len] == '\0' ||
			has_option(p, *v + len + 1, strncmp(*v, "sed ", 4) == 0))
			return true;
	}
	return false;
}

bool writer_name_valid(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len >= WRITER_NAME_SIZE || name[0] == '-')
		return false;
	for (const char *c = name; *c; c++)
		if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
			    (*c >= '0' && *c <= '9') || strchr("._-", *c)))
			return false;
	/* Names with a meaning of their own: W5, the daemon, and folders. */
	return !listed(NAMES("unknown", "stompfs", ".", ".."), name);
}

bool program_is_launcher(
	const struct program *p, char name[WRITER_NAME_SIZE], pid_t *command)
{
	const char *arg = args_first(p);
	int pid = 0;

	/* The launcher appends the pid of what it started to its comm: "stomp:4312". */
	if (strcmp(p->comm, "stomp") != 0 && sscanf(p->comm, "stomp:%d", &pid) != 1)
		return false;
	if (arg)
		arg = args_next(p, arg);
	if (!arg || strcmp(arg, "run") != 0)
		return false;
	arg = args_next(p, arg);
	if (arg && strcmp(arg, "--") == 0)
		arg = args_next(p, arg);
	if (!arg || !writer_name_valid(arg))
		return false;
	strcpy(name, arg); /* writer_name_valid() bounds it */
	*command = pid;
	return true;
}

bool program_is_reaper(const char *comm)
{
	return listed(NAMES("systemd", "init", "tini", "dumb-init", "docker-init",
			      "conmon"),
		       comm) ||
	       starts_with(comm, "containerd-shim");
}
