#include "cli/export_message.h"

#include <string.h>

enum { SUBJECT_MAX = 60 };

void export_message_done(struct export_message *m)
{
	buf_done(&m->author);
	buf_done(&m->email);
	buf_done(&m->subject);
	buf_done(&m->body);
}

void export_message_put_author(struct export_message *m, const char *writer)
{
	auto_buf name = {0};

	if (!*writer)
		writer = "outside";
	buf_put_name(&name, writer, strlen(writer));
	for (const char *c = name.data ?: ""; *c; c++) {
		bool safe = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
			    (*c >= '0' && *c <= '9') || *c == '-' || *c == '_';

		buf_putc(&m->author, strchr("<>\"\\", *c) ? '_' : *c);
		buf_putc(&m->email, safe ? *c : '-');
	}
	buf_puts(&m->email, "@stompfs.invalid");
	m->author.failed |= name.failed;
}

static void put_path(struct buf *out, const char *path)
{
	buf_put_name(out, path, strlen(path));
}

void export_message_put_base(struct export_message *m, const struct export_plan *plan)
{
	export_message_put_author(m, "stompfs");
	buf_puts(&m->subject, "what was there before");
	buf_printf(&m->body,
		"Not a change that is exported: what they begin with.\n\n"
		"Stomp-Seq: %llu\n",
		(unsigned long long)plan->base);
}

/* ---- what happened ---- */

static const char *verb_of(const struct export_change *c)
{
	if (!c->was.mode)
		return "add";
	if (!c->is.mode)
		return "delete";
	if (hash128_equal(c->was.hash, c->is.hash) && c->was.size == c->is.size &&
		c->was.mode != c->is.mode)
		return "change the mode of";
	return "change";
}

/* One file under another name; with its rename, perhaps an edit. */
static bool is_rename(const struct export_change *a, const struct export_change *b)
{
	return !a->is.mode && !b->was.mode && hash128_equal(a->was.hash, b->is.hash) &&
	       a->was.size == b->is.size;
}

static void put_subject(struct buf *out, const struct export_plan *p,
	const struct export_commit *c, const struct export_change *changes, size_t n)
{
	const struct export_row *first = p->order[c->begin];

	if (first->kind == EXPORT_FOLDER && n > 2) { /* alone in its commit */
		buf_puts(out, "rename ");
		put_path(out, export_name(&p->rows, first->from));
		buf_puts(out, " to ");
		put_path(out, export_name(&p->rows, first->path));
		return;
	}
	if (n == 2 && is_rename(&changes[0], &changes[1])) {
		buf_puts(out, "rename ");
		put_path(out, changes[0].path);
		buf_puts(out, " to ");
		put_path(out, changes[1].path);
		return;
	}
	if (n == 1) {
		buf_printf(out, "%s ", verb_of(&changes[0]));
		put_path(out, changes[0].path);
		return;
	}
	buf_printf(out, "%zu files: ", n);
	for (size_t i = 0; i < n; i++) {
		if (out->len > SUBJECT_MAX) {
			buf_puts(out, ", …");
			break;
		}
		buf_puts(out, i ? ", " : "");
		put_path(out, changes[i].path);
	}
}

/* Indented: no line of it can be taken for the beginning of a patch. */
static void put_command(struct buf *out, const char *command)
{
	if (!*command)
		return;
	buf_puts(out, "    ");
	buf_put_name(out, command, strlen(command));
	buf_putc(out, '\n');
}

static void put_flags(
	struct buf *out, const struct export_plan *p, const struct export_commit *c)
{
	uint32_t last = 0;

	for (size_t i = c->begin; i < c->end; i++) {
		const struct export_row *row = p->order[i];

		if (!row->flags || row->flags == last)
			continue;
		last = row->flags;
		buf_puts(out, "Stomp-Flags: ");
		put_path(out, export_name(&p->rows, row->path));
		buf_printf(out, ": %s\n", export_name(&p->rows, row->flags));
	}
}

void export_message_put(struct export_message *m, const struct export_plan *p,
	const struct export_commit *c, const struct export_change *changes, size_t n)
{
	const char *writer = export_name(&p->rows, c->writer);

	export_message_put_author(m, writer);
	put_subject(&m->subject, p, c, changes, n);
	if (!*writer)
		buf_puts(&m->body, "Changed round the mount, by nobody knows whom.\n\n");
	put_command(&m->body, export_name(&p->rows, c->command));
	if (m->body.len)
		buf_putc(&m->body, '\n');
	if (c->set)
		buf_printf(&m->body, "Stomp-Set: %llu\n", (unsigned long long)c->set);
	buf_printf(&m->body, "Stomp-Seq: %llu\n", (unsigned long long)c->at);
	put_flags(&m->body, p, c);
}

int export_message_head(const struct export_message *m, struct export_head *head)
{
	*head = (struct export_head){.author = m->author.data,
		.email = m->email.data,
		.subject = m->subject.data,
		.body = m->body.data};
	return buf_failed(&m->author) || buf_failed(&m->email) || buf_failed(&m->subject) ||
			       buf_failed(&m->body)
		       ? -ENOMEM
		       : 0;
}
