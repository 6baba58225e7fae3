#include "fs/driver.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "fs/driver_internal.h"

#define FILE_BASE "base"
#define FILE_CURRENT "current"
#define FILE_NEW "new"

enum { NOBODY = 65534 };

int driver_folder_open(void)
{
	static const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	const char *tmp = getenv("TMPDIR");
	int fd = tmp && *tmp == '/' ? open(tmp, flags) : -1;

	fd = fd < 0 ? open("/tmp", flags) : fd;
	return fd < 0 ? -errno : fd;
}

static void put_quoted(struct buf *out, const char *s)
{
	buf_putc(out, '\'');
	for (; *s; s++) {
		if (*s == '\'')
			buf_puts(out, "'\\''");
		else
			buf_putc(out, *s);
	}
	buf_putc(out, '\'');
}

static void expand(const char *command, const char *path, struct buf *out)
{
	for (const char *s = command; *s; s++) {
		if (*s != '%') {
			buf_putc(out, *s);
			continue;
		}
		switch (*++s) {
		case 'O':
			buf_puts(out, FILE_BASE);
			break;
		case 'A':
			buf_puts(out, FILE_CURRENT);
			break;
		case 'B':
			buf_puts(out, FILE_NEW);
			break;
		case 'P':
			put_quoted(out, path);
			break;
		case 'L':
			buf_putc(out, '7');
			break;
		case '%':
			buf_putc(out, '%');
			break;
		default: /* not ours: a date's format, say */
			buf_putc(out, '%');
			s--;
		}
	}
}

static int write_file(int folder_fd, const char *name, const struct content *c,
	const struct driver_process *p)
{
	auto_close int fd = openat(folder_fd, name,
		O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
	size_t done = 0;

	if (fd < 0)
		return -errno;
	while (c && done < c->size) {
		ssize_t n = write(fd, c->data + done, c->size - done);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return p->change_identity && fchown(fd, p->uid, p->gid) < 0 ? -errno : 0;
}

static int fill_folder(const struct driver_process *p, const struct content *base,
	const struct content *current, const struct content *new)
{
	int r = write_file(p->folder_fd, FILE_BASE, base, p);

	r = r ?: write_file(p->folder_fd, FILE_CURRENT, current, p);
	r = r ?: write_file(p->folder_fd, FILE_NEW, new, p);
	/* Last: until now nobody else could change what is in it. */
	if (r == 0 && p->change_identity && fchown(p->folder_fd, p->uid, p->gid) < 0)
		return -errno;
	return r;
}

/* What it said, in one line. */
static void put_said(const struct driver_end *end, struct buf *why)
{
	const char *at = end->said, *stop = at + end->n_said, *before = ": ";

	while (at < stop) {
		const char *newline = memchr(at, '\n', stop - at);
		const char *to = newline ?: stop;

		if (to > at) {
			buf_puts(why, before);
			buf_put_name(why, at, to - at);
			before = "; ";
		}
		at = newline ? newline + 1 : stop;
	}
	if (end->n_said == sizeof(end->said))
		buf_puts(why, "…");
}

static bool has_markers(const struct buf *text)
{
	static const char marker[] = "\n<<<<<<< ";
	const size_t n = sizeof(marker) - 1;

	return (text->len >= n - 1 && memcmp(text->data, marker + 1, n - 1) == 0) ||
	       (text->len >= n && memmem(text->data, text->len, marker, n));
}

static int not_read(struct buf *why, const char *reason)
{
	buf_printf(why, "the command says it has merged, but its result %s", reason);
	return -EIO;
}

/* The command chooses what it leaves in the folder: no link, nothing that is not its own
 * (a hard link to what only we may read), no pipe to wait at. */
static int read_result(const struct driver_process *p, struct buf *out, struct buf *why)
{
	auto_close int fd = openat(p->folder_fd, FILE_CURRENT,
		O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	uid_t owner = p->change_identity ? p->uid : geteuid();
	char part[65536];
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return not_read(why, "cannot be opened");
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != owner)
		return not_read(why, "is no file of its own");
	if (st.st_size > DRIVER_MAX_RESULT)
		return not_read(why, "is larger than 64 MiB");
	while ((n = read(fd, part, sizeof(part))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return not_read(why, "cannot be read");
		buf_append(out, part, n);
		if (out->len > DRIVER_MAX_RESULT)
			return not_read(why, "is larger than 64 MiB");
	}
	if (buf_failed(out))
		return -ENOMEM;
	if (!has_markers(out))
		return DRIVER_MERGED;
	buf_puts(why, "the command left conflict markers");
	return DRIVER_CONFLICT;
}

static int judge(const struct driver_process *p, const struct driver_end *end,
	struct buf *out, struct buf *why)
{
	int r;

	if (end->timed_out) {
		buf_puts(why, "the command did not end within ");
		buf_put_span(why, p->timeout_ns);
		r = -ETIMEDOUT;
	} else if (end->signal) {
		buf_printf(why, "the command was killed by signal %d (%s)", end->signal,
			sigdescr_np(end->signal) ?: "?");
		r = -EIO;
	} else if (end->exit_code == 0) {
		r = read_result(p, out, why);
	} else {
		buf_printf(why, "the command says that they conflict (exit %d)",
			end->exit_code);
		r = DRIVER_CONFLICT;
		if (end->exit_code > 127) {
			buf_reset(why);
			buf_printf(why, "the command failed (exit %d)", end->exit_code);
			r = -EIO;
		}
	}
	if (r != DRIVER_MERGED)
		put_said(end, why);
	return r;
}

static int run_in(struct driver_folder *folder, struct driver_process *p,
	const struct content *base, const struct content *current,
	const struct content *new, struct buf *out, struct buf *why)
{
	struct driver_end end;
	int r;

	p->folder_fd = folder->fd;
	r = fill_folder(p, base, current, new);
	r = r ?: driver_process_run(p, &end);
	return r ?: judge(p, &end, out, why);
}

int driver_run(const char *command, int64_t timeout_ns, const struct content *base,
	const struct content *current, const struct content *new, const char *path,
	uid_t uid, gid_t gid, int folder_fd, struct buf *merged, struct buf *why)
{
	auto_buf expanded = {0}, out = {0}, said = {0};
	struct driver_folder folder;
	struct driver_process p = {.path = path,
		.timeout_ns = timeout_ns,
		.change_identity = geteuid() == 0,
		.uid = uid ? uid : NOBODY,
		.gid = uid ? gid : NOBODY};
	int r;

	expand(command, path, &expanded);
	if (buf_failed(&expanded))
		return -ENOMEM;
	p.command = expanded.data ?: "";
	r = driver_folder_make(&folder, folder_fd);
	if (r == 0) {
		r = run_in(&folder, &p, base, current, new, &out, &said);
		driver_folder_remove(&folder);
	}
	if (r < 0 && !said.len)
		buf_printf(&said, "the command could not be run: %s",
			strerrordesc_np(-r) ?: "?");
	if (r == DRIVER_MERGED)
		buf_append(merged, out.data, out.len);
	else
		buf_append(why, said.data, said.len);
	return buf_failed(merged) || buf_failed(&said) || buf_failed(why) ? -ENOMEM : r;
}
