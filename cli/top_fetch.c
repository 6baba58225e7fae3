#include "cli/top_fetch.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/workspace.h"

/* The names in the answer; the files and their schemas. */
static const struct {
	const char *key, *file, *schema;
} tables[] = {
	{"status", "status.json", "status"},
	{"writers", "writers.json", "writers"},
	{"leases", "leases.json", "leases"},
	{"refusals", "refusals.json", "refusals"},
	{"conflicts", "conflicts.json", "conflicts"},
	{"sets", "sets/new.json", "sets"},
	{"log", "log.json", "log"},
};

/* ---- the child ---- */

static bool send_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = send(fd, data, size, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		data += n;
		size -= (size_t)n;
	}
	return true;
}

static int read_tables(const char *root, struct buf *out)
{
	auto_workspace ws = {.stomp_fd = -1};
	int r = workspace_find(&ws, root);

	/* What answers further up is another workspace: ours is gone. */
	if (r < 0 || strcmp(ws.root, root) != 0)
		return r < 0 ? r : -ENOENT;
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		auto_buf text = {0};
		auto_json *json = NULL;

		r = workspace_json(&ws, tables[i].file, tables[i].schema, &text, &json);
		if (r < 0)
			return r;
		buf_printf(out, ",\"%s\":", tables[i].key);
		buf_append(out, text.data, text.len);
	}
	return buf_failed(out) ? -ENOMEM : 0;
}

static bool answer(int fd, const char *root)
{
	auto_buf body = {0}, out = {0};
	int r = read_tables(root, &body);
	uint64_t size;

	buf_puts(&out, "{\"root\":");
	buf_put_json_str(&out, root);
	buf_printf(&out, ",\"error\":%d", -r);
	if (r == 0)
		buf_append(&out, body.data, body.len);
	buf_putc(&out, '}');
	size = out.len;
	return !buf_failed(&out) && send_all(fd, (const char *)&size, sizeof(size)) &&
	       send_all(fd, out.data, out.len);
}

static int child(int fd, const char *dir)
{
	auto_workspace ws = {.stomp_fd = -1};
	auto_free char *root = NULL;
	ssize_t n;
	char go;
	int r = workspace_enter(&ws, "top", dir, NULL);

	if (r != STOMP_DONE)
		return r;
	root = steal_ptr(ws.root);
	close(ws.stomp_fd);
	ws.stomp_fd = -1;
	if (chdir("/") != 0) /* in nobody's way */
		return report_errno("top", "/", -errno);
	while ((n = recv(fd, &go, 1, 0)) != 0) {
		if (n < 0 && errno != EINTR)
			break;
		if (n > 0 && !answer(fd, root))
			break;
	}
	return STOMP_DONE;
}

/* ---- the parent ---- */

int top_fetch_start(struct top_fetch *f, const char *dir)
{
	pid_t parent = getpid();
	int ends[2];

	*f = (struct top_fetch){.fd = -1};
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
		return -errno;
	fflush(NULL);
	f->pid = fork();
	if (f->pid == 0) {
		/* Keys of the terminal are the parent's; this one ends with it. */
		signal(SIGINT, SIG_IGN);
		signal(SIGQUIT, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[0]);
		_exit(getppid() == parent ? child(ends[1], dir) : STOMP_FAILED);
	}
	close(ends[1]);
	f->fd = ends[0];
	if (f->pid < 0) {
		int error = errno;

		f->pid = 0;
		top_fetch_stop(f);
		return -error;
	}
	return 0;
}

void top_fetch_stop(struct top_fetch *f)
{
	if (f->pid > 0) {
		kill(f->pid, SIGKILL);
		/* One that is stuck in the mount is not waited for. */
		waitpid(f->pid, NULL, WNOHANG);
	}
	if (f->fd >= 0)
		close(f->fd);
	buf_done(&f->in);
	*f = (struct top_fetch){.fd = -1};
}

void top_fetch_ask(struct top_fetch *f)
{
	if (f->asked_ns)
		return;
	/* Where the child is gone, top_fetch_take() tells. */
	(void)!send(f->fd, "", 1, MSG_NOSIGNAL);
	f->asked_ns = clock_boot_ns(clock_system());
}

static enum top_fetched ended(struct top_fetch *f, int *code)
{
	int status = 0;
	pid_t r;

	while ((r = waitpid(f->pid, &status, 0)) < 0 && errno == EINTR)
		;
	f->pid = 0;
	*code = r > 0 && WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status)
								  : STOMP_FAILED;
	return TOP_ENDED;
}

enum top_fetched top_fetch_take(
	struct top_fetch *f, struct json_object **answer_out, int *code)
{
	char chunk[65536];
	uint64_t size;
	ssize_t n;

	while ((n = recv(f->fd, chunk, sizeof(chunk), MSG_DONTWAIT)) > 0)
		buf_append(&f->in, chunk, (size_t)n);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		return ended(f, code);
	if (f->in.len < sizeof(size))
		return TOP_NOT_YET;
	memcpy(&size, f->in.data, sizeof(size));
	if (f->in.len < sizeof(size) + size)
		return TOP_NOT_YET;
	*answer_out = json_tokener_parse(f->in.data + sizeof(size));
	buf_reset(&f->in);
	f->asked_ns = 0;
	return TOP_ANSWER;
}

enum top_fetched top_fetch_wait(
	struct top_fetch *f, int timeout_ms, struct json_object **answer_out, int *code)
{
	const struct clock *clock = clock_system();
	int64_t until = clock_boot_ns(clock) + timeout_ms * NS_PER_MS;

	for (;;) {
		int64_t left = (until - clock_boot_ns(clock)) / NS_PER_MS;
		struct pollfd p = {.fd = f->fd, .events = POLLIN};
		enum top_fetched r;

		if (left < 0 || (poll(&p, 1, (int)left) < 0 && errno != EINTR))
			return TOP_NOT_YET;
		r = top_fetch_take(f, answer_out, code);
		if (r != TOP_NOT_YET)
			return r;
	}
}
