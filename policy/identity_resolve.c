#include <stdio.h>
#include <string.h>

#include "policy/identity_private.h"

/* More levels than any tree of processes has that a person would look at. */
enum { LEVELS_MAX = 128, TRIES = 4 };

static const char own_variable[] = "STOMP_AGENT";

/* One process on the way up; level 0 is the caller's own. */
struct level {
	struct proc_stat st;
	char run_name[WRITER_NAME_SIZE]; /* "" unless it is a launcher */
	pid_t run_command;		 /* what it launched, as it sees it; 0: unknown */
	enum agent_part part;
	const struct agent_entry *agent;
};

struct lineage {
	const struct resolver *r;
	struct level levels[LEVELS_MAX];
	uint32_t n;
	struct resolution *out;
};

static void describe_command(const struct program *p, char command[201])
{
	size_t len = 0, size = p->args_size;

	while (size && p->args[size - 1] == '\0')
		size--;
	if (size == 0) {
		snprintf(command, 201, "[%s]", p->comm);
		size = strlen(command);
		for (size_t i = 0; i < size; i++)
			if ((unsigned char)command[i] < ' ' || command[i] == 0x7f)
				command[i] = '?';
		return;
	}
	for (; len < size && len < 200; len++) {
		unsigned char c = (unsigned char)p->args[len];

		command[len] = c < ' ' || c == 0x7f ? ' ' : (char)c;
	}
	if (len < size) /* do not cut a UTF-8 character in two */
		while (len > 0 && ((unsigned char)p->args[len] & 0xc0) == 0x80)
			len--;
	command[len] = '\0';
}

/* Fill a level whose st is there already. What cannot be read counts as not there. */
static void read_program(const struct resolver *r, struct level *l, struct resolution *self)
{
	char exe[PROC_PATH_SIZE], args[PROC_CMDLINE_SIZE];
	struct program p = {.comm = l->st.comm, .exe = exe, .args = args};

	if (proc_read(r->proc_fd, l->st.pid, "cmdline", args, sizeof(args), &p.args_size) <
		0)
		p.args_size = 0;
	if (!program_is_launcher(&p, l->run_name, &l->run_command))
		l->run_name[0] = '\0';
	proc_read_exe(r->proc_fd, l->st.pid, exe);
	l->part = writer_table_match(r->table, &p, &l->agent);
	if (self) {
		self->is_viewer = writer_table_is_viewer(r->table, &p);
		describe_command(&p, self->command);
	}
}

enum step { STEP_UP, STEP_TOP, STEP_LOST };

/* Read the parent of child. It may die while we look: then child has a new one (its
 * reaper), or its pid belongs to somebody younger than child, who is no parent. */
static enum step read_parent(
	const struct resolver *r, struct level *child, struct level *up)
{
	for (int i = 0; i < TRIES; i++) {
		struct proc_stat again;

		if (child->st.ppid <= 0)
			return STEP_TOP;
		if (proc_read_stat(r->proc_fd, child->st.ppid, &up->st) == 0 &&
			up->st.start_ticks <= child->st.start_ticks) {
			read_program(r, up, NULL);
			return STEP_UP;
		}
		if (proc_read_stat(r->proc_fd, child->st.pid, &again) < 0 ||
			again.start_ticks != child->st.start_ticks)
			return STEP_LOST;
		child->st.ppid = again.ppid;
	}
	return STEP_LOST;
}

/* From the caller upward, as far as the rules may need it. -ESRCH: not even the caller. */
static int walk(struct lineage *l, pid_t pid)
{
	const struct resolver *r = l->r;

	for (int i = 0; i < TRIES; i++) {
		enum step step = STEP_UP;

		l->n = 0;
		if (proc_read_stat(r->proc_fd, pid, &l->levels[0].st) < 0)
			return -ESRCH;
		read_program(r, &l->levels[0], l->out);
		l->n = 1;
		while (step == STEP_UP && l->n < LEVELS_MAX) {
			struct level *child = &l->levels[l->n - 1];

			if (child->run_name[0]) /* b comes first: nothing above matters */
				break;
			step = read_parent(r, child, &l->levels[l->n]);
			if (step == STEP_UP)
				l->n++;
		}
		if (step != STEP_LOST)
			break;
	}
	return 0; /* lost each time: go on with what was found */
}

static uid_t real_uid(const struct lineage *l, pid_t pid)
{
	struct proc_status s;

	return proc_read_status(l->r->proc_fd, pid, &s) < 0 ? (uid_t)-1 : s.uid;
}

