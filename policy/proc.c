#include "policy/proc.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

enum { SMALL_FILE_SIZE = 4096 };

int proc_open(int proc_fd, pid_t pid, const char *file, int *fd)
{
	char path[64];
	int got;

	snprintf(path, sizeof(path), "%d/%s", (int)pid, file);
	got = openat(proc_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (got < 0)
		return -errno;
	*fd = got;
	return 0;
}

int proc_read(
	int proc_fd, pid_t pid, const char *file, char *text, size_t size, size_t *len)
{
	auto_close int fd = -1;
	size_t done = 0;
	int r = proc_open(proc_fd, pid, file, &fd);

	if (r < 0)
		return r;
	while (done < size - 1) {
		ssize_t n = read(fd, text + done, size - 1 - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	text[done] = '\0';
	*len = done;
	return 0;
}

bool proc_parse_stat(const char *text, struct proc_stat *out)
{
	/* comm may hold blanks and parentheses: it ends at the LAST ')'. */
	const char *open = strchr(text, '('), *close = strrchr(text, ')');
	struct proc_stat st = {0};
	unsigned long long start;
	int pid, ppid, session, threads;
	size_t len;

	if (!open || !close || close < open || sscanf(text, "%d", &pid) != 1)
		return false;
	/* Fields 3 state, 4 ppid, 6 session, 7 tty_nr, 20 num_threads, 22 starttime. */
	if (sscanf(close + 1,
		    " %c %d %*d %d %d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d "
		    "%*d %llu",
		    &st.state, &ppid, &session, &st.tty_nr, &threads, &start) != 6)
		return false;
	len = (size_t)(close - open) - 1;
	if (len >= sizeof(st.comm))
		len = sizeof(st.comm) - 1;
	memcpy(st.comm, open + 1, len);
	st.pid = pid;
	st.ppid = ppid;
	st.session = session;
	st.n_threads = (uint32_t)threads;
	st.start_ticks = start;
	*out = st;
	return true;
}

int proc_read_stat(int proc_fd, pid_t pid, struct proc_stat *out)
{
	char text[SMALL_FILE_SIZE];
	size_t len;
	int r = proc_read(proc_fd, pid, "stat", text, sizeof(text), &len);

	if (r < 0)
		return r;
	return proc_parse_stat(text, out) ? 0 : -EBADMSG;
}

/* The text after "\nname:", or NULL. The Name line cannot fake one: the kernel escapes
 * newlines in it. */
static const char *status_line(const char *text, const char *name)
{
	char wanted[32];
	const char *at;

	snprintf(wanted, sizeof(wanted), "\n%s:", name);
	at = strstr(text, wanted);
	return at ? at + strlen(wanted) : NULL;
}

bool proc_parse_status(const char *text, struct proc_status *out)
{
	const char *tgid = status_line(text, "Tgid"), *uid = status_line(text, "Uid");
	const char *ns = status_line(text, "NSpid");
	struct proc_status st = {0};
	unsigned int id;
	int pid, used;

	if (!tgid || sscanf(tgid, "%d", &pid) != 1)
		return false;
	st.tgid = pid;
	if (!uid || sscanf(uid, "%u", &id) != 1)
		return false;
	st.uid = id;
	while (ns && st.n_ns_pids < PROC_NS_DEPTH && *ns != '\n' &&
		sscanf(ns, "%*[ \t]%d%n", &pid, &used) == 1) {
		st.ns_pids[st.n_ns_pids++] = pid;
		ns += used;
	}
	*out = st;
	return true;
}

int proc_read_status(int proc_fd, pid_t tid, struct proc_status *out)
{
	char text[SMALL_FILE_SIZE];
	size_t len;
	int r = proc_read(proc_fd, tid, "status", text, sizeof(text), &len);

	if (r < 0)
		return r;
	return proc_parse_status(text, out) ? 0 : -EBADMSG;
}

bool proc_status_is_init(const struct proc_status *s)
{
	return s->n_ns_pids > 0 && s->ns_pids[s->n_ns_pids - 1] == 1;
}

void proc_read_exe(int proc_fd, pid_t pid, char path[PROC_PATH_SIZE])
{
	static const char deleted[] = " (deleted)";
	size_t tail = sizeof(deleted) - 1;
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "%d/exe", (int)pid);
	n = readlinkat(proc_fd, link, path, PROC_PATH_SIZE - 1);
	if (n < 0)
		n = 0;
	path[n] = '\0';
	if ((size_t)n > tail && strcmp(path + n - tail, deleted) == 0)
		path[(size_t)n - tail] = '\0';
}

bool proc_alive(int proc_fd, pid_t pid, uint64_t start_ticks)
{
	struct proc_stat st;

	if (pid <= 0 || proc_read_stat(proc_fd, pid, &st) < 0)
		return false;
	if (st.start_ticks != start_ticks)
		return false;
	/* A first thread that has ended is shown as a zombie while others go on. */
	return (st.state != 'Z' && st.state != 'X') || st.n_threads > 1;
}

int64_t proc_ticks_ns(uint64_t ticks)
{
	long hz = sysconf(_SC_CLK_TCK);
	uint64_t per_s = hz > 0 ? (uint64_t)hz : 100;

	return (int64_t)(ticks / per_s) * NS_PER_S +
	       (int64_t)(ticks % per_s) * (NS_PER_S / (int64_t)per_s);
}
