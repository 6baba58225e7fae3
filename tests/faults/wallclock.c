/*
 * wallclock.c - a wall clock that is set, for a daemon that does not know: an LD_PRELOAD
 * library. WALLCLOCK names a file whose text is the nanoseconds that CLOCK_REALTIME is off
 * by; it is read again at each call. Other clocks stay what they are (L8).
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { NS_PER_S = 1000000000 };

static int64_t offset_ns(void)
{
	const char *path = getenv("WALLCLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	char text[32] = "";
	ssize_t n;

	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 ? strtoll(text, NULL, 10) : 0;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
	int (*real)(clockid_t, struct timespec *) =
		(__typeof__(real))dlsym(RTLD_NEXT, "clock_gettime");
	int r = real(id, t);
	int64_t ns;

	if (r == 0 && id == CLOCK_REALTIME) {
		ns = t->tv_sec * (int64_t)NS_PER_S + t->tv_nsec + offset_ns();
		t->tv_sec = ns / NS_PER_S;
		t->tv_nsec = ns % NS_PER_S;
	}
	return r;
}
