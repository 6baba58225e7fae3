#include "cli/terminal.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "cli/cli.h"
#include "cli/programs.h"

static bool wants_colours(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

static int terminal_width(void)
{
	struct winsize w;

	if (!isatty(STDOUT_FILENO))
		return 0;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col >= 40)
		return w.ws_col;
	return 80;
}

/* The pager's command line, or NULL where there shall be none. */
static const char *pager_command(void)
{
	const char *pager = getenv("PAGER");
	char path[4096];

	if (pager)
		return *pager && strcmp(pager, "cat") != 0 ? pager : NULL;
	return program_in_path("less", path, sizeof(path)) ? "less -FRX" : NULL;
}

static void run_pager(const char *command, int from)
{
	dup2(from, STDIN_FILENO);
	setenv("LESS", "FRX", 0);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

void output_begin(struct output *o, bool page)
{
	const char *command = page && isatty(STDOUT_FILENO) ? pager_command() : NULL;
	int ends[2];

	*o = (struct output){
		.f = stdout, .colours = wants_colours(), .width = terminal_width()};
	if (!command || pipe2(ends, O_CLOEXEC) != 0)
		return;
	fflush(NULL);
	o->pager = fork();
	if (o->pager == 0)
		run_pager(command, ends[0]);
	close(ends[0]);
	if (o->pager > 0)
		o->f = fdopen(ends[1], "w");
	if (o->pager < 0 || !o->f) {
		close(ends[1]);
		if (o->pager > 0)
			waitpid(o->pager, NULL, 0);
		o->pager = 0;
		o->f = stdout;
		return;
	}
	signal(SIGPIPE, SIG_IGN); /* the reader may quit before the end */
}

int output_end(struct output *o)
{
	int error = 0;

	if (fflush(o->f) != 0 || ferror(o->f))
		error = errno ?: EIO;
	if (o->pager) {
		fclose(o->f);
		while (waitpid(o->pager, NULL, 0) < 0 && errno == EINTR)
			;
	}
	if (!error || error == EPIPE)
		return STOMP_DONE;
	fprintf(stderr, "stomp: the answer could not be written: %s\n", strerror(error));
	return STOMP_FAILED;
}

const char *output_on(const struct output *o, enum colour c)
{
	static const char *const codes[] = {
		"", "\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[33m", "\033[36m"};

	return o->colours ? codes[c] : "";
}

const char *output_off(const struct output *o, enum colour c)
{
	return o->colours && c != COLOUR_NONE ? "\033[m" : "";
}
