#include "cli/moment_seq.h"

#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/words.h"

int moment_seq(const struct workspace *ws, const char *command, const char *option,
	const char *word, uint64_t *seq)
{
	auto_buf line = {0}, answer = {0};
	auto_json *json = NULL;
	int64_t ms;
	int r;

	buf_puts(&line, "moment");
	if (word) {
		bool epoch = word[strspn(word, "0123456789")] == '\0';

		buf_puts(&line, !epoch && word_span_ms(word, &ms) ? " -" : " ");
		word_escape(&line, word, strlen(word));
	}
	r = buf_failed(&line) ? -ENOMEM : workspace_ctl(ws, line.data, &answer);
	json = json_tokener_parse(answer.data ?: "");
	if (r == -EINVAL && word) {
		fprintf(stderr,
			"stomp %s: --%s takes a time that is past (10:32, "
			"2026-11-24T10:32:05, 15m) or an epoch (57), not %s\n",
			command, option, word);
		return STOMP_USAGE;
	}
	if (r < 0)
		return report_errno(command, ".stomp/ctl", r);
	*seq = (uint64_t)json_number(json, "seq", 0);
	return STOMP_DONE;
}
