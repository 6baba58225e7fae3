/*
 * Any bytes written to .stomp/ctl: no crash, no read beyond them, and what is accepted
 * keeps the promises of fs/vtree_ctl.h.
 */
#include <string.h>

#include "fs/vtree_ctl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const struct ctl_command *cmd, const char *s)
{
	size_t at = (size_t)(s - cmd->text);

	assert(s >= cmd->text && at < sizeof(cmd->text));
	assert(memchr(s, '\0', sizeof(cmd->text) - at));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free struct ctl_command *cmd = malloc(sizeof(*cmd));
	/* a copy of just that size, so that a read beyond it is found */
	auto_free char *line = malloc(size ? size : 1);
	auto_buf why = {0};
	int r;

	if (!cmd || !line)
		return 0;
	if (size)
		memcpy(line, data, size);
	r = ctl_parse(cmd, line, size, &why);
	if (r < 0) {
		assert(r == -EINVAL || r == -E2BIG);
		assert(why.len > 0);
		return 0;
	}
	assert(r == 0 && why.len == 0);
	assert(cmd->ttl_ns == -1 || cmd->ttl_ns > 0);
	assert(cmd->verb > CTL_LEASE_BREAK || cmd->n_paths > 0);
	assert((cmd->verb == CTL_RESOLVE) == (cmd->how != NULL));
	assert((cmd->verb == CTL_RESOLVE) == (cmd->conflict > 0));
	if (cmd->verb > CTL_LEASE_BREAK)
		return 0;
	if (cmd->reason)
		check_text(cmd, cmd->reason);
	for (unsigned i = 0; i < cmd->n_paths; i++) {
		check_text(cmd, cmd->paths[i]);
		assert(*cmd->paths[i]);
		assert(strcmp(cmd->paths[i], "..") != 0);
		assert(strncmp(cmd->paths[i], "../", 3) != 0);
	}
	return 0;
}
