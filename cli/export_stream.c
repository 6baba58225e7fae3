#include "cli/export_stream.h"

#include <string.h>

static int check(const struct export_stream *s)
{
	int r = -errno;

	if (!ferror(s->out))
		return 0;
	r = r < 0 ? r : -EIO;
	/* Of whoever reads it, git itself says best why it went. */
	if (r != -EPIPE)
		fprintf(stderr, "stomp %s: the stream could not be written: %s\n",
			s->command, strerror(-r));
	return r;
}

static void put_data(FILE *out, const char *data, size_t size)
{
	fprintf(out, "data %zu\n", size);
	fwrite(data, 1, size, out);
	fputc('\n', out);
}

/* In quotes, so that any byte can be in it. */
static void put_path(FILE *out, const char *path)
{
	fputc('"', out);
	for (; *path; path++) {
		unsigned char c = (unsigned char)*path;

		if (c < ' ' || c >= 0x7f || c == '"' || c == '\\')
			fprintf(out, "\\%03o", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static int begin(struct export_sink *sink, const struct export_head *h)
{
	struct export_stream *s = container_of(sink, struct export_stream, sink);
	auto_buf message = {0};

	buf_printf(&message, "%s\n\n%s", h->subject, h->body);
	if (buf_failed(&message))
		return -ENOMEM;
	if (!s->began)
		fputs("feature done\n", s->out);
	fprintf(s->out, "commit %s\n", s->ref);
	for (int i = 0; i < 2; i++)
		fprintf(s->out, "%s %s <%s> %lld +0000\n", i ? "committer" : "author",
			h->author, h->email, (long long)h->time_s);
	put_data(s->out, message.data, message.len);
	if (!s->began && s->parent)
		fprintf(s->out, "from %s\n", s->parent);
	s->began = true;
	return check(s);
}

static int change(struct export_sink *sink, const struct export_change *c)
{
	struct export_stream *s = container_of(sink, struct export_stream, sink);

	if (c->is.mode)
		fprintf(s->out, "M %06o inline ", c->is.mode);
	else
		fputs("D ", s->out);
	put_path(s->out, c->path);
	fputc('\n', s->out);
	if (c->is.mode)
		put_data(s->out, c->content->data ?: "", c->content->len);
	return check(s);
}

static int end(struct export_sink *sink)
{
	struct export_stream *s = container_of(sink, struct export_stream, sink);

	fputc('\n', s->out);
	return check(s);
}

void export_stream_init(struct export_stream *s, const char *command, FILE *out,
	const char *ref, const char *parent)
{
	*s = (struct export_stream){
		.sink = {.begin = begin, .change = change, .end = end, .takes_base = true},
		.command = command,
		.out = out,
		.ref = ref,
		.parent = parent,
	};
}

int export_stream_end(struct export_stream *s)
{
	if (s->began)
		fputs("done\n", s->out);
	fflush(s->out);
	return check(s);
}