static struct writer_claim claim(
	const struct lineage *l, enum writer_rule rule, const struct proc_stat *giver)
{
	return (struct writer_claim){
		.rule = rule,
		.pid = giver->pid,
		.start_ticks = giver->start_ticks,
		.uid = real_uid(l, giver->pid),
	};
}

static void set_root(struct resolution *out, const struct proc_stat *root)
{
	out->root_pid = root->pid;
	out->root_start_ns = proc_ticks_ns(root->start_ticks);
}

static void answer(
	struct lineage *l, struct writer *w, enum writer_rule rule, uint32_t level)
{
	struct resolution *out = l->out;

	out->writer = w;
	out->rule = rule;
	out->giver = l->levels[level].st.pid;
	if (rule != WRITER_VARIABLE) /* who is known by one may have outlived its tree */
		set_root(out, &l->levels[level].st);
	memcpy(out->giver_comm, l->levels[level].st.comm, sizeof(out->giver_comm));
	out->by_self = level == 0;
}

static bool counts_as_mind(const struct level *l)
{
	return l->part == PART_INSTANCE || l->part == PART_HELPER;
}

/* Is level 0 what the launcher above it started, or an orphan that it took in? */
static bool is_run_command(const struct lineage *l, const struct level *launcher)
{
	struct proc_status s;

	if (!launcher->run_command)
		return true;
	if (proc_read_status(l->r->proc_fd, l->levels[0].st.pid, &s) < 0)
		return false;
	for (uint32_t i = 0; i < s.n_ns_pids; i++) /* the launcher's own view is one */
		if (s.ns_pids[i] == launcher->run_command)
			return true;
	return s.n_ns_pids == 0 && s.tgid == launcher->run_command;
}

/* Which level's agent the caller belongs to: the nearest one; from a part of an agent,
 * or a server, on to the instance it works for. */
static bool nearest_agent(const struct lineage *l, uint32_t *level)
{
	const struct level *near;
	uint32_t i = 0;

	while (i < l->n && l->levels[i].part == PART_NONE)
		i++;
	if (i == l->n)
		return false;
	near = &l->levels[i];
	*level = i;
	if (near->part == PART_INSTANCE && !near->agent->is_server)
		return true;
	for (i++; i < l->n; i++) {
		const struct level *up = &l->levels[i];

		if (up->part != PART_INSTANCE || up->agent->is_server)
			continue;
		if (near->agent->is_server || up->agent == near->agent) {
			*level = i;
			break;
		}
	}
	return true;
}

/* S14: under a launcher, too, refusals read as the agent there can print them. Which writer
 * it is says nothing about that; the agent nearest to the caller does. */
static void use_agent_errno(struct lineage *l, struct writer *w)
{
	uint32_t level;

	if (nearest_agent(l, &level))
		writers_set_errno(l->r->writers, w, l->levels[level].agent->refusal_errno);
}

/* W1b: the nearest launcher, so that of two the inner one wins. */
static bool match_run(struct lineage *l)
{
	struct level *top = &l->levels[l->n - 1];
	struct level above = {0};
	struct writer_claim c;

	if (!top->run_name[0])
		return false;
	if (read_parent(l->r, top, &above) != STEP_UP || !above.run_name[0])
		above.st.pid = 0;
	c = claim(l, WRITER_RUN, &top->st);
	c.name = top->run_name;
	answer(l, writers_of_run(l->r->writers, &c, &above.st), WRITER_RUN, l->n - 1);
	use_agent_errno(l, l->out->writer);
	l->out->is_mind =
		counts_as_mind(&l->levels[0]) || (l->n == 2 && is_run_command(l, top));
	return true;
}

/* "…/stomp-NAME-PID/…" in one line of /proc/PID/cgroup; the innermost one. */
static bool parse_cgroup(const char *text, char name[WRITER_NAME_SIZE], pid_t *launcher)
{
	static const char mark[] = "/stomp-";
	bool found = false;

	for (const char *at = strstr(text, mark); at; at = strstr(at + 1, mark)) {
		const char *from = at + sizeof(mark) - 1;
		size_t len = strcspn(from, "/\n");
		char part[64], *dash, *end;
		long pid;

		if (len >= sizeof(part))
			continue;
		memcpy(part, from, len);
		part[len] = '\0';
		dash = strrchr(part, '-');
		if (!dash || dash[1] < '1' || dash[1] > '9')
			continue;
		*dash = '\0';
		errno = 0;
		pid = strtol(dash + 1, &end, 10);
		if (errno || *end || pid > INT32_MAX || !writer_name_valid(part))
			continue;
		strcpy(name, part);
		*launcher = (pid_t)pid;
		found = true;
	}
	return found;
}

