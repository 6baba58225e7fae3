/*
 * cleanup.h - attributes and small macros used everywhere.
 *
 * auto_free, auto_close, auto_dir release at end of scope; steal_ptr() and
 * steal_fd() hand the value on instead. assert() stays on in release builds: it is for
 * our own mistakes, never for the world failing.
 */
#ifndef STOMP_BASE_CLEANUP_H
#define STOMP_BASE_CLEANUP_H

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define must_check __attribute__((warn_unused_result))
#define printf_like(f, a) __attribute__((format(printf, f, a)))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define container_of(ptr, type, member)                                                    \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close(const int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		close(*fd);
		errno = saved;
	}
}

static inline void cleanup_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

#define auto_free __attribute__((cleanup(cleanup_free)))
#define auto_close __attribute__((cleanup(cleanup_close)))
#define auto_dir __attribute__((cleanup(cleanup_dir)))

#define steal_ptr(p)                                                                       \
	({                                                                                 \
		__typeof__(p) stolen_ = (p);                                               \
		(p) = NULL;                                                                \
		stolen_;                                                                   \
	})

static inline int steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

#endif
