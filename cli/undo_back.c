#include "cli/undo_back.h"

#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/undo_act.h"

int undo_ctl(const struct workspace *ws, const char *line, uint64_t *id)
{
	auto_buf answer = {0};
	auto_json *json = NULL;
	int r = workspace_ctl(ws, line, &answer);

	json = json_tokener_parse(answer.data ?: "");
	if (r < 0) {
		fprintf(stderr, "stomp undo: %s\n", json_text(json, "error", strerror(-r)));
		return r;
	}
	*id = (uint64_t)json_number(json, "set", 0);
	return *id ? 0 : -EBADMSG;
}

size_t undo_tell_reasons(const struct undo_file *files, size_t n)
{
	size_t told = 0;

	for (size_t i = 0; i < n; i++) {
		auto_buf name = {0};

		if (!files[i].reason)
			continue;
		if (!told++)
			fputs("cannot be taken back:\n", stderr);
		buf_put_name(&name, files[i].from.path, strlen(files[i].from.path));
		fprintf(stderr, "  %s: %s\n", name.data ?: "", files[i].reason);
	}
	return told;
}

int undo_end(const struct workspace *ws, uint64_t id, const char *how)
{
	auto_buf line = {0};

	buf_printf(&line, "undo end %llu %s", (unsigned long long)id, how);
	return buf_failed(&line) ? -ENOMEM : undo_ctl(ws, line.data, &id);
}

int undo_take_back(const struct workspace *ws, uint64_t id, bool has_leases)
{
	const struct selection own = {.set = id};
	const struct undo_file *files = NULL;
	auto_plan *plan = NULL;
	auto_buf why = {0};
	size_t n = 0, failed;
	int r = undo_plan_new(ws, &own, &plan);

	if (r == 0)
		n = undo_plan_files(plan, &files);
	if (r == 0 && !has_leases)
		r = undo_leases_acquire(ws, files, n, &why);
	if (r < 0) {
		fprintf(stderr, "stomp undo: undo %llu cannot be taken back now: %s\n",
			(unsigned long long)id, why.data ?: strerror(-r));
		return STOMP_NO;
	}
	failed = undo_tell_reasons(files, n);
	for (size_t i = 0; i < n; i++) {
		r = files[i].reason ? 0 : undo_act(ws, &files[i]);
		if (r < 0) {
			workspace_explain(
				ws, "undo", files[i].from.path, files[i].from.path, r);
			failed++;
		}
	}
	if (!has_leases)
		undo_leases_release(ws, files, n);
	r = undo_end(ws, id, "back");
	return failed || r < 0 ? STOMP_NO : STOMP_DONE;
}

int undo_take_back_interrupted(const struct workspace *ws, unsigned *n)
{
	auto_json *json = NULL;
	auto_buf text = {0};
	struct json_object *sets;
	int r = workspace_json(ws, "status.json", "status", &text, &json);
	int answer = STOMP_DONE;

	*n = 0;
	if (r < 0)
		return report_errno("undo", ".stomp/status.json", r);
	sets = json_list(json, "interrupted_undos");
	for (size_t i = 0; sets && i < json_object_array_length(sets); i++) {
		struct json_object *set = json_object_array_get_idx(sets, i);
		uint64_t id = (uint64_t)json_number(set, "set", 0);
		auto_buf line = {0};

		buf_printf(&line, "undo resume %llu", (unsigned long long)id);
		r = buf_failed(&line) ? -ENOMEM : undo_ctl(ws, line.data, &id);
		if (r == -EPERM)
			continue; /* another user's */
		fprintf(stderr, "undo %llu, of %s, was killed in the middle: taken back\n",
			(unsigned long long)id, json_text(set, "what", "?"));
		if (r < 0 || undo_take_back(ws, id, false) != STOMP_DONE)
			answer = STOMP_NO;
		++*n;
	}
	return answer;
}
