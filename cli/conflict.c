#include "cli/conflict.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/words.h"

void conflict_done(struct conflict *c)
{
	free(c->relative);
	json_object_put(c->info);
	*c = (struct conflict){0};
}

static int explain(const char *command, uint64_t id, int error)
{
	if (error == -ENOENT)
		fprintf(stderr,
			"stomp %s: there is no conflict %llu here (`stomp conflicts` lists "
			"them)\n",
			command, (unsigned long long)id);
	else if (error == -EACCES)
		fprintf(stderr,
			"stomp %s: conflict %llu is another user's: only they and root can "
			"look into it\n",
			command, (unsigned long long)id);
	else
		return report_errno(command, ".stomp/conflicts", error);
	return error == -ENOENT ? STOMP_NO : STOMP_FAILED;
}

int conflict_enter(const char *command, const char *word, const char *dir,
	struct workspace *ws, struct conflict *c)
{
	auto_buf name = {0}, text = {0};
	int r;

	if (!word_count(word, &c->id)) {
		fprintf(stderr,
			"stomp %s: a conflict is a number, as `stomp conflicts` lists "
			"them, "
			"not %s\n",
			command, word);
		return STOMP_USAGE;
	}
	r = workspace_enter(ws, command, dir, NULL);
	if (r != STOMP_DONE)
		return r;
	buf_printf(&name, "conflicts/%llu/info.json", (unsigned long long)c->id);
	r = buf_failed(&name) ? -ENOMEM
			      : workspace_json(ws, name.data, "conflict", &text, &c->info);
	if (r < 0)
		return explain(command, c->id, r);
	c->path = json_text(c->info, "path", "?");
	c->relative = word_unescape(json_text(c->info, "word", ""));
	return c->relative && *c->relative ? STOMP_DONE
					   : report_errno(command, name.data, -EBADMSG);
}

int conflict_open(const struct workspace *ws, const struct conflict *c, const char *name)
{
	auto_buf path = {0};
	int fd;

	buf_printf(&path, "conflicts/%llu/%s", (unsigned long long)c->id, name);
	if (buf_failed(&path))
		return -ENOMEM;
	fd = openat(ws->stomp_fd, path.data, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
