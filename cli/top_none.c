/* Built without curses. */
#include "cli/top_live.h"

#include <stdio.h>

#include "cli/cli.h"

int top_live(struct top_fetch *fetch, struct json_object *first, int64_t interval_ms)
{
	fprintf(stderr,
		"stomp top: this stomp was built without curses, so there is no live "
		"screen.\n`stomp top --once` prints one; libncurses-dev and a new build "
		"bring the other.\n");
	return STOMP_FAILED;
}
