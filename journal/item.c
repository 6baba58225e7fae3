#include "journal/item.h"

#include <string.h>

void pack(struct packer *p, const char **s, size_t len)
{
	if (!*s)
		return;
	p->total += len + 1;
	if (!p->at)
		return;
	memcpy(p->at, *s, len);
	p->at[len] = '\0';
	*s = p->at;
	p->at += len + 1;
}

void pack_text(struct packer *p, const char **s)
{
	if (*s)
		pack(p, s, strlen(*s));
}

static void pack_author(struct packer *p, struct author *a)
{
	pack_text(p, &a->name);
	pack_text(p, &a->rule);
	pack_text(p, &a->command);
}

static void pack_item(struct packer *p, struct item *item)
{
	switch (item->kind) {
	case ITEM_VERSION:
		pack(p, &item->version.path, item->version.path_len);
		pack(p, &item->version.from_path, item->version.from_path_len);
		pack_author(p, &item->version.author);
		break;
	case ITEM_REFUSAL:
		pack(p, &item->refusal.path, item->refusal.path_len);
		pack_text(p, &item->refusal.asked);
		pack_text(p, &item->refusal.reason);
		pack_text(p, &item->refusal.current_writer);
		pack_text(p, &item->refusal.holder);
		pack_text(p, &item->refusal.hunks);
		pack_text(p, &item->refusal.text);
		pack_author(p, &item->refusal.author);
		break;
	case ITEM_EVENT:
		pack_text(p, &item->event.kind);
		pack(p, &item->event.path, item->event.path_len);
		pack_text(p, &item->event.writer);
		pack_text(p, &item->event.text);
		break;
	case ITEM_FOLDER:
		pack(p, &item->folder.from, item->folder.from_len);
		pack(p, &item->folder.to, item->folder.to_len);
		pack_author(p, &item->folder.author);
		break;
	case ITEM_RESOLVE:
		pack_text(p, &item->resolution.by);
		pack_text(p, &item->resolution.how);
		break;
	case ITEM_SET:
		pack_text(p, &item->set.undo_writer);
		pack_text(p, &item->set.what);
		pack_author(p, &item->set.author);
		break;
	}
}

/* model is on the caller's stack and points at the caller's strings. */
static struct item *copy_item(struct item *model)
{
	struct packer sum = {0};
	struct item *item;

	pack_item(&sum, model);
	item = malloc(sizeof(*item) + sum.total);
	if (!item)
		return NULL;
	*item = *model;
	list_init(&item->link);
	item->content = CAPTURE_NONE;
	item->has_capture = false;
	item->cost = sizeof(*item) + sum.total;
	pack_item(&(struct packer){.at = item->text}, item);
	return item;
}

struct item *item_of_version(const struct version *v)
{
	struct item model = {.kind = ITEM_VERSION, .seq = v->seq, .version = *v};

	return copy_item(&model);
}

struct item *item_of_refusal(const struct refusal *r)
{
	struct item model = {.kind = ITEM_REFUSAL, .seq = r->seq, .refusal = *r};

	return copy_item(&model);
}

struct item *item_of_event(const struct event *e)
{
	struct item model = {.kind = ITEM_EVENT, .seq = e->seq, .event = *e};

	return copy_item(&model);
}

struct item *item_of_folder(const struct folder_move *m)
{
	struct item model = {.kind = ITEM_FOLDER, .seq = m->seq, .folder = *m};

	return copy_item(&model);
}

struct item *item_of_resolution(const struct resolution *r)
{
	struct item model = {.kind = ITEM_RESOLVE, .seq = r->seq, .resolution = *r};

	return copy_item(&model);
}

struct item *item_of_set(const struct set_change *s)
{
	struct item model = {.kind = ITEM_SET, .seq = s->seq, .set = *s};

	return copy_item(&model);
}

void item_take_content(struct item *item, struct capture *c, size_t large_cost)
{
	item->content = *c;
	item->has_capture = true;
	item->cost += c->data ? (size_t)capture_bytes(c) : c->fd >= 0 ? large_cost : 0;
	*c = CAPTURE_NONE;
}

void item_free(struct item *item)
{
	capture_done(&item->content);
	free(item);
}