/* W1b, W2: the tree's own cgroup holds also who no longer has the launcher above it. */
static bool match_run_cgroup(struct lineage *l)
{
	char text[4096], name[WRITER_NAME_SIZE];
	struct proc_stat none = {0};
	struct level launcher = {0};
	struct writer_claim c;
	pid_t pid;
	size_t len;

	if (proc_read(l->r->proc_fd, l->levels[0].st.pid, "cgroup", text, sizeof(text),
		    &len) < 0 ||
		!parse_cgroup(text, name, &pid))
		return false;
	c = claim(l, WRITER_RUN, &l->levels[0].st);
	c.name = name;
	if (proc_read_stat(l->r->proc_fd, pid, &launcher.st) == 0) {
		read_program(l->r, &launcher, NULL);
		if (strcmp(launcher.run_name, name) == 0) {
			c = claim(l, WRITER_RUN, &launcher.st);
			c.name = name;
			answer(l, writers_of_run(l->r->writers, &c, &none), WRITER_RUN, 0);
			use_agent_errno(l, l->out->writer);
			l->out->giver = pid;
			set_root(l->out, &launcher.st);
			l->out->by_self = false;
			l->out->is_mind = counts_as_mind(&l->levels[0]);
			return true;
		}
	}
	/* The launcher was killed; whom it launched are still the writer of that name. */
	answer(l, writers_of_name(l->r->writers, &c), WRITER_RUN, 0);
	l->out->root_pid = 0;
	l->out->root_start_ns = 0;
	use_agent_errno(l, l->out->writer);
	l->out->by_self = false;
	l->out->is_mind = counts_as_mind(&l->levels[0]);
	return true;
}

static char *read_environ(const struct lineage *l, pid_t pid, char *space, size_t *len)
{
	if (proc_read(l->r->proc_fd, pid, "environ", space, PROC_ENVIRON_SIZE, len) < 0)
		return NULL;
	return space;
}

static const char *environ_get(const char *env, size_t len, const char *name)
{
	size_t name_len = strlen(name);

	for (const char *at = env; at < env + len; at += strlen(at) + 1)
		if (strncmp(at, name, name_len) == 0 && at[name_len] == '=' &&
			at[name_len + 1])
			return at + name_len + 1;
	return NULL;
}

/* Remember the id that the agent gave its children: those that outlive it are its own
 * (W1d). Not from its mind: an agent started by an agent has the outer one's id. */
static void learn_variables(
	struct lineage *l, struct writer *w, const struct agent_entry *a)
{
	auto_free char *space = NULL;
	pid_t pid = l->levels[0].st.pid;
	size_t len;

	if (l->levels[0].part != PART_NONE || !a->variables)
		return;
	space = malloc(PROC_ENVIRON_SIZE);
	if (!space || !read_environ(l, pid, space, &len))
		return;
	for (const char *const *v = a->variables; *v; v++) {
		const char *value = environ_get(space, len, *v);

		if (value && !variable_is_flag(value))
			writers_alias(l->r->writers, w, real_uid(l, pid), *v, value);
	}
}

/* W1c */
static bool match_agent(struct lineage *l)
{
	const struct agent_entry *a;
	struct writer_claim c;
	struct writer *w;
	char name[64];
	uint32_t top;

	if (!nearest_agent(l, &top))
		return false;
	a = l->levels[top].agent;
	while (top + 1 < l->n && l->levels[top + 1].part != PART_NONE &&
		l->levels[top + 1].agent == a)
		top++;
	c = claim(l, WRITER_AGENT, &l->levels[top].st);
	snprintf(name, sizeof(name), "%.40s-%d", a->name, (int)c.pid);
	c.name = name;
	c.refusal_errno = a->refusal_errno;
	w = writers_of_process(l->r->writers, &c);
	writers_set_errno(l->r->writers, w, a->refusal_errno);
	answer(l, w, WRITER_AGENT, top);
	l->out->by_self = l->levels[0].part != PART_NONE;
	l->out->is_mind = counts_as_mind(&l->levels[0]);
	learn_variables(l, w, a);
	return true;
}

struct variable {
	uint32_t level;			 /* the nearest that has it */
	uint32_t top;			 /* last of the unbroken run that has it */
	const struct agent_entry *agent; /* NULL: our own */
	const char *name;
	char value[256];
};

static void copy_value(struct variable *v, const char *value)
{
	size_t len = strlen(value);

	if (len >= sizeof(v->value))
		len = sizeof(v->value) - 1;
	memcpy(v->value, value, len);
	v->value[len] = '\0';
}

