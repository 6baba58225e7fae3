#include "cli/export_git.h"

#include <fcntl.h>
#include <git2.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "cli/cli.h"

struct export_git {
	struct export_stream stream;
	const char *command, *path;
	git_repository *repository;
	git_tree *tree; /* of the parent; NULL: there is none */
	char parent[GIT_OID_HEXSZ + 1];
	struct buf ref;
	FILE *to; /* git's standard input */
	pid_t pid;
};

static int fail(const struct export_git *g)
{
	const git_error *e = git_error_last();

	fprintf(stderr, "stomp %s: %s: %s\n", g->command, g->path,
		e ? e->message : "not usable as a git repository");
	return STOMP_FAILED;
}

/* ---- what is there ---- */

static bool has(struct export_sink *sink, const struct export_change *c)
{
	struct export_stream *s = container_of(sink, struct export_stream, sink);
	const struct export_git *g = container_of(s, struct export_git, stream);
	git_tree_entry *entry = NULL;
	bool same = false;
	git_oid id;

	if (!g->tree || git_tree_entry_bypath(&entry, g->tree, c->path) != 0)
		return !c->is.mode;
	if (c->is.mode && (unsigned)git_tree_entry_filemode(entry) == c->is.mode &&
		git_odb_hash(
			&id, c->content->data ?: "", c->content->len, GIT_OBJECT_BLOB) == 0)
		same = git_oid_equal(&id, git_tree_entry_id(entry));
	/* A folder is none of the files that are told of; what is below it may be. */
	if (!c->is.mode && git_tree_entry_type(entry) == GIT_OBJECT_TREE)
		same = true;
	git_tree_entry_free(entry);
	return same;
}

static int find_parent(struct export_git *g)
{
	git_object *commit = NULL;
	int r = git_revparse_single(&commit, g->repository, g->ref.data);

	if (r != 0)
		r = git_revparse_single(&commit, g->repository, "HEAD^{commit}");
	if (r != 0)
		return STOMP_DONE; /* it begins from nothing */
	git_oid_tostr(g->parent, sizeof(g->parent), git_object_id(commit));
	r = git_object_peel((git_object **)&g->tree, commit, GIT_OBJECT_TREE);
	git_object_free(commit);
	return r == 0 ? STOMP_DONE : fail(g);
}

/* Its files would stay what they are, and seem to be changes that go back. */
static bool is_checked_out(const struct export_git *g)
{
	git_reference *ref = NULL, *head = NULL;
	bool is = false;

	if (git_repository_is_bare(g->repository))
		return false;
	if (git_reference_lookup(&ref, g->repository, g->ref.data) == 0)
		is = git_branch_is_checked_out(ref) == 1;
	else if (git_reference_lookup(&head, g->repository, "HEAD") == 0 &&
		 git_reference_type(head) == GIT_REFERENCE_SYMBOLIC)
		is = strcmp(git_reference_symbolic_target(head), g->ref.data) == 0;
	git_reference_free(ref);
	git_reference_free(head);
	return is;
}

int export_git_open(const char *command, const char *repository, const char *branch,
	struct export_git **out)
{
	struct export_git *g = calloc(1, sizeof(*g));
	int valid = 0;

	*out = g;
	git_libgit2_init();
	if (!g)
		return STOMP_FAILED;
	g->command = command;
	g->path = repository;
	buf_printf(&g->ref, "refs/heads/%s", branch);
	if (buf_failed(&g->ref))
		return STOMP_FAILED;
	if (git_reference_name_is_valid(&valid, g->ref.data) != 0 || !valid) {
		fprintf(stderr, "stomp %s: %s is no name for a branch\n", command, branch);
		return STOMP_USAGE;
	}
	if (git_repository_open_ext(&g->repository, repository, 0, NULL) != 0)
		return fail(g);
	if (is_checked_out(g)) {
		fprintf(stderr,
			"stomp %s: %s is checked out in %s; name another with --branch, "
			"and `git merge` it\n",
			command, branch, repository);
		return STOMP_NO;
	}
	return find_parent(g);
}

/* ---- giving it to git ---- */

static void run_git(const struct export_git *g, int from)
{
	if (dup2(from, 0) < 0)
		_exit(126);
	execlp("git", "git", "-C", g->path, "fast-import", "--quiet", "--done",
		"--date-format=raw", (char *)NULL);
	fprintf(stderr,
		"stomp %s: git cannot be run (%s); without --git the stream goes "
		"to the standard output\n",
		g->command, strerror(errno));
	_exit(127);
}

static int start(struct export_git *g)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	signal(SIGPIPE, SIG_IGN); /* git says why it went */
	fflush(NULL);
	g->pid = fork();
	if (g->pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		run_git(g, ends[0]);
	}
	close(ends[0]);
	g->to = g->pid < 0 ? NULL : fdopen(ends[1], "w");
	if (!g->to) {
		close(ends[1]);
		return -ENOMEM;
	}
	g->stream.out = g->to;
	return 0;
}

static int begin(struct export_sink *sink, const struct export_head *h)
{
	struct export_stream *s = container_of(sink, struct export_stream, sink);
	struct export_git *g = container_of(s, struct export_git, stream);
	struct export_stream plain;
	int r = g->to ? 0 : start(g);

	if (r < 0) {
		fprintf(stderr, "stomp %s: git: %s\n", g->command, strerror(-r));
		return r;
	}
	export_stream_init(&plain, NULL, NULL, NULL, NULL);
	return plain.sink.begin(sink, h);
}

struct export_sink *export_git_sink(struct export_git *g)
{
	export_stream_init(
		&g->stream, g->command, NULL, g->ref.data, g->parent[0] ? g->parent : NULL);
	g->stream.sink.begin = begin;
	g->stream.sink.has = has;
	return &g->stream.sink;
}

int export_git_end(struct export_git *g, bool whole)
{
	int status = -1, r = 0;

	if (!g->to)
		return whole ? STOMP_DONE : STOMP_FAILED;
	if (whole)
		r = export_stream_end(&g->stream);
	fclose(steal_ptr(g->to));
	while (waitpid(g->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!whole)
		return STOMP_FAILED; /* git complains of its end: nothing has come in */
	if (r == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return STOMP_DONE;
	fprintf(stderr, "stomp %s: git fast-import did not take it; %s is as it was\n",
		g->command, g->ref.data);
	return STOMP_FAILED;
}

const char *export_git_ref(const struct export_git *g)
{
	return g->ref.data;
}

struct export_git *export_git_free(struct export_git *g)
{
	if (g) {
		git_tree_free(g->tree);
		git_repository_free(g->repository);
		buf_done(&g->ref);
		free(g);
	}
	git_libgit2_shutdown();
	return NULL;
}