static void look_for_agents(const struct lineage *l, uint32_t level, const char *env,
	size_t len, struct variable *v)
{
	for (const struct agent_entry *a = l->r->table->agents; a->name; a++) {
		for (const char *const *name = a->variables; name && *name; name++) {
			const char *value = environ_get(env, len, *name);

			if (!value)
				continue;
			*v = (struct variable){level, level, a, *name, {0}};
			copy_value(v, value);
			return;
		}
	}
}

/* STOMP_AGENT wherever it is nearest; else the nearest known one. */
static bool find_variable(const struct lineage *l, struct variable *out)
{
	auto_free char *space = malloc(PROC_ENVIRON_SIZE);
	struct variable own = {0}, known = {0};

	for (uint32_t i = 0; space && i < l->n; i++) {
		size_t len = 0;
		const char *env = read_environ(l, l->levels[i].st.pid, space, &len);
		const char *value = env ? environ_get(env, len, own_variable) : NULL;

		if (!own.name && value) {
			own = (struct variable){i, i, NULL, own_variable, {0}};
			copy_value(&own, value);
		} else if (own.name) {
			if (!value || strncmp(value, own.value, sizeof(own.value) - 1) != 0)
				break;
			own.top = i;
		}
		if (env && !own.name && !known.name)
			look_for_agents(l, i, env, len, &known);
	}
	*out = own.name ? own : known;
	return out->name != NULL;
}

/* W1d */
static bool match_variable(struct lineage *l)
{
	struct variable v;
	struct writer_claim c;
	struct writer *w;

	if (!find_variable(l, &v))
		return false;
	c = claim(l, WRITER_VARIABLE, &l->levels[v.level].st);
	if (!v.agent) {
		c.name = v.value;
		w = writers_of_name(l->r->writers, &c);
	} else {
		c.name = v.agent->name;
		c.refusal_errno = v.agent->refusal_errno;
		w = writers_of_variable(l->r->writers, &c, v.name, v.value);
		writers_set_errno(l->r->writers, w, v.agent->refusal_errno);
	}
	answer(l, w, WRITER_VARIABLE, v.level);
	/* Who sets STOMP_AGENT for a program says that it is the agent; what has only
	 * inherited a variable is a child of one. */
	l->out->is_mind = !v.agent && v.top == 0;
	return true;
}

static void name_by_comm(char name[64], const struct proc_stat *st)
{
	snprintf(name, 64, "%s-%d", st->comm[0] ? st->comm : "process", (int)st->pid);
}

static void answer_process(struct lineage *l, enum writer_rule rule, uint32_t level)
{
	struct writer_claim c = claim(l, rule, &l->levels[level].st);
	char name[64];

	name_by_comm(name, &l->levels[level].st);
	c.name = name;
	answer(l, writers_of_process(l->r->writers, &c), rule, level);
	l->out->is_mind = level == 0;
}

/* W1e */
static bool match_terminal(struct lineage *l)
{
	for (uint32_t i = 0; i < l->n; i++) {
		const struct proc_stat *st = &l->levels[i].st;

		if (st->session == st->pid && st->tty_nr != 0) {
			answer_process(l, WRITER_TERMINAL, i);
			return true;
		}
	}
	return false;
}

static bool adopts_orphans(const struct lineage *l, const struct proc_stat *st)
{
	struct proc_status s;

	if (st->pid == 1 || program_is_reaper(st->comm))
		return true;
	return proc_read_status(l->r->proc_fd, st->pid, &s) == 0 && proc_status_is_init(&s);
}

/* W1f */
static void match_ancestor(struct lineage *l)
{
	uint32_t top = 0;

	while (top + 1 < l->n && !adopts_orphans(l, &l->levels[top + 1].st))
		top++;
	answer_process(l, WRITER_ANCESTOR, top);
}

int resolver_run(const struct resolver *r, pid_t pid, struct resolution *out)
{
	struct lineage l = {.r = r, .out = out};
	int err;

	*out = (struct resolution){0};
	err = walk(&l, pid);
	if (err < 0)
		return err;
	out->self = l.levels[0].st;
	out->is_agent = counts_as_mind(&l.levels[0]);
	if (!match_run(&l) && !match_run_cgroup(&l) && !match_agent(&l) &&
		!match_variable(&l) && !match_terminal(&l))
		match_ancestor(&l);
	if (writers_bound(r->writers)) { /* W1a; the rest still tells who is its mind */
		out->writer = writers_bound(r->writers);
		out->rule = WRITER_MOUNT;
		out->by_self = true;
	}
	return 0;
}
